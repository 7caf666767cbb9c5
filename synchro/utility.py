"""The names that 0.2 to 0.7 had here. New code imports them from ``synchro``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from synchro import NaturalKeyModel, NaturalManager, reset_synchro

    natural_manager = NaturalManager

__all__ = ["NaturalKeyModel", "NaturalManager", "natural_manager", "reset_synchro"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        import synchro

        # A function of that name did the same before NaturalManager could be called.
        return getattr(synchro, "NaturalManager" if name == "natural_manager" else name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
