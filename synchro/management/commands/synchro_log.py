"""manage.py synchro_log: what happened to one object, change by change, field by field."""

from __future__ import annotations

from argparse import ArgumentParser
from contextlib import ExitStack
from typing import Any

import orjson

from changelog_format import BundleReader, open_bundle
from changelog_format.history import ABSENT
from changelog_format.output import clean
from synchro import stored, timeline, trust
from synchro.importing import bundle_files
from synchro.management.commanding import SpokenCommand, add_database
from synchro.timeline import Step

_SHOWN = 100


class Command(SpokenCommand):
    help = (
        "Shows the history of one object: who changed it when, where and why, and what that did to its fields; from "
        "the log of this deployment, or from bundles."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("model", metavar="MODEL", help="As in shop.item.")
        parser.add_argument(
            "key", nargs="+", metavar="KEY",
            help="Its natural key, a word a value or one JSON array; or pk:5, its primary key; or its object id.",
        )  # fmt: skip
        parser.add_argument(
            "--from", nargs="+", metavar="FILE", dest="files",
            help="Read bundles, or folders of them, instead of the log.",
        )  # fmt: skip
        parser.add_argument(
            "--identity", action="append", default=[], metavar="FILE",
            help="Read encrypted bundles with the identities in this file instead of those of the settings; may be "
            "given several times.",
        )  # fmt: skip
        parser.add_argument("--json", action="store_true", help="Print one JSON object a change.")
        add_database(parser)

    def handle(self, *_args: Any, **options: Any) -> None:
        key = timeline.parse_key(options["key"])
        with self.working(options, interrupted="Interrupted."), ExitStack() as stack:
            if options["files"]:
                identities = trust.identities(options["identity"])

                def opened(path: str) -> BundleReader:
                    place = stored.parse(path)
                    source = path if place is None else place.fetch(stack)
                    return open_bundle(source, identities=identities)

                files = list(map(str, bundle_files(options["files"])))
                steps = timeline.from_bundles(files, options["model"], key, opened)
            else:
                steps = timeline.from_log(options["model"], key, using=options["database"])
        if options["json"]:
            for step in steps:
                self.stdout.write(orjson.dumps(step.as_dict()).decode())
            return
        self._whole = options["verbosity"] > 1
        last = steps[-1]
        name = last.id if last.key is None else f"{_json(last.key)} ({last.id})"
        self._say(f"{last.model} {name}: {len(steps)} change{'s' if len(steps) > 1 else ''}")
        for step in steps:
            self._tell(step)

    def _tell(self, step: Step) -> None:
        where = "not exported yet" if step.node is None else f"{step.node}, position {step.seq}"
        who = f" by {step.actor}" if step.actor else ""
        why = f": {step.reason}" if step.reason else ""
        self._say("")
        self._say(f"{step.date}  {step.action}  {where}{who}{why}", heading=True)
        if step.file:
            self._say(f"  in {step.file}")
        for name, value in step.context.items():
            self._say(f"  with {name} {_json(value)}")
        if step.resolution:
            self._say("  decides a conflict")
        if step.unaware:
            self._say("  made without knowing of the change before", warning=True)
        if step.held:
            self._say(f"  held here: {step.held}", warning=True)
        if step.link:
            self._say(f"  {'+' if step.action == 'link' else '-'} {step.link}: {self._shown(step.target)}")
        if step.same:
            self._say(f"  {step.same[0]} and {step.same[1]} turned out to be one object")
        for each in step.fields:
            before = "" if each.before is ABSENT else f"{self._shown(each.before)} → "
            self._say(f"  {each.field}: {before}{self._shown(each.after)}")
        if step.action == "change" and not step.fields:
            self._say("  as it was before")

    def _shown(self, value: Any) -> str:
        if value is ABSENT:
            return "(no such field)"
        text = _json(value)
        return text if self._whole or len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text)} characters)"

    def _say(self, text: str, *, heading: bool = False, warning: bool = False) -> None:
        text = clean(text)
        self.stdout.write(
            self.style.MIGRATE_HEADING(text) if heading else self.style.WARNING(text) if warning else text
        )


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
