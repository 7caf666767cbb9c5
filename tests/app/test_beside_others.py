"""Imports, exports and the rest beside an application that goes on writing, under each isolation level it may have."""

import threading
from unittest import mock

import pytest
from django.conf import settings
from django.db import connections, transaction
from django.db.models import QuerySet

from synchro import apply, conflicts, nodes, reconciling, reset_synchro, scan, seal, synchronizing, taking
from synchro.express import Express
from synchro.models import Conflict
from synchro.planner import Planner
from tests.app.deploy import assert_same, at, brought, carry, records, take, write
from tests.project.shop.models import Note, Person, Tag

pytestmark = [
    pytest.mark.skipif(
        settings.DATABASES["hq"]["ENGINE"] == "django.db.backends.sqlite3", reason="SQLite has one writer at a time"
    ),
    pytest.mark.django_db(databases=["default", "hq"], transaction=True),
    pytest.mark.usefixtures("isolation"),
]


@pytest.fixture(params=["read committed", "repeatable read", "serializable"])
def isolation(request):
    """The isolation level that the project's settings give to each transaction at hq."""
    connection = connections["hq"]
    options = connection.settings_dict["OPTIONS"]
    before = dict(options)
    level = request.param
    if connection.vendor == "postgresql":
        from django.db.backends.postgresql.psycopg_any import IsolationLevel

        level = IsolationLevel[level.upper().replace(" ", "_")]
    connection.close()
    options["isolation_level"] = level
    yield request.param
    connection.close()
    options.clear()
    options.update(before)


class Somebody:
    """Somebody at hq, who does *work* in a transaction and commits it when told to, or at once."""

    def __init__(self, work, *, at_once=False):
        self._go, self._written = threading.Event(), threading.Event()
        if at_once:
            self._go.set()

        def run():
            try:
                with transaction.atomic(using="hq"):
                    work()
                    self._written.set()
                    self._go.wait(20)
            finally:
                connections.close_all()

        self._thread = threading.Thread(target=run)
        self._thread.start()

    def writes(self):
        assert self._written.wait(20)
        return self

    def commits(self):
        self._go.set()
        self._thread.join(20)
        assert not self._thread.is_alive()

    def commits_or_waits(self):
        """It is done, unless something that we have keeps it waiting."""
        self._thread.join(0.5)


def edit(**values):
    def work():
        mine = QuerySet(Note, using="hq").get()
        for name, value in values.items():
            setattr(mine, name, value)
        mine.save()

    return work


def just_before(place, name, work):
    """*work* is done and committed at hq when *name* of *place* is called for the first time."""
    original, done = getattr(place, name), []

    def called(*args, **options):
        if not done:
            done.append(True)
            Somebody(work, at_once=True).commits()
        return original(*args, **options)

    return mock.patch.object(place, name, called)


def edited_at_the_office():
    """The bundle of an edit of a note that hq has."""
    note = Note.objects.create(char="a")
    carry()
    note.char = "office"
    note.save()
    return write(to="hq")[0]


# --- imports ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("place", "name", "express"), [(Planner, "plan", False), (Express, "find", True)])
def test_an_edit_committed_just_before_the_plan_is_kept_as_the_later_one(place, name, express, monkeypatch):
    monkeypatch.setattr(taking, "EXPRESS", express)
    data = edited_at_the_office()
    with just_before(place, name, edit(char="hq")):
        assert brought(take(data)) == {"conflicts": 1}
    assert at(Note).get().char == "hq"
    assert Conflict.objects.using("hq").get().winner == "local"
    carry("hq", "default")
    assert_same("default", "hq")


def test_an_edit_under_way_is_waited_for():
    data = edited_at_the_office()
    somebody = Somebody(edit(char="hq")).writes()
    threading.Timer(0.5, somebody.commits).start()
    assert brought(take(data)) == {"conflicts": 1}
    assert at(Note).get().char == "hq"


def test_a_link_removed_meanwhile_stays_removed_everywhere():
    person, tag = Person.objects.create(name="p"), Tag.objects.create(name="t")
    person.tags.add(tag)
    carry()
    person.tags.remove(tag)
    person.tags.add(tag)
    data, _ = write(to="hq")
    apply_operations, others = apply.apply_operations, []

    def remove():
        QuerySet(Person, using="hq").get().tags.remove(QuerySet(Tag, using="hq").get())

    def applied(*args):
        if not others:
            others.append(Somebody(remove, at_once=True))
            others[0].commits_or_waits()
        apply_operations(*args)

    with mock.patch.object(apply, "apply_operations", applied):
        take(data)
    others[0].commits()
    carry("hq", "default")
    assert_same("default", "hq")
    assert person.tags.count() == 0


def test_an_edit_at_remote_committed_just_before_the_plan_is_kept_as_the_later_one():
    note = Note.objects.create(char="a")
    synchronizing.synchronize(remote="hq")
    note.char = "office"
    note.save()
    with just_before(Planner, "plan", edit(char="hq")):
        synchronizing.synchronize(remote="hq")
    assert at(Note).get().char == "hq"


# --- decisions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["take", "keep"])
def test_an_edit_committed_just_before_a_decision_is_in_the_log_and_all_are_alike(how):
    data = edited_at_the_office()
    edit(char="hq")()
    take(data, on_conflict="hold")
    (found,) = conflicts.conflicts(using="hq")
    with just_before(conflicts, "_Resolving", edit(char="meanwhile", text="too")):
        getattr(conflicts, how)(found.id, using="hq")
    data, _ = write("hq", to="default")
    assert [each["fields"]["char"] for each in records(data)].count("meanwhile") >= 1
    take(data, "default")
    assert_same("default", "hq")


# --- sealing, exports, scans, resets ----------------------------------------------------------------------------------


def test_l1_what_commits_after_an_export_is_in_the_next_one():
    slow = Somebody(lambda: Note(char="slow").save(using="hq")).writes()
    Tag(name="quick").save(using="hq")
    first, _ = write("hq")
    slow.commits()
    second, _ = write("hq")
    assert [[each["model"] for each in records(data)] for data in (first, second)] == [["shop.tag"], ["shop.note"]]


def test_an_export_waits_for_one_that_is_under_way():
    """Both number changes; under a snapshot of before, the second would give positions a second time."""
    Note(char="a").save(using="hq")
    seal.seal("hq")
    Note(char="b").save(using="hq")

    def number():
        seal.seal_pending(nodes.lock_own("hq"), "hq")

    other = Somebody(number).writes()
    Note(char="c").save(using="hq")
    threading.Timer(0.5, other.commits).start()
    data, _ = write("hq")
    assert [(each["seq"], each["fields"]["char"]) for each in records(data)] == [(1, "a"), (2, "b"), (3, "c")]


def test_a_scan_logs_nothing_over_an_edit_that_is_committed_meanwhile():
    Note(char="a").save(using="hq")
    carry("hq", "default")
    QuerySet(Note, using="hq").update(char="past the log")
    with just_before(reconciling, "reconcile", edit(char="edited")):
        scan(using="hq")
    carry("hq", "default")
    assert Note.objects.get().char == "edited"
    assert_same("default", "hq")


def test_a_reset_forgets_nothing_that_is_committed_meanwhile():
    Note(char="a").save(using="hq")
    carry("hq", "default")
    with just_before(reconciling, "remember_rows", edit(char="b")):
        reset_synchro("hq")
    assert brought(carry("hq", "default")) == {"changed": 1}
    assert_same("default", "hq")


def test_a_reset_in_its_callers_transaction_forgets_nothing_that_it_does_not_see(isolation):
    Note(char="a").save(using="hq")
    carry("hq", "default")
    with transaction.atomic(using="hq"):
        QuerySet(Note, using="hq").get()  # with the snapshot of now, in other levels than the first
        somebody = Somebody(edit(char="b"), at_once=True)
        somebody.commits_or_waits()
        reset_synchro("hq")
    somebody.commits()
    report = scan(using="hq", dry_run=True)
    assert (report.added, report.changed, report.deleted) == (0, 0, 0)
    assert (carry("hq", "default") is None) == (isolation == "read committed")
