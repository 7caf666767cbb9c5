"""manage.py synchro_conflicts: what was decided, what waits for a decision, and deciding it."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

import orjson
from django.core.management.base import CommandError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext, pgettext_lazy

from synchro.actors import REASON
from synchro.conflicts import ConflictInfo, conflict, conflicts, keep, merge, take
from synchro.management.commanding import SpokenCommand, add_database, cleaned

ACTIONS = ("list", "show", "take", "keep", "merge")

_KINDS = {
    "object": pgettext_lazy("conflict", "object"),
    "link": pgettext_lazy("conflict", "link"),
    "unlogged": pgettext_lazy("conflict", "unlogged"),
    "parent": pgettext_lazy("conflict", "parent"),
    "merge": pgettext_lazy("conflict", "merge"),
}
_WON = {
    "local": gettext_lazy("local won (%(policy)s)"),
    "incoming": gettext_lazy("incoming won (%(policy)s)"),
    "merged": gettext_lazy("both were merged (%(policy)s)"),
}
_RESOLVED = {
    "take": gettext_lazy("take by %(by)s"),
    "keep": gettext_lazy("keep by %(by)s"),
    "merge": gettext_lazy("merge by %(by)s"),
    "elsewhere": gettext_lazy("elsewhere by %(by)s"),
}
_RESOLVED_BY_SOMEBODY = {
    "take": gettext_lazy("take by somebody"),
    "keep": gettext_lazy("keep by somebody"),
    "merge": gettext_lazy("merge by somebody"),
    "elsewhere": gettext_lazy("elsewhere by somebody"),
}


class Command(SpokenCommand):
    help = gettext_lazy(
        "Conflicts: list those that wait for a decision, show both versions of one, take the incoming "
        "version, keep the local one, or merge them field by field. A decision travels with the next export."
    )
    examples = (
        "",
        "show 7",
        "take 7 --by ann",
        "merge 7 --incoming name --set population=674079",
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("action", nargs="?", choices=ACTIONS, default="list", help=_("What to do (default: list)."))
        parser.add_argument("numbers", nargs="*", type=int, metavar="NUMBER", help=_("As `list` shows them."))
        parser.add_argument("--all", action="store_true", help=_("list: also those that were decided."))
        parser.add_argument(
            "--incoming",
            nargs="+",
            action="extend",
            default=[],
            metavar="FIELD",
            help=_("merge: the fields to take from there."),
        )
        parser.add_argument(
            "--set",
            nargs="+",
            action="extend",
            default=[],
            metavar="FIELD=VALUE",
            help=_("merge: other values, as JSON or plain text."),
        )
        parser.add_argument("--by", default="", metavar="NAME", help=_("Who decided."))
        parser.add_argument("--json", action="store_true", help=_("Print a JSON object for each conflict."))
        add_database(parser)

    def handle(self, *_args: Any, **options: Any) -> None:
        action, numbers = options["action"], options["numbers"]
        if (action == "list") == bool(numbers):
            raise CommandError(
                _("list takes no number.") if numbers else _("Say which: %(action)s NUMBER.") % {"action": action}
            )
        with self.working(options, interrupted=_("Interrupted. Nothing was changed.")):
            if action in ("take", "keep", "merge"):
                found = self._decided(action, numbers, options)
            else:
                found = [conflict(number, using=options["database"]) for number in numbers]
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
                self.stdout.write(cleaned(_line(each)))
            if not found:
                self.stdout.write(_("Nothing waits for a decision."))

    def _decided(self, action: str, numbers: list[int], options: dict[str, Any]) -> list[ConflictInfo]:
        """The decisions, and after each the other conflicts that it ended: they were about the same object."""
        using, together = options["database"], {}
        for number in dict.fromkeys(numbers):
            together[number] = {number, *conflict(number, using=using).also}
            same = sorted(together[number].intersection(numbers))
            if len(same) > 1 and action != "keep":
                raise CommandError(
                    _("%(numbers)s are about the same object: decide for one of them.")
                    % {"numbers": ", ".join(map(str, same))}
                )
        found: list[ConflictInfo] = []
        for number in together:
            if number not in {each.id for each in found}:
                decided = self._one(action, number, options)
                found += [decided, *(conflict(each, using=using) for each in decided.also)]
        return found

    @staticmethod
    def _one(action: str, number: int, options: dict[str, Any]) -> ConflictInfo:
        using, by = options["database"], options["by"]
        if action == "take":
            return take(number, by=by, using=using)
        if action == "keep":
            return keep(number, by=by, using=using)
        return merge(number, incoming=options["incoming"], values=_assigned(options["set"]), by=by, using=using)

    def _show(self, each: ConflictInfo) -> None:
        self.stdout.write(cleaned(_line(each)))
        for name, side in ((pgettext("side", "here"), each.local), (pgettext("side", "incoming"), each.incoming)):
            told = [_made(side)]
            if why := (side.get("context") or {}).get(REASON):
                told.append(_text(why))
            if side.get("action") == "delete":
                told.append(pgettext("side", "deleted"))
            self.stdout.write(cleaned(f"  {name:9} {', '.join(told)}"))
        untold = each.untold()
        for name in [*each.differing(), *untold]:
            mine, theirs = (_told(side, name, untold) for side in (each.local, each.incoming))
            text = _("%(field)s: %(mine)s here, %(theirs)s incoming")
            self.stdout.write(cleaned("  " + text % {"field": name, "mine": mine, "theirs": theirs}))


def _told(side: Mapping[str, Any], name: str, untold: Collection[str]) -> str:
    fields = side.get("fields") or {}
    return pgettext("status", "not told") if name in untold and name not in fields else _text(fields.get(name))


def _made(side: Mapping[str, Any]) -> str:
    """When one side was made, where, and by whom."""
    date, node, actor = side.get("date"), side.get("node"), side.get("actor")
    if date is None:
        text = _("never logged at this deployment")
    elif node is None:
        text = _("%(date)s at this deployment by %(actor)s") if actor else _("%(date)s at this deployment")
    else:
        text = _("%(date)s at %(node)s by %(actor)s") if actor else _("%(date)s at %(node)s")
    return text % {"date": date, "node": node, "actor": actor}


def _text(value: Any) -> str:
    return orjson.dumps(value).decode()


def _line(each: ConflictInfo) -> str:
    name = f"{each.model} {_text(each.key) if each.key is not None else each.object}"
    about = f" {each.link.partition(':')[0]}" if each.link else ""
    state = _state(each)
    if each.also:
        state = _("%(state)s, which ends %(numbers)s, too") % {
            "state": state,
            "numbers": ", ".join(map(str, each.also)),
        }
    return f"{each.id}  {name}{about}: {_KINDS.get(each.kind, each.kind)}, {state}"


def _state(each: ConflictInfo) -> str:
    if each.resolution:
        return str(
            (_RESOLVED if each.resolved_by else _RESOLVED_BY_SOMEBODY)[each.resolution] % {"by": each.resolved_by}
        )
    if each.held:
        return _("waits for a decision")
    return str(_WON[each.winner] % {"policy": each.policy})


def _assigned(texts: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign:
            raise CommandError(_("%(text)r: write FIELD=VALUE.") % {"text": text})
        try:
            found[name] = orjson.loads(value)
        except orjson.JSONDecodeError:
            found[name] = value
    return found
