"""Sealing: gapless positions, strictly increasing dates, bases, and rows never logged that a logged one points to."""

import json
import threading
import time
from unittest import mock

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from changelog_format import open_bundle
from changelog_format.dates import parse_date
from synchro import changelog, export_bundle, import_bundle, nodes, reset_synchro
from synchro.errors import ClockError
from synchro.models import ChangeLog, Node, Version, options
from synchro.seal import seal, tolerance
from synchro.status import status
from tests.app.logged import ALIASES, close_connections, log, tracking
from tests.project.odd.models import Label, Leaf, Sticker
from tests.project.shop.models import (
    City,
    Club,
    Country,
    Membership,
    Note,
    Parcel,
    Person,
    Place,
    Profile,
    Restaurant,
    Tag,
)

pytestmark = pytest.mark.django_db(databases=ALIASES)
MINUTE = 60_000_000


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still unless it is moved: `clock.now` in microseconds."""

    class Clock:
        now = time.time_ns() // 1000

    monkeypatch.setattr(changelog, "now", lambda: Clock.now)
    return Clock


def sealed(using="default"):
    return list(ChangeLog.objects.using(using).filter(log__isnull=False).order_by("seq"))


def told(using="default"):
    return [(each.action, each.model.partition(".")[2], each.pk_text) for each in sealed(using)]


# --- positions and dates ----------------------------------------------------------------------------------------------


def test_positions_are_gapless_and_in_the_order_of_the_log():
    for number in range(5):
        Tag.objects.create(name=str(number))
    ChangeLog.objects.filter(pk=ChangeLog.objects.all()[1].pk).delete()  # auto-increment ids have gaps
    node = seal("default")
    assert (node.seq, [each.seq for each in sealed()]) == (4, [1, 2, 3, 4])
    assert [each.pk for each in sealed()] == sorted(each.pk for each in sealed())
    Tag.objects.create(name="later")
    assert seal("default").seq == 5
    assert seal("default").seq == 5


def test_a_sealed_change_is_of_this_node_in_its_own_log():
    Tag.objects.create(name="t")
    node = seal("default")
    change = sealed()[0]
    assert (change.log_id, change.origin_id, change.origin_seq, change.seq) == (node.pk, node.pk, 1, 1)
    assert node.own
    assert node.current
    assert node.ident.startswith("office-")
    assert node.clock == change.date == change.captured


def test_dates_increase_strictly_although_the_clock_stands_still(clock):
    for number in range(5):
        Tag.objects.create(name=str(number))
    seal("default")
    assert [each.date for each in sealed()] == [clock.now + number for number in range(5)]


def test_dates_increase_strictly_although_the_clock_goes_back(clock):
    first = clock.now
    Tag.objects.create(name="a")
    clock.now -= MINUTE
    Tag.objects.create(name="b")
    seal("default")
    clock.now += 2 * MINUTE
    Tag.objects.create(name="c")
    seal("default")
    assert [each.date for each in sealed()] == [first, first + 1, clock.now]


def test_dates_are_those_of_the_capture_not_of_the_sealing(clock):
    Tag.objects.create(name="a")
    captured = clock.now
    clock.now += 60 * MINUTE
    seal("default")
    assert [each.date for each in sealed()] == [captured]


def test_l1_ids_are_not_commit_order(tmp_path):
    """A transaction that took id 10 commits after an export that saw 11."""
    Tag.objects.create(name="slow")
    slow = ChangeLog.objects.get()
    ChangeLog.objects.all().delete()
    Tag.objects.create(name="quick")
    assert ChangeLog.objects.get().pk > slow.pk
    first = export_bundle(tmp_path)
    slow.save(force_insert=True)
    second = export_bundle(tmp_path)
    names = []
    for report in (first, second):
        with open_bundle(report.file) as reader:
            names += [record.fields["name"] for record in reader]
    assert names == ["quick", "slow"]
    assert (first.to_seq, second.from_seq, second.to_seq) == (1, 1, 2)
    assert sealed()[0].date < sealed()[1].date


@pytest.mark.skipif(
    settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"), reason="SQLite has one writer at a time"
)
@pytest.mark.django_db(databases=ALIASES, transaction=True)
def test_l1_two_transactions(tmp_path):
    open_, go = threading.Event(), threading.Event()

    def slow():
        try:
            with transaction.atomic():
                Tag.objects.create(name="slow")
                open_.set()
                go.wait(20)
        finally:
            close_connections()

    thread = threading.Thread(target=slow)
    thread.start()
    try:
        assert open_.wait(20)
        Tag.objects.create(name="quick")
        first = export_bundle(tmp_path)
    finally:
        go.set()
        thread.join()
    second = export_bundle(tmp_path)
    assert (first.records, second.records) == (1, 1)
    with open_bundle(second.file) as reader:
        assert [record.fields["name"] for record in reader] == ["slow"]


# --- bases ------------------------------------------------------------------------------------------------------------


def test_the_base_is_the_version_that_a_change_was_made_on():
    tag = Tag.objects.create(name="a")
    tag.save()
    seal("default")
    tag.save()
    tag.delete()
    Tag.objects.create(pk=77, name="b")
    seal("default")
    changes = sealed()
    assert [each.base for each in changes] == [None, changes[0].date, changes[1].date, changes[2].date, None]
    node = nodes.own("default")
    assert [each.base_node for each in changes] == [None, node, node, node, None]


def test_links_have_bases_of_their_own():
    person, tag = Person.objects.create(name="p"), Tag.objects.create(name="t")
    person.tags.add(tag)
    person.save()
    person.tags.remove(tag)
    seal("default")
    changes = sealed()
    assert [each.action for each in changes] == ["add", "add", "link", "change", "unlink"]
    assert [each.base for each in changes] == [None, None, None, changes[0].date, changes[2].date]


def test_versions_hold_the_newest_change():
    tag = Tag.objects.create(name="a")
    tag.save()
    other = Tag.objects.create(name="b")
    pk = other.pk
    other.delete()
    seal("default")
    changes = sealed()
    found = {each.pk_text: (each.date, each.deleted, each.change_id) for each in Version.objects.all()}
    assert found == {
        str(tag.pk): (changes[1].date, False, changes[1].pk),
        str(pk): (changes[3].date, True, changes[3].pk),
    }


def test_the_parent_and_the_child_in_two_tables_have_one_history():
    restaurant = Restaurant.objects.create(name="r")
    Place.objects.get().save()
    restaurant.delete()
    seal("default")
    changes = sealed()
    assert [each.base for each in changes] == [None, changes[0].date, changes[1].date]
    assert Version.objects.get().root == "shop.place"


# --- the clock --------------------------------------------------------------------------------------------------------


def test_a_clock_beyond_the_tolerance_is_refused(clock):
    clock.now += 10 * MINUTE
    Tag.objects.create(name="from the future")
    clock.now -= 10 * MINUTE
    with pytest.raises(ClockError, match="ahead of this machine's"):
        seal("default")
    assert sealed() == []
    assert not Node.objects.filter(seq__gt=0).exists()
    clock.now += 5 * MINUTE
    assert seal("default").seq == 1


def test_the_tolerance_is_an_option(clock):
    assert tolerance() == 5 * MINUTE
    clock.now += 10 * MINUTE
    Tag.objects.create(name="from the future")
    clock.now -= 10 * MINUTE
    options.clock_tolerance = 700
    try:
        assert tolerance() == 700_000_000
        assert seal("default").seq == 1
        options.clock_tolerance = 0
        assert tolerance() == 0
    finally:
        options.clock_tolerance = 300


def test_an_import_raises_the_clock_so_that_a_later_edit_counts_as_later(clock, tmp_path):
    clock.now += 2 * MINUTE
    Country.objects.using("hq").create(code="PL", name="from hq, whose clock is fast")
    bundle = export_bundle(tmp_path, using="hq")
    clock.now -= 2 * MINUTE
    import_bundle(bundle.file)
    country = Country.objects.get()
    country.name = "edited on top of it"
    country.save()
    seal("default")
    imported, edited = sealed()
    assert edited.captured < imported.date < edited.date
    assert edited.base == imported.date


# --- transactions -----------------------------------------------------------------------------------------------------


@pytest.mark.django_db(databases=ALIASES, transaction=True)
def test_sealing_inside_a_transaction_is_refused():
    Tag.objects.create(name="t")
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        seal("default")
    assert sealed() == []
    assert seal("default").seq == 1


@pytest.mark.django_db(databases=ALIASES, transaction=True)
def test_sealing_writes_first_of_all():
    """On SQLite a transaction that reads first and writes later dies with "database is locked"."""
    Tag.objects.create(name="t")
    seal("default")
    Tag.objects.create(name="u")
    with CaptureQueriesContext(connection) as queries:
        seal("default")
    words = [query["sql"].split()[:2] for query in queries]
    assert words[0][0] == "BEGIN"
    writes = [each for each in words[1:] if each != ["SET", "TRANSACTION"]]
    assert writes[0] == ["UPDATE", connection.ops.quote_name(Node._meta.db_table)]


def test_the_number_of_queries_does_not_grow_with_the_changes():
    counts = []
    country = Country.objects.create(code="PL")
    Tag.objects.create(name="t")
    person = Person.objects.create(name="p")
    seal("default")
    for number in (10, 500):
        for each in range(number):
            city = City.objects.create(name=f"{number} {each}", country=country)
            city.save()
            person.tags.create(name=f"{number} {each}")
        with CaptureQueriesContext(connection) as queries:
            seal("default")
        counts.append(len(queries))
    # 1,500 changes make two chunks instead of one.
    assert counts[1] <= 2 * counts[0]
    for number in (10, 300):
        for each in range(number):
            Note.objects.create(integer=each)
        with CaptureQueriesContext(connection) as queries:
            seal("default")
        counts.append(len(queries))
    assert counts[2] == counts[3]


def test_the_number_of_queries_does_not_grow_with_the_rows_never_logged():
    counts = []
    for number in (5, 300):
        Country.objects.bulk_create([Country(code=chr(65 + n // 26) + chr(97 + n % 26)) for n in range(number)])
        people = [Person(name=f"{number} {n}") for n in range(number)]
        Person.objects.bulk_create(people)
        for each, country in enumerate(Country.objects.all()):
            City.objects.create(name=f"{number} {each}", country=country)
        for person in Person.objects.filter(name__startswith=f"{number} "):
            Parcel.objects.create(code=f"{number}-{person.pk}", sender=person)
        with CaptureQueriesContext(connection) as queries:
            seal("default")
        counts.append(len(queries))
        Country.objects.all().delete()
        seal("default")
    assert counts[1] <= counts[0]


# --- rows never logged ------------------------------------------------------------------------------------------------


def unlogged(model, **values):
    """A row that was there before synchro was."""
    model.objects.bulk_create([model(**values)])
    return model.objects.latest("pk")


def test_a_row_never_logged_that_a_logged_one_points_to_is_logged_first():
    country = unlogged(Country, code="PL", name="Polska")
    unlogged(Country, code="DE")
    city = City.objects.create(name="W", country=country)
    seal("default")
    assert told() == [("add", "country", str(country.pk)), ("add", "city", str(city.pk))]
    assert log(model=Country)[0].state == {"code": "PL", "name": "Polska"}
    city.save()
    seal("default")
    assert len(told()) == 3


def test_a_chain_of_rows_never_logged():
    country = unlogged(Country, code="PL")
    city = unlogged(City, name="W", country=country)
    boss = unlogged(Person, name="boss", city=city)
    clerk = unlogged(Person, name="clerk", boss=boss)
    parcel = Parcel.objects.create(code="x", sender=clerk)
    seal("default")
    assert told() == [
        ("add", "country", str(country.pk)),
        ("add", "city", str(city.pk)),
        ("add", "person", str(boss.pk)),
        ("add", "person", str(clerk.pk)),
        ("add", "parcel", parcel.pk),
    ]


def test_a_cycle_of_rows_never_logged():
    first, second = unlogged(Person, name="a"), unlogged(Person, name="b")
    Person.objects.filter(pk=first.pk).update(boss=second)
    Person.objects.filter(pk=second.pk).update(boss=first)
    self = unlogged(Person, name="c")
    Person.objects.filter(pk=self.pk).update(boss=self)
    Parcel.objects.create(code="x", sender=first)
    Parcel.objects.create(code="y", sender=self)
    seal("default")
    assert sorted(told()[:3]) == sorted(("add", "person", str(each.pk)) for each in (first, second, self))
    assert told()[3:] == [("add", "parcel", "x"), ("add", "parcel", "y")]


def test_both_ends_of_a_link_that_were_never_logged():
    person, tag, profiled = unlogged(Person, name="p"), unlogged(Tag, name="t"), unlogged(Person, name="q")
    person.tags.add(tag)
    Profile.objects.create(person=profiled)
    seal("default")
    assert sorted(told()[:3]) == sorted(
        [("add", "person", str(person.pk)), ("add", "tag", str(tag.pk)), ("add", "person", str(profiled.pk))]
    )
    assert told()[3:] == [("link", "person", str(person.pk)), ("add", "profile", str(profiled.pk))]


@pytest.mark.skipif(
    not connection.features.can_defer_constraint_checks, reason="this database checks foreign keys at each statement"
)
def test_a_target_that_is_gone_by_now():
    country = unlogged(Country, code="PL")
    city = City.objects.create(name="W", country=country)
    Country.objects.filter(pk=country.pk)._raw_delete("default")  # past the log, constraints are checked at the end
    City.objects.filter(pk=city.pk)._raw_delete("default")
    seal("default")
    assert told() == [("add", "city", str(city.pk))]


def test_a_target_that_waits_itself_is_not_logged_twice():
    country = Country.objects.create(code="PL")
    City.objects.create(name="W", country=country)
    seal("default")
    assert [each[:2] for each in told()] == [("add", "country"), ("add", "city")]


def test_a_target_in_two_tables_is_logged_as_the_child_that_it_is():
    with tracking("odd"):
        leaf = Leaf(name="l", size=3)
        with changelog_off():
            leaf.save()
        other = Leaf.objects.create(name="m")
        other.friends.add(leaf.pk)
        seal("default")
        assert told()[0] == ("add", "leaf", str(leaf.pk))
        assert log()[2].state == {"name": "l", "owner": None, "size": 3, "color": "green"}


def changelog_off():
    from synchro import DisableSynchroLog

    return DisableSynchroLog()


def test_a_target_by_another_field_than_its_key():
    with tracking("odd"):
        label = unlogged(Label, name="l")
        sticker = Sticker.objects.create(label=label)
        seal("default")
        assert told() == [("add", "label", str(label.pk)), ("add", "sticker", str(sticker.pk))]


def test_targets_of_explicit_through_rows():
    club, person = unlogged(Club, name="c"), unlogged(Person, name="p")
    club.members.add(person)
    seal("default")
    assert sorted(told()[:2]) == [("add", "club", str(club.pk)), ("add", "person", str(person.pk))]
    assert told()[2] == ("add", "membership", str(Membership.objects.get().pk))


def test_a_deletion_needs_no_target():
    country = unlogged(Country, code="PL")
    city = unlogged(City, name="W", country=country)
    city.delete()
    seal("default")
    assert [each[:2] for each in told()] == [("delete", "city")]


def test_rows_never_logged_do_not_push_the_dates_of_the_others(clock):
    """Else an edit of ten o'clock, exported at noon, would beat one that another node made at eleven."""
    country = unlogged(Country, code="PL")
    City.objects.create(name="W", country=country)
    captured = clock.now
    clock.now += 60 * MINUTE
    seal("default")
    first, second = sealed()
    assert (first.model, first.date, second.date) == ("shop.country", captured, captured + 1)


@pytest.mark.skipif(connection.vendor == "mysql", reason="MariaDB refuses JSON that nests deeper than 32")
def test_a_value_that_cannot_be_carried_is_named():
    from synchro.errors import UnloggableValueError

    value = None
    for _ in range(120):
        value = [value]
    country = unlogged(Country, code="PL")
    city = unlogged(City, name="W", country=country, extra=value)
    Person.objects.create(name="p", city=city)
    with pytest.raises(UnloggableValueError, match=rf"shop\.city {city.pk} cannot be logged: extra: "):
        seal("default")
    assert sealed() == []


# --- nodes ------------------------------------------------------------------------------------------------------------


def test_a_database_without_changes_gets_its_node_at_the_first_sealing():
    node = seal("default")
    assert node.seq == 0
    assert seal("default").ident == node.ident
    assert Node.objects.count() == 1


def test_a_copied_database_gets_an_id_of_its_own(tmp_path):
    tag = Tag.objects.create(name="t")
    bundle = export_bundle(tmp_path)
    old = nodes.own("default")
    with override_settings(SYNCHRO_NODE="branch"):
        tag.save()
        node = seal("default")
        assert node.ident.startswith("branch-")
        assert (node.seq, node.clock > old.clock) == (1, True)
        assert export_bundle(tmp_path).from_seq == 0
        with open_bundle(export_bundle(tmp_path, to="again").file) as reader:
            (change,) = reader
        assert change.id == f"{old.ident}/{tag.pk}"  # it was born there
        assert parse_date(change.base) == old.clock
    old.refresh_from_db()
    assert not old.own
    assert (old.taken_seq, old.taken_date) == (1, old.clock)
    with override_settings(SYNCHRO_NODE="branch"):
        assert import_bundle(bundle.file).already_known == 1


def test_a_reset_goes_on_with_the_positions():
    Tag.objects.create(name="t")
    seal("default")
    Tag.objects.create(name="pending")
    reset_synchro()
    assert ChangeLog.objects.count() == 0
    assert nodes.own("default").seq == 2
    Tag.objects.create(name="u")
    assert seal("default").seq == 3


def test_l4_nothing_to_export_with_the_reasons(tmp_path):
    assert export_bundle(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    Tag.objects.create(name="t")
    found = status()
    assert (found.pending, found.paused, found.seq) == (1, False, 0)
    assert "shop.tag" in found.models
    export_bundle(tmp_path)
    found = status()
    assert (found.pending, found.seq) == (0, 1)
    assert [(each.name, each.seq, each.waiting) for each in found.destinations] == [("default", 1, 0)]
    with changelog_off():
        assert status().paused


@pytest.mark.django_db(databases=ALIASES)
def test_a_change_committed_while_targets_are_logged_stays_behind_what_was_before_it():
    country = Country(code="PL")
    Country.objects.bulk_create([country])
    City.objects.create(name="a", country=Country.objects.get())
    tag = Tag.objects.create(name="first")
    log_objects = changelog.log_objects

    def somebody_saves(*args, **options):
        tag.name = "second"
        tag.save()
        return log_objects(*args, **options)

    with mock.patch.object(changelog, "log_objects", somebody_saves):
        seal("default")
    names = [json.loads(each.payload)["name"] for each in sealed() if each.model == "shop.tag"]
    assert names == ["first", "second"]
    assert [each.model for each in sealed()][:2] == ["shop.country", "shop.city"]
    second = sealed()[-1]
    assert second.date == second.captured


def test_a_second_reset_leaves_the_date_at_its_position_as_it_was():
    Tag.objects.create(name="a")
    reset_synchro()
    node = Node.objects.get(current=True)
    Node.objects.filter(current=True).update(clock=node.clock + 1_000_000)  # as an import raises it
    reset_synchro()
    assert Node.objects.get(current=True).reset_date == node.reset_date
    assert node.reset_date is not None
