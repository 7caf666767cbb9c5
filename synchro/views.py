"""The page for operators, in the look of the admin: where the synchronization stands, and two buttons."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from django.contrib import admin, messages
from django.core.exceptions import BadRequest, ImproperlyConfigured, PermissionDenied
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods

from synchro import changelog, conf, moments, nodes
from synchro.errors import SynchroError
from synchro.models import RemoteHeld, options
from synchro.reset import reset_synchro
from synchro.status import Status, status
from synchro.synchronizing import outcome, synchronize

CAN_SYNCHRONIZE = "synchro.can_synchronize"
CAN_RESET = "synchro.can_reset_synchro"

logger = logging.getLogger(__name__)

_View = TypeVar("_View", bound=Callable[..., HttpResponse])


def may_open(user: Any) -> bool:
    """Whether *user* (any user model that the admin can use) may see the page: whoever may press one of its buttons."""
    return bool(user.has_perm(CAN_SYNCHRONIZE) or user.has_perm(CAN_RESET))


def _outside_transactions(view: _View) -> _View:
    """Exempt *view* from ``ATOMIC_REQUESTS`` on every database: positions are not published before they are final."""
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view


@_outside_transactions
@require_http_methods(["GET", "HEAD", "POST"])
def synchro(request: HttpRequest) -> HttpResponse:
    """GET shows the state; POST with ``synchro`` or ``reset`` does it and comes back with a message.

    For staff with one of the permissions ``synchro.can_synchronize`` and ``synchro.can_reset_synchro``; others are sent
    to the admin's login. With ``SYNCHRO_DEBUG`` (and ``DEBUG``) errors are raised, otherwise they become messages.
    """
    # Not as a decorator: the site is known only when the apps are ready. It also sees to CSRF tokens and caching.
    return admin.site.admin_view(_page)(request)


def _page(request: HttpRequest) -> HttpResponse:
    if not may_open(request.user):
        raise PermissionDenied
    if request.method == "POST":
        _act(request)
        return HttpResponseRedirect(request.get_full_path())
    request.current_app = admin.site.name  # as the admin's own views do, for {% url %}
    context = {**admin.site.each_context(request), "title": _("Synchronization"), **_state(request)}
    return TemplateResponse(request, "synchro/synchro.html", context)


# --- doing ------------------------------------------------------------------------------------------------------------


def _act(request: HttpRequest) -> None:
    if "synchro" in request.POST:
        _require(request, CAN_SYNCHRONIZE)
        with _errors_as_messages(request):
            report = synchronize(using=conf.local())
            (messages.info if report is None else messages.success)(request, outcome(report))
            if report is not None and report.held:
                messages.warning(request, _held(report.held))
    elif "reset" in request.POST:
        _require(request, CAN_RESET)
        if not conf.allow_reset():
            raise PermissionDenied
        with _errors_as_messages(request):
            reset_synchro()
            messages.success(request, _("Synchronization has been reset."))
    else:
        raise BadRequest("Neither 'synchro' nor 'reset' was asked for.")


def _held(number: int) -> str:
    return ngettext(
        "%(number)d change could not be applied to REMOTE yet; it will be tried again each time.",
        "%(number)d changes could not be applied to REMOTE yet; they will be tried again each time.",
        number,
    ) % {"number": number}


def _require(request: HttpRequest, permission: str) -> None:
    if not request.user.has_perm(permission):
        raise PermissionDenied


@contextmanager
def _errors_as_messages(request: HttpRequest) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if conf.debug():
            raise
        # Signal handlers of the project run on REMOTE and may raise anything; the traceback goes to the log.
        logger.exception("The admin view could not do what was asked for")
        messages.error(request, _sentence(error))


def _sentence(error: Exception) -> str:
    if isinstance(error, SynchroError):
        return f"{error} {error.hint}".strip()
    if isinstance(error, ImproperlyConfigured):
        return str(error)
    return _("An error occurred: %(message)s (%(type)s)") % {"message": error, "type": type(error).__name__}


# --- showing ----------------------------------------------------------------------------------------------------------


def _state(request: HttpRequest) -> dict[str, Any]:
    """What the template shows. ``why_not`` says why there is no button, and is empty if there is one."""
    if not changelog.available(DEFAULT_DB_ALIAS):
        return {"unavailable": _("The database lacks synchro's tables. Run “manage.py migrate” first.")}
    remote, why_not = _remote()
    if not why_not and not request.user.has_perm(CAN_SYNCHRONIZE):
        why_not = _("You do not have the permission to synchronize.")
    found = status(DEFAULT_DB_ALIAS)
    return {
        "last_check": _local(options.last_check),
        "remote": remote,
        "waiting": _waiting(found, remote),
        "held": found.held,
        "tracks_nothing": not found.models,
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


def _waiting(found: Status, remote: str | None) -> list[tuple[str, int]]:
    """How many changes wait for REMOTE, or without one for each destination of exports (with its name)."""
    node = nodes.own(DEFAULT_DB_ALIAS)
    # Who was never sent anything waits for all that is in the log.
    in_log = found.seq - (node.reset_seq if node is not None else 0) + found.pending
    by_destination = {each.name: each.waiting + found.pending for each in found.destinations}
    if remote is not None:
        not_taken = RemoteHeld.objects.filter(remote=remote).count()
        return [("", by_destination.get(remote, in_log) + not_taken)]
    return sorted(by_destination.items()) or [("", in_log)]


def _local(moment: dt.datetime | None) -> dt.datetime | None:
    # Templates convert by themselves only with USE_TZ.
    return timezone.localtime(moments.aware(moment)) if moment is not None else None
