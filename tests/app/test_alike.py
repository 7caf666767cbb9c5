"""Rows without a natural key that both sides have made by themselves stay single (case A2)."""

import pytest
from django.db.models import QuerySet

from synchro import DisableSynchroLog
from synchro.models import Conflict
from tests.app.deploy import ALIASES, assert_same, at, brought, carry, queries, rolled_back, take, write
from tests.app.logged import tracking
from tests.project.zoo.models import Keeper, Language, Locker, Step, Translation, Vehicle, Workflow

pytestmark = pytest.mark.django_db(databases=ALIASES)


@pytest.fixture(autouse=True)
def _deployments():
    with tracking("zoo"), rolled_back():
        yield


def made_by_migrations(using):
    with DisableSynchroLog():
        for code in ("de", "en") if using == "hq" else ("en", "de"):
            language = at(Language, using).create(code=code, label=code)
            at(Translation, using).create(language=language, source="cat", text=f"cat in {code}")
        flow = at(Workflow, using).create(name="moderation")
        for name in ("first", "second"):
            at(Step, using).create(workflow=flow, name=name)
        return flow


def touch(*models):
    for model in models:
        for row in QuerySet(model).order_by("pk"):
            row.save()


def test_a2_rows_made_by_migrations_on_both_sides_stay_single():
    made_by_migrations("default")
    made_by_migrations("hq")
    touch(Step, Workflow, Translation, Language)
    report = carry()
    assert (report.added, report.held, report.conflicts) == (0, 0, 0)
    assert_same("default", "hq")
    carry("hq", "default")
    assert_same("default", "hq")


def test_a2_the_one_that_is_used_first_brings_the_others():
    """A step that points to a flow that nobody logged: the flow comes along, and is the same one."""
    made_by_migrations("hq")
    flow = made_by_migrations("default")
    flow.step_set.create(name="third")
    assert carry().held == 0
    assert at(Workflow).count() == 1
    assert at(Step).filter(workflow=at(Workflow).get()).count() == 3


def test_a2_a_change_of_it_arrives():
    made_by_migrations("default")
    made_by_migrations("hq")
    language = Language.objects.get(code="en")
    language.label = "English"
    language.save()
    report = carry()
    assert (report.added, report.held) == (0, 0)
    assert at(Language).get(code="en").label == "English"
    kept = Conflict.objects.using("hq").get()  # what was there before is not lost
    assert "en" in str(kept.local)


def test_a2_a_row_without_any_constraint_is_adopted_only_while_it_is_the_same():
    made_by_migrations("default")
    made_by_migrations("hq")
    flow = Workflow.objects.get()
    flow.active = False
    flow.save()
    assert brought(carry()) == {"added": 1}
    assert at(Workflow).count() == 2


def test_a2_it_is_adopted_once():
    with DisableSynchroLog():
        for _ in range(2):
            at(Vehicle).create(wheels=3)
    for _ in range(3):
        Vehicle.objects.create(wheels=3)
    carry()
    assert at(Vehicle).count() == 3
    assert_same("default", "hq")


def test_a2_objects_with_a_history_of_their_own_are_not_adopted():
    at(Vehicle).create(wheels=3)
    Vehicle.objects.create(wheels=3)
    carry()
    assert at(Vehicle).count() == 2


def test_i9_both_made_the_same_by_themselves_and_logged_it():
    """A fixture that was loaded on both sides: alike in every field, so one object."""
    at(Language).create(code="en", label="English")
    Language.objects.create(code="en", label="English")
    report = carry()
    assert (report.merged, report.held) == (1, 0)
    carry("hq", "default")
    assert_same("default", "hq")


def test_i9_the_same_unique_value_of_two_objects_loses_neither():
    at(Language).create(code="en", label="English")
    Language.objects.create(code="en", label="inglese")
    report = carry()
    assert report.held == 1
    assert at(Language).get().label == "English"


def test_a_unique_column_that_is_a_foreign_key():
    for using in ("default", "hq"):
        with DisableSynchroLog():
            keeper = at(Keeper, using).create(badge="b1")
            at(Locker, using).create(keeper=keeper, content="hat")
    touch(Keeper, Locker)
    report = carry()
    assert (report.added, report.held) == (0, 0)
    assert_same("default", "hq")


def test_a_row_that_is_not_tracked_is_found_by_its_unique_value():
    with tracking(("zoo", "translation")), DisableSynchroLog():
        theirs = at(Language).create(code="en", label="theirs")
        mine = Language.objects.create(code="en", label="mine")
    with tracking(("zoo", "translation")):
        Translation.objects.create(language=mine, source="cat")
        assert carry().held == 0
        assert at(Translation).get().language == theirs


def test_the_number_of_queries_does_not_grow_with_the_rows():
    counts = []
    for number in (5, 50):
        with rolled_back():
            for code in range(number):
                language = Language.objects.create(code=str(code))
                Translation.objects.create(language=language, source=str(code))
                Vehicle.objects.create(wheels=code)
            with DisableSynchroLog():
                at(Vehicle).create(wheels=3)
            data, _ = write()
            counts.append(queries("hq", lambda data=data: take(data))[0])
    assert counts[0] == counts[1]
