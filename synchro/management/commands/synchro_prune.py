"""manage.py synchro_prune: compact the log as far as everybody has it."""

from __future__ import annotations

import datetime as dt
from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

import orjson
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from synchro.management.commanding import SpokenCommand, add_database
from synchro.pruning import PruneReport, prune


class Command(SpokenCommand):
    help = "Drops changes that every destination and peer has, and keeps the newest of each object and the deletions."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--before", type=_moment, metavar="DATE", help="Only what came into the log before this date (or time)."
        )
        parser.add_argument(
            "--ignore", action="append", default=[], metavar="NAME",
            help="A destination or node that is gone: do not keep the log for it. May be given several times.",
        )  # fmt: skip
        parser.add_argument("--dry-run", action="store_true", help="Only say what would be dropped.")
        parser.add_argument("--json", action="store_true", help="Print the numbers as one JSON object.")
        add_database(parser)

    def handle(self, *_args: Any, **options: Any) -> None:
        with self.working(options, interrupted="Interrupted. What was dropped so far was not needed."):
            report = prune(
                before=options["before"],
                ignore=options["ignore"],
                dry_run=options["dry_run"],
                using=options["database"],
            )
        if options["json"]:
            self.stdout.write(orjson.dumps(report.as_dict()).decode())
        else:
            self._tell(report)

    def _tell(self, report: PruneReport) -> None:
        would = "would be " if report.dry_run else ""
        self.say(
            f"The log of {report.node} {would}compacted up to position {report.upto}: "
            f"{report.removed} changes {would}dropped, {report.kept} kept."
        )
        for holder in report.holders[:3]:
            self.say(f"  {holder.name} has it up to position {holder.seq}.")
        if not report.holders:
            self.say("  Nothing was exported yet to anybody who counts, so everything is still needed.")


def _moment(text: str) -> dt.datetime:
    try:
        moment = parse_datetime(text)
        if moment is None and (day := parse_date(text)) is not None:
            moment = dt.datetime.combine(day, dt.time())
    except ValueError:
        moment = None
    if moment is None:
        message = f"{text!r} is no date: write 2026-11-23, or 2026-11-23T10:00:00Z"
        raise ArgumentTypeError(message)
    return moment if timezone.is_aware(moment) else timezone.make_aware(moment)
