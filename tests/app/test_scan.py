"""Scanning finds what was written past the log, logs it once, and finds nothing where there is nothing."""

import datetime as dt
import io
import json
import uuid
from decimal import Decimal
from unittest import mock

import pytest
from django.core.management import CommandError, call_command
from django.db import connections, models
from django.db.models import F, QuerySet

from synchro import DisableSynchroLog, registry, reset_synchro, serialize
from synchro.models import ChangeLog, Conflict, Version
from synchro.scanning import scan
from synchro.seal import seal
from tests.app.deploy import (
    assert_same,
    at,
    brought,
    carry,
    everything,
    log,
    queries,
    rolled_back,
    take,
    write,
)
from tests.app.logged import tracking
from tests.project.odd.models import Base, Label, Leaf, Middle, Seat, Sticker, Thing
from tests.project.plain.models import Color
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

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])


def counts(report):
    names = ("added", "changed", "deleted", "linked", "unlinked")
    return {name: number for name in names if (number := getattr(report, name))}


def populate(using="default"):
    """Rows of every tracked model, and links of every kind."""

    def make(model, **values):
        instance = model(**values)
        instance.save(using=using)
        return instance

    poland = make(Country, code="PL", name="Polska")
    wroclaw = make(City, name="Wrocław", country=poland, latitude=Decimal("51.11"), founded=dt.date(1000, 1, 1),
                   extra={"k": [1, 2.5, None, "ż"]}, visits=3)  # fmt: skip
    ann = make(Person, name="Ann", city=wroclaw)
    bob = make(Person, name="Bob", boss=ann)
    tag = make(Tag, name="t")
    ann.tags.add(tag)
    ann.friends.add(bob)
    make(Profile, person=ann, bio="…")
    make(Device, id=uuid.uuid4(), name="d", owner=bob)
    make(Parcel, code="x-1", weight=Decimal("1.5"), sender=ann)
    club = make(Club, name="c")
    make(Membership, person=bob, club=club, role="boss")
    note = make(
        Note, integer=-1, big=2**62, small=7, real=0.1, price=Decimal("1.2345"), done=True, char="é", text="😀",
        day=dt.date(2020, 2, 29), moment=dt.datetime(2020, 1, 1, 1, 2, 3, 4, tzinfo=dt.UTC), hour=dt.time(1, 2, 3, 4),
        length=dt.timedelta(days=-1, microseconds=1), uid=uuid.uuid4(), blob=b"\0\xff", data={"b": 1, "a": [1.5]},
        slug="s", url="http://a.b/", email="a@b.c", ip="::1", file="notes/a.txt",
    )  # fmt: skip
    make(Note, data=models.Value(None, models.JSONField()))
    make(Stamp, name="s")
    make(Place, name="p", city=wroclaw)
    make(Restaurant, name="r", stars=3)
    make(Car, plate="1", color=Color.objects.using(using).create(name="red"))
    return note


def insert_all(using="default"):
    """The same, past the log."""
    with DisableSynchroLog():
        populate(using)


# --- L5 ---------------------------------------------------------------------------------------------------------------


def test_l5_rows_from_before_the_installation_are_logged_and_arrive():
    insert_all()
    assert not ChangeLog.objects.exists()
    report = scan()
    assert counts(report) == {"added": 16, "linked": 2}
    assert report.models["shop.person"] == {"added": 2, "linked": 2}
    arrived = carry()
    assert arrived.held == 0
    assert_same("default", "hq")


def test_l5_update_raw_sql_and_bulk_operations_arrive():
    populate()
    carry()
    City.objects.update(population=F("population") + 7)
    with connections["default"].cursor() as cursor:
        cursor.execute("UPDATE shop_person SET name = 'raw' WHERE name = 'Bob'")
    Tag.objects.bulk_create([Tag(name="bulk"), Tag(name="more")])
    Parcel.objects.all()._raw_delete("default")
    Person.tags.through.objects.all().delete()
    Person.friends.through.objects.all()._raw_delete("default")
    assert counts(scan()) == {"added": 2, "changed": 2, "deleted": 1, "unlinked": 2}
    assert carry().held == 0
    assert_same("default", "hq")
    assert counts(scan()) == {}


def test_a_scan_after_a_scan_or_after_an_import_logs_nothing_whatever_the_model():
    populate()
    assert {registry.by_label(label) for label in Version.objects.values_list("root", flat=True)} <= registry.tracked()
    assert counts(scan()) == {}
    insert_all("ship")
    assert counts(scan(using="ship"))["added"] == 16
    assert counts(scan(using="ship")) == {}
    carry()
    assert {e.model for e in ChangeLog.objects.using("hq")} == {m._meta.label_lower for m in registry.tracked()}
    assert counts(scan(using="hq")) == {}
    carry("hq", "ship")
    assert counts(scan(using="ship")) == {}


def test_an_imported_row_that_was_changed_past_the_log_is_found():
    populate()
    carry()
    at(Parcel).update(weight=9)
    at(Person).filter(name="Bob").update(boss=None)
    at(Membership).all()._raw_delete("hq")
    at(Car).update(color=Color.objects.using("hq").create(name="blue"))
    assert counts(scan(using="hq")) == {"changed": 3, "deleted": 1}
    carry("hq", "default")
    assert_same("default", "hq")
    assert not Conflict.objects.exists()


def test_renaming_a_target_changes_nothing_that_points_to_it():
    """The records that arrived name it by its old natural key."""
    populate()
    carry()
    at(Country).update(code="PO")
    assert counts(scan(using="hq")) == {"changed": 1}


def test_after_a_reset_only_what_was_changed_since_is_found():
    populate()
    carry()
    Note.objects.filter(integer=-1).update(integer=5)  # everything up to the reset counts as synchronized
    for using in ("default", "hq"):
        reset_synchro(using)
        assert counts(scan(using=using)) == {}
        at(City, using).update(population=1)
        at(Stamp, using).all()._raw_delete(using)
        assert counts(scan(using=using)) == {"changed": 1, "deleted": 1}
        assert counts(scan(using=using)) == {}


def test_what_is_pending_is_not_logged_twice():
    person = Person.objects.create(name="a")
    Tag.objects.create(name="t")
    before = ChangeLog.objects.count()
    assert counts(scan(dry_run=True)) == {}
    assert counts(scan()) == {}
    person.name = "b"
    person.save()
    assert counts(scan(dry_run=True)) == {}
    assert ChangeLog.objects.count() == before + 1


def test_a_deleted_row_that_is_back_is_logged_as_added():
    parcel = Parcel.objects.create(code="x")
    parcel.delete()
    Parcel.objects.bulk_create([Parcel(code="x", weight=2)])
    assert counts(scan()) == {"added": 1}
    carry()
    assert_same("default", "hq")


def test_links_of_objects_that_are_gone_are_left_to_the_log():
    person = Person.objects.create(name="a")
    person.tags.add(Tag.objects.create(name="t"))
    carry()
    Person.tags.through.objects.all()._raw_delete("default")
    Person.objects.all()._raw_delete("default")
    assert counts(scan()) == {"deleted": 1}
    assert carry().held == 0
    assert_same("default", "hq")


# --- order ------------------------------------------------------------------------------------------------------------


def test_parents_come_before_children_and_children_are_deleted_before_parents():
    insert_all()
    scan()
    order = [model for action, model, _, _ in log() if action == "add"]
    for child, parent in (
        ("shop.city", "shop.country"),
        ("shop.device", "shop.person"),
        ("shop.profile", "shop.person"),
        ("shop.membership", "shop.club"),
        ("shop.place", "shop.city"),
    ):
        assert order.index(child) > max(n for n, model in enumerate(order) if model == parent)
    start = len(log())
    with DisableSynchroLog():
        for model in (Profile, Device, Membership, Parcel, Restaurant, Place):
            model.objects.all().delete()
        Person.objects.update(boss=None)
        Person.objects.all().delete()
        City.objects.all().delete()
        Country.objects.all().delete()
    scan()
    order = [model for _, model, _, _ in log()][start:]
    assert order.index("shop.city") > max(n for n, model in enumerate(order) if model == "shop.person")
    assert order.index("shop.country") > order.index("shop.city")


def test_rows_of_one_model_come_after_those_that_they_point_to():
    Person.objects.bulk_create([Person(pk=n, name=str(n)) for n in range(1, 6)])
    for pk, boss in ((1, 5), (5, 2), (2, 4)):
        Person.objects.filter(pk=pk).update(boss=boss)
    scan()
    order = [int(pk) for _, _, pk, _ in log()]
    assert order.index(4) < order.index(2) < order.index(5) < order.index(1)
    data, _ = write()
    assert brought(take(data)) == {"added": 5}


# --- multi-table objects ----------------------------------------------------------------------------------------------


def test_a_multi_table_object_is_found_whichever_of_its_tables_was_written():
    restaurant = Restaurant.objects.create(name="r", stars=1)
    Place.objects.create(name="p")
    QuerySet(Place, using="default").filter(pk=restaurant.pk).update(name="x")
    assert scan().models == {"shop.restaurant": {"changed": 1}}
    QuerySet(Restaurant, using="default").update(stars=2)
    assert scan().models == {"shop.restaurant": {"changed": 1}}
    carry()
    assert_same("default", "hq")


def test_a_child_row_that_comes_or_goes_is_found():
    place = Place.objects.create(name="p")
    with connections["default"].cursor() as cursor:
        cursor.execute("INSERT INTO shop_restaurant (place_ptr_id, stars) VALUES (%s, 4)", [place.pk])
    assert scan().models == {"shop.restaurant": {"added": 1}}
    carry()
    assert_same("default", "hq")
    with connections["default"].cursor() as cursor:
        cursor.execute("DELETE FROM shop_restaurant")
    assert scan().models == {"shop.restaurant": {"deleted": 1}, "shop.place": {"added": 1}}
    carry()
    assert_same("default", "hq")
    assert counts(scan()) == {}


def test_three_levels_keys_of_several_parts_and_foreign_keys_to_other_columns():
    with tracking("odd"):
        with DisableSynchroLog():
            label = Label.objects.create(name="l")
            Sticker.objects.create(label=label)
            Leaf.objects.create(name="leaf", owner=label).friends.add(Middle.objects.create(name="m"))
            Base.objects.create(name="b")
            Seat.objects.create(hall=1, number="a")
            one, other = (Thing.objects.create(id=uuid.uuid4()) for _ in range(2))
            one.near.add(other)
        assert counts(scan()) == {"added": 8, "linked": 2}
        assert counts(scan()) == {}
        assert carry().held == 0
        assert_same("default", "hq")
        assert counts(scan(using="hq")) == {}
        at(Seat).update(taken=True)
        at(Base).filter(name="leaf").update(owner=None)
        at(Thing.near.through).all()._raw_delete("hq")
        assert counts(scan(using="hq")) == {"changed": 2, "unlinked": 1}


# --- what it costs ----------------------------------------------------------------------------------------------------


def test_queries_do_not_grow_with_rows():
    def scanned(number):
        with rolled_back("default"):
            with DisableSynchroLog():
                tag = Tag.objects.create(name="t")
                for n in range(number):
                    person = Person.objects.create(name=str(n))
                    person.tags.add(tag)
            seal("default")
            found, _ = queries("default", lambda: scan(["shop.person"]))
            again, _ = queries("default", lambda: scan(["shop.person"]))
            Person.objects.update(name="x")
            Person.tags.through.objects.all()._raw_delete("default")
            changed, _ = queries("default", lambda: scan(["shop.person"]))
            return found, again, changed

    scanned(1)  # what is asked once a process is asked
    assert scanned(3) == scanned(40)


def test_chunk_by_chunk_it_finds_the_same():
    insert_all()
    with mock.patch.object(serialize, "CHUNK", 1):
        assert counts(scan()) == {"added": 16, "linked": 2}
        City.objects.update(population=3)
        Person.friends.through.objects.all()._raw_delete("default")
        Parcel.objects.all()._raw_delete("default")
        assert counts(scan()) == {"changed": 1, "deleted": 1, "unlinked": 1}
        assert counts(scan()) == {}
    carry()
    assert_same("default", "hq")


# --- the command ------------------------------------------------------------------------------------------------------


def run(*args):
    out = io.StringIO()
    call_command("synchro_scan", *args, stdout=out, no_color=True)
    return out.getvalue()


def test_the_command_says_what_it_found():
    Tag.objects.bulk_create([Tag(name="a"), Tag(name="b")])
    Club.objects.bulk_create([Club(name="c")])
    before = everything("default")
    assert run("--dry-run", "shop.tag") == "shop.tag: 2 added\n2 changes would be logged.\n"
    assert everything("default") == before
    assert json.loads(run("shop.Tag", "--json")) == {
        "added": 2, "changed": 0, "deleted": 0, "linked": 0, "unlinked": 0, "dry_run": False,
        "models": {"shop.tag": {"added": 2}},
    }  # fmt: skip
    assert run() == "shop.club: 1 added\n1 change was logged.\n"
    assert run() == "The log says what the tables hold.\n"


def test_what_is_not_tracked_is_refused_by_name():
    with pytest.raises(CommandError, match=r"plain\.color names nothing that is tracked"):
        run("plain.color")
    assert counts(scan([Tag])) == counts(scan(["tests.project.shop"])) == {}


def test_only_what_is_named_is_looked_at():
    insert_all()
    assert counts(scan([Tag])) == {"added": 1}
    assert {model for _, model, _, _ in log()} == {"shop.tag"}


@pytest.mark.django_db(transaction=True, databases=["default"])
def test_inside_a_transaction_it_is_refused():
    from django.db import transaction

    with transaction.atomic(), pytest.raises(RuntimeError):
        scan()
