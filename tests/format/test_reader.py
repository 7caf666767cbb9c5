import hashlib
import io

import pytest

from changelog_format import (
    BundleError,
    Change,
    ContainerError,
    FilePiece,
    LimitError,
    ReaderStateError,
    Summary,
    UnsupportedError,
    open_bundle,
    pieces,
    verify,
)
from tests.format.samples import VECTORS, header, small


def test_the_header_is_there_at_once_and_the_trailer_at_the_end(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(small(2))
    with open_bundle(path) as reader:
        assert reader.header == header(2)
        assert reader.line == 1
        with pytest.raises(ReaderStateError, match="when all records were read"):
            _ = reader.trailer
        lines = []
        for record in reader:
            assert type(record) is Change
            lines.append(reader.line)
        assert lines == [2, 3]
        assert reader.line == 4
        assert list(reader) == []
    assert reader.trailer.records == 2


def test_iterating_goes_on_where_it_stopped():
    reader = open_bundle(io.BytesIO(small(4)))
    assert [next(iter(reader)).seq, next(iter(reader)).seq] == [1, 2]
    assert [record.seq for record in reader] == [3, 4]


def test_a_closed_reader_says_so():
    reader = open_bundle(io.BytesIO(small(4)))
    reader.close()
    with pytest.raises(ReaderStateError, match="closed"):
        iter(reader)
    with pytest.raises(ReaderStateError):
        _ = reader.trailer


def test_a_reader_that_failed_does_not_look_finished():
    reader = open_bundle(VECTORS / "bad" / "R58-sha256.jsonl.zst")
    with reader:
        with pytest.raises(BundleError):
            list(reader)
        with pytest.raises(ReaderStateError, match="failed"):
            list(reader)
        with pytest.raises(ReaderStateError):
            _ = reader.trailer


def test_streams_are_left_open_and_files_closed(tmp_path):
    stream = io.BytesIO(small(1))
    verify(stream)
    assert not stream.closed
    path = tmp_path / "a"
    path.write_bytes(b"not a bundle")
    with pytest.raises(ContainerError):
        open_bundle(path)  # an open file would be a ResourceWarning, which is an error in these tests


def test_missing_files_are_os_errors(tmp_path):
    with pytest.raises(FileNotFoundError):
        open_bundle(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        verify(tmp_path)


def test_summary():
    data = small(3)
    summary = verify(io.BytesIO(data))
    assert summary == Summary(
        header=header(3),
        trailer=summary.trailer,
        lines=5,
        records=3,
        frames=2,
        size=len(data),
        raw_size=summary.raw_size,
        counts={"geo.city": {"add": 3}},
        versions={"geo.city": (1,)},
        contents=0,
        pieces=0,
        file_bytes=0,
        relayed={},
        trailer_at=data.rindex(b"\x28\xb5\x2f\xfd"),  # the last frame's magic number
    )


def test_f4_what_is_not_known_is_refused_by_name():
    for name, text in (
        ("R37-version", "the file is of version 2, this reader knows 1"),
        ("R38-requires", "features that this reader does not know: 'encrypted-values', 'delta'"),
    ):
        with pytest.raises(UnsupportedError, match=text):
            open_bundle(VECTORS / "bad" / f"{name}.jsonl.zst")


def test_f4_unknown_keys_are_kept():
    with open_bundle(VECTORS / "good" / "unknown-keys.jsonl.zst") as reader:
        records = list(reader)
    new = {"a_new_key": [1, {"$int": "free"}], "z": None}
    assert reader.header.extra == reader.header.models["geo.city"].extra == new
    assert [record.extra for record in records] == [new, new]
    with open_bundle(VECTORS / "good" / "signature.jsonl.zst") as reader:
        list(reader)
    assert reader.trailer.extra == {"later": 1}
    assert reader.trailer.signature == {"key": "reserved", "value": "AA=="}


def test_a_reader_remembers_a_bounded_number_of_contents(monkeypatch):
    monkeypatch.setattr(pieces, "CONTENTS", 2)
    rules = pieces.ContentRules(allowed=True)
    for content in (b"a", b"b"):
        rules.accept(piece(content))
    with pytest.raises(LimitError, match=r"more than 2 contents of files \(SPEC R71\)"):
        rules.accept(piece(b"c"))


def piece(content):
    return FilePiece(sha256=hashlib.sha256(content).hexdigest(), size=len(content), at=0, data=content)
