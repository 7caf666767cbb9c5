"""manage.py synchro_export: write what a destination has not got yet to a bundle."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

import orjson
from django.template.defaultfilters import filesizeformat

from synchro.exporting import DEFAULT_DESTINATION, export_bundle
from synchro.management.commanding import SpokenCommand, add_database, reported


class Command(SpokenCommand):
    help = "Writes the changes that a destination has not got yet to a bundle, a file to carry there."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "-o",
            "--output",
            metavar="FILE",
            help="File or folder to write to, - for standard output (default: this folder).",
        )
        parser.add_argument(
            "--to", default=DEFAULT_DESTINATION, metavar="NAME",
            help="The destination: each has a position of its own (default: %(default)s).",
        )  # fmt: skip
        parser.add_argument(
            "--since", type=int, metavar="SEQ",
            help="Begin after this position instead of where the destination is; it is not moved then.",
        )  # fmt: skip
        parser.add_argument(
            "--until", type=int, metavar="SEQ", help="End at this position; the destination is not moved then."
        )
        parser.add_argument("--level", type=int, help="zstd's compression level, 1 to 19.")
        parser.add_argument("--json", action="store_true", help="Print the numbers as one JSON object.")
        add_database(parser)

    def handle(self, *_args: Any, **options: Any) -> None:
        to_stdout = options["output"] == "-"
        talk = self.stderr if to_stdout else self.stdout
        with reported(
            options["database"], interrupted="Interrupted. No bundle was written and nothing was marked as exported."
        ):
            report = export_bundle(
                sys.stdout.buffer if to_stdout else options["output"],
                to=options["to"],
                since=options["since"],
                until=options["until"],
                level=options["level"],
                using=options["database"],
            )
        if options["json"]:
            talk.write(orjson.dumps(report.as_dict() if report else {"bundle": None, "records": 0}).decode())
        elif report is None:
            talk.write("No changes since last export.")
        else:
            talk.write(
                f"{report.file}: {report.records} records, positions {report.from_seq + 1} to {report.to_seq} "
                f"of {report.node}, {filesizeformat(report.bytes)}"
            )
