"""A snapshot after a reset, or of a copy, says again what was said before: it is no news, and beats nothing newer."""

import pytest

from synchro import nodes, reset_synchro
from synchro.models import Conflict
from synchro.seal import seal
from tests.app.deploy import assert_same, at, brought, carry, take, write
from tests.app.test_two_ways import BOTH, exchange
from tests.project.shop.models import Country, Person, Tag

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])
OFFICE, HQ, SHIP = "default", "hq", "ship"


def reset():
    reset_synchro(HQ)


def copied():
    """As a copy of hq's database does at its first command under another SYNCHRO_NODE."""
    seal(HQ)
    nodes.take_new_id(nodes.lock_own(HQ), HQ)


@pytest.mark.parametrize("happens", [reset, copied])
def test_a_snapshot_afterwards_beats_no_edit_that_was_made_in_the_meantime(happens):
    Country.objects.create(code="PL", name="old")
    Country.objects.create(code="DE", name="old")
    person, tag = Person.objects.create(name="p"), Tag.objects.create(name="t")
    person.tags.add(tag)
    exchange(*BOTH)
    mine = Country.objects.using(HQ).get(code="DE")
    mine.name = "of hq"
    mine.save()
    exchange(*BOTH)
    happens()
    theirs = Country.objects.get(code="PL")
    theirs.name = "edited"
    theirs.save()
    person.tags.remove(tag)
    seal(OFFICE)
    data, _ = write(HQ, to=OFFICE, mode="snapshot")
    report = take(data, OFFICE)
    assert set(brought(report)) <= {"already_known", "unchanged"}
    assert not Conflict.objects.exists()
    assert (Country.objects.get(code="PL").name, person.tags.count()) == ("edited", 0)
    take(data, SHIP)
    assert_same(HQ, SHIP)
    exchange(*BOTH)
    assert_same(OFFICE, HQ)
    carry(OFFICE, SHIP)
    assert_same(OFFICE, SHIP)
    assert at(Country).get(code="PL").name == "edited"
