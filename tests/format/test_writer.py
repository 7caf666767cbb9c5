"""A bundle appears whole or not at all, and only such as a reader takes."""

import io
import os
import stat
import threading
from pathlib import Path

import pytest

from changelog_format import (
    BundleError,
    BundleWriter,
    Header,
    LineError,
    OrderError,
    RecordError,
    WriterStateError,
    open_bundle,
    verify,
)
from changelog_format.jsonl import format_line
from changelog_format.limits import LINE_SIZE
from tests.format.samples import HQ, bundle, change, day, header, object_record, relayed, small


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_path_stream_and_string_give_the_same_bytes(tmp_path):
    path = tmp_path / "a.jsonl.zst"
    for target in (path, str(path)):
        with BundleWriter(target, header(2)) as writer:
            writer.write(change(1))
            assert not path.exists() or target is not path
            writer.write(change(2))
        assert path.read_bytes() == small(2)
        assert writer.bytes_written == path.stat().st_size
        assert writer.records == 2
        assert verify(path).trailer == writer.close()
    assert names(tmp_path) == ["a.jsonl.zst"]


def interrupt(writer, error):
    writer.write(change(1))
    assert len(names(Path(writer.header.destination))) == 2
    raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_block_that_raises_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(b"before")
    writer = BundleWriter(path, header(2, destination=str(tmp_path)), frame_size=64)
    with pytest.raises(error), writer:
        interrupt(writer, error)
    assert names(tmp_path) == ["a.jsonl.zst"]
    assert path.read_bytes() == b"before"
    with pytest.raises(WriterStateError):
        writer.write(change(1))
    with pytest.raises(WriterStateError):
        writer.close()


def test_l2_a_bundle_that_lacks_changes_is_not_left(tmp_path):
    text = r"line 3: the changes end at 1, the header says 2 \(SPEC R53\)"
    with pytest.raises(OrderError, match=text), BundleWriter(tmp_path / "a", header(2)) as writer:
        writer.write(change(1))
    assert names(tmp_path) == []


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_l2_a_failing_disk_leaves_what_was_there(tmp_path, monkeypatch, step):
    path = tmp_path / "a"
    path.write_bytes(b"before")

    def fail(*args):
        raise OSError(28, "No space left on device")

    writer = BundleWriter(path, header(1))
    writer.write(change(1))
    if step == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(OSError, match="No space"):
        writer.close()
    assert names(tmp_path) == ["a"]
    assert path.read_bytes() == b"before"
    with pytest.raises(WriterStateError, match="failed"):
        writer.close()


def test_l2_file_and_folder_are_synced_around_the_rename(tmp_path, monkeypatch):
    path, synced = tmp_path / "a", []
    fsync = os.fsync

    def note(descriptor):
        synced.append(("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file", path.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    with BundleWriter(path, header(0)):
        pass
    assert synced == [("file", False), ("folder", True)]


def test_a_failing_stream_fails_the_writer():
    class Full(io.RawIOBase):
        def writable(self):
            return True

        def write(self, data):
            raise OSError(28, "No space left on device")

    writer = BundleWriter(Full(), header(2), frame_size=64)
    with pytest.raises(OSError, match="No space"):
        writer.write(change(1))
    with pytest.raises(WriterStateError, match="failed"):
        writer.write(change(1))


def test_a_stream_that_takes_little_at_a_time():
    class Slow(io.RawIOBase):
        taken = b""

        def writable(self):
            return True

        def write(self, data):
            self.taken += bytes(data[:5])
            return len(data[:5])

    slow = Slow()
    with BundleWriter(slow, header(1)) as writer:
        writer.write(change(1))
    assert slow.taken == small(1)


def test_closing_twice_does_nothing(tmp_path):
    writer = BundleWriter(tmp_path / "a", header(0))
    trailer = writer.close()
    assert writer.close() is trailer
    writer.abort()
    assert verify(tmp_path / "a").trailer == trailer
    with pytest.raises(WriterStateError, match="closed"):
        writer.write(change(1))


def test_a_refused_record_is_not_written_and_the_next_one_is():
    stream = io.BytesIO()
    with BundleWriter(stream, header(2)) as writer:
        for wrong in (change(2), change(1, model="geo.river"), change(1, key="x"), object_record(refs={"a": "b"})):
            with pytest.raises(BundleError, match="line 2: "):
                writer.write(wrong)
        writer.write(change(1))
        writer.write(change(2))
    assert stream.getvalue() == small(2)


@pytest.mark.parametrize(
    ("values", "kind", "text"),
    [
        ({"fields": {"name": object()}}, RecordError, "fields.name: a value of type object has to be encoded first"),
        ({"fields": {"name": float("nan")}}, LineError, "fields.name: a float that is not finite stands as $float"),
        ({"fields": {"name": [2**64]}}, LineError, "fields.name: an integer outside 64 bits stands as $int"),
        ({"fields": {"name": "\ud800"}}, LineError, "a string has a lone surrogate"),
        ({"fields": {1: 2}}, RecordError, "fields has 1, which is not a field name"),
        ({"fields": {"name": {1: 2, 3: 4}}}, RecordError, "fields.name: an object name is of type int"),
        ({"context": {"a": b""}}, RecordError, "context has a value of type bytes, which is not JSON"),
        ({"context": {"a": float("inf")}}, LineError, "context has a float that is not finite"),
        ({"seq": True}, RecordError, "seq is true, not an integer"),
        ({"key": ("a",)}, RecordError, "key is an array, not an array or null"),
        ({"extra": {"seq": 1}}, RecordError, "extra has 'seq', which is a key of the format"),
        ({"fields": None}, RecordError, "the action 'add' has no 'fields'"),
        ({"base_node": HQ}, RecordError, "base_node stands without a base"),
    ],
)
def test_what_a_reader_refuses_is_refused(values, kind, text):
    writer = BundleWriter(io.BytesIO(), header(1))
    with pytest.raises(kind) as caught:
        writer.write(change(**{"seq": 1} | values))
    assert caught.value.message == text
    assert caught.value.line == 2


@pytest.mark.parametrize("depth", [98, 99, 200, 2000])
def test_depth_is_bounded_alike(depth):
    context = {}
    for _ in range(depth - 1):
        context = {"a": context}
    writer = BundleWriter(io.BytesIO(), header(1))
    if depth <= 99:
        writer.write(change(1, context=context))
    else:
        with pytest.raises(LineError, match="deeper than 100"):
            writer.write(change(1, context=context))


@pytest.mark.parametrize("values", [{"bundle": "x"}, {"mode": "full"}, {"models": {"x": header(0).models["geo.tag"]}}])
def test_a_header_that_is_not_in_order_makes_no_file(tmp_path, values):
    with pytest.raises(RecordError, match="line 1: "):
        BundleWriter(tmp_path / "a", header(1, **values))
    assert names(tmp_path) == []


@pytest.mark.parametrize("options", [{"level": 0}, {"level": 23}, {"frame_size": 0}, {"frame_size": 2**23}])
def test_options_are_checked(options):
    with pytest.raises(ValueError, match="not between"):
        BundleWriter(io.BytesIO(), header(1), **options)


def test_frames_hold_whole_lines_up_to_their_size():
    records = [change(seq, fields={"name": "x" * (seq * 37 % 700)}) for seq in range(1, 200)]
    for size in (1, 500, 2000, 100_000):
        data = bundle(header(199), records, frame_size=size)
        summary = verify(io.BytesIO(data))
        assert summary.records == 199
        assert summary.frames >= summary.raw_size // max(size, 1000)


def test_large_lines_and_levels():
    text = "".join(chr(97 + n * n % 23) for n in range(5 << 20))
    for level in (1, 19):
        data = bundle(header(2), [change(1, fields={"name": text}), change(2)], level=level)
        assert verify(io.BytesIO(data)).raw_size > 5 << 20


def test_a_link_is_kept_and_its_target_replaced(tmp_path):
    (tmp_path / "real").write_bytes(b"before")
    (tmp_path / "link").symlink_to("real")
    with BundleWriter(tmp_path / "link", header(0)):
        pass
    assert (tmp_path / "link").is_symlink()
    assert verify(tmp_path / "real").records == 0


def test_devices_and_folders_are_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for target in (tmp_path, tmp_path / "pipe", "/dev/null"):
        with pytest.raises(OSError, match="not a regular file"):
            BundleWriter(target, header(0))
    with pytest.raises(FileNotFoundError):
        BundleWriter(tmp_path / "no" / "folder", header(0))


def test_files_have_the_usual_permissions(tmp_path):
    (tmp_path / "usual").write_bytes(b"")
    with BundleWriter(tmp_path / "a", header(0)):
        pass
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_snapshot_with_objects_is_written_in_its_order():
    records = [change(3), object_record(), change(1)]
    data = bundle(header(3, mode="snapshot"), records)
    with open_bundle(io.BytesIO(data)) as reader:
        assert isinstance(reader.header, Header)
        assert list(reader) == records


def test_dates_of_relayed_changes_are_their_origins():
    records = [relayed(1, date=day(50), fields={"unknown_here": 1}), change(2)]
    assert verify(io.BytesIO(bundle(header(2), records))).records == 2


def lines(count, **fields):
    return [format_line(change(n, **fields).to_dict()).decode() for n in range(1, count + 1)]


def test_lines_of_a_history_make_the_same_bundle_as_its_changes():
    stream = io.BytesIO()
    with BundleWriter(stream, header(5)) as writer:
        writer.write_lines(lines(5)[:2], first=1, last_date=day(2))
        writer.write_lines(lines(5)[2:], first=3, last_date=day(5))
    assert stream.getvalue() == small(5)


@pytest.mark.parametrize("size", [1, 199, 200, 201, 250, 400, 999, 1000, 1001, 3000])
def test_lines_go_over_frames_as_changes_do(size):
    changes = [change(n, fields={"name": "x" * (0, 0, 30, 700, 0, 1)[n % 6]}) for n in range(1, 22)]
    found = []
    for runs in ((), (21,), (3, 7, 21), range(1, 22)):
        stream = io.BytesIO()
        with BundleWriter(stream, header(21), frame_size=size) as writer:
            for each in () if runs else changes:
                writer.write(each)
            done = 0
            for end in runs:
                texts = [format_line(each.to_dict()).decode() for each in changes[done:end]]
                writer.write_lines(texts, first=done + 1, last_date=day(end))
                done = end
        found.append((stream.getvalue(), writer.text_size))
    assert len(set(found)) == 1


@pytest.mark.parametrize(
    ("bad", "rule"), [("two\nlines", "R12"), ("a lone \ud800", "R16"), ("x" * (LINE_SIZE + 1), "R10")]
)
def test_lines_that_cannot_be_lines_are_refused(bad, rule):
    writer = BundleWriter(io.BytesIO(), header(2))
    with pytest.raises(BundleError) as refused:
        writer.write_lines([lines(2)[0], bad], first=1, last_date=day(2))
    assert refused.value.rule == rule
    writer.write_lines(lines(2), first=1, last_date=day(2))
    writer.close()


def test_lines_that_are_not_the_next_ones_are_refused():
    writer = BundleWriter(io.BytesIO(), header(3))
    with pytest.raises(OrderError):
        writer.write_lines(lines(3)[1:], first=2, last_date=day(3))
    with pytest.raises(OrderError):
        writer.write_lines(lines(3), first=1, last_date=day(2))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_make_the_same_file(threads):
    found = []
    for count in (0, threads):
        stream = io.BytesIO()
        with BundleWriter(stream, header(200), frame_size=1000, threads=count) as writer:
            for n in range(1, 101):
                writer.write(change(n))
            measured = writer.measure()
            for n in range(101, 201):
                writer.write(change(n))
        found.append((stream.getvalue(), measured, writer.bytes_written))
    assert found[0] == found[1]
    verify(io.BytesIO(found[1][0]))


class Full(io.RawIOBase):
    def writable(self):
        return True

    def write(self, data):
        raise OSError(28, "No space left on device")


def test_threads_end_when_nothing_can_be_stored():
    before = threading.active_count()
    writer = BundleWriter(Full(), header(9), frame_size=500, threads=9)
    for n in range(1, 10):
        writer.write(change(n))
    with pytest.raises(OSError, match="No space"):
        writer.close()
    assert threading.active_count() == before


def test_a_negative_number_of_threads_is_refused():
    with pytest.raises(ValueError, match="threads is -1"):
        BundleWriter(io.BytesIO(), header(1), threads=-1)
