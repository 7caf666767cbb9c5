"""Signals that a project can listen to.

``sender`` is a class of ``synchro.models``; all carry ``using``, the database alias.
``bundle_exported`` (``report``: ExportReport) and ``bundle_imported`` (``report``: ImportReport) come after the work is
durable.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from django.dispatch import Signal

if TYPE_CHECKING:
    from synchro.pause import DisableSynchroLog, disable_synchro_log  # noqa: F401  see __getattr__

logger = logging.getLogger(__name__)

bundle_exported = Signal()
bundle_imported = Signal()


def announce(signal: Signal, *, sender: type, **arguments: Any) -> None:
    """Send *signal* after work that is done for good.

    A receiver that fails is logged, and does not make the work look undone.
    """
    for receiver, answer in signal.send_robust(sender=sender, **arguments):
        if isinstance(answer, Exception):
            logger.error("A receiver of a signal of synchro failed: %r", receiver, exc_info=answer)


def __getattr__(name: str) -> Any:
    if name in ("DisableSynchroLog", "disable_synchro_log"):  # where 0.2 to 0.7 had them
        from synchro import pause

        return getattr(pause, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
