"""Primary keys of several columns, many at a time, and such as look like something else."""

import pytest
from django.db import transaction

from synchro.errors import UnloggableValueError
from synchro.models import ChangeLog
from tests.app.deploy import assert_same, brought, carry, take, write
from tests.project.odd.models import Seat, Ticket
from tests.project.shop.models import Person, Tag

pytestmark = pytest.mark.django_db(databases=["default", "hq"])


@pytest.fixture(autouse=True)
def _tracked(settings):
    settings.SYNCHRO_MODELS = ("shop", ("odd", "Seat", "Ticket"))


def test_c11_more_composite_keys_than_a_statement_takes():
    seats = [Seat.objects.create(hall=number, number=str(number)) for number in range(1100)]
    assert brought(carry()) == {"added": 1100}
    for seat in seats:
        seat.taken = True
        seat.save()
    assert brought(carry()) == {"changed": 1100}
    assert_same("default", "hq")
    Seat.objects.all().delete()
    assert brought(carry()) == {"deleted": 1100}


@pytest.mark.parametrize("code", ["?a/b", "?office-12345678/3", "x/y", "a\nb", " ", "ą" * 200])
def test_text_that_looks_like_something_else(code):
    ticket = Ticket.objects.create(code=code)
    assert brought(carry()) == {"added": 1}
    ticket.price = 3
    ticket.save()
    assert brought(carry()) == {"changed": 1}
    theirs = Ticket.objects.using("hq").get(code=code)
    assert theirs.price == 3
    theirs.price = 5
    theirs.save()
    carry("hq", "default")
    assert_same("default", "hq")
    ticket.delete()
    assert carry().deleted == 1
    assert_same("default", "hq")


def sent(destination):
    """What a bundle for *destination* brings to hq."""
    return brought(take(write(to=destination)[0]))


def test_the_longest_names_and_keys_that_there_may_be_travel_and_come_back(settings):
    settings.SYNCHRO_NODE = "n" * 55
    settings.SYNCHRO_MODELS = ("shop", ("odd", "Ticket"))
    ticket = Ticket.objects.create(code="k" * 200)
    tag = Tag.objects.create(name="t" * 30)
    person = Person.objects.create(name="p")
    person.tags.add(tag)
    assert sent("hq" * 32) == {"added": 3, "m2m": 1}
    theirs = Ticket.objects.using("hq").get()
    theirs.price = 5
    theirs.save()
    Person.objects.using("hq").get().tags.clear()
    carry("hq", "default")
    ticket.refresh_from_db()
    assert ticket.price == 5
    assert not person.tags.exists()
    assert_same("default", "hq")
    ticket.delete()
    assert sent("hq" * 32)["deleted"] == 1


def test_an_empty_primary_key_is_refused_when_it_is_saved():
    refused = pytest.raises(UnloggableValueError, match=r"odd\.ticket cannot be logged: its primary key is empty")
    with refused, transaction.atomic():
        Ticket.objects.create(code="")
    assert not Ticket.objects.exists()
    assert not ChangeLog.objects.exists()
