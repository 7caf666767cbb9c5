"""Each vector goes through reading, the command line and writing again; the bad ones fail with the error listed."""

import io

import pytest
import zstandard

import changelog_format
from changelog_format import BundleError, BundleWriter, open_bundle, verify
from changelog_format.__main__ import main
from tests.format.samples import BAD, GOOD, INDEX, VECTORS, bundle

ZSTD = ".".join(map(str, zstandard.ZSTD_VERSION))


def each(vectors):
    return pytest.mark.parametrize("vector", vectors, ids=lambda vector: vector["file"])


class Pipe(io.RawIOBase):
    """A stream that cannot seek and gives a few bytes at a time."""

    def __init__(self, data, step):
        self.data, self.at, self.step = data, 0, step

    def readable(self):
        return True

    def readinto(self, buffer):
        part = self.data[self.at : self.at + min(self.step, len(buffer))]
        buffer[: len(part)] = part
        self.at += len(part)
        return len(part)


def raw_lines(source):
    with open_bundle(source) as reader:
        lines = [reader.raw_line, *(reader.raw_line for _ in reader)]
        return [*lines, reader.raw_line]


@each(GOOD)
def test_good_ones_are_in_order(vector):
    path = VECTORS / vector["file"]
    summary = verify(path)
    assert summary.records == vector["records"] == summary.trailer.records
    assert summary.records - summary.pieces == sum(sum(actions.values()) for actions in summary.counts.values())
    assert summary.lines == summary.records + 2
    assert summary.size == path.stat().st_size
    assert b"".join(line + b"\n" for line in raw_lines(path)) == zstd_cat(path.read_bytes())
    assert verify(Pipe(path.read_bytes(), 7)) == summary


def zstd_cat(data):
    result = b""
    while data:
        decompressor = zstandard.ZstdDecompressor().decompressobj()
        result += decompressor.decompress(data)
        data = decompressor.unused_data
    return result


@each([vector for vector in GOOD if "frame_size" in vector])
def test_good_ones_are_written_the_same_again(vector):
    data = (VECTORS / vector["file"]).read_bytes()
    with open_bundle(io.BytesIO(data)) as reader:
        again = bundle(reader.header, reader, frame_size=vector["frame_size"])
    if INDEX["zstd"] == ZSTD:
        assert again == data
    assert raw_lines(io.BytesIO(again))[:-1] == raw_lines(io.BytesIO(data))[:-1]


@each([vector for vector in GOOD if "frame_size" not in vector])
def test_other_spellings_mean_the_same(vector):
    with open_bundle(VECTORS / vector["file"]) as reader:
        records = list(reader)
    again = bundle(reader.header, records)
    with open_bundle(io.BytesIO(again)) as second:
        assert list(second) == records


@each(GOOD)
def test_good_ones_on_the_command_line(vector, capsysbinary):
    path = str(VECTORS / vector["file"])
    for command in (["info", path], ["info", "--json", path], ["verify", path], ["verify", "--json", path]):
        assert main(command) == 0
    capsysbinary.readouterr()
    assert main(["cat", path]) == 0
    assert capsysbinary.readouterr().out == zstd_cat((VECTORS / vector["file"]).read_bytes())


@each(BAD)
def test_bad_ones_are_refused_with_the_error_listed(vector):
    path = VECTORS / vector["file"]
    for source in (path, Pipe(path.read_bytes(), 1001)):
        with pytest.raises(BundleError) as caught:
            verify(source)
        assert (type(caught.value), caught.value.rule) == (getattr(changelog_format, vector["error"]), vector["rule"])
        assert str(caught.value) == vector["message"]
    assert vector["file"].startswith(f"bad/{vector['rule']}-")


@each(BAD)
def test_what_is_released_before_the_error_is_in_order(vector):
    """Every record that a reader yields before it fails could be written."""
    try:
        reader = open_bundle(VECTORS / vector["file"])
    except BundleError:
        return
    writer = BundleWriter(io.BytesIO(), reader.header)
    with reader:
        records = iter(reader)
        while True:
            try:
                record = next(records)
            except BundleError:
                return
            writer.write(record)


@each(BAD)
def test_bad_ones_on_the_command_line(vector, capsys):
    path = str(VECTORS / vector["file"])
    assert main(["verify", path]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == f"{path}: {vector['message']}\n"
    assert main(["cat", path]) == 1
    printed = capsys.readouterr()
    assert printed.err == f"{path}: {vector['message']}\n"
    main(["info", path])  # reads the header alone, which may be in order
