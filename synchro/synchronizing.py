"""Synchronizing one database with another that this process reaches: LOCAL to REMOTE, without a file.

The records are those that a bundle would carry, folded to one an object with its newest actual values; they are
planned and applied by the same code as an import. Both transactions stay open until everything is done; REMOTE commits
first. A crash between the two commits leaves REMOTE synchronized and LOCAL's position behind: the next run sends the
same changes again, which REMOTE knows.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from django.db import DEFAULT_DB_ALIAS, transaction
from django.utils import timezone

from changelog_format import Header, NodeInfo
from changelog_format.dates import format_date
from synchro import changelog, conf, exporting, nodes, references, registry, serialize, upcasting
from synchro.errors import SynchronizeError
from synchro.folding import folded_records
from synchro.models import ChangeLog, Destination, Node, options
from synchro.pause import DisableSynchroLog
from synchro.reconciling import reconcile
from synchro.registry import ModelSpec
from synchro.seal import seal_pending
from synchro.sending_files import without_contents
from synchro.taking import ImportReport, Taking

LAST_CHECK = ("synchro.options", "", "last_check")

_following: ContextVar[bool] = ContextVar("synchro_following_last_check", default=True)


def synchronize(using: str = DEFAULT_DB_ALIAS, remote: str | None = None) -> ImportReport | None:
    """Bring everything that changed in *using* since the last synchronization to the database *remote*.

    *remote* is ``SYNCHRO_REMOTE`` unless it is given. None when there are no changes. Changes that REMOTE cannot take
    are held there and tried again (``held`` of the report). Raises ``SynchronizeError`` when there is no REMOTE, and
    ``ImproperlyConfigured`` when the setting names no database; nothing is changed then.
    """
    alias = remote if remote is not None else conf.remote()
    if alias is None:
        raise SynchronizeError("No REMOTE database specified in settings.", hint="Set SYNCHRO_REMOTE to its alias.")
    if not changelog.available(alias):
        raise SynchronizeError(
            f"The database {alias!r} lacks synchro's tables.", hint=f"Run `manage.py migrate --database {alias}`."
        )
    # The pause is outermost, so that what handlers do on commit stays out of the log too.
    with (
        DisableSynchroLog(),
        transaction.atomic(using=using, durable=True),
        transaction.atomic(using=alias, durable=True),
    ):
        node = nodes.lock_own(using)
        seal_pending(node, using)
        destination = _destination(node, alias, using)
        if destination.seq >= node.seq:
            return None
        if _reconcile(node, destination.seq, using):
            seal_pending(node, using)
        header = _header(node, destination, using)
        report = Taking(
            header,
            without_contents(folded_records(node, destination.seq, node.seq, using, header.models)),
            name=f"Synchronization with {alias}",
            allow_gap=True,
            using=alias,
        ).take()
        destination.seq, destination.moved = node.seq, timezone.now()
        destination.save(using=using)
    with _not_followed():
        options.last_check = timezone.now()
    return report


def _destination(node: Node, alias: str, using: str) -> Destination:
    """REMOTE's position: a destination that is called as the database."""
    found, _ = Destination.objects.using(using).get_or_create(log=node, name=alias, defaults={"seq": node.reset_seq})
    return found


def _header(node: Node, destination: Destination, using: str) -> Header:
    return Header(
        bundle=str(uuid.uuid4()),
        created=format_date(changelog.now()),
        node=NodeInfo(id=node.ident, name=nodes.name_of(node, using)),
        destination=destination.name,
        start=exporting.position(node, destination.seq, using),
        end=exporting.position(node, node.seq, using),
        mode="squash",
        models=exporting.model_infos(node, destination.seq, node.seq, using),
    )


def _reconcile(node: Node, start: int, using: str) -> int:
    """Log the actual values of what changed after *start*: ``update()`` may have changed it again, unlogged."""
    rows = ChangeLog.objects.using(using).filter(log=node, seq__gt=start, imported=False, link="")
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
def _not_followed() -> Iterator[None]:
    token = _following.set(False)
    try:
        yield
    finally:
        _following.reset(token)


def last_check_changed(sender: Any, value: Any, **_kwargs: Any) -> None:
    """Receiver of dbsettings' ``setting_changed``: setting ``options.last_check`` moves REMOTE's position.

    To the last change that was made until then; what was made since is synchronized (again).
    """
    if getattr(sender, "key", None) != LAST_CHECK:
        return
    if not _following.get() or not isinstance(value, dt.datetime):
        return
    alias = conf.configured_remote()
    if alias is not None and changelog.available(DEFAULT_DB_ALIAS):
        move_checkpoint(value, alias)


def move_checkpoint(moment: dt.datetime, remote: str, using: str = DEFAULT_DB_ALIAS) -> None:
    """Set the position of the database *remote* to where everything before was logged until *moment*.

    Positions do not follow the times of capture exactly: what was captured later, but sealed earlier than something
    that was captured until *moment*, is still to be sent.
    """
    until = round(moment.timestamp() * 1_000_000)
    with transaction.atomic(using=using):
        node = nodes.lock_own(using)
        seal_pending(node, using)
        destination = _destination(node, remote, using)
        later = ChangeLog.objects.using(using).filter(log=node, captured__gt=until)
        first = later.order_by("seq").values_list("seq", flat=True).first()
        destination.seq = max(node.reset_seq, node.seq if first is None else first - 1)
        destination.moved = moment
        destination.save(using=using)
