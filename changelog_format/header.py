"""The first line of a bundle: who wrote it, from where to where, and what its models are (SPEC R37 to R44)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from .errors import RecordError, UnsupportedError
from .forms import (
    add_extra,
    check_date,
    check_field_name,
    check_integer,
    check_keys,
    check_model_label,
    check_names,
    check_node_id,
    check_object,
    check_text,
    named,
    refuse_type,
    require,
    shown,
    split_extra,
)
from .limits import INT64_MAX
from .names import is_bundle_id, is_digest

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "FORMAT", "MODES", "SUPPORTED_FEATURES", "VERSION", "Header", "ModelInfo", "Moved", "NodeInfo", "Position",
    "Succession",
]  # fmt: skip

FORMAT = "synchro-changelog"
VERSION = 1
MODES = ("history", "squash", "snapshot")
# Names that may stand in `requires`.
SUPPORTED_FEATURES: frozenset[str] = frozenset({"files"})
_FEATURES_NAMED = 8  # in an error text; there will hardly be more

_KEYS = frozenset(
    {
        "type", "format", "version", "bundle", "created", "node", "destination", "range", "mode", "only", "acks",
        "previous", "requires", "successions", "redacted", "models",
    }
)  # fmt: skip
_MODEL_KEYS = frozenset({"version", "key", "fields", "skipped", "relations", "links", "versions"})
_MODEL_VERSION_NAME = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)
_NODE_KEYS = frozenset({"id", "name"})
_POSITION_KEYS = frozenset({"seq", "date"})
_RANGE_KEYS = frozenset({"from", "to"})
_SUCCESSION_KEYS = frozenset({"node", "of", "after", "moved"})
_MOVED_KEYS = frozenset({"first", "last", "as", "from", "to"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A position in a node's log: its number, and the date of the change there. Before the first: 0 and None."""

    seq: int
    date: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return the object as it stands in the header."""
        return {"seq": self.seq, "date": self.date}

    @classmethod
    def from_dict(cls, data: object, key: str = "position") -> Self:
        """Read a position; `key` names it in errors. Raises RecordError."""
        values = check_keys(key, data, _POSITION_KEYS)
        seq = check_integer(f"{key}.seq", values["seq"], 0)
        date = values["date"]
        if date is not None:
            check_date(f"{key}.date", date)
        if (seq == 0) != (date is None):
            raise RecordError(f"{key} has seq {seq} and date {shown(date)}: only position 0 has none", rule="R40")
        return cls(seq=seq, date=date)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeInfo:
    """The node that wrote the bundle: its id, and its name as people know it."""

    id: str
    name: str

    def to_dict(self) -> dict[str, Any]:
        """Return the object as it stands in the header."""
        return {"id": self.id, "name": self.name}

    @classmethod
    def from_dict(cls, data: object, key: str = "node") -> Self:
        """Read a node; `key` names it in errors. Raises RecordError."""
        values = check_keys(key, data, _NODE_KEYS)
        return cls(id=check_node_id(f"{key}.id", values["id"]), name=check_text(f"{key}.name", values["name"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """What the writer knew of one model.

    `fields`: field name to type name. `relations`: foreign key to the label of its target's model. `links`:
    many-to-many field to the label of its target's model. `key`: the field names of the natural key, None without
    one. `skipped`: fields that are not carried. `versions`: by number, the other versions of the model in which records
    of the bundle are.
    """

    version: int = 1
    key: tuple[str, ...] | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    relations: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[int, ModelInfo] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the object as it stands in the header, keys in their fixed order."""
        data: dict[str, Any] = {
            "version": self.version,
            "key": None if self.key is None else list(self.key),
            "fields": dict(self.fields),
            "skipped": list(self.skipped),
            "relations": dict(self.relations),
            "links": dict(self.links),
        }
        if self.versions:
            data["versions"] = {
                str(number): _without_version(self.versions[number]) for number in sorted(self.versions)
            }
        return add_extra(data, self.extra, _MODEL_KEYS)

    @classmethod
    def from_dict(cls, data: object, key: str = "model") -> Self:
        """Read one model's information; `key` names it in errors. Raises RecordError."""
        values = check_object(key, data)
        version = check_integer(f"{key}.version", require(values, "version", key), 1)
        versions = _check_versions(key, values, version) if "versions" in values else {}
        names = require(values, "key", key)
        if names is not None:
            check_names(f"{key}.key", names)
            if not names:
                raise RecordError(f"{key}.key is empty", rule="R29")
        fields = check_object(f"{key}.fields", require(values, "fields", key))
        for name, kind in fields.items():
            check_field_name(f"{key}.fields", name)
            check_text(f"{key}.fields.{named(name)}", kind)
        skipped = check_names(f"{key}.skipped", require(values, "skipped", key))
        targets = {}
        for part in ("relations", "links"):
            targets[part] = check_object(f"{key}.{part}", require(values, part, key))
            for name, label in targets[part].items():
                check_field_name(f"{key}.{part}", name)
                check_model_label(f"{key}.{part}.{named(name)}", label)
        for name in targets["links"]:
            if name in fields or name in targets["relations"]:
                raise RecordError(f"{key} has {shown(name)} both as a field and as a link", rule="R44")
        return cls(
            version=version,
            key=None if names is None else tuple(names),
            fields=fields,
            skipped=tuple(skipped),
            relations=targets["relations"],
            links=targets["links"],
            versions=versions,
            extra=split_extra(values, _MODEL_KEYS),
        )


def _without_version(info: ModelInfo) -> dict[str, Any]:
    data = info.to_dict()
    del data["version"]
    return data


def _check_versions(key: str, values: Mapping[str, Any], version: int) -> dict[int, ModelInfo]:
    found = {}
    for name, data in check_object(f"{key}.versions", values["versions"]).items():
        if not _MODEL_VERSION_NAME.fullmatch(name) or int(name) == version or int(name) > INT64_MAX:
            raise RecordError(f"{key}.versions has {shown(name)}, not the number of another version", rule="R65")
        place = f"{key}.versions.{name}"
        if not {"version", "versions"}.isdisjoint(check_object(place, data)):
            raise RecordError(f"{place} has a version within a version", rule="R65")
        found[int(name)] = ModelInfo.from_dict({**data, "version": int(name)}, place)
    if not found:
        raise RecordError(f"{key}.versions is empty", rule="R65")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """Changes that were given away as the positions `first` to `last` of one log, and are those from `at` of another.

    `start` and `end` are the dates of the first and the last: another change has another date.
    """

    first: int
    last: int
    at: int
    start: str
    end: str

    def to_dict(self) -> dict[str, Any]:
        """Return the object as it stands in the header."""
        return {"first": self.first, "last": self.last, "as": self.at, "from": self.start, "to": self.end}

    @classmethod
    def from_dict(cls, data: object, key: str, after: int) -> Self:
        """Read the object at `key`, which is about positions after `after`. Raises RecordError."""
        values = check_keys(key, data, _MOVED_KEYS)
        first = check_integer(f"{key}.first", values["first"], 1)
        last = check_integer(f"{key}.last", values["last"], 1)
        at = check_integer(f"{key}.as", values["as"], 1)
        start, end = check_date(f"{key}.from", values["from"]), check_date(f"{key}.to", values["to"])
        if not after < first <= last or start > end:
            raise RecordError(f"{key} goes from {first}, {start} to {last}, {end}, after {after}", rule="R79")
        return cls(first=first, last=last, at=at, start=start, end=end)


@dataclass(frozen=True, slots=True, kw_only=True)
class Succession:
    """A deployment whose log was set back goes on as `node`; until then it was `of`.

    Up to the position `after` the log of `of` is what others have of it. What was logged later, and under `of`, is
    `node`'s: `moved` says which changes these are.
    """

    node: str
    of: str
    after: int
    moved: tuple[Moved, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the object as it stands in the header."""
        return {
            "node": self.node, "of": self.of, "after": self.after, "moved": [each.to_dict() for each in self.moved],
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: object, key: str = "succession") -> Self:
        """Read a succession; `key` names it in errors. Raises RecordError."""
        values = check_keys(key, data, _SUCCESSION_KEYS)
        node, of = check_node_id(f"{key}.node", values["node"]), check_node_id(f"{key}.of", values["of"])
        after = check_integer(f"{key}.after", values["after"], 0)
        if type(values["moved"]) is not list:
            raise refuse_type(f"{key}.moved", values["moved"], "an array")
        if node == of:
            raise RecordError(f"{key}: {node} succeeds itself", rule="R79")
        moved = (Moved.from_dict(each, f"{key}.moved", after) for each in values["moved"])
        return cls(node=node, of=of, after=after, moved=tuple(moved))


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The first line of a bundle.

    It covers the positions after `start` up to `end` of the log of `node`. `only` restricts it to some models.
    `acks` says how far the node has taken the logs of others; `previous` is the trailer's sha256 of the bundle
    before it for the same destination. `successions`: which nodes go on for which, as far as the writer knows.
    `redacted`: by model the fields that the reader is not told as the writer has them.
    """

    version: int = VERSION
    bundle: str
    created: str
    node: NodeInfo
    destination: str
    start: Position
    end: Position
    mode: str
    only: tuple[str, ...] | None = None
    acks: Mapping[str, int] = field(default_factory=dict)
    previous: str | None = None
    requires: tuple[str, ...] = ()
    successions: tuple[Succession, ...] = ()
    redacted: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    models: Mapping[str, ModelInfo]
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the object as it stands in the line, keys in their fixed order."""
        data: dict[str, Any] = {
            "type": "header",
            "format": FORMAT,
            "version": self.version,
            "bundle": self.bundle,
            "created": self.created,
            "node": self.node.to_dict(),
            "destination": self.destination,
            "range": {"from": self.start.to_dict(), "to": self.end.to_dict()},
            "mode": self.mode,
        }
        if self.only is not None:
            data["only"] = list(self.only)
        data["acks"] = dict(self.acks)
        data["previous"] = self.previous
        data["requires"] = list(self.requires)
        if self.successions:
            data["successions"] = [each.to_dict() for each in self.successions]
        if self.redacted:
            data["redacted"] = {label: list(names) for label, names in self.redacted.items()}
        data["models"] = {label: info.to_dict() for label, info in self.models.items()}
        return add_extra(data, self.extra, _KEYS)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read a header line's object. Raises UnsupportedError for what is not known here, else RecordError.

        Version and features are looked at first, since everything else may be otherwise in another version.
        """
        version = _check_version(data)
        requires = _check_requires(data)
        bundle = require(data, "bundle", "the header")
        if not is_bundle_id(bundle):
            raise RecordError(f"bundle is {shown(bundle)}, not a UUID in lower case with hyphens", rule="R39")
        start, end = _check_range(data)
        mode, only = _check_mode(data, start)
        previous = require(data, "previous", "the header")
        if previous is not None and not is_digest(previous):
            raise RecordError(f"previous is {shown(previous)}, not 64 hexadecimal digits or null", rule="R43")
        models = check_object("models", require(data, "models", "the header"))
        return cls(
            version=version,
            bundle=bundle,
            created=check_date("created", require(data, "created", "the header")),
            node=NodeInfo.from_dict(require(data, "node", "the header")),
            destination=check_text("destination", require(data, "destination", "the header")),
            start=start,
            end=end,
            mode=mode,
            only=only,
            acks=_check_acks(data),
            previous=previous,
            requires=requires,
            successions=_check_successions(data),
            redacted=_check_redacted(data),
            models={
                check_model_label("models", label): ModelInfo.from_dict(info, f"models.{named(label)}")
                for label, info in models.items()
            },
            extra=split_extra(data, _KEYS),
        )


def _check_version(data: Mapping[str, Any]) -> int:
    name = require(data, "format", "the header")
    if name != FORMAT:
        raise UnsupportedError(f"format is {shown(name)}, not {FORMAT!r}", rule="R37")
    version: int = require(data, "version", "the header")
    if type(version) is not int:
        raise refuse_type("version", version, "an integer")
    if version != VERSION:
        raise UnsupportedError(f"the file is of version {shown(version)}, this reader knows {VERSION}", rule="R37")
    return version


def _check_requires(data: Mapping[str, Any]) -> tuple[str, ...]:
    requires = require(data, "requires", "the header")
    if type(requires) is not list:
        raise refuse_type("requires", requires, "an array")
    for name in requires:
        check_text("requires", name)
    unknown = [name for name in requires if name not in SUPPORTED_FEATURES]
    if unknown:
        names = ", ".join(map(shown, unknown[:_FEATURES_NAMED]))
        more = f" and {len(unknown) - _FEATURES_NAMED} more" if len(unknown) > _FEATURES_NAMED else ""
        message = f"the file requires features that this reader does not know: {names}{more}"
        raise UnsupportedError(message, rule="R38")
    return tuple(requires)


def _check_range(data: Mapping[str, Any]) -> tuple[Position, Position]:
    both = check_keys("range", require(data, "range", "the header"), _RANGE_KEYS)
    start = Position.from_dict(both["from"], "range.from")
    end = Position.from_dict(both["to"], "range.to")
    if start.seq > end.seq:
        raise RecordError(f"the range goes from {start.seq} to {end.seq}", rule="R40")
    if start.seq == end.seq and start.date != end.date:
        raise RecordError(f"the range has two dates at position {start.seq}", rule="R40")
    return start, end


def _check_mode(data: Mapping[str, Any], start: Position) -> tuple[str, tuple[str, ...] | None]:
    mode = require(data, "mode", "the header")
    if type(mode) is not str or mode not in MODES:
        raise RecordError(f"mode is {shown(mode)}, not one of {', '.join(MODES)}", rule="R41")
    if mode == "snapshot" and start.seq != 0:
        raise RecordError(f"a snapshot starts at 0, not at {start.seq}", rule="R41")
    if "only" not in data:
        return mode, None
    only = data["only"]
    if type(only) is not list:
        raise refuse_type("only", only, "an array")
    for label in only:
        check_model_label("only", label)
    if not only or len(set(only)) != len(only):
        raise RecordError("only is empty or has a model twice", rule="R41")
    return mode, tuple(only)


def _check_acks(data: Mapping[str, Any]) -> dict[str, int]:
    acks = check_object("acks", require(data, "acks", "the header"))
    for node, seq in acks.items():
        if type(seq) is not int or seq < 0:
            raise RecordError(f"acks has {shown(seq)}, not a position", rule="R42")
        check_integer(f"acks.{check_node_id('acks', node)}", seq, 0)
    return acks


def _check_successions(data: Mapping[str, Any]) -> tuple[Succession, ...]:
    if "successions" not in data:
        return ()
    if type(data["successions"]) is not list:
        raise refuse_type("successions", data["successions"], "an array")
    found = tuple(map(Succession.from_dict, data["successions"]))
    if not found or len({each.node for each in found}) != len(found):
        raise RecordError("successions is empty or has a node twice", rule="R79")
    return found


def _check_redacted(data: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    if "redacted" not in data:
        return {}
    found = {
        check_model_label("redacted", label): tuple(check_names(f"redacted.{named(label)}", names))
        for label, names in check_object("redacted", data["redacted"]).items()
    }
    if not found or not all(found.values()):
        raise RecordError("redacted is empty or has a model without fields", rule="R80")
    return found
