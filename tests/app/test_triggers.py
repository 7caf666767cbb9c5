"""The touch triggers: whatever writes to a tracked table, past Django or not, reaches the other deployment."""

import io
import threading
import uuid

import pytest
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.db import connection, connections, models, transaction
from django.db.models import F, QuerySet
from django.test import override_settings

from synchro import DisableSynchroLog, conf, disable_synchro_log, touches, triggers
from synchro.models import ChangeLog, Conflict, Touch
from synchro.seal import seal
from tests.app.deploy import assert_same, at, brought, carry, log
from tests.app.logged import tracking
from tests.app.test_scan import insert_all, populate
from tests.project.odd.models import Base, Label, Leaf, Measure, Seat, Sticker, Thing
from tests.project.shop.models import (
    Car,
    City,
    Club,
    Country,
    Device,
    Membership,
    Note,
    Parcel,
    Person,
    Place,
    Profile,
    Restaurant,
    Stamp,
    Tag,
)

VENDOR = connections["default"].vendor
ALIASES = ("default", "hq")
pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])
# On MariaDB and MySQL creating a trigger ends the transaction.
creates_triggers = pytest.mark.django_db(transaction=VENDOR == "mysql", databases=["default", "hq", "ship"])


@pytest.fixture(scope="module")
def installed(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        for alias in ALIASES:
            with override_settings(SYNCHRO_TRIGGERS=True):
                triggers.install(alias)
        yield
        for alias in ALIASES:
            triggers.remove(alias)


@pytest.fixture
def watched(installed, _django_db_helper):
    with override_settings(SYNCHRO_TRIGGERS=True):
        for alias in ALIASES:
            if not triggers.check(alias).in_line:  # a test before emptied the tables, which sends post_migrate
                triggers.install(alias)
        yield


@pytest.fixture
def put_back(watched):
    """For tests that create and drop triggers."""
    yield
    if VENDOR == "mysql":
        for alias in ALIASES:
            triggers.install(alias)


def sql(text, *params, using="default"):
    with connections[using].cursor() as cursor:
        cursor.execute(text, params)


def notes(using="default"):
    return sorted(Touch.objects.using(using).values_list("model", "key"))


def settled(using="default"):
    """How many changes sealing logs, beside what was captured."""
    before = ChangeLog.objects.using(using).count()
    seal(using)
    assert not notes(using)
    return ChangeLog.objects.using(using).count() - before


def arrives():
    report = carry()
    assert report is None or (report.held, report.conflicts) == (0, 0)
    assert not notes("default")
    assert not notes("hq")  # what an import writes leaves none
    assert_same("default", "hq")
    assert settled("hq") == 0


# --- what is noted ----------------------------------------------------------------------------------------------------


def test_a_captured_change_is_noted_and_not_logged_twice(watched):
    note = populate()
    assert ("shop.note", str(note.pk)) in notes()
    assert settled() == 0
    person = Person.objects.get(name="Ann")
    person.name = "x"
    person.save()
    person.tags.clear()
    Device.objects.get().delete()
    assert settled() == 0
    arrives()


def test_raw_sql_is_logged(watched):
    populate()
    seal("default")
    sql("UPDATE shop_person SET name = 'raw' WHERE name = 'Ann'")
    assert notes() == [("shop.person", str(Person.objects.get(name="raw").pk))]
    assert settled() == 1
    sql("INSERT INTO shop_tag (name) VALUES ('raw')")
    sql("DELETE FROM shop_parcel")
    assert settled() == 2
    arrives()


def test_what_a_noted_row_points_to_is_logged_too(watched):
    insert_all()
    sql("UPDATE shop_city SET population = 5")
    assert settled() == 2  # with its country
    assert carry().added == 2


def test_a_key_that_changes_is_noted_as_both(watched):
    Parcel.objects.create(code="old")
    seal("default")
    sql("UPDATE shop_parcel SET code = 'new'")
    assert notes() == [("shop.parcel", "new"), ("shop.parcel", "old")]
    assert settled() == 2
    assert [entry[0] for entry in log()[-2:]] == ["delete", "add"]
    arrives()


def test_what_stays_at_home_is_not_logged(watched):
    populate()
    seal("default")
    City.objects.update(visits=99)
    assert settled() == 0


def test_nothing_is_noted_of_what_rolls_back(watched):
    with transaction.atomic():
        Tag.objects.bulk_create([Tag(name="x")])
        transaction.set_rollback(True)
    assert not notes()


@pytest.mark.skipif(VENDOR != "postgresql", reason="only PostgreSQL's TRUNCATE fires triggers")
def test_truncate(watched):
    populate()
    carry()
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    sql("TRUNCATE shop_person_tags, shop_note")
    assert {("shop.note", None), ("shop.person_tags", None)} == set(notes())
    assert settled() == 3
    arrives()


def test_a_table_emptied_without_a_condition(watched):
    populate()
    carry()
    sql("DELETE FROM shop_note")
    sql("DELETE FROM shop_person_tags")
    assert settled() == 3
    arrives()


# --- paused -----------------------------------------------------------------------------------------------------------


def test_paused_code_leaves_no_notes(watched):
    insert_all()
    assert not notes()
    with DisableSynchroLog():
        Person.objects.update(name="paused")
        sql("UPDATE shop_tag SET name = 'paused'")
        Person.objects.get(boss=None).tags.clear()
        Person.objects.filter(boss=None).first().delete()
        Club.objects.bulk_create([Club(name=str(n)) for n in range(5)])
        Device.objects.all()._raw_delete("default")
        City.objects.update_or_create(name="x", defaults={"country": Country.objects.get()})
        for name in "ab":  # as often as a driver wants it to prepare the statement
            for _ in range(6):
                Tag.objects.filter(name=name).update(name=name)
    assert not notes()
    assert settled() == 0
    Tag.objects.update(name="seen")
    assert settled() == 1
    Tag.objects.filter(name="seen").update(name="twice")
    assert settled() == 1


def test_only_the_paused_part_of_a_transaction_is_left_out(watched):
    tags = [Tag.objects.create(name=name) for name in "abcd"]
    seal("default")
    with transaction.atomic():
        Tag.objects.filter(name="a").update(name="a1")
        with DisableSynchroLog():
            Tag.objects.filter(name="b").update(name="b1")
            with transaction.atomic():
                Tag.objects.filter(name="c").update(name="c1")
                transaction.set_rollback(True)
        Tag.objects.filter(name="d").update(name="d1")
    assert notes() == sorted([("shop.tag", str(tags[0].pk)), ("shop.tag", str(tags[3].pk))])
    assert settled() == 2


def test_triggers_that_are_switched_off_after_paused_code_note_again_when_they_are_switched_on(watched):
    Tag.objects.create(name="a")
    seal("default")
    with DisableSynchroLog():
        Tag.objects.update(name="b")  # the last statement that the session sees muted
    with override_settings(SYNCHRO_TRIGGERS=False):
        pass
    sql("UPDATE shop_tag SET name = 'c'")
    assert settled() == 1


def test_a_statement_that_fails_in_paused_code_does_not_silence_the_next(watched):
    Tag.objects.create(name="a")
    Tag.objects.create(name="b")
    seal("default")
    with DisableSynchroLog(), pytest.raises(Exception, match=r"(?i)unique|duplicate"), transaction.atomic():
        Tag.objects.filter(name="a").update(name="b")
    Tag.objects.filter(name="a").update(name="c")
    assert settled() == 1


@pytest.mark.django_db(transaction=True, databases=["default", "hq", "ship"])
def test_paused_code_leaves_no_notes_in_autocommit(watched):
    with DisableSynchroLog():
        tag = Tag.objects.create(name="a")
        tag.name = "b"
        tag.save()
        Tag.objects.update(name="c")
        sql("UPDATE shop_tag SET name = 'd'")
        with pytest.raises(Exception, match=r"(?i)no such|exist|unknown"):
            sql("UPDATE shop_tag SET nosuch = 1")
        assert not connection.in_atomic_block
        tag.delete()
    assert not notes()
    Tag.objects.bulk_create([Tag(name="e")])
    assert len(notes()) == 1
    with DisableSynchroLog():
        Tag.objects.update(name="f")
    assert len(notes()) == 1


def test_a_decorated_function_too(watched):
    @disable_synchro_log
    def recount():
        Club.objects.bulk_create([Club(name="x")])

    recount()
    assert not notes()


# --- everything that one can think of ---------------------------------------------------------------------------------


def test_l5_every_way_past_django(watched):
    populate()
    arrives()
    ann, bob = Person.objects.order_by("pk")[:2]
    # updates
    Note.objects.update(integer=F("integer") + 1, blob=b"x")
    Note.objects.filter(integer=1).update(data={"a": [1]})
    stamps = list(Stamp.objects.all())
    for stamp in stamps:
        stamp.name = "bulk"
    Stamp.objects.bulk_update(stamps, ["name"])
    sql("UPDATE shop_city SET population = population + 1")
    # insertions
    Country.objects.bulk_create([Country(code="DE"), Country(code="FR")])
    Country.objects.bulk_create([Country(code="DE"), Country(code="ES")], ignore_conflicts=True)
    conflict = {} if VENDOR == "mysql" else {"unique_fields": ["code"]}
    Country.objects.bulk_create(
        [Country(code="DE", name="Niemcy"), Country(code="IT")],
        update_conflicts=True,
        update_fields=["name"],
        **conflict,
    )
    sql("INSERT INTO shop_club (name) SELECT name FROM shop_person")
    # deletions
    Car.objects.all()._raw_delete("default")
    sql("DELETE FROM shop_device")
    # links
    Person.tags.through.objects.bulk_create([Person.tags.through(person=bob, tag=Tag.objects.get())])
    sql("DELETE FROM shop_person_tags WHERE person_id = %s", ann.pk)
    sql("INSERT INTO shop_person_friends (from_person_id, to_person_id) VALUES (%s, %s)", bob.pk, bob.pk)
    # rows of a through model, reverse foreign keys
    Club.objects.first().members.add(ann, through_defaults={"role": "new"})
    Club.objects.last().members.set([ann, bob])
    ann.staff.clear()
    bob.staff.add(ann)
    bob.staff.set([ann], clear=True)
    QuerySet(Membership, using="default").update(role="all")
    # several tables
    QuerySet(Place, using="default").update(name=F("name"))
    QuerySet(Place, using="default").filter(restaurant__isnull=False).update(name="below")
    Restaurant.objects.update(stars=5, name="both")
    place = Place.objects.create(name="turns into one")
    sql("INSERT INTO shop_restaurant (place_ptr_id, stars) VALUES (%s, 1)", place.pk)
    # what is set to NULL
    Parcel.objects.update(sender=bob)
    Place.objects.update(city=City.objects.first())
    sql("UPDATE shop_person SET city_id = NULL")
    City.objects.all().delete()
    arrives()
    sql("DELETE FROM shop_restaurant")
    Profile.objects.all()._raw_delete("default")
    Person.objects.filter(pk=ann.pk).delete()
    arrives()


@creates_triggers
@pytest.mark.skipif(not hasattr(models, "DB_CASCADE"), reason="Django has database cascades since 6.1")
def test_c12_cascades_in_the_database(put_back):
    from tests.project.odd.models import Feather, Wing

    with tracking("odd"):
        triggers.install("default")
        triggers.install("hq")
        labels = [Label.objects.create(name=name) for name in "abc"]
        wings = [Wing.objects.create(label=label) for label in labels]
        for wing in wings:
            Feather.objects.create(wing=wing, spare=wings[0])
        arrives()
        labels[0].delete()  # with its wing, the wing's feather, and the spare of the others
        assert (Wing.objects.count(), Feather.objects.filter(spare=None).count()) == (2, 2)
        arrives()
        sql("DELETE FROM odd_wing WHERE id = %s", wings[1].pk)
        arrives()
        with DisableSynchroLog():
            labels[2].delete()
        assert not notes()


@creates_triggers
def test_models_of_the_odd_kinds(put_back):
    with tracking("odd"):
        triggers.install("default")
        triggers.install("hq")
        Label.objects.bulk_create([Label(name="a"), Label(name="b")])
        Sticker.objects.bulk_create([Sticker(label=label) for label in Label.objects.all()])
        Seat.objects.bulk_create([Seat(hall=1, number='"quoted"'), Seat(hall=1, number="ż")])
        Measure.objects.bulk_create([Measure(width=3)])
        Thing.objects.bulk_create([Thing(id=uuid.UUID(int=1)), Thing(id=uuid.UUID(int=2))])
        near = Thing.near.through
        near.objects.bulk_create(
            [near(from_thing_id=uuid.UUID(int=n), to_thing_id=uuid.UUID(int=3 - n)) for n in (1, 2)]
        )
        with DisableSynchroLog():
            Leaf.objects.create(name="unseen")
        QuerySet(Base, using="default").update(name="leaf")
        arrives()
        Seat.objects.filter(number="ż").update(taken=True)
        QuerySet(Leaf, using="default").update(color="red", size=3, name="x")
        QuerySet(Base, using="default").update(owner=Label.objects.first())
        near.objects.all().delete()
        arrives()


def test_a1_a_tree_is_moved_by_raw_sql_though_unique_values_clash_on_the_way(watched):
    """Paths as of a tree library: unique, and shifted among the rows."""
    Tag.objects.bulk_create([Tag(name=f"000{n}") for n in range(1, 6)])
    arrives()
    rows = dict(Tag.objects.values_list("name", "pk"))
    with transaction.atomic():
        for name, pk in rows.items():
            sql("UPDATE shop_tag SET name = %s WHERE id = %s", f"moving {name}", pk)
        moved = ["0002", "0001", "0004", "0005", "0003"]  # a swap, and a cycle of three
        for (_, pk), name in zip(sorted(rows.items()), moved, strict=True):
            sql("UPDATE shop_tag SET name = %s WHERE id = %s", name, pk)
    arrives()


def test_a7_rows_of_a_through_model_made_by_add(watched):
    club = Club.objects.create(name="c")
    club.members.add(*(Person.objects.create(name=name) for name in "ab"), through_defaults={"role": "x"})
    arrives()
    Membership.objects.bulk_create([Membership(club=club, person=Person.objects.create(name="c"))])
    club.members.remove(Person.objects.get(name="a"))
    arrives()


def test_edits_on_the_other_side_come_back(watched):
    populate()
    arrives()
    at(Person).filter(name="Ann").update(name="hq")
    at(Parcel).all()._raw_delete("hq")
    assert brought(carry("hq", "default")).items() >= {"changed": 1, "deleted": 1}.items()
    assert not Conflict.objects.exists()
    assert_same("default", "hq")


# --- installing -------------------------------------------------------------------------------------------------------


def run(*args):
    out = io.StringIO()
    call_command("synchro_triggers", *args, stdout=out, no_color=True)
    return out.getvalue()


@creates_triggers
def test_the_command(put_back):
    triggers.remove("default")
    with pytest.raises(CommandError, match="synchro_triggers install"):
        run("check")
    assert "created, 0 stale ones removed." in run("install")
    assert "0 are missing, 0 are stale" in run("check")
    assert run("install").startswith("0 triggers created")
    with tracking(("shop", "tag")):
        state = triggers.check()
        assert len(state.installed) == (4 if VENDOR == "postgresql" else 3)
        assert state.stale
        assert not state.missing
        run("install")
        assert triggers.check().in_line
    run("install")
    assert "triggers removed" in run("remove")
    assert not triggers.check().installed


def test_status_says_what_is_noted(watched):
    sql("INSERT INTO shop_tag (name) VALUES ('raw')")
    out = io.StringIO()
    call_command("synchro_status", stdout=out)
    assert "0 pending, 1 write noted by triggers" in out.getvalue()


def test_without_the_setting_they_are_not_installed():
    with pytest.raises(CommandError, match="SYNCHRO_TRIGGERS is not set"):
        run("install")


@creates_triggers
def test_after_migrate_they_are_brought_in_line(put_back):
    seal("default")
    call_command("migrate", verbosity=0)
    assert triggers.check().in_line
    assert not notes()
    names = triggers._installed("default")
    with connection.cursor() as cursor:
        triggers._drop(cursor, {name for name, table in names if table == "shop_tag"}, "default")
    Tag.objects.bulk_create([Tag(name="unseen")])
    assert not triggers.check().in_line
    triggers.after_migrate("default")
    assert triggers.check().in_line
    assert notes() == [("shop.tag", None)]  # nobody knows what was written meanwhile
    assert settled() == 1
    with override_settings(SYNCHRO_TRIGGERS=False):
        triggers.after_migrate("default")
        assert triggers.check().in_line
    assert triggers.check().missing


@creates_triggers
def test_a_check_says_what_is_missing_or_stale(put_back):
    def said(**options):
        return [
            message.id
            for message in run_checks(databases=["default"])
            if message.id in {"synchro.W006", "synchro.W007"}
        ]

    assert said() == []
    with override_settings(SYNCHRO_TRIGGERS=False):
        assert said() == ["synchro.W007"]
    triggers.remove("default")
    assert said() == ["synchro.W006"]


def test_they_make_raw_the_way_to_apply():
    assert conf.apply_mode("shop.tag") == "save"
    with override_settings(SYNCHRO_TRIGGERS=True):
        assert conf.apply_mode("shop.tag") == "raw"
        with override_settings(SYNCHRO_APPLY={"shop.tag": "save"}):
            assert (conf.apply_mode("shop.tag"), conf.apply_mode("shop.city")) == ("save", "raw")


def test_keys_that_databases_spell_differently_are_noted_as_the_whole_table():
    class Odd(models.Model):
        at = models.DateTimeField(primary_key=True)

        class Meta:
            app_label = "plain"
            managed = False

    assert touches._is_textual(Tag._meta.pk)
    assert not touches._is_textual(Odd._meta.pk)
    from django.apps import apps

    del apps.all_models["plain"]["odd"]


# --- at the same time -------------------------------------------------------------------------------------------------

SERVER = VENDOR != "sqlite"


class Somebody:
    """A transaction of somebody else's, held open until it is told to end."""

    def __init__(self, work):
        self._go, written = threading.Event(), threading.Event()

        def run():
            with transaction.atomic():
                work()
                written.set()
                self._go.wait(20)
            connections.close_all()

        self._thread = threading.Thread(target=run)
        self._thread.start()
        assert written.wait(20)

    def end(self):
        self._go.set()
        self._thread.join(20)
        assert not self._thread.is_alive()


@pytest.mark.skipif(not SERVER, reason="SQLite has one writer at a time")
@pytest.mark.django_db(databases=["default", "hq", "ship"], transaction=True)
def test_nobody_is_waited_for_and_nothing_is_forgotten(watched):
    tags = [Tag.objects.create(name=name) for name in "ab"]
    seal("default")
    sql("UPDATE shop_tag SET name = 'noted' WHERE id = %s", tags[0].pk)
    somebody = Somebody(lambda: Tag.objects.filter(pk=tags[0].pk).update(name="theirs"))
    before = ChangeLog.objects.count()
    seal("default")  # the row is being written: its note stays for the next time
    assert (ChangeLog.objects.count(), notes()) == (before, [("shop.tag", str(tags[0].pk))])
    somebody.end()
    assert len(notes()) == 2
    assert settled() == 1
    arrives()


@pytest.mark.skipif(not SERVER, reason="SQLite has one writer at a time")
@pytest.mark.django_db(databases=["default", "hq", "ship"], transaction=True)
def test_a_pause_is_of_its_own_session_only(watched):
    Tag.objects.create(name="a")
    Tag.objects.create(name="b")
    seal("default")

    def work():
        with DisableSynchroLog():
            Tag.objects.filter(name="a").update(name="paused")

    somebody = Somebody(work)
    Tag.objects.filter(name="b").update(name="seen")
    somebody.end()
    assert settled() == 1


@pytest.mark.skipif(not SERVER, reason="SQLite has one writer at a time")
@pytest.mark.django_db(databases=["default", "hq", "ship"], transaction=True)
def test_a_captured_change_that_commits_late_is_logged_once(watched):
    tag = Tag.objects.create(name="a")
    seal("default")

    def work():
        mine = Tag.objects.get(pk=tag.pk)
        mine.name = "late"
        mine.save()

    somebody = Somebody(work)
    assert settled() == 0
    somebody.end()
    assert settled() == 0
    assert carry().records == 2
    assert_same("default", "hq")
