"""The Synchronization page at ``synchro:synchro``, where the original had it."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest, HttpResponse

from synchro.admin.base import outside_transactions
from synchro.admin.synchronization import page_of


@outside_transactions
def synchro(request: HttpRequest) -> HttpResponse:
    """As :func:`synchro.admin.synchronization.page_of` says; strangers are sent to the admin's login."""
    # Not as a decorator: the site is known only when the apps are ready. It also sees to CSRF tokens and caching.
    return admin.site.admin_view(page_of(admin.site))(request)
