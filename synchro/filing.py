"""The contents of files on their way in: from the pieces of a bundle to the storages of the fields.

A content is written before the row that names it, under the name that the record says. A file that is there already is
left alone: where it has the same content it is the same file, and where it has another, the new one gets a name of its
own, made from its content, and the row names that. Files that were written for an import that is not taken are removed
again.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import orjson
from django.core.exceptions import SuspiciousOperation
from django.core.files.base import File
from django.core.files.storage import Storage, default_storage
from django.db import models, transaction
from django.utils.translation import gettext as _

from changelog_format import Change, FilePiece, FileRef
from synchro import reasons, serialize
from synchro.errors import ImportRefusedError
from synchro.models import ChangeLog, Conflict, HeldFile
from synchro.plan import Operation, Write
from synchro.registry import AnyField, ModelSpec
from synchro.values import UndecodableValueError

HELD_FOLDER = "synchro-held"
CHUNK = 1024 * 1024
_DIGITS = 12
_SHOWN = 20
_ALTERNATIVE = re.compile(r"-([0-9a-f]{64}|[0-9a-f]{12})(?:\.[^./]*)?\Z")


def alternative(name: str, sha256: str, longest: int | None, digits: int = _DIGITS) -> str:
    """What a file is called where another one of its name is there already: the same on every deployment."""
    path = PurePosixPath(name)
    suffix = path.suffix if len(path.suffix) <= _DIGITS else ""
    stem = path.name.removesuffix(suffix)
    folder = "" if str(path.parent) == "." else f"{path.parent}/"
    tail = f"-{sha256[:digits]}{suffix}"
    room = None if longest is None else max(longest - len(folder) - len(tail), 0)
    return f"{folder}{stem[:room]}{tail}"


def _digits_in(name: str) -> str | None:
    """The digits of its content that *name* has, if it looks like an alternative one."""
    found = _ALTERNATIVE.search(name)
    return None if found is None else found[1]


@cache
def file_columns(spec: ModelSpec) -> tuple[models.FileField, ...]:
    """The fields of *spec* that hold names of files."""
    return tuple(f for f in spec.fields if isinstance(f, models.FileField))


def digest_of(storage: Storage, name: str) -> tuple[str, int]:
    """SHA-256 and size of a stored file. Raises ``OSError`` where it is not there or cannot be read."""
    digest, size = hashlib.sha256(), 0
    with storage.open(name, "rb") as stream:
        for part in stream.chunks(CHUNK):
            digest.update(part)
            size += len(part)
    return digest.hexdigest(), size


class IncomingFiles:
    """The contents that one import brings, and what becomes of them.

    With *reading* nothing is written: the same names are decided. With *quick* a file of the same name and size counts
    as the same.
    """

    def __init__(self, using: str, *, reading: bool = False, quick: bool = False) -> None:
        self._using = using
        self._reading = reading
        self._quick = quick
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._spooled: set[str] = set()
        self._writing: BinaryIO | None = None
        self._known: dict[tuple[Storage, str], str | None] = {}
        self._held: dict[str, str] | None = None
        # Where a content is by now, so that it can be copied for another field or name.
        self._kept: dict[str, tuple[Storage, str]] = {}
        self._wanted: dict[tuple[Storage, str], FileRef] = {}
        self._written: dict[tuple[Storage, str], None] = {}
        self._used: set[tuple[Storage, str]] = set()
        self._to_keep: set[str] = set()
        self.stored = 0
        self.missing: dict[str, None] = {}

    # --- from the bundle ----------------------------------------------------------------------------------------------

    def take(self, piece: FilePiece) -> None:
        """Put a piece, which was verified, aside until a row needs it."""
        if self._reading:
            self._spooled.add(piece.sha256)
            return
        if piece.at == 0:
            self._writing = self._spool(piece.sha256).open("wb")
        if self._writing is not None:
            self._writing.write(piece.data)
            if piece.at + len(piece.data) == piece.size:
                self._writing.close()
                self._writing = None
                self._spooled.add(piece.sha256)

    def _spool(self, sha256: str) -> Path:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="synchro-")
        return Path(self._folder.name) / sha256

    # --- deciding -----------------------------------------------------------------------------------------------------

    def check(self, column: AnyField, name: str, ref: FileRef) -> None:
        """Raise ``UndecodableValueError`` for a name that leaves the storage. Reads only."""
        if isinstance(column, models.FileField):
            try:
                self._at(column.storage, name, ref)
            except SuspiciousOperation as error:
                place = f"{column.model._meta.label_lower}.{column.name}"
                raise UndecodableValueError(
                    reasons.CANNOT_HOLD(place=place, value=repr(name[:80]), why=error)
                ) from error

    def local_name(self, column: models.FileField, name: str, ref: FileRef | None, mine: Any, what: str) -> str:
        """The name under which the file *name* of *column* is, or will be, here. Reads only.

        *ref* is its content, where that is known; *mine* is the name in the object's row; *what* names the object in
        reports. The same content under another name, which it got here or elsewhere, is the same file.
        """
        if isinstance(mine, str) and mine != name and self._same_file(column, name, ref, mine):
            return mine
        return name if ref is None else self._name_for(column, name, ref, what)

    def _same_file(self, column: models.FileField, name: str, ref: FileRef | None, mine: str) -> bool:
        for original, other in ((name, mine), (mine, name)):
            digits = _digits_in(other)
            if digits is None or other != alternative(original, digits, column.max_length, len(digits)):
                continue
            if ref is not None and not ref.sha256.startswith(digits):
                return False
            try:
                return digest_of(column.storage, mine)[0].startswith(digits)
            except (OSError, SuspiciousOperation):
                return False
        return False

    def _name_for(self, column: models.FileField, name: str, ref: FileRef, what: str) -> str:
        storage = column.storage
        candidates = [alternative(name, ref.sha256, column.max_length, digits) for digits in (_DIGITS, 64)]
        for candidate in (name, *candidates):
            there = self._at(storage, candidate, ref)
            if there == ref.sha256:
                if (storage, candidate) not in self._wanted:
                    self._kept.setdefault(ref.sha256, (storage, candidate))
                return candidate
            if there is None:
                if self._available(ref.sha256):
                    self._wanted[storage, candidate] = ref
                else:
                    self.missing[f"{what}: {name}"] = None
                return candidate
        raise UndecodableValueError(reasons.FILES_CLASH(one=repr(name), other=repr(candidates[-1])))

    def _at(self, storage: Storage, name: str, ref: FileRef) -> str | None:
        """The digest of what is, or will be, stored under *name* ("" for anything that it need not be known of)."""
        place = storage, name
        if place in self._wanted:
            return self._wanted[place].sha256
        if place not in self._known or (self._known[place] == "" and not self._quick):
            self._known[place] = self._look(storage, name, ref)
        return self._known[place]

    def _look(self, storage: Storage, name: str, ref: FileRef) -> str | None:
        if not storage.exists(name):
            return None
        try:
            if storage.size(name) != ref.size:
                return ""
            return ref.sha256 if self._quick else digest_of(storage, name)[0]
        except OSError:  # a folder, say
            return ""

    def _available(self, sha256: str) -> bool:
        return sha256 in self._spooled or sha256 in self._kept or sha256 in self._held_names()

    def _held_names(self) -> dict[str, str]:
        if self._held is None:
            self._held = dict(HeldFile.objects.using(self._using).values_list("sha256", "name"))
        return self._held

    # --- writing ------------------------------------------------------------------------------------------------------

    def store(self, operations: Iterable[Operation]) -> None:
        """Write the contents that the rows of *operations* name. Raises ``ImportRefusedError`` where that fails."""
        for operation in operations if self._wanted else ():
            if isinstance(operation, Write):
                for column in file_columns(operation.spec):
                    name = operation.values.get(column.name)
                    if (column.storage, name) in self._wanted:
                        operation.values[column.name] = self._write(column.storage, str(name))

    def _write(self, storage: Storage, name: str) -> str:
        place = storage, name
        if place in self._written:
            return name
        ref = self._wanted[place]
        stored = self._put(storage, name, ref.sha256)
        self._written[storage, stored] = None
        self._kept[ref.sha256] = storage, stored
        self._known[storage, stored] = ref.sha256
        if stored != name:  # the storage names files as it likes
            self._wanted.pop(place)
            self._wanted[storage, stored] = ref
        return stored

    def _put(self, storage: Storage, name: str, sha256: str) -> str:
        try:
            with self._content(sha256) as stream:
                return storage.save(name, File(stream, name=name))
        except (OSError, SuspiciousOperation) as error:
            raise ImportRefusedError(
                _("The file %(name)s could not be written: %(error)s.") % {"name": name, "error": error},
                hint=_("Nothing was imported."),
            ) from error

    @contextmanager
    def _content(self, sha256: str) -> Iterator[Any]:
        if sha256 in self._spooled:
            with self._spool(sha256).open("rb") as stream:
                yield stream
            return
        storage, name = self._kept.get(sha256) or (default_storage, self._held_names()[sha256])
        with storage.open(name, "rb") as stored:
            yield stored

    def accept(self, operations: Iterable[Operation]) -> None:
        """*operations* were carried out: the files that their rows name are in use."""
        places = self._wanted if self._reading else self._written
        for operation in operations if places else ():
            for column in file_columns(operation.spec) if isinstance(operation, Write) else ():
                place = column.storage, str(operation.values.get(column.name)) if isinstance(operation, Write) else ""
                if place in places and place not in self._used:
                    self._used.add(place)
                    self.stored += 1

    def drop_spooled(self) -> None:
        """Remove what is stored by now from the spool."""
        for sha256 in self._spooled & set(self._kept) - self._to_keep if not self._reading else ():
            self._spool(sha256).unlink(missing_ok=True)
            self._spooled.discard(sha256)

    # --- what is held -------------------------------------------------------------------------------------------------

    def keep(self, files: Mapping[str, FileRef] | None) -> None:
        """A change that names *files* is held: their contents are to stay until it goes in."""
        self._to_keep.update(ref.sha256 for ref in (files or {}).values())

    def settle(self, held: Sequence[Mapping[str, FileRef] | None]) -> None:
        """At the end: keep the contents that changes which are *held* need, and let go of those that none needs."""
        needed = {ref.sha256: ref for files in held for ref in (files or {}).values()}
        known = self._held_names()
        for sha256 in sorted(set(needed) - set(known)):
            if sha256 in self._spooled or sha256 in self._kept:
                name = self._put(default_storage, f"{HELD_FOLDER}/{sha256}", sha256)
                self._written[default_storage, name] = None
                self._used.add((default_storage, name))
                HeldFile.objects.using(self._using).create(sha256=sha256, size=needed[sha256].size, name=name)
        for sha256 in sorted(set(known) - set(needed)):
            HeldFile.objects.using(self._using).filter(sha256=sha256).delete()
            name = known[sha256]
            transaction.on_commit(lambda name=name: default_storage.delete(name), using=self._using)  # type: ignore[misc]
        for place in [place for place in self._written if place not in self._used]:
            self._remove(place)

    def undo(self) -> None:
        """The import is not taken: remove every file that was written for it."""
        for place in list(self._written):
            self._remove(place)

    def _remove(self, place: tuple[Storage, str]) -> None:
        storage, name = place
        del self._written[place]
        storage.delete(name)

    def close(self) -> None:
        """Remove the spool."""
        if self._writing is not None:
            self._writing.close()
        if self._folder is not None:
            self._folder.cleanup()

    def named_missing(self) -> tuple[str, ...]:
        """Some of the files that were named and neither came nor were here."""
        return tuple(list(self.missing)[:_SHOWN])


def contents_of(record: Any) -> Mapping[str, FileRef] | None:
    """What a record says of the contents of its files."""
    files: Mapping[str, FileRef] | None = getattr(record, "files", None)
    return files


def awaited(using: str) -> list[Mapping[str, FileRef] | None]:
    """The contents that the incoming versions of conflicts which wait for a decision name."""
    waiting = Conflict.objects.using(using).filter(held=True, link="", change_id__isnull=False)
    rows = ChangeLog.objects.using(using).filter(pk__in=waiting.values("change_id"))
    payloads = rows.values_list("payload", flat=True).iterator(chunk_size=serialize.CHUNK)
    return [contents_of(Change.from_dict({**orjson.loads(payload), "seq": 1})) for payload in payloads]
