"""“Synchro history” on the pages of tracked objects, whoever wrote their ModelAdmins and templates.

The page that a ModelAdmin renders becomes the parent of a small template of ours, which adds the link to its object
tools by their documented block. So a project's own templates, whole or in part, stay what they are; where one has no
such block there is no link, and nothing else. A template of ours by one of Django's names would be found only by
projects that list synchro above django.contrib.admin, and would hide theirs.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from django.template.exceptions import TemplateDoesNotExist
from django.template.loader import get_template, select_template
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from synchro import pks, registry
from synchro.admin import permissions
from synchro.admin.log import history_url

TEMPLATE = "synchro/admin/with_history.html"
_MARK = "synchro_history_url"

if TYPE_CHECKING:
    _Base = admin.ModelAdmin[Any]
else:
    _Base = object


def url_for(site: admin.AdminSite, obj: models.Model) -> str:
    """The history of *obj*; empty for what is not tracked, or where the site does not show it."""
    model = obj._meta.concrete_model
    if model is None or not registry.is_tracked(model) or obj.pk is None:
        return ""
    try:
        return history_url(site, model._meta.label_lower, pks.to_text(model, obj.pk))
    except NoReverseMatch:
        return ""


def add_links() -> None:
    """Add the link to the pages of every ModelAdmin, of every site; called once.

    Not to those with ``synchro_history_link = False``, and to no one who may not view the log.
    """
    render = admin.ModelAdmin.render_change_form
    if hasattr(render, "_synchro"):
        return

    @wraps(render)
    def render_change_form(self: Any, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        response = render(self, request, context, *args, **kwargs)
        obj = kwargs.get("obj", args[3] if len(args) > 3 else None)  # noqa: PLR2004  its place in Django's signature
        return (
            linked(response, request, self.admin_site, obj) if getattr(self, "synchro_history_link", True) else response
        )

    render_change_form._synchro = True  # type: ignore[attr-defined]  # noqa: SLF001
    admin.ModelAdmin.render_change_form = render_change_form  # type: ignore[method-assign]


def linked(response: Any, request: HttpRequest, site: admin.AdminSite, obj: models.Model | None) -> Any:
    """*response*, the page of *obj* that is not rendered yet, with the link."""
    if obj is None or not isinstance(response, TemplateResponse) or response.is_rendered:
        return response
    context = response.context_data or {}
    if _MARK in context or not request.user.has_perm(permissions.VIEW_LOG) or not (url := url_for(site, obj)):
        return response
    named = response.template_name
    try:
        found = (
            named
            if hasattr(named, "render")
            else (
                get_template(named, using=response.using)
                if isinstance(named, str)
                else select_template(named, using=response.using)
            )
        )
    except TemplateDoesNotExist:
        return response
    if not hasattr(getattr(found, "template", found), "nodelist"):  # of another engine
        return response
    response.context_data = {**context, _MARK: url, "synchro_parent": found}
    response.template_name = TEMPLATE
    return response


class SynchroHistoryMixin(_Base):
    """For a ModelAdmin: a column ``synchro_history`` for ``list_display`` and ``readonly_fields``.

    It brings the link on the object's page, too, where ``render_change_form`` is overridden so that the automatic one
    gets lost.
    """

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().render_change_form(request, context, *args, **kwargs)
        return linked(response, request, self.admin_site, kwargs.get("obj"))

    @admin.display(description=gettext_lazy("Synchro history"))
    def synchro_history(self, obj: models.Model) -> str:
        """A link to the history of *obj*."""
        url = url_for(self.admin_site, obj)
        return format_html('<a href="{}">{}</a>', url, _("Synchro history")) if url else ""
