"""The contents of files: pieces, and what holds between them (SPEC R67 to R71)."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from .errors import DigestError, LimitError, OrderError, RecordError
from .forms import add_extra, check_field_name, check_integer, check_keys, check_object, require, shown, split_extra
from .limits import CONTENTS, PIECE_SIZE
from .names import is_digest
from .values import decode_base64

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FILES", "ContentRules", "FilePiece", "FileRef", "check_files", "check_piece"]

FILES = "files"
"""The feature that a header requires where the bundle has contents of files."""

_KEYS = frozenset({"type", "sha256", "size", "at", "data"})
_REF_KEYS = frozenset({"sha256", "size"})


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRef:
    """The content of a file that a record names: its SHA-256, and its size in bytes."""

    sha256: str
    size: int

    def to_dict(self) -> dict[str, Any]:
        """Return the object as it stands in a record."""
        return {"sha256": self.sha256, "size": self.size}


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePiece:
    """`data`: the bytes from `at` of the content with this SHA-256 and `size`."""

    sha256: str
    size: int
    at: int
    data: bytes = field(repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the object as it stands in the line, keys in their fixed order."""
        text = base64.b64encode(self.data).decode("ascii")
        data = {"type": "file", "sha256": self.sha256, "size": self.size, "at": self.at, "data": text}
        return add_extra(data, self.extra, _KEYS)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Read a piece's object. Raises RecordError."""
        content = check_piece(data)
        return cls(
            sha256=data["sha256"], size=data["size"], at=data["at"], data=content, extra=split_extra(data, _KEYS)
        )


def check_piece(data: Mapping[str, Any]) -> bytes:
    """Check a piece by itself; return its bytes. Raises RecordError."""
    _check_digest("sha256", require(data, "sha256", "the piece"))
    size = check_integer("size", require(data, "size", "the piece"), 0)
    at = check_integer("at", require(data, "at", "the piece"), 0)
    content = decode_base64(require(data, "data", "the piece"))
    if content is None:
        raise RecordError("data is not base64 with padding", rule="R67")
    if len(content) > PIECE_SIZE:
        raise RecordError(f"data has {len(content)} bytes, where a piece has at most {PIECE_SIZE}", rule="R67")
    if at + len(content) > size or (not content and size):
        raise RecordError(f"{len(content)} bytes at {at} are no piece of {size}", rule="R67")
    return content


def check_files(value: object, fields: Mapping[str, Any] | None) -> None:
    """Check what a record says of the contents of its files. Raises RecordError."""
    files = check_object("files", value)
    for name, ref in files.items():
        check_field_name("files", name)
        keys = check_keys(f"files.{name}", ref, _REF_KEYS)
        _check_digest(f"files.{name}.sha256", keys["sha256"])
        check_integer(f"files.{name}.size", keys["size"], 0)
        if fields is None or type(fields.get(name)) is not str:
            raise RecordError(f"files has {shown(name)}, which is no field with a name of a file", rule="R70")


def read_files(data: Mapping[str, Any]) -> dict[str, FileRef] | None:
    """Return what a record that was checked says of the contents of its files."""
    if "files" not in data:
        return None
    return {name: FileRef(sha256=ref["sha256"], size=ref["size"]) for name, ref in data["files"].items()}


def _check_digest(key: str, value: object) -> None:
    if not is_digest(value):
        raise RecordError(f"{key} is {shown(value)}, not 64 hexadecimal digits", rule="R43")


class ContentRules:
    """Follows the pieces of one bundle: each content once, whole, from its beginning to its end, and what it says."""

    def __init__(self, *, allowed: bool) -> None:
        self._allowed = allowed
        self._seen: set[bytes] = set()
        self._digest = hashlib.sha256()
        self._open: FilePiece | None = None
        self._next = 0

    def accept(self, piece: FilePiece) -> None:
        """Take the next piece. Raises OrderError, DigestError or LimitError."""
        self.check_allowed()
        if self._open is None:
            self._begin(piece)
        elif (piece.sha256, piece.size) != (self._open.sha256, self._open.size) or piece.at != self._next:
            raise OrderError(
                f"a piece of {piece.sha256} at {piece.at}, expected {self._open.sha256} at {self._next}", rule="R68"
            )
        self._digest.update(piece.data)
        self._next = piece.at + len(piece.data)
        self._open = piece
        if self._next == piece.size:
            self._open = None
            if self._digest.hexdigest() != piece.sha256:
                raise DigestError(
                    f"the content's SHA-256 is {self._digest.hexdigest()}, not {piece.sha256}", rule="R69"
                )

    def _begin(self, piece: FilePiece) -> None:
        if piece.at:
            raise OrderError(f"the content {piece.sha256} begins at {piece.at}", rule="R68")
        if len(self._seen) >= CONTENTS:
            raise LimitError(f"more than {CONTENTS} contents of files", rule="R71")
        key = bytes.fromhex(piece.sha256)
        if key in self._seen:
            raise OrderError(f"the content {piece.sha256} comes twice", rule="R68")
        self._seen.add(key)
        self._digest = hashlib.sha256()

    def interrupt(self) -> None:
        """Something else comes. Raises OrderError within a content."""
        if self._open is not None:
            raise OrderError(f"the content {self._open.sha256} ends at {self._next} of {self._open.size}", rule="R68")

    def check_allowed(self) -> None:
        """Raise RecordError where the header does not require the feature."""
        if not self._allowed:
            raise RecordError(f"contents of files stand in a bundle that does not require {FILES!r}", rule="R70")
