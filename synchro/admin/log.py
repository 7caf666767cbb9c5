"""The log, and the history of one object."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import orjson
from django.contrib import admin
from django.contrib.admin.utils import quote, unquote
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import FieldError
from django.core.paginator import Paginator
from django.db import models
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import path
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext

from changelog_format.history import ABSENT
from synchro import naming, naturalkeys, pks, reasons, references, registry, tables, timeline
from synchro.actors import REASON
from synchro.admin import display, permissions
from synchro.admin.base import ReadOnlyAdmin, address, page
from synchro.admin.filters import ActorFilter, DateFilter, ModelFilter, OriginFilter
from synchro.admin.leafing import Leafing
from synchro.models import Action, ChangeLog, Node, Reference
from synchro.registry import ModelClass, ModelSpec

FOUND = 200
"""Objects of one model that a search may find."""
STEPS = 25
HISTORY = "synchro_history"


class _Changes(Leafing):
    def by_index(self) -> Iterable[tuple[QuerySet[Any], ...]]:
        if self.query:
            yield (self.queryset,)
        table = ChangeLog.objects.using(self.queryset.db)
        for each in self.filter_specs:
            if isinstance(each, ModelFilter) and (model := registry.by_label(str(each.value() or ""))) is not None:
                spec = registry.spec(model)
                yield (table.filter(root__in={spec.label, spec.root_label}),)
            elif isinstance(each, OriginFilter) and (origin := each.number()) is not None:
                made = (table.filter(origin=origin),)
                # What has no number yet is of the current node.
                here = Node.objects.filter(pk=origin, current=True).exists()
                yield (*made, table.filter(origin=None)) if here else made

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        names = naming.names_of(self.result_list)
        for row in self.result_list:
            row.synchro_name = names[row.pk]


@admin.display(description=gettext_lazy("when"))
def when(row: ChangeLog) -> str:
    """When the change was made, by the clock of who made it."""
    return display.moment_text(row.captured if row.date is None else row.date)


@admin.display(description=gettext_lazy("model"))
def of_model(row: ChangeLog) -> str:
    """The model's name."""
    return display.model_name(row.model)


@admin.display(description=gettext_lazy("where"))
def where(row: ChangeLog) -> str:
    """The node that made it."""
    return _("not exported yet") if row.origin is None else row.origin.ident


class ChangeLogAdmin(ReadOnlyAdmin):
    """The log, read-only."""

    list_display = (when, "action", of_model, "what", "actor", where)
    list_display_links = (when,)
    list_filter = (ModelFilter, "action", OriginFilter, ActorFilter, DateFilter)
    list_select_related = ("origin",)
    in_lines = True
    search_fields = ("pk_text",)
    search_help_text = gettext_lazy("A primary key, an object id (node/number), or the beginning of a natural key.")
    explanation = gettext_lazy("Every change of the tracked data, the newest first. Nothing can be edited here.")
    empty = gettext_lazy("No change is in the log that fits.")

    @admin.display(description=gettext_lazy("object"))
    def what(self, row: Any) -> str:
        """The object, with a link to its history."""
        name = getattr(row, "synchro_name", row.pk_text)
        url = history_url(self.admin_site, row.model, row.pk_text)
        return format_html('<a href="{}#change-{}">{}</a>', url, row.pk, name[:100])

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return _Changes

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        return (queryset.filter(_named(term, request.GET.get("model"))) if term else queryset), False

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.history)
        return [path("object/<str:label>/<path:key>/", view, name=HISTORY), *super().get_urls()]

    def called(self, obj: ChangeLog) -> str:
        return when(obj)

    def facts(self, obj: ChangeLog) -> list[tuple[str, Any]]:
        actor, context = naming.said(obj)
        name = naming.names_of([obj])[obj.pk]
        url = f"{history_url(self.admin_site, obj.model, obj.pk_text)}#change-{obj.pk}"
        return [
            (_("When"), when(obj)),
            (_("What"), Action(obj.action).label),
            (_("Model"), of_model(obj)),
            (_("Object"), format_html('<a href="{}">{}</a>', url, name)),
            (_("Who"), actor or display.NOTHING),
            (_("Why"), context.pop(REASON, None) or display.NOTHING),
            *((each, value) for each, value in context.items()),
            (_("Where"), where(obj)),
            (_("Position"), display.NOTHING if obj.origin_seq is None else obj.origin_seq),
            (_("Values"), format_html('<pre class="synchro-values">{}</pre>', _indented(obj.payload))),
        ]

    def history(self, request: HttpRequest, label: str, key: str) -> HttpResponse:
        """The history of one object."""
        permissions.require(request, permissions.VIEW_LOG)
        model, text = _model(label), unquote(key)
        number = request.GET.get("p", "1")
        start = (int(number) - 1) * STEPS if number.isdecimal() and 0 < int(number) < timeline.MOST else 0
        steps, total = timeline.of_row(model, text, start=start, number=STEPS)
        spec = registry.spec(model)
        paginator = Paginator(range(total), STEPS)
        return page(
            self.admin_site,
            request,
            "synchro/admin/history.html",
            {
                "title": _("Synchro history"),
                "opts": self.opts,
                "model": display.model_name(label),
                "name": _name(spec, text),
                "object_url": _change_url(self.admin_site, request, model, text),
                "steps": [_told(step) for step in steps],
                "total": total,
                "page": paginator.get_page(start // STEPS + 1),
                "media": self.media,
            },
        )


def history_url(site: admin.AdminSite, label: str, pk_text: str) -> str:
    """Where the history of an object is shown."""
    return address(site, HISTORY, label, quote(pk_text))


def _indented(payload: str) -> str:
    """What is in the log, as it is."""
    return display.cut(orjson.dumps(orjson.loads(payload), option=orjson.OPT_INDENT_2).decode()) if payload else ""


def _model(label: str) -> ModelClass:
    model = registry.by_label(label)
    if model is None:
        raise Http404(_("The model %(label)s is not installed here.") % {"label": label})
    return cast("ModelClass", model._meta.concrete_model)


def _name(spec: ModelSpec, text: str) -> str:
    return naming.names_of_rows(spec, [text], "default").get(text) or text


def _change_url(site: admin.AdminSite, request: HttpRequest, model: ModelClass, text: str) -> str:
    """The page of the row in *site*; empty where there is none, or the user may not see it."""
    model_admin = site._registry.get(model)  # noqa: SLF001  AdminSite.get_model_admin() raises
    spec = registry.spec(model)
    pk = references.pk_value(spec, text)
    if model_admin is None or pk is None or not model_admin.has_view_permission(request):
        return ""
    if not tables.rows(model, "default").filter(pk=pk).exists():
        return ""
    return address(site, f"{model._meta.app_label}_{model._meta.model_name}_change", quote(pk))


def _told(step: timeline.Step) -> dict[str, Any]:
    # The log has no state before it to compare with: all fields are told that have something in them.
    first = all(each.before is ABSENT for each in step.fields)
    differences = [
        {
            "name": display.field_name(step.model, each.field),
            "before": "" if first else display.value_text(step.model, each.field, each.before),
            "after": display.value_text(step.model, each.field, each.after),
        }
        for each in step.fields
        if not first or each.after is not None
    ]
    unknown = pgettext("status", "not told")
    differences += [
        {"name": display.field_name(step.model, name), "before": "" if first else display.NOTHING, "after": unknown}
        for name in step.withheld
    ]
    return {
        "step": step,
        "when": display.moment(step.date),
        "action": Action(step.action).label,
        "first": first,
        "differences": differences,
        "link": display.field_name(step.model, step.link) if step.link else "",
        "target": naming.key_text(step.target) if isinstance(step.target, list) else step.target,
        "held": reasons.told(step.held) if step.held else "",
        "context": list(step.context.items()),
        "model": display.model_name(step.model),
    }


# --- searching --------------------------------------------------------------------------------------------------------


def _named(term: str, label: str | None) -> Q:
    """The changes of the objects that *term* may mean: each found by an index, or in the tables of the models."""
    model = registry.by_label(label) if label else None
    specs = [registry.spec(each) for each in ([model] if model is not None else registry.tracked())]
    roots = {each for spec in specs for each in (spec.label, spec.root_label)}
    found = Q(root__in=roots, pk_text=term)
    for root, text in Reference.objects.filter(object_id=term, model__in=roots).values_list("model", "pk_text")[:FOUND]:
        found |= Q(root=root, pk_text=text)
    node, _slash, number = term.rpartition("/")
    if node:
        found |= Q(root__in=roots, pk_text=f"?{term}")
        # An id of our own need not be written down, if it is the only one of its object.
        if Node.objects.filter(current=True, ident=node).exists():
            others = set(Reference.objects.filter(pk_text=number, model__in=roots).values_list("model", flat=True))
            found |= Q(root__in=roots - others, pk_text=number)
    for spec in specs:
        texts = list(_by_key(spec, term))
        if texts:
            found |= Q(root__in={spec.label, spec.root_label}, pk_text__in=texts)
    return found


def _by_key(spec: ModelSpec, term: str) -> Iterable[str]:
    """The rows of *spec* of whose natural key a text begins with *term*."""
    wanted = Q()
    for key_path in naturalkeys.key_paths(spec.model) or ():
        model: Any = spec.model
        field: Any = None
        for step in key_path.split("__"):
            field = model._meta.get_field(step)
            model = field.related_model
        if isinstance(field, (models.CharField, models.TextField)):
            wanted |= Q(**{f"{key_path}__istartswith": term})
    if not wanted:
        return
    try:
        rows = tables.rows(spec.model, "default").filter(wanted).order_by()
        for pk in rows.values_list("pk", flat=True)[:FOUND]:
            yield pks.to_text(spec.model, pk)
    except FieldError:  # a key that is computed
        return
