"""Errors as sentences on a page."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.contrib import messages
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from changelog_format import BundleError
from synchro import conf
from synchro.errors import ConflictError, DestinationError, GapError, HeldError, SynchroError
from synchro.hints import hint_of

logger = logging.getLogger(__name__)


def sentence(error: Exception) -> str:
    """What went wrong, and what to do."""
    if isinstance(error, SynchroError):
        # The hints of options are for the command line; here they are called otherwise.
        in_browser = next((str(hint) for kind, hint in _HINTS if isinstance(error, kind)), "")
        return f"{error} {in_browser if in_browser and '--' in error.hint else error.hint}".strip()
    if isinstance(error, BundleError):
        hint = hint_of(error) or _("Ask for it again.")
        return _("The file was refused: %(error)s. Nothing was imported. %(hint)s") % {"error": error, "hint": hint}
    if isinstance(error, ImproperlyConfigured):
        return str(error)
    return _("An error occurred: %(message)s (%(type)s)") % {"message": error, "type": type(error).__name__}


_HINTS = (
    (
        DestinationError,
        gettext_lazy("If it is meant for this place all the same, say so under “Unusual cases”, and upload it again."),
    ),
    (
        GapError,
        gettext_lazy(
            "Import the bundles in between first, or ask for them: there, the page of a bundle can write it again. "
            "This one can be taken without them under “Unusual cases”."
        ),
    ),
    (
        HeldError,
        gettext_lazy("Nothing was imported, as you asked for under “Unusual cases”. Without that the rest goes in."),
    ),
    (ConflictError, gettext_lazy("Nothing was imported. “Unusual cases” has other ways to decide.")),
)


@contextmanager
def errors_as_messages(request: HttpRequest) -> Iterator[None]:
    """What is raised inside becomes a message; with ``SYNCHRO_DEBUG`` and ``DEBUG`` it is raised."""
    try:
        yield
    except Exception as error:
        if conf.debug():
            raise
        # Signal handlers of the project run and may raise anything; the traceback goes to the log.
        logger.exception("The admin view could not do what was asked for")
        messages.error(request, sentence(error))


def file_name(path: str) -> str:
    """The last part of a path of whatever system."""
    return Path(path.replace("\\", "/")).name or path
