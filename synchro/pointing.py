"""Generic foreign keys between a row and an object: to which object one points, and what is to be written there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.apps import apps
from django.core.exceptions import ValidationError

from synchro import generic, pks, registry, tables, values
from synchro.registry import ModelSpec

Kinds = Mapping[Any, ModelSpec]
"""Raw primary key of a content type → the model that it is the type of."""


def kinds(specs: Iterable[ModelSpec], using: str) -> Kinds:
    """The content types of database *using*, by one query; nothing if none of *specs* has a generic foreign key."""
    if not any(spec.generics for spec in specs):
        return {}
    rows = tables.rows(apps.get_model(generic.CONTENT_TYPE), using).order_by()
    found: dict[Any, ModelSpec] = {}
    for pk, app_label, name in rows.values_list("pk", "app_label", "model"):
        model = registry.by_label(f"{app_label}.{name}")
        if model is not None:
            found[pk] = registry.spec(model)
    return found


def target(spec: ModelSpec, name: str, state: Mapping[str, Any], known: Kinds) -> tuple[ModelSpec, str] | None:
    """The model, and the text of the primary key, to which the generic foreign key *name* in a local *state* points.

    None where it points nowhere.
    """
    raw, kind = state.get(name), state.get(spec.generics[name])
    found = known.get(kind) if raw is not None and kind is not None else None
    if found is None or len(found.model._meta.pk_fields) != 1:
        return None
    text = pk_text(next(field for field in spec.fields if field.name == name), found.model, raw)
    return (found, text) if text else None


def pk_text(column: registry.AnyField, model: registry.ModelClass, raw: Any) -> str | None:
    """The text of the primary key of *model* that *raw* in *column* stands for, if for any."""
    try:
        return pks.to_text(model, values.decode(column, raw))
    except (ValidationError, ValueError, TypeError):
        return None


def kind_of(spec: ModelSpec, name: str, fields: Mapping[str, Any]) -> ModelSpec | None:
    """The model that a record's *fields* say the generic foreign key *name* points to; None where it is not here."""
    key = fields.get(spec.generics[name])
    if not isinstance(key, list) or not all(isinstance(part, str) for part in key):
        return None
    model = registry.by_label(".".join(key))
    return None if model is None else registry.spec(model)


def raw_key(column: registry.AnyField, model: registry.ModelClass, pk_text: str) -> Any:
    """What *column*, the object's half of a generic foreign key, holds for the object *pk_text*. JSON form."""
    return values.encode(column, column.to_python(pks.from_text(model, pk_text)))
