"""Files that are lost, late, too large for the stick, or meant for somebody else."""

import os
import random
import re
import stat
from pathlib import Path
from unittest import mock

import orjson
import pytest
from django.core.management import CommandError, call_command

from changelog_format import verify
from synchro import DisableSynchroLog, conf, export_bundle, import_bundle, import_bundles, nodes, reset_synchro
from synchro.errors import DestinationError, ExportError, ForkError, GapError, RequestError
from synchro.exporting import prepare
from synchro.models import Destination, Node
from synchro.requests import answer, everything_since, missing_before, read_request, write_request
from synchro.splitting import export_parts, parse_size
from tests.app.deploy import assert_same, at, brought, carry, take, unchanged, write
from tests.project.shop.models import Note, Tag

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])


def tags(*names, using="default"):
    for name in names:
        at(Tag, using).create(name=name)


def names(using="hq"):
    return set(at(Tag, using).values_list("name", flat=True))


def to_file(folder, name="a", **options):
    tags(name)
    return export_bundle(folder, to="hq", **options).file


def ident(using="default"):
    return Node.objects.using(using).get(current=True).ident


# --- requests ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def lost(tmp_path):
    """Bundles 1 to 4, of which the second and third are lost; the first was taken at hq."""
    files = [to_file(tmp_path, name) for name in "abcd"]
    import_bundle(files[0], using="hq")
    return files


def test_a_request_names_exactly_what_is_missing_and_is_answered_with_exactly_that(lost, tmp_path):
    with pytest.raises(GapError, match="2 to 3") as caught:
        import_bundle(lost[3], using="hq")
    assert "synchro_request" in caught.value.hint
    (request,) = missing_before([lost[3]], using="hq")
    path = write_request(request, tmp_path)
    assert read_request(path) == request
    again = tmp_path / "again"
    again.mkdir()
    before = Destination.objects.get(name="hq").seq
    (report,) = answer(path, again)
    assert (report.from_seq, report.to_seq, report.moved) == (1, 3, False)
    assert Destination.objects.get(name="hq").seq == before
    assert [each.records for each in import_bundles([lost[3], again], using="hq")] == [2, 1]
    assert_same("default", "hq")


def test_several_holes_are_several_ranges_and_bundles_that_join_on_none(lost):
    (request,) = missing_before([lost[1], lost[3]], using="hq")
    assert [(each.since, each.until) for each in request.missing] == [(2, 3)]
    assert missing_before([lost[0], lost[1]], using="hq") == []


def test_a_bundle_of_some_models_fills_no_gap(tmp_path):
    tags("a")
    part = export_bundle(tmp_path, models=["shop.note", "shop.tag"]).file
    Path(export_bundle(tmp_path).file).unlink()
    tags("b")
    files = [part, export_bundle(tmp_path).file]
    for dry_run in (True, False):
        with pytest.raises(GapError):
            list(import_bundles(files, using="hq", dry_run=dry_run))
    (request,) = missing_before(files, using="hq")
    assert [(each.since, each.until) for each in request.missing] == [(0, 1)]


def test_a_bundle_of_some_models_needs_what_is_before_it(tmp_path):
    tags("a")
    export_bundle(tmp_path)
    tags("b")
    part = export_bundle(tmp_path, models=["shop.tag"]).file
    export_bundle(tmp_path)
    tags("c")
    last = export_bundle(tmp_path).file
    (request,) = missing_before([part], using="hq")
    assert [(each.since, each.until) for each in request.missing] == [(0, 1)]
    (request,) = missing_before([part, last], using="hq")
    assert [(each.since, each.until) for each in request.missing] == [(0, 2)]


def test_the_file_of_a_node_without_an_id_has_a_name_that_is_no_option(lost, tmp_path):
    (request,) = missing_before([lost[3]], using="ship")
    assert Node.objects.using("ship").filter(current=True).count() == 0
    path = write_request(request, tmp_path)
    assert path.name == f"{conf.node_name('ship')}-asks-{ident()}.request.json"


def test_who_was_only_heard_of_through_others_can_be_asked():
    tags("a")
    carry()
    carry("hq", "ship")
    for peer in ("office", ident()):
        request = everything_since(peer, using="ship")
        assert (request.of, request.missing[0].since) == (ident(), 0)
    with pytest.raises(RequestError, match="no node that is known here"):
        everything_since("nobody", using="ship")


def test_a_request_for_everything_since(lost, tmp_path):
    request = everything_since("office", using="hq")
    assert request.missing == everything_since(ident(), using="hq").missing
    (report,) = answer(write_request(request, tmp_path / "request.json"), tmp_path)
    assert (report.from_seq, report.to_seq) == (1, 4)
    with pytest.raises(RequestError, match="no bundle and no node"):
        everything_since("nobody", using="hq")


def test_only_the_one_who_is_asked_answers(lost, tmp_path):
    tags("of ship", using="ship")
    write("ship")
    path = write_request(everything_since("office", using="hq"), tmp_path)
    with pytest.raises(RequestError, match="asks for the log of office"):
        list(answer(path, tmp_path, using="ship"))


def test_a_request_that_knows_another_past_shows_that_this_one_was_restored(lost, tmp_path):
    path = write_request(everything_since("office", using="hq"), tmp_path / "r.json")
    data = orjson.loads(path.read_bytes())
    data["missing"][0]["date"] = "2020-01-01T00:00:00.000000Z"
    path.write_bytes(orjson.dumps(data))
    with pytest.raises(ForkError, match="restored from a backup"):
        list(answer(path, tmp_path))


@pytest.mark.parametrize(
    "change",
    [
        {"type": "other"},
        {"version": 2},
        {"missing": [{"since": -1, "until": 2, "date": None}]},
        {"missing": [{"since": 3, "until": 2, "date": "2026-11-23T10:11:12.000123Z"}]},
        {"missing": [{"since": True, "until": 2, "date": None}]},
        {"missing": [{"since": 1, "until": 2, "date": None}]},
        {"missing": [{"since": 1, "until": 2, "date": "yesterday"}]},
        {"missing": 1},
        {"of": 1},
    ],
)
def test_what_is_no_request_is_refused(change, tmp_path):
    data = {"type": "synchro-request", "version": 1, "of": "a-00000000", "by": "b", "name": "b", "created": ""}
    path = tmp_path / "request"
    path.write_bytes(orjson.dumps({**data, "missing": [], **change}))
    with pytest.raises(RequestError, match="no request that this version can read"):
        read_request(path)


def test_neither_is_a_file_of_any_other_kind(tmp_path):
    path = tmp_path / "request"
    for content in (b"", b"[1]", b"\xff", b"[" * 1000, b" " * 1_000_001):
        path.write_bytes(content)
        with pytest.raises(RequestError):
            read_request(path)


def test_the_commands(lost, tmp_path, capsys):
    call_command("synchro_request", lost[3], output=tmp_path, database="hq")
    assert f"asks {ident()} for positions 2 to 3." in capsys.readouterr().out
    (path,) = tmp_path.glob("*.request.json")
    call_command("synchro_export", answer=str(path), output=tmp_path, json=True)
    assert orjson.loads(capsys.readouterr().out)["to_seq"] == 3
    call_command("synchro_request", lost[0], database="hq")
    assert "Nothing is missing" in capsys.readouterr().out
    with pytest.raises(CommandError, match="takes its range from the request"):
        call_command("synchro_export", answer=str(path), since=1)
    path.write_bytes(b"{}")
    with pytest.raises(CommandError, match="no request"):
        call_command("synchro_export", answer=str(path), output=tmp_path)


def test_a_filled_hole_moves_the_checkpoint_over_what_was_taken_beyond_it(lost):
    import_bundle(lost[3], using="hq", allow_gap=True)
    assert Node.objects.using("hq").get(ident=ident()).taken_seq == 1
    at(Tag, "hq").create(name="of hq")
    assert write("hq")[0] is not None
    for file in lost[1:3]:
        import_bundle(file, using="hq")
    assert Node.objects.using("hq").get(ident=ident()).taken_seq == 4
    tags("e")
    assert brought(take(write(to="hq")[0])) == {"added": 1}


# --- overlap ----------------------------------------------------------------------------------------------------------


def test_an_overlap_repeats_the_previous_ranges(tmp_path):
    ranges = []
    for name in "abcde":
        tags(name)
        _, report = write(to="diode", overlap=2)
        ranges.append((report.from_seq, report.to_seq))
    assert ranges == [(0, 1), (0, 2), (0, 3), (1, 4), (2, 5)]
    assert write(to="diode", overlap=2)[0] is None
    write(to="diode", since=1, until=2)
    tags("f")
    assert write(to="diode", overlap=1)[1].from_seq == 4


def test_two_of_three_files_may_be_lost_on_a_one_way_link():
    taken = []
    for number in range(7):
        tags(str(number))
        data, _ = write(to="hq", overlap=2)
        if number % 3 == 0:
            taken.append(take(data).added)
    assert taken == [1, 3, 3]
    assert_same("default", "hq")


def test_an_overlap_is_of_a_destination_not_of_a_range_given_by_hand():
    tags("a")
    with pytest.raises(ExportError, match="name a range of their own"):
        write(since=0, overlap=1)
    with pytest.raises(ExportError, match="An overlap of -1"):
        write(overlap=-1)


# --- a maximum size ---------------------------------------------------------------------------------------------------


@pytest.fixture
def much():
    """About 300 KB that compress badly."""
    words = random.Random(1)
    for _ in range(60):
        Note.objects.create(char="n", text=words.randbytes(2500).hex())


@pytest.mark.parametrize("size", [30_000, 100_000])
def test_no_part_is_larger_and_each_is_a_bundle_that_joins_on(much, size, tmp_path):
    reports = list(export_parts(tmp_path, max_size=size, to="hq"))
    files = sorted(tmp_path.iterdir())
    assert [str(file) for file in files] == [each.file for each in reports]
    assert all(file.stat().st_size <= size for file in files)
    assert all(file.stat().st_size > size * 0.7 for file in files[:-1])
    assert [each.from_seq for each in reports] == [0, *(each.to_seq for each in reports[:-1])]
    assert sum(verify(file).records for file in files) == 60
    headers = [verify(file).header for file in files]
    assert [each.previous for each in headers] == [None, *(each.sha256 for each in reports[:-1])]
    shuffled = [str(file) for file in files]
    random.Random(2).shuffle(shuffled)
    assert sum(each.added for each in import_bundles(shuffled, using="hq")) == 60
    assert_same("default", "hq")


def test_a_single_bundle_where_all_fits(much, tmp_path):
    (report,) = export_parts(tmp_path, max_size=10_000_000)
    assert (report.from_seq, report.to_seq) == (0, 60)
    assert list(export_parts(tmp_path, max_size=10_000_000)) == []


def test_what_an_error_leaves_out_is_written_the_next_time(much, tmp_path):
    reports = export_parts(tmp_path, max_size=30_000)
    first = next(reports)
    reports.close()
    assert Destination.objects.get().seq == first.to_seq
    rest = list(export_parts(tmp_path, max_size=30_000))
    assert (rest[0].from_seq, rest[-1].to_seq) == (first.to_seq, 60)


def test_a_change_that_alone_is_too_large_is_named(much, tmp_path):
    with pytest.raises(ExportError, match="position 1 alone"):
        list(export_parts(tmp_path, max_size=2_000))
    assert list(tmp_path.iterdir()) == []


def test_a_part_is_the_same_file_again(much, tmp_path):
    reports = list(export_parts(tmp_path, max_size=100_000))
    part = reports[1]
    (tmp_path / "again").mkdir()
    again = export_bundle(tmp_path / "again", since=part.from_seq, until=part.to_seq)
    assert Path(part.file).read_bytes() == Path(again.file).read_bytes()


def test_parts_go_to_a_folder(much, tmp_path):
    with pytest.raises(ExportError, match="no folder"):
        list(export_parts(tmp_path / "file", max_size=100_000))


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GB", 4 * 10**9), ("4G", 4 * 10**9), ("1.5 MiB", 1572864), ("700mb", 7 * 10**8), ("12", 12), ("64KiB", 65536)],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1", "4TB", "4 4", "4GBs"])
def test_what_is_no_size(text, capsys):
    with pytest.raises(ValueError, match="is no size"):
        parse_size(text)
    with pytest.raises(CommandError, match="is no size"):
        call_command("synchro_export", f"--max-size={text}")


def test_the_command_tells_of_each_part(much, tmp_path, capsys):
    call_command("synchro_export", output=str(tmp_path), max_size=100_000)
    assert len(capsys.readouterr().out.splitlines()) == len(list(tmp_path.iterdir())) > 1


# --- destinations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["default", "hq", "HQ"])
def test_bundles_for_anybody_and_for_this_node_are_taken(to):
    tags("a")
    assert take(write(to=to)[0], any_destination=False).added == 1


def test_so_is_one_that_names_its_id():
    tags("of hq", using="hq")
    write("hq")
    tags("a")
    assert take(write(to=ident("hq"))[0], any_destination=False).added == 1


def test_a_bundle_for_another_node_is_refused_unless_told_otherwise(tmp_path, capsys):
    tags("a")
    file = export_bundle(tmp_path, to="archive").file
    with unchanged(), pytest.raises(DestinationError, match="written for 'archive', and this deployment is 'hq'"):
        import_bundle(file, using="hq")
    with pytest.raises(CommandError, match="give --any-destination"):
        call_command("synchro_import", file, database="hq")
    call_command("synchro_import", file, database="hq", any_destination=True)
    assert names() == {"a"}


def test_an_own_bundle_comes_back_harmlessly_whoever_it_was_for():
    tags("a")
    data, _ = write(to="hq")
    with unchanged("default"):
        assert take(data, "default", any_destination=False).own


# --- clocks -----------------------------------------------------------------------------------------------------------


def test_the_report_says_how_far_the_senders_clock_is_ahead(tmp_path, capsys):
    tags("a")
    real = __import__("time").time_ns()
    with mock.patch("synchro.exporting.changelog.now", return_value=real // 1000 + 600_000_000):
        file = export_bundle(tmp_path).file
    call_command("synchro_import", file, database="hq", dry_run=True)
    assert "is ahead of this machine's by" in capsys.readouterr().out
    assert 590 < import_bundle(file, using="hq").sender_ahead < 600


def test_nothing_is_said_of_a_clock_that_is_right(tmp_path, capsys):
    tags("a")
    file = export_bundle(tmp_path).file
    call_command("synchro_import", file, database="hq", json=True)
    assert orjson.loads(capsys.readouterr().out)["sender_ahead"] == 0
    tags("b")
    call_command("synchro_import", export_bundle(tmp_path).file, database="hq")
    assert "ahead" not in capsys.readouterr().out


def test_there_is_nothing_to_prepare_where_nothing_is_new():
    tags("a")
    carry()
    assert prepare(to="hq", since=None, until=None, overlap=3, using="default") is None


# --- what is known, and what is said ----------------------------------------------------------------------------------


def test_what_is_known_stays_known_after_a_reset():
    tags("a", "b")
    data, _ = write(to="hq")
    take(data)
    reset_synchro("hq")
    at(Tag).filter(name="a").delete()
    with unchanged():
        assert brought(take(data, dry_run=True)) == {"already_known": 2}
    assert brought(take(data)) == {"already_known": 2}
    assert names() == {"b"}


def test_l4_status_says_why_there_is_nothing_to_export(settings, capsys):
    def told():
        call_command("synchro_status")
        return capsys.readouterr().out

    assert "Nothing was logged so far" in told()
    tags("a")
    assert "1 pending" in told()
    carry()
    assert re.search(r"^hq +1 +0 ", told(), re.MULTILINE)  # exported up to, waiting
    with DisableSynchroLog():
        assert "switched off" in told()
    settings.SYNCHRO_MODELS = ()
    assert "SYNCHRO_MODELS is empty" in told()


def test_l2_the_position_moves_only_when_file_and_folder_are_durable(tmp_path):
    tags("a")
    done = []
    real = {"fsync": os.fsync, "replace": Path.replace, "lock": nodes.lock_own}

    def fsync(descriptor):
        done.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        real["fsync"](descriptor)

    def replace(path, target):
        done.append("rename")
        return real["replace"](path, target)

    def lock_own(using):
        done.append("position")
        return real["lock"](using)

    with (
        mock.patch("os.fsync", fsync),
        mock.patch.object(Path, "replace", replace),
        mock.patch("synchro.exporting.nodes.lock_own", lock_own),
    ):
        export_bundle(tmp_path, to="hq")
    assert done[-4:] == ["file", "rename", "folder", "position"]


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace", "synchro.exporting._record"])
def test_l2_a_crash_at_any_step_leaves_the_position_and_the_next_export_repeats_the_range(step, tmp_path):
    tags("a")
    with mock.patch(step, side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        export_bundle(tmp_path, to="hq")
    assert not Destination.objects.exists()
    left = list(tmp_path.iterdir())
    assert all(verify(file).records == 1 for file in left)
    for file in left:
        import_bundle(file, using="hq")
    report = export_bundle(tmp_path, to="hq")
    assert (report.from_seq, report.to_seq) == (0, 1)
    import_bundle(report.file, using="hq")
    assert names() == {"a"}
