"""What a hostile file, a small machine or a careless caller can do: one clear and short error, never a crash."""

import io
import json
import subprocess
import sys

import orjson
import pytest
import zstandard

from changelog_format import (
    BundleError,
    BundleWriter,
    ContainerError,
    LimitError,
    Limits,
    ModelInfo,
    OutOfMemoryError,
    reader,
    verify,
)
from changelog_format.container import compress_frame, raw_frame
from changelog_format.jsonl import parse_line, read_line
from changelog_format.limits import FRAME_BLOCKS
from tests.format.samples import BAD, ROOT, VECTORS, bundle, change, header, object_record, relayed, small


def assemble(*lines, compress=lambda data: compress_frame(data, 1)):
    """Lines and a trailer that says something else: what stands before it is judged first."""
    digest = "0" * 64
    trailer = {"type": "trailer", "records": len(lines) - 1, "sha256": digest, "stored_sha256": digest}
    body = b"".join((line if isinstance(line, bytes) else orjson.dumps(line)) + b"\n" for line in lines)
    return compress(body) + raw_frame(orjson.dumps(trailer) + b"\n")


def refused(data, **options):
    with pytest.raises(BundleError) as caught:
        verify(io.BytesIO(data), **options)
    return caught.value


LIMITED = """
import resource, sys
from changelog_format.__main__ import main
with open("/proc/self/statm") as stream:
    size = int(stream.read().split()[0]) * resource.getpagesize() + (int(sys.argv[1]) << 20)
resource.setrlimit(resource.RLIMIT_AS, (size, size))
sys.exit(main(["verify", sys.argv[2]]))
"""


def limited(path, megabytes):
    """Verify it in a process that gets so much memory beyond what Python takes; return what came of it."""
    return subprocess.run(
        [sys.executable, "-c", LIMITED, str(megabytes), str(path)],
        cwd=ROOT,
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )


# --- how much one line may become


def test_a_line_of_very_many_values_is_refused_before_it_is_parsed(tmp_path):
    line = orjson.dumps(change(1).to_dict())[:-1] + b',"many":[' + b"0," * 33_000_000 + b"0]}"
    path = tmp_path / "zeros.zst"
    path.write_bytes(assemble(header(1).to_dict(), line))
    assert path.stat().st_size < 10_000
    done = limited(path, 400)
    assert (done.returncode, done.stderr.partition(": ")[2]) == (
        1,
        "line 2: the line has more than 1000000 commas and opening brackets (SPEC R64)\n",
    )


@pytest.mark.parametrize("text", ["", "x", '"', "\\", '\\"', '[{",\\', "\\\\\\", '\\\\"\\'])
def test_what_stands_in_strings_is_not_counted(text):
    count = 50
    line = orjson.dumps({"a": [text * 9] * (count - 3), ",[" + text: text + ","})
    outside = json.dumps({"a": [0] * (count - 3), "b": 0}, separators=(",", ":"))
    assert sum(map(outside.count, ",[{")) == count - 1
    assert parse_line(line, values=count - 1) == orjson.loads(line)
    with pytest.raises(LimitError, match="more than 48 commas"):
        parse_line(line, values=count - 2)


def test_strings_without_end_are_not_counted_for_ever():
    for line in (b'["' + b'""' * 5_000_000, b'{"a":"' + b",\\" * 2_000_000, b'"' * 4_000_001):
        with pytest.raises(BundleError):
            parse_line(line)


def test_long_lines_are_parsed_as_short_ones_are():
    filler = "x" * 70_000
    for inner in (b"1.0e2", b"-0", b'"\\ud83d\\ude00"', b'"\\\\ud800"', b"[]"):
        short = b'{"a":' + inner + b',"b":""}'
        long = b'{"a":' + inner + b',"b":"' + filler.encode() + b'"}'
        assert parse_line(long) == parse_line(short) | {"b": filler}
    for inner, rule in (
        (b'"\\ud800"', "R16"),
        (b'{"\\udc00":1}', "R16"),
        (b'{"x":1,"x":1}', "R13"),
        (b"1e400", "R15"),
        (b"18446744073709551616", "R14"),
        (b'"\xff"', "R11"),
        (b"[1,]", "R12"),
        (b"[" * 100 + b"]" * 100, "R17"),
    ):
        for length in (1, 70_000):
            with pytest.raises(BundleError) as caught:
                parse_line(b'{"a":' + inner + b',"b":"' + b"x" * length + b'"}')
            assert caught.value.rule == rule


def test_the_writer_refuses_lines_of_too_many_values():
    writer = BundleWriter(io.BytesIO(), header(1))
    with pytest.raises(LimitError, match=r"^line 2: .* \(SPEC R64\)$"):
        writer.write(change(1, context={"zeros": [0] * 1_000_001}))
    with pytest.raises(LimitError, match=r"^line 2: .* \(SPEC R64\)$"):
        writer.write(change(1, fields={"name": [0] * 1_000_001}))
    writer.write(change(1))
    writer.close()


# --- memory that is not there


@pytest.fixture(scope="module")
def great(tmp_path_factory):
    path = tmp_path_factory.mktemp("great") / "great.zst"
    rows = [{"name": f"row {n}", "list": [n, float(n), None]} for n in range(120_000)]
    path.write_bytes(bundle(header(1), [change(1, fields={"name": rows})]))
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is set from /proc")
@pytest.mark.parametrize("megabytes", [4, 8, 12, 16, 24, 40])
def test_too_little_memory_is_said_and_nothing_else(great, megabytes):
    """Whether the frame, its lines or their values do not fit: 9 MB of text, about 60 MB of objects."""
    done = limited(great, megabytes)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.endswith(" needs more memory than there is (SPEC R60)\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("line", [1, 2, 3])
def test_memory_that_ends_within_a_line(monkeypatch, line):
    lines = 0

    def parse(text, **options):
        nonlocal lines
        lines += 1
        if lines == line:
            if line == 2:
                # What orjson makes of it.
                raise SystemError("returned a result with an exception set") from MemoryError()
            raise MemoryError
        return read_line(text, **options)

    monkeypatch.setattr(reader, "read_line", parse)
    error = refused(small(3))
    assert (type(error), error.line, error.rule) == (OutOfMemoryError, line, "R60")


def test_other_system_errors_are_not_taken_for_want_of_memory(monkeypatch):
    def parse(text, **options):
        raise SystemError("something else")

    monkeypatch.setattr(reader, "read_line", parse)
    with pytest.raises(SystemError, match="something else"):
        verify(io.BytesIO(small(1)))


# --- blocks


class Endless(io.RawIOBase):
    """A frame's header, and then blocks for ever."""

    def __init__(self, block):
        self.data, self.block = b"\x28\xb5\x2f\xfd\xa4" + (64 << 20).to_bytes(4, "little"), block
        self.given = 0

    def readable(self):
        return True

    def readinto(self, buffer):
        while len(self.data) < len(buffer):
            self.data += self.block * 1000
        buffer[:] = self.data[: len(buffer)]
        self.data = self.data[len(buffer) :]
        self.given += len(buffer)
        return len(buffer)


@pytest.mark.parametrize("block", [b"\0\0\0", b"\x02\0\0x", b"\x08\0\0x", b"\x0a\0\0x"])
def test_endless_blocks_come_to_an_end(block):
    stream = Endless(block)
    with pytest.raises(ContainerError) as caught:
        verify(stream)
    assert caught.value.rule == "R63"
    assert stream.given <= FRAME_BLOCKS * 4 + (1 << 20)


@pytest.mark.parametrize("chunk", [50, 131072, 1 << 22])
def test_what_streaming_compressors_write_is_taken(chunk):
    """They do not know where the end is, so their last block may be empty."""
    data = small(3000, frame_size=1 << 22)
    with reader.open_bundle(io.BytesIO(data)) as bundle_reader:
        body = b"".join(
            line + b"\n" for line in [bundle_reader.raw_line, *(bundle_reader.raw_line for _ in bundle_reader)]
        )
    body = body[: 131072 * (len(body) // 131072)]
    compressor = zstandard.ZstdCompressor(write_checksum=True).compressobj(size=len(body))
    frame = b"".join(
        compressor.compress(body[at : at + chunk])
        + (compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK) if chunk < 131072 else b"")
        for at in range(0, len(body), chunk)
    )
    frame += compressor.flush()
    assert frame[-7:-4] == b"\1\0\0"  # the last block, which is empty
    assert refused(frame).rule == "R7"  # so the frame itself was in order: it ends within a line


# --- messages


def test_messages_of_the_vectors_are_short():
    assert max(len(vector["message"]) for vector in BAD) < 300


def at_places(value):
    """A value, put wherever a bundle has something."""
    for at in ("type", "seq", "date", "base", "action", "model", "id", "key", "fields", "refs", "origin", "same"):
        yield header(1).to_dict(), change(1).to_dict() | {at: value}
    for at in header(1).to_dict():
        yield header(1).to_dict() | {at: value}, change(1).to_dict()
    yield header(1).to_dict(), relayed(1).to_dict() | {"origin": {"node": value, "seq": 1}}
    yield header(1).to_dict(), object_record().to_dict() | {"model": value}
    link = change(1, action="link", fields=None, refs=None, field="tags").to_dict()
    yield header(1).to_dict(), link | {"target": {"model": "geo.tag", "id": value, "key": None}}
    yield (
        header(1).to_dict(),
        link | {"field": value, "target": {"model": "geo.tag", "id": "a-00000000/1", "key": None}},
    )


def with_name(name):
    """A name, put wherever a bundle has names of its own."""
    model = ModelInfo().to_dict()
    first, second = header(1).to_dict(), change(1).to_dict()
    yield first, second | {"fields": {name: 1}}
    yield first, second | {"fields": {"name": {name: 1, "b": {"$x": 1}}}}
    yield first, second | {"fields": {"name": {"$" + name: 1}}}
    yield first, second | {"refs": {name: "a-00000000/1"}}
    yield first, second | {"refs": {name: 1}}
    yield first, second | {name: {"$x": 1}, "seq": 0}
    yield (
        first,
        orjson.dumps(second).replace(b'"refs":{}', orjson.dumps({name: 1})[:-1] + b"," + orjson.dumps({name: 1})[1:]),
    )
    for part in ("fields", "relations", "links"):
        yield first | {"models": {"geo.city": model | {part: {name: 1}}}}, second
        yield first | {"models": {"geo.city": model | {part: {name: name}}}}, second
    yield first | {"models": {"geo.city": model | {"fields": {name: "x"}, "links": {name: "geo.city"}}}}, second
    yield first | {"models": {name: model}}, second
    yield first | {"models": {"geo." + name[:590]: model | {"fields": 1}}}, second
    yield first | {"acks": {name: 1}}, second
    yield first | {"acks": {name: -1}}, second
    yield first | {"requires": [name] * 50}, second
    yield first | {"only": [name]}, second


@pytest.mark.parametrize(
    "text", ["a" * 1_000_000, "\U0001d4d0" * 100_000, "\x1b\u202e" * 9999, "_" + "\U000e0100" * 9999, " " * 9999]
)
def test_messages_stay_short_whatever_the_file_says(text):
    values = [text, [text], {text: text}, {"$" + text: 1}, [[text]]]
    cases = [*with_name(text), *(case for value in values for case in at_places(value))]
    found = 0
    for lines in cases[:: 1 if len(text) < 10_000 else 3]:
        message = outcome(assemble(*lines))
        assert message.endswith(")")
        assert len(message) <= 500
        found += "(SPEC R5" not in message
    assert found > 20


def outcome(data):
    """The message; one of these there is, since the trailer's digests are wrong."""
    with pytest.raises(BundleError) as caught:
        verify(io.BytesIO(data))
    return str(caught.value)


def test_a_message_that_quotes_too_much_is_cut():
    assert len(str(BundleError("x" * 10_000, rule="R12", line=1))) <= 500


# --- what the caller gives


@pytest.mark.parametrize("source", [None, 5, 0.5, [], object(), io.StringIO("x")])
def test_sources_of_another_type(source):
    with pytest.raises(TypeError, match="a path or a binary stream, not from"):
        verify(source)


def test_text_streams(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(small(1))
    with path.open(encoding="latin-1") as stream, pytest.raises(TypeError, match="not from TextIOWrapper"):
        verify(stream)

    class Text:
        def read(self, size):
            return "text"

    with pytest.raises(TypeError, match="gives str, not bytes"):
        verify(Text())


def test_paths_of_every_type(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(small(1))
    assert verify(path) == verify(str(path)) == verify(bytes(path))


@pytest.mark.parametrize("name", ["a\0b", b"a\0b", "\ud800"])
def test_what_is_no_name_of_a_file(name):
    with pytest.raises(OSError):
        verify(name)


@pytest.mark.parametrize("values", [{"line": -1}, {"records": 1.5}, {"size": "9"}, {"values": True}])
def test_wrong_limits(values):
    with pytest.raises(ValueError, match="not a number from 0 up"):
        Limits(**values)


def test_limits_of_another_type():
    with pytest.raises(TypeError, match="of type int, not Limits"):
        verify(VECTORS / "good" / "empty.jsonl.zst", limits=5)
