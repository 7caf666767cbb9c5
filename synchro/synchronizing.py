"""Synchronizing one database with another that this process reaches: LOCAL to REMOTE, without a file.

The records are those that a bundle would carry, folded to one an object with its newest actual values; they are
planned and applied by the same code as an import. Both transactions stay open until everything is done. A crash
between the two commits leaves REMOTE synchronized and LOCAL's position behind: the next run sends the same changes
again, and recognises what is there already.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from changelog_format import Header, NodeInfo
from changelog_format.dates import format_date
from synchro import (
    changelog,
    conf,
    entitlement,
    exporting,
    moments,
    nodes,
    reasons,
    references,
    registry,
    serialize,
    upcasting,
)
from synchro.actors import nobody
from synchro.errors import SynchronizeError
from synchro.folding import folded_records
from synchro.guest import (
    confirm_references,
    hand_over,
    keep_references,
    keep_waiting,
    load_references,
    refused,
    temporary_tables,
    waiting,
)
from synchro.import_report import ImportReport
from synchro.models import ChangeLog, Destination, Held, Node, options
from synchro.pause import DisableSynchroLog
from synchro.reconciling import reconcile
from synchro.redacting import Redaction
from synchro.registry import ModelSpec
from synchro.seal import seal_pending, seal_targets
from synchro.sending_files import without_contents
from synchro.taking import Taking

LAST_CHECK = ("synchro.options", "", "last_check")

_following: ContextVar[bool] = ContextVar("synchro_following_last_check", default=True)


def synchronize(using: str = DEFAULT_DB_ALIAS, remote: str | None = None) -> ImportReport | None:
    """Bring everything that changed in *using* since the last synchronization to the database *remote*.

    *remote* is ``SYNCHRO_REMOTE`` unless it is given. None when there are no changes. Changes that REMOTE cannot take
    are held (there, or here where it has no tables of ours) and tried again each time; ``held`` of the report counts
    them, also where nothing else is to be told (see :func:`outcome`). Raises ``SynchronizeError`` when there is no
    REMOTE, and ``ImproperlyConfigured`` when the setting names no database; nothing is changed then.
    """
    alias = remote if remote is not None else conf.remote()
    if alias is None:
        raise SynchronizeError(
            _("No REMOTE database specified in settings."), hint=_("Set SYNCHRO_REMOTE to its alias.")
        )
    if alias == using:
        raise SynchronizeError(
            _("The database “%(alias)s” cannot be synchronized with itself.") % {"alias": alias},
            hint=_("Set SYNCHRO_REMOTE to another alias."),
        )
    if any(_in_transaction(each) for each in (using, alias)):
        raise SynchronizeError(
            _("A synchronization cannot be part of a transaction: what REMOTE got could not be taken back with it."),
            hint=_(
                "Call it outside of transaction.atomic(); under ATOMIC_REQUESTS use transaction.non_atomic_requests."
            ),
        )
    # The pause is outermost, so that what handlers do on commit stays out of the log too.
    with DisableSynchroLog(), nobody():
        report = _with_tables(alias, using) if changelog.available(alias) else _without_tables(alias, using)
    if performed(report):
        with not_followed():
            options.last_check = timezone.now()
    return report


def _in_transaction(alias: str) -> bool:
    """Whether the caller is inside a transaction, other than that of Django's ``TestCase``: what ``durable`` asks."""
    blocks: list[Any] = connections[alias].atomic_blocks
    return bool(blocks) and not blocks[-1]._from_testcase  # noqa: SLF001


def _with_tables(alias: str, using: str) -> ImportReport | None:
    """REMOTE knows what it has: it is committed first, and what a crash leaves here is sent again."""
    with nodes.outermost(using), nodes.outermost(alias):
        node, destination, again = _prepared(alias, using)
        if destination.seq >= node.seq and not again:
            return _retried(alias)
        hand_over(node, alias, using)
        report = _taking(node, destination, again, alias, using).take()
        keep_waiting({}, alias, using)  # what could not be taken is held there now
        seal_targets(node, destination.seq, using)
        _move(destination, node.seq, using)
    return report


def _retried(alias: str) -> ImportReport | None:
    """Try what is held at REMOTE again: whoever was in the way there may be gone. None where nothing is."""
    if not Held.objects.using(alias).exists():
        return None
    name = _("Synchronization with “%(alias)s”") % {"alias": alias}
    return Taking(None, (), name=name, careful=True, direct=True, using=alias).retry()


def performed(report: ImportReport | None) -> bool:
    """Whether there were changes, or what was held before has found its place now; not only that it is held still."""
    return report is not None and bool(report.bundle or report.added or report.changed or report.deleted or report.m2m)


def _without_tables(alias: str, using: str) -> ImportReport | None:
    """REMOTE knows nothing: what it got is remembered here before it is committed, and confirmed afterwards."""
    # The last that is entered is the first that is committed.
    with (
        temporary_tables(alias),
        nodes.outermost(alias),
        nodes.outermost(using),
    ):
        node, destination, again = _prepared(alias, using)
        anything_new = destination.seq < node.seq
        if not anything_new and not again:
            return None
        known = load_references(node, alias, using)
        report = _taking(node, destination, again, alias, using, compare=False).take()
        not_taken = refused(alias, using)
        keep_references(node, known, alias, using)
        seal_targets(node, destination.seq, using)
    with nodes.outermost(using):
        nodes.lock_own(using)
        confirm_references(alias, using)
        keep_waiting(not_taken, alias, using)
        destination = _destination(node, alias, using)  # the log may have been reset meanwhile
        _move(destination, max(destination.seq, node.seq), using)
    if anything_new:
        return report
    report = replace(report, bundle="", file="")  # as where only what is held was tried again
    return report if performed(report) or report.held else None


def _prepared(alias: str, using: str) -> tuple[Node, Destination, dict[int, int]]:
    """Lock the log, number what is pending, and log the actual values of what is to be sent.

    The last of what is returned are the changes that are to be tried again: primary key → position.
    """
    node = nodes.lock_own(using)
    # What the changes point to and was never logged is made at REMOTE only where it is missing: it gets no date by
    # which it could win there (see seal_targets, afterwards).
    seal_pending(node, using, targets=False)
    destination = _destination(node, alias, using)
    again = waiting(node, alias, using)
    if (destination.seq < node.seq or again) and _reconcile(node, destination.seq, again, using):
        seal_pending(node, using, targets=False)
    return node, destination, again


def _taking(
    node: Node, destination: Destination, again: Mapping[int, int], alias: str, using: str, *, compare: bool = True
) -> Taking:
    not_told = entitlement.redaction_for(alias, using)
    header = _header(node, destination, again, not_told, using)
    records = folded_records(
        node, destination.seq, node.seq, using, header.models, also=again.keys(), direct=True, redaction=not_told
    )
    return Taking(
        header,
        without_contents(records),
        name=_("Synchronization with “%(alias)s”") % {"alias": alias},
        allow_gap=True,
        direct=True,
        compare=compare,
        using=alias,
    )


def _move(destination: Destination, seq: int, using: str) -> None:
    destination.seq, destination.moved = seq, timezone.now()
    destination.save(using=using)


def outcome(report: ImportReport | None) -> str:
    """What to say of a synchronization, in the active language."""
    if not performed(report):
        return _("No changes since last synchronization.")
    return _("Synchronization performed successfully.")


def not_applied(report: ImportReport | None) -> list[str]:
    """The changes that REMOTE could not take (of many the first), each with its reason, in the active language."""
    text = _("not applied to REMOTE yet: %(model)s %(id)s: %(reason)s")
    held = () if report is None else report.held_changes
    return [text % {"model": each.model, "id": each.id, "reason": reasons.told(each.reason)} for each in held]


def call_synchronize(**_kwargs: Any) -> str:
    """Synchronize as the management command does, and return what it says. Raises what :func:`synchronize` raises."""
    return outcome(synchronize(conf.local()))


def _destination(node: Node, alias: str, using: str) -> Destination:
    """REMOTE's position: a destination that is called as the database."""
    found, _made = Destination.objects.using(using).get_or_create(
        log=node, name=alias, defaults={"seq": node.reset_seq}
    )
    return found


def _header(
    node: Node, destination: Destination, again: Mapping[int, int], not_told: Redaction | None, using: str
) -> Header:
    first = min([destination.seq, *(seq - 1 for seq in again.values())])
    return Header(
        bundle=str(uuid.uuid4()),
        created=format_date(changelog.now()),
        node=NodeInfo(id=node.ident, name=nodes.name_of(node, using)),
        destination=destination.name,
        start=exporting.position(node, destination.seq, using),
        end=exporting.position(node, node.seq, using),
        mode="squash",
        redacted=not_told.header() if not_told is not None else {},
        models=exporting.model_infos(node, first, node.seq, using, redaction=not_told),
    )


def _reconcile(node: Node, start: int, again: Mapping[int, int], using: str) -> int:
    """Log the actual values of what changed after *start*: ``update()`` may have changed it again, unlogged.

    The same for the changes *again*.
    """
    wanted = Q(seq__gt=start) | Q(pk__in=again.keys())
    rows = ChangeLog.objects.using(using).filter(wanted, log=node, imported=False, link="")
    by_spec: dict[ModelSpec, dict[str, None]] = defaultdict(dict)
    for label, text in rows.order_by("seq").values_list("model", "pk_text").iterator(chunk_size=serialize.CHUNK):
        model = registry.by_label(upcasting.current_label(label))
        if model is not None and registry.is_tracked(model):
            by_spec[registry.spec(model)][text] = None
    logged = 0
    for spec, texts in by_spec.items():
        pk_values = [references.pk_value(spec, text) for text in texts]
        logged += len(reconcile(spec, [pk for pk in pk_values if pk is not None], using))
    return logged


# --- options.last_check -----------------------------------------------------------------------------------------------


@contextmanager
def not_followed() -> Iterator[None]:
    """Set ``options.last_check`` inside this block without moving REMOTE's position."""
    token = _following.set(False)
    try:
        yield
    finally:
        _following.reset(token)


def last_check_changed(sender: Any, value: Any, **_kwargs: Any) -> None:
    """Receiver of dbsettings' ``setting_changed``: setting ``options.last_check`` moves REMOTE's position.

    To the last change that was made until then; what was made since is synchronized (again). Without a date everything
    that is in the log is.
    """
    if getattr(sender, "key", None) != LAST_CHECK or not _following.get():
        return
    alias = conf.configured_remote()
    if alias is not None and changelog.available(DEFAULT_DB_ALIAS):
        move_checkpoint(value, alias)


def move_checkpoint(moment: dt.datetime | None, remote: str, using: str = DEFAULT_DB_ALIAS) -> None:
    """Set the position of the database *remote* to where everything before was logged until *moment*.

    To the beginning of the log where that is None. Positions do not follow the times of capture exactly: what was
    captured later, but sealed earlier than something that was captured until *moment*, is still to be sent.
    """
    with nodes.outermost(using, durable=False):
        node = nodes.lock_own(using)
        seal_pending(node, using)
        destination = _destination(node, remote, using)
        later = ChangeLog.objects.using(using).filter(log=node, seq__isnull=False)
        if moment is not None:
            later = later.filter(captured__gt=round(moments.aware(moment).timestamp() * 1_000_000))
        first = later.order_by("seq").values_list("seq", flat=True).first()
        destination.seq = max(node.reset_seq, node.seq if first is None else first - 1)
        destination.moved = None if moment is None else moments.as_project_has_it(moment)
        destination.save(using=using)
