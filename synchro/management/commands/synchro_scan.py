"""manage.py synchro_scan: log what was written past the log."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

import orjson

from synchro.management.commanding import SpokenCommand, add_database
from synchro.scanning import scan


class Command(SpokenCommand):
    help = (
        "Compares the tables of tracked models with the log and logs what was written past it: by update(), "
        "bulk_create(), raw SQL, or before synchro was installed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "models", nargs="*", metavar="MODEL", help="Models (app.model) or apps to look at (default: all tracked)."
        )
        parser.add_argument("--dry-run", action="store_true", help="Only say what would be logged.")
        parser.add_argument("--json", action="store_true", help="Print the numbers as one JSON object.")
        add_database(parser)

    def handle(self, *_args: Any, **options: Any) -> None:
        with self.working(
            options,
            interrupted="Interrupted. What was found so far is logged; run the command again for the rest.",
        ):
            report = scan(options["models"] or None, dry_run=options["dry_run"], using=options["database"])
        if options["json"]:
            self.stdout.write(orjson.dumps(report.as_dict()).decode())
            return
        if not report.total:
            self.say("The log says what the tables hold.")
        for label, counts in report.models.items():
            self.say(f"{label}: " + ", ".join(f"{number} {name}" for name, number in counts.items()))
        if report.total:
            would = "would be" if report.dry_run else "were"
            self.say(f"{report.total} changes {would} logged.")
