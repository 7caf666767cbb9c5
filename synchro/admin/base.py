"""What all pages here have in common: nothing is edited, and no query reads a whole table (see leafing)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import django
from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.text import capfirst

from synchro.admin.leafing import Leafing

_View = TypeVar("_View", bound=Callable[..., HttpResponse])


def outside_transactions(view: _View) -> _View:
    """Exempt *view* from ``ATOMIC_REQUESTS`` on every database: positions are not published before they are final."""
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # likewise
    """The rows of a table of ours, to be looked at."""

    actions = None
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    sortable_by = ()
    ordering: ClassVar[Any] = ["-pk"]
    change_list_template = "synchro/admin/change_list.html"
    change_form_template = "synchro/admin/change_form.html"
    explanation: Any = ""
    in_lines = False
    """Whether what the cells of a row say is clear without the head, which a phone has no room for."""
    empty: Any = ""

    class Media:
        css: ClassVar = {"all": ["synchro/admin.css"]}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return Leafing

    def address(self, name: str, *args: Any) -> str:
        """The URL of the page *name* of this site."""
        return address(self.admin_site, name, *args)

    def facts(self, obj: Any) -> list[tuple[str, Any]]:
        """What the page of one row tells, with its names."""
        return [(str(field.verbose_name), getattr(obj, field.attname)) for field in self.opts.fields]

    def called(self, obj: Any) -> str:
        """What the way to the page of one row calls it."""
        return str(obj)

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        context.update(
            title=capfirst(self.opts.verbose_name),
            subtitle=None,
            original=self.called(kwargs.get("obj")),
            facts=self.facts(kwargs.get("obj")),
            explanation=self.explanation,
        )
        return super().render_change_form(request, context, *args, **kwargs)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        return super().changelist_view(
            request,
            {
                "title": capfirst(self.opts.verbose_name_plural),
                "explanation": self.explanation,
                "empty_text": self.empty,
                "in_lines": self.in_lines,
                **(extra_context or {}),
            },
        )


def address(site: admin.AdminSite, name: str, *args: Any) -> str:
    """The URL of the page *name* of *site*, which need not be the default one."""
    return reverse(f"admin:{name}", args=args, current_app=site.name)


def page(site: admin.AdminSite, request: HttpRequest, template: str, context: dict[str, Any]) -> TemplateResponse:
    """A page of our own in the look of *site*."""
    request.current_app = site.name  # as the admin's own views do, for {% url %}
    around = {**site.each_context(request), "list_breadcrumbs": django.VERSION >= (6,)}
    return TemplateResponse(request, template, {**around, **context})
