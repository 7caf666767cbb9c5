"""Changes that go both ways, and through a third deployment: no echo, one winner, nothing lost."""

import json

import pytest
from django.db import models
from django.test import override_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synchro import registry
from synchro.models import ChangeLog, Conflict
from tests.app.deploy import assert_same, brought, carry, dump, records, rolled_back, take, write
from tests.app.test_replay_property import SLOW, Office
from tests.project.shop.models import City, Club, Country, Device, Membership, Parcel, Person, Place, Profile, Tag

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])
OFFICE, HQ, SHIP = "default", "hq", "ship"


def at(model, using=HQ):
    return model.objects.using(using)


def exchange(*pairs):
    """Carry bundles along *pairs* of aliases until nobody has anything new; how many changes took effect."""
    for _ in range(10):
        moved = 0
        for source, target in pairs:
            report = carry(source, target)
            if report is not None:
                moved += report.records - report.already_known
        if not moved:
            return
    raise AssertionError("it never ends")


BOTH = ((OFFICE, HQ), (HQ, OFFICE))
CHAIN = ((OFFICE, HQ), (HQ, SHIP), (SHIP, HQ), (HQ, OFFICE))


def made_here(using):
    """How many changes of its own a deployment has logged."""
    return ChangeLog.objects.using(using).filter(imported=False).count()


# --- T3: no echo ------------------------------------------------------------------------------------------------------


def test_t3_what_came_from_here_has_no_effect_when_it_comes_back():
    person = Person.objects.create(name="p")
    person.tags.add(Tag.objects.create(name="t"))
    carry(OFFICE, HQ)
    before = dump(OFFICE)
    assert brought(carry(HQ, OFFICE)) == {"already_known": 3}
    assert dump(OFFICE) == before
    assert carry(OFFICE, HQ) is None  # nothing was logged by that
    assert (made_here(OFFICE), made_here(HQ)) == (3, 0)


def test_t3_edits_on_both_sides_arrive_once_on_each():
    Person.objects.create(name="office")
    at(Club).create(name="hq")
    exchange(*BOTH)
    assert_same(OFFICE, HQ)
    assert (made_here(OFFICE), made_here(HQ)) == (1, 1)
    assert carry(OFFICE, HQ) is None
    assert carry(HQ, OFFICE) is None


def test_t3_through_a_relay_each_change_arrives_once_and_keeps_its_origin():
    person = Person.objects.create(name="office")
    carry(OFFICE, HQ)
    data, _ = write(HQ, to=SHIP)
    (record,) = records(data)
    assert record["origin"]["node"].startswith("office-")
    assert brought(take(data, SHIP)) == {"added": 1}
    theirs = at(Person, SHIP).get()
    theirs.name = "ship"
    theirs.save()
    exchange(*CHAIN)
    assert_same(OFFICE, HQ, SHIP)
    person.refresh_from_db()
    assert person.name == "ship"
    assert [made_here(each) for each in (OFFICE, HQ, SHIP)] == [1, 0, 1]
    assert not Conflict.objects.using(HQ).exists()


def test_t3_two_ways_round_bring_it_once():
    Tag.objects.create(name="t")
    carry(OFFICE, HQ)
    carry(HQ, SHIP)
    assert brought(carry(OFFICE, SHIP)) == {"already_known": 1}
    exchange(*CHAIN, (OFFICE, SHIP), (SHIP, OFFICE))
    assert_same(OFFICE, HQ, SHIP)


# --- T1: one winner ---------------------------------------------------------------------------------------------------


def test_t1_the_same_winner_on_both_and_the_loser_recorded():
    country = Country.objects.create(code="PL", name="old")
    exchange(*BOTH)
    country.name = "office"
    country.save()
    mine = at(Country).get()
    mine.name = "hq"
    mine.save()
    exchange(*BOTH)
    assert_same(OFFICE, HQ)
    assert Country.objects.get().name == "hq"  # the later one
    for using in (OFFICE, HQ):
        found = Conflict.objects.using(using).get()
        sides = {json.loads(found.local)["fields"]["name"], json.loads(found.incoming)["fields"]["name"]}
        assert sides == {"office", "hq"}
        assert json.loads(getattr(found, found.winner))["fields"]["name"] == "hq"


def test_t1_deleted_here_and_edited_later_there_lives_on_both():
    person = Person.objects.create(name="p")
    exchange(*BOTH)
    person.delete()
    mine = at(Person).get()
    mine.name = "edited"
    mine.save()
    exchange(*BOTH)
    assert_same(OFFICE, HQ)
    assert Person.objects.get().name == "edited"


def test_t1_edited_here_and_deleted_later_there_is_gone_on_both_and_recorded():
    person = Person.objects.create(name="p")
    exchange(*BOTH)
    person.name = "edited"
    person.save()
    at(Person).get().delete()
    exchange(*BOTH)
    assert_same(OFFICE, HQ)
    assert not Person.objects.exists()
    assert json.loads(Conflict.objects.get().local)["fields"]["name"] == "edited"


# --- T2: a deleted parent ---------------------------------------------------------------------------------------------


def test_t2_the_parent_of_a_child_that_its_deleter_did_not_know_comes_back_on_both():
    country = Country.objects.create(code="PL")
    exchange(*BOTH)
    country.delete()
    at(City).create(name="new", country=at(Country).get())
    exchange(*BOTH)
    assert_same(OFFICE, HQ)
    assert City.objects.get().country.code == "PL"
    assert Conflict.objects.using(HQ).filter(kind="parent").exists()


def test_t2_a_row_set_to_null_by_an_imported_deletion_is_logged():
    person = Person.objects.create(name="p")
    exchange(*BOTH)
    person.delete()
    at(Parcel).create(code="x", sender=at(Person).get())
    exchange(*BOTH)
    assert_same(OFFICE, HQ)
    assert Parcel.objects.get().sender is None


def test_t2_a_parent_deleted_with_children_that_moved_away_later_in_the_bundle_goes():
    one, other = Person.objects.create(name="one"), Person.objects.create(name="other")
    device = Device.objects.create(name="d", owner=one)
    exchange(*BOTH)
    device.owner = other
    device.save()
    one.delete()
    assert brought(carry(OFFICE, HQ)) == {"changed": 1, "deleted": 1}
    exchange(*BOTH)
    assert_same(OFFICE, HQ)
    assert at(Device).get().owner.name == "other"


# --- T7: links --------------------------------------------------------------------------------------------------------


def test_t7_both_sides_tag_the_same_object_and_both_tags_are_kept():
    person = Person.objects.create(name="p")
    tags = [Tag.objects.create(name=name) for name in "ab"]
    exchange(*BOTH)
    person.tags.add(tags[0])
    at(Person).get().tags.add(at(Tag).get(name="b"))
    exchange(*BOTH)
    assert_same(OFFICE, HQ)
    assert person.tags.count() == 2


def test_t7_both_sides_add_the_same_link_and_one_takes_it_away():
    person, tag = Person.objects.create(name="p"), Tag.objects.create(name="t")
    exchange(*BOTH)
    person.tags.add(tag)
    at(Person).get().tags.add(at(Tag).get())
    exchange(*BOTH)
    person.tags.remove(tag)
    exchange(*BOTH)
    assert_same(OFFICE, HQ)
    assert not at(Person).get().tags.exists()


def test_t7_friends_whose_keys_sort_the_other_way_round_elsewhere():
    at(Person).create(name="in the way")
    first, second = Person.objects.create(name="1"), Person.objects.create(name="2")
    exchange(*BOTH)
    mine, theirs = at(Person).get(name="2"), at(Person).get(name="1")
    mine.friends.add(theirs)
    exchange(*BOTH)
    assert list(first.friends.all()) == [second]
    first.friends.remove(second)
    exchange(*BOTH)
    assert_same(OFFICE, HQ)
    assert not mine.friends.exists()


# --- merges -----------------------------------------------------------------------------------------------------------


def test_objects_made_on_both_sides_with_one_key_become_one_on_all_three():
    Country.objects.create(code="PL", name="office")
    at(Country).create(code="PL", name="hq")
    exchange(*CHAIN)
    assert_same(OFFICE, HQ, SHIP)
    assert Country.objects.count() == 1
    assert Country.objects.get().name == "hq"
    country = at(Country, SHIP).get()
    country.code = "DE"
    country.save()
    exchange(*CHAIN)
    assert_same(OFFICE, HQ, SHIP)
    assert Country.objects.get().code == "DE"


def test_links_and_children_of_both_halves_of_a_merge_stay():
    Person.objects.create(name="at office").tags.add(Tag.objects.create(name="t"))
    at(Person).create(name="at hq").tags.add(at(Tag).create(name="t"))
    exchange(*CHAIN)
    assert_same(OFFICE, HQ, SHIP)
    assert Tag.objects.get().people.count() == 2


# --- T11: decisions travel --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["local", "incoming"])
@pytest.mark.parametrize("later", [OFFICE, HQ])
def test_t11_a_policy_on_one_node_only_leaves_both_equal(policy, later):
    Country.objects.create(code="PL", name="old")
    exchange(*BOTH)
    for using in (OFFICE, HQ) if later == HQ else (HQ, OFFICE):
        mine = at(Country, using).get()
        mine.name = using
        mine.save()
    carry(OFFICE, HQ, on_conflict=policy)
    expected = HQ if policy == "local" else OFFICE
    assert at(Country).get().name == expected
    exchange(*BOTH)
    assert_same(OFFICE, HQ)
    assert Country.objects.get().name == expected


@pytest.mark.parametrize("policy", ["local", "incoming"])
@pytest.mark.parametrize("deleting", [OFFICE, HQ])
@pytest.mark.parametrize("first", [OFFICE, HQ])
def test_t11_also_against_deletions(policy, deleting, first):
    Person.objects.create(name="old")
    exchange(*BOTH)
    for using in (first, HQ if first == OFFICE else OFFICE):
        mine = at(Person, using).get()
        if using == deleting:
            mine.delete()
        else:
            mine.name = "edited"
            mine.save()
    carry(OFFICE, HQ, on_conflict=policy)
    alive = (policy == "local") == (deleting == OFFICE)
    assert at(Person).exists() == alive
    exchange(*BOTH)
    assert_same(OFFICE, HQ)
    assert Person.objects.exists() == alive


@pytest.mark.parametrize("policy", ["local", "incoming"])
@pytest.mark.parametrize("adding", [OFFICE, HQ])
@pytest.mark.parametrize("first", [OFFICE, HQ])
def test_t11_also_for_links(policy, adding, first):
    """One side ends with the link, the other without; hq had it both ways in between."""
    person, tag = Person.objects.create(name="p"), Tag.objects.create(name="t")
    person.tags.add(tag)
    if adding == OFFICE:
        person.tags.remove(tag)
    exchange(*BOTH)
    for using in (first, HQ if first == OFFICE else OFFICE):
        tags, theirs = at(Person, using).get().tags, at(Tag, using).get()
        if using == HQ:
            (tags.remove if adding == HQ else tags.add)(theirs)
        (tags.add if using == adding else tags.remove)(theirs)
    carry(OFFICE, HQ, on_conflict=policy)
    present = (policy == "local") == (adding == HQ)
    assert at(Person).get().tags.exists() == present
    exchange(*BOTH)
    assert_same(OFFICE, HQ)
    assert person.tags.exists() == present


def test_a_model_with_a_policy_of_its_own():
    Country.objects.create(code="PL", name="old")
    exchange(*BOTH)
    for using in (OFFICE, HQ):
        at(Country, using).update(name=using)
        at(Country, using).get().save()
    with override_settings(SYNCHRO_CONFLICT={"shop.country": "incoming"}):
        carry(OFFICE, HQ)
    exchange(*BOTH)
    assert_same(OFFICE, HQ)
    assert Country.objects.get().name == OFFICE


# --- T6: a relay that knows less --------------------------------------------------------------------------------------


def test_t6_a_relay_that_does_not_track_a_model_forwards_its_changes():
    Person.objects.create(name="p").tags.add(Tag.objects.create(name="t"))
    data, _ = write(OFFICE, to=HQ)
    with override_settings(SYNCHRO_MODELS=(("shop", "Tag"),)):
        report = take(data, HQ)
        assert (report.added, report.held) == (1, 2)
        onward, _ = write(HQ, to=SHIP)
    assert brought(take(onward, SHIP)) == {"added": 2, "m2m": 1}
    assert_same(OFFICE, SHIP)
    carry(OFFICE, HQ)
    Tag.objects.create(name="wakes it up")
    assert carry(OFFICE, HQ).held == 0
    assert Membership.objects.using(HQ).count() == 0
    assert at(Person).get().tags.count() == 1


# --- whatever happens, both come to the same --------------------------------------------------------------------------

# Only such deeds as leave nothing to be decided by people: what clashes on a unique value is held until somebody does.
OBJECTS = (
    "add_person", "add_device", "add_parcel", "add_place", "add_restaurant", "add_profile", "change_person",
    "change_boss", "change_device", "change_parcel", "change_place", "change_restaurant", "change_profile",
    "change_country", "visit_city", "move_city", "delete", "delete_many",
)  # fmt: skip
LINKS = ("add_person", "change_person", "tag_person", "person_tag", "befriend", "rename_tag", "change_boss")
numbers = st.integers(0, 7)


def steps(deeds):
    return st.lists(
        st.tuples(st.sampled_from([*deeds, "carry"]), st.sampled_from([OFFICE, HQ, SHIP]), numbers, numbers, numbers),
        min_size=3,
        max_size=25,
    )


@settings(
    max_examples=1000 if SLOW else 30,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.one_of(steps(OBJECTS), steps(LINKS)))
def test_whatever_is_done_where_all_come_to_the_same(script):
    converge(script)


def converge(script):
    with rolled_back():
        office = Office(OFFICE)
        for number in range(3):
            office.do("add_country", number, number, 0)
            office.do("add_city", number, number, number)
            office.do("add_tag", number, 0, 0)
            office.do("add_person", number, number, number)
        exchange(*CHAIN)
        for name, using, *each in script:
            if name == "carry":
                carry(*CHAIN[each[0] % len(CHAIN)])
            else:
                Office(using).do(name, *each)
        exchange(*CHAIN)
        assert_same(OFFICE, HQ, SHIP)


def test_the_helpers_notice_a_difference():
    Person.objects.create(name="p")
    with pytest.raises(AssertionError, match="hq against default"):
        assert_same(OFFICE, HQ)


def test_an_explicit_key_that_was_deleted_later_than_it_was_given_elsewhere_stays_deleted():
    at(Parcel).create(code="x")
    Parcel.objects.create(code="x").delete()
    exchange(*BOTH)
    assert_same(OFFICE, HQ)
    assert not at(Parcel).exists()


def test_a_profile_whose_person_was_deleted_elsewhere_brings_it_back():
    people = [Person.objects.create(name=name) for name in "ab"]
    exchange(*CHAIN)
    Profile.objects.create(person=people[0])
    at(Person).all().delete()
    at(Profile, SHIP).create(person=at(Person, SHIP).get(name="b"))
    exchange(*CHAIN)
    assert_same(OFFICE, HQ, SHIP)
    assert Profile.objects.count() == 2


def test_one_explicit_key_given_twice_and_deleted_once_in_one_bundle():
    at(Parcel, SHIP).create(code="x")
    first = write(SHIP, to=HQ)[0]
    Parcel.objects.create(code="x", weight=1)
    Parcel.objects.get().delete()
    carry(OFFICE, HQ)
    take(first, HQ)
    Person.objects.using(HQ).create(name="wakes it up")
    exchange(*CHAIN)
    assert_same(OFFICE, HQ, SHIP)
    assert not at(Parcel).exists()


def test_an_edit_that_lost_to_a_later_one_does_not_wait_for_what_it_points_to():
    city = City.objects.create(name="a", country=Country.objects.create(code="PL"))
    place = Place.objects.create(name="p", city=city)
    exchange(*BOTH)
    place.name = "edited"
    place.save()
    at(City).get().delete()  # sets the place's city to NULL, later
    report = carry()
    assert (report.held, report.conflicts) == (0, 1)
    exchange(*BOTH)
    assert_same(OFFICE, HQ)


def test_fields_that_only_look_like_m2m_fields_are_left_alone():
    assert not registry.is_link_field(models.CharField())
    assert registry.is_link_field(Person._meta.get_field("tags"))
