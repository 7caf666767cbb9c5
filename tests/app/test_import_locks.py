"""An import locks the rows that it will write, seals what is pending, and reads only then.

What that is good for: see test_beside_others.
"""

from unittest import mock

import pytest
from django.conf import settings
from django.db import connections
from django.test.utils import CaptureQueriesContext

from tests.app.deploy import carry, queries, take, write
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
def test_rows_are_locked_then_what_is_pending_is_sealed_then_versions_and_states_are_read(locking):
    note = Note.objects.create(char="a")
    carry()
    note.char = "b"
    note.save()
    data, _ = write(to="hq")
    found = statements(lambda: take(data))
    lock = first(found, Note._meta.db_table, locking)
    pending = first(found, "SELECT", "synchro_change", "IS NULL", after=lock)
    versions = first(found, "SELECT", "synchro_version", after=pending + 1)
    states = first(found, "SELECT", Note._meta.db_table, "char", after=lock)
    assert lock < pending < min(versions, states)


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
