"""Reading a bundle, line by line or as a whole."""

from __future__ import annotations

import errno
import hashlib
import io
import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import orjson

from .container import Frame, FrameReader
from .encryption import decrypted
from .errors import (
    BundleError,
    ContainerError,
    DigestError,
    LimitError,
    OrderError,
    OutOfMemoryError,
    ReaderStateError,
    RecordError,
)
from .forms import shown
from .jsonl import FAST_SIZE, read_line
from .limits import Limits
from .records import Change, FilePiece, Header, ObjectRecord, Trailer
from .rules import BundleRules

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    from .encryption import Identities

__all__ = ["BundleReader", "Record", "Source", "Summary", "open_bundle", "verify"]

Record = Change | ObjectRecord | FilePiece
Source = str | bytes | os.PathLike[str] | os.PathLike[bytes] | BinaryIO


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A bundle that was read to its end and is in order.

    `size` is that of the file in bytes, `raw_size` that of its lines. `counts` is by model and action; the action of
    an object record is ``"object"``. `versions` is by model: those in which its records are.
    `contents` is the number of files' contents, which are in so many `pieces`, `file_bytes` their size in all.
    `relayed` is by node: how many changes of others the writer passes on. `trailer_at` is the byte at which the
    trailer's frame begins.
    """

    header: Header
    trailer: Trailer
    lines: int
    records: int
    frames: int
    size: int
    raw_size: int
    counts: Mapping[str, Mapping[str, int]]
    versions: Mapping[str, tuple[int, ...]]
    contents: int
    pieces: int
    file_bytes: int
    relayed: Mapping[str, int]
    trailer_at: int


class BundleReader:
    """Reads one bundle once, from its first line to its last. Made by `open_bundle`.

    Iterating yields the records in the order of the file. Each was checked by itself, but the file as a whole is in
    order only when the iteration has ended without an error: act on records before that only if you can undo it.
    """

    def __init__(self, stream: BinaryIO, *, limits: Limits, close: bool) -> None:
        """Read the header from `stream`. `close` says whether the stream is closed with the reader."""
        self._stream = stream
        self._close = close
        self._limits = limits
        self._frames = FrameReader(stream, limits)
        self._sha256 = hashlib.sha256()
        self._trailer: Trailer | None = None
        self._state = "open"
        self.line = 0  # of the record that was read last, from 1
        self.raw_line = b""  # the same as it stands in the file, without its LF
        self.raw_size = 0  # uncompressed bytes that were taken
        self.trailer_at = 0  # the byte at which the trailer's frame begins, once it was read
        self.spelled = True  # every line of up to FAST_SIZE that was read is spelled as the writer here spells it
        self._marks: list[bytes] = []
        self._as_objects = False
        try:
            first = self._next_frame()
            if first is None:
                raise ContainerError("the file is empty", rule="R6", byte=0)
            self._first = first
            self.header = self._read_header(first)
            self._rules = BundleRules(self.header)
        except (MemoryError, SystemError) as error:
            raise _out_of_memory(error, "the header", 1) from None
        self._records = self._read()

    @property
    def trailer(self) -> Trailer:
        """The trailer. Raises ReaderStateError until everything was read."""
        if self._trailer is None or self._state != "done":
            raise ReaderStateError("the trailer is known when all records were read")
        return self._trailer

    @property
    def frames(self) -> int:
        """How many frames were taken."""
        return self._frames.frames

    @property
    def size(self) -> int:
        """How many bytes of the file were taken."""
        return self._frames.size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, if the reader opened it. A trailer that was read stays."""
        if self._state == "open":
            self._state = "closed"
        if self._close:
            self._stream.close()

    def __iter__(self) -> Iterator[Record]:
        """Go on where the last iteration stopped. Raises BundleError, or OSError when reading fails."""
        if self._state in {"closed", "failed"}:
            raise ReaderStateError(f"the reader is {self._state}")
        return self._records

    def objects(self) -> Iterator[dict[str, Any]]:
        """As iterating, but give each record as the object in its line, checked just the same: in half the time."""
        self._as_objects = True
        objects: Iterator[Any] = iter(self)
        return objects

    @property
    def marks(self) -> tuple[bytes, ...]:
        """What tells another reader that it reads the same again: of each frame with records a digest up to its end."""
        return tuple(self._marks)

    def again(self, marks: Sequence[bytes]) -> Iterator[tuple[bytes, dict[str, Any]]]:
        """Give the lines and objects of all records of a bundle that another reader, whose `marks` are given, read.

        Nothing is checked but that each frame is the same, before anything of it is given: a third of the time. Raises
        DigestError where one is not, and what iterating raises for frames.
        """
        frame: Frame | None = self._first
        for mark in marks:
            if frame is None:
                raise DigestError("the file is shorter than it was", rule="R58")
            self._sha256.update(frame.content)
            if self._sha256.digest() != mark:
                raise DigestError(f"the frame at byte {frame.start} is not what it was", rule="R58")
            lines = _split(frame, self._limits)
            if frame.start == 0:
                del lines[0]
            yield from zip(lines, map(orjson.loads, lines), strict=True)
            frame = self._next_frame()

    def _read(self) -> Iterator[Record]:
        frame: Frame | None = self._first
        del self._first
        try:
            while frame is not None:
                yield from self._records_of(frame)
                frame = self._next_frame()
            if self._trailer is None:
                raise ContainerError("the file ends without a trailer", rule="R6", byte=self._frames.size)
        except BundleError as error:
            self._state = "failed"
            if not isinstance(error, (ContainerError, DigestError)):
                error.at(self.line)
            raise
        except (MemoryError, SystemError) as error:
            self._state = "failed"
            raise _out_of_memory(error, "the bundle", self.line) from None
        except BaseException:
            self._state = "failed"
            raise
        if self._state != "closed":
            self._state = "done"

    def _records_of(self, frame: Frame) -> Iterator[Record]:
        """Yield the records of one frame; take the trailer when it comes."""
        if self._trailer is not None:
            raise ContainerError("something stands after the trailer's frame", rule="R9", byte=frame.start)
        lines = _split(frame, self._limits)
        accept, usual = self._rules.accept, self._rules.accept_usual
        most, values = self._limits.records, self._limits.values
        for line in lines[1:] if frame.start == 0 else lines:  # the header was read
            if self._trailer is not None:
                raise ContainerError("a line stands after the trailer", rule="R8", byte=frame.start)
            self.line += 1
            self.raw_line = line
            data, spelled = read_line(line, values=values)
            if not spelled and len(line) <= FAST_SIZE:
                self.spelled = False
            record: Any
            if usual(data):
                record = data if self._as_objects else Change.of_checked(data)
            else:
                record = self._record_of(data)
                if record is None:
                    self._read_trailer(data, frame, len(lines))
                    continue
                accept(record)
                if self._as_objects:
                    record = data
            if most is not None and self._rules.records > most:
                raise LimitError(f"more than {most} records", rule="R60")
            yield record
        if self._trailer is None:
            self._sha256.update(frame.content)
            self._marks.append(self._sha256.digest())

    @staticmethod
    def _record_of(data: dict[str, Any]) -> Record | None:
        """The record that *data* is, checked by itself; None for the trailer."""
        kind = data.get("type")
        if kind == "change":
            return Change.from_dict(data)
        if kind == "object":
            return ObjectRecord.from_dict(data)
        if kind == "file":
            return FilePiece.from_dict(data)
        if kind == "trailer":
            return None
        raise _refuse_kind(data)

    def _next_frame(self) -> Frame | None:
        if self._trailer is not None:
            # What follows is refused whatever it is, so it is not looked into.
            if not self._frames.at_end():
                raise ContainerError("something stands after the trailer's frame", rule="R9", byte=self._frames.size)
            return None
        frame = self._frames.next()
        if frame is not None:
            self.raw_size += len(frame.content)
            if self._limits.size is not None and self.raw_size > self._limits.size:
                raise LimitError(f"more than {self._limits.size} bytes", rule="R60", byte=frame.start)
        return frame

    def _read_header(self, frame: Frame) -> Header:
        line = _split(frame, self._limits)[0]
        self.line = 1
        self.raw_line = line
        try:
            data, _ = read_line(line, values=self._limits.values)
            if data.get("type") != "header":
                raise OrderError(f"the first line is of type {shown(data.get('type'))}, not a header", rule="R36")
            return Header.from_dict(data)
        except BundleError as error:
            raise error.at(1)  # noqa: B904  (the same error, with its line)

    def _read_trailer(self, data: dict[str, Any], frame: Frame, lines: int) -> None:
        trailer = Trailer.from_dict(data)
        if lines != 1:
            raise ContainerError("the trailer is not alone in its frame", rule="R8", byte=frame.start)
        if not frame.raw:
            raise ContainerError("the trailer's frame is not one raw block", rule="R8", byte=frame.start)
        self._rules.finish(trailer.records)
        for name, rule, digest, expected in (
            ("sha256", "R58", self._sha256, trailer.sha256),
            ("stored_sha256", "R59", frame.stored_before, trailer.stored_sha256),
        ):
            if digest.hexdigest() != expected:
                raise DigestError(
                    f"{name} is {digest.hexdigest()}, the trailer says {expected}", rule=rule, line=self.line
                )
        self._trailer = trailer
        self.trailer_at = frame.start


def _split(frame: Frame, limits: Limits) -> list[bytes]:
    """Return the lines of a frame without their LF, their sizes checked."""
    content = frame.content
    if not content.endswith(b"\n"):
        what = "a frame ends within a line" if content else "a frame is empty"
        raise ContainerError(what, rule="R7", byte=frame.start)
    # Sizes first: splitting takes more memory than the content itself.
    before = content.rfind(b"\n", 0, -1) + 1
    if before > limits.frame:
        raise LimitError(
            f"a frame has {before} bytes before its last line, where at most {limits.frame} are taken",
            rule="R3",
            byte=frame.start,
        )
    longest = len(content) - before - 1
    if longest <= limits.line:
        lines = content.split(b"\n")
        lines.pop()
        if len(content) <= limits.line or (longest := max(map(len, lines))) <= limits.line:
            return lines
    raise LimitError(f"a line of {longest} bytes, where at most {limits.line} are taken", rule="R10", byte=frame.start)


def _refuse_kind(data: Mapping[str, Any]) -> BundleError:
    if data.get("type") == "header":
        return OrderError("a second header", rule="R36")
    return RecordError(f"type is {shown(data.get('type'))}, which is not known", rule="R28")


def _out_of_memory(error: MemoryError | SystemError, what: str, line: int) -> BaseException:
    """Return what to raise for want of memory. orjson reports that as a SystemError that a MemoryError caused."""
    if isinstance(error, SystemError) and not isinstance(error.__cause__, MemoryError):
        return error
    return OutOfMemoryError(f"{what} needs more memory than there is", rule="R60", line=line)


def open_bundle(source: Source, *, limits: Limits | None = None, identities: Identities | None = None) -> BundleReader:
    """Open a bundle and read its header. `source` is a path, or a binary stream, which need not be seekable.

    With `identities` it may be encrypted; what is not encrypted is read all the same. Raises BundleError for what is
    wrong with the file, OSError where it cannot be opened or read, and TypeError for a source that is neither a path
    nor a binary stream. A stream is left open, a file is closed with the reader.
    """
    if limits is None:
        limits = Limits()
    elif not isinstance(limits, Limits):
        raise TypeError(f"limits is of type {type(limits).__name__}, not Limits")
    if isinstance(source, (str, bytes, os.PathLike)):
        return _begun(_open(source), limits, identities, close=True)
    if isinstance(source, io.TextIOBase) or not callable(getattr(source, "read", None)):
        raise TypeError(f"a bundle is read from a path or a binary stream, not from {type(source).__name__}")
    return _begun(source, limits, identities, close=False)


def _begun(stream: BinaryIO, limits: Limits, identities: Identities | None, *, close: bool) -> BundleReader:
    opened: BinaryIO | None = stream if close else None
    try:
        if identities is not None:
            opened = stream = decrypted(stream, identities, close=close)
        return BundleReader(stream, limits=limits, close=opened is not None)
    except BaseException:
        if opened is not None:
            opened.close()
        raise


def _open(path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> BinaryIO:
    try:
        return open(path, "rb", buffering=0)  # noqa: PTH123  (closed by the reader)
    except ValueError as error:
        # A NUL, or what no file system takes for a name: so there is no such file.
        raise OSError(errno.EINVAL, f"not the name of a file: {error}", path) from None


def verify(source: Source, *, limits: Limits | None = None, identities: Identities | None = None) -> Summary:
    """Read a bundle to its end and return what is in it. Raises BundleError and OSError as `open_bundle`."""
    counts: dict[str, dict[str, int]] = {}
    versions: dict[str, set[int | None]] = {}
    relayed: Counter[str] = Counter()
    contents = pieces = file_bytes = 0
    with open_bundle(source, limits=limits, identities=identities) as reader:
        for record in reader:
            if isinstance(record, FilePiece):
                contents += not record.at
                pieces += 1
                file_bytes += len(record.data)
                continue
            action = "object"
            if type(record) is Change:
                action = record.action
                if record.origin is not None:
                    relayed[record.origin.node] += 1
            of_model = counts.setdefault(record.model, {})
            of_model[action] = of_model.get(action, 0) + 1
            versions.setdefault(record.model, set()).add(record.version)
        return Summary(
            header=reader.header,
            trailer=reader.trailer,
            lines=reader.line,
            records=reader.trailer.records,
            frames=reader.frames,
            size=reader.size,
            raw_size=reader.raw_size,
            counts={model: dict(sorted(actions.items())) for model, actions in sorted(counts.items())},
            versions={
                model: tuple(sorted({each or reader.header.models[model].version for each in of_model}))
                for model, of_model in sorted(versions.items())
            },
            contents=contents,
            pieces=pieces,
            file_bytes=file_bytes,
            relayed=dict(sorted(relayed.items())),
            trailer_at=reader.trailer_at,
        )
