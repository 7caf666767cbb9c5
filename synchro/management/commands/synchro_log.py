"""manage.py synchro_log: what happened to one object, change by change, field by field."""

from __future__ import annotations

from argparse import ArgumentParser
from contextlib import ExitStack
from typing import Any

import orjson
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, pgettext

from changelog_format import BundleReader, open_bundle
from changelog_format.history import ABSENT
from changelog_format.output import clean
from synchro import reasons, stored, timeline, trust
from synchro.importing import bundle_files
from synchro.management.commanding import SpokenCommand, add_database
from synchro.models import Action
from synchro.timeline import Step

_SHOWN = 100


class Command(SpokenCommand):
    help = gettext_lazy(
        "Shows the history of one object: who changed it when, where and why, and what that did to its "
        "fields; from the log of this deployment, or from bundles."
    )
    examples = (
        "shop.city Wrocław PL",
        "shop.city pk:5",
        "shop.city pk:5 --from /archive",
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("model", metavar="MODEL", help=_("As in shop.item."))
        parser.add_argument(
            "key",
            nargs="+",
            metavar="KEY",
            help=_("Its natural key, a word a value or one JSON array; or pk:5, its primary key; or its object id."),
        )
        parser.add_argument(
            "--from",
            nargs="+",
            action="extend",
            metavar="FILE",
            dest="files",
            help=_("Read bundles, or folders of them, instead of the log."),
        )
        parser.add_argument(
            "--identity",
            action="append",
            default=[],
            metavar="FILE",
            help=_(
                "Read encrypted bundles with the identities in this file instead of those of the settings; may be "
                "given several times."
            ),
        )
        parser.add_argument("--json", action="store_true", help=_("Print one JSON object a change."))
        add_database(parser)

    def handle(self, *_args: Any, **options: Any) -> None:
        key = timeline.parse_key(options["key"])
        with self.working(options, interrupted=_("Interrupted.")), ExitStack() as stack:
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
        text = ngettext("%(model)s %(name)s: %(number)d change", "%(model)s %(name)s: %(number)d changes", len(steps))
        self._say(text % {"model": last.model, "name": name, "number": len(steps)})
        for step in steps:
            self._tell(step)

    def _tell(self, step: Step) -> None:
        why = f": {step.reason}" if step.reason else ""
        self._say("")
        self._say(f"{step.date}  {Action(step.action).label}  {_where(step)}{why}", heading=True)
        if step.file:
            self._say("  " + _("in %(file)s") % {"file": step.file})
        for name, value in step.context.items():
            self._say("  " + _("with %(name)s %(value)s") % {"name": name, "value": _json(value)})
        if step.resolution:
            self._say("  " + _("decides a conflict"))
        if step.unaware:
            self._say("  " + _("made without knowing of the change before"), warning=True)
        if step.held:
            self._say("  " + _("held here: %(reason)s") % {"reason": reasons.told(step.held)}, warning=True)
        if step.link:
            self._say(f"  {'+' if step.action == 'link' else '-'} {step.link}: {self._shown(step.target)}")
        if step.same:
            self._say(
                "  "
                + _("%(one)s and %(other)s turned out to be one object") % {"one": step.same[0], "other": step.same[1]}
            )
        for each in step.fields:
            before = "" if each.before is ABSENT else f"{self._shown(each.before)} → "
            self._say(f"  {each.field}: {before}{self._shown(each.after)}")
        for name in step.withheld:
            self._say(f"  {name}: {pgettext('status', 'not told')}")
        if step.action == "change" and not (step.fields or step.withheld):
            self._say("  " + _("as it was before"))

    def _shown(self, value: Any) -> str:
        if value is ABSENT:
            return _("(no such field)")
        text = _json(value)
        if self._whole or len(text) <= _SHOWN:
            return text
        more = ngettext("%(text)s… (%(number)d character)", "%(text)s… (%(number)d characters)", len(text))
        return more % {"text": text[:_SHOWN], "number": len(text)}

    def _say(self, text: str, *, heading: bool = False, warning: bool = False) -> None:
        text = clean(text)
        self.stdout.write(
            self.style.MIGRATE_HEADING(text) if heading else self.style.WARNING(text) if warning else text
        )


def _where(step: Step) -> str:
    """Where it was made, and by whom."""
    if step.node is None:
        return _("not exported yet by %(actor)s") % {"actor": step.actor} if step.actor else _("not exported yet")
    text = _("%(node)s, position %(seq)d by %(actor)s") if step.actor else _("%(node)s, position %(seq)d")
    return text % {"node": step.node, "seq": step.seq, "actor": step.actor}


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
