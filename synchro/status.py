"""Where this deployment stands: what is tracked, pending, sent, taken and held."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from django.db import DEFAULT_DB_ALIAS
from django.db.models import Count, Max
from django.utils import timezone

from changelog_format.dates import format_date
from synchro import changelog, conf, entitlement, nodes, registry
from synchro.models import Bundle, Conflict, Destination, Held, Node, Touch
from synchro.pause import is_paused
from synchro.seal import tolerance


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationStatus:
    """``waiting``: sealed changes that the destination has not got; pending ones come on top."""

    name: str
    seq: int
    waiting: int
    last_export: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerStatus:
    """``taken``: how far its log was imported; ``acked``: how far it is known to have taken ours.

    ``succeeded_by``: it was restored from a backup and goes on under that id. ``lacks``: sealed changes of ours that it
    is not known to have. ``heard``: when its last bundle was taken, and ``silent_days`` how many days ago that was;
    None for nodes of which only others told.
    """

    node: str
    taken: int
    acked: int
    lacks: int
    succeeded_by: str | None
    heard: str | None
    silent_days: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What :func:`standing` found.

    ``noted``: writes that triggers noted since the last sealing. ``held`` and ``held_reasons``: imported changes that
    could not be applied yet. ``withheld``: fields whose values others do not tell this deployment.
    ``node`` is None before the first export. ``copied``: this database is a copy of that node's, or had another name
    then, and gets an id of its own with its first export or import. ``clock_ahead``: the date of its log, or of what is
    pending, where that is further ahead of this machine's clock than the tolerance: then nothing can be sealed.
    """

    node: str | None
    name: str
    seq: int
    clock_ahead: str | None
    pruned_seq: int
    pending: int
    noted: int
    models: tuple[str, ...]
    paused: bool
    destinations: tuple[DestinationStatus, ...]
    peers: tuple[PeerStatus, ...]
    withheld: tuple[str, ...]
    held: int
    held_reasons: tuple[tuple[str, int], ...]
    conflicts_held: int
    copied: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Status(Standing):
    """What :func:`status` found: the same, and how much there ever was of conflicts and bundles."""

    conflicts: int
    bundles_sent: int
    bundles_received: int

    def as_dict(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return asdict(self)


def status(using: str = DEFAULT_DB_ALIAS) -> Status:
    """Read the present state, and count what has been; nothing is sealed or changed."""
    found = standing(using)
    bundles = Bundle.objects.using(using)
    return Status(
        **{each.name: getattr(found, each.name) for each in fields(Standing)},
        conflicts=Conflict.objects.using(using).count(),
        bundles_sent=bundles.filter(direction=Bundle.Direction.SENT).count(),
        bundles_received=bundles.filter(direction=Bundle.Direction.RECEIVED).count(),
    )


def standing(using: str = DEFAULT_DB_ALIAS) -> Standing:
    """Read the present state; what is counted has an index."""
    node = nodes.own(using)
    seq = node.seq if node is not None else 0
    destinations = Destination.objects.using(using).filter(log=node).order_by("name") if node is not None else ()
    peers = Node.objects.using(using).filter(own=False).order_by("ident")
    later = dict(peers.exclude(predecessor=None).values_list("predecessor", "ident"))
    reasons = Held.objects.using(using).values_list("reason").annotate(number=Count("pk")).order_by("-number")
    return Standing(
        node=node.ident if node is not None else None,
        name=conf.node_name(using),
        seq=seq,
        clock_ahead=_clock_ahead(node, using),
        pruned_seq=node.pruned_seq if node is not None else 0,
        pending=changelog.pending(using).count(),
        noted=Touch.objects.using(using).count() if conf.triggers() else 0,
        models=tuple(sorted(registry.tracked_labels())),
        paused=is_paused(),
        destinations=tuple(
            DestinationStatus(
                name=each.name,
                seq=each.seq,
                waiting=seq - each.seq,
                last_export=each.moved.isoformat() if each.moved else None,
            )
            for each in destinations
        ),
        peers=tuple(
            PeerStatus(
                node=each.ident,
                taken=each.taken_seq,
                acked=each.acked_seq,
                lacks=max(seq - each.acked_seq, 0),
                succeeded_by=later.get(each.pk),
                heard=each.heard.isoformat() if each.heard else None,
                silent_days=(timezone.now() - each.heard).days if each.heard else None,
            )
            for each in peers
        ),
        withheld=entitlement.not_told(using),
        held=Held.objects.using(using).count(),
        held_reasons=tuple((reason, number) for reason, number in reasons[:10]),
        conflicts_held=Conflict.objects.using(using).filter(held=True).count(),
        copied=node is not None and nodes.is_copied(node, using),
    )


def _clock_ahead(node: Node | None, using: str) -> str | None:
    captured = changelog.pending(using).aggregate(latest=Max("captured"))["latest"] or 0
    latest = max(captured, node.clock if node is not None else 0)
    return format_date(latest) if latest > changelog.now() + tolerance() else None
