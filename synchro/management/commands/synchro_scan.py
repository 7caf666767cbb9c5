"""manage.py synchro_scan: log what was written past the log."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

import orjson
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, ngettext_lazy

from synchro.management.commanding import SpokenCommand, add_database
from synchro.scanning import scan

_COUNTS = {
    "added": ngettext_lazy("%(number)d added", "%(number)d added", "number"),
    "changed": ngettext_lazy("%(number)d changed", "%(number)d changed", "number"),
    "deleted": ngettext_lazy("%(number)d deleted", "%(number)d deleted", "number"),
    "linked": ngettext_lazy("%(number)d linked", "%(number)d linked", "number"),
    "unlinked": ngettext_lazy("%(number)d unlinked", "%(number)d unlinked", "number"),
}


class Command(SpokenCommand):
    help = gettext_lazy(
        "Compares the tables of tracked models with the log and logs what was written past it: by update(), "
        "bulk_create(), raw SQL, or before synchro was installed."
    )
    examples = (
        "--dry-run",
        "shop auth.user",
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "models",
            nargs="*",
            metavar="MODEL",
            help=_("Models (app.model) or apps to look at (default: all tracked)."),
        )
        parser.add_argument("--dry-run", action="store_true", help=_("Only say what would be logged."))
        parser.add_argument("--json", action="store_true", help=_("Print the numbers as one JSON object."))
        add_database(parser)

    def handle(self, *_args: Any, **options: Any) -> None:
        with self.working(
            options,
            interrupted=_("Interrupted. What was found so far is logged; run the command again for the rest."),
        ):
            report = scan(options["models"] or None, dry_run=options["dry_run"], using=options["database"])
        if options["json"]:
            self.stdout.write(orjson.dumps(report.as_dict()).decode())
            return
        if not report.total:
            self.say(_("The log says what the tables hold."))
        for label, counts in report.models.items():
            self.say(f"{label}: " + ", ".join(str(_COUNTS[name] % {"number": counts[name]}) for name in counts))
        if report.total:
            text = ngettext("%(number)d change was logged.", "%(number)d changes were logged.", report.total)
            if report.dry_run:
                text = ngettext(
                    "%(number)d change would be logged.", "%(number)d changes would be logged.", report.total
                )
            self.say(text % {"number": report.total})
