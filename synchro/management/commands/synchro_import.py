"""manage.py synchro_import: verify bundles, plan, and apply them."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

import orjson
from django.core.management.base import CommandError

from changelog_format.output import table
from synchro.conf import POLICIES
from synchro.drift import Difference
from synchro.importing import ImportReport, import_bundles, retry_held
from synchro.management.commanding import SpokenCommand, add_database
from synchro.replaying import Until, parse_until, replay
from synchro.seal import MICROSECONDS, tolerance

_COUNTS = (
    ("added", "added"),
    ("changed", "changed"),
    ("deleted", "deleted"),
    ("m2m", "m2m links changed"),
    ("merged", "merged with an object that was here"),
    ("objects", "rows created that tracked ones point to"),
    ("files", "files written"),
    ("unchanged", "the same here already"),
    ("already_known", "known already"),
    ("stale", "older than what is here"),
    ("conflicts", "conflicts"),
    ("held", "held"),
)

# What ``ImportReport.models`` counts, as it is called in the table of a preview.
_PLANNED = (
    ("added", "added"),
    ("changed", "changed"),
    ("deleted", "deleted"),
    ("m2m", "links"),
    ("merged", "merged"),
    ("conflict", "conflicts"),
    ("held", "held"),
    ("unchanged", "same"),
    ("stale", "older"),
)


class Command(SpokenCommand):
    help = "Verifies bundles and applies them. Each is taken wholly or not at all."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "bundles", nargs="*", metavar="FILE",
            help="Bundles, or folders of them; - for standard input, storage:ALIAS/path for one of Django's storages.",
        )  # fmt: skip
        parser.add_argument("--dry-run", action="store_true", help="Show what would be done; nothing is written.")
        parser.add_argument(
            "--on-conflict", choices=POLICIES, metavar="POLICY",
            help=f"Who wins where both sides changed an object: {', '.join(POLICIES)} (default: as the settings say).",
        )  # fmt: skip
        parser.add_argument(
            "--strict", action="store_true", help="Refuse a bundle with a change that cannot be applied."
        )
        parser.add_argument(
            "--allow-gap", action="store_true", help="Take a bundle although changes before it are missing."
        )
        parser.add_argument(
            "--any-destination", action="store_true",
            help="Take bundles that were written for another node too, as in a replay of an archive.",
        )  # fmt: skip
        parser.add_argument(
            "--until", type=_until, metavar="DATE|POSITION",
            help="Replay an archive up to a moment (or a position, of one node's bundles), into a deployment that has "
            "no changes of its own.",
        )  # fmt: skip
        parser.add_argument(
            "--retry-held",
            action="store_true",
            help="Try again what could not be applied before, without a bundle: after an upgrade of this deployment.",
        )
        parser.add_argument(
            "--identity", action="append", default=[], metavar="FILE",
            help="Read encrypted bundles with the identities in this file of age-keygen (or env:NAME) instead of those "
            "of the settings; may be given several times.",
        )  # fmt: skip
        parser.add_argument("--json", action="store_true", help="Print the numbers as one JSON object a bundle.")
        add_database(parser)

    def handle(self, *_args: Any, **options: Any) -> None:
        if options["retry_held"] == bool(options["bundles"]):
            raise CommandError(
                "Give bundles, or --retry-held without any: each import tries again what is held.", returncode=2
            )
        if options["retry_held"]:
            self._retry(options)
            return
        if options["until"] is not None:
            self._replay(options)
            return
        sources = [sys.stdin.buffer if name == "-" else name for name in options["bundles"]]
        taken = 0
        with self.working(options, interrupted="Interrupted. The bundle at hand was not taken; import it again."):
            for report in import_bundles(
                sources,
                on_conflict=options["on_conflict"],
                strict=options["strict"],
                allow_gap=options["allow_gap"],
                any_destination=options["any_destination"],
                dry_run=options["dry_run"],
                identity=options["identity"],
                notify=None if options["json"] else self._warn,
                using=options["database"],
            ):
                if options["json"]:
                    self.stdout.write(orjson.dumps(report.as_dict()).decode())
                else:
                    self._tell(report, verbosity=options["verbosity"])
                taken += 1
            if options["dry_run"] and taken > 1 and not options["json"]:
                self.say(
                    "Each was planned for the database as it is: what one of them brings, the next does not find here."
                )

    def _replay(self, options: dict[str, Any]) -> None:
        for name in ("on_conflict", "strict", "allow_gap"):
            if options[name]:
                raise CommandError(f"--until replays what was: leave --{name.replace('_', '-')} out.", returncode=2)
        if "-" in options["bundles"]:
            raise CommandError("--until reads bundles twice: give files or folders.", returncode=2)
        with self.working(options, interrupted="Interrupted. Run it again: what was taken is known then."):
            taken = 0
            for report in replay(
                options["bundles"],
                options["until"],
                dry_run=options["dry_run"],
                notify=None if options["json"] else self._warn,
                identity=options["identity"],
                using=options["database"],
            ):
                taken += 1
                if options["json"]:
                    self.stdout.write(orjson.dumps(report.as_dict()).decode())
                else:
                    self._tell(report, verbosity=options["verbosity"])
        if not taken:
            if options["json"]:
                self.stdout.write("{}")
            else:
                self.say("Nothing had been logged by then.")

    def _retry(self, options: dict[str, Any]) -> None:
        with self.working(options, interrupted="Interrupted. What is held is held as before."):
            report = retry_held(
                on_conflict=options["on_conflict"], dry_run=options["dry_run"], using=options["database"]
            )
        if options["json"]:
            self.stdout.write(orjson.dumps(report.as_dict()).decode())
            return
        self.say(f"{report.records} changes were held: {_numbers(report)}.")
        if report.dry_run:
            self._tell_models(report)
        self._tell_held(report, verbosity=options["verbosity"])

    def _warn(self, difference: Difference) -> None:
        """What is concerned is said before anything is written."""
        self.stdout.write(self.style.WARNING(f"  schema: {difference}"))

    def _tell(self, report: ImportReport, *, verbosity: int) -> None:
        if report.new_id is not None:
            self.stdout.write(
                self.style.WARNING(
                    "This database was restored from a backup: others have later changes of it. It goes on as "
                    f"{report.new_id}; its next bundle carries what they may lack."
                )
            )
        if report.sender_ahead * MICROSECONDS > tolerance():
            self.stdout.write(
                self.style.WARNING(
                    f"{report.file}: the clock of {report.node} is ahead of this machine's by "
                    f"{report.sender_ahead:.0f} seconds or more. Set both right."
                )
            )
        if report.own:
            self.say(f"{report.file}: written by this deployment itself ({report.node}); nothing to do.")
            return
        if report.from_seq == report.to_seq:
            self.say(f"{report.file}: nothing new, and what {report.node} has of the others.")
            return
        self.say(
            f"{report.file}: {report.records} records of {report.node}, "
            f"positions {report.from_seq + 1} to {report.to_seq}: {_numbers(report)}."
        )
        if report.dry_run:
            self._tell_models(report)
        self._tell_held(report, verbosity=verbosity)

    def _tell_models(self, report: ImportReport) -> None:
        """The plan as a table: a row a model, and the columns in which there is something."""
        columns = [(what, text) for what, text in _PLANNED if any(each.get(what) for each in report.models.values())]
        rows = [[label, *(counts.get(what, 0) for what, _ in columns)] for label, counts in report.models.items()]
        if rows:
            for line in table(["model", *(text for _, text in columns)], rows):
                self.say(f"  {line}")

    def _tell_held(self, report: ImportReport, *, verbosity: int) -> None:
        if verbosity > 1:
            for what, model, object_id in report.details:
                self.stdout.write(f"  {what:10} {model} {object_id}")
        for missing in report.missing_files:
            self.stdout.write(self.style.WARNING(f"  missing: {missing}"))
        for held in report.held_changes:
            self.stdout.write(self.style.WARNING(f"  held: {held.model} {held.id}: {held.reason}"))
        if report.held and not report.dry_run:
            self.say("Held changes are kept and tried again at each import. See `manage.py synchro_status`.")


def _until(text: str) -> Until:
    try:
        return parse_until(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error


def _numbers(report: ImportReport) -> str:
    would = "would be " if report.dry_run else ""
    said = ", ".join(
        f"{number} {would if text in ('added', 'changed', 'deleted') else ''}{text}"
        for name, text in _COUNTS
        if (number := getattr(report, name))
    )
    return said or "nothing to do"
