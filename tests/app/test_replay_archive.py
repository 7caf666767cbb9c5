"""synchro_import --until: an empty deployment becomes what another one was at some moment."""

import datetime as dt
import io
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from django.test import override_settings

from synchro import export_bundle
from synchro.errors import GapError, ImportRefusedError, ReplayError
from synchro.models import ChangeLog, Node
from synchro.moments import from_microseconds
from synchro.replaying import parse_until, replay
from tests.app.deploy import assert_same, carry, dump, rolled_back, take, unchanged, write
from tests.project.plain.models import Color
from tests.project.shop.models import Car, Country, Person, Tag

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])
HQ = "hq"


def life(step):
    """One transaction's worth of work at the office."""
    if step % 5 == 4:
        Tag.objects.order_by("pk").first().delete()
    elif step % 5 == 3:
        person = Person.objects.create(name=f"person {step}")
        person.tags.add(*Tag.objects.all())
    elif step % 5 == 2:
        Country.objects.update_or_create(code="PL", defaults={"name": f"in step {step}"})
    else:
        Tag.objects.create(name=f"tag {step}")


@pytest.fixture
def archive(tmp_path):
    """Twelve steps in five bundles: the folder, and after each step its position, its date and what there was."""
    states = []
    for step in range(12):
        life(step)
        write(to="nobody")  # seals
        node = Node.objects.get(current=True)
        date = ChangeLog.objects.get(log=node, seq=node.seq).date
        states.append((node.seq, date, dump("default")))
        if step in (1, 4, 5, 9, 11):
            export_bundle(tmp_path, to="archive")
    return tmp_path, states


def files(folder):
    return sorted(folder.glob("*.jsonl.zst"))


def test_any_prefix_by_position_is_the_state_of_that_moment(archive):
    folder, states = archive
    for seq, _, expected in states:
        with rolled_back():
            list(replay([folder], seq, using=HQ))
            assert dump(HQ) == expected
            assert Node.objects.using(HQ).get(ident__startswith="office").taken_seq == seq


def test_any_prefix_by_date_is_the_state_of_that_moment(archive):
    folder, states = archive
    for number, (seq, date, expected) in enumerate(states):
        last = states[number + 1][1] - 1 if number + 1 < len(states) else date + 10**9
        for moment in (date, last):
            with rolled_back():
                list(replay([folder], from_microseconds(moment), using=HQ))
                if moment == date:
                    assert dump(HQ) == expected
                assert Node.objects.using(HQ).get(ident__startswith="office").taken_seq >= seq


def test_before_the_beginning_there_was_nothing(archive):
    folder, states = archive
    with unchanged():
        assert list(replay([folder], from_microseconds(states[0][1] - 1), using=HQ)) == []
    out = io.StringIO()
    call_command("synchro_import", str(folder), "--until", "2001-01-01", "--database", HQ, stdout=out)
    assert out.getvalue() == "Nothing had been logged by then.\n"


def test_step_by_step_to_the_end_and_then_on_as_usual(archive):
    folder, states = archive
    for seq, _, expected in states[::3]:
        list(replay([folder], seq, using=HQ))
        assert dump(HQ) == expected
    for path in files(folder):
        take(path.read_bytes())
    assert_same("default", HQ)
    Tag.objects.create(name="later")
    carry()
    assert_same("default", HQ)


def test_what_was_replayed_passes_on_what_it_has(archive):
    folder, states = archive
    list(replay([folder], states[6][0], using=HQ))
    carry(HQ, "ship")
    assert dump("ship") == states[6][2]


def test_a_preview_writes_nothing(archive):
    folder, states = archive
    with unchanged():
        reports = list(replay([folder], states[6][0], dry_run=True, using=HQ))
    assert reports[-1].to_seq == states[6][0]


def test_rows_that_only_later_changes_point_to_do_not_come(tmp_path):
    Tag.objects.create(name="a")
    Car.objects.create(plate="1", color=Color.objects.create(name="red"))
    export_bundle(tmp_path)
    list(replay([tmp_path], 1, using=HQ))
    assert not Color.objects.using(HQ).exists()
    list(replay([tmp_path], 2, using=HQ))
    assert Color.objects.using(HQ).exists()


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_chain_with_a_gap_is_refused_before_anything_is_written(archive, missing):
    folder, states = archive
    files(folder)[missing].unlink()
    with unchanged(), pytest.raises(GapError, match="are missing in these bundles"):
        list(replay([folder], states[-2][0], using=HQ))


def test_a_gap_after_the_moment_does_not_matter(archive):
    folder, states = archive
    for path in files(folder)[2:]:
        path.unlink()
    list(replay([folder], states[3][0], using=HQ))
    assert dump(HQ) == states[3][2]


def test_a_position_that_is_not_there_yet(archive):
    folder, states = archive
    with unchanged(), pytest.raises(ReplayError, match=f"end at position {states[-1][0]}, before 999"):
        list(replay([folder], 999, using=HQ))


def test_a_damaged_file_is_refused_before_anything_is_written(archive):
    folder, states = archive
    path = files(folder)[1]
    path.write_bytes(path.read_bytes()[:-3])
    with unchanged(), pytest.raises(Exception, match="ends within a frame"):
        list(replay([folder], states[-1][0], using=HQ))


def test_only_into_a_deployment_without_changes_of_its_own(archive):
    folder, states = archive
    Tag.objects.using(HQ).create(name="own")
    with unchanged(), pytest.raises(ReplayError, match="1 change of its own"):
        list(replay([folder], states[3][0], using=HQ))


def test_not_back(archive):
    folder, states = archive
    list(replay([folder], states[5][0], using=HQ))
    for until in (states[3][0], from_microseconds(states[3][1])):
        with unchanged(), pytest.raises(ReplayError, match="from after that already"):
            list(replay([folder], until, using=HQ))


def test_a_snapshot_stands_for_all_before_it_and_for_nothing_within(tmp_path):
    for step in range(4):
        life(step)
    first = export_bundle(tmp_path, mode="snapshot", to="archive")
    expected = dump("default")
    life(5)
    export_bundle(tmp_path, to="archive")
    with unchanged(), pytest.raises(ReplayError, match="is a snapshot up to position"):
        list(replay([tmp_path], first.to_seq - 1, using=HQ))
    with pytest.raises(ImportRefusedError, match="is taken whole"):
        take(Path(first.file).read_bytes(), until=2)
    list(replay([tmp_path], first.to_seq, using=HQ))
    assert dump(HQ) == expected
    list(replay([tmp_path], first.to_seq + 1, using=HQ))
    assert_same("default", HQ)


def test_a_snapshot_is_not_needed_where_there_is_the_history(archive):
    folder, states = archive
    export_bundle(folder, mode="snapshot", to="other")
    list(replay([folder], states[5][0], using=HQ))
    assert dump(HQ) == states[5][2]


def test_archives_of_several_nodes(tmp_path):
    Tag.objects.create(name="a")
    carry("default", HQ)
    Tag.objects.using(HQ).create(name="b")
    for using, name in (("default", "archive"), (HQ, "archive")):
        export_bundle(tmp_path, to=name, using=using)
    with unchanged("ship"), pytest.raises(ReplayError, match="A position is one in the log of one node"):
        list(replay([tmp_path], 1, using="ship"))
    list(replay([tmp_path], dt.datetime(2999, 1, 1, tzinfo=dt.UTC), using="ship"))
    assert_same(HQ, "ship")


def test_the_command(archive):
    folder, states = archive
    out = io.StringIO()
    call_command("synchro_import", str(folder), "--until", str(states[4][0]), "--database", HQ, stdout=out)
    assert f"to {states[4][0]}: " in out.getvalue()
    assert dump(HQ) == states[4][2]
    for wrong in (["--strict"], ["--allow-gap"], ["--on-conflict", "local"]):
        with pytest.raises(CommandError, match="leave --"):
            call_command("synchro_import", str(folder), "--until", "5", "--database", HQ, *wrong)
    with pytest.raises(CommandError, match="give files or folders"):
        call_command("synchro_import", "-", "--until", "5", "--database", HQ)
    with pytest.raises(CommandError, match="is no position"):
        call_command("synchro_import", str(folder), "--until", "yesterday", "--database", HQ)


def test_how_a_moment_is_written():
    assert parse_until("412") == 412
    with override_settings(TIME_ZONE="Europe/Warsaw"):
        assert parse_until("2026-07-01").astimezone(dt.UTC).isoformat() == "2026-07-01T21:59:59.999999+00:00"
        assert parse_until("2026-07-01T12:00").astimezone(dt.UTC).isoformat() == "2026-07-01T10:00:00+00:00"
    assert parse_until("2026-07-01T12:00:00Z").isoformat() == "2026-07-01T12:00:00+00:00"
    for wrong in ("", "x", "-1", "2026-02-30", "2026-13-01T00:00"):
        with pytest.raises(ValueError):
            parse_until(wrong)
    assert connections[HQ]
