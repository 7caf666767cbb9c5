"""Squashes, snapshots and bundles of some models: what they hold, and how they mix with the history."""

import itertools

import pytest
from django.core.management import call_command

from synchro import reset_synchro, scan
from synchro.errors import ExportError, GapError, ScanError
from synchro.models import ChangeLog, Conflict, Destination, KnownRange, Node, Reference, Version
from tests.app.deploy import assert_same, at, brought, carry, lines, records, rolled_back, take, write
from tests.app.test_scan import insert_all, populate
from tests.project.shop.models import City, Club, Country, Device, Parcel, Person, Tag

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])


def taken(using, of="office"):
    peer = Node.objects.using(using).filter(ident__startswith=of, own=False).first()
    return 0 if peer is None else peer.taken_seq


# --- squash -----------------------------------------------------------------------------------------------------------


def test_a_squash_has_each_object_once_and_gives_the_same_data():
    populate()
    for name in ("one", "two", "three"):
        person = Person.objects.get(name__in=["Ann", "one", "two"])
        person.name = name
        person.save()
    person.tags.clear()
    data, report = write(mode="squash")
    header, *found, _ = lines(data)
    assert (header["mode"], report.from_seq, report.to_seq) == ("squash", 0, 22)
    places = [(r["model"], r["id"], r.get("field")) for r in found if r["type"] == "change"]
    assert len(places) == len(set(places)) == report.records - report.objects == 18
    assert take(data).held == 0
    assert_same("default", "hq")
    assert taken("hq") == 22
    assert write()[0] is None  # the destination has it
    Tag.objects.create(name="later")
    assert (
        brought(carry(target="hq", source="default"))["added"] == 1
    )  # the stream hq begins at 0: all the rest is known
    assert_same("default", "hq")


def test_a_squash_that_begins_after_what_is_here_is_a_gap():
    Tag.objects.create(name="a")
    write()
    Tag.objects.create(name="b")
    data, _ = write(mode="squash")
    with pytest.raises(GapError, match="1 to 1"):
        take(data)


def test_t9_renamed_and_its_old_key_given_to_another_the_two_stay_two():
    first = Country.objects.create(code="K1", name="x")
    carry()
    first.code = "K2"
    first.save()
    Country.objects.create(code="K1", name="y")
    first.name = "x, edited"
    first.save()
    data, _ = write(to="hq", mode="squash")
    assert brought(take(data)) == {"changed": 1, "added": 1}
    assert_same("default", "hq")


def test_what_points_to_something_newer_comes_after_it():
    person = Person.objects.create(name="p")
    country = Country.objects.create(code="PL")
    person.city = City.objects.create(name="c", country=country)
    person.save()
    order = [record["model"] for record in records(write(mode="squash")[0])]
    assert order == ["shop.country", "shop.city", "shop.person"]


def test_deletions_come_first_children_before_parents():
    country = Country.objects.create(code="PL")
    City.objects.create(name="c", country=country)
    carry()
    country.delete()
    Country.objects.create(code="PL")
    data, _ = write(to="hq", mode="squash")
    assert [(r["action"], r["model"]) for r in records(data)] == [
        ("delete", "shop.city"), ("delete", "shop.country"), ("add", "shop.country"),
    ]  # fmt: skip
    assert take(data).held == 0
    assert_same("default", "hq")


def test_tombstones_reach_who_knows_what_was_born_within_the_range():
    parcel = Parcel.objects.create(code="x")
    device = Device.objects.create(name="d")
    early, _ = write(to="ship")
    take(early)
    parcel.delete()
    device.delete()
    data, _ = write(mode="squash")
    assert {r["action"] for r in records(data)} == {"delete"}
    assert brought(take(data)) == {"deleted": 2}
    assert_same("default", "hq")
    take(data, "ship")
    assert brought(take(early, "ship")) == {"stale": 2}
    assert_same("default", "ship")


def test_a_squash_of_a_range_of_its_own():
    for name in "abc":
        Tag.objects.create(name=name)
    data, report = write(since=1, until=2, mode="squash")
    assert (report.from_seq, report.to_seq, report.records) == (1, 2, 1)
    assert not Destination.objects.exclude(seq=0).exists()
    with pytest.raises(GapError):
        take(data)


# --- snapshot ---------------------------------------------------------------------------------------------------------


def test_a_snapshot_starts_a_deployment_from_a_database_older_than_synchro():
    insert_all()
    data, report = write(mode="snapshot", to="hq")
    header = lines(data)[0]
    assert header["mode"] == "snapshot"
    assert header["range"]["from"] == {"seq": 0, "date": None}
    assert take(data).held == 0
    assert_same("default", "hq")
    assert taken("hq") == report.to_seq
    populate_more()
    report = carry()  # the ordinary history joins on
    assert (report.from_seq, report.already_known) == (taken_before(report), 0)
    assert_same("default", "hq")


def populate_more():
    Person.objects.create(name="new", boss=Person.objects.get(name="Ann")).tags.add(Tag.objects.get())
    Parcel.objects.get().delete()
    city = City.objects.get()
    city.name = "Breslau"
    city.save()


def taken_before(report):
    return report.to_seq - report.records


def test_twice_a_snapshot_does_no_more_than_once():
    populate()
    data, _ = write(mode="snapshot")
    take(data)
    again = take(data)
    assert set(brought(again)) == {"already_known"}
    assert_same("default", "hq")


def test_the_same_snapshot_again_is_the_same_file():
    populate()
    assert write(mode="snapshot")[0] == write(mode="snapshot")[0] != write(mode="squash", since=0, until=99)[0]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_in_any_order_with_the_history_it_gives_the_same(order):
    populate()
    first, _ = write(to="hq")
    populate_more()
    snapshot, _ = write(mode="snapshot")
    second, _ = write(to="hq")
    for number in order:
        take([first, second, snapshot][number], allow_gap=True)
    assert_same("default", "hq")
    assert not Conflict.objects.using("hq").exists()
    Tag.objects.create(name="later")
    assert brought(carry()) == {"added": 1}
    assert_same("default", "hq")


def test_into_a_half_filled_deployment_with_edits_of_its_own():
    populate()
    carry()
    at(Club).update(name="unlogged")
    person = at(Person).get(name="Bob")
    person.name = "edited at hq"
    person.save()
    at(Device).get().delete()
    populate_more()
    data, _ = write(mode="snapshot")
    report = take(data)
    assert report.held == 0
    assert at(Person).get(pk=person.pk).name == "edited at hq"
    carry("hq", "default")
    assert Person.objects.filter(name="edited at hq").exists()
    assert not Device.objects.exists()


def test_rows_that_both_have_without_a_log_meet_by_key():
    insert_all()
    insert_all("hq")
    data, _ = write(mode="snapshot")
    take(data)
    assert at(Country).count() == at(City).count() == at(Tag).count() == at(Parcel).count() == 1


def test_a_snapshot_of_a_hub_carries_what_others_made():
    populate()
    carry()
    at(Club).create(name="hq's")
    data, _ = write("hq", mode="snapshot")
    assert take(data, "ship").held == 0
    assert_same("hq", "ship")
    take(data, "default")
    assert_same("hq", "default")
    assert brought(carry("default", "ship")).keys() <= {"already_known"}


def test_after_a_reset_a_snapshot_is_still_whole():
    populate()
    reset_synchro()
    data, _ = write(mode="snapshot")
    assert take(data).held == 0
    assert_same("default", "hq")


def test_a_snapshot_after_a_reset_tells_of_deletions():
    for name in ("stays", "goes"):
        person = Person.objects.create(name=name)
        person.tags.add(Tag.objects.create(name=name))
    carry()
    Person.objects.get(name="goes").delete()
    Person.objects.get().tags.clear()
    reset_synchro()
    assert {each.action for each in ChangeLog.objects.all()} == {"delete", "unlink"}
    data, _ = write(mode="snapshot")
    assert take(data).held == 0
    assert_same("default", "hq")


def test_a_snapshot_after_a_reset_tells_of_merges():
    Country.objects.create(code="PL", name="a")
    at(Country).create(code="PL", name="b")
    for _ in range(2):
        carry("hq", "default")
        carry()
    reset_synchro("hq")
    data, _ = write("hq", mode="snapshot")
    take(data, "ship")
    assert Reference.objects.using("ship").filter(model="shop.country").count() == 2


def test_what_is_left_after_a_reset_is_no_whole_range():
    tag = Tag.objects.create(name="a")
    Person.objects.create(name="p")
    tag.delete()
    Person.objects.get().delete()
    Person.objects.create(name="reset")
    reset_synchro()
    Person.objects.create(name="later")
    for since in range(5):
        with pytest.raises(ExportError, match="no longer holds"):
            write(since=since)
        with pytest.raises(ExportError, match="no longer holds"):
            write(since=since, mode="squash")
    assert write(since=5)[1].records == 1


def test_the_links_too_are_in_a_snapshot_after_a_reset():
    populate()
    reset_synchro()
    report = scan(whole=True)
    assert (report.added, report.changed, report.linked) == (0, 16, 2)
    assert scan(whole=True).total == 0


def test_a_snapshot_of_a_copy_has_what_it_inherited(settings):
    populate()
    carry("default", "hq")
    settings.SYNCHRO_NODE = "copy"
    Person.objects.create(name="new")
    data, _ = write(mode="snapshot", to="ship")
    assert take(data, "ship").held == 0
    assert_same("default", "ship")
    assert scan(whole=True).total == 0


def test_a_snapshot_of_a_restored_deployment_has_what_it_inherited():
    populate()
    carry()
    carry("hq", "default")
    with rolled_back("default"):
        Tag.objects.create(name="lost")
        carry()
    assert take(write("hq")[0], "default").new_id
    data, _ = write(mode="snapshot", to="ship")
    assert take(data, "ship").held == 0
    assert_same("default", "hq", "ship")


def test_an_empty_deployment_has_nothing_to_snapshot():
    assert write(mode="snapshot") == (None, None)


# --- some models ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["history", "squash", "snapshot"])
def test_a_bundle_of_some_models_moves_no_position(mode):
    populate()
    data, report = write(mode=mode, models=["shop.country", "shop.City"], to="hq")
    assert lines(data)[0]["only"] == ["shop.city", "shop.country"]
    assert {record["model"] for record in records(data)} == {"shop.city", "shop.country"}
    assert brought(take(data)) == {"added": 2}
    assert taken("hq") == 0
    assert not Destination.objects.exclude(seq=0).exists()
    assert set(brought(take(data))) == {"already_known"}
    report = carry()  # the whole history, all the same
    assert (report.from_seq, report.already_known, report.held) == (0, 2, 0)
    assert_same("default", "hq")


def test_what_some_models_point_to_is_waited_for():
    populate()
    data, _ = write(models=["shop.city"])
    assert brought(take(data)) == {"held": 1}
    assert carry().held == 0
    assert_same("default", "hq")


def test_what_cannot_be_asked_for():
    Tag.objects.create(name="a")
    with pytest.raises(ScanError, match="nothing that is tracked"):
        write(models=["nowhere"])
    with pytest.raises(ExportError, match="begins at position 0"):
        write(mode="snapshot", since=1)
    with pytest.raises(ExportError, match="no mode 'other'"):
        write(mode="other")


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Tag.objects.bulk_create([Tag(name="a")])
    call_command("synchro_export")
    assert "No changes" in capsys.readouterr().out
    call_command("synchro_export", "--scan")
    call_command("synchro_export", "--snapshot")
    call_command("synchro_export", "--squash", "--since=0")
    call_command("synchro_export", "--models", "shop.tag", "--since=0")
    names = {path.name.split("-", 2)[2] for path in tmp_path.iterdir()}
    assert names == {
        "000001-000001.jsonl.zst", "000001-000001-snapshot.jsonl.zst", "000001-000001-squash.jsonl.zst",
        "000001-000001-part.jsonl.zst",
    }  # fmt: skip
    call_command("synchro_import", str(tmp_path), "--database=hq")
    assert_same("default", "hq")
    with rolled_back("hq"):
        assert Version.objects.using("hq").count() == 1
        assert KnownRange.objects.using("hq").count() == 1
        assert Reference.objects.using("hq").count() == 1
