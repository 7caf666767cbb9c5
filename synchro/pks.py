"""Primary keys as text, and back: how the log, the references and object ids write them.

A whole number is its digits, a string itself, a UUID its hyphenated form, any other value its JSON form, a composite
key the compact JSON array of its parts.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import orjson
from django.db import models

from synchro import reasons, values

ModelClass = type[models.Model]


def converted(model: ModelClass, pk: Any) -> Any:
    """*pk* as a row holds it: an instance may hold "5" or a UUID's text where its row holds the number or the UUID."""
    fields = model._meta.pk_fields
    if len(fields) > 1:
        return tuple(_converted(field, part) for field, part in zip(fields, pk, strict=True))
    return _converted(fields[0], pk)


def to_text(model: ModelClass, pk: Any) -> str:
    """The text of primary key *pk* of *model*; *pk* is a value as the database gave it, or as it was assigned."""
    if type(pk) is int and _is_numbered(model):
        return str(pk)
    fields = model._meta.pk_fields
    if len(fields) > 1:
        parts = [values.encode(field, _converted(field, part)) for field, part in zip(fields, pk, strict=True)]
        return orjson.dumps(parts).decode()
    encoded = values.encode(fields[0], _converted(fields[0], pk))
    return encoded if isinstance(encoded, str) else orjson.dumps(encoded).decode()


def from_text(model: ModelClass, text: str) -> Any:
    """The primary key of *model* that *text* stands for; ``UndecodableValueError`` where it stands for none."""
    fields = model._meta.pk_fields
    if len(fields) > 1:
        try:
            parts = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise values.UndecodableValueError(str(error)) from error
        if not isinstance(parts, list) or len(parts) != len(fields):
            raise values.UndecodableValueError(
                reasons.NO_COMPOSITE_KEY(model=model._meta.label_lower, value=repr(text))
            )
        if None in parts:
            raise values.UndecodableValueError(reasons.EMPTY_PART(model=model._meta.label_lower, value=repr(text)))
        return tuple(values.decode(field, part) for field, part in zip(fields, parts, strict=True))
    return values.decode(fields[0], _from_leaf_text(fields[0], text))


@cache
def _is_numbered(model: ModelClass) -> bool:
    """Whether primary keys of *model* are whole numbers."""
    return isinstance(_leaf(model._meta.pk_fields[0]), models.IntegerField)


def _converted(field: models.Field[Any, Any], value: Any) -> Any:
    leaf = _leaf(field)
    return value if value is None else leaf.to_python(value)


def _leaf(field: models.Field[Any, Any]) -> models.Field[Any, Any]:
    while isinstance(field, models.ForeignKey):
        field = field.target_field
    return field


def _from_leaf_text(field: models.Field[Any, Any], text: str) -> Any:
    leaf = _leaf(field)
    if isinstance(leaf, (models.IntegerField, models.BooleanField, models.FloatField)):
        try:
            found = orjson.loads(text)
        except orjson.JSONDecodeError:
            found = None
        if not isinstance(found, (int, float)):
            raise values.UndecodableValueError(reasons.NO_KEY(model=leaf.model._meta.label_lower, value=repr(text)))
        return found
    if text.startswith("{") and not isinstance(leaf, (models.CharField, models.TextField)):
        # a tagged value, such as bytes
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            return text
    return text
