"""Conflicts side by side, and deciding them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from copy import copy
from typing import Any

import orjson
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, pgettext

from synchro import conflicts, reasons, registry, values
from synchro.actors import REASON
from synchro.admin import display, permissions
from synchro.admin.base import ReadOnlyAdmin, outside_transactions, page
from synchro.admin.filters import ModelFilter, WaitingFilter
from synchro.admin.log import history_url
from synchro.admin.saying import sentence
from synchro.conflicts import ConflictInfo
from synchro.errors import ResolveError
from synchro.models import Conflict
from synchro.naming import key_text

DECIDE = "synchro_conflict_decide"
CHOICE, OTHER = "choice-", "value-"
HERE, THERE, ELSE = "here", "incoming", "other"
_GIVEN = "synchro_given"
_NOTHING: Mapping[str, Any] = {}


class ConflictAdmin(ReadOnlyAdmin):
    """Conflicts, decided or waiting."""

    list_display = ("what", "of_model", "about", "state", "recorded")
    list_filter = (WaitingFilter, ModelFilter)
    search_fields = ("key", "object_id", "pk_text")
    in_lines = True
    explanation = gettext_lazy(
        "Two places changed the same thing without knowing of each other. Where nobody has decided yet, what is here "
        "stays as it is until somebody does."
    )
    empty = gettext_lazy("Nothing waits for a decision.")
    change_form_template = "synchro/admin/conflict.html"

    @admin.display(description=gettext_lazy("object"))
    def what(self, conflict: Conflict) -> str:
        """What the object is called."""
        return _named(conflicts.info(conflict))

    @admin.display(description=gettext_lazy("model"))
    def of_model(self, conflict: Conflict) -> str:
        """The model's name."""
        return display.model_name(conflict.model)

    @admin.display(description=gettext_lazy("about"))
    def about(self, conflict: Conflict) -> str:
        """What kind of conflict it is."""
        if conflict.kind == "object" and _one_deleted(conflicts.info(conflict)):
            return _("deleted in one place, changed in the other")
        return _kinds().get(conflict.kind, conflict.kind)

    @admin.display(description=gettext_lazy("state"))
    def state(self, conflict: Conflict) -> str:
        """Whether it waits, or how it ended."""
        return _state(conflicts.info(conflict))

    @admin.display(description=gettext_lazy("recorded"))
    def recorded(self, conflict: Conflict) -> str:
        """When the conflict was found."""
        return display.moment_text(conflict.created)

    def get_urls(self) -> list[Any]:
        def decide(request: HttpRequest, pk: int) -> HttpResponse:
            return self.decide(request, pk)

        view = self.admin_site.admin_view(outside_transactions(decide))
        return [path("<int:pk>/decide/", view, name=DECIDE), *super().get_urls()]

    def called(self, obj: Conflict) -> str:
        return self.what(obj)

    def facts(self, obj: Conflict) -> list[tuple[str, Any]]:
        found = conflicts.info(obj)
        return [
            (
                _("Object"),
                format_html(
                    '<a href="{}">{}</a>', history_url(self.admin_site, found.model, obj.pk_text), _named(found)
                ),
            ),
            (_("Model"), self.of_model(obj)),
            (_("State"), _state(found)),
            (_("Recorded"), self.recorded(obj)),
        ]

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        found = _current(kwargs["obj"])
        context.update(
            conflict=found,
            explained=f"{_explained(found)} {_others(found)}".strip(),
            sides=_sides(found),
            rows=_rows(found, {}, getattr(request, _GIVEN, {})),
            mergeable=_mergeable(found),
            may_decide=found.held and request.user.has_perm(permissions.RESOLVE),
            decide_url=self.address(DECIDE, found.id),
        )
        return super().render_change_form(request, context, *args, **kwargs)

    def decide(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Ask once more, with what would become of it; then do it."""
        permissions.require(request, permissions.RESOLVE)
        shown = HttpResponseRedirect(self.address("synchro_conflict_change", pk))
        how = request.POST.get("how", "")
        if request.method != "POST" or how not in ("take", "keep", "merge"):
            return shown
        try:
            row = Conflict.objects.filter(pk=pk).first()
            if row is None:
                raise Http404
            found = _current(row)
            incoming, given = _chosen(found, request.POST) if how == "merge" else ([], {})
            if not found.held:
                raise ResolveError(_("This conflict does not wait for a decision any more."))
            if "confirm" in request.POST:
                if request.POST.get("seen") != _seen(found):
                    raise ResolveError(_("Something changed in the meantime. Look at it again."))
                by = request.user.get_username()[: conflicts.BY_LENGTH]
                if how == "take":
                    conflicts.take(pk, by=by)
                elif how == "keep":
                    conflicts.keep(pk, by=by)
                else:
                    conflicts.merge(pk, incoming=incoming, values=given, by=by)
                messages.success(request, _("It is decided. The other places are told with the next export."))
                return HttpResponseRedirect(self.address("synchro_conflict_changelist"))
        except ResolveError as error:
            messages.error(request, sentence(error))
            return shown
        except _WrongValueError as error:
            messages.error(request, str(error))
            return self._once_more(request, pk)
        return page(
            self.admin_site,
            request,
            "synchro/admin/conflict_confirm.html",
            {
                "title": _("Are you sure?"),
                "opts": self.opts,
                "conflict": found,
                "name": _named(found),
                "how": how,
                "told": f"{_outcome(how, found)} {_others(found)}".strip(),
                "rows": _rows(found, _after(how, found, incoming, given)),
                "hidden": [(name, value) for name, value in request.POST.items() if name.startswith((CHOICE, OTHER))],
                "seen": _seen(found),
                "back_url": shown.url,
                "media": self.media,
            },
        )

    def _once_more(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The page of the conflict, with what was chosen and filled in."""
        again = copy(request)
        again.method = "GET"
        setattr(again, _GIVEN, request.POST)
        return self.change_view(again, str(pk))


class _WrongValueError(Exception):
    """What was filled in is no value of the field."""


def _current(row: Conflict) -> ConflictInfo:
    found = conflicts.info(row, conflicts.waiting_with(row))
    return conflicts.present(found, row.pk_text) if found.held else found


def _seen(found: ConflictInfo) -> str:
    """What stands for everything that the user was shown."""
    shown = orjson.dumps([found.id, found.local, found.incoming, found.also], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(shown).hexdigest()


# --- words ------------------------------------------------------------------------------------------------------------


def _named(found: ConflictInfo) -> str:
    return key_text(found.key) if found.key else found.object


def _kinds() -> dict[str, str]:
    return {
        "object": _("both places changed it"),
        "link": _("a link"),
        "unlogged": _("changed here past the log"),
        "parent": _("deleted in one place, needed in the other"),
        "merge": _("two entries for one object"),
    }


def _one_deleted(found: ConflictInfo) -> bool:
    return "delete" in (found.local.get("action"), found.incoming.get("action"))


def _explained(found: ConflictInfo) -> str:
    """In plain words what happened."""
    if found.kind == "object" and _one_deleted(found):
        return _("One place deleted this while the other changed it.")
    return {
        "object": _("Two places changed this without knowing of each other."),
        "link": _("One place connected two things, and the other disconnected them."),
        "unlogged": _(
            "Something was written here that was not recorded, and an import changed it. What was here before is kept "
            "below."
        ),
        "parent": _(
            "One place deleted this, but something that belongs to it is still used in another place. So it was "
            "brought back. Delete it again if nobody needs it."
        ),
        "merge": _("Two places entered the same thing. They were joined into one; what was different is kept below."),
    }.get(found.kind, "")


def _state(found: ConflictInfo) -> str:
    if found.held:
        return _("waits for a decision")
    by = found.resolved_by or _("somebody")
    ended = {
        "take": _("the incoming version was taken, by %(by)s") % {"by": by},
        "keep": _("what was here was kept, by %(by)s") % {"by": by},
        "merge": _("merged, by %(by)s") % {"by": by},
        "elsewhere": _("decided elsewhere (%(by)s)") % {"by": by},
    }.get(found.resolution)
    if ended:
        return ended
    return {
        "local": _("decided by the rule: what was here stayed"),
        "incoming": _("decided by the rule: the incoming version won"),
        "merged": _("decided by the rule: both were combined"),
    }.get(found.winner, found.winner)


def _others(found: ConflictInfo) -> str:
    """That a decision ends more than what is shown."""
    if not found.also:
        return ""
    text = ngettext(
        "There is one more version of this that waits for a decision. One decision ends them all.",
        "There are %(number)d more versions of this that wait for a decision. One decision ends them all.",
        len(found.also),
    )
    return text % {"number": len(found.also)}


def _outcome(how: str, found: ConflictInfo) -> str:
    sides = {"keep": found.local, "take": found.incoming}
    if how in sides and sides[how].get("action") == "delete":
        return _("It will be deleted, here and in the other places.")
    return {
        "take": _("The incoming version will be taken, here and in the other places."),
        "keep": _("What is here will stay, and the other places will follow."),
        "merge": _("The values chosen below will be written, here and in the other places."),
    }[how]


def _sides(found: ConflictInfo) -> list[dict[str, str]]:
    return [
        {
            "title": title,
            "when": display.moment_text(side.get("date")),
            "node": side.get("node") or _("this deployment"),
            "actor": side.get("actor") or _("not known"),
            "reason": str((side.get("context") or {}).get(REASON, "")),
            "state": _side_state(found, side),
        }
        for title, side in ((_("Here"), found.local), (_("Incoming"), found.incoming))
    ]


def _side_state(found: ConflictInfo, side: Mapping[str, Any]) -> str:
    if not found.link:
        return _("deleted") if side.get("action") == "delete" else ""
    return _("not connected") if side.get("action") in ("delete", "unlink") else _("connected")


# --- fields -----------------------------------------------------------------------------------------------------------


def _mergeable(found: ConflictInfo) -> bool:
    """Whether there are two states, whose fields can be chosen one by one."""
    return bool(found.local.get("fields") and found.incoming.get("fields") and found.differing())


def _value(side: Mapping[str, Any], name: str) -> Any:
    value, ref = (side.get("fields") or {}).get(name), (side.get("refs") or {}).get(name)
    return ref if ref is not None and not isinstance(value, list) else value


def _rows(found: ConflictInfo, after: Mapping[str, str], posted: Mapping[str, Any] = _NOTHING) -> list[dict[str, Any]]:
    """Every field of both sides, those that differ first; with what was chosen before, if it was."""
    differing = set(found.differing())
    names = dict.fromkeys([*(found.local.get("fields") or {}), *(found.incoming.get("fields") or {})])
    return [
        {
            "field": name,
            "name": display.field_name(found.model, name),
            "here": _text(found, found.local, name),
            "there": _text(found, found.incoming, name),
            "differs": name in differing,
            "after": after.get(name, ""),
            "own": _may_be_given(found.model, name),
            "choice": f"{CHOICE}{name}",
            "chosen": posted.get(f"{CHOICE}{name}", HERE),
            "given": posted.get(f"{OTHER}{name}", ""),
            "value": f"{OTHER}{name}",
        }
        for name in sorted(names, key=lambda each: each not in differing)
    ]


def _text(found: ConflictInfo, side: Mapping[str, Any], name: str) -> str:
    fields = side.get("fields")
    if not fields:
        return display.NOTHING
    if name not in fields:
        return pgettext("status", "not told")
    return display.value_text(found.model, name, _value(side, name))


def _may_be_given(label: str, name: str) -> bool:
    """Whether a value of one's own can be written into a line of text."""
    field = display.field_of(label, name)
    return field is not None and not field.is_relation and field.get_internal_type() not in _NO_TEXT


_NO_TEXT = {"BinaryField", "FileField", "ImageField", "JSONField"}


def _chosen(found: ConflictInfo, posted: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """The fields that are taken from there, and the values that were filled in."""
    incoming: list[str] = []
    given: dict[str, Any] = {}
    for name in found.differing():
        choice = posted.get(f"{CHOICE}{name}", HERE)
        if choice == THERE:
            incoming.append(name)
        elif choice == ELSE:
            given[name] = _parsed(found.model, name, str(posted.get(f"{OTHER}{name}", "")))
    return incoming, given


def _parsed(label: str, name: str, text: str) -> Any:
    model = registry.by_label(label)
    field = next((each for each in registry.spec(model).fields if each.name == name), None) if model else None
    if field is None or not _may_be_given(label, name):
        raise _WrongValueError(_("%(field)s cannot be filled in.") % {"field": name})
    try:
        form_field = field.formfield()
        value = form_field.clean(text) if form_field is not None else field.clean(text, None)
        return values.encode(field, value)
    except (ValidationError, values.UndecodableValueError, TypeError, ValueError) as error:
        told = " ".join(error.messages) if isinstance(error, ValidationError) else reasons.told(str(error))
        shown = display.field_name(label, name)
        raise _WrongValueError(_("%(field)s: %(error)s") % {"field": shown, "error": told}) from error


def _after(how: str, found: ConflictInfo, incoming: list[str], given: Mapping[str, Any]) -> dict[str, str]:
    """Field → what it will be."""
    names = dict.fromkeys([*(found.local.get("fields") or {}), *(found.incoming.get("fields") or {})])
    after: dict[str, str] = {}
    for name in names:
        side = found.incoming if how == "take" or name in incoming else found.local
        own = name in given
        after[name] = display.value_text(found.model, name, given[name]) if own else _text(found, side, name)
    return after
