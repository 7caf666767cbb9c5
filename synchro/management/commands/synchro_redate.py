"""manage.py synchro_redate: the way out where a clock far ahead has dated changes that nobody else has yet."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

import orjson
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from synchro.management.commanding import SpokenCommand, add_database
from synchro.redating import redate


class Command(SpokenCommand):
    help = gettext_lazy(
        "Gives changes that a clock far ahead has dated, and that were not exported yet, the date of now. Set the "
        "machine's clock right first."
    )
    examples = ("--dry-run", "")

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help=_("Only say how many there are."))
        parser.add_argument("--json", action="store_true", help=_("Print the numbers as one JSON object."))
        add_database(parser)

    def handle(self, *_args: Any, **options: Any) -> None:
        with self.working(options, interrupted=_("Interrupted. Nothing was changed.")):
            report = redate(dry_run=options["dry_run"], using=options["database"])
        number = report.pending + report.sealed
        if options["json"]:
            self.stdout.write(orjson.dumps(report.as_dict()).decode())
        elif not number:
            self.say(_("No change here is dated later than the clock and the tolerance allow."))
        else:
            text = ngettext(
                "%(number)d change, dated %(earliest)s, gets the date of now.",
                "%(number)d changes, dated %(earliest)s to %(latest)s, get the date of now.",
                number,
            )
            if report.dry_run:
                text = ngettext(
                    "%(number)d change, dated %(earliest)s, would get the date of now.",
                    "%(number)d changes, dated %(earliest)s to %(latest)s, would get the date of now.",
                    number,
                )
            self.say(text % {"number": number, "earliest": report.earliest, "latest": report.latest})
