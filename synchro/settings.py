"""What 0.2 to 0.7 made of the settings. New code asks Django's settings; this app reads them in :mod:`synchro.conf`.

The names are read when they are asked for: they say what Django's settings say then. As before, one can be assigned
(``synchro.settings.REMOTE = "other"``), and is then what the whole app goes by, until it is deleted or the setting that
it stands for changes. Importing the module (the app does), or reloading it, raises ``ImproperlyConfigured`` where
``SYNCHRO_REMOTE`` names no database, and warns where it is absent.
"""

from __future__ import annotations

import sys
import warnings
from contextlib import suppress
from types import ModuleType
from typing import TYPE_CHECKING, Any

from synchro import conf

if TYPE_CHECKING:
    from django.db.models import Model

    ALLOW_RESET: bool
    DEBUG: bool
    INTER_MODELS: dict[type[Model], Any]
    LOCAL: str
    MODELS: list[type[Model]]
    REMOTE: str | None

__all__ = ["ALLOW_RESET", "DEBUG", "INTER_MODELS", "LOCAL", "MODELS", "REMOTE"]

_SETTINGS = {
    "SYNCHRO_ALLOW_RESET": ("ALLOW_RESET",),
    "SYNCHRO_DEBUG": ("DEBUG",),
    "SYNCHRO_MODELS": ("MODELS", "INTER_MODELS"),
    "SYNCHRO_REMOTE": ("REMOTE",),
}


def _read(name: str) -> Any:
    from synchro import registry

    match name:
        case "MODELS":
            return sorted(registry.tracked(), key=lambda model: model._meta.label_lower)
        case "INTER_MODELS":
            return dict(registry.intermediaries())
        case "REMOTE":
            return conf.remote()
        case "LOCAL":
            return conf.local()
        case "ALLOW_RESET":
            return conf.allow_reset()
        case "DEBUG":
            return conf.debug()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _Assignable(ModuleType):
    """A module whose names, once assigned, the app goes by."""

    def __getattr__(self, name: str) -> Any:
        return _read(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in __all__:
            super().__setattr__(name, value)
            return
        vars(self).pop(name, None)
        _changed(name)
        with warnings.catch_warnings(), suppress(Exception):
            warnings.simplefilter("ignore")
            # Whoever puts back what was there before wants to follow the settings again.
            if value == _read(name):
                return
        super().__setattr__(name, value)
        _changed(name)

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        _changed(name)


def _changed(name: str) -> None:
    from django.apps import apps

    if name in ("MODELS", "INTER_MODELS") and apps.ready:
        from synchro.apps import read_again

        read_again()


def follow(setting: str) -> None:
    """Django's *setting* has changed: what was assigned in its place before is forgotten."""
    for name in _SETTINGS.get(setting, ()):
        vars(sys.modules[__name__]).pop(name, None)


for _name in __all__:
    globals().pop(_name, None)  # reloaded: what was assigned before is forgotten
sys.modules[__name__].__class__ = _Assignable
conf.remote()
