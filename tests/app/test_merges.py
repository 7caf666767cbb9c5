"""Two rows with histories that turn out to be one object."""

import json

import pytest

from synchro import reset_synchro
from synchro.merging import Merger
from synchro.models import ChangeLog, Conflict, Held, MergedRow, Reference, Version
from synchro.scanning import scan
from tests.app.deploy import assert_same, at, carry, queries, records, rolled_back, take, unchanged, write
from tests.app.test_two_ways import BOTH, CHAIN, exchange
from tests.project.shop.models import City, Club, Country, Membership, Person, Place, Tag

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])
OFFICE, HQ, SHIP = "default", "hq", "ship"


def renamed(model, using, field, value, /, **where):
    row = at(model, using).get(**where)
    setattr(row, field, value)
    row.save()
    return row


def collided():
    """The office's tag x becomes y, before the office knows of the tag y that hq made."""
    Tag.objects.create(name="x")
    exchange(*CHAIN)
    at(Tag).create(name="y")
    carry(HQ, SHIP)
    renamed(Tag, OFFICE, "name", "y", name="x")


def test_i9_a_key_renamed_to_one_that_the_other_side_made_is_a_merge_everywhere():
    collided()
    exchange(*CHAIN)
    assert_same(OFFICE, HQ, SHIP)
    assert [tag.name for tag in Tag.objects.all()] == ["y"]
    assert not any(Held.objects.using(each).exists() for each in (OFFICE, HQ, SHIP))
    # No deletion was logged for the row that is gone, anywhere.
    assert not any(ChangeLog.objects.using(each).filter(action="delete").exists() for each in (OFFICE, HQ, SHIP))


def test_i9_both_halves_of_such_a_merge_may_be_changed_afterwards():
    collided()
    exchange(*CHAIN)
    renamed(Tag, SHIP, "name", "z", name="y")
    exchange(*CHAIN)
    assert_same(OFFICE, HQ, SHIP)
    assert [tag.name for tag in Tag.objects.all()] == ["z"]


@pytest.mark.parametrize("later", ["renamed", "made"])
def test_i9_the_later_state_wins_and_the_other_is_recorded(later):
    Country.objects.create(code="DE", name="first")
    exchange(*BOTH)
    if later == "renamed":
        at(Country).create(code="PL", name="made")
    country = Country.objects.get()
    country.code, country.name = "PL", "renamed"
    country.save()
    if later == "made":
        at(Country).create(code="PL", name="made")
    exchange(*BOTH)
    assert_same(OFFICE, HQ)
    assert Country.objects.get().name == later
    for using in (OFFICE, HQ):
        sides = [
            json.loads(side) for found in Conflict.objects.using(using).all() for side in (found.local, found.incoming)
        ]
        assert {"renamed", "made"} <= {side["fields"]["name"] for side in sides}


def test_what_points_to_either_row_points_to_the_one_that_stays():
    x = Country.objects.create(code="XX", name="x")
    exchange(*CHAIN)
    City.objects.create(name="of x", country=x)
    y = at(Country).create(code="YY", name="y")
    City.objects.using(HQ).create(name="of y", country=y)
    carry(HQ, SHIP)
    renamed(Country, OFFICE, "code", "YY", code="XX")
    exchange(*CHAIN)
    assert_same(OFFICE, HQ, SHIP)
    for using in (OFFICE, HQ, SHIP):
        assert {city.name for city in at(Country, using).get().cities.all()} == {"of x", "of y"}
    # What was re-pointed does not look as if somebody had written past the log.
    assert [scan(using=using).changed for using in (OFFICE, HQ, SHIP)] == [0, 0, 0]


def test_links_of_both_are_kept_and_the_later_word_on_a_common_one_counts():
    people = [Person.objects.create(name=name) for name in "abc"]
    x = Tag.objects.create(name="x")
    exchange(*CHAIN)
    people[0].tags.add(x)
    people[2].tags.add(x)
    y = at(Tag).create(name="y")
    for name in "bc":
        at(Person).get(name=name).tags.add(y)
    at(Person).get(name="c").tags.remove(y)  # later than what the office says of c
    carry(HQ, SHIP)
    renamed(Tag, OFFICE, "name", "y", name="x")
    exchange(*CHAIN)
    assert_same(OFFICE, HQ, SHIP)
    assert {person.name for person in Tag.objects.get().people.all()} == {"a", "b"}
    assert Conflict.objects.using(HQ).filter(kind="link").exists()


def test_children_that_can_be_there_only_once_are_one_as_well():
    """Cities of one name in two countries that become one country."""
    x = Country.objects.create(code="XX")
    exchange(*CHAIN)
    City.objects.create(name="same", country=x, population=1)
    y = at(Country).create(code="YY")
    city = City.objects.using(HQ).create(name="same", country=y, population=2)
    Place.objects.using(HQ).create(name="there", city=city)
    carry(HQ, SHIP)
    renamed(Country, OFFICE, "code", "YY", code="XX")
    exchange(*CHAIN)
    assert_same(OFFICE, HQ, SHIP)
    assert City.objects.get().population == 2
    assert Place.objects.get().city.name == "same"


def test_t8_a_merge_that_a_third_found_travels_and_all_agree():
    Country.objects.create(code="PL", name="office")
    carry(OFFICE, SHIP)
    at(Country).create(code="PL", name="hq")
    carry(HQ, SHIP)  # ship has found out that they are one
    at(Country).get().delete()
    carry(HQ, SHIP)
    exchange((SHIP, OFFICE), (OFFICE, HQ), (HQ, OFFICE), (OFFICE, SHIP), (SHIP, HQ))
    assert_same(OFFICE, HQ, SHIP)
    assert not Country.objects.exists()  # the deletion is the last that anybody did
    assert "office" in "".join(Conflict.objects.using(SHIP).values_list("local", flat=True))


def test_t8_whoever_adds_a_third_id_tells_so_also_where_the_first_two_were_one_already():
    Tag.objects.create(name="x")
    at(Tag).create(name="x")
    carry(OFFICE, HQ)  # hq has found out that they are one
    at(Tag, SHIP).create(name="x")
    renamed(Tag, HQ, "name", "y", name="x")
    carry(SHIP, HQ)  # where that is another one
    carry(HQ, SHIP)  # but it was called x when it was made, so for ship it is the same
    exchange(*CHAIN)
    assert_same(OFFICE, HQ, SHIP)
    assert Tag.objects.count() == 1


def test_t9_two_objects_of_one_deployment_never_become_one():
    """x is renamed and y gets its old key, while somebody elsewhere edits x under it."""
    Country.objects.create(code="K1", name="x")
    exchange(*BOTH)
    renamed(Country, OFFICE, "code", "K2", name="x")
    Country.objects.create(code="K1", name="y")
    renamed(Country, HQ, "name", "x edited", code="K1")
    exchange(*BOTH)
    # hq's x, edited later, still claims K1, and so does y: that is for people to decide.
    assert Country.objects.count() + Held.objects.count() == 3
    assert at(Country).count() + Held.objects.using(HQ).count() == 2
    renamed(Country, HQ, "code", "K2", name="x edited")
    exchange(*BOTH)
    assert_same(OFFICE, HQ)
    assert {(each.code, each.name) for each in Country.objects.all()} == {("K1", "y"), ("K2", "x edited")}


def test_t10_what_was_deleted_here_and_edited_later_there_has_its_links_again_everywhere():
    person = Person.objects.create(name="p")
    person.tags.add(Tag.objects.create(name="t"))
    friend = Person.objects.create(name="friend")
    person.friends.add(friend)
    exchange(*CHAIN)
    person.delete()
    renamed(Person, SHIP, "name", "edited", name="p")
    exchange(*CHAIN)
    assert_same(OFFICE, HQ, SHIP)
    revived = Person.objects.get(name="edited")
    assert (revived.tags.count(), list(revived.friends.all())) == (1, [friend])


def test_t10_a_link_made_elsewhere_while_its_target_was_dead_here():
    tag, person = Tag.objects.create(name="t"), Person.objects.create(name="p")
    exchange(*CHAIN)
    tag.delete()
    at(Person, SHIP).get().tags.add(at(Tag, SHIP).get())
    carry(SHIP, HQ)
    carry(HQ, OFFICE)
    assert not person.tags.exists()
    renamed(Tag, SHIP, "name", "edited", name="t")
    exchange(*CHAIN)
    assert_same(OFFICE, HQ, SHIP)
    assert person.tags.get().name == "edited"


def test_i8_deleted_and_made_again_under_the_same_key_it_is_alive():
    Tag.objects.create(name="t")
    exchange(*CHAIN)
    Tag.objects.get().delete()
    exchange(*CHAIN)
    Tag.objects.create(name="t")
    exchange(*CHAIN)
    assert_same(OFFICE, HQ, SHIP)
    assert at(Tag, SHIP).count() == 1


def test_states_that_were_logged_before_a_merge_name_the_object_when_they_are_sent_again():
    x = Country.objects.create(code="XX")
    exchange(*BOTH)
    y = at(Country).create(code="YY")
    City.objects.using(HQ).create(name="of y", country=y)
    renamed(Country, OFFICE, "code", "YY", code="XX")
    carry(OFFICE, HQ)
    assert MergedRow.objects.using(HQ).count() == 1
    data, _ = write(HQ, to="all", since=0)
    (city,) = (each for each in records(data) if each["model"] == "shop.city")
    ids = {each["id"] for each in records(data) if each["model"] == "shop.country"}
    assert city["refs"]["country"] in ids
    take(data, SHIP)
    assert at(City, SHIP).get().country.code == "YY"
    assert x.pk


def test_the_histories_of_both_rows_are_one_afterwards():
    collided()
    exchange(*CHAIN)
    tag = at(Tag).get()
    assert list(Version.objects.using(HQ).filter(root="shop.tag", link="").values_list("pk_text", flat=True)) == [
        str(tag.pk)
    ]
    assert set(ChangeLog.objects.using(HQ).filter(root="shop.tag").values_list("pk_text", flat=True)) == {str(tag.pk)}
    assert set(Reference.objects.using(HQ).filter(model="shop.tag").values_list("pk_text", flat=True)) == {str(tag.pk)}


def test_rows_that_may_be_there_once_and_have_no_key_are_folded_too():
    person = Person.objects.create(name="p")
    x, y = Club.objects.create(name="x"), None
    exchange(*BOTH)
    y = at(Club).create(name="y")
    at(Membership).create(person=at(Person).get(), club=y, role="hq")
    Membership.objects.create(person=person, club=x, role="office")
    exchange(*BOTH)
    # Clubs have no key: somebody says that the two are one.
    from synchro import changelog
    from synchro.models import Action

    ids = sorted([f"{ident('default')}/{x.pk}", f"{ident('hq')}/{y.pk}"])
    entry = changelog.Entry(
        "shop.club", "shop.club", str(x.pk), "=", Action.SAME.value, changelog.now(), json.dumps({"same": ids}), 1
    )
    changelog.append(entry, OFFICE)
    exchange(*BOTH)
    assert at(Club).count() == 1
    assert at(Membership).get().role == "office"
    assert Conflict.objects.using(HQ).filter(model="shop.membership", kind="merge").exists()


def twice_a_tree(settings):
    """The ship has a boss and a clerk twice, and the two others know by now that these are two people, not four."""
    for using in (HQ, OFFICE):
        boss = at(Person, using).create(name="boss")
        at(Person, using).create(name="clerk", boss=boss)
    for using in (HQ, OFFICE):
        carry(using, SHIP)
    assert at(Person, SHIP).count() == 4
    settings.SYNCHRO_NATURAL_KEYS = {"shop.person": ["name"]}
    exchange(*BOTH)


@pytest.mark.django_db(databases=["default", "hq", "ship"], transaction=True)
def test_folded_rows_that_point_to_one_another_point_to_those_that_stay(settings):
    twice_a_tree(settings)
    carry(HQ, SHIP)
    assert set(at(Person, SHIP).values_list("name", "boss__name")) == {("boss", None), ("clerk", "boss")}
    assert_same(OFFICE, HQ, SHIP)


@pytest.mark.django_db(databases=["default", "hq", "ship"], transaction=True)
def test_folds_that_would_leave_a_foreign_key_dangling_are_found_before_the_commit(settings, monkeypatch):
    twice_a_tree(settings)
    read = Merger._read_states
    skipped = []

    def stale(self, halves):
        skipped.extend(half for half in halves if half.state is not None)
        read(self, [half for half in halves if half.state is None])

    monkeypatch.setattr(Merger, "_read_states", stale)
    carry(HQ, SHIP)  # once more, change by change, and then each fold finds what the one before it left
    assert skipped
    assert_same(OFFICE, HQ, SHIP)


def test_a_held_link_goes_over_to_the_target_that_stays():
    Tag.objects.create(name="x")
    person = Person.objects.create(name="p")
    person.tags.add(Tag.objects.get())
    exchange(*BOTH)
    at(Tag, HQ).create(name="y")
    theirs = at(Person, HQ).get()
    theirs.tags.remove(at(Tag, HQ).get(name="x"))
    theirs.tags.add(at(Tag, HQ).get(name="x"))
    person.tags.clear()
    carry(OFFICE, HQ, on_conflict="hold")
    before = {str(pk) for pk in at(Tag, HQ).values_list("pk", flat=True)}
    waiting = Conflict.objects.using(HQ).get(held=True)
    assert waiting.link.partition(":")[2] in before
    renamed(Tag, OFFICE, "name", "y", name="x")
    carry(OFFICE, HQ)
    waiting.refresh_from_db(using=HQ)
    assert waiting.link == f"tags:{at(Tag, HQ).get().pk}"


def ident(using):
    from synchro.models import Node

    return Node.objects.using(using).get(current=True).ident


@pytest.mark.parametrize("number", [3, 9])
def test_merges_that_somebody_else_found_are_folded_by_the_chunk(number):
    counted = {}
    for many in (2, number):
        with rolled_back():
            for n in range(many):
                Country.objects.create(code=f"A{n}")
                at(Country).create(code=f"B{n}")
            exchange(*BOTH)
            entries = []
            for n in range(many):
                mine, theirs = Country.objects.get(code=f"A{n}"), at(Country).get(code=f"B{n}")
                entries.append(sorted([f"{ident('default')}/{mine.pk}", f"{ident('hq')}/{theirs.pk}"]))
            data = foreign_merges(entries)
            counted[many] = queries("ship", lambda data=data: take(data, "ship", allow_gap=True))[0]
            assert at(Country, "ship").count() == many
    assert counted[number] == counted[2]


def foreign_merges(pairs):
    from tests.app.deploy import forged

    exchange((HQ, SHIP))
    Tag.objects.create(name="carrier")
    data, _ = write(OFFICE, to="merges")

    def change(header, found):
        carrier = found[-1]
        header["range"]["from"] = {"seq": carrier["seq"] - 1, "date": None if carrier["seq"] == 1 else carrier["date"]}
        header["models"].setdefault("shop.country", header["models"]["shop.tag"])
        header["range"]["to"] = {"seq": carrier["seq"] + len(pairs), "date": carrier["date"]}
        return [
            carrier,
            *(
                {
                    "type": "change", "seq": carrier["seq"] + place, "date": carrier["date"], "base": None,
                    "action": "same", "model": "shop.country", "id": min(pair), "key": None, "same": pair,
                }
                for place, pair in enumerate(pairs, 1)
            ),
        ]  # fmt: skip

    return forged(data, change)


def test_what_is_re_pointed_after_a_reset_does_not_look_written_past_the_log():
    Country.objects.create(code="PL", name="a")
    exchange(*BOTH)
    at(City, HQ).create(name="c", country=at(Country, HQ).get())
    carry(HQ, OFFICE)
    reset_synchro(HQ)
    at(Country, HQ).create(code="XX", name="x")
    renamed(Country, OFFICE, "code", "XX", code="PL")
    carry(OFFICE, HQ)
    assert at(Country, HQ).count() == 1
    renamed(City, OFFICE, "name", "d", name="c")
    assert carry(OFFICE, HQ).conflicts == 0
    assert scan(using=HQ).total == 0


# --- what a preview says of it ----------------------------------------------------------------------------------------


def previewed(data):
    """What a preview of *data* says at hq of merges: how many, of which models, of which objects; it writes nothing."""
    with unchanged(HQ):
        report = take(data, HQ, dry_run=True)
    assert {name: counts["merged"] for name, counts in report.models.items() if counts.get("merged")} == (
        {"shop.tag": report.merged} if report.merged else {}
    )
    return [report.keys[model, object_id] for what, model, object_id in report.details if what == "merged"]


def test_a_preview_tells_of_objects_born_on_both_sides():
    Tag.objects.create(name="both")
    Tag.objects.create(name="one")
    at(Tag).create(name="both")
    data, _ = write(to="hq")
    assert previewed(data) == [["both"]]
    assert take(data).merged == 1


def test_a_preview_tells_of_two_rows_that_would_become_one():
    collided()
    data, _ = write(to="hq")
    assert previewed(data) == [["y"]]
    assert take(data).merged == 1


def test_a_preview_tells_of_no_merge_where_the_key_is_free_in_the_end():
    collided()
    exchange(*BOTH)
    Tag.objects.create(name="z")
    exchange(*BOTH)
    tag = at(Tag).create(name="a")
    carry(HQ, OFFICE)
    renamed(Tag, OFFICE, "name", "b", name="z")
    renamed(Tag, OFFICE, "name", "z", name="a")
    data, _ = write(to="hq")
    assert previewed(data) == []
    assert take(data).merged == 0
    assert at(Tag).get(pk=tag.pk).name == "z"
