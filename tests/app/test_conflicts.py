"""Conflicts that wait for people, what people decide, and both sides combined."""

import json

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from synchro import conflicts
from synchro.errors import ResolveError
from synchro.models import ChangeLog, Conflict
from synchro.pruning import prune
from synchro.reset import reset_synchro
from synchro.status import status
from tests.app.deploy import assert_same, at, brought, carry, records, take, unchanged, write
from tests.app.test_two_ways import BOTH, CHAIN, exchange
from tests.project.shop.models import City, Country, Parcel, Person, Tag

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])
OFFICE, HQ, SHIP = "default", "hq", "ship"


def edited(using, model=Country, **values):
    row = at(model, using).get()
    for name, value in values.items():
        setattr(row, name, value)
    row.save()


def apart(first=OFFICE):
    """One country, edited at the office and at hq without knowing of each other."""
    Country.objects.create(code="PL", name="old")
    exchange(*CHAIN)
    for using in (first, HQ if first == OFFICE else OFFICE):
        edited(using, name=using)


def names():
    return [at(Country, using).get().name for using in (OFFICE, HQ, SHIP)]


def made_here(using):
    return ChangeLog.objects.using(using).filter(imported=False).count()


# --- hold -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [OFFICE, HQ])
@pytest.mark.parametrize(("decision", "winner"), [("take", OFFICE), ("keep", HQ)])
def test_a_held_conflict_waits_and_the_decision_travels(first, decision, winner):
    apart(first)
    report = carry(OFFICE, HQ, on_conflict="hold")
    assert (report.conflicts, report.held, at(Country).get().name) == (1, 0, HQ)
    (found,) = conflicts.conflicts(using=HQ)
    assert (found.held, found.winner, found.policy, found.key) == (True, "held", "hold", ["PL"])
    assert (found.local["fields"]["name"], found.incoming["fields"]["name"]) == (HQ, OFFICE)
    decided = getattr(conflicts, decision)(found.id, by="ann", using=HQ)
    assert (decided.held, decided.resolution, decided.resolved_by) == (False, decision, "ann")
    assert at(Country).get().name == winner
    exchange(*CHAIN)
    assert_same(OFFICE, HQ, SHIP)
    assert names() == [winner] * 3
    assert made_here(HQ) == 2  # its edit and the decision
    with pytest.raises(ResolveError, match="decided by ann"):
        conflicts.keep(found.id, using=HQ)


@pytest.mark.parametrize("decision", ["take", "merge"])
def test_a_decision_that_clashes_with_another_row_says_so_and_changes_nothing(decision):
    apart()
    edited(OFFICE, code="DE")
    Country.objects.using(HQ).create(code="DE", name="another")
    carry(OFFICE, HQ, on_conflict="hold")
    found = conflicts.conflicts(using=HQ)[-1]
    options = {"incoming": ["code"]} if decision == "merge" else {}
    with unchanged(), pytest.raises(ResolveError, match=r"shop\.Country\.code is unique, and another row here has its"):
        getattr(conflicts, decision)(found.id, using=HQ, **options)
    at(Country).filter(name="another").update(code="FR")
    getattr(conflicts, decision)(found.id, using=HQ, **options)
    assert sorted(at(Country).values_list("code", flat=True)) == ["DE", "FR"]


def test_a_hold_is_sticky_and_what_comes_later_waits_too():
    apart()
    carry(OFFICE, HQ, on_conflict="hold")
    edited(OFFICE, name="office again")
    assert brought(carry(OFFICE, HQ)) == {"conflicts": 1}  # whatever the policy of this run
    assert at(Country).get().name == HQ
    first, second = conflicts.conflicts(using=HQ)
    conflicts.take(second.id, using=HQ)
    assert conflicts.conflicts(using=HQ) == []
    exchange(*CHAIN)
    assert_same(OFFICE, HQ, SHIP)
    assert names() == ["office again"] * 3
    assert conflicts.conflict(first.id, using=HQ).resolution == "take"


@pytest.mark.parametrize("decision", ["take", "keep"])
def test_a_decision_closes_the_conflict_elsewhere_and_nobody_else_is_asked(decision):
    apart()
    to_hq, to_office = write(OFFICE, to=HQ)[0], write(HQ, to=OFFICE)[0]
    with override_settings(SYNCHRO_CONFLICT="hold"):
        take(to_hq, HQ)
        take(to_office, OFFICE)
        (asked,) = conflicts.conflicts(using=OFFICE)
        (mine,) = conflicts.conflicts(using=HQ)
        getattr(conflicts, decision)(mine.id, using=HQ)
        exchange(*CHAIN)
        assert conflicts.conflicts(using=OFFICE) == conflicts.conflicts(using=SHIP) == []
        ended = conflicts.conflict(asked.id, using=OFFICE)
        assert ended.resolution == "elsewhere"
        assert ended.resolved_by.startswith("hq-")
    assert_same(OFFICE, HQ, SHIP)
    assert names() == [OFFICE if decision == "take" else HQ] * 3


@pytest.mark.parametrize("chunk", [1000, 1])
@pytest.mark.parametrize("decision", ["take", "keep"])
def test_an_edit_that_comes_with_the_decision_is_taken(monkeypatch, decision, chunk):
    monkeypatch.setattr("synchro.serialize.CHUNK", chunk)
    apart()
    to_hq, to_office = write(OFFICE, to=HQ)[0], write(HQ, to=OFFICE)[0]
    with override_settings(SYNCHRO_CONFLICT="hold"):
        take(to_hq, HQ)
        take(to_office, OFFICE)
        (mine,) = conflicts.conflicts(using=HQ)
        (asked,) = conflicts.conflicts(using=OFFICE)
        getattr(conflicts, decision)(mine.id, using=HQ)
        edited(HQ, name="after the decision")
        data, _ = write(HQ, to=OFFICE)
        with unchanged():
            assert take(data, OFFICE, dry_run=True).conflicts == 0
        assert take(data, OFFICE).conflicts == 0
        assert conflicts.conflicts(using=OFFICE) == []
        assert conflicts.conflict(asked.id, using=OFFICE).resolution == "elsewhere"
        exchange(*CHAIN)
    assert_same(OFFICE, HQ, SHIP)
    assert names() == ["after the decision"] * 3


@pytest.mark.parametrize("chunk", [1000, 1])
def test_a_conflict_its_decision_and_an_edit_in_one_bundle(monkeypatch, chunk):
    monkeypatch.setattr("synchro.serialize.CHUNK", chunk)
    apart()
    take(write(OFFICE, to=HQ)[0], HQ, on_conflict="hold")
    (mine,) = conflicts.conflicts(using=HQ)
    conflicts.keep(mine.id, using=HQ)
    edited(HQ, name="after the decision")
    carry(HQ, OFFICE, on_conflict="hold")
    assert conflicts.conflicts(using=OFFICE) == []
    found = [each for each in conflicts.conflicts(held=None, using=OFFICE) if each.winner == "held"]
    assert [(each.resolution, each.resolved_by[:3]) for each in found] == [("elsewhere", "hq-")]
    assert_same(OFFICE, HQ)
    assert Country.objects.get().name == "after the decision"


@pytest.mark.parametrize("chunk", [1000, 1])
def test_a_conflict_that_comes_after_a_decision_in_its_bundle_waits(monkeypatch, chunk):
    monkeypatch.setattr("synchro.serialize.CHUNK", chunk)
    apart()
    to_hq, to_office = write(OFFICE, to=HQ)[0], write(HQ, to=OFFICE)[0]
    with override_settings(SYNCHRO_CONFLICT="hold"):
        take(to_hq, HQ)
        take(to_office, OFFICE)
        (mine,) = conflicts.conflicts(using=HQ)
        conflicts.keep(mine.id, using=HQ)
        edited(SHIP, name=SHIP)  # knows neither of the two versions nor of the decision
        carry(SHIP, HQ, on_conflict="incoming")
        carry(HQ, OFFICE)
        (asked,) = conflicts.conflicts(using=OFFICE)
        assert (asked.local["fields"]["name"], asked.incoming["fields"]["name"]) == (HQ, SHIP)
        conflicts.take(asked.id, using=OFFICE)
        exchange(*CHAIN)
    assert_same(OFFICE, HQ, SHIP)
    assert names() == [SHIP] * 3


@pytest.mark.parametrize("chunk", [1000, 1])
def test_a_link_that_changes_after_the_decision_about_it(monkeypatch, chunk):
    monkeypatch.setattr("synchro.serialize.CHUNK", chunk)
    link_apart()
    with override_settings(SYNCHRO_CONFLICT="hold"):
        carry(OFFICE, HQ)
        carry(HQ, SHIP)
        (mine,) = conflicts.conflicts(using=HQ)
        conflicts.keep(mine.id, using=HQ)
        at(Person, HQ).get().tags.remove(at(Tag, HQ).get())
        exchange(*CHAIN)
        assert conflicts.conflicts(using=SHIP) == []
    assert_same(OFFICE, HQ, SHIP)
    assert not at(Person, SHIP).get().tags.exists()


@pytest.mark.parametrize("decision", ["take", "keep"])
def test_a_squash_tells_of_a_decision_that_was_edited_since(decision):
    apart()
    to_hq, to_office = write(OFFICE, to=HQ)[0], write(HQ, to=OFFICE)[0]
    with override_settings(SYNCHRO_CONFLICT="hold"):
        take(to_hq, HQ)
        take(to_office, OFFICE)
        (mine,) = conflicts.conflicts(using=HQ)
        getattr(conflicts, decision)(mine.id, using=HQ)
        edited(HQ, name="after the decision")
        take(write(HQ, to=OFFICE, mode="squash")[0], OFFICE)
        assert conflicts.conflicts(using=OFFICE) == []
    assert_same(OFFICE, HQ)
    assert Country.objects.get().name == "after the decision"


def test_a_squash_does_not_pass_for_a_decision_what_was_made_without_knowing_it():
    Country.objects.create(code="PL", name="old")
    exchange(*CHAIN)
    for using in (OFFICE, HQ):
        edited(using, name=using)
    with override_settings(SYNCHRO_CONFLICT="hold"):
        carry(OFFICE, HQ)
        (mine,) = conflicts.conflicts(using=HQ)
        conflicts.keep(mine.id, using=HQ)
        edited(SHIP, name=SHIP)  # later than the decision
        carry(SHIP, HQ, on_conflict="incoming")
        data, _ = write(HQ, to="archive", mode="squash")
        told = [record for record in records(data) if record["model"] == "shop.country"]
        assert [(record["fields"]["name"], "resolution" in record) for record in told] == [(SHIP, False)]


def test_what_waits_is_neither_pruned_nor_reset():
    apart()
    edited(OFFICE, name="office again")
    carry(OFFICE, HQ, on_conflict="hold")
    for _ in range(2):
        carry(HQ, OFFICE)
        carry(OFFICE, HQ)
    prune(using=HQ)
    reset_synchro(HQ)
    first, _ = conflicts.conflicts(using=HQ)
    conflicts.take(first.id, using=HQ)
    assert at(Country).get().name == OFFICE


def test_a_merge_field_by_field():
    Parcel.objects.create(code="x", weight=1)
    exchange(*BOTH)
    edited(OFFICE, Parcel, weight=2, sender=Person.objects.create(name="p"))
    edited(HQ, Parcel, weight=3)
    carry(OFFICE, HQ, on_conflict="hold")
    (found,) = conflicts.conflicts(using=HQ)
    assert found.differing() == ["weight", "sender"]
    with unchanged(), pytest.raises(ResolveError, match="no field 'colour'"):
        conflicts.merge(found.id, incoming=["colour"], using=HQ)
    with unchanged(), pytest.raises(ResolveError, match="weight cannot be set"):
        conflicts.merge(found.id, values={"weight": "heavy"}, using=HQ)
    conflicts.merge(found.id, incoming=["sender"], values={"weight": "2.500"}, using=HQ)
    exchange(*BOTH)
    assert_same(OFFICE, HQ)
    parcel = Parcel.objects.get()
    assert (str(parcel.weight), parcel.sender.name) == ("2.500", "p")


@pytest.mark.parametrize("decision", ["take", "keep"])
@pytest.mark.parametrize("deleting", [OFFICE, HQ])
def test_deletions_wait_too(decision, deleting):
    Person.objects.create(name="p").tags.add(Tag.objects.create(name="t"))
    exchange(*BOTH)
    for using in (OFFICE, HQ):
        if using == deleting:
            at(Person, using).get().delete()
        else:
            edited(using, Person, name="edited")
    carry(OFFICE, HQ, on_conflict="hold")
    (found,) = conflicts.conflicts(using=HQ)
    with unchanged(), pytest.raises(ResolveError, match="no two states"):
        conflicts.merge(found.id, incoming=["name"], using=HQ)
    getattr(conflicts, decision)(found.id, using=HQ)
    exchange(*BOTH)
    assert_same(OFFICE, HQ)
    lives = (decision == "take") == (deleting == HQ)
    assert Person.objects.exists() == lives
    assert not lives or Person.objects.get().tags.count() == 1


@pytest.mark.parametrize("decision", ["take", "keep"])
def test_links_wait_too(decision):
    person, tag = Person.objects.create(name="p"), Tag.objects.create(name="t")
    exchange(*BOTH)
    person.tags.add(tag)
    at(Person).get().tags.add(at(Tag).get())
    at(Person).get().tags.remove(at(Tag).get())
    carry(OFFICE, HQ, on_conflict="hold")
    (found,) = conflicts.conflicts(using=HQ)
    assert found.kind == "link"
    assert not at(Person).get().tags.exists()
    getattr(conflicts, decision)(found.id, using=HQ)
    exchange(*BOTH)
    assert_same(OFFICE, HQ)
    assert person.tags.exists() == (decision == "take")


def link_apart():
    """One link, made anew at hq and taken away at the office, which do not know of each other; the ship knows hq's."""
    person, tag = Person.objects.create(name="p"), Tag.objects.create(name="t")
    person.tags.add(tag)
    exchange(*CHAIN)
    theirs = at(Person, HQ).get()
    theirs.tags.remove(at(Tag, HQ).get())
    theirs.tags.add(at(Tag, HQ).get())
    carry(HQ, SHIP)
    person.tags.remove(tag)


def test_a_decision_about_a_link_leaves_alone_what_waits_of_another_model():
    link_apart()
    with override_settings(SYNCHRO_CONFLICT="hold"):
        exchange(*CHAIN)
        (mine,) = conflicts.conflicts(using=HQ)
        (asked,) = conflicts.conflicts(using=SHIP)
        # Another model has a field of that name, too, and the same two primary keys.
        other = Conflict.objects.using(SHIP).get(pk=asked.id)
        other.pk, other.model = None, "shop.parcel"
        other.save(using=SHIP)
        conflicts.keep(mine.id, using=HQ)
        exchange(*CHAIN)
        assert [each.id for each in conflicts.conflicts(using=SHIP)] == [other.pk]


def test_who_made_the_two_versions_is_recorded_where_the_records_say_it():
    from tests.app.deploy import forged

    apart()

    def signed(header, found):
        found[-1]["actor"] = "bob"

    take(forged(write(OFFICE, to=HQ)[0], signed), HQ)
    (found,) = conflicts.conflicts(held=False, using=HQ)
    assert found.incoming["actor"] == "bob"


def test_the_command(capsys):
    def run(*arguments):
        call_command("synchro_conflicts", *arguments, database=HQ)
        return capsys.readouterr().out

    assert "Nothing waits" in run()
    apart()
    carry(OFFICE, HQ, on_conflict="hold")
    (found,) = conflicts.conflicts(using=HQ)
    assert "waits for a decision" in run("list")
    assert json.loads(run("list", "--json"))["local"]["fields"]["name"] == HQ
    shown = run("show", str(found.id))
    assert '"hq" here, "default" incoming' in shown
    assert status(HQ).conflicts_held == 1
    call_command("synchro_status", database=HQ)
    assert "synchro_conflicts" in capsys.readouterr().out
    with pytest.raises(CommandError, match="Say which"):
        run("take")
    with pytest.raises(CommandError, match="no conflict 999"):
        run("show", "999")
    assert "merge by ann" in run("merge", str(found.id), "--set", "name=both", "--by", "ann")
    exchange(*CHAIN)
    assert names() == ["both"] * 3
    assert "merge by ann" in run("list", "--all")


def test_values_of_a_merge_may_be_given_one_by_one(capsys):
    apart()
    carry(OFFICE, HQ, on_conflict="hold")
    (found,) = conflicts.conflicts(using=HQ)
    call_command("synchro_conflicts", "merge", str(found.id), "--set", "name=both", "--set", "code=DE", database=HQ)
    assert (at(Country, HQ).get().name, at(Country, HQ).get().code) == ("both", "DE")


# --- merge ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [OFFICE, HQ])
@pytest.mark.parametrize("sides", [(OFFICE, HQ), (HQ,), (OFFICE,)])
def test_different_fields_changed_on_two_sides_are_combined(first, sides):
    Country.objects.create(code="PL", name="old")
    exchange(*CHAIN)
    edited(first, name="new name")
    edited(HQ if first == OFFICE else OFFICE, code="XX")
    for _ in range(4):
        for source, target in CHAIN:
            carry(source, target, on_conflict="merge" if target in sides else None)
    exchange(*CHAIN)
    assert_same(OFFICE, HQ, SHIP)
    country = Country.objects.get()
    if sides == (OFFICE, HQ):
        assert (country.code, country.name) == ("XX", "new name")
        assert sum(map(made_here, (OFFICE, HQ, SHIP))) <= 5  # it, two edits, and at most two that combine them
    found = Conflict.objects.using(sides[0]).filter(policy="merge")
    assert [each.winner for each in found] == ["merged"]


@pytest.mark.parametrize("chunk", [1000, 1])
def test_several_changes_on_both_sides_are_combined(monkeypatch, chunk):
    monkeypatch.setattr("synchro.serialize.CHUNK", chunk)
    city = City.objects.create(name="c", country=Country.objects.create(code="PL"), population=1)
    exchange(*BOTH)
    for number in (2, 3):
        city.population = number
        city.save()
    Country.objects.create(code="DE")
    city.country = Country.objects.get(code="DE")
    city.save()
    for name in ("d", "e"):
        edited(HQ, City, name=name)
    carry(OFFICE, HQ, on_conflict="merge")
    exchange(*BOTH)
    assert_same(OFFICE, HQ)
    city.refresh_from_db()
    assert (city.name, city.population, city.country.code) == ("e", 3, "DE")


def test_what_was_combined_at_an_earlier_import_is_remembered():
    Country.objects.create(code="PL", name="old")
    exchange(*BOTH)
    edited(OFFICE, name="one")
    edited(HQ, code="XX")
    carry(OFFICE, HQ, on_conflict="merge")
    edited(OFFICE, name="two")  # without knowing of hq's change
    carry(OFFICE, HQ, on_conflict="merge")
    exchange(*BOTH)
    assert_same(OFFICE, HQ)
    assert (Country.objects.get().code, Country.objects.get().name) == ("XX", "two")


def test_one_field_changed_on_both_sides_falls_back_to_the_newest():
    apart()
    carry(OFFICE, HQ, on_conflict="merge")
    assert at(Country).get().name == HQ
    assert Conflict.objects.using(HQ).get().winner == "local"
    exchange(*CHAIN)
    assert_same(OFFICE, HQ, SHIP)


@pytest.mark.parametrize("first", [OFFICE, HQ])
def test_without_the_common_version_in_the_log_it_falls_back_to_the_newest(first):
    Country.objects.create(code="PL", name="old")
    exchange(*CHAIN)
    second = HQ if first == OFFICE else OFFICE
    edited(first, **({"code": "XX"} if first == OFFICE else {"name": "new"}))
    edited(second, **({"code": "XX"} if second == OFFICE else {"name": "new"}))
    exchange((HQ, SHIP), (SHIP, HQ))
    assert prune(using=HQ, ignore={OFFICE, "office"}).removed  # what both were made on is not the newest here
    carry(OFFICE, HQ, on_conflict="merge")
    country = at(Country).get()
    assert (country.code, country.name) == (("PL", "new") if first == OFFICE else ("XX", "old"))
    found = Conflict.objects.using(HQ).get()  # and nothing is lost: whose change lost is recorded, with all its fields
    assert (found.policy, found.winner) == ("merge", "local" if first == OFFICE else "incoming")
    assert (json.loads(found.local)["fields"]["name"], json.loads(found.incoming)["fields"]["code"]) == ("new", "XX")
    take(write(HQ, to=OFFICE, mode="snapshot")[0], OFFICE)
    assert_same(OFFICE, HQ)


def test_what_would_clash_with_another_row_when_combined_falls_back_to_the_newest():
    poland, germany = (Country.objects.create(code=code) for code in ("PL", "DE"))
    City.objects.create(name="a", country=germany)
    City.objects.create(name="b", country=poland)
    exchange(*CHAIN)
    city = City.objects.get(name="b")
    city.name = "a"  # there is one in Poland now, and one in Germany
    city.save()
    moved = City.objects.using(HQ).get(name="b")
    moved.country = Country.objects.using(HQ).get(code="DE")
    moved.save(using=HQ)
    assert brought(carry(OFFICE, HQ, on_conflict="merge")) == {"conflicts": 1}
    assert Conflict.objects.using(HQ).get().winner == "local"
    exchange(*CHAIN)
    assert_same(OFFICE, HQ, SHIP)
    assert sorted(City.objects.values_list("name", "country__code")) == [("a", "DE"), ("b", "DE")]


# --- several about one object -----------------------------------------------------------------------------------------


@pytest.fixture
def three_versions():
    """Versions of the office and of the ship wait at hq, whose own is another one."""
    apart()
    edited(SHIP, name=SHIP)
    for source in (OFFICE, SHIP):
        carry(source, HQ, on_conflict="hold")
    return [each.id for each in conflicts.conflicts(using=HQ)]


@pytest.mark.parametrize("decision", ["take", "keep", "merge"])
def test_a_decision_names_the_others_that_it_ends(three_versions, decision):
    first, second = three_versions
    assert [each.also for each in conflicts.conflicts(using=HQ)] == [(second,), (first,)]
    assert conflicts.conflict(first, using=HQ).also == (second,)
    decided = getattr(conflicts, decision)(first, using=HQ)
    assert (decided.id, decided.also) == (first, (second,))
    assert conflicts.conflict(second, using=HQ).resolution == decision
    assert conflicts.conflict(second, using=HQ).also == ()


def test_the_command_says_before_and_after_what_a_decision_ends(three_versions, capsys):
    first, second = three_versions
    call_command("synchro_conflicts", database=HQ)
    assert f"waits for a decision, which ends {second}, too" in capsys.readouterr().out
    with pytest.raises(CommandError, match=f"{first}, {second} are about the same object: decide for one of them"):
        call_command("synchro_conflicts", "take", second, first, database=HQ)
    assert at(Country).get().name == HQ
    call_command("synchro_conflicts", "take", first, by="ann", database=HQ)
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in told] == [str(first), str(second)]
    assert told[0].endswith(f"take by ann, which ends {second}, too")
    assert told[1].endswith("take by ann")
    assert at(Country).get().name == OFFICE


def test_keeping_what_is_here_against_all_of_them_is_one_decision(three_versions, capsys):
    call_command("synchro_conflicts", "keep", *three_versions, database=HQ)
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert conflicts.conflicts(using=HQ) == []
