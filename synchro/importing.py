"""Importing bundles: each is verified first, then taken in one transaction."""

from __future__ import annotations

import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import islice, starmap
from pathlib import Path
from typing import Any, BinaryIO

from django.db import DEFAULT_DB_ALIAS
from django.utils.translation import gettext as _

from changelog_format import (
    BundleError,
    Header,
    Identities,
    NoIdentityError,
    Position,
    SignatureError,
    Trailer,
    open_bundle,
)
from changelog_format.archive import SUFFIXES
from synchro import drift, nodes, progress, restoring, stored, trust
from synchro.actors import nobody
from synchro.checkpoints import check_destination
from synchro.conf import Policy
from synchro.drift import Difference
from synchro.errors import DanglingError, DestinationError, GapError, ImportRefusedError, SynchroError
from synchro.import_report import HeldChange, ImportReport
from synchro.lines import Line
from synchro.models import Bundle
from synchro.pause import DisableSynchroLog
from synchro.restoring import OwnChanges
from synchro.signals import announce, bundle_imported
from synchro.taking import Taking
from synchro.trust import Sources


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A bundle in a folder that is for another node, and why: it names another, or is encrypted for others."""

    file: str
    why: SynchroError | BundleError


def import_bundle(
    source: str | Path | BinaryIO,
    *,
    on_conflict: Policy | None = None,
    strict: bool = False,
    allow_gap: bool = False,
    any_destination: bool = False,
    dry_run: bool = False,
    notify: Callable[[Difference], object] | None = None,
    identity: Sources = (),
    until: int | None = None,
    guard: Callable[[], object] | None = None,
    using: str = DEFAULT_DB_ALIAS,
) -> ImportReport:
    """Take one bundle, wholly or not at all.

    *source* is a path, ``storage:ALIAS/path`` for a file in a storage of Django's, or a binary stream. *on_conflict*
    overrides the policies of the settings; *strict* refuses a bundle with a change that cannot be applied (otherwise
    such changes are held and tried again at each import); *allow_gap* takes a bundle although changes before it are
    missing; *any_destination* one that was written for another node; *dry_run* plans and writes nothing. *notify* is
    called, before anything is written, with each model whose schema here is another one than the sender's. *identity*:
    by which keys encrypted bundles are read, instead of those that the settings name. *until*: of a history only the
    changes up to this position, as if the bundle ended there. *guard* is called under this node's lock, before anything
    is done; what it raises refuses the bundle.

    Raises ``changelog_format.BundleError`` for a broken file (``SignatureError``: or one whose writer is not proven,
    where that is required; ``EncryptionError``: or one that is encrypted for others), ``ImportRefusedError`` (and its
    subclasses) and ``ClockError`` for one that is not taken, ``KeySettingError`` where keys cannot be used, ``OSError``
    and ``StorageError`` for one that cannot be read. In all these cases the database is as it was; but if a bundle
    with a gap before it shows that this database was restored from a backup, it has a new id then, as the hint says.
    """
    with ExitStack() as stack:
        stream, name = _opened(source, stack)
        start = stream.tell()
        identities = trust.identities(identity)
        try:
            found = _verified(stream, identities, until, using)
            voucher = trust.Voucher(found.whole, found.trailer)
        except BundleError as error:
            error.add_note(name)  # among several files it must be known which
            raise
        header = found.header
        if not any_destination and header.node.id not in nodes.own_idents(using):
            check_destination(header, using)
        differences = drift.differences(header, found.versions)
        if notify is not None:
            for difference in differences:
                notify(difference)

        def taking(*, careful: bool = False) -> Taking:
            stream.seek(start)
            return Taking(
                header,
                _lines(stream, name, found, identities),
                name=name,
                spelled=found.spelled,
                records_total=found.records,
                sha256=found.trailer.sha256,
                policy=on_conflict,
                strict=strict,
                allow_gap=allow_gap,
                careful=careful,
                own_changes=found.own_changes,
                vouch=voucher.check,
                differences=differences,
                dry_run=dry_run,
                using=using,
            )

        try:
            if dry_run:
                return taking().preview()
            try:
                report = _take(taking(), using, guard)
            except DanglingError:  # once more, to find out which record it is
                report = _take(taking(careful=True), using, guard)
            except GapError as error:
                _recognise(taking(), using, error)
                raise
        except SignatureError as error:
            error.add_note(name)
            raise
    announce(bundle_imported, sender=Bundle, report=report, using=using)
    return report


def retry_held(
    *, on_conflict: Policy | None = None, dry_run: bool = False, using: str = DEFAULT_DB_ALIAS
) -> ImportReport:
    """Try again, without a bundle, what could not be applied when it came: after an upgrade of this deployment.

    Each import does so, too. Raises ``ImportRefusedError`` and its subclasses; the database is as it was then.
    """

    def taking(*, careful: bool = False) -> Taking:
        return Taking(
            None, (), name=_("What is held"), policy=on_conflict, careful=careful, dry_run=dry_run, using=using
        )

    if dry_run:
        return taking().preview_retry()
    again = taking(careful=True)
    with _files_of(again), DisableSynchroLog(), nobody(), nodes.outermost(using):
        return again.retry()


def _take(taking: Taking, using: str, guard: Callable[[], object] | None) -> ImportReport:
    # The pause is around the outermost transaction, so that what handlers do on commit stays out of the log too.
    with _files_of(taking), DisableSynchroLog(), nobody(), nodes.outermost(using):
        if guard is not None:
            nodes.lock_own(using)
            guard()
        return taking.take()


def _recognise(taking: Taking, using: str, refusal: GapError) -> None:
    """A bundle that does not join on, as a backup may lack what came since, shows all the same that it was restored.

    That stays, for nothing but the new id is written: else both sides would wait for each other for ever.
    """
    with nodes.outermost(using):
        new_id = taking.recognise()
    if new_id is not None:
        refusal.hint = f"{restoring.told(new_id)} {refusal.hint}"


@contextmanager
def _files_of(taking: Taking) -> Iterator[None]:
    """Files are no part of the transaction: those that were written are removed again when it fails."""
    try:
        yield
    except BaseException:
        taking.files.undo()
        raise
    finally:
        taking.files.close()


def import_bundles(
    sources: Sequence[str | Path | BinaryIO],
    *,
    on_conflict: Policy | None = None,
    strict: bool = False,
    allow_gap: bool = False,
    any_destination: bool = False,
    dry_run: bool = False,
    notify: Callable[[Difference], object] | None = None,
    passed_over: Callable[[PassedOver], object] | None = None,
    identity: Sources = (),
    using: str = DEFAULT_DB_ALIAS,
) -> Iterator[ImportReport]:
    """Take several bundles, each in a transaction of its own, in the order of their senders' logs; a report for each.

    A folder among *sources* stands for the bundles in it that are for this node: a medium may carry those of others as
    well, and *passed_over* is called with each of them. Raises as :func:`import_bundle` does at the first that is not
    taken, with a note that names it, and where a folder has nothing for this node; those before it stay taken.
    """
    identities = trust.identities(identity)
    placed: list[tuple[str, int, int, int, bool, str | Path | BinaryIO]] = []
    for source in sources:
        for file, header in _chosen(source, identities, using, any_destination=any_destination, over=passed_over):
            if header is None:
                placed.append(("", 0, 0, len(placed), True, file))
            else:
                place = header.node.id, header.start.seq, header.end.seq, len(placed)
                placed.append((*place, header.only is None, file))
    reached: dict[str, int] = {}
    for ident, first, last, _number, whole, source in sorted(placed, key=lambda each: each[:4]):
        # A preview takes nothing, so the next file would seem to lack the one before it.
        joined = allow_gap or (dry_run and first <= reached.get(ident, -1))
        try:
            report = import_bundle(
                source,
                on_conflict=on_conflict,
                strict=strict,
                allow_gap=joined,
                any_destination=any_destination,
                dry_run=dry_run,
                notify=notify,
                identity=identity,
                using=using,
            )
        except SynchroError as error:
            if isinstance(source, (str, Path)):
                error.add_note(str(source))
            raise
        yield report
        if whole:  # a bundle of some models alone fills no gap
            reached[ident] = max(last, reached.get(ident, 0))


def _chosen(
    source: str | Path | BinaryIO,
    identities: Identities | None,
    using: str,
    *,
    any_destination: bool,
    over: Callable[[PassedOver], object] | None,
) -> Iterator[tuple[str | Path | BinaryIO, Header | None]]:
    """What *source* stands for, with headers; of a folder only what is for this node. A stream has none yet."""
    inside = _inside(source)
    if inside is None:
        yield source, _header(source, identities) if isinstance(source, (str, Path)) else None
        return
    others: list[PassedOver] = []
    for file in inside:
        try:
            header = _header(file, identities)
            if not any_destination and header.node.id not in nodes.own_idents(using):
                check_destination(header, using)
        except (DestinationError, NoIdentityError) as error:
            others.append(PassedOver(str(file), error))
            if len(others) == len(inside):
                if isinstance(others[0].why, DestinationError):
                    others[0].why.add_note(others[0].file)
                raise others[0].why from None
            if over is not None:
                over(others[-1])
        else:
            yield file, header


def _header(file: str | Path, identities: Identities | None) -> Header:
    try:
        with stored.readable(file) as stream, open_bundle(stream, identities=identities) as reader:
            return reader.header
    except BundleError as error:
        error.add_note(str(file))
        raise


def bundle_files(sources: Sequence[str | Path]) -> Iterator[str | Path]:
    """The paths in *sources*; for a folder the bundles in it (``ImportRefusedError`` where it has none)."""
    for source in sources:
        inside = _inside(source)
        yield from (source,) if inside is None else inside


def _inside(source: str | Path | BinaryIO) -> Sequence[str | Path] | None:
    """The bundles in the folder *source*; None where it is none. Raises ``ImportRefusedError`` for one without any."""
    place = stored.parse(source)
    if place is not None:
        if not place.is_folder:
            return None
        inside: Sequence[str | Path] = [str(each) for each in place.files(SUFFIXES)]
        if not inside:
            raise ImportRefusedError(
                _("%(place)s has no bundles (*%(suffix)s).") % {"place": place, "suffix": SUFFIXES[0]}
            )
        return inside
    if not isinstance(source, (str, Path)) or not Path(source).is_dir():
        return None
    inside = sorted(path for suffix in SUFFIXES for path in Path(source).glob(f"*{suffix}") if path.is_file())
    if not inside:
        raise ImportRefusedError(
            _("%(source)s has no bundles (*%(suffix)s).") % {"source": source, "suffix": SUFFIXES[0]}
        )
    return inside


def _opened(source: str | Path | BinaryIO, stack: ExitStack) -> tuple[BinaryIO, str]:
    """A stream that can be read twice: first to verify, then to apply. What cannot is copied to a temporary file."""
    if (place := stored.parse(source)) is not None:
        return place.fetch(stack), str(place)
    if isinstance(source, (str, Path)):
        return stack.enter_context(Path(source).open("rb")), str(source)
    if source.seekable():
        return source, str(getattr(source, "name", "-"))
    spool = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  the caller's stack closes it
    shutil.copyfileobj(source, spool)
    spool.seek(0)
    return spool, "-"


@dataclass(frozen=True, slots=True)
class _Found:
    """What a bundle is about that was read to its end and is sound.

    ``whole`` is its header, ``header`` that of the part that is taken, which has so many ``records``. ``versions``: of
    each model those in which there are records. ``marks`` and ``spelled``: see ``BundleReader``.
    """

    whole: Header
    header: Header
    trailer: Trailer
    records: int
    own_changes: OwnChanges
    versions: dict[str, set[int]]
    marks: tuple[bytes, ...]
    spelled: bool


def _verified(stream: BinaryIO, identities: Identities | None, until: int | None, using: str) -> _Found:
    """Read the whole bundle, so that it is known to be sound before anything is done with it."""
    with open_bundle(stream, identities=identities) as reader:
        whole = reader.header
        until = whole.end.seq if until is None else max(until, whole.start.seq)
        if until < whole.end.seq and whole.mode != "history":
            text = _("A squash is taken whole: it does not tell what was at position %(seq)d.")
            if whole.mode == "snapshot":
                text = _("A snapshot is taken whole: it does not tell what was at position %(seq)d.")
            raise ImportRefusedError(text % {"seq": until})
        own_changes = OwnChanges(whole, nodes.own_idents(using))
        noted = own_changes.from_self
        usual = {label: info.version for label, info in whole.models.items()}
        versions: dict[str, set[int]] = defaultdict(set)
        taken = 0
        last: dict[str, Any] | None = None
        for number, data in enumerate(reader.objects(), 1):
            kind = data["type"]
            if kind == "change":
                if data["seq"] > until:
                    continue
                # Up to here: what stands before a change and is no change itself belongs to it.
                taken, last = number, data
                if noted or "origin" in data:
                    own_changes.note(data)
            if kind != "file":
                versions[data["model"]].add(data.get("version") or usual[data["model"]])
            if not number % progress.EVERY:
                seen = whole.start.seq if last is None else last["seq"]
                progress.tell("verifying", seen - whole.start.seq, until - whole.start.seq)
        end = whole.start if last is None else Position(seq=last["seq"], date=last["date"])
        if until >= whole.end.seq:
            taken, end = reader.trailer.records, whole.end
        progress.tell("verifying", taken, taken)
        header = replace(whole, end=end)
        return _Found(whole, header, reader.trailer, taken, own_changes, versions, reader.marks, reader.spelled)


def _lines(stream: BinaryIO, name: str, found: _Found, identities: Identities | None) -> Iterator[Line]:
    """The records of a file that was verified before, as long as it is the same."""
    with open_bundle(stream, identities=identities) as reader:
        try:
            yield from starmap(Line, islice(reader.again(found.marks), found.records))
        except BundleError as error:
            raise ImportRefusedError(
                _("%(name)s changed while it was being read.") % {"name": name}, hint=_("Nothing was imported.")
            ) from error


__all__ = ["HeldChange", "ImportReport", "PassedOver", "import_bundle", "import_bundles", "retry_held"]
