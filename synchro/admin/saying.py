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

from changelog_format import BundleError
from synchro import conf, reasons
from synchro.errors import SynchroError

logger = logging.getLogger(__name__)


def sentence(error: Exception) -> str:
    """What went wrong, and what to do."""
    if isinstance(error, SynchroError):
        return f"{reasons.told(str(error))} {error.hint}".strip()
    if isinstance(error, BundleError):
        return _("The file was refused: %(error)s. Nothing was imported. Ask for it again.") % {"error": error}
    if isinstance(error, ImproperlyConfigured):
        return str(error)
    return _("An error occurred: %(message)s (%(type)s)") % {"message": error, "type": type(error).__name__}


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
