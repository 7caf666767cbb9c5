"""Whatever is done at one deployment: its bundles, replayed on an empty one, give the same data.

Set SYNCHRO_SLOW=1 for many more examples.
"""

import datetime as dt
import os
import tempfile
import uuid
from unittest import mock

import pytest
from django.apps import apps
from django.db import IntegrityError, models, transaction
from django.db.models import QuerySet
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from synchro import export_bundle, serialize
from synchro.models import Node
from synchro.replaying import replay as replayed
from tests.app.deploy import assert_same, brought, carry, dump, listening, rolled_back, take, write
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

SLOW = bool(os.environ.get("SYNCHRO_SLOW"))
EXAMPLES = 1500 if SLOW else 60
STEPS = 60 if SLOW else 40
CODES = ("PL", "DE", "FR", "ES")
NAMES = ("a", "b", "c")
SLUGS = ("x-1", "x-2", "x-3")


class Office:
    """What people do at a deployment. Each method takes three numbers, from which it picks whatever it needs."""

    def __init__(self, using="default"):
        self.using = using

    def pick(self, model, number):
        rows = list(QuerySet(model, using=self.using).order_by("pk"))
        return rows[number % len(rows)] if rows else None

    def some(self, model, number):
        """A part of the rows, also none or all."""
        rows = list(QuerySet(model, using=self.using).order_by("pk"))
        return [row for place, row in enumerate(rows) if number >> place & 1]

    def save(self, instance, **options):
        instance.save(using=self.using, **options)

    # --- additions ----------------------------------------------------------------------------------------------------

    def add_country(self, a, b, c):
        self.save(Country(code=CODES[a % 4], name=NAMES[b % 3]))

    def add_city(self, a, b, c):
        country = self.pick(Country, a)
        if country is not None:
            extra = [{}, {"k": [1, 2.5, None, "ż"]}, [], None][c % 4]
            self.save(City(name=NAMES[b % 3], country=country, population=c, extra=extra, visits=a))

    def add_tag(self, a, b, c):
        self.save(Tag(name=NAMES[a % 3]))

    def add_person(self, a, b, c):
        boss = self.pick(Person, b) if a % 2 else None
        self.save(Person(name=NAMES[a % 3], boss=boss, city=self.pick(City, c) if b % 2 else None))

    def add_profile(self, a, b, c):
        person = self.pick(Person, a)
        if person is not None:
            self.save(Profile(person=person, bio=NAMES[b % 3]))

    def add_device(self, a, b, c):
        owner = self.pick(Person, a) if b % 2 else None
        self.save(Device(id=uuid.UUID(int=c % 4), name=NAMES[b % 3], owner=owner))

    def add_parcel(self, a, b, c):
        self.save(Parcel(code=SLUGS[a % 3], weight=b, sender=self.pick(Person, c)))

    def add_club(self, a, b, c):
        self.save(Club(name=NAMES[a % 3]))

    def add_membership(self, a, b, c):
        person, club = self.pick(Person, a), self.pick(Club, b)
        if person is not None and club is not None:
            self.save(Membership(person=person, club=club, role=NAMES[c % 3]))

    def add_note(self, a, b, c):
        moment = dt.datetime(2020, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=c)
        self.save(Note(integer=a, char=NAMES[b % 3], moment=moment, data=[None, {"x": c}, "null"][a % 3]))

    def add_stamp(self, a, b, c):
        self.save(Stamp(name=NAMES[a % 3]))

    def add_place(self, a, b, c):
        self.save(Place(name=NAMES[a % 3], city=self.pick(City, b) if c % 2 else None))

    def add_restaurant(self, a, b, c):
        self.save(Restaurant(name=NAMES[a % 3], city=self.pick(City, b) if c % 2 else None, stars=c))

    def add_restaurant_in_place(self, a, b, c):
        place = self.pick(Place, a)
        if place is not None and not QuerySet(Restaurant, using=self.using).filter(pk=place.pk).exists():
            restaurant = Restaurant(place_ptr=place, stars=b)
            restaurant.__dict__.update({"name": place.name, "city_id": place.city_id})
            self.save(restaurant)

    def add_car(self, a, b, c):
        color, _ = Color.objects.using(self.using).get_or_create(name=NAMES[c % 3])
        self.save(Car(plate=NAMES[a % 3], color=color if b % 2 else None))

    def add_by_hand_numbered(self, a, b, c):
        self.save(Person(pk=1000 + a, name="numbered", boss_id=1000 + a))

    def point_to_unlogged(self, a, b, c):
        """Rows that were written past the log, in a chain, and one that points to them."""
        country = self.pick(Country, a)
        if country is None:
            Country.objects.using(self.using).bulk_create([Country(code=CODES[a % 4])])
            country = Country.objects.using(self.using).get()
        city = City(name=f"unlogged{b % 3}", country=country)
        City.objects.using(self.using).bulk_create([city])
        self.save(Place(name="at", city=City.objects.using(self.using).get(name=city.name, country=country)))

    # --- changes ------------------------------------------------------------------------------------------------------

    def change_country(self, a, b, c):
        self.change(Country, a, name=NAMES[b % 3])

    def rename_country(self, a, b, c):
        self.change(Country, a, code=CODES[b % 4])

    def rename_city(self, a, b, c):
        self.change(City, a, name=NAMES[b % 3])

    def move_city(self, a, b, c):
        if self.pick(Country, b) is not None:
            self.change(City, a, country=self.pick(Country, b))

    def visit_city(self, a, b, c):
        self.change(City, a, visits=b)

    def rename_tag(self, a, b, c):
        self.change(Tag, a, name=NAMES[b % 3])

    def swap_tags(self, a, b, c):
        one, other = self.pick(Tag, a), self.pick(Tag, b)
        if one is not None and one != other:
            names = one.name, other.name
            for tag, name in ((one, "between"), (other, names[0]), (one, names[1])):
                tag.name = name
                self.save(tag)

    def change_person(self, a, b, c):
        self.change(Person, a, name=NAMES[b % 3], city=self.pick(City, c))

    def change_boss(self, a, b, c):
        self.change(Person, a, boss=self.pick(Person, b) if c % 3 else None)

    def change_profile(self, a, b, c):
        self.change(Profile, a, bio=NAMES[b % 3])

    def change_device(self, a, b, c):
        self.change(Device, a, name=NAMES[b % 3], owner=self.pick(Person, c))

    def change_parcel(self, a, b, c):
        self.change(Parcel, a, weight=b, sender=self.pick(Person, c) if b % 2 else None)

    def change_membership(self, a, b, c):
        self.change(Membership, a, role=NAMES[b % 3])

    def change_note(self, a, b, c):
        self.change(Note, a, integer=models.F("integer") + b, data=[c])

    def change_restaurant(self, a, b, c):
        self.change(Restaurant, a, name=NAMES[b % 3], stars=c)

    def change_place(self, a, b, c):
        self.change(Place, a, name=NAMES[b % 3], city=self.pick(City, c))

    def change_car(self, a, b, c):
        self.change(Car, a, plate=NAMES[b % 3])

    def save_part(self, a, b, c):
        """Only some fields are saved; the others are dirty and stay as they are."""
        person = self.pick(Person, a)
        if person is not None:
            person.name, person.boss = NAMES[b % 3], self.pick(Person, c)
            self.save(person, update_fields=["name"] if c % 2 else ["boss"])

    def save_deferred(self, a, b, c):
        club = Club.objects.using(self.using).only("id").order_by("pk").first()
        if club is not None:
            self.save(club)

    def save_unchanged(self, a, b, c):
        for model in (Person, City, Stamp, Restaurant):
            self.change(model, a)

    def change(self, model, number, **values):
        instance = self.pick(model, number)
        if instance is not None:
            for name, value in values.items():
                setattr(instance, name, value)
            self.save(instance)

    # --- deletions ----------------------------------------------------------------------------------------------------

    def delete(self, a, b, c):
        kinds = (
            Country,
            City,
            Tag,
            Person,
            Profile,
            Device,
            Parcel,
            Club,
            Membership,
            Note,
            Stamp,
            Place,
            Restaurant,
            Car,
        )
        instance = self.pick(kinds[a % len(kinds)], b)
        if instance is not None:
            instance.delete(using=self.using)

    def delete_many(self, a, b, c):
        kinds = (Tag, Person, Membership, Place)
        model = kinds[a % len(kinds)]
        QuerySet(model, using=self.using).filter(pk__in=[row.pk for row in self.some(model, b)]).delete()

    def delete_keeping_parents(self, a, b, c):
        restaurant = self.pick(Restaurant, a)
        if restaurant is not None:
            restaurant.delete(using=self.using, keep_parents=True)

    def recreate(self, a, b, c):
        """Delete, and create again under the same key."""
        tag = self.pick(Tag, a)
        if tag is not None:
            tag.delete(using=self.using)
            self.save(Tag(name=tag.name))

    # --- links --------------------------------------------------------------------------------------------------------

    def tag_person(self, a, b, c):
        self.links(self.pick(Person, a), "tags", self.some(Tag, b), c)

    def person_tag(self, a, b, c):
        self.links(self.pick(Tag, a), "people", self.some(Person, b), c)

    def befriend(self, a, b, c):
        self.links(self.pick(Person, a), "friends", self.some(Person, b), c)

    def links(self, instance, name, others, how):
        if instance is not None:
            manager = getattr(instance, name)
            if how % 5 == 4:
                manager.clear()
            else:
                how = how % 5
                call = (manager.add, manager.add, manager.remove, lambda *each: manager.set(each))[how]
                call(*others)

    def join_club(self, a, b, c):
        club = self.pick(Club, a)
        if club is not None:
            if c % 4 == 3:
                club.members.clear()
            elif c % 4 == 2:
                club.members.remove(*self.some(Person, b))
            else:
                club.members.add(*self.some(Person, b), through_defaults={"role": NAMES[b % 3]})

    # --- what comes to nothing ----------------------------------------------------------------------------------------

    def think_better_of_it(self, a, b, c):
        with transaction.atomic(using=self.using):
            self.add_club(a, b, c)
            self.change_person(a, b, c)
            transaction.set_rollback(True, using=self.using)

    def do(self, name, *numbers):
        """Do it, unless the database or Django refuses it."""
        try:
            with transaction.atomic(using=self.using):
                getattr(self, name)(*numbers)
        except (IntegrityError, models.ProtectedError):
            note(f"refused: {name} {numbers}")


DEEDS = [
    name
    for name in vars(Office)
    if not name.startswith("_") and name not in {"pick", "some", "save", "change", "links", "do"}
]
EXPORT = "export"
numbers = st.integers(0, 7)
steps = st.tuples(st.sampled_from([*DEEDS, EXPORT]), numbers, numbers, numbers)


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(steps, min_size=5, max_size=STEPS), st.sampled_from((1000, 7, 2, 1)), st.booleans())
def test_replayed_on_an_empty_deployment_the_bundles_give_the_same_data(script, chunk, handlers):
    replay(script, chunk, handlers=handlers)


def replay(script, chunk, *, handlers):
    """With *handlers* of the project's own, objects are saved and deleted one by one, otherwise in bulk."""
    heard = apps.get_app_config("shop").get_models() if handlers else ()
    with rolled_back(), mock.patch.object(serialize, "CHUNK", chunk), listening(*heard):
        office = Office()
        for name, *each in script:
            if name != EXPORT:
                office.do(name, *each)
            # What was never logged is exported as long as something points to it, so here before that can change.
            if name in {EXPORT, "point_to_unlogged"}:
                report = carry("default", "hq")  # in pieces
                assert report is None or smooth(report)
        report = carry("default", "hq")
        assert report is None or smooth(report)
        data, _ = write(to="ship")  # all at once
        if data is not None:
            assert smooth(take(data, "ship"))
        assert_same("default", "hq", "ship")
        if data is not None:
            echo = carry("hq", "default")
            assert set(brought(echo)) <= {"already_known"}
            assert_same("default", "hq")


def smooth(report):
    """Nothing was held, disputed or merged: there was one author only."""
    assert report.held_changes == ()
    return not (report.held or report.conflicts or report.merged)


@settings(max_examples=EXAMPLES // 5, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(steps, min_size=3, max_size=STEPS // 3), st.sampled_from((1000, 2)))
def test_any_prefix_of_an_archive_is_the_state_of_its_moment(script, chunk):
    """Each step is a transaction at most, so each state is one that somebody could see."""
    with rolled_back(), mock.patch.object(serialize, "CHUNK", chunk), tempfile.TemporaryDirectory() as folder:
        office, states = Office(), {}
        for name, *each in script:
            if name != EXPORT:
                office.do(name, *each)
            if name in {EXPORT, "point_to_unlogged"}:
                export_bundle(folder, to="archive")
            write(to="nobody")  # gives what was done its positions
            node = Node.objects.filter(current=True).first()
            if node is not None and node.seq:
                states[node.seq] = dump("default")
        export_bundle(folder, to="archive")
        for seq, expected in states.items():
            with rolled_back("hq"):
                assert list(replayed([folder], seq, using="hq"))
                assert dump("hq") == expected, seq
