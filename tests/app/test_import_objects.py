"""What arrives is what left: keys, order, every kind of identity and relation."""

import pytest
from django.contrib.admin.models import ADDITION, LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.db.models import signals
from django.test import override_settings

from synchro import naturalkeys
from synchro.models import Conflict
from tests.app.deploy import (
    assert_same,
    at,
    brought,
    carry,
    checked_later,
    forged,
    listening,
    log,
    rolled_back,
    take,
    write,
)
from tests.project.odd.models import Base, Label, Leaf, Middle, Seat, Sticker, Ticket
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
    TagManager,
)

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])
HQ = "hq"


# --- I5 to I9: keys ---------------------------------------------------------------------------------------------------


def test_i5_a_renamed_natural_key_is_one_row_renamed():
    country = Country.objects.create(code="PL", name="Polska")
    City.objects.create(name="a", country=country)
    carry()
    number = at(Country).get().pk
    country.code = "RP"
    country.save()
    City.objects.create(name="b", country=country)
    assert brought(carry()) == {"changed": 1, "added": 1}
    assert at(Country).get().pk == number
    assert set(at(City).values_list("country_id", flat=True)) == {number}
    assert_same("default", "hq")


def test_i5_foreign_keys_from_before_and_after_a_rename_in_one_bundle():
    country = Country.objects.create(code="PL")
    City.objects.create(name="a", country=country)
    country.code = "RP"
    country.save()
    City.objects.create(name="b", country=country)
    carry()
    assert_same("default", "hq")


@pytest.mark.parametrize("chunk", [1000, 1])
def test_i6_two_unique_values_swapped(monkeypatch, chunk):
    monkeypatch.setattr("synchro.serialize.CHUNK", chunk)
    one, other = Tag.objects.create(name="a"), Tag.objects.create(name="b")
    carry()
    for tag, name in ((one, "between"), (other, "a"), (one, "b")):
        tag.name = name
        tag.save()
    report = carry()
    assert (report.changed, report.held) == (3, 0)
    assert_same("default", "hq")
    assert {tag.name for tag in at(Tag)} == {"a", "b"}


def test_i7_a_row_that_the_default_manager_hides_is_found(monkeypatch):
    def get_queryset(self):
        return super(TagManager, self).get_queryset().exclude(name="hidden")

    monkeypatch.setattr(TagManager, "get_queryset", get_queryset, raising=False)
    naturalkeys.clear_caches()
    try:
        Tag._base_manager.using(HQ).create(name="hidden")
        Tag.objects.create(name="hidden")
        report = carry()
        assert brought(report) == {"unchanged": 1, "merged": 1}
        assert Tag._base_manager.using(HQ).count() == 1
    finally:
        monkeypatch.undo()
        naturalkeys.clear_caches()


def test_i8_deleted_exported_and_created_again_is_alive():
    tag = Tag.objects.create(name="a")
    parcel = Parcel.objects.create(code="x", weight=1)
    carry()
    tag.delete()
    parcel.delete()
    assert brought(carry()) == {"deleted": 2}
    Tag.objects.create(name="a")
    Parcel.objects.create(code="x", weight=2)
    assert brought(carry()) == {"added": 2}
    assert_same("default", "hq")


@pytest.mark.parametrize("chunk", [1000, 1])
def test_i8_all_in_one_bundle(monkeypatch, chunk):
    monkeypatch.setattr("synchro.serialize.CHUNK", chunk)
    Parcel.objects.create(code="x", weight=1)
    carry()
    for number in range(3):
        Parcel.objects.get().delete()
        Parcel.objects.create(code="x", weight=number)
        Tag.objects.filter(name="a").delete()
        Tag.objects.create(name="a")
    carry()
    assert_same("default", "hq")


def test_i9_the_same_natural_key_on_both_sides_is_one_object():
    Tag.objects.create(name="a")
    at(Tag).create(name="a")
    assert brought(carry()) == {"stale": 1, "merged": 1}  # what is here is the later one, and says the same
    assert at(Tag).count() == 1
    carry(HQ, "default")
    assert Tag.objects.count() == 1
    assert_same("default", "hq")


def test_i9_without_a_natural_key_a_unique_value_on_both_sides_is_held():
    Car.objects.create(plate="1")
    at(Car).create(plate="1", color=at(Color).create(name="another"))
    report = carry()
    assert (report.held, report.added) == (1, 0)
    assert "plate" in report.held_changes[0].reason
    assert at(Car).count() == 1


# --- I10: order -------------------------------------------------------------------------------------------------------


def test_i10_an_object_that_points_to_itself():
    person = Person.objects.create(name="p")
    person.boss = person
    person.save()
    Person.objects.create(pk=77, name="at once", boss_id=77)
    assert carry().held == 0
    assert_same("default", "hq")


@checked_later
def test_i10_a_cycle_of_rows_that_were_never_logged():
    one, other = Person(pk=1, name="one", boss_id=2), Person(pk=2, name="other", boss_id=1)
    Person.objects.bulk_create([one, other])
    Device.objects.create(name="d", owner=one)
    report = carry()
    assert (report.added, report.held) == (3, 0)
    assert_same("default", "hq")


@checked_later
def test_i10_a_cycle_goes_in_although_another_record_is_bad():
    Person.objects.bulk_create([Person(pk=1, name="one", boss_id=2), Person(pk=2, name="other", boss_id=1)])
    Device.objects.create(name="d", owner_id=1)
    at(Car).create(plate="1", color=at(Color).create(name="another"))
    Car.objects.create(plate="1")
    report = carry()
    assert [held.model for held in report.held_changes] == ["shop.car"]
    assert report.added == 3


def test_i10_children_before_their_parents():
    person = Person.objects.create(name="p")
    Device.objects.create(name="d", owner=person)
    Profile.objects.create(person=person)
    club = Club.objects.create(name="c")
    Membership.objects.create(person=person, club=club)
    person.tags.add(Tag.objects.create(name="t"))
    data, _ = write()

    def backwards(header, found):
        for number, record in enumerate(found[::-1], 1):
            record["seq"] = number
        header["range"]["to"]["date"] = found[0]["date"]
        return found[::-1]

    report = take(forged(data, backwards))
    assert report.held == 0, report.held_changes
    assert_same("default", "hq")


@checked_later
def test_i10_handlers_do_not_change_that():
    with listening(Person, Device):
        Person.objects.bulk_create([Person(pk=1, name="one", boss_id=2), Person(pk=2, name="other", boss_id=1)])
        Device.objects.create(name="d", owner_id=1)
        report = carry()
    assert (report.added, report.held) == (3, 0)
    assert_same("default", "hq")


# --- I11 to I14 -------------------------------------------------------------------------------------------------------


def test_i12_automatic_keys_differ_and_the_next_insert_here_does_not_collide():
    at(Person).create(name="here")
    for name in "abc":
        Person.objects.create(name=name)
    carry()
    at(Person).create(name="next")
    assert at(Person).count() == 5
    assert len(set(at(Person).values_list("pk", flat=True))) == 5


@pytest.mark.parametrize("handlers", [False, True])
def test_i13_the_senders_times_are_kept(handlers):
    stamp = Stamp.objects.create(name="a")
    with listening(*([Stamp] if handlers else [])):
        carry()
        stamp.name = "b"
        stamp.save()
        carry()
    mine, theirs = Stamp.objects.get(), at(Stamp).get()
    assert (theirs.created, theirs.changed) == (mine.created, mine.changed)
    assert theirs.name == "b"


def test_i14_handlers_run_with_capture_paused_also_after_the_commit(django_capture_on_commit_callbacks):
    def follow(sender, instance, created, using, **kwargs):
        at(Club, using).create(name=f"of {instance.name}")
        transaction.on_commit(lambda: at(Note, using).create(char="later"), using=using)

    Person.objects.create(name="p")
    data, _ = write()
    signals.post_save.connect(follow, sender=Person)
    try:
        with django_capture_on_commit_callbacks(using=HQ, execute=True):
            # The test's own transaction ends after the import, so the pause is opened here as the import opens it.
            report = take(data)
    finally:
        signals.post_save.disconnect(follow, sender=Person)
    assert report.added == 1
    assert at(Club).get().name == "of p"
    assert [entry[1] for entry in log(HQ) if entry[1] == "shop.club"] == []


def test_i14_raw_apply_runs_no_handler():
    Person.objects.create(name="p")
    data, _ = write()
    with listening(Person) as told, override_settings(SYNCHRO_APPLY={"shop.person": "raw"}):
        take(data)
    assert told == []
    with rolled_back(), listening(Person) as told:
        Person.objects.create(name="q")
        carry()
    assert [each[0] for each in told if each[4] == HQ] == ["pre_save", "save"]
    assert [each[3] for each in told if each[4] == HQ] == [False, False]


# --- identities -------------------------------------------------------------------------------------------------------


def test_objects_are_told_apart_by_their_ids_alone():
    for _ in range(3):
        Person.objects.create(name="same")
    carry()
    one = Person.objects.order_by("pk")[1]
    one.name = "other"
    one.save()
    Person.objects.order_by("pk")[2].delete()
    carry()
    assert sorted(at(Person).values_list("name", flat=True)) == ["other", "same"]


def test_unlogged_rows_are_adopted_by_natural_key():
    at(Country).bulk_create([Country(code="PL", name="Polen")])
    country = Country.objects.create(code="PL", name="Polska")
    City.objects.create(name="a", country=country)
    number = at(Country).get().pk
    report = carry()
    assert (report.added, report.changed, report.merged) == (1, 1, 0)
    assert at(Country).get().pk == number
    assert_same("default", "hq")
    assert Conflict.objects.using(HQ).get().kind == "unlogged"


def test_explicit_keys_are_the_identity():
    device = Device.objects.create(name="d")
    at(Device).create(pk=device.pk, name="older")
    Parcel.objects.create(code="x", weight=3)
    at(Parcel).bulk_create([Parcel(code="x", weight=1)])
    carry()
    assert at(Device).count() == at(Parcel).count() == 1
    assert at(Parcel).get().weight == 3


def test_multi_table_objects_and_what_happens_to_their_parts():
    place = Place.objects.create(name="p")
    restaurant = Restaurant.objects.create(name="r", stars=2)
    carry()
    child = Restaurant(place_ptr=place, stars=5)
    child.__dict__.update(name="p", city_id=None)
    child.save()
    restaurant.place_ptr.name = "renamed through the parent"
    restaurant.place_ptr.save()
    carry()
    assert_same("default", "hq")
    child.delete(keep_parents=True)
    restaurant.delete()
    carry()
    assert_same("default", "hq")
    assert at(Place).get().name == "p"


@checked_later
@override_settings(SYNCHRO_MODELS=("shop", "odd"))
def test_deep_inheritance_composite_keys_and_keys_to_other_columns():
    label = Label.objects.create(name="first")
    Sticker.objects.create(label=label)
    leaf = Leaf.objects.create(name="l", size=3, owner=label)
    Middle.objects.create(name="m", size=1).friends.add(leaf)
    Base.objects.create(name="b")
    Seat.objects.create(hall=1, number="a")
    Seat.objects.create(hall=1, number="b")
    ticket = Ticket.objects.create(code='odd/ {"text": 1} ☃' + "x" * 150)
    Ticket.objects.create(code="2", follows=ticket)
    assert carry().held == 0
    assert_same("default", "hq")
    label.name = "second"
    label.save()
    Sticker.objects.update(label=label)
    for sticker in Sticker.objects.all():
        sticker.save()
    Seat.objects.filter(number="a").delete()
    seat = Seat.objects.get()
    seat.taken = True
    seat.save()
    leaf.size = 4
    leaf.save()
    ticket.delete()
    assert carry().held == 0
    assert_same("default", "hq")


def test_untracked_targets_are_created_once_and_never_overwritten():
    color = Color.objects.create(name="red", rgb="#f00")
    Car.objects.create(plate="1", color=color)
    assert brought(carry()) == {"added": 1, "objects": 1}
    at(Color).update(rgb="#here")
    Color.objects.update(rgb="#there")
    Car.objects.create(plate="2", color=color)
    assert brought(carry()) == {"added": 1}
    assert at(Color).get().rgb == "#here"
    assert_same("hq", "hq")


def test_an_untracked_target_that_is_here_by_key_is_used_as_it_is():
    at(Color).create(name="red", rgb="#here")
    Car.objects.create(plate="1", color=Color.objects.create(name="red", rgb="#there"))
    assert brought(carry()) == {"added": 1}
    assert at(Car).get().color.rgb == "#here"


def test_an_untracked_target_that_was_deleted_here_is_not_brought_back():
    car = Car.objects.create(plate="1", color=Color.objects.create(name="red"))
    carry()
    at(Car).update(color=None)
    at(Color).all().delete()
    car.plate = "2"
    car.save()
    report = carry()
    assert report.objects == 0
    assert not at(Color).exists()


@override_settings(SYNCHRO_MODELS=("shop", ("admin", "logentry")))
def test_an_account_arrives_without_password_and_rights():
    user = User.objects.create_superuser("ann", "ann@example.org", "secret")
    kind = ContentType.objects.get_for_model(Tag)
    LogEntry.objects.create(user=user, content_type=kind, action_flag=ADDITION, object_id="1")
    assert carry().held == 0
    arrived = User.objects.using(HQ).get()
    assert (arrived.username, arrived.email) == ("ann", "ann@example.org")
    assert not arrived.has_usable_password()
    assert not arrived.is_superuser
    assert not arrived.is_staff
    assert LogEntry.objects.using(HQ).get().user == arrived


def test_explicit_through_rows_and_links_from_either_side():
    person, other = Person.objects.create(name="p"), Person.objects.create(name="q")
    club, tag = Club.objects.create(name="c"), Tag.objects.create(name="t")
    club.members.add(person, other, through_defaults={"role": "chief"})
    tag.people.add(person, other)
    person.friends.add(other)
    assert brought(carry()) == {"added": 6, "m2m": 3}
    assert_same("default", "hq")
    club.members.remove(other)
    tag.people.set([other])
    other.friends.clear()
    carry()
    assert_same("default", "hq")


def test_skipped_fields_have_defaults_on_creation_and_are_kept_on_change():
    city = City.objects.create(name="a", country=Country.objects.create(code="PL"), visits=5)
    carry()
    assert at(City).get().visits == 0
    at(City).update(visits=9)
    city.population = 1
    city.save()
    carry()
    assert (at(City).get().visits, at(City).get().population) == (9, 1)
