"""manage.py synchro_status: where this deployment stands, on one screen."""

from __future__ import annotations

import textwrap
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from typing import Any

import orjson
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, pgettext

from changelog_format.output import clean, table
from synchro import reasons
from synchro.management.commanding import SpokenCommand, add_database
from synchro.status import PeerStatus, Status, status

_WIDTH = 80
_LABEL = 14
_NAME = 34
_CUT = "…"
# With as many lines as there can be otherwise, a screen of 24 is full.
DESTINATIONS, PEERS, REASONS = 3, 4, 2


class Command(SpokenCommand):
    help = gettext_lazy("Shows this node, what is pending, where each destination and peer stands, and what is held.")
    examples = (
        "",
        "--json",
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help=_("Print everything as one JSON object."))
        add_database(parser)

    def handle(self, *_args: Any, **options: Any) -> None:
        with self.working(options, interrupted=_("Interrupted.")):
            found = status(options["database"])
        if options["json"]:
            self.stdout.write(orjson.dumps(found.as_dict()).decode())
        else:
            self._all = options["verbosity"] > 1
            self._tell(found)

    def _tell(self, found: Status) -> None:
        unnamed = _("%(name)s (gets its id with the first change that travels)") % {"name": found.name}
        self._say(pgettext("status", "node"), found.node or unnamed)
        if found.copied:
            text = _("a copy of it: %(name)s gets its own id with the next bundle")
            self._warn("", text % {"name": found.name})
        self._say(pgettext("status", "log"), ", ".join(_of_log(found)))
        if found.clock_ahead is not None:
            text = _("too far ahead, at %(date)s: see manage.py synchro_redate")
            self._warn(pgettext("status", "clock"), text % {"date": found.clock_ahead[:16]})
        if found.models:
            number = len(found.models)
            text = ngettext("%(number)d model of %(apps)s", "%(number)d models of %(apps)s", number)
            apps = ", ".join(sorted({label.partition(".")[0] for label in found.models}))
            self._say(pgettext("status", "tracked"), text % {"number": number, "apps": apps})
        else:
            self._warn(pgettext("status", "tracked"), _("nothing: SYNCHRO_MODELS is empty"))
        if found.paused:
            self._warn(pgettext("status", "paused"), _("logging is switched off in this context"))
        self._tell_destinations(found)
        self._tell_peers(found)
        sent, received = {"number": found.bundles_sent}, {"number": found.bundles_received}
        self._say(
            pgettext("status", "bundles"),
            ngettext("%(number)d sent", "%(number)d sent", found.bundles_sent) % sent
            + ", "
            + ngettext("%(number)d received", "%(number)d received", found.bundles_received) % received,
        )
        self._tell_conflicts(found)
        if found.withheld:
            self._say(pgettext("status", "not told"), ", ".join(found.withheld))
        self._tell_held(found)
        if not found.seq and not found.pending:
            text = _(
                "Nothing was logged so far: changes are logged when objects of the tracked models are\n"
                "saved or deleted (not by update() or raw SQL)."
            )
            self.stdout.write(textwrap.fill(" ".join(text.split()), _WIDTH))

    def _tell_conflicts(self, found: Status) -> None:
        text = ngettext("%(number)d recorded", "%(number)d recorded", found.conflicts)
        self._say(pgettext("status", "conflicts"), text % {"number": found.conflicts})
        if found.conflicts_held:
            text = ngettext(
                "%(number)d of them waits for a decision: manage.py synchro_conflicts",
                "%(number)d of them wait for a decision: manage.py synchro_conflicts",
                found.conflicts_held,
            )
            self._warn("", text % {"number": found.conflicts_held})

    def _tell_held(self, found: Status) -> None:
        if not found.held:
            return
        text = ngettext(
            "%(number)d change could not be applied yet:", "%(number)d changes could not be applied yet:", found.held
        )
        self._warn(pgettext("status", "held"), text % {"number": found.held})
        shown = found.held_reasons if self._all else found.held_reasons[:REASONS]
        for reason, number in shown:
            self._say("", f"{number} × {reasons.told(reason)}")  # noqa: RUF001  the sign is meant
        more = len(found.held_reasons) - len(shown)
        self._say_more(
            more,
            ngettext(
                "… and %(number)d more reason; -v 2 shows all", "… and %(number)d more reasons; -v 2 shows all", more
            ),
        )

    def _tell_destinations(self, found: Status) -> None:
        if not found.destinations:
            self._say(pgettext("status", "destination"), _("none: nothing was exported yet"))
            return
        ordered = sorted(found.destinations, key=lambda each: (-each.waiting, each.name))
        shown = ordered if self._all else ordered[:DESTINATIONS]
        never = pgettext("last export", "never")
        rows = [
            (
                _short(each.name),
                each.seq,
                each.waiting + found.pending,
                each.last_export[:16] if each.last_export else never,
            )
            for each in shown
        ]
        self._table(
            (
                pgettext("status", "destination"),
                pgettext("status", "exported up to"),
                pgettext("status", "waiting"),
                pgettext("status", "last export"),
            ),
            rows,
        )
        more = len(ordered) - len(shown)
        self._say_more(
            more,
            ngettext(
                "… and %(number)d more destination; -v 2 shows all",
                "… and %(number)d more destinations; -v 2 shows all",
                more,
            ),
        )

    def _tell_peers(self, found: Status) -> None:
        if not found.peers:
            return
        # Of an id that somebody went on from nothing is waited for.
        present = [each for each in found.peers if each.succeeded_by is None or self._all]
        ordered = sorted(present, key=lambda each: (-(each.silent_days or 0), -each.lacks, each.node))
        shown = ordered if self._all else ordered[:PEERS]
        rows = [(_short(each.node), each.taken, each.acked, each.lacks, _heard(each)) for each in shown]
        self._table(
            (
                pgettext("status", "peer"),
                pgettext("status", "imported"),
                pgettext("status", "has ours"),
                pgettext("status", "lacks"),
                pgettext("status", "heard"),
            ),
            rows,
        )
        more = len(ordered) - len(shown)
        self._say_more(
            more,
            ngettext("… and %(number)d more peer; -v 2 shows all", "… and %(number)d more peers; -v 2 shows all", more),
        )

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

    def _say_more(self, number: int, text: str) -> None:
        if number > 0:
            self._say("", text % {"number": number})


def _of_log(found: Status) -> Iterator[str]:
    sealed = ngettext("%(number)d change sealed", "%(number)d changes sealed", found.seq)
    yield sealed % {"number": found.seq}
    if found.pruned_seq:
        yield _("compacted up to %(seq)d") % {"seq": found.pruned_seq}
    yield ngettext("%(number)d pending", "%(number)d pending", found.pending) % {"number": found.pending}
    if found.noted:
        noted = ngettext("%(number)d write noted by triggers", "%(number)d writes noted by triggers", found.noted)
        yield noted % {"number": found.noted}


def _heard(peer: PeerStatus) -> str:
    if peer.succeeded_by is not None:
        return _("is %(node)s now") % {"node": _short(peer.succeeded_by)}
    if peer.heard is None:
        return _("only from others")
    days = peer.silent_days or 0
    return ngettext("%(days)d day ago", "%(days)d days ago", days) % {"days": days} if days else _("today")


def _short(name: str) -> str:
    return name if len(name) <= _NAME else name[: _NAME - 1] + _CUT
