"""The names that 0.6 and 0.7 had here. New code imports them from ``synchro``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from synchro import DisableSynchroLog, NaturalKeyModel, NaturalManager, disable_synchro_log, reset_synchro
    from synchro.synchronizing import call_synchronize

__all__ = [
    "DisableSynchroLog",
    "NaturalKeyModel",
    "NaturalManager",
    "call_synchronize",
    "disable_synchro_log",
    "reset_synchro",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        import synchro

        return getattr(synchro, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
