"""Which changes of a bundle are known here, and whether it joins on to what was imported before.

A change is known by ``(origin, position there, date)``. Known positions are kept as ranges for ever; the same position
with another date is a fork: the sender was restored from a backup, or copied.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import orjson
from django.utils import timezone
from django.utils.translation import gettext as _

from changelog_format import Change, Header
from changelog_format.dates import format_date, parse_date
from synchro import conf, nodes, serialize, successions
from synchro.errors import DestinationError, ForkError, GapError
from synchro.intervals import Intervals, runs
from synchro.models import Bundle, ChangeLog, KnownRange, Node

if TYPE_CHECKING:
    from synchro.plan import Incoming


ANYBODY = "default"


def check_destination(header: Header, using: str) -> None:
    """Refuse (``DestinationError``) a bundle that was written for another node than this one.

    Its destination is a name for a stream: that of the node, its id, or ``default``, which is for anybody.
    """
    node = nodes.own(using)
    name = nodes.name_of(node, using) if node is not None else conf.node_name(using)
    names = {ANYBODY, name, node.ident if node is not None else name}
    if header.destination.casefold() not in {name.casefold() for name in names}:
        raise DestinationError(
            _("This bundle was written for %(destination)r, and this deployment is %(name)r.")
            % {"destination": header.destination, "name": name},
            hint=_("Nothing was imported. If it is meant for this one all the same, give --any-destination."),
        )


class Checkpoints:
    """What is known of the nodes whose changes one bundle carries."""

    def __init__(self, header: Header, node: Node | None, using: str) -> None:
        self._header = header
        self._node = node
        self._using = using
        peer = Node.objects.using(using).filter(ident=header.node.id).first()
        self.peer = peer or Node(ident=header.node.id, name=header.node.name[:64])
        self._known: dict[str, Intervals] = {}
        self._touched: set[str] = set()
        self._own = nodes.own_idents(using)
        # The log as it stands before the bundle: what is taken of it gets positions that this node never gave away.
        self._own_seq = node.seq if node is not None else 0
        self._gap = False

    def check(self, *, allow_gap: bool) -> None:
        """Refuse a bundle that does not join on to the checkpoint (``GapError``) or contradicts it (``ForkError``)."""
        header, taken = self._header, self.peer.taken_seq
        self._gap = header.start.seq > taken
        if self._gap and not allow_gap:
            raise GapError(
                _("The changes %(first)d to %(last)d of %(node)s are missing: this bundle begins after them.")
                % {"first": taken + 1, "last": header.start.seq, "node": header.node.id},
                hint=self._way_on(taken),
            )
        date = self.peer.taken_date
        for position in (header.start, header.end):
            if (
                position.seq == taken
                and position.date is not None
                and date is not None
                and parse_date(position.date) != date
            ):
                raise self._fork(header.node.id, taken, position.date, date)

    def _way_on(self, taken: int) -> str:
        """Where the changes that are missing can be had."""
        header = self._header
        now = successions.successor(header.node.id, self._using)
        if now is not None:  # whose log has other positions, and nobody can write the earlier ones again
            return _(
                "That deployment was restored from a backup and goes on as %(new)s. Import the bundles of %(new)s "
                "first, or a snapshot of it (`synchro_export --snapshot` there); then take this file with "
                "--allow-gap, in case it has what nobody else has."
            ) % {"new": now}
        return _(
            "Import the bundles in between first, or have them written again with `synchro_export --since "
            "%(taken)s --until %(seq)s` at %(name)s (`synchro_request` with this file writes that wish down for "
            "`synchro_export --answer`). `--allow-gap` takes this one without them."
        ) % {"taken": taken, "seq": header.start.seq, "name": header.node.name}

    def _fork(self, origin: str, seq: int, theirs: str, ours: int) -> ForkError:
        return ForkError(
            _(
                "Position %(seq)s of %(origin)s is dated %(theirs)s in this bundle, and %(ours)s here: two different "
                "changes claim one position."
            )
            % {"seq": seq, "origin": origin, "theirs": theirs, "ours": format_date(ours)},
            hint=(
                _(
                    "Nothing was imported. The sender was restored from a backup, or runs twice under one id. Export "
                    "here with `synchro_export --to %(name)s --since %(since)d` and import that there: it will "
                    "recognise itself, take a new id, and its next bundle can be taken."
                )
                % {"name": origin.rpartition("-")[0], "since": self._shown_after(origin, seq)}
            ),
        )

    def _shown_after(self, origin: str, seq: int) -> int:
        """The position of our log after which whoever goes by the id *origin* sees that its log was set back.

        What it has taken of our log, if it says so itself: then the file has all that it lacks, what it lost among it.
        """
        logged = ChangeLog.objects.using(self._using).filter(origin__ident=origin, origin_seq__lte=seq)
        at = logged.order_by("-origin_seq").values_list("seq", flat=True).first() or 1
        if self._node is not None and origin == self._header.node.id:
            return min(at - 1, self._header.acks.get(self._node.ident, 0))
        return at - 1

    def unknown(self, batch: Sequence[Incoming]) -> tuple[list[Incoming], int]:
        """The changes of *batch* that are new here (and its object records), and how many were known."""
        by_origin: dict[str, list[Incoming]] = defaultdict(list)
        for change in batch:
            if isinstance(change.record, Change):
                by_origin[change.stamp.node].append(change)
        known: set[int] = set()
        for origin, changes in by_origin.items():
            intervals = self._intervals(origin)
            old = [change for change in changes if change.origin_seq in intervals]
            self._check_dates(origin, old)
            known.update(map(id, old))
            dates: dict[int, int] = {}
            for change in changes:
                if id(change) in known:
                    continue
                date = dates.setdefault(change.origin_seq, change.stamp.date)
                if date != change.stamp.date:
                    raise self._fork(origin, change.origin_seq, format_date(change.stamp.date), date)
                if origin in self._own:
                    # Seen before the import began, and mended; so the file changed since.
                    raise ForkError(
                        _(
                            "This bundle has a change that %(origin)s made at its position %(seq)d, and this database, "
                            "which is that deployment, does not."
                        )
                        % {"origin": origin, "seq": change.origin_seq},
                        hint=_("This database was restored from a backup. Nothing was imported."),
                    )
                if change.origin_seq in intervals:  # twice in one bundle
                    known.add(id(change))
                    continue
                intervals.add(change.origin_seq)
                self._touched.add(origin)
        fresh = [change for change in batch if id(change) not in known]
        return fresh, len(known)

    def all_new(self, positions: Mapping[str, Sequence[int]]) -> bool:
        """Whether none of *positions*, given by origin, is known here, or one of this deployment's own."""
        if not self._own.isdisjoint(positions):
            return False
        for origin, of_origin in positions.items():
            intervals = self._intervals(origin)
            if len(set(of_origin)) != len(of_origin) or any(intervals.overlaps(*run) for run in runs(of_origin)):
                return False
        return True

    def take(self, positions: Mapping[str, Sequence[int]]) -> None:
        """*positions* are known from now on."""
        for origin, of_origin in positions.items():
            intervals = self._intervals(origin)
            for run in runs(of_origin):
                intervals.add(*run)
            self._touched.add(origin)

    def _intervals(self, origin: str) -> Intervals:
        found = self._known.get(origin)
        if found is None:
            rows = KnownRange.objects.using(self._using).filter(origin__ident=origin)
            found = Intervals(rows.values_list("first", "last"))
            if self._node is not None and origin == self._node.ident and self._own_seq:
                found.add(1, self._own_seq)
            self._known[origin] = found
        return found

    def _check_dates(self, origin: str, changes: Sequence[Incoming]) -> None:
        for part in serialize.chunks([change.origin_seq for change in changes]):
            rows = ChangeLog.objects.using(self._using).filter(origin__ident=origin, origin_seq__in=part)
            dates = dict(rows.values_list("origin_seq", "date"))
            for change in changes:
                date = dates.get(change.origin_seq)
                if date is not None and date != change.stamp.date:
                    raise self._fork(origin, change.origin_seq, format_date(change.stamp.date), date)

    def _leap(self) -> None:
        """A hole was filled: go on to the end of what was taken beyond it, as far as it joins on."""
        peer = self.peer
        taken = Bundle.objects.using(self._using).filter(
            direction=Bundle.Direction.RECEIVED, node__ident=peer.ident, last_seq__gt=peer.taken_seq
        )
        stored = [Header.from_dict(orjson.loads(text)) for text in taken.values_list("header", flat=True)]
        for header in sorted(stored, key=lambda each: each.start.seq):
            start, end = header.start, header.end
            if header.only is not None or start.seq > peer.taken_seq or end.seq <= peer.taken_seq:
                continue
            if start.seq == peer.taken_seq and start.date is not None and parse_date(start.date) != peer.taken_date:
                continue
            peer.taken_seq = end.seq
            peer.taken_date = None if end.date is None else parse_date(end.date)

    def advance(self, node: Node) -> None:
        """Everything was taken: move the checkpoint.

        It stays where there is a gap before this bundle, or where the bundle holds only some models.
        """
        header, peer = self._header, self.peer
        peer.heard = timezone.now()
        peer.name = header.node.name[:64]
        peer.acked_seq = max(peer.acked_seq, header.acks.get(node.ident, 0))
        if not self._gap and header.only is None and header.end.seq > peer.taken_seq:
            peer.taken_seq = header.end.seq
            peer.taken_date = None if header.end.date is None else parse_date(header.end.date)
            self._leap()
        stored = Node.objects.using(self._using).filter(ident=peer.ident).first()
        peer.pk = stored.pk if stored is not None else None
        peer.save(using=self._using, force_insert=stored is None)
        idents = nodes.by_ident(self._touched, self._using)
        for origin in self._touched:
            rows = KnownRange.objects.using(self._using).filter(origin=idents[origin])
            before = {(first, last): pk for pk, first, last in rows.values_list("pk", "first", "last")}
            after = set(self._known[origin])
            rows.filter(pk__in=[pk for ends, pk in before.items() if ends not in after]).delete()
            KnownRange.objects.using(self._using).bulk_create(
                KnownRange(origin=idents[origin], first=first, last=last) for first, last in sorted(after - set(before))
            )
