"""Replaying an archive up to a moment, on a deployment that has no changes of its own.

Each node's log is taken up to a position: the one that was asked for, or the last before the first change that is dated
later. (A node dates its own changes later than everything that it had imported by then.) Everything is looked at before
anything is written.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from django.db import DEFAULT_DB_ALIAS
from django.utils.dateparse import parse_date, parse_datetime
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from changelog_format import BundleError, Change, Header, Identities, open_bundle
from changelog_format.dates import format_date
from synchro import moments, stored, trust
from synchro.drift import Difference
from synchro.errors import GapError, ReplayError
from synchro.importing import ImportReport, bundle_files, import_bundle
from synchro.models import ChangeLog, Node
from synchro.trust import Sources

Until = dt.datetime | int
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One bundle, and up to which position of its node's log it is taken."""

    source: str | Path
    header: Header
    seq: int

    @property
    def whole(self) -> bool:
        return self.seq >= self.header.end.seq


def parse_until(text: str) -> Until:
    """A position, a moment (in the project's time zone unless it says one), or a day, which counts to its end.

    Raises ``ValueError``.
    """
    if text.isascii() and text.isdigit():
        return int(text)
    day = parse_date(text)
    moment = parse_datetime(text) if day is None else dt.datetime.combine(day, dt.time.max)
    if moment is None:
        message = _("%(text)r is no position (412), no day (2026-11-23) and no moment (2026-11-23T10:11:12Z)") % {
            "text": text
        }
        raise ValueError(message)
    return moments.aware(moment)


def replay(
    sources: Sequence[str | Path],
    until: Until,
    *,
    dry_run: bool = False,
    notify: Callable[[Difference], object] | None = None,
    identity: Sources = (),
    using: str = DEFAULT_DB_ALIAS,
) -> Iterator[ImportReport]:
    """Take the bundles in *sources* (files, or folders of them) as far as the logs went at *until*; a report for each.

    Whomever they were written for. Can be done again, with a later moment too; what was there is known then. Raises
    ``ReplayError`` and ``GapError`` before anything is written, and what ``import_bundle`` raises.
    """
    steps = plan(sources, until, identity=identity, using=using)
    for step in steps:
        yield import_bundle(
            step.source,
            any_destination=True,
            # What a preview takes is not there for the next one.
            allow_gap=dry_run,
            until=None if step.whole else step.seq,
            dry_run=dry_run,
            notify=notify,
            identity=identity,
            using=using,
        )


def plan(
    sources: Sequence[str | Path], until: Until, *, identity: Sources = (), using: str = DEFAULT_DB_ALIAS
) -> list[Step]:
    """What ``replay`` would take, in this order. Reads all of the bundles; raises as it does."""
    identities = trust.identities(identity)
    _check_empty(until, using)
    found = [_step(source, until, identities) for source in bundle_files(sources)]
    by_node: dict[str, list[Step]] = defaultdict(list)
    for step in found:
        by_node[step.header.node.id].append(step)
    if isinstance(until, int) and len(by_node) > 1:
        raise ReplayError(
            _("A position is one in the log of one node, and these bundles are of %(nodes)s.")
            % {"nodes": ", ".join(sorted(by_node))},
            hint=_("Nothing was imported. Give the bundles of one of them, or a moment instead of a position."),
        )
    return [step for ident in sorted(by_node) for step in _of_node(ident, by_node[ident], until, using)]


def _check_empty(until: Until, using: str) -> None:
    rows = ChangeLog.objects.using(using)
    own = rows.filter(imported=False).count()
    if own:
        raise ReplayError(
            ngettext(
                "This deployment has %(number)d change of its own, so it cannot become what another one was.",
                "This deployment has %(number)d changes of its own, so it cannot become what another one was.",
                own,
            )
            % {"number": own},
            hint=_("Nothing was imported. Use a new database: `manage.py migrate` makes one."),
        )
    later = rows.filter(date__gt=_microseconds(until)) if isinstance(until, dt.datetime) else rows.none()
    taken = Node.objects.using(using).filter(own=False, taken_seq__gt=until if isinstance(until, int) else 2**63 - 1)
    if later.exists() or taken.exists():
        raise ReplayError(
            _("This deployment has taken changes from after that already."),
            hint=_("Nothing was imported. Use a new database: `manage.py migrate` makes one."),
        )


def _microseconds(moment: dt.datetime) -> int:
    return (moment - _EPOCH) // dt.timedelta(microseconds=1)


def _step(source: str | Path, until: Until, identities: Identities | None) -> Step:
    """How far the bundle goes until then. All of it is read, so that it is known to be in order."""
    latest = format_date(_microseconds(until)) if isinstance(until, dt.datetime) else None
    try:
        with stored.readable(source) as file, open_bundle(file, identities=identities) as reader:
            header = reader.header
            seq = header.end.seq if latest is not None else min(int(until), header.end.seq)  # type: ignore[arg-type]
            for record in reader:
                if latest is not None and isinstance(record, Change) and record.date > latest:
                    seq = min(seq, record.seq - 1)
            trust.Voucher(header, reader.trailer)
    except BundleError as error:
        error.add_note(str(source))
        raise
    return Step(source=source, header=header, seq=seq)


def _of_node(ident: str, steps: Sequence[Step], until: Until, using: str) -> list[Step]:
    """The steps of one node in their order. Raises where they do not lead there without a gap."""
    # One log has one end at that moment: a folded bundle may have left out the change that shows it.
    cut = min((step.seq for step in steps if not step.whole), default=None)
    if cut is not None:
        steps = [replace(step, seq=min(step.seq, cut)) for step in steps]
    last = max(step.header.end.seq for step in steps)
    if isinstance(until, int) and until > last:
        raise ReplayError(
            _("The bundles of %(node)s end at position %(last)s, before %(until)s.")
            % {"node": ident, "last": last, "until": until},
            hint=_("Nothing was imported. Give the bundles that go on from there, too."),
        )
    goal = last if cut is None else cut
    wanted = [step for step in steps if step.seq > step.header.start.seq]
    folded = [step for step in wanted if not step.whole and step.header.mode != "history"]
    chosen = sorted(
        (step for step in wanted if step not in folded),
        key=lambda step: (step.header.start.seq, step.seq, str(step.source)),
    )
    reached = Node.objects.using(using).filter(ident=ident, own=False).values_list("taken_seq", flat=True).first() or 0
    for step in chosen:
        if step.header.only is not None:
            continue
        if step.header.start.seq > reached:
            break
        reached = max(reached, step.seq)
    if reached < goal:
        hides = next((each for each in folded if each.header.start.seq <= reached), None)
        if hides is not None:
            raise ReplayError(
                (
                    _(
                        "%(source)s is a squash up to position %(seq)d of %(node)s: how things were at position "
                        "%(goal)d "
                        "before that cannot be told from it."
                    )
                    if hides.header.mode == "squash"
                    else _(
                        "%(source)s is a snapshot up to position %(seq)d of %(node)s: how things were at position "
                        "%(goal)d before that cannot be told from it."
                    )
                )
                % {"source": hides.source, "seq": hides.header.end.seq, "node": ident, "goal": goal},
                hint=_(
                    "Nothing was imported. Give the bundles with the history of positions %(reached)s to %(goal)s, or "
                    "a "
                    "moment after %(date)s."
                )
                % {"reached": reached + 1, "goal": goal, "date": hides.header.end.date},
            )
        raise GapError(
            _(
                "The changes of %(node)s after position %(reached)s are missing in these bundles, and needed up to "
                "%(goal)s."
            )
            % {"node": ident, "reached": reached, "goal": goal},
            hint=_("Nothing was imported. `python -m changelog_format verify FOLDER` says what an archive holds."),
        )
    return chosen


__all__ = ["Step", "Until", "parse_until", "plan", "replay"]
