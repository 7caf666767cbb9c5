"""manage.py synchro_status: where this deployment stands, on one screen."""

from __future__ import annotations

import textwrap
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any

import orjson

from changelog_format.output import clean, table
from synchro.management.commanding import SpokenCommand, add_database
from synchro.status import Status, status

_WIDTH = 80
_LABEL = 14
_NAME = 34
_CUT = "…"
# With as many lines as there can be otherwise, a screen of 24 is full.
DESTINATIONS, PEERS, REASONS = 3, 4, 2


class Command(SpokenCommand):
    help = "Shows this node, what is pending, where each destination and peer stands, and what is held."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="Print everything as one JSON object.")
        add_database(parser)

    def handle(self, *_args: Any, **options: Any) -> None:
        with self.working(options, interrupted="Interrupted."):
            found = status(options["database"])
        if options["json"]:
            self.stdout.write(orjson.dumps(found.as_dict()).decode())
        else:
            self._all = options["verbosity"] > 1
            self._tell(found)

    def _tell(self, found: Status) -> None:
        unnamed = f"{found.name} (gets its id with the first change that travels)"
        self._say("node", found.node or unnamed)
        compacted = f", compacted up to {found.pruned_seq}" if found.pruned_seq else ""
        noted = f", {found.noted} writes noted by triggers" if found.noted else ""
        self._say("log", f"{found.seq} changes sealed{compacted}, {found.pending} pending{noted}")
        if found.models:
            apps = sorted({label.partition(".")[0] for label in found.models})
            self._say("tracked", f"{len(found.models)} models of {', '.join(apps)}")
        else:
            self._warn("tracked", "nothing: SYNCHRO_MODELS is empty")
        if found.paused:
            self._warn("paused", "logging is switched off in this context")
        self._tell_destinations(found)
        self._tell_peers(found)
        self._say("bundles", f"{found.bundles_sent} sent, {found.bundles_received} received")
        self._say("conflicts", f"{found.conflicts} recorded")
        if found.conflicts_held:
            self._warn("", f"{found.conflicts_held} of them wait for a decision: manage.py synchro_conflicts")
        if found.held:
            self._warn("held", f"{found.held} changes could not be applied yet:")
            reasons = found.held_reasons if self._all else found.held_reasons[:REASONS]
            for reason, number in reasons:
                self._say("", f"{number} × {reason}")  # noqa: RUF001  the sign is meant
            self._say_more(len(found.held_reasons) - len(reasons), "reasons")
        if not found.seq and not found.pending:
            self.stdout.write(
                "Nothing was logged so far: changes are logged when objects of the tracked models are\n"
                "saved or deleted (not by update() or raw SQL)."
            )

    def _tell_destinations(self, found: Status) -> None:
        if not found.destinations:
            self._say("destination", "none: nothing was exported yet")
            return
        ordered = sorted(found.destinations, key=lambda each: (-each.waiting, each.name))
        shown = ordered if self._all else ordered[:DESTINATIONS]
        rows = [
            (_short(each.name), each.seq, each.waiting + found.pending, (each.last_export or "never")[:16])
            for each in shown
        ]
        self._table(("destination", "exported up to", "waiting", "last export"), rows)
        self._say_more(len(ordered) - len(shown), "destinations")

    def _tell_peers(self, found: Status) -> None:
        if not found.peers:
            return
        # Of an id that somebody went on from nothing is waited for.
        present = [each for each in found.peers if each.succeeded_by is None or self._all]
        ordered = sorted(present, key=lambda each: (-(each.silent_days or 0), -each.lacks, each.node))
        shown = ordered if self._all else ordered[:PEERS]
        rows = [
            (
                _short(each.node),
                each.taken,
                each.acked,
                each.lacks,
                f"is {_short(each.succeeded_by)} now"
                if each.succeeded_by is not None
                else "only from others"
                if each.heard is None
                else _ago(each.silent_days or 0),
            )
            for each in shown
        ]
        self._table(("peer", "imported", "has ours", "lacks", "heard"), rows)
        self._say_more(len(ordered) - len(shown), "peers")

    def _table(self, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        for line in table(head, rows):
            self.stdout.write(line)

    def _lines(self, label: str, text: str) -> list[str]:
        lines = textwrap.wrap(clean(text), _WIDTH - _LABEL) or [""]
        if not self._all and len(lines) > 1:
            lines = [lines[0][: _WIDTH - _LABEL - 1] + _CUT]
        return [f"{label if not number else '':{_LABEL}}{line}" for number, line in enumerate(lines)]

    def _say(self, label: str, text: str) -> None:
        for line in self._lines(label, text):
            self.stdout.write(line)

    def _warn(self, label: str, text: str) -> None:
        for line in self._lines(label, text):
            self.stdout.write(self.style.WARNING(line))

    def _say_more(self, number: int, what: str) -> None:
        if number > 0:
            self._say("", f"… and {number} more {what}; -v 2 shows all")


def _short(name: str) -> str:
    return name if len(name) <= _NAME else name[: _NAME - 1] + _CUT


def _ago(days: int) -> str:
    return "today" if days == 0 else f"{days} day{'s' if days > 1 else ''} ago"
