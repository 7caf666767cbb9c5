"""What is changed here while an import is under way is seen by its plan, and not overwritten unseen."""

import threading
from unittest import mock

import pytest
from django.conf import settings
from django.db import connections, transaction
from django.db.models import QuerySet
from django.test.utils import CaptureQueriesContext

from synchro.models import Conflict
from synchro.planner import Planner
from tests.app.deploy import assert_same, brought, carry, queries, take, write
from tests.project.shop.models import Note, Restaurant

SERVER = settings.DATABASES["hq"]["ENGINE"] != "django.db.backends.sqlite3"


@pytest.fixture
def locking():
    """A database that locks rows; SQLite is told to say so, in a comment."""
    if SERVER:
        yield "FOR UPDATE"
        return
    connection = connections["hq"]
    with (
        mock.patch.object(connection.features, "has_select_for_update", True),
        mock.patch.object(connection.ops, "for_update_sql", return_value="/* locked */"),
    ):
        yield "/* locked */"


def statements(call):
    with CaptureQueriesContext(connections["hq"]) as captured:
        call()
    return [query["sql"] for query in captured]


def first(found, *words, after=0):
    return next(n for n, sql in enumerate(found) if n >= after and all(word in sql for word in words))


@pytest.mark.django_db(databases=["default", "hq"])
def test_rows_are_locked_then_what_is_pending_is_sealed_then_versions_are_read(locking):
    note = Note.objects.create(char="a")
    carry()
    note.char = "b"
    note.save()
    data, _ = write(to="hq")
    found = statements(lambda: take(data))
    lock = first(found, Note._meta.db_table, locking)
    pending = first(found, "SELECT", "synchro_change", "IS NULL", after=lock)
    versions = first(found, "SELECT", "synchro_version", after=lock)
    states = first(found, "SELECT", Note._meta.db_table, "char", after=lock)
    assert lock < pending < versions < states


@pytest.mark.django_db(databases=["default", "hq"])
def test_every_table_of_a_multi_table_object_is_locked(locking):
    restaurant = Restaurant.objects.create(name="a")
    carry()
    restaurant.name = "b"
    restaurant.save()
    data, _ = write(to="hq")
    found = [sql for sql in statements(lambda: take(data)) if locking in sql]
    models = [Restaurant, *Restaurant._meta.get_parent_list()]
    assert all(
        any(f"FROM {connections['hq'].ops.quote_name(m._meta.db_table)}" in sql for sql in found) for m in models
    )


@pytest.mark.django_db(databases=["default", "hq"])
def test_the_number_of_queries_does_not_grow(locking):
    counted = []
    for number in (3, 30):
        notes = [Note.objects.create(char=f"{number} {n}") for n in range(number)]
        carry()
        for note in notes:
            note.text = "again"
            note.save()
        data, _ = write(to="hq")
        counted.append(queries("hq", lambda data=data: take(data))[0])
    assert counted[0] == counted[1]


@pytest.mark.skipif(not SERVER, reason="SQLite has one writer at a time")
@pytest.mark.django_db(databases=["default", "hq"], transaction=True)
def test_an_edit_committed_just_before_the_plan_is_kept_as_the_later_one():
    note = Note.objects.create(char="a")
    carry()
    note.char = "office"
    note.save()
    data, _ = write(to="hq")
    plan = Planner.plan

    def user():
        mine = Note.objects.using("hq").get()
        mine.char = "hq"
        mine.save()
        connections.close_all()

    def edited_first(planner, *args, **options):
        thread = threading.Thread(target=user)
        thread.start()
        thread.join(20)
        assert not thread.is_alive()
        return plan(planner, *args, **options)

    with mock.patch.object(Planner, "plan", edited_first):
        assert brought(take(data)) == {"conflicts": 1}
    assert Note.objects.using("hq").get().char == "hq"
    assert Conflict.objects.using("hq").get().winner == "local"
    carry("hq", "default")
    assert_same("default", "hq")


@pytest.mark.skipif(not SERVER, reason="SQLite has one writer at a time")
@pytest.mark.django_db(databases=["default", "hq"], transaction=True)
def test_an_edit_under_way_is_waited_for():
    note = Note.objects.create(char="a")
    carry()
    note.char = "office"
    note.save()
    data, _ = write(to="hq")
    written, go = threading.Event(), threading.Event()

    def user():
        with transaction.atomic(using="hq"):
            mine = QuerySet(Note, using="hq").get()
            mine.char = "hq"
            mine.save()
            written.set()
            go.wait(20)
        connections.close_all()

    thread = threading.Thread(target=user)
    thread.start()
    assert written.wait(20)
    threading.Timer(0.5, go.set).start()
    report = take(data)
    thread.join(20)
    assert brought(report) == {"conflicts": 1}
    assert Note.objects.using("hq").get().char == "hq"
