"""manage.py synchro_export: write what a destination has not got yet to a bundle."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator
from typing import Any

import orjson
from django.core.management.base import CommandError, OutputWrapper
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from synchro import handlers
from synchro.exporting import DEFAULT_DESTINATION, ExportReport, export_bundle
from synchro.management.commanding import SpokenCommand, add_database, bytes_of
from synchro.requests import answer
from synchro.scanning import scan
from synchro.splitting import export_parts, parse_size

SHOWN = 5


class Command(SpokenCommand):
    help = gettext_lazy("Writes the changes that a destination has not got yet to a bundle, a file to carry there.")
    examples = (
        "--to hq -o /media/stick",
        "--to hq --snapshot -o /media/stick",
        "--to hq --since 41 --until 57",
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "-o",
            "--output",
            metavar="FILE",
            help=_(
                "File or folder to write to, - for standard output, storage:ALIAS/folder/ for a storage of Django's "
                "(default: this folder)."
            ),
        )
        parser.add_argument(
            "--to",
            default=DEFAULT_DESTINATION,
            metavar="NAME",
            help=_("The destination: each has a position of its own (default: %(default)s)."),
        )
        parser.add_argument(
            "--since",
            type=int,
            metavar="SEQ",
            help=_("Begin after this position instead of where the destination is; it is not moved then."),
        )
        parser.add_argument(
            "--until", type=int, metavar="SEQ", help=_("End at this position; the destination is not moved then.")
        )
        parser.add_argument(
            "--overlap",
            type=int,
            default=0,
            metavar="N",
            help=_("Repeat the destination's previous N ranges, for links that nobody answers on."),
        )
        parser.add_argument(
            "--max-size",
            type=_size,
            metavar="SIZE",
            help=_("Write several bundles, none larger than this (4GB, 700MB), each with a range of its own."),
        )
        parser.add_argument(
            "--answer", metavar="REQUEST", help=_("Write just what a file of synchro_request asks for; see there.")
        )
        folded = parser.add_mutually_exclusive_group()
        folded.add_argument(
            "--squash",
            action="store_const",
            const="squash",
            dest="mode",
            help=_("One record an object: its newest state."),
        )
        folded.add_argument(
            "--snapshot",
            action="store_const",
            const="snapshot",
            dest="mode",
            help=_("A scan, and one record an object from the beginning: what a new deployment starts from."),
        )
        parser.add_argument(
            "--scan", action="store_true", help=_("First log what was written past the log, see synchro_scan.")
        )
        parser.add_argument(
            "--models",
            nargs="+",
            action="extend",
            metavar="MODEL",
            help=_("Only the changes of these models or apps. No position moves, here or at the importer."),
        )
        parser.add_argument(
            "--acknowledge",
            action="store_true",
            help=_(
                "Without anything new, write a bundle that only says what this node has of the others: for those who "
                "keep their log until they hear of it."
            ),
        )
        parser.add_argument(
            "--level",
            type=int,
            metavar="N",
            help=_("zstd's compression level, 1 to 19 (default: the option compression_level, 3)."),
        )
        parser.add_argument(
            "--frame-size",
            type=parse_size,
            metavar="SIZE",
            help=_(
                "Compress so much at a time, 4MiB at most: readers hold one frame in memory (default: 1MiB, and 4MiB "
                "from level 10 on)."
            ),
        )
        parser.add_argument(
            "--threads",
            type=int,
            metavar="N",
            help=_("Compress by so many threads, beside the reading of the log; 0 for none (default: 1)."),
        )
        parser.add_argument(
            "--with-files",
            action="store_true",
            help=_("Carry the contents of files too, but for those that the destination was sent before."),
        )
        parser.add_argument(
            "--encrypt-to",
            action="append",
            default=[],
            metavar="RECIPIENT",
            help=_(
                "Encrypt with age to this recipient (age1…, or a file of them) instead of those of the settings; may "
                "be given several times."
            ),
        )
        parser.add_argument(
            "--identity",
            action="append",
            default=[],
            metavar="FILE",
            help=_("Read an encrypted request with the identities in this file instead of those of the settings."),
        )
        parser.add_argument("--json", action="store_true", help=_("Print the numbers as one JSON object."))
        add_database(parser)

    def handle(self, *_args: Any, **options: Any) -> None:
        to_stdout = options["output"] == "-"
        talk = self.stderr if to_stdout else self.stdout
        with self.working(
            options, interrupted=_("Interrupted. No bundle was written and nothing was marked as exported.")
        ):
            found = 0
            for report in self._reports(bytes_of(sys.stdout) if to_stdout else options["output"], options):
                found += 1
                self._tell(report, talk, as_json=options["json"])
        if found and options["scan"] and options["verbosity"] and (repeated := handlers.repeated()):
            shown = ", ".join(repeated[:SHOWN]) + ("…" if len(repeated) > SHOWN else "")
            self.stderr.write(
                _(
                    "A scan logs what handlers and save() methods did, too, and where this is imported those of "
                    '%(models)s do it again: set SYNCHRO_APPLY = "raw" everywhere, or to "save" if that is meant.'
                )
                % {"models": shown}
            )
        if not found and options["json"]:
            talk.write(orjson.dumps({"bundle": None, "records": 0}).decode())
        elif not found:
            self.say(_("No changes since last export."), talk)

    @staticmethod
    def _reports(target: Any, options: dict[str, Any]) -> Iterator[ExportReport]:
        how = {name: options[name] for name in ("level", "frame_size", "threads", "with_files", "encrypt_to")}
        how["using"] = options["database"]
        whole = options["answer"] is not None or options["max_size"] is not None
        if whole and (options["mode"] or options["models"]):
            raise CommandError(
                _("--answer and --max-size write histories: leave --squash, --snapshot and --models out.")
            )
        if options["answer"] is not None:
            if options["since"] is not None or options["until"] is not None or options["overlap"]:
                raise CommandError(
                    _("--answer takes its range from the request: leave --since, --until, --overlap out.")
                )
            yield from answer(
                options["answer"], target, max_size=options["max_size"], identity=options["identity"], **how
            )
            return
        what = {name: options[name] for name in ("to", "since", "until", "overlap")}
        selected = {"mode": options["mode"] or "history", "models": options["models"], "scan": options["scan"]}
        selected["acknowledge"] = options["acknowledge"]
        if options["max_size"] is not None:
            if options["scan"]:
                scan(using=options["database"])
            yield from export_parts(target, max_size=options["max_size"], **what, **how)
        elif (report := export_bundle(target, **what, **selected, **how)) is not None:
            yield report

    def _tell(self, report: ExportReport, talk: OutputWrapper, *, as_json: bool) -> None:
        if as_json:
            talk.write(orjson.dumps(report.as_dict()).decode())
            return
        if report.new_id is not None:
            talk.write(
                self.style.WARNING(
                    _(
                        "This database was restored from a backup: it had written bundles that its log does not have "
                        "any more. It goes on as %(new_id)s. Import what others have of it before you go on working."
                    )
                    % {"new_id": report.new_id}
                )
            )
        if report.from_seq == report.to_seq:
            talk.write(
                _("%(file)s: no changes, and what %(node)s has of the others.")
                % {"file": report.file, "node": report.node}
            )
            return
        self.say(", ".join(_written(report)), talk)
        for missing in report.missing_files:
            talk.write(self.style.WARNING("  " + _("missing: %(file)s") % {"file": missing}))


def _written(report: ExportReport) -> Iterator[str]:
    text = ngettext(
        "%(file)s: %(records)d record, positions %(first)d to %(last)d of %(node)s, %(size)s",
        "%(file)s: %(records)d records, positions %(first)d to %(last)d of %(node)s, %(size)s",
        report.records,
    )
    yield text % {
        "file": report.file,
        "records": report.records,
        "first": report.from_seq + 1,
        "last": report.to_seq,
        "node": report.node,
        "size": _told_size(report.bytes),
    }
    if report.files:
        text = ngettext("with %(files)d file of %(size)s", "with %(files)d files of %(size)s", report.files)
        yield text % {"files": report.files, "size": _told_size(report.file_bytes)}


def _told_size(number: int) -> str:
    return filesizeformat(number).replace("\xa0", " ")  # which the terminal is told as an escape


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error
