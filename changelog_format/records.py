"""The records of a bundle after its header: changes, objects, the trailer (SPEC R28 to R35, R43 to R50).

Building a record does not check it; `from_dict` does, and so does the writer. Field values stand in their encoded form
(see `values`). Keys that this version does not know are kept in `extra`.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as attribute  # Change has a field named `field`
from typing import TYPE_CHECKING, Any, Self

from .errors import RecordError
from .forms import (
    add_extra,
    check_date,
    check_field_name,
    check_fields,
    check_integer,
    check_key,
    check_keys,
    check_model_label,
    check_names,
    check_node_id,
    check_object,
    check_object_id,
    check_plain,
    check_refs,
    check_text,
    refuse_type,
    require,
    shown,
    split_extra,
)
from .header import FORMAT, SUPPORTED_FEATURES, VERSION, Header, ModelInfo, NodeInfo, Position
from .limits import INT64_MAX
from .names import is_digest
from .pieces import FilePiece, FileRef, check_files, check_piece, read_files

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ACTIONS",
    "FORMAT",
    "SUPPORTED_FEATURES",
    "VERSION",
    "Change",
    "FilePiece",
    "FileRef",
    "Header",
    "ModelInfo",
    "NodeInfo",
    "ObjectRecord",
    "Origin",
    "Position",
    "Target",
    "Trailer",
    "check_change",
    "check_object_record",
    "check_piece",
]

ACTIONS = ("add", "change", "delete", "link", "unlink", "same")

_COMMON = frozenset(
    {
        "type", "seq", "origin", "date", "base", "base_node", "action", "model", "version", "id", "key", "files",
        "withheld", "actor", "context", "resolution",
    }
)  # fmt: skip
_OPTIONAL = frozenset({"origin", "base_node", "version", "files", "withheld", "actor", "context", "resolution"})
_BODY = {
    "add": frozenset({"fields", "refs"}),
    "change": frozenset({"fields", "refs"}),
    "delete": frozenset[str](),
    "link": frozenset({"field", "target"}),
    "unlink": frozenset({"field", "target"}),
    "same": frozenset({"same"}),
}
_KNOWN = {action: _COMMON | body for action, body in _BODY.items()}
_ALL_BODY = frozenset().union(*_BODY.values())
_ALL_KNOWN = _COMMON | _ALL_BODY
_ORIGIN_KEYS = frozenset({"node", "seq"})
_TARGET_KEYS = frozenset({"model", "id", "key"})
_OBJECT_KEYS = frozenset({"type", "model", "version", "id", "key", "fields", "refs", "files"})
_TRAILER_KEYS = frozenset({"type", "records", "sha256", "stored_sha256", "signature"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a relayed change was made: the node, and its position in that node's log."""

    node: str
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The other end of a many-to-many link."""

    model: str
    id: str
    key: list[Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change of one object. Which of `fields` to `same` are set depends on the action (SPEC R48).

    `version` is that of the model, where it is another one than the header says.
    """

    seq: int
    origin: Origin | None = None
    date: str
    base: str | None
    base_node: str | None = None
    action: str
    model: str
    version: int | None = None
    id: str
    key: list[Any] | None
    fields: dict[str, Any] | None = None
    refs: dict[str, str] | None = None
    files: Mapping[str, FileRef] | None = None
    withheld: tuple[str, ...] = ()
    field: str | None = None
    target: Target | None = None
    same: tuple[str, str] | None = None
    actor: str | None = None
    context: dict[str, Any] | None = None
    resolution: bool = False
    extra: Mapping[str, Any] = attribute(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:  # noqa: C901, PLR0912  (one key after the other)
        """Return the object as it stands in the line, keys in their fixed order."""
        data: dict[str, Any] = {"type": "change", "seq": self.seq}
        if self.origin is not None:
            data["origin"] = {"node": self.origin.node, "seq": self.origin.seq}
        data["date"] = self.date
        data["base"] = self.base
        if self.base_node is not None:
            data["base_node"] = self.base_node
        data["action"] = self.action
        data["model"] = self.model
        if self.version is not None:
            data["version"] = self.version
        data["id"] = self.id
        data["key"] = self.key
        if self.fields is not None:
            data["fields"] = self.fields
        if self.refs is not None:
            data["refs"] = self.refs
        if self.files is not None:
            data["files"] = {name: ref.to_dict() for name, ref in self.files.items()}
        if self.withheld:
            data["withheld"] = list(self.withheld)
        if self.field is not None:
            data["field"] = self.field
        if self.target is not None:
            data["target"] = {"model": self.target.model, "id": self.target.id, "key": self.target.key}
        if self.same is not None:
            data["same"] = list(self.same)
        if self.actor is not None:
            data["actor"] = self.actor
        if self.context is not None:
            data["context"] = self.context
        if self.resolution:
            data["resolution"] = True
        return add_extra(data, self.extra, _ALL_KNOWN) if self.extra else data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Read a change line's object. Raises RecordError."""
        return cls.of_checked(data, check_change(data))

    @classmethod
    def of_checked(cls, data: dict[str, Any], extra: Mapping[str, Any] | None = None) -> Self:
        """Read an object that `check_change` let through; `extra` is what that returned, where it is at hand."""
        if extra is None:
            extra = {} if data.keys() <= _ALL_KNOWN else {key: data[key] for key in data.keys() - _ALL_KNOWN}
        get = data.get
        origin, target, same = get("origin"), get("target"), get("same")
        return cls(
            seq=data["seq"],
            origin=None if origin is None else Origin(node=origin["node"], seq=origin["seq"]),
            date=data["date"],
            base=data["base"],
            base_node=get("base_node"),
            action=data["action"],
            model=data["model"],
            version=get("version"),
            id=data["id"],
            key=data["key"],
            fields=get("fields"),
            refs=get("refs"),
            files=read_files(data),
            withheld=tuple(get("withheld", ())),
            field=get("field"),
            target=None if target is None else Target(model=target["model"], id=target["id"], key=target["key"]),
            same=None if same is None else (same[0], same[1]),
            actor=get("actor"),
            context=get("context"),
            resolution="resolution" in data,
            extra=extra,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRecord:
    """A row of a model that is not tracked, to which a tracked row points.

    A receiver creates it where it is missing, and never overwrites one that is there. `version` is as in a change.
    """

    model: str
    version: int | None = None
    id: str
    key: list[Any] | None
    fields: dict[str, Any]
    refs: dict[str, str]
    files: Mapping[str, FileRef] | None = None
    extra: Mapping[str, Any] = attribute(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the object as it stands in the line, keys in their fixed order."""
        data: dict[str, Any] = {"type": "object", "model": self.model}
        if self.version is not None:
            data["version"] = self.version
        data.update(id=self.id, key=self.key, fields=self.fields, refs=self.refs)
        if self.files is not None:
            data["files"] = {name: ref.to_dict() for name, ref in self.files.items()}
        return add_extra(data, self.extra, _OBJECT_KEYS)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Read an object line's object. Raises RecordError."""
        return cls.of_checked(data, check_object_record(data))

    @classmethod
    def of_checked(cls, data: dict[str, Any], extra: Mapping[str, Any] | None = None) -> Self:
        """Read an object that `check_object_record` let through, as `Change.of_checked` does."""
        if extra is None:
            extra = {} if data.keys() <= _OBJECT_KEYS else {key: data[key] for key in data.keys() - _OBJECT_KEYS}
        return cls(
            model=data["model"],
            version=data.get("version"),
            id=data["id"],
            key=data["key"],
            fields=data["fields"],
            refs=data["refs"],
            files=read_files(data),
            extra=extra,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trailer:
    """The last line: how many records there are, and the digests of what stands before it.

    `sha256` is that of all uncompressed bytes before the trailer's line, `stored_sha256` that of all bytes of the file
    before the trailer's frame. `signature` is reserved.
    """

    records: int
    sha256: str
    stored_sha256: str
    signature: Mapping[str, Any] | None = None
    extra: Mapping[str, Any] = attribute(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the object as it stands in the line, keys in their fixed order."""
        data = {
            "type": "trailer",
            "records": self.records,
            "sha256": self.sha256,
            "stored_sha256": self.stored_sha256,
        }
        if self.signature is not None:
            data["signature"] = dict(self.signature)
        return add_extra(data, self.extra, _TRAILER_KEYS)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Read a trailer line's object. Raises RecordError."""
        for key in ("sha256", "stored_sha256"):
            digest = require(data, key, "the trailer")
            if not is_digest(digest):
                raise RecordError(f"{key} is {shown(digest)}, not 64 hexadecimal digits", rule="R43")
        signature = None
        if "signature" in data:
            signature = check_object("signature", data["signature"])
            check_plain("signature", signature)
        return cls(
            records=check_integer("records", require(data, "records", "the trailer"), 0),
            sha256=data["sha256"],
            stored_sha256=data["stored_sha256"],
            signature=signature,
            extra=split_extra(data, _TRAILER_KEYS),
        )


def check_change(data: dict[str, Any]) -> dict[str, Any]:
    """Check a change line's object by itself, without its header; return what is under unknown keys.

    Raises RecordError, or LineError for numbers that are no strict JSON.

    The reader and the writer come here for each record, so what is usual is looked at first.
    """
    try:
        seq, date, base, action = data["seq"], data["date"], data["base"], data["action"]
        model, object_id, key = data["model"], data["id"], data["key"]
    except KeyError as error:
        raise RecordError(f"the change has no {error.args[0]!r}", rule="R29") from None
    if type(seq) is not int or not 1 <= seq <= INT64_MAX:
        check_integer("seq", seq, 1)
    check_date("date", date)
    if base is not None:
        check_date("base", base)
    check_model_label("model", model)
    check_object_id("id", object_id)
    check_key("key", key)
    known = _KNOWN.get(action) if type(action) is str else None
    if known is None:
        raise RecordError(f"action is {shown(action)}, not one of {', '.join(ACTIONS)}", rule="R47")
    keys = data.keys()
    extra = {} if keys <= known else _check_unknown(data, action, known)
    if not keys >= _BODY[action]:
        raise RecordError(f"the action {action!r} has no {min(_BODY[action] - keys)!r}", rule="R48")
    if "fields" in known:
        check_fields(data["fields"])
        check_refs(data["refs"])
    elif "target" in known:
        check_field_name("field", data["field"])
        _check_target(data["target"])
    elif "same" in known:
        _check_same(object_id, data["same"])
    if not keys.isdisjoint(_OPTIONAL):
        _check_optional(data)
    return extra


def _check_optional(data: dict[str, Any]) -> None:
    if "origin" in data:
        _check_origin(data["origin"])
    if "base_node" in data:
        check_node_id("base_node", data["base_node"])
        if data["base"] is None:
            raise RecordError("base_node stands without a base", rule="R46")
    if "version" in data:
        check_integer("version", data["version"], 1)
    if "files" in data:
        check_files(data["files"], data.get("fields"))
    if "withheld" in data:
        names = check_names("withheld", data["withheld"])
        if not names or "fields" not in data:
            raise RecordError("withheld is empty, or the change has no fields", rule="R81")
    if "actor" in data:
        check_text("actor", data["actor"])
    if "context" in data:
        check_plain("context", check_object("context", data["context"]))
    if "resolution" in data and data["resolution"] is not True:
        raise RecordError(f"resolution is {shown(data['resolution'])}, where it can only be true", rule="R50")


def check_object_record(data: dict[str, Any]) -> dict[str, Any]:
    """Check an object line's object by itself, without its header, as `check_change` does."""
    check_model_label("model", require(data, "model", "the object"))
    if "version" in data:
        check_integer("version", data["version"], 1)
    check_object_id("id", require(data, "id", "the object"))
    check_key("key", require(data, "key", "the object"))
    check_fields(require(data, "fields", "the object"))
    check_refs(require(data, "refs", "the object"))
    if "files" in data:
        check_files(data["files"], data["fields"])
    return split_extra(data, _OBJECT_KEYS)


def _check_unknown(data: dict[str, Any], action: str, known: frozenset[str]) -> dict[str, Any]:
    """Keys of other actions are refused; those of no action are for later versions."""
    foreign = (data.keys() - known) & _ALL_BODY
    if foreign:
        raise RecordError(f"the action {action!r} cannot have {min(foreign)!r}", rule="R48")
    return split_extra(data, known)


def _check_origin(value: object) -> None:
    origin = check_keys("origin", value, _ORIGIN_KEYS)
    check_node_id("origin.node", origin["node"])
    check_integer("origin.seq", origin["seq"], 1)


def _check_target(value: object) -> None:
    target = check_keys("target", value, _TARGET_KEYS)
    check_model_label("target.model", target["model"])
    check_object_id("target.id", target["id"])
    check_key("target.key", target["key"])


def _check_same(object_id: str, value: object) -> None:
    if type(value) is not list:
        raise refuse_type("same", value, "an array")
    for item in value:
        check_object_id("same", item)
    if len(value) != 2 or value[0] == value[1]:  # noqa: PLR2004
        raise RecordError("same is not two different object ids", rule="R49")
    if object_id != min(value):
        raise RecordError(f"id is {shown(object_id)}, not the smaller one of same", rule="R49")
