"""The link to the Synchronization page on the admin's index and in its sidebar.

The page belongs to no model, so it is listed through ``AdminSite.get_app_list()``, which Django documents for changing
what is listed, with the keys of its entries. The alternatives are worse: a template of ours for the index is found only
by projects that list synchro above django.contrib.admin, and hides theirs; a registered model is listed under its own
name with a URL below the admin's; a class that only pretends to be a model breaks with each new attribute that Django
reads.
"""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.contrib import admin
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _

from synchro.admin.exchange import SYNCHRONIZATION_URL
from synchro.admin.synchronization import may_open
from synchro.models import Destination

APP_LABEL = "synchro"


def add_link(site: admin.AdminSite) -> None:
    """List the page in *site*, for users who may open it: where ``synchro.urls`` has it, else below the site itself.

    Nothing is listed where it is in neither.

    The default site has the link; call this for further sites, once each.
    """
    listed = site.get_app_list

    def get_app_list(request: HttpRequest, *args: Any, **kwargs: Any) -> list[Any]:
        found = list(listed(request, *args, **kwargs))
        wanted = args[0] if args else kwargs.get("app_label")
        if wanted not in (None, APP_LABEL) or not may_open(request.user):
            return found
        url = _url(site)
        if not url:
            return found
        for app in found:
            if app["app_label"] == APP_LABEL:
                app["models"] = [_entry(url), *app["models"]]
                return found
        own = _app(url)
        # In its alphabetical place, as the admin sorts. A site that sorts otherwise keeps its order.
        later = (at for at, app in enumerate(found) if str(app["name"]).lower() > own["name"].lower())
        found.insert(next(later, len(found)), own)
        return found

    site.get_app_list = get_app_list  # type: ignore[method-assign]  # on this instance: other sites stay as they are


def _url(site: admin.AdminSite) -> str:
    for name in ("synchro:synchro", f"admin:{SYNCHRONIZATION_URL}"):
        try:
            return reverse(name, current_app=site.name)
        except NoReverseMatch:
            continue
    return ""


def _app(url: str) -> dict[str, Any]:
    return {
        "name": str(apps.get_app_config(APP_LABEL).verbose_name),
        "app_label": APP_LABEL,
        "app_url": url,
        "has_module_perms": True,
        "models": [_entry(url)],
    }


def _entry(url: str) -> dict[str, Any]:
    return {
        "model": Destination,
        "name": _("Synchronization"),
        "object_name": "Synchronization",
        "perms": {"add": False, "change": False, "delete": False, "view": True},
        "view_only": True,
        "admin_url": url,
        "add_url": None,
    }
