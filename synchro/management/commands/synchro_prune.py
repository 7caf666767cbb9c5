"""manage.py synchro_prune: compact the log as far as everybody has it."""

from __future__ import annotations

import datetime as dt
from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

import orjson
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from synchro.management.commanding import SpokenCommand, add_database
from synchro.pruning import PruneReport, prune


class Command(SpokenCommand):
    help = gettext_lazy(
        "Drops changes that every destination and peer has, and keeps the newest of each object and the deletions."
    )
    examples = (
        "--dry-run",
        "--before 2026-01-01 --ignore old-office",
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--before", type=_moment, metavar="DATE", help=_("Only what came into the log before this date (or time).")
        )
        parser.add_argument(
            "--ignore",
            action="append",
            default=[],
            metavar="NAME",
            help=_("A destination or node that is gone: do not keep the log for it. May be given several times."),
        )
        parser.add_argument("--dry-run", action="store_true", help=_("Only say what would be dropped."))
        parser.add_argument("--json", action="store_true", help=_("Print the numbers as one JSON object."))
        add_database(parser)

    def handle(self, *_args: Any, **options: Any) -> None:
        with self.working(options, interrupted=_("Interrupted. What was dropped so far was not needed.")):
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
        if report.dry_run:
            text = ngettext(
                "The log of %(node)s would be compacted up to position %(upto)d: "
                "%(removed)d change would be dropped, %(kept)d kept.",
                "The log of %(node)s would be compacted up to position %(upto)d: "
                "%(removed)d changes would be dropped, %(kept)d kept.",
                report.removed,
            )
        else:
            text = ngettext(
                "The log of %(node)s compacted up to position %(upto)d: %(removed)d change dropped, %(kept)d kept.",
                "The log of %(node)s compacted up to position %(upto)d: %(removed)d changes dropped, %(kept)d kept.",
                report.removed,
            )
        self.say(text % {"node": report.node, "upto": report.upto, "removed": report.removed, "kept": report.kept})
        for holder in report.holders[:3]:
            kind, _space, name = holder.name.partition(" ")
            text = _("destination %(name)s has it up to position %(seq)d.")
            if kind == "node":
                text = _("node %(name)s has it up to position %(seq)d.")
            self.say("  " + text % {"name": name, "seq": holder.seq})
        if not report.holders:
            self.say("  " + _("Nothing was exported yet to anybody who counts, so everything is still needed."))


def _moment(text: str) -> dt.datetime:
    try:
        moment = parse_datetime(text)
        if moment is None and (day := parse_date(text)) is not None:
            moment = dt.datetime.combine(day, dt.time())
    except ValueError:
        moment = None
    if moment is None:
        message = _("%(text)r is no date: write 2026-11-23, or 2026-11-23T10:00:00Z") % {"text": text}
        raise ArgumentTypeError(message)
    return moment if timezone.is_aware(moment) else timezone.make_aware(moment)
