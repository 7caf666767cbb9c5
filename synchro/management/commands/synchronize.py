"""manage.py synchronize: bring what changed here to the REMOTE database."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError
from django.db import DatabaseError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext_lazy

from synchro import conf
from synchro.management.commanding import SpokenCommand, add_database
from synchro.synchronizing import call_synchronize, not_applied, outcome, performed, synchronize

__all__ = ["Command", "call_synchronize"]  # the latter is where 0.5 to 0.7 had it


_COUNTS = {
    "added": ngettext_lazy("%(number)d added", "%(number)d added", "number"),
    "changed": ngettext_lazy("%(number)d changed", "%(number)d changed", "number"),
    "deleted": ngettext_lazy("%(number)d deleted", "%(number)d deleted", "number"),
    "m2m": ngettext_lazy("%(number)d m2m link", "%(number)d m2m links", "number"),
    "conflicts": ngettext_lazy("%(number)d conflict", "%(number)d conflicts", "number"),
    "stale": ngettext_lazy("%(number)d older than what REMOTE has", "%(number)d older than what REMOTE has", "number"),
}


class Command(SpokenCommand):
    help = gettext_lazy(
        "Brings everything that changed in this database since the last time to the one that SYNCHRO_REMOTE names."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_database(parser)
        parser.set_defaults(database=conf.local())

    def handle(self, *_args: Any, **options: Any) -> None:
        with self.working(options, interrupted=_("Interrupted. Both databases are as they were.")):
            try:
                report = synchronize(options["database"])
            except DatabaseError as error:  # perhaps by the second commit, after the first
                text = _("The database refused: %(error)s\nRun the command again: what is there already is recognised.")
                raise CommandError(text % {"error": error}) from error
        if options["verbosity"] > 0:
            self.stdout.write(outcome(report))
        if report is not None and performed(report) and options["verbosity"] > 1:
            counts = report.as_dict()
            self.stdout.write(", ".join(str(text % {"number": counts[name]}) for name, text in _COUNTS.items()))
        for text in not_applied(report):
            self.stdout.write(self.style.WARNING(f"  {text}"))
