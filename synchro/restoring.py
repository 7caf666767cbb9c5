"""A database that was restored from a backup: how it recognises itself, and how it goes on.

Its log was set back, and what it logged since is lost here and known elsewhere under the same positions. It shows when
something arrives that this deployment made and its log does not have: a change of its own, or word from a peer that has
more of its log than there is. Then it goes on under a new id, before anything is sealed: what its lost future sent out
comes back as changes of the old id, as any other node's.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from django.db.models import F, Max

from changelog_format import Header, Succession
from changelog_format.dates import parse_date
from synchro import conf, nodes, references, serialize
from synchro.models import ChangeLog, Destination, KnownRange, Node, Version
from synchro.successions import moved

NOT_OURS = -1
"""No date: what the log has at a position is a change that came from elsewhere, taken in since it was set back."""


class OwnChanges:
    """Positions and dates of the changes of one bundle that this deployment (*own* are its ids) is said to have made.

    Sixteen bytes a change: a hub may return all that it ever got.
    """

    def __init__(self, header: Header, own: frozenset[str]) -> None:
        self.header = header
        self._own = own
        self._from_self = header.node.id in own
        self.found: dict[str, tuple[array[int], array[int]]] = {}

    def note(self, data: Mapping[str, Any]) -> None:
        """Look at the next change, given as the object in its line."""
        origin = data.get("origin")
        if origin is not None:
            if origin["node"] in self._own:
                self._add(origin["node"], origin["seq"], data["date"])
        elif self._from_self:
            self._add(self.header.node.id, data["seq"], data["date"])

    def _add(self, ident: str, seq: int, date: str) -> None:
        positions, dates = self.found.setdefault(ident, (array("q"), array("q")))
        positions.append(seq)
        dates.append(parse_date(date))

    def of(self, ident: str) -> Iterator[list[tuple[int, int]]]:
        """The ``(position, date)`` pairs of the node *ident*, by the chunk."""
        positions, dates = self.found.get(ident, (array("q"), array("q")))
        for begin in range(0, len(positions), serialize.CHUNK):
            part = slice(begin, begin + serialize.CHUNK)
            yield list(zip(positions[part], dates[part], strict=True))


@dataclass(frozen=True, slots=True)
class Parting:
    """What shows that the log was set back.

    ``common`` is the position up to which the log is known to be what others have; ``seen`` the first position at which
    it is not.
    """

    common: int
    seen: int


def parting(changes: OwnChanges, node: Node, using: str) -> Parting | None:
    """Where the log of *node* and what a bundle knows of it part; None where they do not."""
    header = changes.header
    matched, wrong = 0, 0

    def compare(seq: int, theirs: int, ours: int | None) -> None:
        nonlocal matched, wrong
        if seq > node.seq or (ours is not None and ours != theirs):
            wrong = min(wrong or seq, seq)
        elif ours is not None:
            matched = max(matched, seq)

    for part in changes.of(node.ident):
        rows = ChangeLog.objects.using(using).filter(log=node, seq__in=[seq for seq, _ in part])
        logged = {
            seq: date if origin == node.pk else NOT_OURS
            for seq, origin, date in rows.values_list("seq", "origin", "date")
        }
        for seq, date in part:
            compare(seq, date, logged.get(seq))
    if header.node.id == node.ident:
        ends = [each for each in (header.start, header.end) if each.date is not None]
        rows = ChangeLog.objects.using(using).filter(log=node, seq__in=[each.seq for each in ends])
        known = dict(rows.values_list("seq", "date"))
        for each in ends:
            compare(each.seq, parse_date(each.date or ""), known.get(each.seq))
    if header.acks.get(node.ident, 0) > node.seq:
        wrong = wrong or node.seq + 1
    return _parting(matched, wrong, node, using) if wrong else None


def parting_by_files(ends: Iterable[tuple[int, int | None]], node: Node, using: str) -> Parting | None:
    """As :func:`parting`, by the *ends* (position and date, where it is known) of bundles that *node* wrote."""
    matched, wrong = 0, 0
    for seq, theirs in set(ends):
        ours = None if theirs is None or seq > node.seq else nodes.date_at(node, seq, using)
        if seq > node.seq or (ours is not None and ours != theirs):
            wrong = min(wrong or seq, seq)
        elif ours is not None:
            matched = max(matched, seq)
    return _parting(matched, wrong, node, using) if wrong else None


def _parting(matched: int, wrong: int, node: Node, using: str) -> Parting:
    # A log is one line: where it has the same change at one position, it has the same ones before. What a peer said to
    # have, at an earlier import that showed nothing of this, is common too.
    acked = Node.objects.using(using).filter(own=False).aggregate(most=Max("acked_seq"))["most"] or 0
    return Parting(common=min(max(matched, acked), wrong - 1, node.seq), seen=wrong)


def go_on(old: Node, found: Parting, using: str) -> Node:
    """Give this deployment, whose log parted from what others have of it, a new id; the new own node.

    Under the lock of *old*, and before anything is sealed. Up to ``found.common`` changes keep their identity; what was
    sealed after it becomes the new node's, date and all. The new log begins with what some destination may not have
    got yet, so that nothing that only this database holds stays behind.
    """
    name = conf.node_name(using)
    resend = nodes.unsent(old, found.common, using)
    common_date = nodes.date_at(old, found.common, using)
    old.own, old.current, old.taken_seq, old.taken_date = False, None, found.common, common_date
    old.save(using=using)
    Node.objects.using(using).update(acked_seq=0)  # what others have is of the old log
    new = Node.objects.using(using).create(
        ident=nodes.new_ident(name), name=name, own=True, current=True, clock=old.clock
    )
    renamed = _rename_forked(old, new, found.common, using)
    references.pin_newborn(new, using)
    references.pin_births(old.ident, using)
    KnownRange.objects.using(using).filter(origin=old).delete()
    if found.common:
        KnownRange.objects.using(using).create(origin=old, first=1, last=found.common)
    nodes.move_log(old, new, resend, using)
    _tell(old, new, found.common, renamed, using)
    Destination.objects.using(using).bulk_create(
        Destination(log=new, name=each) for each in old.destinations.using(using).values_list("name", flat=True)
    )
    new.save(using=using)
    return new


def _tell(old: Node, new: Node, common: int, renamed: list[int], using: str) -> None:
    """Write down, for the headers of bundles, that *new* goes on for *old*, and what became of *renamed*."""
    logged = ChangeLog.objects.using(using).filter(origin=new).order_by("origin_seq")
    rows: list[tuple[Any, ...]] = list(logged.values_list("origin_seq", "date"))
    runs = moved((before, now, date) for before, (now, date) in zip(renamed, rows, strict=True))
    told = Succession(node=new.ident, of=old.ident, after=common, moved=runs)
    new.predecessor, new.succession = old, orjson.dumps(told.to_dict()).decode()


def _rename_forked(old: Node, new: Node, common: int, using: str) -> list[int]:
    """What *old* made after *common* was made by *new*: whoever else has these positions has other changes there.

    The positions that these changes had.
    """
    forked = ChangeLog.objects.using(using).filter(origin=old, log=old, origin_seq__gt=common)
    first = forked.order_by("origin_seq").values_list("date", flat=True).first()
    if first is None:
        return []
    positions: list[Any] = list(forked.order_by("origin_seq").values_list("origin_seq", flat=True))
    # One node's dates increase with its positions, so this finds just the versions of these changes.
    Version.objects.using(using).filter(node=old, date__gte=first).update(node=new, seq=None)
    ChangeLog.objects.using(using).filter(base_node=old, base__gte=first).update(base_node=new)
    # Negative for now: they get their positions in move_log.
    forked.update(origin=new, origin_seq=-F("origin_seq"))
    return positions
