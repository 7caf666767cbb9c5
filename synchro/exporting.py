"""Writing a bundle: a range of this node's log, as a file."""

from __future__ import annotations

import contextlib
import re
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar, cast

import orjson
from django.db import DEFAULT_DB_ALIAS
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from changelog_format import (
    BundleError,
    BundleWriter,
    Change,
    FilePiece,
    Header,
    ModelInfo,
    NodeInfo,
    ObjectRecord,
    Position,
    Recipients,
    Signer,
    Trailer,
    open_bundle,
)
from changelog_format.archive import ENCRYPTED
from changelog_format.dates import format_date, parse_date
from synchro import (
    changelog,
    conf,
    entitlement,
    media,
    moments,
    nodes,
    portable,
    progress,
    registry,
    restoring,
    scanning,
    schemas,
    serialize,
    stored,
    successions,
    trust,
    upcasting,
)
from synchro.assembling import SEQ, Assembler, Run
from synchro.errors import ExportError
from synchro.folding import folded_records
from synchro.models import Action, Bundle, ChangeLog, Destination, HeldObject, Node
from synchro.packing import USUAL, Packing
from synchro.portable import PORTABLE_COLUMNS, LogRow, Translator
from synchro.redacting import Redaction
from synchro.seal import seal
from synchro.sending_files import SentFiles, without_contents
from synchro.signals import announce, bundle_exported
from synchro.stored import Stored

DEFAULT_DESTINATION = "default"
SUFFIX = ".jsonl.zst"
LEFTOVER_SECONDS = 3600
FILES = "files"
FORGOTTEN = "unknown"
"""The type, in a header, of a field that its model does not have any more."""
UNMARKED = gettext_noop("Nothing was marked as exported.")
_NAMED = re.compile(r"-[0-9]{6,}-([0-9]{6,})")
_UNUSUAL = re.compile(r"[^\w.-]+")
_Somewhere = TypeVar("_Somewhere", Path, Stored)


Mode = Literal["history", "squash", "snapshot"]


@dataclass(frozen=True, slots=True)
class Selection:
    """What of a range is written: every change or one an object (``mode``), of all models or ``only`` of some."""

    mode: Mode = "history"
    only: tuple[str, ...] | None = None

    @property
    def suffix(self) -> str:
        """What the name of the file says of it."""
        return ("" if self.mode == "history" else f"-{self.mode}") + ("" if self.only is None else "-part")


HISTORY = Selection()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """What was written. ``file`` is the path, or "-" for a stream; positions are those of this node's log.

    ``new_id``: by what was in the folder this database turned out to be a restored backup, and goes on under this id.
    ``medium``: where the file system begins on which the file is. ``moved``: the destination's position moved by it.
    ``files`` counts contents of files; ``missing_files`` names some that rows name and that are not there.
    """

    bundle: str
    file: str
    node: str
    destination: str
    from_seq: int
    to_seq: int
    records: int
    objects: int
    bytes: int
    sha256: str
    moved: bool = True
    files: int = 0
    file_bytes: int = 0
    missing_files: tuple[str, ...] = ()
    new_id: str | None = None
    medium: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The numbers as ``--json`` prints them."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to be written: of the positions after ``start`` up to ``end`` what ``selection`` says.

    ``moves``: the destination moves by it. ``signer`` signs it; it is encrypted to ``recipients``. ``redaction``: what
    it does not tell.
    """

    node: Node
    destination: Destination
    start: int
    end: int
    moves: bool
    with_files: bool = False
    selection: Selection = HISTORY
    signer: Signer | None = None
    recipients: Recipients | None = None
    redaction: Redaction | None = None
    packing: Packing = USUAL
    new_id: str | None = None

    @property
    def acknowledges(self) -> bool:
        """There is no change in it: it only says what this node has of others."""
        return self.start == self.end


Watch = Callable[[BundleWriter, int], None]


def export_bundle(
    target: str | Path | BinaryIO | None = None,
    *,
    to: str = DEFAULT_DESTINATION,
    since: int | None = None,
    until: int | None = None,
    overlap: int = 0,
    level: int | None = None,
    frame_size: int | None = None,
    threads: int | None = None,
    with_files: bool = False,
    mode: Mode = "history",
    scan: bool = False,
    models: Iterable[str] | None = None,
    acknowledge: bool = False,
    encrypt_to: Sequence[str] = (),
    using: str = DEFAULT_DB_ALIAS,
) -> ExportReport | None:
    """Write what the destination *to* has not got yet; None (and no file) when that is nothing.

    *target* is a file, a folder (the file is then named by node and range), ``storage:ALIAS/path`` for one in a storage
    of Django's (a folder if it ends with ``/``), a binary stream, or None for the current folder. With *since* or
    *until* the range is the positions after *since* up to *until*, and the destination's position stays. With *overlap*
    the bundle repeats that many of the destination's previous ranges. *with_files*: the contents of files travel along,
    but for those that went to the destination before.

    *mode* "squash" writes one record an object, "snapshot" does so from position 0 after a scan: what a new deployment
    starts from. *scan*: log what was written past the log first. *models* (labels or apps): only their changes, and no
    position moves on either side. *encrypt_to*: recipients of age, instead of those that the settings name for *to*.

    *level* of zstd, *frame_size* in bytes and *threads*: how it is compressed.

    With *acknowledge* a bundle without changes is written when there is nothing new, for those to hear of this node
    for whom it only has what it took from them.

    The file appears whole or not at all; only then does the position move. Raises ``ExportError``, ``ScanError``,
    ``ClockError``, ``KeySettingError``, ``StorageError``, ``OSError``.
    """
    selection = _selection(mode, models, since)
    new_id = look_around(target, using)
    if scan or mode == "snapshot":
        scanning.scan(whole=mode == "snapshot", using=using)
    job = prepare(
        to=to,
        since=since,
        until=until,
        overlap=overlap,
        with_files=with_files,
        selection=selection,
        acknowledge=acknowledge,
        encrypt_to=encrypt_to,
        packing=Packing(level=level, frame_size=frame_size, threads=threads),
        using=using,
    )
    if job is None:
        return None
    return write(replace(job, new_id=new_id), target, using=using)


def look_around(target: str | Path | BinaryIO | None, using: str) -> str | None:
    """Where bundles of this deployment lie in the folder of *target* that its log has not got: it was set back.

    It takes a new id then, which is returned, before it gives away their positions a second time.
    """
    if (target is not None and not isinstance(target, (str, Path))) or stored.parse(target) is not None:
        return None
    path = Path() if target is None else Path(target)
    node = nodes.own(using)
    folder = path if path.is_dir() else path.parent
    if node is None or (using == DEFAULT_DB_ALIAS and node.name != conf.node_name(using)) or not folder.is_dir():
        return None  # nothing was written yet, or it is a copy that has not taken its own id yet
    files = {*folder.glob(f"{node.ident}-*{SUFFIX}*"), path}
    ends = [each for file in files if file.is_file() for each in _ends(file, node)]
    found = restoring.parting_by_files(ends, node, using)
    if found is None:
        return None
    with nodes.outermost(using):
        node = restoring.go_on(nodes.lock_own(using), found, using)
    return node.ident


def _ends(path: Path, node: Node) -> list[tuple[int, int | None]]:
    """Between which positions of the log of *node* the bundle at *path* is, with their dates; nothing where it is none.

    Of one that is encrypted for others only its name tells.
    """
    try:
        with open_bundle(path) as reader:
            header = reader.header
    except OSError:
        return []
    except BundleError:
        named = _NAMED.search(path.name)
        return [(int(named[1]), None)] if named and path.name.endswith(ENCRYPTED) else []
    if header.node.id != node.ident:
        return []
    ends = [each for each in (header.start, header.end) if each.date is not None]
    return [(each.seq, parse_date(each.date or "")) for each in ends]


def _selection(mode: Mode, models: Iterable[str] | None, since: int | None) -> Selection:
    if mode not in ("history", "squash", "snapshot"):
        raise ExportError(
            _("There is no mode %(mode)r: a bundle is a history, a squash or a snapshot.") % {"mode": mode}
        )
    if mode == "snapshot" and since is not None:
        raise ExportError(_("A snapshot begins at position 0."), hint=_("To fold a range, write a squash."))
    if models is None:
        return Selection(mode)
    return Selection(mode, tuple(sorted(model._meta.label_lower for model in scanning.named_models(models))))


def prepare(
    *,
    to: str,
    since: int | None,
    until: int | None,
    overlap: int,
    with_files: bool = False,
    selection: Selection = HISTORY,
    acknowledge: bool = False,
    encrypt_to: Sequence[str] = (),
    packing: Packing | None = None,
    using: str,
) -> Job | None:
    """Seal what is pending, and find what is to be written; None when that is nothing.

    Raises ``ExportError`` and ``KeySettingError``.
    """
    signer, recipients = trust.signer(), trust.recipients(to, encrypt_to)
    not_told = entitlement.redaction_for(to, using, named=to != DEFAULT_DESTINATION)
    node = seal(using)
    destination = _destination(node, to, using)
    start = 0 if selection.mode == "snapshot" else destination.seq if since is None else since
    end = node.seq if until is None else min(until, node.seq)
    if start > node.seq or start < 0:
        raise ExportError(
            _("There is no position %(start)d: the log of %(node)s ends at %(seq)d.")
            % {"start": start, "node": node.ident, "seq": node.seq}
        )
    if since is not None and until is not None and since >= until:
        raise ExportError(
            _("There is nothing after position %(since)s up to %(until)s.") % {"since": since, "until": until}
        )
    if overlap < 0:
        raise ExportError(_("An overlap of %(number)d ranges: it repeats some, or none with 0.") % {"number": overlap})
    if overlap and (since is not None or until is not None):
        raise ExportError(_("An overlap repeats previous ranges; --since and --until name a range of their own."))
    if start >= end and not (acknowledge and since is None and until is None):
        return None
    start = min(start, end)
    if selection.mode == "squash" and start < node.reset_seq:  # nobody would see the hole
        raise _beyond_horizon(node, start)
    if overlap and selection.mode != "snapshot":
        start = _overlapping(destination, overlap, using)
    return Job(
        node=node,
        destination=destination,
        start=start,
        end=end,
        moves=since is None and until is None and selection.only is None and start < end,
        with_files=with_files,
        selection=selection,
        signer=signer,
        recipients=recipients,
        redaction=not_told,
        packing=packing or USUAL,
    )


def write(job: Job, target: str | Path | BinaryIO | None, *, using: str, watch: Watch | None = None) -> ExportReport:
    """Write the bundle of *job* and remember it. *watch* is called after each change, with the writer and the position.

    What it raises leaves nothing behind, as any error does.
    """
    place = stored.parse(target)
    if place is None:
        path = _path(target, job, using)
        # Without a path it is a stream, see _path.
        return _written(job, path or cast("BinaryIO", target), None, using=using, watch=watch)
    place = _place(place, job)
    # A storage shows what is half written, so it gets what is whole.
    with tempfile.TemporaryDirectory(prefix="synchro-") as folder:
        return _written(job, Path(folder) / "bundle", place, using=using, watch=watch)


def _written(job: Job, sink: Path | BinaryIO, place: Stored | None, *, using: str, watch: Watch | None) -> ExportReport:
    """Write to *sink*, and store that at *place*, if there is one; then remember it."""
    node, destination, start, end, with_files = job.node, job.destination, job.start, job.end, job.with_files
    path = sink if isinstance(sink, Path) else None
    header = _header(job, using)
    files = SentFiles(node, destination.name, start, using) if with_files else None
    try:
        try:
            trailer, changes, size = _write(sink, header, job, using, watch=watch, files=files)
        except _UnknownNameError:
            header = _header(job, using, as_logged=True)
            files = SentFiles(node, destination.name, start, using) if with_files else None
            trailer, changes, size = _write(sink, header, job, using, watch=watch, files=files, again=False)
    except BundleError as error:
        raise ExportError(
            _("What is to be written is no bundle: %(error)s.") % {"error": error}, hint=_(UNMARKED)
        ) from error
    except OSError as error:
        text = _("%(file)s could not be written: %(error)s.")
        if place:
            text = _("A temporary file could not be written: %(error)s.")
        raise ExportError(
            text % {"file": path or "-", "error": error.strerror or error},
            hint=_("Nothing was marked as exported: run the command again when there is room and permission."),
        ) from error
    if place is not None and path is not None:
        place.save(path, lambda found: _is_range(found, job))
    elif path is not None:
        _sweep(path.parent, node)
    report = ExportReport(
        bundle=header.bundle,
        file=str(place or path or "-"),
        node=node.ident,
        destination=destination.name,
        from_seq=start,
        to_seq=end,
        records=trailer.records,
        objects=trailer.records - changes - (files.pieces if files is not None else 0),
        bytes=size,
        sha256=trailer.sha256,
        moved=job.moves,
        files=len(files.sent) if files is not None else 0,
        file_bytes=files.bytes if files is not None else 0,
        missing_files=files.named_missing() if files is not None else (),
        new_id=job.new_id,
        medium=None if path is None or place is not None else media.mount_point(path),
    )
    _record(node, destination, header, trailer, report, files=files, using=using)
    announce(bundle_exported, sender=Bundle, report=report, using=using)
    return report


class _UnknownNameError(Exception):
    """A change in the log names a field that its model does not have any more, and nothing was written yet."""


def _write(
    sink: Path | BinaryIO,
    header: Header,
    job: Job,
    using: str,
    *,
    watch: Watch | None,
    files: SentFiles | None,
    again: bool = True,
) -> tuple[Trailer, int, int]:
    """Write the records of the range in *header*; the trailer, how many changes and how many bytes that were.

    Raises ``_UnknownNameError`` where the header lacks a name and it can be tried *again* with a better one.
    """
    changes = 0
    how = job.packing.options()
    with BundleWriter(sink, header, **how, signer=job.signer, recipients=job.recipients) as writer:
        for part in _parts(header, job, using, files=files, singly=watch is not None):
            try:
                if isinstance(part, Run):
                    writer.write_lines(part.lines, first=part.first, last_date=part.last_date)
                else:
                    writer.write(part)
            except BundleError as error:
                unnamed = again and error.rule == "R52"
                if unnamed and (isinstance(sink, Path) or not writer.bytes_written):
                    raise _UnknownNameError from error
                hint = _(UNMARKED)
                if unnamed:
                    hint = _("Nothing was marked as exported. Export to a file instead of a stream.")
                raise ExportError(_uncarried(part, error), hint=hint) from error
            changed = len(part.lines) if isinstance(part, Run) else isinstance(part, Change)
            changes += changed
            if changed > 1 or not changes % progress.EVERY:
                _tell(part, header, changes)
            if watch is not None and changed:
                watch(writer, part.first if isinstance(part, Run) else cast("Change", part).seq)
        trailer = writer.close()
        progress.tell("writing", changes, changes)
        return trailer, changes, writer.bytes_written


def _tell(part: Run | Change | ObjectRecord | FilePiece, header: Header, changes: int) -> None:
    """Say how far it is: in a history by the position, in a fold of so many changes that nobody has counted before."""
    if header.mode != "history":
        progress.tell("writing", changes)
    elif isinstance(part, (Run, Change)):
        seq = part.first + len(part.lines) - 1 if isinstance(part, Run) else part.seq
        progress.tell("writing", seq - header.start.seq, header.end.seq - header.start.seq)


def _parts(
    header: Header, job: Job, using: str, *, files: SentFiles | None, singly: bool
) -> Iterator[Run | Change | ObjectRecord | FilePiece]:
    """What *header* promises. Where nobody has to look at the records, mostly as lines; *singly*: one a run."""
    if header.mode == "history" and header.only is None and files is None:
        for part in _assembled(header, job, using):
            if not isinstance(part, Run):
                yield from without_contents([part])
            elif singly:
                yield from part.single()
            else:
                yield part
        return
    for translated in _records(header, job, using):
        yield from without_contents(translated) if files is None else files.with_contents(list(translated))


def _assembled(header: Header, job: Job, using: str) -> Iterator[Run | Change | ObjectRecord]:
    assembler = Assembler(header, job.node, using, job.redaction)
    start, end = header.start.seq, header.end.seq
    while start < end:
        rows = assembler.rows(start, end)
        if not rows or rows[-1][SEQ] != start + len(rows):
            raise _beyond_horizon(job.node, start)
        yield from assembler.parts(rows)
        start += len(rows)


def _records(header: Header, job: Job, using: str) -> Iterator[Iterable[Change | ObjectRecord]]:
    """The same as records, by the chunk."""
    start, end = header.start.seq, header.end.seq
    node, not_told = job.node, job.redaction
    if header.mode != "history":
        folded = folded_records(node, start, end, using, header.models, only=header.only, redaction=not_told)
        while part := list(islice(folded, serialize.CHUNK)):
            yield part
        return
    translator = Translator(node.ident, using, header.models, redaction=not_told)
    for rows in _log(node, start, end, using):
        wanted = rows if header.only is None else [row for row in rows if row.model in header.only]
        yield translator.records(wanted)


def _uncarried(record: Run | Change | ObjectRecord | FilePiece, error: BundleError) -> str:
    if isinstance(record, Run):
        text = _("The change at position %(first)d or one of the next %(number)d cannot be carried: %(error)s.")
        return text % {"first": record.first, "number": len(record.lines), "error": error}
    if isinstance(record, FilePiece):
        return _("The content %(sha256)s cannot be carried: %(error)s.") % {"sha256": record.sha256, "error": error}
    text = _("%(model)s %(id)s cannot be carried: %(error)s.")
    return text % {"model": record.model, "id": record.id, "error": error}


def _overlapping(destination: Destination, overlap: int, using: str) -> int:
    """Where a bundle begins that repeats the last *overlap* ranges of *destination* (as far as the log still goes)."""
    node = destination.log
    sent = Bundle.objects.using(using).filter(
        direction=Bundle.Direction.SENT,
        node=node,
        destination=destination.name,
        last_seq__lt=destination.seq,
        report__moved=True,
    )
    ends = sent.order_by("-last_seq").values_list("last_seq", flat=True).distinct()[:overlap]
    found = list(ends)
    begin = found[-1] if len(found) == overlap else 0
    return max(begin, node.reset_seq, node.pruned_seq)


def _destination(node: Node, name: str, using: str) -> Destination:
    limit = Destination._meta.get_field("name").max_length or 0
    if not name or len(name) > limit:
        raise ExportError(
            _("A destination's name has 1 to %(limit)d characters, not %(number)d.")
            % {"limit": limit, "number": len(name)}
        )
    if not name.isprintable() or name != name.strip():
        raise ExportError(
            _("%(name)r is no name for a destination: use letters and other visible characters.") % {"name": name}
        )
    destination = Destination.objects.using(using).filter(log=node, name=name).first()
    return destination or Destination(log=node, name=name, seq=node.reset_seq)


def _path(target: str | Path | BinaryIO | None, job: Job, using: str) -> Path | None:
    if target is not None and not isinstance(target, (str, Path)):
        return None
    path = media.named(target)
    if inside := path.is_dir():
        media.check_mounted(path, job.node, using)
        path = _free((path / name for name in _names(job)), Path.is_file, job)
    # A link whose name nobody chose leads to what somebody else did.
    linked = inside and path.is_symlink()
    if linked or (path.is_file() and path.stat().st_size and not _is_range(path, job)):
        raise ExportError(
            _("%(path)s exists, and is another bundle or something else.") % {"path": path},
            hint=_("Nothing was overwritten. Move it away, or name another file."),
        )
    return path


def _place(place: Stored, job: Job) -> Stored:
    """Where in a storage the bundle goes, by the same rules. Raises ``StorageError`` for one that cannot be used."""
    place.check()
    if not place.is_folder:
        return place
    return _free((place.within(name) for name in _names(job)), Stored.exists, job)


def _names(job: Job) -> Iterator[str]:
    """What the bundle may be called in a folder.

    The second name is for a folder in which another destination has the same range. Nobody can say here what is in a
    bundle that is encrypted for others: there is always one name more.
    """
    covered = f"{job.end:06d}-ack" if job.acknowledges else f"{job.start + 1:06d}-{job.end:06d}"
    name = f"{job.node.ident}-{covered}{job.selection.suffix}"
    if job.recipients is None:
        yield f"{name}{SUFFIX}"
        yield f"{name}-for-{_UNUSUAL.sub('_', job.destination.name)}{SUFFIX}"
        return
    for number in count(1):
        yield f"{name}{f'-{number}' if number > 1 else ''}{SUFFIX}{ENCRYPTED}"


def _free(places: Iterator[_Somewhere], exists: Callable[[_Somewhere], bool], job: Job) -> _Somewhere:
    """The first of *places* at which there is no bundle for somebody else; the last one where each has one."""
    place = None
    for place in places:
        if not exists(place):
            break
        if job.recipients is None:
            with contextlib.ExitStack() as stack:
                found = stack.enter_context(place.open()) if isinstance(place, Stored) else place
                header = _header_of(found)
            if header is None or header.destination == job.destination.name:
                break
    assert place is not None  # noqa: S101  a bundle has a name
    return place


def _header_of(found: Path | BinaryIO) -> Header | None:
    """None where it is no bundle."""
    try:
        with open_bundle(found) as reader:
            return reader.header
    except (BundleError, OSError):
        return None


def _is_range(found: Path | BinaryIO, job: Job) -> bool:
    """Whether what was *found* is the same range for the same destination: a repeated export may take its place."""
    header = _header_of(found)
    if header is None:
        return False
    wanted = (job.node.ident, job.start, job.end, job.destination.name, job.selection.mode, job.selection.only)
    return (
        header.node.id,
        header.start.seq,
        header.end.seq,
        header.destination,
        header.mode,
        header.only,
    ) == wanted


def _sweep(folder: Path, node: Node) -> None:
    """Remove what exports that were killed left in *folder*; another one may be at work there, so only what is old."""
    for left in folder.glob(f".{node.ident}-*{SUFFIX}.*.tmp"):
        with contextlib.suppress(OSError):  # somebody else's file, or a medium that is full of errors
            if time.time() - left.stat().st_mtime > LEFTOVER_SECONDS:
                left.unlink()


def _log(node: Node, start: int, end: int, using: str) -> Iterator[list[LogRow]]:
    """The sealed rows after *start* up to *end*, by the chunk and without a long-lived cursor."""
    while start < end:
        rows = ChangeLog.objects.using(using).filter(log=node, seq__gt=start, seq__lte=end).order_by("seq")
        part = [LogRow(*row) for row in rows.values_list(*PORTABLE_COLUMNS)[: serialize.CHUNK]]
        expected = start + len(part)
        if not part or part[0].seq != start + 1 or part[-1].seq != expected:
            raise _beyond_horizon(node, start)
        yield part
        start = expected


# --- header -----------------------------------------------------------------------------------------------------------


def _header(job: Job, using: str, *, as_logged: bool = False) -> Header:
    node, destination, start, end = job.node, job.destination, job.start, job.end
    sent = Bundle.objects.using(using).filter(
        direction=Bundle.Direction.SENT, node=node, destination=destination.name, first_seq=start, last_seq=end
    )
    fresh = Header(
        bundle=str(uuid.uuid4()),
        created=format_date(changelog.now()),
        node=NodeInfo(id=node.ident, name=nodes.name_of(node, using)),
        destination=destination.name,
        start=position(node, start, using),
        end=position(node, end, using),
        mode=job.selection.mode,
        only=job.selection.only,
        acks=_acks(using),
        previous=_previous(node, destination, start, using),
        requires=(FILES,) if job.with_files else (),
        successions=successions.known(using),
        redacted=job.redaction.header() if job.redaction is not None else {},
        models=model_infos(node, start, end, using, as_logged=as_logged, redaction=job.redaction),
    )
    for text in () if job.acknowledges else sent.order_by("-pk").values_list("header", flat=True):
        earlier = Header.from_dict(orjson.loads(text))
        if (earlier.mode, earlier.only) == (fresh.mode, fresh.only):
            if (earlier.models, earlier.start, earlier.end, earlier.requires, earlier.redacted) == (
                fresh.models, fresh.start, fresh.end, fresh.requires, fresh.redacted,
            ):  # fmt: skip
                return earlier  # the same range again (a lost stick) is the same file
            break
    return fresh


def position(node: Node, seq: int, using: str) -> Position:
    """The position *seq* of *node*'s log with its date. Raises ``ExportError`` where the log no longer holds it."""
    if seq == 0:
        return Position(seq=0, date=None)
    for known, at in ((node.reset_seq, node.reset_date), (node.pruned_seq, node.pruned_date)):
        if seq == known and at is not None:
            return Position(seq=seq, date=format_date(at))
    date = ChangeLog.objects.using(using).filter(log=node, seq=seq).values_list("date", flat=True).first()
    if date is None:
        raise _beyond_horizon(node, seq)
    return Position(seq=seq, date=format_date(date))


def _beyond_horizon(node: Node, seq: int) -> ExportError:
    kept = max(node.reset_seq, node.pruned_seq)
    return ExportError(
        _(
            "The log of %(node)s no longer holds every change after position %(seq)d: it was reset or pruned, "
            "and is whole from position %(kept)d on."
        )
        % {"node": node.ident, "seq": seq, "kept": kept},
        hint=_("Who lacks changes from before needs a snapshot, or a copy of the database to start from."),
    )


def _acks(using: str) -> dict[str, int]:
    peers = Node.objects.using(using).filter(own=False, taken_seq__gt=0).order_by("ident")
    return dict(peers.values_list("ident", "taken_seq"))


def _previous(node: Node, destination: Destination, start: int, using: str) -> str | None:
    if start == 0:
        return None
    before = (
        Bundle.objects.using(using)
        .filter(direction=Bundle.Direction.SENT, node=node, destination=destination.name, last_seq=start)
        .exclude(first_seq=start)
    )
    return before.order_by("-pk").values_list("sha256", flat=True).first()


def model_infos(
    node: Node,
    start: int,
    end: int,
    using: str,
    *,
    as_logged: bool = False,
    redaction: Redaction | None = None,
) -> dict[str, ModelInfo]:
    """What a header says of the models that the changes after *start* up to *end* mention, by label.

    *as_logged*: also the fields that models had when they were logged and do not have any more; that takes reading the
    whole range. Records of which *redaction* leaves something out are told as their models are called now.
    """
    rows = ChangeLog.objects.using(using).filter(log=node, seq__gt=start, seq__lte=end)
    versions: dict[str, set[int]] = defaultdict(set)
    for label, version in rows.order_by().values_list("model", "version").distinct():
        versions[label].add(version)
    labels = set(versions)
    if redaction is not None:
        labels |= {upcasting.current_label(label) for label in labels if redaction.concerns(label, own=True)}
    for label, version in HeldObject.objects.using(using).values_list("model", "version").distinct():
        versions[label].add(version)
    infos = {spec.label: schemas.info_of(spec) for spec in portable.mentioned_models(labels)}
    known = schemas.known(set(versions), using)
    for label, of_label in versions.items():
        model = registry.by_label(label)
        if label not in infos and model is not None:
            infos[label] = schemas.info_of(registry.spec(model))
        elif label not in infos:  # of a project that is ahead of ours, or a model that is no more
            infos[label] = _told(known, label, max(of_label))
        infos[label] = replace(
            infos[label],
            versions={each: _told(known, label, each) for each in of_label if each != infos[label].version},
        )
    if as_logged:
        for label, (fields, links) in _logged_names(node, start, end, infos, using).items():
            info = infos[label]
            before = _told(known, label, info.version)
            gone = {name: before.fields.get(name, FORGOTTEN) for name in sorted(fields - set(info.fields))}
            pointed = {name: before.relations[name] for name in gone if name in before.relations}
            # Of those that nothing was noted of, nobody knows any more what to.
            unlinked = {name: before.links.get(name, label) for name in sorted(links - set(info.links))}
            infos[label] = replace(
                info,
                fields={**info.fields, **gone},
                relations={**info.relations, **pointed},
                links={**info.links, **unlinked},
            )
    return dict(sorted(infos.items()))


def _told(known: Mapping[schemas.Place, schemas.Known], label: str, version: int) -> ModelInfo:
    """What is known of *version* of the model *label*, which may be nothing."""
    noted = known.get((label, version))
    return ModelInfo(version=version) if noted is None else replace(noted.info, version=version)


def _logged_names(
    node: Node, start: int, end: int, infos: Mapping[str, ModelInfo], using: str
) -> dict[str, tuple[set[str], set[str]]]:
    """Label → names of the fields, and of the links, in the changes that were logged here in the header's version."""
    found: dict[str, tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    for rows in _log(node, start, end, using):
        for row in rows:
            fields, links = found[row.model]
            if row.imported or row.action == Action.SAME or row.version != infos[row.model].version:
                continue
            if row.link:
                links.add(row.link.partition(":")[0])
            elif row.payload and row.action != Action.DELETE:
                fields.update(orjson.loads(row.payload))
    for label, (fields, _links) in found.items():
        model = registry.by_label(label)
        if model is not None:
            fields.difference_update(registry.stays_here(registry.spec(model)))
    return found


# --- afterwards -------------------------------------------------------------------------------------------------------


def _record(
    node: Node,
    destination: Destination,
    header: Header,
    trailer: Trailer,
    report: ExportReport,
    *,
    files: SentFiles | None,
    using: str,
) -> None:
    """The file is durable: remember it, and move the destination (never backwards, whoever else exported meanwhile)."""
    with nodes.outermost(using):
        nodes.lock_own(using)
        if report.moved:
            current, _ = Destination.objects.using(using).get_or_create(
                log=node, name=destination.name, defaults={"seq": destination.seq}
            )
            if current.seq < report.to_seq:
                current.seq, current.previous, current.moved = report.to_seq, trailer.sha256, timezone.now()
                current.save(using=using)
            if files is not None:
                files.note(current, report.to_seq)
        Bundle.objects.using(using).create(
            direction=Bundle.Direction.SENT,
            ident=uuid.UUID(header.bundle),
            node=node,
            destination=destination.name,
            first_seq=report.from_seq,
            last_seq=report.to_seq,
            records=report.records,
            sha256=trailer.sha256,
            file=report.file[-255:],
            created=moments.from_microseconds(parse_date(header.created)),
            handled=timezone.now(),
            header=orjson.dumps(header.to_dict()).decode(),
            report=report.as_dict(),
        )
