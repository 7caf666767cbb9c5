"""The contents of files on their way out: each once, in pieces, before the first record that names it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from django.core.exceptions import SuspiciousOperation
from django.core.files.storage import Storage, default_storage
from django.db import models
from django.utils.translation import gettext as _

from changelog_format import Change, FilePiece, FileRef, ObjectRecord
from changelog_format.limits import PIECE_SIZE
from synchro import registry, serialize, upcasting
from synchro.errors import ExportError
from synchro.filing import alternative, digest_of
from synchro.models import Destination, HeldFile, Node, SentFile

Record = Change | ObjectRecord
_REMEMBERED = 50_000
_SHOWN = 20


class SentFiles:
    """What contents one export carries. ``missing`` names files that rows name and that are not there."""

    def __init__(self, node: Node, destination: str, start: int, using: str) -> None:
        """Contents that the destination of that name got with positions up to *start* need not travel again."""
        self._sent = SentFile.objects.using(using).filter(
            destination__log=node, destination__name=destination, seq__lte=start
        )
        self._using = using
        self._found: dict[tuple[Storage, str], FileRef | None] = {}
        self._given: set[str] = set()
        self.sent: list[str] = []
        self.bytes = 0
        self.pieces = 0
        self.missing: dict[str, None] = {}

    def with_contents(self, records: Sequence[Record]) -> Iterator[Record | FilePiece]:
        """*records* in their order, with what they say of their files, each after the contents that it needs."""
        named = [self._refs(record) for record in records]
        places = {ref.sha256: place for of_record in named for ref, place in of_record.values()}
        there = self._sent_before(set(places) - self._given)
        for record, of_record in zip(records, named, strict=True):
            for ref, place in of_record.values():
                if ref.sha256 not in self._given and place is not None:
                    self._given.add(ref.sha256)
                    if ref.sha256 not in there:
                        for piece in self._pieces(ref, *place):
                            self.pieces += 1
                            yield piece
                        self.sent.append(ref.sha256)
                        self.bytes += ref.size
            files = {name: ref for name, (ref, _) in of_record.items()}
            yield replace(record, files=files or None) if files or record.files else record

    def _sent_before(self, digests: set[str]) -> set[str]:
        found: set[str] = set()
        for part in serialize.chunks(sorted(digests)):
            found.update(self._sent.filter(sha256__in=part).values_list("sha256", flat=True))
        return found

    def _refs(self, record: Record) -> dict[str, tuple[FileRef, tuple[Storage, str] | None]]:
        """Field → what its file is, and where it is; None where it is nowhere here any more, but somebody said it."""
        model = registry.by_label(upcasting.current_label(record.model))
        told = dict(record.files or {})
        found: dict[str, tuple[FileRef, tuple[Storage, str] | None]] = {}
        if record.fields is None:
            return found
        columns: dict[str, Any] = {}
        if model is not None:
            columns = {f.name: f for f in registry.spec(model).fields if isinstance(f, models.FileField)}
        for name in sorted({*columns, *told} & set(record.fields)):
            value = record.fields[name]
            if not isinstance(value, str) or not value:
                continue
            ref = told.get(name)
            place = self._place(columns.get(name), value, ref)
            if place is not None:
                now = self._found[place]
                found[name] = (now or ref, place)  # type: ignore[assignment]  # a place has a content
            else:
                self.missing[f"{record.model} {record.id}: {value}"] = None
                if ref is not None:
                    found[name] = (ref, None)
        return found

    def _place(self, column: Any, value: str, told: FileRef | None) -> tuple[Storage, str] | None:
        """Where the content is: under the name; or, of a record that came with one, under the name that it got here."""
        if column is not None:
            names = [value]
            if told is not None:
                names += [alternative(value, told.sha256, column.max_length, digits) for digits in (12, 64)]
            for each in names:
                ref = self._ref(column.storage, each)
                if ref is not None and (told is None or ref == told):
                    return column.storage, each
        if told is not None:
            held = HeldFile.objects.using(self._using).filter(sha256=told.sha256).values_list("name", flat=True).first()
            if held is not None and self._ref(default_storage, held) == told:
                return default_storage, held
        return None

    def _ref(self, storage: Storage, name: str) -> FileRef | None:
        place = storage, name
        if place not in self._found:
            if len(self._found) > _REMEMBERED:
                self._found.clear()
            try:
                sha256, size = digest_of(storage, name)
                self._found[place] = FileRef(sha256=sha256, size=size)
            except (OSError, SuspiciousOperation):
                self._found[place] = None
        return self._found[place]

    def _pieces(self, ref: FileRef, storage: Storage, name: str) -> Iterator[FilePiece]:
        at = 0
        with storage.open(name, "rb") as stream:
            for part in _parts(stream):
                if at + len(part) > ref.size:
                    break
                yield FilePiece(sha256=ref.sha256, size=ref.size, at=at, data=part)
                at += len(part)
        if not ref.size:
            yield FilePiece(sha256=ref.sha256, size=0, at=0, data=b"")
        if at != ref.size:
            raise ExportError(
                _("The file %(name)s was changed while it was read.") % {"name": name}, hint=_("Run the command again.")
            )

    def note(self, destination: Destination, seq: int) -> None:
        """The bundle, which ends at *seq*, is written: its contents need not travel to *destination* again."""
        rows = SentFile.objects.using(self._using)
        for part in serialize.chunks(self.sent):
            known = set(rows.filter(destination=destination, sha256__in=part).values_list("sha256", flat=True))
            fresh = [each for each in part if each not in known]
            rows.bulk_create(SentFile(destination=destination, sha256=each, seq=seq) for each in fresh)

    def named_missing(self) -> tuple[str, ...]:
        """Some of the missing files."""
        return tuple(list(self.missing)[:_SHOWN])


def _parts(stream: Any) -> Iterator[bytes]:
    while part := stream.read(PIECE_SIZE):
        yield bytes(part)


def without_contents(records: Iterable[Record]) -> Iterator[Record]:
    """*records* without what relayed ones say of files."""
    for record in records:
        yield replace(record, files=None) if record.files is not None else record
