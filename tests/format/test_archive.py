"""A folder of bundles: what joins on, what is missing, what was exchanged."""

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from changelog_format import NodeInfo, Position, check_archive, verify
from changelog_format.__main__ import main
from changelog_format.archive import described
from tests.format.samples import bundle, change, day, header


def written(folder, name, start, end, *, previous=None, destination="archive", shift=0, **values):
    """A bundle of the positions after *start*; *shift* moves its dates."""

    def date(seq):
        return day(seq + shift) if seq else None

    ends = {
        "start": Position(seq=start, date=date(start)),
        "end": Position(seq=end, date=date(end)),
        "previous": previous,
        "destination": destination,
    }
    path = folder / f"{name}.jsonl.zst"
    changes = (change(seq, date=date(seq)) for seq in range(start + 1, end + 1))
    path.write_bytes(bundle(replace(header(0), **ends | values), changes))
    return verify(path).trailer.sha256


def chain(folder, *ends):
    """Bundles up to each of *ends*, each naming the one before it; their digests."""
    digests, start, previous = [], 0, None
    for end in ends:
        previous = written(folder, f"{start:03}-{end:03}", start, end, previous=previous)
        digests.append(previous)
        start = end
    return digests


def test_an_archive_in_order(tmp_path):
    chain(tmp_path, 3, 5, 9)
    report = check_archive(tmp_path)
    assert report.in_order
    (stream,) = report.streams
    assert (stream.bundles, stream.first, stream.last, stream.records, stream.chained) == (3, 0, 9, 9, 2)
    assert (stream.since, stream.until, stream.missing) == (None, day(9), ())


def test_copies_and_folders_below_do_no_harm(tmp_path):
    chain(tmp_path, 3, 5)
    below = tmp_path / "2026"
    below.mkdir()
    (below / "again.jsonl.zst").write_bytes((tmp_path / "003-005.jsonl.zst").read_bytes())
    report = check_archive(tmp_path)
    assert report.in_order
    assert report.copies == (str(tmp_path / "2026" / "again.jsonl.zst"),) or report.copies == (
        str(tmp_path / "003-005.jsonl.zst"),
    )


def test_i2_a_missing_file_is_named_by_its_positions(tmp_path):
    chain(tmp_path, 3, 5, 9)
    (tmp_path / "003-005.jsonl.zst").unlink()
    report = check_archive(tmp_path)
    assert report.problems == ("the changes 4 to 5 of office-7f3a9c21 for 'archive' are missing",)
    assert report.streams[0].missing == ((4, 5),)
    written(tmp_path, "half", 3, 4)
    assert check_archive(tmp_path).problems == ("the change 5 of office-7f3a9c21 for 'archive' is missing",)


def test_a_range_that_was_written_again_fills_the_gap(tmp_path):
    chain(tmp_path, 3, 5, 9)
    (tmp_path / "003-005.jsonl.zst").unlink()
    written(tmp_path, "again", 2, 6)
    assert check_archive(tmp_path).problems == ()


def test_what_was_exchanged_is_noticed_by_the_next(tmp_path):
    chain(tmp_path, 3, 5, 9)
    other = tmp_path / "003-005.jsonl.zst"
    changes = (change(seq, fields={"name": "forged", "size": 0}) for seq in (4, 5))
    ends = {"start": Position(seq=3, date=day(3)), "end": Position(seq=5, date=day(5)), "destination": "archive"}
    other.write_bytes(bundle(replace(header(0), **ends), changes))
    (problem,) = check_archive(tmp_path).problems
    assert problem.startswith(f"{tmp_path / '005-009.jsonl.zst'}: the bundle before it has the digest ")
    assert problem.endswith("it was exchanged")


def test_a_damaged_file_is_named_and_the_others_are_looked_at(tmp_path):
    chain(tmp_path, 3, 5)
    path = tmp_path / "000-003.jsonl.zst"
    path.write_bytes(path.read_bytes()[:-1])
    report = check_archive(tmp_path)
    assert str(path) in report.problems[0]
    assert "SPEC R" in report.problems[0]
    assert report.streams[0].first == 3


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_looked_at(tmp_path, monkeypatch):
    """A bad sector of an old medium."""
    chain(tmp_path, 3, 5)
    bad = str(tmp_path / "000-003.jsonl.zst")

    def failing(path, **options):
        if path == bad:
            raise OSError(5, "Input/output error", path)
        return verify(path, **options)

    monkeypatch.setattr("changelog_format.archive.verify", failing)
    report = check_archive(tmp_path)
    assert report.problems == (f"{bad} cannot be read: Input/output error",)
    assert report.streams[0].first == 3


def test_what_has_not_the_name_of_a_bundle_is_said_not_to_have_been_looked_at(tmp_path):
    chain(tmp_path, 3)
    assert "not looked at" not in described(check_archive(tmp_path))[0]
    (tmp_path / "000-003.jsonl.zst.bak").write_bytes(b"")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "x.zst").write_bytes(b"")
    report = check_archive(tmp_path)
    assert report.in_order
    assert described(report)[0] == "1 files; not looked at, by their names: 2, as 000-003.jsonl.zst.bak"


@pytest.mark.parametrize("ends", [(5, 9), (4, 8)])
def test_i3_two_histories_of_one_node(tmp_path, ends):
    """After a restored backup the same positions come again, with other dates."""
    chain(tmp_path, 3, 9)
    written(tmp_path, "forked", ends[0], ends[1], shift=1000)
    (problem,) = check_archive(tmp_path).problems
    assert "two different changes claim it" in problem


def test_the_streams_of_several_nodes_and_destinations(tmp_path):
    chain(tmp_path, 3)
    written(tmp_path, "hq", 0, 3, destination="hq")
    assert [(each.destination, each.last) for each in check_archive(tmp_path).streams] == [("archive", 3), ("hq", 3)]


def test_an_empty_folder_is_no_archive(tmp_path):
    assert check_archive(tmp_path).problems == (f"{tmp_path} has no bundles (*.jsonl.zst)",)


def test_what_is_wrong_is_on_one_screen_however_much_it_is(tmp_path):
    for number in range(40):
        (tmp_path / f"damaged-{number}.jsonl.zst").write_bytes(b"no bundle")
        written(tmp_path, number, 5, 6, node=NodeInfo(id=f"n{number}-7f3a9c21", name=f"n{number}"))
    report = check_archive(tmp_path)
    assert len(report.problems) >= 40
    lines = described(report)
    assert len(lines) <= 22
    assert sum(line.startswith("PROBLEM: ") for line in lines) == 4
    assert "PROBLEMS: … and" in "\n".join(lines)
    assert "36 more streams" in "\n".join(lines)


def test_the_command_line(tmp_path, capsys):
    chain(tmp_path, 3, 5)
    assert main(["verify", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "2 bundles, 5 records, positions 1 to 5" in shown
    assert "none is missing between the positions" in shown
    assert main(["verify", "--json", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out)["in_order"] is True
    (tmp_path / "000-003.jsonl.zst").unlink()
    assert main(["verify", str(tmp_path)]) == 0  # what was before the archive begins is not asked for
    assert "begins after position 3" in capsys.readouterr().out
    chain(tmp_path, 3, 5, 9)
    (tmp_path / "003-005.jsonl.zst").unlink()
    assert main(["verify", str(tmp_path)]) == 1
    assert "PROBLEM: the changes 4 to 5 of office-7f3a9c21" in capsys.readouterr().out


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3), st.booleans()), min_size=1, max_size=8),
    st.integers(0, 2),
)
def test_whatever_is_lost_just_that_is_missing(ranges, first):
    """Each: how many positions, how many of those before are repeated, and whether it is lost."""
    with tempfile.TemporaryDirectory() as folder:
        end, kept = first, []
        for length, repeated, lost in ranges:
            start, end = max(0, end - repeated), end + length
            if not lost:
                written(Path(folder), f"{start}-{end}-{len(kept)}", start, end)
                kept.append((start, end))
        report = check_archive(folder)
        if not kept:
            assert not report.in_order
            return
        covered = {seq for start, end in kept for seq in range(start + 1, end + 1)}
        (stream,) = report.streams
        found = {seq for start, end in stream.missing for seq in range(start, end + 1)}
        assert (stream.first, stream.last) == (min(covered) - 1, max(covered))
        assert found == set(range(min(covered), max(covered) + 1)) - covered
        assert report.in_order is (not found)
