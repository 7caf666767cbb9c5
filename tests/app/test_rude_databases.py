"""Servers that end a connection in the middle of the work, or by a deadlock; imports at once."""

import threading
from unittest import mock

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import OperationalError, connections, transaction
from django.db.models import QuerySet

from synchro import exporting, express_writing, import_bundle, locking, serialize, taking
from synchro.models import Destination, Node
from synchro.recording import Recorder
from tests.app.deploy import assert_same, brought, carry, everything, write
from tests.project.shop.models import Note, Tag

pytestmark = [
    pytest.mark.skipif(
        settings.DATABASES["hq"]["ENGINE"] == "django.db.backends.sqlite3", reason="SQLite is no server"
    ),
    pytest.mark.django_db(databases=["default", "hq"], transaction=True),
]


def end_connection(using):
    """What an administrator does, or a server that is shut down: *using* loses its connection."""
    connection = connections[using]
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()" if connection.vendor == "postgresql" else "SELECT CONNECTION_ID()")
        (number,) = cursor.fetchone()

    def end():
        statement = "SELECT pg_terminate_backend(%s)" if connection.vendor == "postgresql" else "KILL CONNECTION %s"
        with connections[using].cursor() as cursor:  # of this thread: another connection
            cursor.execute(statement, [number])
        connections.close_all()

    thread = threading.Thread(target=end)
    thread.start()
    thread.join(20)


def ending_at(owner, name, call, using):
    """*using* loses its connection when *name* of *owner* is called for the *call*-th time."""
    original, calls = getattr(owner, name), []

    def called(*args, **options):
        calls.append(1)
        if len(calls) == call:
            end_connection(using)
        return original(*args, **options)

    return mock.patch.object(owner, name, called)


@pytest.mark.parametrize(("owner", "name", "express"), [(Recorder, "record", False), (express_writing, "_log", True)])
@pytest.mark.parametrize("call", [1, 3])
def test_i4_an_import_whose_connection_the_server_ends_applies_nothing(
    owner, name, express, call, monkeypatch, tmp_path
):
    monkeypatch.setattr(taking, "EXPRESS", express)
    monkeypatch.setattr(serialize, "CHUNK", 2)
    for number in range(8):
        Tag.objects.create(name=f"tag {number}")
    path = tmp_path / "office.jsonl.zst"
    path.write_bytes(write(to="hq")[0])
    before = everything("hq")
    with ending_at(owner, name, call, "hq"), pytest.raises(CommandError, match="The database refused"):
        call_command("synchro_import", str(path), "--database", "hq", verbosity=0)
    connections["hq"].close()
    assert everything("hq") == before
    call_command("synchro_import", str(path), "--database", "hq", verbosity=0)
    assert_same("default", "hq")


@pytest.mark.parametrize("name", ["prepare", "write"])
def test_l2_an_export_whose_connection_the_server_ends_moves_no_position(name, tmp_path):
    Tag.objects.create(name="a")
    write(to="hq")
    Tag.objects.create(name="b")
    with ending_at(exporting, name, 1, "default"), pytest.raises(CommandError, match="The database refused"):
        call_command("synchro_export", "--to", "hq", "-o", str(tmp_path), verbosity=0)
    connections["default"].close()
    assert Destination.objects.get(name="hq").seq == 1
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".jsonl.zst")]
    call_command("synchro_export", "--to", "hq", "-o", str(tmp_path), verbosity=0)
    (path,) = tmp_path.iterdir()
    assert path.name.endswith("-000002-000002.jsonl.zst")


def crossing(first, second, holds, asks, outcome):
    """An application that holds the note *second* and asks for the note *first* when it may; nothing stays of it."""
    try:
        with transaction.atomic(using="hq"):
            if connections["hq"].vendor == "postgresql":  # so that it is the import that looks for deadlocks first
                with connections["hq"].cursor() as cursor:
                    cursor.execute("SET LOCAL deadlock_timeout = '60s'")
            rows = QuerySet(Note, using="hq")
            rows.filter(pk=second).update(text="of the application")
            holds.set()
            asks.wait(20)
            rows.filter(pk=first).update(text="of the application")
            transaction.set_rollback(True, using="hq")
        outcome.append("done")
    except OperationalError:
        outcome.append("refused")
    finally:
        connections.close_all()


def test_i4_an_import_that_a_deadlock_ends_applies_nothing_and_the_same_command_does_it(tmp_path, monkeypatch):
    """The application holds the second row and asks for the first, which the import holds."""
    monkeypatch.setattr(serialize, "CHUNK", 1)
    notes = [Note.objects.create(char=name) for name in "ab"]
    carry()
    for note in notes:
        note.text = "of the office"
        note.save()
    path = tmp_path / "office.jsonl.zst"
    path.write_bytes(write(to="hq")[0])
    before = everything("hq")
    first, second = QuerySet(Note, using="hq").order_by("char").values_list("pk", flat=True)
    holds, asks, outcome = threading.Event(), threading.Event(), []
    lock_rows = locking.lock_rows

    def locked(*args):
        lock_rows(*args)
        if not asks.is_set():  # the first row is ours now
            asks.set()
            somebody.join(0.5)

    somebody = threading.Thread(target=crossing, args=(first, second, holds, asks, outcome))
    somebody.start()
    assert holds.wait(20)
    told = ""
    with mock.patch.object(locking, "lock_rows", locked):
        try:
            call_command("synchro_import", str(path), "--database", "hq", verbosity=0)
        except CommandError as error:
            told = str(error)
    somebody.join(20)
    assert asks.is_set()
    assert (outcome, "deadlock" in told.lower()) in ((["done"], True), (["refused"], False))
    if connections["hq"].vendor == "postgresql":
        assert outcome == ["done"]
    if told:
        assert everything("hq") == before
        call_command("synchro_import", str(path), "--database", "hq", verbosity=0)
    assert_same("default", "hq")


def test_two_imports_of_one_file_at_once_take_it_once(tmp_path):
    """Also where there is no node yet, which each of them would make."""
    for name in "abc":
        Tag.objects.create(name=name)
    path = tmp_path / "office.jsonl.zst"
    path.write_bytes(write(to="hq")[0])
    both, reports, deadlocks = threading.Barrier(2), [], []

    def run():
        try:
            both.wait(20)
            reports.append(import_bundle(path, using="hq"))
        except OperationalError as error:  # InnoDB may see one in two first rows of a table, and takes one of them back
            deadlocks.append(str(error))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(30)
    assert all("Deadlock found" in each for each in deadlocks)
    assert not deadlocks or connections["hq"].vendor == "mysql"
    reports += [import_bundle(path, using="hq") for _ in deadlocks]
    assert sorted(str(brought(each)) for each in reports) == ["{'added': 3}", "{'already_known': 3}"]
    assert Node.objects.using("hq").filter(own=True).count() == 1
    assert_same("default", "hq")
