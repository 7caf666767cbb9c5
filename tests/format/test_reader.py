import hashlib
import io

import orjson
import pytest

from changelog_format import (
    BundleError,
    Change,
    ContainerError,
    DigestError,
    FilePiece,
    LimitError,
    ReaderStateError,
    Summary,
    UnsupportedError,
    open_bundle,
    pieces,
    verify,
)
from changelog_format.container import compress_frame, raw_frame
from tests.format.samples import GOOD, VECTORS, change, header, small


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


@pytest.mark.parametrize("vector", GOOD, ids=lambda vector: vector["file"])
def test_objects_are_the_records_and_are_given_again_where_the_file_is_the_same(vector):
    data = (VECTORS / vector["file"]).read_bytes()
    try:
        with open_bundle(io.BytesIO(data)) as reader:
            records = [record.to_dict() for record in reader]
    except UnsupportedError:
        return
    with open_bundle(io.BytesIO(data)) as reader:
        objects = list(reader.objects())
        marks = reader.marks
    assert [Change.of_checked(each).to_dict() if each["type"] == "change" else None for each in objects] == [
        each if each["type"] == "change" else None for each in records
    ]
    with open_bundle(io.BytesIO(data)) as reader:
        assert [each for _line, each in reader.again(marks)] == objects
    with open_bundle(io.BytesIO(small(9))) as other, pytest.raises(DigestError):
        list(other.again(marks))


def test_the_end_of_a_file_that_was_longer_is_noticed():
    data = small(200, frame_size=4096)
    with open_bundle(io.BytesIO(data)) as reader:
        list(reader)
        marks = reader.marks
    assert len(marks) > 2
    with open_bundle(io.BytesIO(data)) as reader, pytest.raises(DigestError):
        list(reader.again([*marks[:-1], b"", marks[-1]]))


def lines_of(*lines):
    body = b"".join(orjson.dumps(line) + b"\n" for line in lines)
    frame, digest = compress_frame(body, 1), hashlib.sha256
    trailer = {"type": "trailer", "records": len(lines) - 1, "sha256": digest(body).hexdigest()}
    trailer["stored_sha256"] = digest(frame).hexdigest()
    return frame + raw_frame(orjson.dumps(trailer) + b"\n")


@pytest.mark.parametrize("kind", ["object", "file", "trailer", "nothing known", 1, None, ["change"]])
def test_what_only_has_the_keys_of_a_change_is_none(kind):
    with pytest.raises(BundleError):
        verify(io.BytesIO(lines_of(header(1).to_dict(), {**change(1).to_dict(), "type": kind})))


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
