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
from django.utils.translation import gettext as _

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
        self.from_self = header.node.id in own
        self.found: dict[str, tuple[array[int], array[int]]] = {}

    def note(self, data: Mapping[str, Any]) -> None:
        """Look at the next change, given as the object in its line."""
        origin = data.get("origin")
        if origin is not None:
            if origin["node"] in self._own:
                self._add(origin["node"], origin["seq"], data["date"])
        elif self.from_self:
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


class _Comparison:
    """What others have of the log of *node*, position by position, against what it has itself."""

    def __init__(self, node: Node, using: str) -> None:
        self._node = node
        self._using = using
        self._matched = 0
        self._wrong = 0
        self._bound: int | None = None  # the date of the first change that the log lacks

    def add(self, seq: int, theirs: int | None, ours: int | None) -> None:
        """Others have a change of the date *theirs* at the position *seq*, and this log one of the date *ours*."""
        if seq > self._node.seq or (None not in (theirs, ours) and ours != theirs):
            self._wrong = min(self._wrong or seq, seq)
            if theirs is not None:
                self._bound = theirs if self._bound is None else min(self._bound, theirs)
        elif ours is not None and theirs is not None:
            self._matched = max(self._matched, seq)

    def parting(self, acked: int) -> Parting | None:
        """Where the two lines part; *acked* is what who tells of the other one said to have, at an earlier import.

        A log is one line: where two have the same change at one position, they have the same ones before. But others
        than who is heard may have gone along with this line since it was set back, and what they say of it, or what was
        passed on of it, is not in the other one. What the log lost was made before all that it got since, so of its own
        changes only those are common that are older than what it lacks; what it took from elsewhere after them goes out
        once more, to those who may not have it.
        """
        if not self._wrong:
            return None
        common = min(max(self._matched, acked), self._wrong - 1, self._node.seq)
        if self._bound is not None and common:
            common = min(common, self._older_than(self._bound, common))
        return Parting(common=common, seen=self._wrong)

    def _older_than(self, date: int, most: int) -> int:
        """The last position, *most* at most, of an own change from before *date*; or where the log begins by now."""
        node = self._node
        own = ChangeLog.objects.using(self._using).filter(log=node, origin=node, seq__lte=most, date__lt=date)
        gone = [node.reset_seq, node.pruned_seq]
        return min(most, max(own.aggregate(most=Max("seq"))["most"] or 0, *gone))


def parting(changes: OwnChanges, node: Node, using: str) -> Parting | None:
    """Where the log of *node* and what a bundle knows of it part; None where they do not."""
    header = changes.header
    compared = _Comparison(node, using)
    for part in changes.of(node.ident):
        rows = ChangeLog.objects.using(using).filter(log=node, seq__in=[seq for seq, _date in part])
        logged = {
            seq: date if origin == node.pk else NOT_OURS
            for seq, origin, date in rows.values_list("seq", "origin", "date")
        }
        for seq, date in part:
            compared.add(seq, date, logged.get(seq))
    if header.node.id == node.ident:
        ends = [each for each in (header.start, header.end) if each.date is not None]
        rows = ChangeLog.objects.using(using).filter(log=node, seq__in=[each.seq for each in ends])
        known = dict(rows.values_list("seq", "date"))
        for each in ends:
            compared.add(each.seq, parse_date(each.date or ""), known.get(each.seq))
    if header.acks.get(node.ident, 0) > node.seq:
        compared.add(node.seq + 1, None, None)
    return compared.parting(_acked(header, using))


def parting_by_files(ends: Iterable[tuple[int, int | None]], node: Node, using: str) -> Parting | None:
    """As :func:`parting`, by the *ends* (position and date, where it is known) of bundles that *node* wrote."""
    compared = _Comparison(node, using)
    for seq, theirs in set(ends):
        ours = None if theirs is None or seq > node.seq else nodes.date_at(node, seq, using)
        compared.add(seq, theirs, ours)
    return compared.parting(_acked(None, using))


def _acked(header: Header | None, using: str) -> int:
    """What the writer of *header* said to have at an earlier import; where it is this deployment, or a file, anybody.

    Then it showed nothing of this, so it was the same line.
    """
    peers = Node.objects.using(using).filter(own=False)
    if header is not None and header.node.id not in nodes.own_idents(using):
        peers = peers.filter(ident=header.node.id)
    return peers.aggregate(most=Max("acked_seq"))["most"] or 0


def told(new_id: str) -> str:
    """What people are told of a database that went on under *new_id* while it read a bundle."""
    return _(
        "This database was restored from a backup: others have later changes of it. It goes on as %(new_id)s; its next "
        "bundle carries what they may lack."
    ) % {"new_id": new_id}


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
