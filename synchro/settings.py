"""What 0.2 to 0.7 made of the settings. New code asks Django's settings; this app reads them in :mod:`synchro.conf`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import DEFAULT_DB_ALIAS

if TYPE_CHECKING:
    from django.db.models import Model

    ALLOW_RESET: bool
    DEBUG: bool
    INTER_MODELS: dict[type[Model], Any]
    MODELS: list[type[Model]]
    REMOTE: str | None

__all__ = ["ALLOW_RESET", "DEBUG", "INTER_MODELS", "LOCAL", "MODELS", "REMOTE"]

LOCAL = DEFAULT_DB_ALIAS


def __getattr__(name: str) -> Any:
    """Read when it is asked for: the settings of today, not those of the import."""
    from synchro import conf, registry

    match name:
        case "MODELS":
            return sorted(registry.tracked(), key=lambda model: model._meta.label_lower)
        case "INTER_MODELS":
            return dict(registry.intermediaries())
        case "REMOTE":
            return conf.remote()
        case "ALLOW_RESET":
            return conf.allow_reset()
        case "DEBUG":
            return conf.debug()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
