"""SYNCHRO_KEEP_PKS: numbers inside texts go on meaning the same where the receiver started empty (case A8)."""

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import connections

from synchro import DisableSynchroLog
from tests.app.deploy import ALIASES, at, carry, listening, rolled_back, take, write
from tests.app.logged import tracking
from tests.project.shop.models import Person, Tag
from tests.project.zoo.models import Comment, Dog, Keeper

pytestmark = pytest.mark.django_db(databases=ALIASES)


@pytest.fixture(autouse=True, params=["in bulk", "one by one"])
def _deployments(request, settings):
    settings.SYNCHRO_KEEP_PKS = True
    heard = [] if request.param == "in bulk" else [Person, Tag, Dog, Comment]
    with tracking("shop", "zoo"), rolled_back(), listening(*heard):
        yield


def numbers(model, using="hq"):
    return dict(at(model, using).values_list("name", "pk"))


def test_a8_new_objects_keep_their_numbers():
    Person.objects.create(name="burnt").delete()
    people = [Person(name=name, pk=pk) for name, pk in (("a", 70), ("b", 7_000))]
    for person in people:
        person.save()
    people[0].boss = people[1]
    people[0].save()
    Dog.objects.create(name="rex", chip="1", pk=900)
    carry()
    assert numbers(Person) == {"a": 70, "b": 7_000}
    assert numbers(Dog) == {"rex": 900}


def test_i12_the_next_row_here_does_not_collide():
    Person.objects.create(name="a", pk=70)
    carry()
    at(Person).create(name="own")
    assert numbers(Person)["own"] > 70


def test_a_number_that_is_taken_is_not_kept():
    with DisableSynchroLog():
        at(Person).create(name="theirs", pk=70)
    Person.objects.create(name="a", pk=70)
    Person.objects.create(name="b", pk=71)
    carry()
    found = numbers(Person)
    assert found["theirs"] == 70
    assert found["a"] not in (70, 71)
    assert found["b"] == 71


def test_a_number_of_what_is_gone_is_not_kept():
    at(Person).create(name="gone", pk=70).delete()
    Person.objects.create(name="a", pk=70)
    carry()
    assert numbers(Person)["a"] != 70


def test_objects_of_two_births_with_one_number():
    at(Person, "ship").create(name="ship's", pk=70)
    Person.objects.create(name="office's", pk=70)
    carry()
    take(write("ship")[0], "hq")
    assert sorted(numbers(Person)) == ["office's", "ship's"]
    assert numbers(Person)["office's"] == 70


@pytest.mark.skipif(connections["hq"].vendor == "mysql", reason="MariaDB can set no number aside that no row has")
def test_what_dangles_keeps_its_number_too():
    keeper = Keeper.objects.create(badge="b", pk=70)
    kind = ContentType.objects.get_for_model(Keeper)
    Comment.objects.create(content_type=kind, object_id=70)
    Keeper.objects.filter(pk=keeper.pk)._raw_delete("default")
    carry()
    Comment.objects.create(content_type=kind, object_id=71)
    carry()
    assert sorted(at(Comment).values_list("object_id", flat=True)) == [70, 71]
