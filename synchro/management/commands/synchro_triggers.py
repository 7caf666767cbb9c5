"""manage.py synchro_triggers: the triggers that note every write to the tracked tables."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from synchro import triggers
from synchro.management.commanding import SpokenCommand, add_database


class Command(SpokenCommand):
    help = gettext_lazy(
        "Installs, removes or checks the triggers that note which rows of tracked tables were written, so "
        "that changes past the ORM's signals are logged, too. See SYNCHRO_TRIGGERS."
    )
    examples = (
        "check",
        "install",
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "action", choices=("install", "remove", "check"), help=_("What to do; `check` changes nothing.")
        )
        add_database(parser)

    def handle(self, *_args: Any, **options: Any) -> None:
        using = options["database"]
        with self.working(options, interrupted=_("Interrupted. Run the command again.")):
            if options["action"] == "remove":
                number = triggers.remove(using)
                text = ngettext("%(number)d trigger removed.", "%(number)d triggers removed.", number)
                self.say(text % {"number": number})
                return
            if options["action"] == "install":
                before = triggers.install(using)
                made, gone = len(before.missing), len(before.stale)
                created = ngettext("%(number)d trigger created", "%(number)d triggers created", made)
                removed = ngettext("%(number)d stale one removed", "%(number)d stale ones removed", gone)
                self.say(f"{created % {'number': made}}, {removed % {'number': gone}}.")
                if before.missing:
                    self.say(_("What was written past the log until now is found by `manage.py synchro_scan`."))
                return
            state = triggers.check(using)
        fine, missing, stale = len(state.installed), len(state.missing), len(state.stale)
        counts = (
            ngettext("%(number)d trigger is in line", "%(number)d triggers are in line", fine) % {"number": fine},
            ngettext("%(number)d is missing", "%(number)d are missing", missing) % {"number": missing},
            ngettext("%(number)d is stale", "%(number)d are stale", stale) % {"number": stale},
        )
        self.say(f"{', '.join(counts)}.")
        if not state.in_line:
            raise CommandError(_("Run `manage.py synchro_triggers install` (or `remove`)."))
