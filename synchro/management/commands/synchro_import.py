"""manage.py synchro_import: verify bundles, plan, and apply them."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import orjson
from django.core.management.base import CommandError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, ngettext_lazy, pgettext_lazy

from changelog_format.output import table
from synchro import reasons
from synchro.conf import POLICIES
from synchro.drift import Difference
from synchro.import_report import DETAILS, PREVIEWED
from synchro.importing import ImportReport, PassedOver, import_bundles, retry_held
from synchro.management.commanding import SpokenCommand, add_database, bytes_of, cleaned
from synchro.replaying import Until, parse_until, replay
from synchro.restoring import told
from synchro.seal import MICROSECONDS, tolerance

_COUNTS = {
    "added": ngettext_lazy("%(number)d added", "%(number)d added", "number"),
    "changed": ngettext_lazy("%(number)d changed", "%(number)d changed", "number"),
    "deleted": ngettext_lazy("%(number)d deleted", "%(number)d deleted", "number"),
    "m2m": ngettext_lazy("%(number)d m2m link changed", "%(number)d m2m links changed", "number"),
    "merged": ngettext_lazy(
        "%(number)d merged with an object that was here", "%(number)d merged with an object that was here", "number"
    ),
    "objects": ngettext_lazy(
        "%(number)d row created that tracked ones point to",
        "%(number)d rows created that tracked ones point to",
        "number",
    ),
    "files": ngettext_lazy("%(number)d file written", "%(number)d files written", "number"),
    "unchanged": ngettext_lazy("%(number)d the same here already", "%(number)d the same here already", "number"),
    "already_known": ngettext_lazy("%(number)d known already", "%(number)d known already", "number"),
    "stale": ngettext_lazy("%(number)d older than what is here", "%(number)d older than what is here", "number"),
    "conflicts": ngettext_lazy("%(number)d conflict", "%(number)d conflicts", "number"),
    "held": ngettext_lazy("%(number)d held", "%(number)d held", "number"),
}
# The same of a preview.
_WOULD = {
    "added": ngettext_lazy("%(number)d would be added", "%(number)d would be added", "number"),
    "changed": ngettext_lazy("%(number)d would be changed", "%(number)d would be changed", "number"),
    "deleted": ngettext_lazy("%(number)d would be deleted", "%(number)d would be deleted", "number"),
}

# What ``ImportReport.models`` counts, as it is called in the table of a preview.
_PLANNED = (
    ("added", pgettext_lazy("preview", "added")),
    ("changed", pgettext_lazy("preview", "changed")),
    ("deleted", pgettext_lazy("preview", "deleted")),
    ("m2m", pgettext_lazy("preview", "links")),
    ("merged", pgettext_lazy("preview", "merged")),
    ("conflict", pgettext_lazy("preview", "conflicts")),
    ("held", pgettext_lazy("preview", "held")),
    ("unchanged", pgettext_lazy("preview", "same")),
    ("stale", pgettext_lazy("preview", "older")),
)

# What happened to one object, as ``-v 2`` lists it.
_HAPPENED = {
    "added": pgettext_lazy("preview", "added"),
    "changed": pgettext_lazy("preview", "changed"),
    "conflict": pgettext_lazy("preview", "conflict"),
    "deleted": pgettext_lazy("preview", "deleted"),
    "held": pgettext_lazy("preview", "held"),
    "m2m": pgettext_lazy("preview", "m2m"),
    "merged": pgettext_lazy("preview", "merged"),
    "stale": pgettext_lazy("preview", "stale"),
    "unchanged": pgettext_lazy("preview", "unchanged"),
}

NAMED = 3


class Command(SpokenCommand):
    help = gettext_lazy("Verifies bundles and applies them. Each is taken wholly or not at all.")
    examples = (
        "/media/stick --dry-run",
        "/media/stick",
        "--retry-held",
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "bundles",
            nargs="*",
            metavar="FILE",
            help=_(
                "Bundles, or folders of them; - for standard input, storage:ALIAS/path for one of Django's storages."
            ),
        )
        parser.add_argument("--dry-run", action="store_true", help=_("Show what would be done; nothing is written."))
        parser.add_argument(
            "--on-conflict",
            choices=POLICIES,
            metavar="POLICY",
            help=_("Who wins where both sides changed an object: %(policies)s (default: as the settings say).")
            % {"policies": ", ".join(POLICIES)},
        )
        parser.add_argument(
            "--strict", action="store_true", help=_("Refuse a bundle with a change that cannot be applied.")
        )
        parser.add_argument(
            "--allow-gap", action="store_true", help=_("Take a bundle although changes before it are missing.")
        )
        parser.add_argument(
            "--any-destination",
            action="store_true",
            help=_("Take bundles that were written for another node too, as in a replay of an archive."),
        )
        parser.add_argument(
            "--until",
            type=_until,
            metavar="DATE|POSITION",
            help=_(
                "Replay an archive up to a moment (or a position, of one node's bundles), into a deployment that has "
                "no changes of its own."
            ),
        )
        parser.add_argument(
            "--retry-held",
            action="store_true",
            help=_(
                "Try again what could not be applied before, without a bundle: after an upgrade of this deployment."
            ),
        )
        parser.add_argument(
            "--identity",
            action="append",
            default=[],
            metavar="FILE",
            help=_(
                "Read encrypted bundles with the identities in this file of age-keygen (or env:NAME) instead of "
                "those of the settings; may be given several times."
            ),
        )
        parser.add_argument("--json", action="store_true", help=_("Print the numbers as one JSON object a bundle."))
        add_database(parser)

    def handle(self, *_args: Any, **options: Any) -> None:
        if options["retry_held"] == bool(options["bundles"]):
            raise CommandError(
                _("Give bundles, or --retry-held without any: each import tries again what is held."), returncode=2
            )
        if options["retry_held"]:
            self._retry(options)
            return
        if options["until"] is not None:
            self._replay(options)
            return
        taken: list[str] = []
        interrupted = _("Interrupted. The bundle at hand was not taken; import it again.")
        before = [] if options["dry_run"] else taken
        with _telling_apart(before), self.working(options, interrupted=interrupted):
            sources = [bytes_of(sys.stdin) if name == "-" else name for name in options["bundles"]]
            for report in import_bundles(
                sources,
                on_conflict=options["on_conflict"],
                strict=options["strict"],
                allow_gap=options["allow_gap"],
                any_destination=options["any_destination"],
                dry_run=options["dry_run"],
                identity=options["identity"],
                notify=None if options["json"] else self._warn,
                passed_over=self._pass_over,
                using=options["database"],
            ):
                if options["json"]:
                    self.stdout.write(orjson.dumps(report.as_dict()).decode())
                else:
                    self._tell(report, verbosity=options["verbosity"])
                taken.append(report.file)
            if options["dry_run"] and len(taken) > 1 and not options["json"]:
                self.say(
                    _(
                        "Each was planned for the database as it is: what one of them brings, the next does not find "
                        "here."
                    )
                )

    def _replay(self, options: dict[str, Any]) -> None:
        for name in ("on_conflict", "strict", "allow_gap"):
            if options[name]:
                raise CommandError(
                    _("--until replays what was: leave %(option)s out.") % {"option": f"--{name.replace('_', '-')}"},
                    returncode=2,
                )
        if "-" in options["bundles"]:
            raise CommandError(_("--until reads bundles twice: give files or folders."), returncode=2)
        taken: list[str] = []
        before = [] if options["dry_run"] else taken
        interrupted = _("Interrupted. Run it again: what was taken is known then.")
        with _telling_apart(before), self.working(options, interrupted=interrupted):
            for report in replay(
                options["bundles"],
                options["until"],
                dry_run=options["dry_run"],
                notify=None if options["json"] else self._warn,
                identity=options["identity"],
                using=options["database"],
            ):
                taken.append(report.file)
                if options["json"]:
                    self.stdout.write(orjson.dumps(report.as_dict()).decode())
                else:
                    self._tell(report, verbosity=options["verbosity"])
        if not taken:
            if options["json"]:
                self.stdout.write("{}")
            else:
                self.say(_("Nothing had been logged by then."))

    def _retry(self, options: dict[str, Any]) -> None:
        with self.working(options, interrupted=_("Interrupted. What is held is held as before.")):
            report = retry_held(
                on_conflict=options["on_conflict"], dry_run=options["dry_run"], using=options["database"]
            )
        if options["json"]:
            self.stdout.write(orjson.dumps(report.as_dict()).decode())
            return
        text = ngettext(
            "%(records)d change was held: %(numbers)s.", "%(records)d changes were held: %(numbers)s.", report.records
        )
        self.say(text % {"records": report.records, "numbers": _numbers(report)})
        if report.dry_run:
            self._tell_models(report)
        self._tell_held(report, verbosity=options["verbosity"])

    def _warn(self, difference: Difference) -> None:
        """What is concerned is said before anything is written."""
        self.warn("  " + _("schema: %(difference)s") % {"difference": difference})

    def _pass_over(self, bundle: PassedOver) -> None:
        self.say(_("%(file)s: left alone. %(why)s") % {"file": bundle.file, "why": bundle.why}, self.stderr)

    def _tell(self, report: ImportReport, *, verbosity: int) -> None:
        if report.new_id is not None:
            self.warn(told(report.new_id))
        if report.sender_ahead * MICROSECONDS > tolerance():
            self.warn(
                ngettext(
                    "%(file)s: the clock of %(node)s is ahead of this machine's by %(seconds)d second or more. "
                    "Set both right.",
                    "%(file)s: the clock of %(node)s is ahead of this machine's by %(seconds)d seconds or more. "
                    "Set both right.",
                    seconds := round(report.sender_ahead),
                )
                % {"file": report.file, "node": report.node, "seconds": seconds}
            )
        if report.withheld:
            self.warn(
                _("%(file)s: %(node)s does not tell this deployment %(fields)s. What it has there goes to nobody.")
                % {"file": report.file, "node": report.node, "fields": ", ".join(report.withheld)}
            )
        if report.own:
            self.say(
                _("%(file)s: written by this deployment itself (%(node)s); nothing to do.")
                % {"file": report.file, "node": report.node}
            )
            return
        if report.from_seq == report.to_seq:
            self.say(
                _("%(file)s: nothing new, and what %(node)s has of the others.")
                % {"file": report.file, "node": report.node}
            )
            return
        text = ngettext(
            "%(file)s: %(records)d record of %(node)s, positions %(first)d to %(last)d: %(numbers)s.",
            "%(file)s: %(records)d records of %(node)s, positions %(first)d to %(last)d: %(numbers)s.",
            report.records,
        )
        self.say(
            text
            % {
                "file": report.file,
                "records": report.records,
                "node": report.node,
                "first": report.from_seq + 1,
                "last": report.to_seq,
                "numbers": _numbers(report),
            }
        )
        if report.dry_run:
            self._tell_models(report)
        self._tell_held(report, verbosity=verbosity)

    def _tell_models(self, report: ImportReport) -> None:
        """The plan as a table: a row a model, and the columns in which there is something."""
        columns = [(what, text) for what, text in _PLANNED if any(each.get(what) for each in report.models.values())]
        rows = [[label, *(counts.get(what, 0) for what, _text in columns)] for label, counts in report.models.items()]
        if rows:
            for line in table([_("model"), *(str(text) for _what, text in columns)], rows):
                self.say(f"  {line}")

    def _tell_held(self, report: ImportReport, *, verbosity: int) -> None:
        if verbosity > 1:
            width = max(map(len, map(str, _HAPPENED.values())))
            for what, model, object_id in report.details:
                called = _called(object_id, report.keys.get((model, object_id)))
                self.stdout.write(cleaned(f"  {_HAPPENED[what]!s:{width}}  {model} {called}"))
            if len(report.details) in (DETAILS, PREVIEWED):  # these are the first of more
                self.stdout.write("  …")
        for missing in report.missing_files:
            self.warn("  " + _("missing: %(file)s") % {"file": missing})
        for held in report.held_changes:
            self.warn(
                "  "
                + _("held: %(model)s %(id)s: %(reason)s")
                % {"model": held.model, "id": _called(held.id, held.key), "reason": reasons.told(held.reason)}
            )
        if report.held and not report.dry_run:
            self.say(_("Held changes are kept and tried again at each import. See `manage.py synchro_status`."))


@contextmanager
def _telling_apart(taken: Sequence[str]) -> Iterator[None]:
    """What is said when a file is refused is about that file; the *taken* ones before it are in."""
    try:
        yield
    except CommandError as error:
        if not taken:
            raise
        names = ", ".join(taken[-NAMED:]) if len(taken) <= NAMED else f"…, {', '.join(taken[-NAMED:])}"
        text = ngettext(
            "That is about this file alone. %(number)d was imported before it and stays: %(files)s.",
            "That is about this file alone. %(number)d were imported before it and stay: %(files)s.",
            len(taken),
        ) % {"number": len(taken), "files": cleaned(names)}
        raise CommandError(f"{error}\n{text}", returncode=error.returncode) from error


def _until(text: str) -> Until:
    try:
        return parse_until(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error


def _called(object_id: str, key: list[Any] | None) -> str:
    """What `synchro_log` calls the object, too."""
    return object_id if key is None else f"{orjson.dumps(key).decode()} ({object_id})"


def _numbers(report: ImportReport) -> str:
    texts = {**_COUNTS, **_WOULD} if report.dry_run else _COUNTS
    said = [str(text % {"number": number}) for name, text in texts.items() if (number := getattr(report, name))]
    return ", ".join(said) or _("nothing to do")
