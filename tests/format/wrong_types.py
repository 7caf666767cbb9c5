"""Bundles with something of a wrong type in one place: by the tables of SPEC.md, so that no place is forgotten."""

import copy
import hashlib
import json
import re

from changelog_format.container import raw_frame
from tests.format.samples import BUNDLE, HQ, OFFICE, ROOT, day

SPEC = (ROOT / "SPEC.md").read_text(encoding="utf-8")
SHIP = "ship-22bb33cc"
DIGEST = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # of b"abc"
OF_FILE = {"sha256": DIGEST, "size": 3}
KINDS = {
    "null": None, "true": True, "false": False, "integer": 1, "float": 1.0, "string": "x y", "array": [], "object": {},
}  # fmt: skip
NAMED_STRINGS = {"date", "digest", "UUID", "node id", "object id", "model label", "field name"}
SINGULAR = {"model labels": "model label", "field names": "field name", "strings": "string", "values": "value",
            "successions": "succession", "object ids": "object id"}  # fmt: skip


def tables():
    """`{what: {key: (type, required)}}`: the tables of SPEC.md, by what their `type` is, `model` and `action`."""
    found = {}
    for table in re.findall(r"^\| key \| type \| \|\n\| --- .*\n((?:\|.*\n)+)", SPEC, flags=re.MULTILINE):
        rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*) \|$", table, flags=re.MULTILINE)
        name = rows[0][1].strip('`"') if rows[0][0] == "type" else "model"
        found[name] = {key: (kind, note.startswith("required")) for key, kind, note in rows}
    for actions, keys in re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| [^|]* \|(.*)\|$", SPEC, flags=re.MULTILINE):
        for action in re.findall(r"`(\w+)`", actions):
            places = re.findall(r"`(\w+)`: (`\{.*?\}`|[^;`]+)(?=;|$)", keys.strip())
            found.setdefault("actions", {})[action] = {key: (kind.strip(), True) for key, kind in places}
    return found


TABLES = tables()
# What the text defines beside the tables.
DEFINED = {
    "position": re.search(r"A \*position\* is `(.*?)`", SPEC)[1],
    "succession": re.search(r"A \*succession\* is `(.*?)`", SPEC)[1],
    "moved": re.search(r"Each\n?\*moved\*, `(.*?)`", SPEC)[1],
}


def whole():
    """The lines of a bundle, in order, in which every key of every table stands."""
    model = {
        "version": 2,
        "key": ["name"],
        "fields": {"name": "CharField", "file": "FileField", "country": "ForeignKey"},
        "skipped": ["visits"],
        "relations": {"country": "geo.country"},
        "links": {"tags": "geo.tag"},
    }
    former = {name: value for name, value in model.items() if name != "version"}
    header = {
        "type": "header", "format": "synchro-changelog", "version": 1, "bundle": BUNDLE, "created": day(0),
        "node": {"id": OFFICE, "name": "Office"}, "destination": "default",
        "range": {"from": {"seq": 1, "date": day(1)}, "to": {"seq": 5, "date": day(5)}},
        "mode": "history", "only": ["geo.city"], "acks": {HQ: 5}, "previous": DIGEST, "requires": ["files"],
        "successions": [{"node": SHIP, "of": HQ, "after": 1, "moved": [
            {"first": 2, "last": 3, "as": 1, "from": day(1), "to": day(2)}]}],
        "redacted": {"geo.city": ["remarks"]}, "models": {"geo.city": {**model, "versions": {"1": former}}},
    }  # fmt: skip
    about = {"model": "geo.city", "version": 1, "id": f"{OFFICE}/1", "key": ["a"]}
    state = {
        "fields": {"name": "a", "file": "a.txt", "country": ["PL"]},
        "refs": {"country": f"{OFFICE}/9"},
        "files": {"file": OF_FILE},
    }
    told = {"actor": "ann", "context": {"reason": "why"}, "resolution": True}
    records = [{"type": "file", **OF_FILE, "at": 0, "data": "YWJj"}]
    for seq, (action, body) in enumerate(
        (
            ("add", {**state, "withheld": ["remarks"]}),
            ("link", {"field": "tags", "target": {"model": "geo.tag", "id": f"{OFFICE}/3", "key": ["t"]}}),
            ("same", {"same": [f"{OFFICE}/1", f"{OFFICE}/2"]}),
            ("delete", {}),
        ),
        2,
    ):
        change = {"type": "change", "seq": seq, "origin": {"node": HQ, "seq": seq}, "date": day(seq), "base": day(1)}
        records.append({**change, "base_node": SHIP, "action": action, **about, **body, **told})
    return json.loads(json.dumps([header, *records, {"type": "object", **about, **state}]))  # nothing shared


def packed(lines, **of_trailer):
    """A bundle of *lines* and a trailer with digests that match, in which *of_trailer* stands."""
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    stored = raw_frame(body)
    digests = {"sha256": hashlib.sha256(body).hexdigest(), "stored_sha256": hashlib.sha256(stored).hexdigest()}
    trailer = {"type": "trailer", "records": len(lines) - 1, **digests, "signature": {}} | of_trailer
    trailer = {name: value for name, value in trailer.items() if value is not MISSING}
    return stored + raw_frame(json.dumps(trailer).encode() + b"\n")


MISSING = object()
"""In place of a value: the key is left out."""


def alternatives(text):
    """The types in *text*, one of which a value has: `null` beside what may be null."""
    found = re.fullmatch(r"(.*?),? or null", text)
    return [found[1], "null"] if found else [text]


def parts(text):
    """The members of an object in the notation of SPEC.md: pairs of names, or types of names, and types."""
    found, depth, start = [], 0, 0
    inner = text[1:-1]
    for place, character in enumerate([*inner, ","]):
        depth += (character in "{[") - (character in "}]")
        if character == "," and not depth:
            name, _, kind = inner[start:place].partition(":")
            found.append((name.strip(), kind.strip()))
            start = place + 1
    return found


def wrong(kind, value):
    """What may not stand in the place of *value*, which is of the type *kind*: pairs of a path below it and a value."""
    kinds = alternatives(kind.replace("`", ""))
    kind = DEFINED.get(kinds[0], kinds[0])
    right, strings = _json_kinds(kind), kind in NAMED_STRINGS
    if kind == "value":
        return
    yield from (((), each) for name, each in KINDS.items() if name not in {right, *kinds[1:]})
    if strings or kind.startswith('"'):
        yield (), "x y"
        yield (), ""
    if kind == "model":
        yield from _of_table("model", value)
    elif kind.startswith("{"):
        yield from _of_object(kind, value)
    elif right == "array" and value:
        of = kind.strip("[]") if kind.startswith("[") else re.sub(r"^array of (two )?", "", kind)
        yield from _below(0, wrong(SINGULAR.get(of, of), value[0]))


def _json_kinds(kind):
    if kind.startswith(("array", "[")):
        return "array"
    if kind.startswith("{") or kind in {"object", "model"}:
        return "object"
    if kind.startswith('"') or kind in NAMED_STRINGS:
        return "string"
    return kind  # integer, string, true


def _below(step, found):
    for path, value in found:
        yield (step, *path), value


def _of_object(kind, value):
    members = parts(kind)
    if members[0][0].startswith('"'):  # just these names
        yield (), {**value, "more": 1}
        for name, of in ((name.strip('"'), of) for name, of in members):
            yield (name,), MISSING
            yield from _below(name, wrong(of, value[name]))
        return
    ((of_name, of),) = members
    name = next(iter(value))
    if of_name in NAMED_STRINGS or of_name == "version":
        yield (), {"x y": value[name]}
    yield from _below(name, wrong(of, value[name]))


def _of_table(table, value, more=None):
    """The same where the keys are those of a table of SPEC.md (and those in *more*)."""
    for name, (kind, required) in ({**TABLES[table], **(more or {})}).items():
        if name not in value:  # what is in no record at all, a test finds
            continue
        if required:
            yield (name,), MISSING
        yield from _below(name, wrong(kind, value[name]))


def places():
    """`(what, path, value)`: each place of each record, and each value of a type that may not stand there."""
    for number, line in enumerate(whole()):
        more = TABLES["actions"].get(line.get("action"))
        for path, value in _of_table(line["type"], line, more):
            yield (number, *path), value
    trailer = {"type": "trailer", "records": 6, "sha256": DIGEST, "stored_sha256": DIGEST, "signature": {}}
    for path, value in _of_table("trailer", trailer):
        yield ("trailer", *path), value


def bundle_with(path, value):
    """The bundle with *value* at *path*."""
    lines = copy.deepcopy(whole())
    first, *rest = path
    if first == "trailer":
        return packed(lines, **{rest[0]: value})
    at = lines[first]
    for step in rest[:-1]:
        at = at[step]
    if value is MISSING:
        del at[rest[-1]]
    else:
        at[rest[-1]] = value
    return packed(lines)
