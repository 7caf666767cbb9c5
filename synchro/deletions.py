"""Capturing deletions, and what a deletion does to other rows without telling anybody.

All of these receivers run inside the transaction of the deletion.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.db import models

from synchro import changelog, links, pks, registry, serialize, tables
from synchro.models import Action
from synchro.registry import spec

ModelClass = type[models.Model]

_NULLED = "_synchro_nulled"
_DYING = "_synchro_dying"
_KEPT = "_synchro_kept"


# --- objects ----------------------------------------------------------------------------------------------------------
#
# Django deletes an object of several tables (multi-table inheritance) row by row, children first, each with signals
# of its own. It is logged once, by the first tracked one. Whether the parents' rows go too, or stay
# (``keep_parents``), can only be told by their ``pre_delete``, all of which are sent before anything is deleted. What
# they say is noted on the instance or queryset whose ``delete()`` it is, so that it belongs to this one deletion.


def parent_dies(sender: ModelClass, instance: models.Model, using: str, origin: object = None, **_kwargs: Any) -> None:
    """Receiver of ``pre_delete`` for the multi-table parents of tracked models: note that the row will go."""
    if origin is not None:
        vars(origin).setdefault(_DYING, {})[_row(sender, instance, using)] = False


def deleted(sender: ModelClass, instance: models.Model, using: str, origin: object = None, **_kwargs: Any) -> None:
    """Receiver of ``post_delete``: log the deletion of the object, once."""
    dying = _dying(origin)
    logged = dying.pop(_row(sender, instance, using), False)
    if not logged:  # otherwise as the child that it was
        _log_deletion(sender, instance, using, origin, dying)
    if not dying and origin is not None:
        vars(origin).pop(_DYING, None)
        for parent, pk in vars(origin).pop(_KEPT, ()):  # now that no row of a child is left
            changelog.log_objects(spec(parent), [pk], Action.ADD, using)
            links.log_present(parent, pk, using)


def _log_deletion(
    sender: ModelClass, instance: models.Model, using: str, origin: object, dying: dict[Any, bool]
) -> None:
    if not registry.is_tracked(sender) or not changelog.logs(using):
        return
    model_spec = spec(sender)
    # The row is gone: what the instance holds is the best that is known of its last state.
    state = serialize.held_state(model_spec, instance)
    changelog.append(changelog.state_entry(model_spec, instance.pk, Action.DELETE, state), using)
    for parent, pk in dict(_kept_parents(model_spec.model, instance, dying, using)).items():
        if origin is not None and registry.is_tracked(parent):
            vars(origin).setdefault(_KEPT, []).append((parent, pk))


def _kept_parents(
    model: ModelClass, instance: models.Model, dying: dict[Any, bool], using: str
) -> Iterator[tuple[ModelClass, Any]]:
    """The nearest parents whose rows stay, with their primary keys; the deletion of those between is logged by this."""
    for parent, link in model._meta.parents.items():
        pk = instance.pk if link is None else getattr(instance, link.attname)
        if _mark_logged(dying, parent, pk, using):
            yield from _kept_parents(parent, instance, dying, using)
        else:
            yield parent, pk


def _mark_logged(dying: dict[Any, bool], parent: ModelClass, pk: Any, using: str) -> bool:
    """Note for *parent* and what is above it that the deletion is logged; whether the row in *parent* goes at all."""
    going = (using, parent, pk) in dying
    for each in (parent, *parent._meta.get_parent_list()):
        if (using, each, pk) in dying:
            dying[using, each, pk] = True
    return going


def _row(model: ModelClass, instance: models.Model, using: str) -> tuple[str, ModelClass | None, Any]:
    return using, model._meta.concrete_model, pks.converted(model, instance.pk)


def _dying(origin: object) -> dict[Any, bool]:
    """Row → whether its deletion is logged already, of the rows in parents' tables that this deletion will delete."""
    if origin is None:  # somebody drives a Collector of their own: nothing can be noted, each row is logged
        return {}
    notes: dict[Any, bool] = vars(origin).get(_DYING, {})
    return notes


# --- referrers --------------------------------------------------------------------------------------------------------


def before_nulling(sender: ModelClass, instance: models.Model, using: str, **_kwargs: Any) -> None:
    """Receiver of ``pre_delete``: note which rows ``SET_NULL`` and its like will change, which sends no signal."""
    vars(instance).pop(_NULLED, None)
    if not changelog.logs(using):
        return
    affected: dict[ModelClass, dict[Any, None]] = {}
    for model, field in registry.nulled_by(sender):
        value = _value(instance, field.target_field, using)
        found = tables.rows(model, using).filter(**{field.attname: value}).values_list("pk", flat=True)
        affected.setdefault(model, {}).update(dict.fromkeys(found))
    vars(instance)[_NULLED] = {model: list(found) for model, found in affected.items() if found}


def after_nulling(instance: models.Model, using: str, **_kwargs: Any) -> None:
    """Receiver of ``post_delete``: log the rows that it changed, as they are now; those that it deleted are gone."""
    nulled: dict[ModelClass, Sequence[Any]] = vars(instance).pop(_NULLED, {})
    for model, found in nulled.items():
        if changelog.logs(using):
            changelog.log_objects(spec(model), found, Action.CHANGE, using)


def _value(instance: models.Model, field: models.Field[Any, Any], using: str) -> Any:
    if field.attname in vars(instance):
        return vars(instance)[field.attname]
    rows = tables.rows(field.model, using).filter(pk=instance.pk)  # a deferred field may refuse to be read
    return rows.values_list(field.attname, flat=True).first()
