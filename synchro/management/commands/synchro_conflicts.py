"""manage.py synchro_conflicts: what was decided, what waits for a decision, and deciding it."""

from __future__ import annotations

from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

import orjson
from django.core.management.base import CommandError

from synchro.actors import REASON
from synchro.conflicts import ConflictInfo, conflict, conflicts, keep, merge, take
from synchro.management.commanding import SpokenCommand, add_database

ACTIONS = ("list", "show", "take", "keep", "merge")


class Command(SpokenCommand):
    help = (
        "Conflicts: list those that wait for a decision, show both versions of one, take the incoming version, keep "
        "the local one, or merge them field by field. A decision travels with the next export."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("action", nargs="?", choices=ACTIONS, default="list")
        parser.add_argument("numbers", nargs="*", type=int, metavar="NUMBER", help="As `list` shows them.")
        parser.add_argument("--all", action="store_true", help="list: also those that were decided.")
        parser.add_argument(
            "--incoming", nargs="+", default=[], metavar="FIELD", help="merge: the fields to take from there."
        )
        parser.add_argument(
            "--set", nargs="+", default=[], metavar="FIELD=VALUE", help="merge: other values, as JSON or plain text."
        )
        parser.add_argument("--by", default="", metavar="NAME", help="Who decided.")
        parser.add_argument("--json", action="store_true", help="Print a JSON object for each conflict.")
        add_database(parser)

    def handle(self, *_args: Any, **options: Any) -> None:
        action, numbers = options["action"], options["numbers"]
        if (action == "list") == bool(numbers):
            raise CommandError("list takes no number." if numbers else f"Say which: {action} NUMBER.")
        with self.working(options, interrupted="Interrupted. Nothing was changed."):
            found = [self._one(action, number, options) for number in numbers]
            if action == "list":
                found = conflicts(held=None if options["all"] else True, using=options["database"])
        if options["json"]:
            for each in found:
                self.stdout.write(orjson.dumps(asdict(each)).decode())
        elif action == "show":
            for each in found:
                self._show(each)
        else:
            for each in found:
                self.stdout.write(_line(each))
            if not found:
                self.stdout.write("Nothing waits for a decision.")

    @staticmethod
    def _one(action: str, number: int, options: dict[str, Any]) -> ConflictInfo:
        using, by = options["database"], options["by"]
        if action == "show":
            return conflict(number, using=using)
        if action == "take":
            return take(number, by=by, using=using)
        if action == "keep":
            return keep(number, by=by, using=using)
        return merge(number, incoming=options["incoming"], values=_assigned(options["set"]), by=by, using=using)

    def _show(self, each: ConflictInfo) -> None:
        self.stdout.write(_line(each))
        for name, side in (("here", each.local), ("incoming", each.incoming)):
            who = f" by {side['actor']}" if side.get("actor") else ""
            when = f"{side.get('date', 'never logged')} at {side.get('node', 'this deployment')}{who}"
            why = (side.get("context") or {}).get(REASON)
            told = f", {_text(why)}" if why else ""
            self.stdout.write(f"  {name:9} {when}{told}{', deleted' if side.get('action') == 'delete' else ''}")
        for name in each.differing():
            mine, theirs = ((side.get("fields") or {}).get(name) for side in (each.local, each.incoming))
            self.stdout.write(f"  {name}: {_text(mine)} here, {_text(theirs)} incoming")


def _text(value: Any) -> str:
    return orjson.dumps(value).decode()


def _line(each: ConflictInfo) -> str:
    name = f"{each.model} {_text(each.key) if each.key is not None else each.object}"
    about = f" {each.link.partition(':')[0]}" if each.link else ""
    state = "waits for a decision" if each.held else f"{each.winner} won ({each.policy})"
    if each.resolution:
        state = f"{each.resolution} by {each.resolved_by or 'somebody'}"
    return f"{each.id}  {name}{about}: {each.kind}, {state}"


def _assigned(texts: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign:
            raise CommandError(f"{text!r}: write FIELD=VALUE.")
        try:
            found[name] = orjson.loads(value)
        except orjson.JSONDecodeError:
            found[name] = value
    return found
