"""A row arrives whose parent was deleted here: the parent comes back, at once and on every deployment."""

import pytest

from synchro.conflicts import conflicts, keep
from synchro.conflicts import take as take_incoming
from synchro.models import Conflict, Held
from tests.app.deploy import assert_same, at, brought, carry, records, take, write
from tests.app.test_two_ways import BOTH, CHAIN, HQ, OFFICE, SHIP, exchange
from tests.project.shop.models import City, Country, Device, Parcel, Person, Place, Profile, Tag

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])
POLICIES = ("newest", "local", "incoming", "hold", "merge")


def shared(**values):
    """A person that everybody has."""
    person = Person.objects.create(name="p", **values)
    exchange(*CHAIN)
    return person


@pytest.mark.parametrize("policy", POLICIES)
def test_t2_the_parent_comes_back_where_the_child_arrives(policy):
    person = shared()
    person.tags.add(Tag.objects.create(name="t"))
    exchange(*CHAIN)
    at(Person).get().delete()
    Device.objects.create(owner=person, name="d")
    report = carry(OFFICE, HQ, on_conflict=policy)
    assert (report.added, report.held, report.conflicts) == (1, 0, 1)
    assert at(Device).get().owner == at(Person).get()
    assert at(Person).get().tags.get().name == "t"  # as it was, with its links
    kept = Conflict.objects.using(HQ).get()
    assert (kept.kind, kept.model, kept.winner) == ("parent", "shop.person", "incoming")
    # It is a change of its own, dated after the deletion, and a decision.
    told = [each for each in records(write(HQ)[0]) if each["model"] == "shop.person" and each.get("resolution")]
    assert [(each["action"], each["fields"]["name"]) for each in told] == [("change", "p")]
    exchange(*CHAIN)
    assert_same(OFFICE, HQ, SHIP)
    assert Person.objects.count() == Device.objects.count() == 1


def test_the_parents_of_the_parent_come_back_too():
    country = Country.objects.create(code="PL")
    city = City.objects.create(name="Wrocław", country=country)
    boss = Person.objects.create(name="boss")
    shared(city=city, boss=boss)
    at(Person).all().delete()
    at(Country).get().delete()
    Device.objects.create(owner=Person.objects.get(name="p"))
    report = carry()
    assert (report.held, report.conflicts) == (0, 3)
    found = at(Person).get()  # it can live without its boss
    assert (found.name, found.city.name, found.city.country.code, found.boss) == ("p", "Wrocław", "PL", None)
    exchange(*BOTH, *CHAIN)
    assert_same(OFFICE, HQ, SHIP)


def test_a_profile_brings_its_person_back():
    person = shared()
    at(Person).get().delete()
    Profile.objects.create(person=person, bio="x")
    assert brought(carry()) == {"added": 1, "conflicts": 1}
    assert at(Profile).get().person.name == "p"
    exchange(*CHAIN)
    assert_same(OFFICE, HQ, SHIP)


def test_a_child_that_is_gone_again_brings_nothing_back():
    """Although somebody else deleted it, and the policy here does not go by dates."""
    person = shared()
    at(Person, SHIP).get().delete()
    Device.objects.create(owner=person)
    carry(OFFICE, HQ)
    at(Device).get().delete()
    data, _ = write(HQ, to=SHIP)
    for policy in ("local", "incoming", "hold"):
        report = take(data, SHIP, on_conflict=policy)
        assert (report.held, report.conflicts, at(Person, SHIP).count()) == (0, 0, 0)
    exchange(*CHAIN)
    assert_same(OFFICE, HQ, SHIP)
    assert not Person.objects.exists()


@pytest.mark.parametrize("policy", ["incoming", "local", "hold", "merge"])
def test_what_was_held_is_no_news_where_something_made_on_it_went_in_first(policy):
    """The first change waits for its target, the second one, made on it elsewhere, does not."""
    Parcel.objects.create(code="x")
    person = shared()
    at(Person, SHIP).get().delete()
    Parcel.objects.update_or_create(code="x", defaults={"sender": person, "weight": 1})
    carry(OFFICE, HQ)
    parcel = at(Parcel).get()
    parcel.sender, parcel.weight = None, 2
    parcel.save()
    report = carry(HQ, SHIP, on_conflict=policy)
    assert (report.held, report.conflicts) == (0, 0)
    assert at(Parcel, SHIP).get().weight == 2


def test_a_parent_that_waits_for_a_decision_is_not_brought_back_before():
    person = shared()
    at(Person).get().delete()
    person.name = "edited"
    person.save()
    carry(OFFICE, HQ, on_conflict="incoming")  # later than the deletion; so that it waits:
    exchange(*CHAIN)
    at(Person).get().delete()
    Person.objects.get().save()
    Device.objects.create(owner=Person.objects.get())
    report = carry(OFFICE, HQ, on_conflict="hold")
    assert (report.held, report.conflicts) == (1, 1)
    assert not at(Person).exists()
    keep(conflicts(using=HQ)[0].id, using=HQ)
    exchange(*CHAIN)
    assert_same(OFFICE, HQ, SHIP)
    assert at(Device).get().owner.name == "edited"
    assert not Held.objects.using(HQ).exists()


def test_what_can_live_without_it_waits_until_its_node_heard_of_the_deletion():
    city = City.objects.create(name="c", country=Country.objects.create(code="PL"))
    exchange(*CHAIN)
    at(City).get().delete()
    Place.objects.create(name="x", city=city)
    assert carry().held == 1
    exchange(*BOTH, *CHAIN)
    assert_same(OFFICE, HQ, SHIP)
    assert at(Place).get().city is None
    assert not Held.objects.using(HQ).exists()


@pytest.mark.parametrize("policy", POLICIES)
def test_an_edit_that_was_overtaken_does_not_wait_for_what_it_can_live_without(policy):
    """Its node has heard of the deletion and of the later edit that came with it: it will not mend what it made."""
    boss = Person.objects.create(name="boss")
    shared(boss=boss)
    edited = at(Person).get(name="p")
    edited.name = "edited"
    edited.save()
    boss.delete()  # which points the other elsewhere: to nobody
    carry(OFFICE, HQ)
    report = carry(HQ, OFFICE, on_conflict=policy)
    assert (report.held, report.conflicts) == (0, 1)
    if policy == "hold":
        assert Person.objects.get().name == "p"
        (found,) = conflicts()
        take_incoming(found.id)
    assert Person.objects.get().name == ("p" if policy in {"newest", "local"} else "edited")
    assert Person.objects.get().boss is None
    exchange(*BOTH, *CHAIN)
    assert_same(OFFICE, HQ, SHIP)


def test_what_was_held_is_taken_without_what_was_deleted_meanwhile():
    boss = Person.objects.create(name="boss")
    shared()
    Person.objects.get(name="p").save()
    person = at(Person).get(name="p")
    person.name, person.boss = "edited", at(Person).get(name="boss")
    person.save()
    carry(HQ, OFFICE, on_conflict="hold")
    boss.delete()
    (found,) = conflicts()
    take_incoming(found.id)
    assert (Person.objects.get().name, Person.objects.get().boss) == ("edited", None)
    exchange(*BOTH, *CHAIN)
    assert_same(OFFICE, HQ, SHIP)
