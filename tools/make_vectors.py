#!/usr/bin/env python3
"""Make the test vectors of the file format: good bundles, and one or more for each rule that a file can break.

    tools/make_vectors.py           writes tests/vectors/
    tools/make_vectors.py --check   exits with 1 when what is there has drifted

Good bundles are written by BundleWriter. Signed ones are signed with fixed keys; one is encrypted. Bad ones are put
together by hand from raw zstd blocks, so that their bytes do not depend on the zstd library. Where the library
is another one than the vectors were made with, good bundles are compared by what is in their frames.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import copy
import hashlib
import io
import json
import sys
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import orjson  # noqa: E402  (the root is on the path now)
import zstandard  # noqa: E402

from changelog_format import (  # noqa: E402
    JSON_NULL,
    BundleError,
    BundleWriter,
    Change,
    FilePiece,
    FileRef,
    Header,
    Identities,
    ModelInfo,
    Moved,
    NodeInfo,
    ObjectRecord,
    Origin,
    Position,
    Range,
    Recipients,
    Signer,
    Succession,
    Target,
    TrustedKeys,
    check_relayed,
    check_signature,
    encode_value,
    open_bundle,
    verify,
)
from changelog_format.container import compress_frame, raw_frame  # noqa: E402
from changelog_format.encryption import EncryptingStream, decrypted  # noqa: E402
from changelog_format.keys import public_text  # noqa: E402

FOLDER = ROOT / "tests" / "vectors"
OFFICE, HQ = "office-7f3a9c21", "hq-11aa22bb"
BUNDLE = "0b6f3d3e-5a53-4c0b-9a43-6d1b1f0e8a55"
ZSTD = ".".join(map(str, zstandard.ZSTD_VERSION))
DIGEST = "0123456789abcdef" * 4
BLOCK = 128 * 1024


def day(number: int) -> str:
    """Return the date of the change at a position."""
    return f"2026-11-23T10:11:{number:02}.000123Z"


# --- good bundles

CITY = ModelInfo(
    key=("geonameid",),
    fields={"geonameid": "IntegerField", "name": "CharField", "country": "ForeignKey"},
    skipped=("visits",),
    relations={"country": "geo.country"},
    links={"tags": "geo.tag"},
)
COUNTRY = ModelInfo(key=("code",), fields={"code": "CharField", "name": "CharField"})
TAG = ModelInfo(version=2, fields={"name": "CharField"})
# What an identifier is in some version of Unicode or other: letters, a middle dot of katakana, a joiner, a letter that
# came with version 17.
NAMES = ("_", "größe", "名前", "a\u30fbb", "a\u200cb", "\U0001d7ce", "\ua7ce", "Ünï9")


def header(last: int, **values: Any) -> Header:
    """Return a header of the office's log from 0 to `last`."""
    settings: dict[str, Any] = {
        "bundle": BUNDLE,
        "created": "2026-11-23T12:00:00.000000Z",
        "node": NodeInfo(id=OFFICE, name="Office"),
        "destination": "default",
        "start": Position(seq=0, date=None),
        "end": Position(seq=last, date=day(last) if last else None),
        "mode": "history",
        "models": {"geo.city": CITY, "geo.country": COUNTRY, "geo.tag": TAG},
    }
    return Header(**settings | values)


def change(seq: int, **values: Any) -> Change:
    """Return an addition of a city."""
    settings: dict[str, Any] = {
        "seq": seq,
        "date": day(seq),
        "base": None,
        "action": "add",
        "model": "geo.city",
        "id": f"{OFFICE}/{seq}",
        "key": [3081368],
    }
    if values.get("action", "add") in {"add", "change"}:
        settings["fields"] = {"geonameid": 3081368, "name": "Wrocław", "country": ["PL"]}
        settings["refs"] = {"country": f"{HQ}/9"}
    return Change(**settings | values)


COUNTRY_OBJECT = ObjectRecord(
    model="geo.country", id=f"{HQ}/9", key=["PL"], fields={"code": "PL", "name": "Poland"}, refs={}
)


def every_action() -> list[Change | ObjectRecord | FilePiece]:
    """Return a history with each action, the optional keys among them."""
    tag = Target(model="geo.tag", id=f"{OFFICE}/77", key=None)
    return [
        COUNTRY_OBJECT,
        change(1, actor="ann", context={"request": 17, "reason": "survey"}),
        change(2, action="change", id=f"{OFFICE}/1", base=day(1)),
        change(3, action="link", id=f"{OFFICE}/1", field="tags", target=tag),
        change(4, action="unlink", id=f"{OFFICE}/1", base=day(3), field="tags", target=tag),
        change(5, action="same", id=f"{HQ}/4", key=None, same=(f"{OFFICE}/1", f"{HQ}/4")),
        change(6, action="change", id=f"{HQ}/4", base=day(2), base_node=HQ, resolution=True),
        change(7, action="delete", id=f"{HQ}/4", base=day(6)),
    ]


def relayed() -> list[Change | ObjectRecord | FilePiece]:
    """Return changes of another node, with a field that the relaying node does not know."""
    fields = {"geonameid": 1, "name": "Łódź", "country": None, "mayor": "unknown here"}
    return [
        change(1, origin=Origin(node=HQ, seq=40), date=day(9), id=f"{HQ}/4", fields=fields, refs={}),
        change(2, id=f"{HQ}/4", base=day(9), base_node=HQ, action="change"),
    ]


CITY_1 = ModelInfo(version=1, fields={"geonameid": "IntegerField", "title": "CharField"})
CITY_3 = replace(CITY, version=3, fields={**CITY.fields, "mayor": "CharField"})


def in_versions() -> tuple[Header, list[Change | ObjectRecord | FilePiece], int]:
    """Return records of three versions of a model; what the writer knows of one of them is nothing."""
    city = replace(CITY, version=2, versions={1: CITY_1, 3: CITY_3, 2**63 - 1: ModelInfo()})
    old = {"geonameid": 1, "title": "Łódź"}
    return (
        header(4, models={"geo.city": city, "geo.country": COUNTRY}),
        [
            replace(COUNTRY_OBJECT, model="geo.city", version=3, fields={"mayor": "x"}),
            change(1, version=1, fields=old, refs={}),
            change(2),
            change(3, origin=Origin(node=HQ, seq=1), version=3, fields={**old, "mayor": "x"}, refs={}),
            change(4, version=2**63 - 1, fields={"anything": 1}, refs={}),
        ],
        4096,
    )


CONTENT = bytes(range(256)) * 2


def sha(content: bytes) -> str:
    """Return the digest of a content."""
    return hashlib.sha256(content).hexdigest()


def piece(content: bytes, at: int = 0, end: int | None = None) -> FilePiece:
    """Return a piece of a content."""
    return FilePiece(sha256=sha(content), size=len(content), at=at, data=content[at:end])


def with_files() -> tuple[Header, list[Change | ObjectRecord | FilePiece], int]:
    """Return a content in two pieces, an empty one, and one that the reader has already."""
    files = {"name": FileRef(sha256=sha(CONTENT), size=len(CONTENT)), "country": FileRef(sha256=sha(b""), size=0)}
    fields = {"geonameid": 1, "name": "a/b.bin", "country": "c"}
    return (
        header(2, requires=("files",)),
        [
            piece(CONTENT, 0, 300),
            piece(CONTENT, 300),
            piece(b""),
            change(1, fields=fields, refs={}, files=files),
            replace(COUNTRY_OBJECT, files={"name": FileRef(sha256=DIGEST, size=7)}),
            change(2),
        ],
        4096,
    )


def every_value() -> tuple[dict[str, str], dict[str, Any]]:
    """Return the types and the values of a model with every encoding."""
    values: dict[str, Any] = {
        "null": None,
        "true": True,
        "integer": -(2**63),
        "great": 2**64,
        "float": 0.1,
        "nan": float("nan"),
        "infinity": float("-inf"),
        "text": 'tab\t, quote", \u2028, 😀, \x00',
        "empty": "",
        "surrogate": "lone \ud800 here",
        "bytes": bytes(range(8)),
        "duration": timedelta(days=-1, microseconds=1),
        "long_duration": timedelta(days=400, hours=5, seconds=7),
        "least_duration": timedelta.min,
        "greatest_duration": timedelta.max,
        "decimal": Decimal("1200.50"),
        "decimal_exponent": Decimal("1E+3"),
        "date": date(2026, 2, 28),
        "aware": datetime(2026, 1, 2, 3, 4, 5, 600, tzinfo=UTC),
        "naive": datetime(2026, 1, 2, 3, 4, 5),  # noqa: DTZ001  (naive on purpose)
        "time": time(23, 59, 59, 999999),
        "uuid": UUID("12345678123456781234567812345678"),
        "json_null": JSON_NULL,
        "json_null_within": [JSON_NULL, None],
        "json": {"a": [1, 2.5, None, {"b": {}}], "$two": 1},
        "dollar": {"$int": "not a tag"},
        "dollars": {"$$": [{"$": None}]},
        "names": {"\udc00": 2**70, "plain": []},
        "range": Range(lower=1, upper=2**65),
        "open_range": Range(lower=Decimal("0.5"), bounds="(]"),
        "empty_range": Range(empty=True),
    }
    return dict.fromkeys(values, "Field"), {name: encode_value(value) for name, value in values.items()}


def succession() -> Succession:
    """Return one of which three changes have other positions."""
    moved = (
        Moved(first=10, last=11, at=3, start=day(3), end=day(4)),
        Moved(first=12, last=12, at=6, start=day(5), end=day(5)),
    )
    return Succession(node="ship-00000002", of="ship-00000001", after=9, moved=moved)


def good() -> dict[str, tuple[Header, list[Change | ObjectRecord | FilePiece], int]]:
    """Return name, header, records and frame size of each good bundle."""
    types, values = every_value()
    model = {"app.everything": ModelInfo(fields=types)}
    filler: list[Change | ObjectRecord | FilePiece] = [
        change(n, fields={"geonameid": n, "name": "x" * n, "country": None}, refs={}) for n in range(1, 41)
    ]
    later: dict[str, Any] = {"start": Position(seq=2, date=day(2)), "previous": DIGEST, "acks": {HQ: 87}}
    new_keys: dict[str, Any] = {"extra": {"a_new_key": [1, {"$int": "free"}], "z": None}}
    return {
        "empty": (header(0), [], 4096),
        "actions": (header(7), every_action(), 4096),
        "relayed": (header(2), relayed(), 4096),
        "values": (
            header(1, models=model),
            [change(1, model="app.everything", key=[values["great"], None], fields=values, refs={})],
            65536,
        ),
        "frames": (header(40), filler, 1024),
        "continued": (header(4, **later), [change(3), change(4)], 4096),
        "successions": (
            header(0, successions=(succession(), Succession(node=HQ, of="hq-00000001", after=0))), [], 4096,
        ),
        "redacted": (
            header(1, redacted={"geo.city": ("name", "population"), "other.model": ("x",)}),
            [change(1, fields={"geonameid": 1, "country": None}, refs={})],
            4096,
        ),
        "withheld": (header(1), [change(1, fields={"geonameid": 1}, refs={}, withheld=("country", "name"))], 4096),
        "only": (header(9, only=("geo.city", "geo.tag")), [change(2), change(5)], 4096),
        "versions": in_versions(),
        "files": with_files(),
        "squash": (header(5, mode="squash"), [change(4), change(2)], 4096),
        "snapshot": (header(5, mode="snapshot"), [change(3), COUNTRY_OBJECT, change(5), change(1)], 4096),
        "names": (
            header(1, models={"Geo.città_2": ModelInfo(fields=dict.fromkeys(NAMES, "CharField"))}),
            [change(1, model="Geo.città_2", key=None, fields=dict.fromkeys(NAMES, "x"), refs={})],
            4096,
        ),
        "unknown-keys": (
            header(1, extra=new_keys["extra"], models={"geo.city": ModelInfo(fields=CITY.fields, **new_keys)}),
            [change(1, **new_keys), ObjectRecord(model="geo.city", id="a-00000000/x", key=None, fields={}, refs={},
                                                 **new_keys)],
            4096,
        ),
    }  # fmt: skip


def write(bundle: tuple[Header, list[Change | ObjectRecord | FilePiece], int]) -> bytes:
    """Return the bytes that the writer makes of it."""
    head, records, frame_size = bundle
    stream = io.BytesIO()
    with BundleWriter(stream, head, frame_size=frame_size) as writer:
        for record in records:
            writer.write(record)
    return stream.getvalue()


# --- bundles by hand

Line = dict[str, Any] | bytes


def frame(content: bytes) -> bytes:
    """Return a frame of raw blocks."""
    if len(content) <= BLOCK:
        return raw_frame(content)
    blocks = [content[at : at + BLOCK] for at in range(0, len(content), BLOCK)]
    body = b"".join(block_of(part, last=part is blocks[-1]) for part in blocks)
    return frame_of(len(content), body, checksum(content))


def frame_of(size: int, blocks: bytes, check: bytes = b"\0\0\0\0", descriptor: int = 0xA4) -> bytes:
    """Return a frame with a content size of four bytes, whatever its parts are."""
    return b"\x28\xb5\x2f\xfd" + bytes([descriptor]) + size.to_bytes(4, "little") + blocks + check


def block_of(data: bytes, *, last: bool, kind: int = 0, size: int | None = None) -> bytes:
    """Return a block: 0 raw, 1 one byte repeated, 2 compressed, 3 reserved."""
    length = len(data) if size is None else size
    return (length << 3 | kind << 1 | last).to_bytes(3, "little") + data


def repeated(byte: bytes, count: int) -> bytes:
    """Return the blocks that repeat a byte `count` times, none of them the last."""
    sizes = [BLOCK] * (count // BLOCK) + [count % BLOCK] * bool(count % BLOCK)
    return b"".join(block_of(byte, last=False, kind=1, size=size) for size in sizes)


def checksum(content: bytes) -> bytes:
    """Return the XXH64 of a frame's content, as zstd writes it."""
    return zstandard.ZstdCompressor(write_checksum=True).compress(content)[-4:]


def text(line: Line) -> bytes:
    """Return a line with its LF."""
    return (line if isinstance(line, bytes) else orjson.dumps(line)) + b"\n"


def trailer_line(body: bytes, stored: bytes, records: int, **values: Any) -> dict[str, Any]:
    """Return the right trailer, but for `values`."""
    digests = {"sha256": hashlib.sha256(body).hexdigest(), "stored_sha256": hashlib.sha256(stored).hexdigest()}
    return {"type": "trailer", "records": records, **digests, **values}


def compressed(*lines: Line) -> bytes:
    """Return a bundle whose lines are compressed, for those that are long and say little."""
    body = b"".join(map(text, lines))
    stored = compress_frame(body, 3)
    return stored + frame(text(trailer_line(body, stored, len(lines) - 1)))


def assemble(*lines: Line, **trailer: Any) -> bytes:
    """Return a bundle of these lines, in one frame, and its trailer."""
    body = b"".join(map(text, lines))
    stored = frame(body)
    records = len(lines) - 1
    return stored + frame(text(trailer_line(body, stored, **{"records": records, **trailer})))


HEAD = header(1).to_dict()
ADD = change(1).to_dict()


def with_key(line: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return a copy in which the value at a dotted path is another one."""
    result = copy.deepcopy(line)
    at = result
    *way, last = path.split("/")
    for key in way:
        at = at[key]
    at[last] = value
    return result


def without(line: dict[str, Any], key: str) -> dict[str, Any]:
    """Return a copy without a key."""
    return {name: value for name, value in line.items() if name != key}


def head(path: str, value: Any) -> bytes:
    """Return a bundle whose header differs in one place."""
    return assemble(with_key(HEAD, path, value), ADD)


def add(path: str, value: Any) -> bytes:
    """Return a bundle whose only change differs in one place."""
    return assemble(HEAD, with_key(ADD, path, value))


def value(encoded: Any) -> bytes:
    """Return a bundle with this as a field's value."""
    return add("fields/name", encoded)


def raw_value(literal: bytes) -> bytes:
    """Return a bundle with this text as a field's value."""
    return assemble(HEAD, orjson.dumps(with_key(ADD, "fields/name", "@")).replace(b'"@"', literal))


def body_of(action: str, **values: Any) -> bytes:
    """Return a bundle with one change of another action."""
    return assemble(HEAD, without(without(ADD, "fields"), "refs") | {"action": action} | values)


def two(first: dict[str, Any], second: dict[str, Any], **header_values: Any) -> bytes:
    """Return a bundle of two changes."""
    return assemble(header(2, **header_values).to_dict(), first, second)


def nested(depth: int) -> Any:
    """Return so many arrays in one another."""
    result: Any = []
    for _ in range(depth - 1):
        result = [result]
    return result


def bad_container() -> dict[str, bytes]:
    """Return the bundles whose frames are not in order: R1 to R10, R63."""
    whole = assemble(HEAD, ADD)
    body = text(HEAD) + text(ADD)
    stored = frame(body)
    last = text(trailer_line(body, stored, 1))
    check = checksum(body)
    flipped = bytearray(stored)
    flipped[len(stored) // 2] ^= 1
    long_line = b'{"a":"' + b" " * 10
    last_compressed = zstandard.ZstdCompressor(write_checksum=True).compress(last)
    many_lines = repeated(b"\n", 5 * 1024 * 1024)
    return {
        "R1-not-zstd": body,
        "R1-skippable": b"\x50\x2a\x4d\x18\x04\0\0\0skip" + whole,
        "R1-skippable-within": stored + b"\x5f\x2a\x4d\x18\x04\0\0\0skip" + frame(last),
        "R2-no-checksum": frame_of(len(body), block_of(body, last=True), b"", 0xA0) + frame(last),
        "R2-window": b"\x28\xb5\x2f\xfd\x04\x58" + block_of(body, last=True) + check + frame(last),
        "R2-dictionary": b"\x28\xb5\x2f\xfd\xa5\x01" + stored[5:] + frame(last),
        "R2-unused-bit": frame_of(len(body), block_of(body, last=True), check, 0xB4) + frame(last),
        "R2-reserved-bit": frame_of(len(body), block_of(body, last=True), check, 0xAC) + frame(last),
        "R3-content-size": frame_of(2**32 - 1, block_of(body, last=True), check),
        "R3-content-size-64-bits": b"\x28\xb5\x2f\xfd\xe4" + b"\xff" * 8 + block_of(body, last=True) + check,
        "R3-too-many-lines": frame_of(5 * 1024 * 1024 + 3, many_lines + block_of(b"{}\n", last=True),
                                      checksum(b"\n" * 5 * 1024 * 1024 + b"{}\n")),
        "R4-reserved-block": frame_of(len(body), block_of(body, last=True, kind=3), check) + frame(last),
        "R4-block-size": frame_of(100, block_of(b"x" * 101, last=True)) + frame(last),
        "R4-last-block-damaged": frame_of(len(body), block_of(b"\xff" * 9, last=True, kind=2), check) + frame(last),
        "R4-block-damaged": frame_of(len(body), block_of(b"\xff" * 9, last=False, kind=2) + block_of(body, last=True),
                                     check) + frame(last),
        "R5-checksum": bytes(flipped) + frame(last),
        "R5-too-short": frame_of(len(body) + 1, block_of(body, last=True), check) + frame(last),
        "R5-too-long": frame_of(len(body) - 1, block_of(body[:5], last=False) + block_of(body[5:], last=True), check)
        + frame(last),
        "R63-empty-block": frame_of(len(body), block_of(b"", last=False) + block_of(body, last=True), check)
        + frame(last),
        "R63-empty-repeated-block": frame_of(len(body), block_of(b"a", last=False, kind=1, size=0)
                                             + block_of(body, last=True), check) + frame(last),
        "R63-blocks": frame_of(65_537, block_of(b" ", last=False, kind=1, size=1) * 65_536
                               + block_of(b"\n", last=True), checksum(b" " * 65_536 + b"\n")),
        "R6-empty-file": b"",
        "R6-within-frame": whole[: len(stored) // 2],
        "R6-within-magic": stored + frame(last)[:3],
        "R6-no-trailer": stored,
        "R7-no-lf": frame(body[:-1]) + frame(last),
        "R7-empty-frame": frame(b"") + whole,
        "R8-not-alone": frame(body + last),
        "R8-line-after": stored + frame(last + text(ADD)),
        "R8-compressed": stored + last_compressed,
        "R8-two-blocks": stored + frame_of(len(last), block_of(last[:9], last=False) + block_of(last[9:], last=True),
                                           checksum(last)),
        "R9-second-trailer": whole + frame(last),
        "R9-garbage": whole + b"\0",
        "R9-line-feed": whole + b"\n",
        "R10-endless-line": frame_of(
            64 * 1024 * 1024 + 1024,
            repeated(b" ", 64 * 1024 * 1024) + block_of(b" " * 1023 + b"\n", last=True),
            checksum(b" " * (64 * 1024 * 1024 + 1023) + b"\n"),
        ),
        "R12-cut-line": stored + frame(long_line + b"\n") + frame(last),
    }  # fmt: skip


def bad_lines() -> dict[str, bytes]:
    """Return the bundles whose lines are not strict JSON, or too much of it: R11 to R17, R64."""
    line = orjson.dumps(ADD)
    return {
        "R11-latin-1": raw_value(b'"\xe9"'),
        "R11-surrogate-in-utf-8": raw_value(b'"\xed\xa0\x80"'),
        "R11-byte-order-mark": assemble(b"\xef\xbb\xbf" + orjson.dumps(HEAD), ADD),
        "R12-empty-line": assemble(HEAD, b"", ADD),
        "R12-blank-line": assemble(HEAD, b"  ", ADD),
        "R12-array": assemble(HEAD, b"[1]"),
        "R12-two-objects": assemble(HEAD, line + line),
        "R12-comma": assemble(HEAD, b"{," + line[1:]),
        "R12-control-character": raw_value(b'"\x01"'),
        "R12-single-quotes": raw_value(b"'a'"),
        "R12-leading-zero": raw_value(b"01"),
        "R13-name-twice": assemble(HEAD, line[:-1] + b',"seq":1}'),
        "R13-name-twice-escaped": raw_value(b'{"a":1,"\\u0061":1}'),
        "R14-above": raw_value(b"9223372036854775808"),
        "R14-below": raw_value(b"-9223372036854775809"),
        "R14-endless": raw_value(b"1" * 5000),
        "R14-in-context": assemble(HEAD, ADD | {"context": {"n": 2**63}}),
        "R15-nan": raw_value(b"NaN"),
        "R15-infinity": raw_value(b"[-Infinity]"),
        "R15-overflow": raw_value(b"1e400"),
        "R16-lone-surrogate": raw_value(b'"\\ud800"'),
        "R16-lone-surrogate-name": raw_value(b'{"\\udc00":1}'),
        "R17-deep": assemble(HEAD, ADD | {"context": {"deep": nested(99)}}),
        "R64-values": compressed(HEAD, ADD | {"context": {"zeros": [0] * 1_000_000}}),
        "R17-very-deep": raw_value(b"[" * 100_000 + b"]" * 100_000),
    }


def bad_values() -> dict[str, bytes]:
    """Return the bundles with values that are not of their form: R18 to R27."""
    return {
        "R18-unknown-tag": value({"$date": "2026-01-01"}),
        "R18-bare": value({"$": 1}),
        "R18-in-key": add("key", [{"$nothing": 1}]),
        "R19-deep-value": value(nested(97)),
        "R20-small": value({"$int": "1"}),
        "R20-zero": value({"$int": "018446744073709551616"}),
        "R20-number": value({"$int": 5}),
        "R21-finite": value({"$float": "1.0"}),
        "R22-no-padding": value({"$bytes": "AAE"}),
        "R22-bits": value({"$bytes": "AAF="}),
        "R22-url-alphabet": value({"$bytes": "-_-_"}),
        "R23-hours": value({"$duration": "P0DT24H00M00S"}),
        "R23-zero-fraction": value({"$duration": "P0DT00H00M00.000000S"}),
        "R23-negative-zero": value({"$duration": "-P0DT00H00M00S"}),
        "R23-days": value({"$duration": "P1000000000DT00H00M00S"}),
        "R23-below-the-least": value({"$duration": "-P999999999DT00H00M00.000001S"}),
        "R24-json": value({"$json": 1}),
        "R25-no-surrogate": value({"$utf16": "AGE="}),
        "R25-odd": value({"$utf16": "2AAA"}),
        "R26-plain-names": value({"$object": [["a", 1]]}),
        "R26-pair": value({"$object": [[{"$utf16": "2AA="}]]}),
        "R26-twice": value({"$object": [[{"$utf16": "2AA="}, 1], [{"$utf16": "2AA="}, 2]]}),
        "R26-name": value({"$object": [[1, 2]]}),
        "R27-bounds": value({"$range": {"lower": 1, "upper": 2, "bounds": "[["}}),
        "R27-keys": value({"$range": {"lower": 1, "bounds": "[)"}}),
        "R27-end": value({"$range": {"lower": [1], "upper": 2, "bounds": "[)"}}),
        "R27-text": value({"$range": "none"}),
    }


def bad_records() -> dict[str, bytes]:
    """Return the bundles with records that are not of their form: R28 to R50, R81."""
    tag = {"model": "geo.tag", "id": f"{OFFICE}/77", "key": None}
    obj = COUNTRY_OBJECT.to_dict()
    other = without(CITY_1.to_dict(), "version")
    later = succession().to_dict()
    moved = later["moved"][0]
    return {
        "R28-unknown-type": add("type", "note"),
        "R28-no-type": assemble(HEAD, without(ADD, "type")),
        "R29-no-seq": assemble(HEAD, without(ADD, "seq")),
        "R29-bool": add("seq", True),
        "R29-float": add("seq", 1.0),
        "R29-fields": add("fields", []),
        "R29-empty-key": add("key", []),
        "R29-key": add("key", "PL"),
        "R29-actor": assemble(HEAD, ADD | {"actor": None}),
        "R29-context": assemble(HEAD, ADD | {"context": []}),
        "R29-target": body_of("link", field="tags", target={"model": "geo.tag", "id": f"{OFFICE}/77"}),
        "R29-object": assemble(HEAD, without(obj, "refs"), ADD),
        "R29-header": assemble(without(HEAD, "destination"), ADD),
        "R29-node": head("node", {"id": OFFICE}),
        "R29-model": head("models/geo.tag/fields", None),
        "R29-trailer": assemble(HEAD, ADD, records=None),
        "R29-signature": assemble(HEAD, ADD, signature="abc"),
        "R30-seq": add("seq", 0),
        "R30-version": head("models/geo.tag/version", 0),
        "R30-records": assemble(HEAD, ADD, records=-1),
        "R31-node": head("node/id", "office"),
        "R31-upper-case": head("node/id", "office-7F3A9C21"),
        "R31-long": head("node/id", "o" * 56 + "-7f3a9c21"),
        "R31-base-node": assemble(HEAD, ADD | {"base": day(0), "base_node": "hq"}),
        "R32-no-pk": add("id", f"{OFFICE}/"),
        "R32-no-node": add("id", "5"),
        "R32-long": add("id", f"{OFFICE}/" + "x" * 600),
        "R32-ref": add("refs/country", "9"),
        "R33-upper-case": add("model", "geo.City"),
        "R33-three-parts": add("model", "geo.city.x"),
        "R33-one-part": add("model", "city"),
        "R33-in-header": head("models", {"geo": TAG.to_dict()}),
        "R34-field": add("fields/first name", "x"),
        "R34-ref": add("refs/9", f"{HQ}/9"),
        "R34-digit": add("fields/1st", "x"),
        "R34-white-space": add("fields/first\u00a0name", "x"),
        "R34-direction": add("fields/name\u202e", "x"),
        "R34-private-use": add("fields/name\ue000", "x"),
        "R34-in-header": head("models/geo.tag/fields/a-b", "CharField"),
        "R35-calendar": add("date", "2026-02-29T00:00:00.000000Z"),
        "R35-milliseconds": add("date", "2026-02-28T00:00:00.000Z"),
        "R35-offset": add("date", "2026-02-28T00:00:00.000000+00:00"),
        "R35-leap-second": add("base", "2016-12-31T23:59:60.000000Z"),
        "R35-year-0": head("created", "0000-02-28T00:00:00.000000Z"),
        "R36-no-header": assemble(ADD, ADD),
        "R36-second-header": assemble(HEAD, HEAD, ADD),
        "R37-format": head("format", "other"),
        "R37-version": head("version", 2),
        "R37-version-0": head("version", 0),
        "R37-version-below-0": head("version", -1),
        "R38-requires": head("requires", ["encrypted-values", "delta"]),
        "R39-bundle": head("bundle", BUNDLE.upper()),
        "R40-no-date": head("range/to/date", None),
        "R40-date-at-0": head("range/from/date", day(1)),
        "R40-backwards": head("range/from", {"seq": 2, "date": day(2)}),
        "R40-two-dates": head("range/from", {"seq": 1, "date": day(2)}),
        "R41-mode": head("mode", "full"),
        "R41-snapshot": assemble(
            header(2, mode="snapshot", start=Position(seq=1, date=day(1))).to_dict(), change(2).to_dict()
        ),
        "R41-only-empty": head("only", []),
        "R41-only-twice": head("only", ["geo.city", "geo.city"]),
        "R42-acks": head("acks", {HQ: -1}),
        "R43-previous": head("previous", DIGEST.upper()),
        "R43-sha256": assemble(HEAD, ADD, sha256="ab12"),
        "R44-link-is-field": head("models/geo.city/links/name", "geo.tag"),
        "R45-own-origin": assemble(HEAD, ADD | {"origin": {"node": OFFICE, "seq": 1}}),
        "R46-own-node": assemble(HEAD, ADD | {"base": day(0), "base_node": OFFICE}),
        "R46-no-base": assemble(HEAD, ADD | {"base_node": HQ}),
        "R47-action": body_of("update"),
        "R48-missing": assemble(HEAD, without(ADD, "refs")),
        "R48-not-of-action": body_of("delete", fields={}),
        "R48-same": assemble(HEAD, ADD | {"same": [f"{HQ}/4", f"{OFFICE}/1"]}),
        "R49-one-id": body_of("same", same=[f"{OFFICE}/1", f"{OFFICE}/1"]),
        "R49-greater": body_of("same", same=[f"{OFFICE}/1", f"{HQ}/4"]),
        "R50-resolution": assemble(HEAD, ADD | {"resolution": False}),
        "R81-empty": assemble(HEAD, ADD | {"withheld": []}),
        "R81-no-fields": body_of("link", field="country", target=tag, withheld=["name"]),
        "R29-withheld": assemble(HEAD, ADD | {"withheld": "name"}),
        "R29-withheld-twice": assemble(HEAD, ADD | {"withheld": ["name", "name"]}),
        "R34-withheld": assemble(HEAD, ADD | {"withheld": ["first name"]}),
        "R52-link": body_of("link", field="country", target=tag),
        "R79-empty": head("successions", []),
        "R79-twice": head("successions", [later] * 2),
        "R79-itself": head("successions", [later | {"of": later["node"]}]),
        "R79-before": head("successions", [later | {"after": 10}]),
        "R79-backwards": head("successions", [later | {"moved": [moved | {"last": 9}]}]),
        "R79-dates": head("successions", [later | {"moved": [moved | {"to": day(1)}]}]),
        "R29-succession": head("successions", [later | {"why": "restored"}]),
        "R30-succession": head("successions", [later | {"after": -1}]),
        "R31-succession": head("successions", [later | {"of": "ship"}]),
        "R80-empty": head("redacted", {}),
        "R80-no-fields": head("redacted", {"geo.city": []}),
        "R29-redacted": head("redacted", ["geo.city"]),
        "R29-redacted-twice": head("redacted", {"geo.city": ["name", "name"]}),
        "R33-redacted": head("redacted", {"geo": ["name"]}),
        "R34-redacted": head("redacted", {"geo.city": ["first name"]}),
        "R65-own": head("models/geo.city/versions", {"1": other}),
        "R65-zero": head("models/geo.city/versions", {"0": other}),
        "R65-leading-zero": head("models/geo.city/versions", {"02": other}),
        "R65-great": head("models/geo.city/versions", {str(2**63): other}),
        "R65-empty": head("models/geo.city/versions", {}),
        "R65-within": head("models/geo.city/versions", {"2": {**other, "versions": {"3": other}}}),
        "R29-version": head("models/geo.city/versions", {"2": []}),
        "R30-version-of-a-change": add("version", 0),
    }  # fmt: skip


def bad_contents() -> dict[str, bytes]:
    """Return the bundles whose contents of files are not in order: R67 to R70."""
    top = header(1, requires=("files",)).to_dict()
    one, first, rest = (each.to_dict() for each in (piece(CONTENT), piece(CONTENT, 0, 300), piece(CONTENT, 300)))
    ref = {"sha256": sha(CONTENT), "size": len(CONTENT)}
    great = {"sha256": DIGEST, "size": 2**20 + 3, "at": 0, "data": base64.b64encode(bytes(2**20 + 3)).decode()}
    return {
        "R67-url-alphabet": assemble(top, one | {"data": "-_-_"}, ADD),
        "R67-beyond": assemble(top, one | {"size": 511}, ADD),
        "R67-empty": assemble(top, one | {"data": ""}, ADD),
        "R67-great": compressed(top, {"type": "file"} | great, ADD),
        "R29-piece": assemble(top, without(one, "at"), ADD),
        "R30-size": assemble(top, one | {"size": -1}, ADD),
        "R43-content": assemble(top, one | {"sha256": "ab"}, ADD),
        "R68-not-from-0": assemble(top, rest, ADD),
        "R68-missing": assemble(top, first, ADD),
        "R68-missing-at-end": assemble(top, ADD, first),
        "R68-twice": assemble(top, one, one, ADD),
        "R68-size": assemble(top, first, rest | {"size": 513}, ADD),
        "R68-again": assemble(top, first, first, ADD),
        "R68-other": assemble(top, first, piece(b"x").to_dict(), ADD),
        "R69-sha256": assemble(top, one | {"sha256": DIGEST}, ADD),
        "R70-piece": assemble(HEAD, one, ADD),
        "R70-files": assemble(HEAD, ADD | {"files": {"name": ref}}),
        "R70-no-field": assemble(top, ADD | {"files": {"mayor": ref}}),
        "R70-no-name": assemble(top, ADD | {"files": {"geonameid": ref}}),
        "R70-no-state": assemble(
            top, {**without(without(ADD, "fields"), "refs"), "action": "delete", "files": {"name": ref}}
        ),
        "R29-files": assemble(top, ADD | {"files": {"name": {"sha256": DIGEST}}}),
    }


def bad_order() -> dict[str, bytes]:
    """Return the bundles whose lines do not make up what the header and trailer say: R51 to R59."""
    one, second = ADD, change(2).to_dict()
    third = change(3).to_dict()
    squash = {"mode": "squash", "start": Position(seq=1, date=day(1))}
    return {
        "R51-model": add("model", "geo.river"),
        "R51-object": assemble(HEAD, COUNTRY_OBJECT.to_dict() | {"model": "geo.river"}, ADD),
        "R52-field": add("fields/mayor", "x"),
        "R52-ref": add("refs/mayor", f"{HQ}/9"),
        **bad_contents(),
        "R66-unknown": add("version", 2),
        "R66-own": add("version", 1),
        "R66-object": assemble(HEAD, COUNTRY_OBJECT.to_dict() | {"version": 2}, ADD),
        "R53-gap": assemble(header(3).to_dict(), one, third),
        "R53-twice": two(one, one),
        "R53-descending": two(second, one),
        "R53-missing-at-end": assemble(header(2).to_dict(), one),
        "R53-beyond": assemble(HEAD, ADD, second),
        "R54-descending": two(second, one, only=("geo.city",)),
        "R54-model": two(one, second, only=("geo.tag",)),
        "R54-beyond": assemble(header(1, only=("geo.city",)).to_dict(), second),
        "R55-before": assemble(header(2, **squash).to_dict(), one),
        "R55-beyond": assemble(header(2, **squash).to_dict(), third),
        "R56-last-date": add("date", day(5)),
        "R57-records": assemble(HEAD, ADD, records=2),
        "R58-sha256": assemble(HEAD, ADD, sha256=DIGEST),
        "R59-stored-sha256": assemble(HEAD, ADD, stored_sha256=DIGEST),
    }


def example() -> bytes:
    """Return the bundle that SPEC.md shows."""
    model = {"geo.city": ModelInfo(key=("geonameid",), fields={"geonameid": "IntegerField", "name": "CharField"})}
    settings = {"start": Position(seq=300, date=day(1)), "end": Position(seq=302, date=day(3)), "models": model}
    first = change(301, date=day(2), id=f"{OFFICE}/5", fields={"geonameid": 3081368, "name": "Wroclaw"}, refs={})
    second = change(
        302,
        date=day(3),
        id=f"{OFFICE}/5",
        fields={"geonameid": 3081368, "name": "Wrocław"},
        refs={},
        base=day(2),
        action="change",
        actor="ann",
    )
    return assemble(header(1, **settings).to_dict(), first.to_dict(), second.to_dict())


def by_hand() -> dict[str, bytes]:
    """Return good bundles that the writer would not write like this."""
    spelled = json.dumps(ADD, indent=None, separators=(", ", " : ")).encode()
    floats = raw_value(b"[1.0e2, 100.00, -0, 1E-7, 0.10000000000000000555]")
    signed = assemble(HEAD, ADD, signature={"key": "reserved", "value": "AA=="}, later=1)
    many = b"".join(map(text, [header(2).to_dict(), change(1).to_dict()]))
    more = text(change(2).to_dict())
    stored = frame(many) + frame(more)
    streamed = frame_of(len(many + more), block_of(many, last=False) + block_of(more, last=False)
                        + block_of(b"", last=True), checksum(many + more))  # fmt: skip
    # Commas, brackets and quotes that are text, more than there may be outside of it.
    long_text = ',[{"\\' * 400_000
    return {
        "example": example(),
        "spelling": assemble(orjson.dumps(HEAD)[:-1] + b" }\t\r", spelled),
        "floats": floats,
        "signature": signed,
        "long-text": compressed(HEAD, with_key(ADD, "fields/name", long_text)),
        "many-values": compressed(HEAD, ADD | {"context": {"zeros": [0] * 999_000}}),
        "last-block-empty": streamed + frame(text(trailer_line(many + more, streamed, 2))),
        "raw-blocks": stored + frame(text(trailer_line(many + more, stored, 2))),
    }


# --- bundles that are signed, and those that say so wrongly


def signer(number: int) -> Signer:
    """Return what signs with a fixed key."""
    return Signer(bytes([number]) * 32)


def signed_by(owner: Signer, head: Header, *records: Change, said: Header | None = None, **members: Any) -> bytes:
    """Return a bundle signed by `owner`, as if `said` were its header; `members` of the signature are others."""
    lines = [head.to_dict(), *(record.to_dict() for record in records)]
    sha256 = hashlib.sha256(b"".join(map(text, lines))).hexdigest()
    signature = owner.signature(said or head, records=len(records), sha256=sha256)
    return assemble(*lines, signature=signature | members)


def trusted() -> bytes:
    """Return a list of trusted keys: the office's, the one that it had before, and that of HQ, which may relay."""
    lines = [
        "# NAME KEY OPTIONS",
        f"office {public_text(signer(1).public)}",
        f"office {public_text(signer(2).public)} not-before=2026-01-01 not-after=2026-06-30 # the former one",
        f"hq     {public_text(signer(3).public)} relays=office,ship",
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def signed() -> dict[str, bytes]:
    """Return files of the folder `signed`. What begins with a rule is refused by it with the list `trusted.txt`."""
    one, first = header(1), change(1)
    old, hq = replace(one, created="2026-06-30T23:59:59.999999Z"), NodeInfo(id=HQ, name="HQ")
    of_hq = replace(one, node=hq)
    away = Origin(node=OFFICE, seq=7)
    key, value = (base64.b64encode(bytes(size)).decode() for size in (32, 64))
    office = signer(1)
    whole = signed_by(office, one, first)
    return {
        "office": whole,
        "former-key": signed_by(signer(2), old, first),
        "relayed": signed_by(signer(3), of_hq, replace(first, origin=away)),
        "earlier-id": signed_by(office, one, replace(first, origin=Origin(node="office-00000000", seq=7))),
        "R72-algorithm": signed_by(office, one, first, algorithm="ed448"),
        "R72-no-algorithm": assemble(HEAD, ADD, signature={"key": key, "value": value}),
        "R72-more": signed_by(office, one, first, comment=""),
        "R72-key": signed_by(office, one, first, key=key[:-4]),
        "R72-value": signed_by(office, one, first, value=value[:-4] + "AB=="),
        "R72-type": signed_by(office, one, first, value=1),
        "R73-none": assemble(HEAD, ADD),
        "R74-unknown": signed_by(signer(9), one, first),
        "R74-of-another": signed_by(signer(3), one, first),
        "R74-name-only": signed_by(office, replace(one, node=NodeInfo(id=HQ, name="office")), first),
        "R75-after": signed_by(signer(2), replace(old, created="2026-07-01T00:00:00.000000Z"), first),
        "R75-before": signed_by(signer(2), replace(old, created="2025-12-31T23:59:59.999999Z"), first),
        "R76-value": signed_by(office, one, first, value=value),
        "R76-other-bundle": signed_by(office, one, first, said=replace(one, bundle=BUNDLE.replace("0b6f", "0b60"))),
        "R76-other-id": signed_by(office, one, first, said=replace(one, node=NodeInfo(id=HQ, name="Office"))),
        "R76-other-name": signed_by(office, one, first, said=replace(one, node=NodeInfo(id=OFFICE, name="office"))),
        "R76-backdated": signed_by(signer(2), old, first, said=replace(old, created=one.created)),
        "R76-other-digest": signed_by(office, one, replace(first, actor="eve"), value=signature_of(whole)["value"]),
        "R77-relay": signed_by(office, one, replace(first, origin=Origin(node=HQ, seq=7))),
        "R77-not-named": signed_by(signer(3), of_hq, replace(first, origin=Origin(node="quay-00000000", seq=7))),
    }


def signature_of(data: bytes) -> dict[str, Any]:
    """Return what a bundle is signed with."""
    return dict(verify(io.BytesIO(data)).trailer.signature or {})


def judged(data: bytes) -> BundleError | None:
    """Return the error by which a bundle is refused that is in order but for its signature."""
    keys = TrustedKeys.parse(trusted().decode())
    with open_bundle(io.BytesIO(data)) as reader:
        records = list(reader)
        try:
            key = check_signature(reader.header, reader.trailer, keys)
            for record in records:
                if isinstance(record, Change) and record.origin is not None:
                    check_relayed(reader.header, key, record.origin.node)
        except BundleError as error:
            return error
    return None


# --- a bundle that is encrypted

# Made for this file; it protects nothing.
IDENTITY = "AGE-SECRET-KEY-182R2K6EZ3EFKATNEE5A6246CAWM0KY22YE9MZ442WU0J9YQ8DNQS30JFUV"
RECIPIENT = "age1vcc6wced3vkwqxdntmawe8dq2wxw4tay8st7wl9wh5sufaq3gppqy7ae7f"


def encrypted(stored: Path, content: bytes) -> bytes:
    """Return `content` encrypted. Each time it would come out otherwise, so what is there is kept if it holds that."""
    identities = Identities([IDENTITY])
    if stored.is_file():
        stream = decrypted(io.BytesIO(stored.read_bytes()), identities, close=True)
        with contextlib.closing(stream):
            found = b"".join(iter(lambda: stream.read(4096), b""))
        if found == content:
            return stored.read_bytes()
    target = io.BytesIO()
    encrypting = EncryptingStream(target, Recipients([RECIPIENT]))
    encrypting.write(content)
    encrypting.finish()
    return target.getvalue()


# --- writing and checking


def make() -> dict[str, bytes]:
    """Return every file of the folder by name."""
    files: dict[str, bytes] = {}
    listed: list[dict[str, Any]] = []
    for name, bundle in good().items():
        data = write(bundle)
        files[f"good/{name}.jsonl.zst"] = data
        records = verify(io.BytesIO(data)).records
        listed.append({"file": f"good/{name}.jsonl.zst", "records": records, "frame_size": bundle[2]})
    for name, data in by_hand().items():
        files[f"good/{name}.jsonl.zst"] = data
        listed.append({"file": f"good/{name}.jsonl.zst", "records": verify(io.BytesIO(data)).records})
    for name, data in sorted((bad_container() | bad_lines() | bad_values() | bad_records() | bad_order()).items()):
        file = f"bad/{name}.jsonl.zst"
        files[file] = data
        try:
            verify(io.BytesIO(data))
        except BundleError as error:
            expected = name.partition("-")[0]
            if error.rule != expected:
                sys.exit(f"{file}: breaks {error.rule}, not {expected}: {error}")
            listed.append({"file": file, "error": type(error).__name__, "rule": error.rule, "message": str(error)})
        else:
            sys.exit(f"{file}: is in order")
    judgements: list[dict[str, Any]] = []
    for name, data in sorted(signed().items()):
        file = f"signed/{name}.jsonl.zst"
        files[file] = data
        found = judged(data)
        expected = name.partition("-")[0] if name.startswith("R7") else None
        if (None if found is None else found.rule) != expected:
            sys.exit(f"{file}: breaks {found}, not {expected}")
        said = {} if found is None else {"error": type(found).__name__, "rule": found.rule, "message": str(found)}
        judgements.append({"file": file, **said})
    files["signed/trusted.txt"] = trusted()
    files["encrypted/identity.txt"] = f"# It protects nothing.\n{IDENTITY}\n".encode()
    name = "encrypted/example.jsonl.zst.age"
    files[name] = encrypted(FOLDER / name, files["good/example.jsonl.zst"])
    index = {"zstd": ZSTD, "vectors": listed, "signed": judgements}
    files["vectors.json"] = json.dumps(index, indent=1, ensure_ascii=False).encode() + b"\n"
    return files


def contents(data: bytes) -> list[bytes]:
    """Return what the frames of a good bundle hold, but for the digest that depends on their compression."""
    frames: list[bytes] = []
    while data:
        decompressor = zstandard.ZstdDecompressor().decompressobj()
        frames.append(decompressor.decompress(data))
        data = decompressor.unused_data
    last = json.loads(frames[-1])
    del last["stored_sha256"]
    return [*frames[:-1], json.dumps(last).encode()]


def same(name: str, made: bytes, stored: bytes, *, same_library: bool) -> bool:
    """Whether a stored file is what is made now, leaving aside how a zstd library of another version compresses."""
    if made == stored or same_library:
        return made == stored
    if name == "vectors.json":
        return bool(json.loads(made) | {"zstd": None} == json.loads(stored) | {"zstd": None})
    return name.startswith(("good/", "bad/R64-")) and contents(made) == contents(stored)


def check(files: dict[str, bytes]) -> int:
    """Report what has drifted."""
    stored = {str(path.relative_to(FOLDER)): path.read_bytes() for path in FOLDER.rglob("*") if path.is_file()}
    library = json.loads(stored.get("vectors.json", b"{}")).get("zstd")
    drifted = sorted(files.keys() ^ stored.keys())
    drifted += [
        name
        for name in sorted(files.keys() & stored.keys())
        if not same(name, files[name], stored[name], same_library=library == ZSTD)
    ]
    for name in drifted:
        print(f"tests/vectors/{name} has drifted", file=sys.stderr)
    return 1 if drifted else 0


def main() -> int:
    """Write the vectors, or check them."""
    parser = argparse.ArgumentParser(description="Make the test vectors of the file format.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 when they have drifted")
    options = parser.parse_args()
    files = make()
    if options.check:
        return check(files)
    for path in FOLDER.rglob("*.zst"):
        path.unlink()
    for name, data in files.items():
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    print(f"{len(files) - 1} vectors in {FOLDER.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
