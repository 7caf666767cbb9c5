"""A database that was restored from a backup meets what it wrote before, recognises itself and goes on."""

import re
import shutil

import pytest

from synchro.errors import ForkError, GapError
from synchro.models import ChangeLog, Conflict, KnownRange, Node, Reference
from synchro.seal import seal
from tests.app.deploy import assert_same, at, brought, carry, everything, records, rolled_back, take, unchanged, write
from tests.app.processes import Deployment
from tests.project.shop.models import Note, Person, Tag

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])


def ident(using="default"):
    return Node.objects.using(using).get(current=True).ident


def both_ways(*aliases):
    """Everything goes everywhere, as often as it takes."""
    for _ in range(2):
        for source in aliases:
            for target in aliases:
                if source != target:
                    carry(source, target)


@pytest.fixture
def backed_up():
    """A restore is what a rolled back transaction leaves: the lost future happens inside the block."""
    Tag.objects.create(name="before")
    carry()
    carry("hq", "default")
    return lambda: rolled_back("default")


def test_t12_a_restored_database_recognises_itself_takes_a_new_id_and_gets_its_lost_future_back(backed_up):
    old = ident()
    with backed_up():
        Tag.objects.create(name="lost")
        Tag.objects.filter(name="before").get().delete()
        carry()
    Tag.objects.create(name="made after the restore, not exported")
    data, _ = write("hq")
    report = take(data, "default")
    assert report.new_id == ident() != old
    assert brought(report) == {"added": 1, "deleted": 1}
    assert not at(Tag, "default").filter(name="before").exists()
    assert at(Tag, "default").filter(name="lost").exists()
    report = carry()
    assert report.node == ident()
    assert brought(report) == {"added": 1, "already_known": 2}
    assert_same("default", "hq")
    assert carry("hq", "default") is not None  # the echo
    assert_same("default", "hq")


def test_t12_what_it_sealed_and_exported_under_the_old_positions_goes_on_under_the_new_id(backed_up):
    old = ident()
    with backed_up():
        Tag.objects.create(name="lost")
        carry()
    tag = Tag.objects.create(name="new")
    tag.name = "new, edited"
    tag.save()
    data, _ = write(to="hq")
    with unchanged(), pytest.raises(ForkError, match="two different changes claim one position") as caught:
        take(data)
    assert "take a new id" in caught.value.hint
    assert take(write("hq")[0], "default").new_id is not None
    made = ChangeLog.objects.filter(origin__ident=ident()).order_by("origin_seq")
    assert list(made.values_list("action", flat=True)) == ["add", "change"]
    carry()
    assert_same("default", "hq")
    assert set(at(Tag).values_list("name", flat=True)) == {"before", "lost", "new, edited"}
    assert KnownRange.objects.filter(origin__ident=old).count() == 1


def test_t12_the_same_primary_key_given_twice_is_two_objects(backed_up):
    with backed_up():
        lost = Person.objects.create(name="lost")
        carry()
    again = Person.objects.create(pk=lost.pk, name="another")
    take(write("hq")[0], "default")
    carry()
    assert_same("default", "hq")
    assert sorted(at(Person).values_list("name", flat=True)) == ["another", "lost"]
    assert Reference.objects.get(model="shop.person", pk_text=str(again.pk), object_id__startswith=ident())


def test_t12_edits_on_both_sides_of_the_restore_are_a_conflict_and_end_alike(backed_up):
    note = Note.objects.create(char="before", text="t")
    carry()
    carry("hq", "default")
    with rolled_back("default"):
        note.char = "lost"
        note.save()
        carry()
    note.char = "after"
    note.save()
    seal("default")
    take(write("hq")[0], "default")
    carry()
    carry("hq", "default")
    assert_same("default", "hq")
    assert at(Note).get().char == "after"
    assert Conflict.objects.get().winner == "local"


def test_t12_what_one_destination_had_not_got_before_the_backup_reaches_it():
    Tag.objects.create(name="a")
    carry(target="ship")
    carry("ship", "default")
    Tag.objects.create(name="b")
    carry()
    carry("hq", "default")
    with rolled_back("default"):
        Tag.objects.create(name="lost")
        carry()
    take(write("hq")[0], "default")
    assert brought(carry(target="ship")) == {"added": 2}
    assert_same("default", "hq", "ship")


def test_t12_what_it_took_in_since_hides_no_lost_change_behind_its_position():
    Tag.objects.create(name="before")
    carry()
    carry("hq", "default")
    with rolled_back("default"):
        Tag.objects.create(name="lost")
        on_its_way, _ = write(to="hq")
    at(Tag, "hq").create(name="of hq")
    carry("hq", "default")  # at the position that "lost" had
    take(on_its_way)
    report = carry("hq", "default")
    assert report.new_id == ident()
    assert brought(report) == {"added": 1}
    both_ways("default", "hq")
    assert_same("default", "hq")
    assert Tag.objects.count() == 3


def test_t12_three_deployments_come_to_the_same_after_a_restore(backed_up):
    both_ways("default", "hq", "ship")
    with backed_up():
        Tag.objects.create(name="lost")
        carry(target="ship")
    Tag.objects.create(name="kept")
    at(Tag, "hq").create(name="of hq")
    both_ways("ship", "hq", "default")
    assert_same("default", "hq", "ship")
    assert Tag.objects.count() == 4
    before = everything("hq")["shop_tag"]
    both_ways("default", "hq", "ship")
    assert everything("hq")["shop_tag"] == before


def lost_with_a_relayed_change():
    """The hub "default" relayed a change of "ship" and made one itself, and "hq" has both; then it was set back."""
    Tag.objects.create(name="before")
    both_ways("default", "hq", "ship")
    with rolled_back("default"):
        at(Tag, "ship").create(name="of ship")
        carry("ship", "default")
        Tag.objects.create(name="lost")
        carry()
    Tag.objects.create(name="after")
    assert brought(carry(target="ship")) == {"added": 1}
    take(write("ship", since=0)[0], "default")  # and says how much it has of this log by now


def test_t12_what_one_peer_has_taken_since_reaches_another_that_refused_it():
    lost_with_a_relayed_change()
    with unchanged(), pytest.raises(ForkError, match="two different changes"):
        carry()
    assert carry("hq", "default").new_id == ident()
    carry()
    assert at(Tag).filter(name="after").exists()
    both_ways("default", "hq", "ship")
    assert_same("default", "hq", "ship")
    assert set(at(Tag).values_list("name", flat=True)) == {"before", "of ship", "lost", "after"}


def test_t12_what_it_relayed_since_reaches_a_peer_that_refused_it():
    Tag.objects.create(name="before")
    both_ways("default", "hq", "ship")
    at(Tag, "ship").create(name="of ship")
    with rolled_back("default"):
        at(Tag, "hq").create(name="of hq")
        carry("hq", "default")
        Tag.objects.create(name="lost")
        carry()
    carry("ship", "default")  # at the position that the change of hq had
    Tag.objects.create(name="after")
    carry(target="ship")
    at(Tag, "ship").create(name="later")
    carry("ship", "default")
    with unchanged(), pytest.raises(ForkError, match="two different changes"):
        carry()
    assert carry("hq", "default", allow_gap=True).new_id == ident()
    carry()
    assert set(at(Tag).values_list("name", flat=True)) == {"before", "of hq", "of ship", "later", "lost", "after"}


def test_t12_an_ack_beyond_its_log_is_enough():
    Tag.objects.create(name="a")
    carry()
    with rolled_back("default"):
        Tag.objects.create(name="lost")
        carry()
    at(Tag).create(name="of hq")
    data, report = write("hq", since=Node.objects.using("hq").get(current=True).seq)
    old = ident()
    assert report.from_seq == 2
    report = take(data, "default", allow_gap=True)
    assert report.new_id
    assert ident() != old


def test_t12_a_bundle_that_is_refused_for_a_gap_shows_it_too():
    Tag.objects.create(name="a")
    carry()
    with rolled_back("default"):
        Tag.objects.create(name="lost")
        carry()
    at(Tag).create(name="of hq")
    data, _ = write("hq", since=Node.objects.using("hq").get(current=True).seq)
    old = ident()
    Tag.objects.create(name="after")
    with pytest.raises(GapError, match=r"changes 1 to 2 of hq-\w+ are missing") as caught:
        take(data, "default")
    assert ident() != old
    assert f"It goes on as {ident()}; its next bundle carries what they may lack. Import the" in caught.value.hint
    assert set(Tag.objects.values_list("name", flat=True)) == {"a", "after"}
    with unchanged("default"), pytest.raises(GapError):
        take(data, "default")
    carry()
    assert at(Tag).filter(name="after").exists()
    take(write("hq", since=0)[0], "default")
    both_ways("default", "hq")
    assert_same("default", "hq")


@pytest.mark.parametrize("more", [0, 2])
def test_t12_the_way_out_that_a_refusal_names_is_one_where_there_is_no_news(backed_up, more):
    with backed_up():
        Tag.objects.create(name="lost")
        for number in range(more):
            at(Tag, "hq").create(name=f"of hq {number}")
        carry()
        carry("hq", "default")
    Tag.objects.create(name="after")
    with pytest.raises(ForkError) as caught:
        carry()
    assert carry("hq", "default") is None
    way = re.search(r"`synchro_export --to [a-z]+ --since ([0-9]+)`", caught.value.hint)
    report = take(write("hq", to="default", since=int(way[1]))[0], "default")
    assert report.new_id == ident()
    assert brought(report) == {"added": 1 + more}
    carry()
    both_ways("default", "hq")
    assert_same("default", "hq")
    assert at(Tag).filter(name="after").exists()


def test_t12_the_way_out_from_what_another_passed_on(backed_up):
    both_ways("default", "hq", "ship")
    with backed_up():
        Tag.objects.create(name="lost")
        carry()
        carry("hq", "default")
    Tag.objects.create(name="after")
    carry(target="ship")
    refused, _ = write("ship", to="hq")
    with unchanged(), pytest.raises(ForkError) as caught:
        take(refused)
    way = re.search(r"`synchro_export --to [a-z]+ --since ([0-9]+)`", caught.value.hint)
    assert take(write("hq", to="default", since=int(way[1]))[0], "default").new_id == ident()
    carry()
    take(refused)
    both_ways("default", "hq", "ship")
    assert_same("default", "hq", "ship")
    assert Tag.objects.count() == 3


def test_i3_its_own_later_bundle_brings_its_lost_future_back(backed_up):
    old = ident()
    with backed_up():
        Tag.objects.create(name="lost")
        data, _ = write()
    Tag.objects.create(name="after")
    with unchanged("default"), pytest.raises(ForkError, match="restored from a backup"):
        take(data, "default", dry_run=True)
    report = take(data, "default")
    assert report.new_id == ident() != old
    assert brought(report) == {"added": 1, "already_known": 1}
    assert take(data, "default").already_known == report.records


def test_i3_its_peers_notice_that_a_position_was_used_twice(backed_up):
    with backed_up():
        Tag.objects.create(name="lost")
        data, _ = write(to="hq")
    take(data)
    Tag.objects.create(name="after")
    data, _ = write(to="hq")
    with unchanged(), pytest.raises(ForkError, match="two different changes"):
        take(data)


def test_an_own_bundle_is_known():
    Tag.objects.create(name="a")
    data, _ = write()
    with unchanged("default"):
        report = take(data, "default")
    assert (report.own, report.already_known, report.new_id) == (True, 1, None)


def test_nothing_of_this_happens_after_a_reset_or_where_nothing_was_lost(backed_up):
    from synchro import reset_synchro

    old = ident()
    Tag.objects.create(name="b")
    carry()
    reset_synchro()
    assert take(write("hq")[0], "default").new_id is None
    assert ident() == old


def test_the_new_id_is_taken_before_anything_is_sealed(backed_up):
    old = ident()
    with backed_up():
        Tag.objects.create(name="lost")
        carry()
    Tag.objects.create(name="pending")
    take(write("hq")[0], "default")
    assert not ChangeLog.objects.filter(origin__ident=old, imported=False, origin_seq__gt=1).exists()
    assert ChangeLog.objects.get(origin__ident=ident()).pk_text == str(Tag.objects.get(name="pending").pk)


def test_changes_of_its_earlier_id_are_exported_with_their_origin():
    Tag.objects.create(name="a")
    carry(target="ship")
    Tag.objects.create(name="b")
    carry()
    carry("hq", "default")
    old = ident()
    with rolled_back("default"):
        Tag.objects.create(name="lost")
        carry()
    take(write("hq")[0], "default")
    found = records(write(to="ship")[0])
    assert [each.get("origin") for each in found[:1]] == [{"node": old, "seq": 2}]


def test_a_file_that_was_copied_away_and_back(tmp_path):
    office, hq = Deployment(tmp_path / "office", "office"), Deployment(tmp_path / "hq", "hq")
    office.run("Tag.objects.create(name='a')")
    hq.take(office.export(to="hq"))
    shutil.copy(office.database, tmp_path / "backup")
    office.run("Tag.objects.create(name='lost')")
    hq.take(office.export(to="hq"))
    shutil.copy(tmp_path / "backup", office.database)
    office.run("Tag.objects.create(name='after')")
    assert "restored from a backup" in office.take(hq.export(to="office"))
    hq.take(office.export(to="hq"))
    assert office.tags() == hq.tags() == ["a", "after", "lost"]
