"""The page for operators, in the look of the admin: where the synchronization stands, and two buttons."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import BadRequest, ImproperlyConfigured, PermissionDenied
from django.db import DEFAULT_DB_ALIAS
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import NoReverseMatch
from django.utils import timezone
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods

from synchro import changelog, conf, moments, nodes
from synchro.admin import permissions
from synchro.admin.base import address, outside_transactions, page
from synchro.admin.saying import errors_as_messages
from synchro.models import RemoteHeld, options
from synchro.reset import reset_synchro
from synchro.status import Standing, standing
from synchro.synchronizing import not_applied, outcome, performed, synchronize

CAN_SYNCHRONIZE = "synchro.can_synchronize"
CAN_RESET = "synchro.can_reset_synchro"


def may_open(user: Any) -> bool:
    """Whether *user* (any user model that the admin can use) may see the page: whoever may press one of its buttons."""
    return any(user.has_perm(each) for each in (CAN_SYNCHRONIZE, CAN_RESET, permissions.EXPORT, permissions.IMPORT))


def page_of(site: admin.AdminSite) -> Callable[[HttpRequest], HttpResponse]:
    """The page in the look of *site*, whose ``admin_view`` it still needs.

    GET shows the state; POST with ``synchro`` or ``reset`` does it and comes back with a message. For staff with one of
    the permissions to synchronize, reset, export or import. With ``SYNCHRO_DEBUG`` (and ``DEBUG``) errors are raised,
    otherwise they become messages.
    """

    def synchronization(request: HttpRequest) -> HttpResponse:
        return _page(request, site)

    return outside_transactions(require_http_methods(["GET", "HEAD", "POST"])(synchronization))


def _page(request: HttpRequest, site: admin.AdminSite) -> HttpResponse:
    if not may_open(request.user):
        raise PermissionDenied
    if request.method == "POST":
        _act(request)
        return HttpResponseRedirect(request.get_full_path())
    return page(site, request, "synchro/synchro.html", {"title": _("Synchronization"), **_state(request, site)})


# --- doing ------------------------------------------------------------------------------------------------------------


def _act(request: HttpRequest) -> None:
    if "synchro" in request.POST:
        permissions.require(request, CAN_SYNCHRONIZE)
        with errors_as_messages(request):
            report = synchronize(using=conf.local())
            (messages.success if performed(report) else messages.info)(request, outcome(report))
            if report is not None and report.held:
                messages.warning(request, _held(report.held))
            for text in not_applied(report):
                messages.warning(request, capfirst(text))
    elif "reset" in request.POST:
        permissions.require(request, CAN_RESET)
        if not conf.allow_reset():
            raise PermissionDenied
        with errors_as_messages(request):
            reset_synchro()
            messages.success(request, _("Synchronization has been reset."))
    else:
        raise BadRequest(_("Neither 'synchro' nor 'reset' was asked for."))


def _held(number: int) -> str:
    return ngettext(
        "%(number)d change could not be applied to REMOTE yet; it will be tried again each time.",
        "%(number)d changes could not be applied to REMOTE yet; they will be tried again each time.",
        number,
    ) % {"number": number}


# --- showing ----------------------------------------------------------------------------------------------------------


def _state(request: HttpRequest, site: admin.AdminSite) -> dict[str, Any]:
    """What the template shows. ``why_not`` says why there is no button, and is empty if there is one."""
    if not changelog.available(DEFAULT_DB_ALIAS):
        return {"unavailable": _("The database lacks synchro's tables. Run “manage.py migrate” first.")}
    remote, why_not = _remote()
    if not request.user.has_perm(CAN_SYNCHRONIZE) and not request.user.has_perm(CAN_RESET):
        remote, why_not = None, ""  # of no concern to those who export and import
    elif not why_not and not request.user.has_perm(CAN_SYNCHRONIZE):
        why_not = _("You do not have the permission to synchronize.")
    found = standing(DEFAULT_DB_ALIAS)
    return {
        "last_check": _local(options.last_check),
        "remote": remote,
        "waiting": _waiting(found, remote),
        "held": found.held,
        "tracks_nothing": not found.models,
        "node": found.node,
        "conflicts": found.conflicts_held,
        "heard": [(each.node, _local(_parsed(each.heard))) for each in found.peers if each.heard],
        "export_url": _url(request, site, permissions.EXPORT, "synchro_export"),
        "import_url": _url(request, site, permissions.IMPORT, "synchro_import"),
        "conflicts_url": _url(request, site, "synchro.view_conflict", "synchro_conflict_changelist"),
        "held_url": _url(request, site, "synchro.view_held", "synchro_held_changelist"),
        "direct": bool(request.user.has_perm(CAN_SYNCHRONIZE) or request.user.has_perm(CAN_RESET)),
        "why_not": why_not,
        "may_reset": conf.allow_reset() and request.user.has_perm(CAN_RESET),
    }


def _remote() -> tuple[str | None, str]:
    """The alias of REMOTE, and else why there is none."""
    # Asked here first: the page itself says that the setting is absent, a warning at each visit would add nothing.
    if not conf.has_remote_setting():
        return None, _("There is no database to synchronize with: SYNCHRO_REMOTE is not set.")
    try:
        remote = conf.remote()
    except ImproperlyConfigured as error:
        return None, str(error)
    return remote, "" if remote else _("There is no database to synchronize with: SYNCHRO_REMOTE is None.")


def _waiting(found: Standing, remote: str | None) -> list[tuple[str, int]]:
    """How many changes wait for REMOTE, or without one for each destination of exports (with its name)."""
    node = nodes.own(DEFAULT_DB_ALIAS)
    # Who was never sent anything waits for all that is in the log.
    in_log = found.seq - (node.reset_seq if node is not None else 0) + found.pending
    by_destination = {each.name: each.waiting + found.pending for each in found.destinations}
    if remote is not None:
        not_taken = RemoteHeld.objects.filter(remote=remote).count()
        return [("", by_destination.get(remote, in_log) + not_taken)]
    return sorted(by_destination.items()) or [("", in_log)]


def _url(request: HttpRequest, site: admin.AdminSite, permission: str, name: str) -> str:
    """Where the page *name* is, for those who may see it; empty where the site does not have it."""
    try:
        return address(site, name) if request.user.has_perm(permission) else ""
    except NoReverseMatch:
        return ""


def _parsed(text: str | None) -> dt.datetime | None:
    return None if text is None else dt.datetime.fromisoformat(text)


def _local(moment: dt.datetime | None) -> dt.datetime | None:
    # Templates convert by themselves only with USE_TZ.
    return timezone.localtime(moments.aware(moment)) if moment is not None else None
