"""Compacting the log: what may go goes, and nothing that anybody needs."""

import datetime as dt

import orjson
import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from synchro.errors import ExportError, GapError, PruneError
from synchro.models import Bundle, ChangeLog, Destination, Held, KnownRange, Node
from synchro.pruning import prune
from tests.app.deploy import assert_same, at, brought, carry, everything, queries, take, unchanged, write
from tests.project.shop.models import Note, Person, Place, Restaurant, Tag

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])


def edits(note, *values):
    for value in values:
        note.char = value
        note.save()


def exchanged(*others):
    """Everybody has everything, and has said so."""
    for other in others or ("hq",):
        carry(target=other)
        carry(other, "default")


def logged(using="default"):
    return list(ChangeLog.objects.using(using).order_by("seq").values_list("seq", flat=True))


@pytest.fixture
def note():
    note = Note.objects.create(char="a")
    edits(note, "b", "c")
    return note


def test_the_newest_change_of_an_object_is_kept_and_the_others_go(note):
    exchanged()
    report = prune()
    assert (report.upto, report.removed, report.kept) == (3, 2, 1)
    assert logged() == [3]
    assert prune().removed == 0


def test_nothing_goes_that_a_destination_has_not_been_sent(note):
    exchanged()
    carry(target="ship")
    edits(note, "d")
    carry()
    edits(note, "e")
    carry()
    carry("hq", "default")
    report = prune()
    assert report.upto == 3
    assert report.holders[0].name == "destination ship"
    assert logged() == [3, 4, 5]
    assert brought(carry(target="ship")) == {"changed": 2}
    assert_same("default", "hq", "ship")


def test_nor_what_a_peer_has_not_said_to_have(note):
    exchanged()
    edits(note, "d", "e")
    carry()  # on its way: nothing came back yet
    report = prune()
    assert (report.upto, logged()) == (3, [3, 4, 5])
    assert report.holders[0].name == f"node {Node.objects.get(own=False).ident}"


def test_nothing_goes_where_nothing_was_ever_exported(note):
    with pytest.raises(PruneError, match="no destination and no node"):
        prune(ignore=["hq"])
    report = prune()
    assert (report.upto, report.removed) == (0, 0)
    assert ChangeLog.objects.count() == 3


def test_a_destination_or_node_that_is_gone_is_not_waited_for(note):
    exchanged()
    write(to="old", until=1)
    Destination.objects.create(log=Node.objects.get(current=True), name="old", seq=1)
    assert prune().upto == 1
    assert prune(ignore=["old"]).upto == 3


def test_only_what_came_before_a_date_goes(note):
    exchanged()
    assert prune(before=timezone.now() - dt.timedelta(hours=1)).removed == 0
    second = ChangeLog.objects.get(seq=2)
    moment = dt.datetime.fromtimestamp(second.captured / 1e6, dt.UTC) + dt.timedelta(microseconds=1)
    report = prune(before=moment)
    assert (report.upto, report.removed) == (2, 1)


def test_a_dry_run_changes_nothing_and_says_the_same(note):
    exchanged()
    with unchanged("default"):
        report = prune(dry_run=True)
    real = prune()
    assert (report.upto, report.removed, report.kept) == (real.upto, real.removed, real.kept)


def test_each_link_keeps_its_newest_change_and_deletions_stay():
    person, tag = Person.objects.create(name="p"), Tag.objects.create(name="t")
    person.tags.add(tag)
    person.tags.remove(tag)
    gone = Tag.objects.create(name="gone")
    gone.delete()
    exchanged()
    prune()
    kept = ChangeLog.objects.order_by("seq").values_list("action", "model")
    assert list(kept) == [
        ("add", "shop.person"), ("add", "shop.tag"), ("unlink", "shop.person"), ("delete", "shop.tag"),
    ]  # fmt: skip


def test_of_a_multi_table_object_the_childs_state_stays_where_the_parent_was_logged_later():
    restaurant = Restaurant.objects.create(name="r")
    place = Place.objects.get(pk=restaurant.pk)
    place.name = "edited as a place"
    place.save()
    exchanged()
    prune()
    assert ChangeLog.objects.filter(model="shop.restaurant").exists()


def test_merges_stay():
    at(Tag, "hq").create(name="same")
    Tag.objects.create(name="same")
    exchanged()
    exchanged()
    merges = ChangeLog.objects.using("hq").filter(action="same").count()
    assert merges
    carry("default")
    carry("hq", "default")
    prune(using="hq", ignore=["default"])
    assert ChangeLog.objects.using("hq").filter(action="same").count() == merges


def test_what_is_held_stays(settings):
    tag = Tag.objects.create(name="t")
    tag.name = "u"
    tag.save()
    settings.SYNCHRO_MODELS = (("shop", "note"),)
    carry()
    assert Held.objects.using("hq").count() == 2
    carry("hq", "default")
    settings.SYNCHRO_MODELS = (("shop", "note"),)
    Note.objects.create(char="says what this node has")
    carry()
    report = prune(using="hq")
    assert (report.upto, report.removed) == (2, 0)
    assert Held.objects.using("hq").count() == 2


def test_t5_tombstones_outlive_pruning_and_an_absent_site_that_returns_resurrects_nothing():
    tag = Tag.objects.create(name="t")
    exchanged("hq", "ship")
    at(Tag, "ship").get().save()  # while it is away
    tag.delete()
    exchanged("hq")
    prune(ignore=["ship"])
    assert brought(carry("ship", "default")) == {"conflicts": 1}
    carry(target="hq")
    assert not Tag.objects.exists()
    assert not at(Tag).exists()


def test_an_old_bundle_brings_nothing_back_after_pruning():
    note = Note.objects.create(char="a")
    old, _ = write(to="hq")
    take(old)
    edits(note, "b", "c")
    note.delete()
    exchanged()
    carry("hq", "default")
    prune(using="hq", ignore=["default"])
    with unchanged("hq"):
        report = take(old, dry_run=True)
    assert brought(take(old)) == brought(report) == {"already_known": 1}
    assert KnownRange.objects.using("hq").get().last == 4


def test_a_peer_from_beyond_the_horizon_is_told_to_take_a_snapshot(note):
    exchanged()
    prune()
    with pytest.raises(ExportError, match="was reset or pruned, and is whole from position 3 on") as caught:
        write(to="newcomer")
    assert "snapshot" in caught.value.hint
    with pytest.raises(ExportError, match="no longer holds every change after position 1"):
        write(since=1)


def test_who_has_everything_up_to_the_horizon_goes_on(note):
    exchanged()
    prune()
    edits(note, "d", "e")
    report = carry()
    assert (report.from_seq, report.to_seq) == (3, 5)
    assert_same("default", "hq")


def test_a_horizon_whose_own_change_went_still_has_its_date(note):
    carry()
    other = Note.objects.create(char="x")
    edits(note, "d")
    exchanged()
    write(to="late", until=4)
    Destination.objects.create(log=Node.objects.get(current=True), name="late", seq=3)
    edits(other, "y")
    exchanged()
    assert prune().upto == 3
    prune(ignore=["late"])
    Destination.objects.filter(name="late").delete()
    edits(other, "z")
    assert carry().from_seq == Destination.objects.get(name="hq").seq - 1


def test_logs_of_earlier_ids_are_compacted_too(note, settings):
    exchanged()
    settings.SYNCHRO_NODE = "copy"
    report = prune()
    assert report.node.startswith("copy-")
    assert (report.upto, report.removed) == (0, 2)


def test_the_number_of_queries_does_not_grow_with_the_changes():
    counted = []
    for number in (5, 60):
        for n in range(number):
            edits(Note.objects.create(char=str(n)), "again")
        exchanged()
        counted.append(queries("default", prune)[0])
    assert counted[0] == counted[1]


def test_the_command(note, capsys):
    exchanged()
    call_command("synchro_prune", dry_run=True)
    assert "would be compacted up to position 3: 2 changes would be dropped, 1 kept." in capsys.readouterr().out
    call_command("synchro_prune", "--json", "--before", "2099-01-01")
    told = orjson.loads(capsys.readouterr().out)
    assert (told["upto"], told["removed"], told["kept"], told["dry_run"]) == (3, 2, 1, False)
    assert [each["seq"] for each in told["holders"]] == [3, 3]
    with pytest.raises(CommandError, match="is no date"):
        call_command("synchro_prune", "--before", "soon")
    with pytest.raises(CommandError, match="no destination and no node called nobody"):
        call_command("synchro_prune", "--ignore", "nobody")


def test_the_command_says_why_nothing_goes(capsys):
    Note.objects.create(char="a")
    call_command("synchro_prune")
    assert "Nothing was exported yet" in capsys.readouterr().out


def test_status_says_what_each_peer_has_and_since_when_it_was_not_heard(note, capsys):
    exchanged()
    edits(note, "d")
    carry(target="ship")
    Node.objects.filter(own=False).update(heard=timezone.now() - dt.timedelta(days=12))
    prune()
    call_command("synchro_status")
    told = capsys.readouterr().out
    assert ["3", "1", "12", "days", "ago"] in [line.split()[2:] for line in told.splitlines()]
    assert "compacted up to 3" in told
    call_command("synchro_status", json=True)
    (peer,) = orjson.loads(capsys.readouterr().out)["peers"]
    assert (peer["acked"], peer["lacks"], peer["silent_days"]) == (3, 1, 12)


def test_bundles_and_conflicts_are_not_touched(note):
    exchanged()
    before = everything("default")
    prune()
    after = everything("default")
    assert Bundle.objects.count() == 2
    assert {table for table in before if before[table] != after[table]} == {"synchro_change", "synchro_node"}


def test_an_import_that_lacks_what_was_pruned_still_says_what_is_missing(note):
    exchanged()
    edits(note, "d")
    data, _ = write(to="hq")
    with pytest.raises(GapError, match="1 to 3"):
        take(data, "ship")
