"""Who may do what. Besides these each page of a table asks for Django's own permission to view it."""

from __future__ import annotations

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

VIEW_LOG = "synchro.view_changelog"
EXPORT = "synchro.can_export"
IMPORT = "synchro.can_import"
RESOLVE = "synchro.can_resolve"


def require(request: HttpRequest, permission: str) -> None:
    """Raise ``PermissionDenied`` unless the user has *permission*. That he is staff, the admin has seen to."""
    if not request.user.has_perm(permission):
        raise PermissionDenied
