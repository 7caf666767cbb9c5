"""manage.py synchro_triggers: the triggers that note every write to the tracked tables."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from synchro import triggers
from synchro.management.commanding import SpokenCommand, add_database


class Command(SpokenCommand):
    help = (
        "Installs, removes or checks the triggers that note which rows of tracked tables were written, so that changes "
        "past the ORM's signals are logged, too. See SYNCHRO_TRIGGERS."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("action", choices=("install", "remove", "check"))
        add_database(parser)

    def handle(self, *_args: Any, **options: Any) -> None:
        using = options["database"]
        with self.working(options, interrupted="Interrupted. Run the command again."):
            if options["action"] == "remove":
                self.say(f"{triggers.remove(using)} triggers removed.")
                return
            if options["action"] == "install":
                before = triggers.install(using)
                self.say(f"{len(before.missing)} triggers created, {len(before.stale)} stale ones removed.")
                if before.missing:
                    self.say("What was written past the log until now is found by `manage.py synchro_scan`.")
                return
            state = triggers.check(using)
        self.say(
            f"{len(state.installed)} triggers are in line, {len(state.missing)} are missing, "
            f"{len(state.stale)} are stale."
        )
        if not state.in_line:
            raise CommandError("Run `manage.py synchro_triggers install` (or `remove`).")
