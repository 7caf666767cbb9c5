"""Compacting the log: what everybody has is folded to the newest change of each object and link.

A change goes when every destination was sent it and every peer said that it has it, and when a later one of the same
object, as far as that is true of it too, says what it said. So what stays of the old part is the state at the horizon:
the newest change of each object and link, deletions among them, and every merge; with what is held, and what the
current versions rest on. Which positions are known, the versions (so the tombstones) and the references are kept in
tables of their own, and for ever.
"""

from __future__ import annotations

import datetime as dt
from array import array
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

from django.db import DEFAULT_DB_ALIAS
from django.db.models import Exists, Min, OuterRef, Q
from django.utils.translation import gettext as _

from synchro import nodes, serialize
from synchro.errors import PruneError
from synchro.models import Action, ChangeLog, Conflict, Destination, Held, Node, Unseen, Version
from synchro.successions import succeeded
from synchro.versions import Stamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Somebody for whom the log is kept: a destination or a peer, and the position up to which it has it."""

    name: str
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneReport:
    """What was removed, or would be (``dry_run``).

    The log is compacted up to position ``upto``; ``kept`` changes of that part stay. ``holders`` are those that the
    log is kept for, the one that is furthest behind first.
    """

    node: str
    upto: int
    removed: int
    kept: int
    holders: tuple[Holder, ...]
    dry_run: bool

    def as_dict(self) -> dict[str, Any]:
        """The numbers as ``--json`` prints them."""
        return asdict(self)


def prune(
    *,
    before: dt.datetime | None = None,
    ignore: Collection[str] = (),
    dry_run: bool = False,
    using: str = DEFAULT_DB_ALIAS,
) -> PruneReport:
    """Compact the log as far as every destination and peer has it.

    *before*: only what came into the log before that time. *ignore* names destinations and nodes (by id or name) that
    are not waited for, because they are gone: should they come back, they need a snapshot. *dry_run* only counts.
    Raises ``PruneError`` where a name in *ignore* is nobody's.
    """
    with nodes.outermost(using):
        node = nodes.lock_own(using)
        holders = _holders(node, ignore, using)
        upto = _horizon(node, holders, before, using)
        if upto > node.pruned_seq and not dry_run:
            # First of all: from here on nobody gets a range that has holes.
            node.pruned_date = nodes.date_at(node, upto, using)
            node.pruned_seq = upto
            node.save(using=using, update_fields=["pruned_seq", "pruned_date"])
    # Without the lock, for it takes a while: what is superseded now stays so.
    total, doomed = _superseded(node, upto, before, using)
    if not dry_run:
        for part in serialize.chunks(doomed):
            with nodes.outermost(using):
                nodes.lock_own(using)
                gone = ChangeLog.objects.using(using).filter(pk__in=list(_dispensable(part, using)))
                gone._raw_delete(using)  # noqa: SLF001  delete() would load them all, to look for what is held
    return PruneReport(
        node=node.ident,
        upto=upto,
        removed=len(doomed),
        kept=total - len(doomed),
        holders=tuple(holders),
        dry_run=dry_run,
    )


def _holders(node: Node, ignore: Collection[str], using: str) -> list[Holder]:
    destinations = Destination.objects.using(using).filter(log=node)
    found = [(each.name, each.name, Holder(name=f"destination {each.name}", seq=each.seq)) for each in destinations]
    # Those whose own bundles arrived here, and who goes on for such under another id, which may not have said yet what
    # it has. Of others, known by what was relayed, nobody says what they have.
    heard = Q(heard__isnull=False) | Q(predecessor__heard__isnull=False)
    peers = Node.objects.using(using).filter(heard, own=False).exclude(succeeded(using))
    found += [(each.ident, each.name, Holder(name=f"node {each.ident}", seq=each.acked_seq)) for each in peers]
    unknown = set(ignore) - {name for ident, name, _ in found} - {ident for ident, _, _ in found}
    if unknown:
        raise PruneError(
            _("There is no destination and no node called %(names)s.") % {"names": ", ".join(sorted(unknown))},
            hint=_("`manage.py synchro_status` lists them."),
        )
    holders = [holder for ident, name, holder in found if ident not in ignore and name not in ignore]
    return sorted(holders, key=lambda each: (each.seq, each.name))


def _horizon(node: Node, holders: list[Holder], before: dt.datetime | None, using: str) -> int:
    """The last position that all *holders* have; 0 where there is nobody, for then nothing was sent yet."""
    upto = min((each.seq for each in holders), default=0)
    if before is not None:
        later = ChangeLog.objects.using(using).filter(log=node, captured__gte=_microseconds(before))
        first = later.aggregate(first=Min("seq"))["first"]
        upto = min(upto, node.seq if first is None else first - 1)
    return max(upto, node.pruned_seq)


def _microseconds(moment: dt.datetime) -> int:
    return round(moment.timestamp() * 1_000_000)


def _superseded(node: Node, upto: int, before: dt.datetime | None, using: str) -> tuple[int, array[int]]:
    """How many changes there are up to the horizon, and the primary keys of those of them that can go.

    Logs that this deployment kept under earlier ids are sent to nobody any more, and are compacted wholly.
    """
    earlier = Q(log__isnull=False) & ~Q(log=node)
    if before is not None:
        earlier &= Q(captured__lt=_microseconds(before))
    rows = ChangeLog.objects.using(using).filter(Q(log=node, seq__lte=upto) | earlier)
    columns = ("root", "pk_text", "link", "model", "pk", "action", "date", "origin__ident")
    # Per model too: of a multi-table object, a change that its parent's model logged says less.
    ordered = rows.order_by(*columns[:4]).values_list(*columns)
    total, doomed = 0, array("q")
    for _register, group in groupby(ordered.iterator(chunk_size=serialize.CHUNK), key=itemgetter(0, 1, 2, 3)):
        best: tuple[Stamp, int] | None = None
        for *_key, pk, action, date, origin in group:
            total += 1
            if action == Action.SAME:
                continue
            each = (Stamp(date, origin), pk)
            if best is None:
                best = each
            else:
                doomed.append(min(best, each)[1])
                best = max(best, each)
    kept = array("q")
    for part in serialize.chunks(doomed):
        kept.extend(_dispensable(part, using))
    return total, kept


def _dispensable(pks: Collection[int], using: str) -> Iterator[int]:
    """Those of *pks* that no current version rests on, that are not held, and that wait for no decision.

    Of an object of which some value did not come yet all stay: they tell which one is the latest.
    """
    current = Version.objects.filter(
        root=OuterRef("root"), pk_text=OuterRef("pk_text"), link=OuterRef("link"), change_id=OuterRef("pk")
    )
    rows = ChangeLog.objects.using(using).filter(pk__in=list(pks)).order_by("pk")
    held = Held.objects.filter(change=OuterRef("pk"))
    waiting = Conflict.objects.filter(change_id=OuterRef("pk"), held=True)
    unseen = Unseen.objects.filter(change__root=OuterRef("root"), change__pk_text=OuterRef("pk_text"))
    for needed in (current, held, waiting, unseen):
        rows = rows.exclude(Exists(needed))
    yield from rows.values_list("pk", flat=True)
