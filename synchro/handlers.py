"""Whether a project has code of its own that runs when objects of a model are saved, deleted or linked.

``Signal.has_listeners`` is true once this app itself listens, and the tuples in ``Signal.receivers`` differ between
Django versions; ``_live_receivers`` gives the callables for a sender in all of them. Nothing else here touches Django's
internals.
"""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import signals

from synchro import conf, registry

ModelClass = type[models.Model]
_OWN = "synchro."
_SIGNALS = (signals.pre_save, signals.post_save, signals.pre_delete, signals.post_delete)
_METHODS = ("save", "save_base", "delete")


def has_handlers(model: ModelClass) -> bool:
    """Whether *model*'s objects are to be written through ``save()`` and ``delete()``."""
    if conf.apply_mode(model._meta.label_lower) == "raw":
        return False
    if any(getattr(model, name) is not getattr(models.Model, name) for name in _METHODS):
        return True
    family = [model, *model._meta.get_parent_list()]
    return any(_foreign_receivers(signal, each) for signal in _SIGNALS for each in family)


def repeated() -> list[str]:
    """The tracked models with code of the project's that runs again where a change of them arrives.

    Where a scan has logged what it did, that comes twice. Nothing where ``SYNCHRO_APPLY`` says that this is meant.
    """
    if conf.apply_modes() or conf.triggers():
        return []
    return sorted(model._meta.label for model in registry.tracked() if has_handlers(model))


def has_link_handlers(field: models.ManyToManyField[Any, Any]) -> bool:
    """Whether somebody else listens to the links of *field*."""
    if conf.apply_mode(field.model._meta.label_lower) == "raw":
        return False
    return bool(_foreign_receivers(signals.m2m_changed, registry.through(field)))


def _foreign_receivers(signal: Any, sender: ModelClass) -> bool:
    found = signal._live_receivers(sender)  # noqa: SLF001  see the module's docstring
    # Synchronous and asynchronous receivers, in a pair since Django 5.0.
    receivers = [each for group in found for each in group] if isinstance(found, tuple) else list(found)
    return any(not (getattr(each, "__module__", None) or "").startswith(_OWN) for each in receivers)
