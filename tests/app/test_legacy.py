"""Taking over what 0.5 to 0.7 left: tables as they made them, in databases of each kind, and what becomes of them."""

import datetime as dt
import io
import uuid
from decimal import Decimal
from unittest import mock

import pytest
from django.contrib.contenttypes.models import ContentType
from django.core.cache import cache
from django.core.management import call_command
from django.db import DatabaseError, connections
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone

from synchro import DisableSynchroLog, legacy
from synchro.models import ChangeLog, RemoteReference, options
from tests.project.office.models import Agent, Note, Skill, Town, Worker
from tests.project.shop.models import Note as ShopNote

CHECKED = dt.datetime(2020, 5, 1, 12, tzinfo=dt.UTC)
LATER = CHECKED + dt.timedelta(hours=1)
LATEST = CHECKED + dt.timedelta(hours=2)
OLD_TABLES = ("synchro_deletekey", "synchro_changelog", "synchro_reference")

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])
rolled_back = connections["default"].features.can_rollback_ddl


@pytest.fixture(autouse=True)
def project(settings):
    settings.SYNCHRO_MODELS = (("office", "Note", "Agent", "Town", "Skill", "Worker"),)
    settings.SYNCHRO_REMOTE = "hq"
    settings.TIME_ZONE = "Europe/Warsaw"
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def old():
    if not rolled_back:
        pytest.skip("this database commits whenever a table is made, so there is one test for it, at the end")
    return Old("default")


class Old:
    """A database that 0.7 worked on: its three tables, made as Django 1.8 made them, and its option."""

    def __init__(self, using):
        self.using = using
        vendor = connections[using].vendor
        serial = {"postgresql": "serial"}.get(vendor, "integer")
        date = {"postgresql": "timestamp with time zone", "mysql": "datetime(6)"}.get(vendor, "datetime")
        number = f'"id" {serial} NOT NULL PRIMARY KEY'
        content_type = '"content_type_id" integer NOT NULL REFERENCES "django_content_type" ("id")'
        self.run(
            f'CREATE TABLE "synchro_reference" ({number}, "local_object_id" varchar(20) NOT NULL, '
            f'"remote_object_id" varchar(20) NOT NULL, {content_type}, UNIQUE ("content_type_id", "local_object_id"))'
        )
        self.run(
            f'CREATE TABLE "synchro_changelog" ({number}, "object_id" varchar(20) NOT NULL, "date" {date} NOT NULL, '
            f'"action" smallint NOT NULL CHECK ("action" >= 0), {content_type})'
        )
        self.run(
            f'CREATE TABLE "synchro_deletekey" ({number}, "key" varchar(200) NOT NULL, '
            '"changelog_id" integer NOT NULL UNIQUE REFERENCES "synchro_changelog" ("id"))'
        )
        self.count = 0

    def run(self, sql, *parameters):
        sql = sql.replace('"', connections[self.using].ops.quote_name("x")[0])
        with connections[self.using].cursor() as cursor:
            cursor.execute(sql, parameters)

    def reference(self, model, local, remote):
        self.count += 1
        self.run(
            "INSERT INTO synchro_reference (id, content_type_id, local_object_id, remote_object_id)"
            " VALUES (%s, %s, %s, %s)",
            self.count, kind(model, self.using), str(local), str(remote),
        )  # fmt: skip

    def change(self, model, pk, action, date=LATER, key=None):
        self.count += 1
        moment = date if connections[self.using].vendor == "postgresql" else date.strftime("%Y-%m-%d %H:%M:%S.%f")
        self.run(
            "INSERT INTO synchro_changelog (id, content_type_id, object_id, date, action) VALUES (%s, %s, %s, %s, %s)",
            self.count, kind(model, self.using), str(pk), moment, action,
        )  # fmt: skip
        if key is not None:
            sql = 'INSERT INTO synchro_deletekey (id, changelog_id, "key") VALUES (%s, %s, %s)'
            self.run(sql, self.count, self.count, key)

    def checked(self, text="2020-05-01 14:00:00"):
        """In local time, which is two hours ahead there."""
        from dbsettings.models import Setting

        Setting.objects.using(self.using).create(
            module_name="synchro.models", class_name="", attribute_name="last_check", value=text
        )


def kind(model, using="default"):
    return ContentType.objects.db_manager(using).get_for_model(model).pk


def migrate(using="default"):
    out = io.StringIO()
    call_command("migrate", database=using, stdout=out, verbosity=1)
    return out.getvalue()


def tables(using="default"):
    with connections[using].cursor() as cursor:
        return set(connections[using].introspection.table_names(cursor))


def pending(using="default"):
    rows = ChangeLog.objects.using(using).order_by("pk")
    return [(each.action, each.model, each.pk_text) for each in rows]


def quietly(make):
    with DisableSynchroLog():
        return make()


def test_references_point_to_the_same_rows_as_before(old):
    theirs = quietly(lambda: Note.objects.using("hq").create(pk=50, name="a", cash=1))
    mine = quietly(lambda: Note.objects.create(pk=7, name="a", cash=1))
    old.reference(Note, mine.pk, theirs.pk)
    old.reference(Note, 8, 51)  # of rows that are gone
    old.checked()
    assert "took over 2 references to rows of 'hq'" in migrate()
    mine.name = "b"
    mine.save()
    call_command("synchronize", stdout=io.StringIO())
    assert list(Note.objects.using("hq").values_list("pk", "name")) == [(50, "b")]
    assert not RemoteReference.objects.exists()  # REMOTE has tables of its own to keep them in
    mine.delete()
    call_command("synchronize", stdout=io.StringIO())
    assert not Note.objects.using("hq").exists()


def test_what_was_logged_since_the_last_synchronization_is_pending_with_present_values(old):
    added = quietly(lambda: Note.objects.create(name="added", cash=5))
    changed = quietly(lambda: Agent.objects.create(code="J", cash=5))
    before = quietly(lambda: Note.objects.create(name="long ago"))
    old.checked()
    old.change(Note, before.pk, 1, date=CHECKED - dt.timedelta(hours=1))
    old.change(Note, added.pk, 1)
    old.change(Note, added.pk, 2, date=LATEST)
    old.change(Agent, changed.pk, 2)
    old.change(Note, 900, 1)
    old.change(Note, 900, 3, date=LATEST)  # added and deleted
    assert "took over 2 changes that were not synchronized yet" in migrate()
    assert pending() == [("add", "office.note", str(added.pk)), ("change", "office.agent", "J")]
    assert ChangeLog.objects.get(model="office.note").captured == round(LATEST.timestamp() * 1_000_000)
    call_command("synchronize", stdout=io.StringIO())
    assert list(Note.objects.using("hq").values_list("name", "cash")) == [("added", 5)]
    assert Agent.objects.using("hq").get().cash == 5


def test_deletions_find_their_objects_by_reference_and_by_old_key(old):
    for name in ("by key", "stays", "l"):
        quietly(lambda name=name: Town.objects.using("hq").create(name=name))
    note = quietly(lambda: Note.objects.using("hq").create(name="by reference"))
    old.checked()
    old.reference(Note, 3, note.pk)
    old.change(Note, 3, 3)
    old.change(Town, 4, 3, key="('by key',)")
    old.change(Town, 5, 3, key="(u'l',)")
    for pk, unreadable in enumerate(("(Decimal('x'),)", "(datetime.timedelta(10**12),)", "(f(),)", "(", "5"), 6):
        old.change(Town, pk, 3, key=unreadable)
    migrate()
    call_command("synchronize", stdout=io.StringIO())
    assert list(Town.objects.using("hq").values_list("name", flat=True)) == ["stays"]
    assert not Note.objects.using("hq").exists()


def test_a_key_may_hold_whatever_a_field_can_hold(old, settings):
    settings.SYNCHRO_MODELS = (("shop", "Note"),)
    settings.SYNCHRO_NATURAL_KEYS = {"shop.note": ["integer", "day", "price", "uid", "moment"]}
    moment = dt.datetime(2013, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC)
    uid = uuid.UUID(int=7)
    for price in ("1.5000", "2.5000"):
        held = {"integer": 5, "day": dt.date(2013, 1, 2), "price": Decimal(price), "uid": uid, "moment": moment}
        quietly(lambda held=held: ShopNote.objects.using("hq").create(**held))
    old.checked()
    key = f"(5L, datetime.date(2013, 1, 2), Decimal('1.5000'), {uid!r}, "
    old.change(ShopNote, 4, 3, key=key + "datetime.datetime(2013, 1, 2, 3, 4, 5, 6, tzinfo=<UTC>))")
    migrate()
    call_command("synchronize", stdout=io.StringIO())
    assert [note.price for note in ShopNote.objects.using("hq").all()] == [Decimal("2.5000")]


def test_keys_are_never_evaluated(old, tmp_path):
    old.checked()
    trap = tmp_path / "trap"
    old.change(Town, 4, 3, key=f"(open({str(trap)!r}, 'w'),)")
    migrate()
    assert pending() == [("delete", "office.town", "4")]
    assert not trap.exists()


def test_long_integers_of_python_2(old):
    quietly(lambda: Skill.objects.using("hq").create(level=12))
    old.checked()
    old.change(Skill, 4, 3, key="(12L,)")
    migrate()
    call_command("synchronize", stdout=io.StringIO())
    assert not Skill.objects.using("hq").exists()


def test_links_that_changed_are_sent_as_they_are(old):
    def make():
        made = Worker.objects.create(number=1)
        made.skills.add(Skill.objects.create(level=2))
        return made

    worker = quietly(make)
    old.checked()
    old.change(Worker, worker.pk, 4)
    migrate()
    call_command("synchronize", stdout=io.StringIO())
    assert [each.level for each in Worker.objects.using("hq").get().skills.all()] == [2]


@pytest.mark.parametrize(
    "text", ["2020-05-01 14:00:00", "01.05.2020 14:00:00", "01/05/2020 14:00:00"], ids=["en", "pl, de", "fr, es"]
)
@pytest.mark.parametrize("use_tz", [True, False])
def test_the_last_check_is_taken_over_whatever_language_it_was_written_in(old, text, use_tz, settings):
    settings.USE_TZ = use_tz
    old.checked(text)
    migrate()
    assert options.last_check.replace(tzinfo=None) == dt.datetime(2020, 5, 1, 12 if use_tz else 14)  # noqa: DTZ001
    assert timezone.is_aware(options.last_check) == use_tz


def test_without_a_last_check_everything_that_was_logged_is_pending(old):
    note = quietly(lambda: Note.objects.create(name="a"))
    old.change(Note, note.pk, 1, date=CHECKED - dt.timedelta(days=900))
    migrate()
    assert pending() == [("add", "office.note", str(note.pk))]


def test_the_old_tables_are_kept_under_other_names_and_taken_over_once(old):
    note = quietly(lambda: Note.objects.create(name="a"))
    old.change(Note, note.pk, 1)
    old.reference(Note, note.pk, 4)
    migrate()
    assert not tables() & set(OLD_TABLES)
    assert {"synchro_old_changelog", "synchro_old_deletekey", "synchro_old_reference"} <= tables()
    assert "took over" not in migrate()
    assert (len(pending()), RemoteReference.objects.count()) == (1, 1)


def test_without_a_remote_references_wait_until_there_is_one(old, settings):
    settings.SYNCHRO_REMOTE = None
    old.reference(Note, 3, 4)
    assert "left 1 references in synchro_reference" in migrate()
    assert "synchro_reference" in tables()
    settings.SYNCHRO_REMOTE = "hq"
    assert "took over 1 references" in migrate()
    assert "synchro_reference" not in tables()


def test_rows_of_models_that_are_gone_or_not_tracked_are_left_behind(old, settings):
    settings.SYNCHRO_MODELS = (("office", "Agent"),)
    gone = ContentType.objects.create(app_label="gone", model="thing").pk
    note = quietly(lambda: Note.objects.create(name="a"))
    old.change(Note, note.pk, 1)
    old.change(Agent, "nosuch", 2)
    old.run("INSERT INTO synchro_reference VALUES (77, '1', '2', %s)", gone)
    migrate()
    assert (pending(), RemoteReference.objects.count()) == ([], 0)


def test_what_cannot_be_taken_over_stays_and_is_tried_again(old, monkeypatch):
    """As where tables of tracked models are not up to date yet."""
    note = quietly(lambda: Note.objects.create(name="a"))
    old.change(Note, note.pk, 1)
    with monkeypatch.context() as patch:
        patch.setattr(legacy.serialize, "row_states", mock.Mock(side_effect=DatabaseError("no such column")))
        assert "were not taken over yet: no such column" in migrate()
    assert set(OLD_TABLES) <= tables()
    migrate()
    assert pending() == [("add", "office.note", str(note.pk))]


def test_migrations_of_the_project_s_own_making_do_no_harm(old):
    """0.5 to 0.7 brought none; who made some for them has their names among the applied ones."""
    recorder = MigrationRecorder(connections["default"])
    for name in ("0001_initial", "0002_auto"):
        recorder.record_applied("synchro", name)
    assert "took over 0 changes" in migrate()


@pytest.mark.skipif(not rolled_back, reason="this database commits whenever a table is made")
def test_remote_s_own_old_log_is_what_times_are_compared_with():
    old = Old("hq")
    for using in ("default", "hq"):
        quietly(lambda using=using: Agent.objects.using(using).create(code="J", cash=1))
    old.run("DROP TABLE synchro_reference")
    old.checked()
    old.change(Agent, "J", 2, date=timezone.now())
    assert "took over 1 changes" in migrate("hq")
    assert pending("hq") == [("change", "office.agent", "J")]


def test_nothing_happens_where_there_is_nothing_old():
    assert "synchro: " not in migrate()
    assert legacy.take_over(using="ship") is None


@pytest.mark.skipif(rolled_back, reason="for databases that commit whenever a table is made")
@pytest.mark.django_db(databases=["default", "hq", "ship"], transaction=True)
def test_the_same_where_making_a_table_commits():
    old = Old("default")
    try:
        note = quietly(lambda: Note.objects.create(name="a"))
        old.checked()
        old.reference(Note, note.pk, 50)
        old.change(Note, note.pk, 2)
        old.change(Town, 4, 3, key="('by key',)")
        assert "took over 1 references" in migrate()
        assert pending() == [("change", "office.note", str(note.pk)), ("delete", "office.town", "4")]
        assert RemoteReference.objects.get().remote_pk_text == "50"
        assert {"synchro_old_changelog", "synchro_old_deletekey", "synchro_old_reference"} <= tables()
        assert "took over" not in migrate()
    finally:
        for table in OLD_TABLES:
            for name in (table, table.replace("synchro_", "synchro_old_", 1)):
                old.run(f'DROP TABLE IF EXISTS "{name}"')
