"""Managers that log their own bulk operations: all of these, in their transaction, at a price that does not grow."""

import uuid

import pytest
from django.db import connections, models, transaction
from django.db.models import F, Value
from django.db.models.functions import Concat

from synchro import DisableSynchroLog, LoggedManager, LoggedQuerySet
from synchro.errors import UnloggableValueError
from synchro.models import ChangeLog
from synchro.scanning import scan
from tests.app.deploy import assert_same, carry, queries, rolled_back
from tests.app.logged import noted, tracking
from tests.project.odd.models import Label, Slot, Visit, VisitQuerySet

VENDOR = connections["default"].vendor
pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])


@pytest.fixture(autouse=True)
def _tracked():
    with tracking("odd"):
        yield


def visits(*hours):
    return Visit.objects.bulk_create([Visit(code=f"c{hour}", hour=hour) for hour in hours])


def complete():
    assert scan(dry_run=True).total == 0
    carry()
    assert_same("default", "hq")


def test_update():
    visits(8, 9, 13)
    with noted() as found:
        assert Visit.objects.early().order_by("-hour").update(hour=F("hour") + 1, code=Concat("code", Value("x"))) == 2
    assert sorted(each.state["hour"] for each in found) == [9, 10]
    assert {each.action for each in found} == {"change"}
    complete()


def test_update_of_nothing_and_of_a_slice():
    visits(8)
    with noted() as found:
        assert Visit.objects.filter(hour=1).update(hour=2) == 0
        with pytest.raises(TypeError):
            Visit.objects.all()[:1].update(hour=3)
    assert found == []


def test_update_rolls_back_with_its_log():
    visits(8)
    before = ChangeLog.objects.count()
    with transaction.atomic():
        Visit.objects.update(hour=5)
        transaction.set_rollback(True)
    assert ChangeLog.objects.count() == before


def test_update_of_the_primary_key():
    slot = Slot.objects.create(name="a")
    with noted() as found:
        Slot.objects.filter(name="a").update(id=uuid.UUID(int=1))
    assert [(each.action, each.pk) for each in found] == [("delete", str(slot.pk)), ("add", str(uuid.UUID(int=1)))]
    complete()
    with pytest.raises(UnloggableValueError, match="computed"):
        Visit.objects.update(id=F("id") + 100)


def test_bulk_update():
    found = visits(8, 9)
    for visit in found:
        visit.hour += 10
    with noted() as logged:
        assert Visit.objects.bulk_update(found, ["hour"]) == 2
    assert sorted(each.state["hour"] for each in logged) == [18, 19]
    complete()


def test_bulk_create():
    with noted() as found:
        visits(1, 2, 3)
        Slot.objects.bulk_create([Slot(name="a")])
    assert [each.action for each in found] == ["add"] * 4
    assert [each.state["code"] for each in found[:3]] == ["c1", "c2", "c3"]
    complete()


def test_bulk_create_ignoring_conflicts():
    visits(1, 2)
    Slot.objects.bulk_create([Slot(name="a")])
    fresh = [Visit(code="c1", hour=9), Visit(code="c3", hour=3), Visit(code=None, hour=4), Visit(pk=10**6, code="c5")]
    with noted() as found:
        Visit.objects.bulk_create(fresh, ignore_conflicts=True)
        Slot.objects.bulk_create([Slot(name="a"), Slot(name="b")], ignore_conflicts=True)
    assert [visit.pk for visit in fresh[:3]] == [None] * 3
    assert sorted(str(each.state.get("code", each.state.get("name"))) for each in found) == ["None", "b", "c3", "c5"]
    assert {each.action for each in found} == {"add"}
    complete()


@pytest.mark.skipif(VENDOR != "postgresql", reason="only PostgreSQL's numbers may be smaller than those that are there")
def test_bulk_create_ignoring_conflicts_where_the_sequence_is_behind():
    Visit.objects.create(pk=10**6, code="far")
    Visit.objects.bulk_create([Visit(code="near")], ignore_conflicts=True)
    assert Visit.objects.get(code="near").pk < 10**6
    complete()


def test_bulk_create_updating_conflicts():
    visits(1, 2)
    old = Slot.objects.create(name="a")
    options = {"update_conflicts": True} if VENDOR == "mysql" else {"update_conflicts": True, "unique_fields": ["code"]}
    with noted() as found:
        Visit.objects.bulk_create(
            [Visit(code="c1", hour=7), Visit(code="c9", hour=9)], update_fields=["hour"], **options
        )
    assert sorted((each.action, each.state["hour"]) for each in found) == [("add", 9), ("change", 7)]
    if VENDOR != "mysql":
        with noted() as found:
            Slot.objects.bulk_create(
                [Slot(name="a"), Slot(name="b")], update_conflicts=True, update_fields=["name"], unique_fields=["name"]
            )
        assert [(each.action, each.state["name"]) for each in found] == [("add", "b")]
        assert Slot.objects.get(name="a").pk == old.pk
    complete()


def test_delete_and_the_fast_path():
    visits(1, 2, 3, 4)
    with noted() as found:
        assert Visit.objects.filter(hour__lt=3).delete()[0] == 2
        assert Visit.objects.filter(hour=3)._raw_delete("default") == 1
    assert [each.action for each in found] == ["delete"] * 3
    assert {each.state["code"] for each in found} == {"c1", "c2", "c3"}
    complete()


def test_reverse_foreign_keys():
    label = Label.objects.create(name="l")
    found = visits(1, 2)
    label.visits.set(found)
    label.visits.update(hour=5)
    label.visits.clear()
    with noted() as logged:
        label.visits.create(code="new")
    assert [each.action for each in logged] == ["add"]


def test_paused_and_untracked_they_are_djangos_own():
    with noted() as found, DisableSynchroLog():
        visits(1)
        Visit.objects.update(hour=2)
        Visit.objects.all()._raw_delete("default")
        visits(2)
        Visit.objects.all().delete()
    assert found == []
    with tracking("shop"):
        count, _ = queries("default", lambda: Visit.objects.update(hour=2))
        assert count == 1
        with noted() as found:
            visits(1)
        assert found == []


def test_the_price_does_not_grow_with_the_rows():
    def counted(number):
        with rolled_back("default"):
            created, _ = queries("default", lambda: visits(*range(number)))
            updated, _ = queries("default", lambda: Visit.objects.update(hour=1))
            raw, _ = queries("default", lambda: Visit.objects.filter(code="c0")._raw_delete("default"))
            deleted, _ = queries("default", lambda: Visit.objects.all().delete())
            ignored, _ = queries(
                "default",
                lambda: Visit.objects.bulk_create([Visit(code=str(n)) for n in range(number)], ignore_conflicts=True),
            )
            return created, updated, raw, deleted, ignored

    counted(2)
    assert counted(3) == counted(50)


def test_managers_are_made_in_the_usual_ways():
    assert isinstance(Visit.objects.all(), VisitQuerySet)
    assert isinstance(Slot.objects.all(), LoggedQuerySet)
    assert issubclass(LoggedManager, models.Manager)
    assert isinstance(Visit.objects, LoggedManager)
