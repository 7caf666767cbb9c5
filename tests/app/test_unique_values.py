"""Unique values that rows give to each other, take from rows that go, or leave to new ones (cases I6 and A1)."""

import datetime as dt
import uuid
from decimal import Decimal

import pytest
from django.db.models import QuerySet
from django.test import override_settings

from synchro import DisableSynchroLog, retry_held, scan, serialize
from tests.app.deploy import ALIASES, assert_same, at, carry, rolled_back
from tests.app.logged import tracking
from tests.project.shop.models import Tag
from tests.project.zoo.models import Creature, Dog, Keeper, Peg

pytestmark = pytest.mark.django_db(databases=ALIASES)


@pytest.fixture(autouse=True, params=["save", "raw"])
def apart(request):
    with override_settings(SYNCHRO_APPLY=request.param), tracking("zoo", "shop"), rolled_back():
        yield


def renamed(rows, field, names):
    """Give *rows* the values *names* of *field*; on the way, which nobody tells of, each has one that nobody has."""
    for number, row in enumerate(rows):
        setattr(row, field, f"~{number}")
        row.save()
    for row, name in zip(rows, names, strict=True):
        setattr(row, field, name)
        row.save()


def arrives():
    scan()  # finds what has become of the rows, in the order of their primary keys
    report = carry()
    assert (report.held, report.conflicts) == (0, 0), [each.reason for each in report.held_changes]
    assert_same("default", "hq")


def test_a_value_of_a_row_that_goes_is_taken_by_one_that_pointed_to_it():
    gone, *rest = [Keeper.objects.create(badge=badge) for badge in "1234"]
    for row in rest:
        row.chief = gone
        row.save()
    arrives()
    with DisableSynchroLog():
        Keeper.objects.update(chief=None)
        for row in rest:
            row.chief = None
        renamed(rest, "badge", "789")
        gone.delete()
        renamed(rest, "badge", "412")
        Keeper.objects.create(badge="3", chief=rest[0])
    arrives()


def test_what_one_row_leaves_a_new_one_takes_and_is_pointed_to():
    """The row that leaves it points to the new one, and so has to be written after it."""
    old = Keeper.objects.create(badge="1")
    arrives()
    with DisableSynchroLog():
        old.badge = "2"
        old.save()
        new = Keeper.objects.create(badge="1")
        old.chief = new
        old.save()
    arrives()


def test_in_a_table_of_the_parent():
    gone, *rest = [Dog.objects.create(name=name, chip=name) for name in "abcd"]
    gone.likes.set(rest)
    rest[0].likes.set([gone])
    arrives()
    with DisableSynchroLog():
        gone.delete()
        renamed(rest, "name", "dab")
        renamed(rest, "chip", "dab")
        rest.append(Dog.objects.create(name="c", chip="c"))
    arrives()
    assert sorted(at(Creature).values_list("name", flat=True)) == list("abcd")


@pytest.mark.parametrize("chunk", [4, 1000])
def test_a_cycle_that_is_longer_than_a_chunk(monkeypatch, chunk):
    rows = [Tag.objects.create(name=f"{number:02}") for number in range(11)]
    arrives()
    with DisableSynchroLog():
        renamed(rows, "name", [row.name for row in (*rows[1:], rows[0])])
    monkeypatch.setattr(serialize, "CHUNK", chunk)
    arrives()


@pytest.mark.parametrize("chunk", [4, 1000])
def test_rows_that_move_up_to_make_room(monkeypatch, chunk):
    """As the nodes of a tree do for one that is inserted before them."""
    rows = [Tag.objects.create(name=f"{number:02}") for number in range(11)]
    arrives()
    with DisableSynchroLog():
        renamed(rows, "name", [f"{number + 1:02}" for number in range(11)])
        Tag.objects.create(name="00")
    monkeypatch.setattr(serialize, "CHUNK", chunk)
    arrives()


@pytest.mark.parametrize("chunk", [4, 1000])
def test_one_that_really_clashes_does_not_keep_the_others(monkeypatch, chunk):
    rows = [Dog.objects.create(name=f"{number:02}", chip=f"{number:02}") for number in range(11)]
    arrives()
    with DisableSynchroLog():
        QuerySet(Dog, using="hq").filter(name="10").update(chip="taken")
        renamed(rows[:5], "name", ["01", "02", "03", "04", "00"])
        renamed(rows[5:10], "name", ["09", "05", "06", "07", "08"])
        rows[2].chip = "taken"
        rows[2].save()
    monkeypatch.setattr(serialize, "CHUNK", chunk)
    scan()
    report = carry()
    held = {each.id.rpartition("/")[2]: each.reason for each in report.held_changes}
    assert set(held) == {str(row.pk) for row in rows[:5]}
    assert (
        held[str(rows[2].pk)]
        == f"zoo.Dog.chip is unique, and another row here has its value: {at(Dog).get(chip='taken').pk}"
    )
    taken = at(Creature).get(name="02").pk
    assert held[str(rows[1].pk)] == f"zoo.Creature.name is unique, and another row here has its value: {taken}"
    assert report.changed == 5
    # It makes room, and all that was held goes in.
    with DisableSynchroLog():
        QuerySet(Dog, using="hq").filter(name="10").update(chip="10")
    retry_held(using="hq")
    assert_same("default", "hq")


UNIQUE = [field.name for field in Peg._meta.concrete_fields if field.unique and not field.primary_key]


def peg(number):
    return Peg(
        keeper=Keeper.objects.create(badge=f"peg {number}"),
        small=number,
        money=Decimal(number) / 4,
        real=number / 8,
        moment=dt.datetime(2024, 1, 1, hour=number, tzinfo=dt.UTC),
        day=dt.date(2024, 1, 1 + number),
        hour=dt.time(number, 30),
        length=dt.timedelta(seconds=number),
        uid=uuid.UUID(int=number),
        ip=f"10.0.0.{number}",
        ipv4=f"10.0.0.{number}",
        letter="abcdefgh"[number],
        file=f"files/{number}.txt",
    )


@pytest.mark.parametrize("name", UNIQUE)
def test_values_of_every_type_go_round(name):
    """Rows that send the value of one column round among them, in one statement, as far as anybody knows."""
    pegs = [peg(number) for number in range(6)]
    for each in pegs:
        each.save()
    arrives()
    attname = Peg._meta.get_field(name).attname
    given = [getattr(each, attname) for each in pegs]
    with DisableSynchroLog():
        Peg.objects.all().delete()
        for each, value in zip(pegs, (*given[1:], given[0]), strict=True):
            setattr(each, attname, value)
            each.save(force_insert=True)
    arrives()
    assert [getattr(each, attname) for each in at(Peg).order_by("pk")] != given
