"""manage.py synchro_status: where this deployment stands."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

import orjson

from synchro.management.commanding import SpokenCommand, add_database, reported
from synchro.status import Status, status


class Command(SpokenCommand):
    help = "Shows this node, what is pending, where each destination and peer stands, and what is held."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="Print everything as one JSON object.")
        add_database(parser)

    def handle(self, *_args: Any, **options: Any) -> None:
        with reported(options["database"], interrupted="Interrupted."):
            found = status(options["database"])
        if options["json"]:
            self.stdout.write(orjson.dumps(found.as_dict()).decode())
        else:
            self._tell(found)

    def _tell(self, found: Status) -> None:
        say = self.stdout.write
        unnamed = f"{found.name} (gets its id with the first change that is exported or imported)"
        say(f"node          {found.node or unnamed}")
        compacted = f", compacted up to {found.pruned_seq}" if found.pruned_seq else ""
        noted = f", {found.noted} writes noted by triggers" if found.noted else ""
        say(f"log           {found.seq} changes sealed{compacted}, {found.pending} pending{noted}")
        if found.models:
            apps = sorted({label.partition(".")[0] for label in found.models})
            say(f"tracked       {len(found.models)} models of {', '.join(apps)}")
        else:
            say(self.style.WARNING("tracked       nothing: SYNCHRO_MODELS is empty"))
        if found.paused:
            say(self.style.WARNING("paused        logging is switched off in this context"))
        for each in found.destinations:
            waiting = each.waiting + found.pending
            say(
                f"destination   {each.name}: exported up to {each.seq}, {waiting} waiting, "
                f"last export {each.last_export or 'never'}"
            )
        if not found.destinations:
            say("destination   none: nothing was exported yet")
        for peer in found.peers:
            heard = "known from others only" if peer.heard is None else f"last heard {_ago(peer.silent_days or 0)}"
            say(
                f"peer          {peer.node}: imported up to {peer.taken}, {heard}; "
                f"has ours up to {peer.acked}, lacks {peer.lacks}"
            )
        say(f"bundles       {found.bundles_sent} sent, {found.bundles_received} received")
        say(f"conflicts     {found.conflicts} recorded")
        if found.conflicts_held:
            held = f"{found.conflicts_held} of them wait for a decision: manage.py synchro_conflicts"
            say(self.style.WARNING(f"              {held}"))
        if found.held:
            say(self.style.WARNING(f"held          {found.held} changes could not be applied yet:"))
            for reason, number in found.held_reasons:
                say(f"              {number} × {reason}")  # noqa: RUF001  the sign is meant
        if not found.seq and not found.pending:
            say(
                "Nothing was logged so far: changes are logged when objects of the tracked models are saved or deleted "
                "(not by update() or raw SQL)."
            )


def _ago(days: int) -> str:
    return "today" if days == 0 else f"{days} day{'s' if days > 1 else ''} ago"
