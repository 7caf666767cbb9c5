"""An object's whole state as plain JSON values: from an instance, from rows, and back to column values.

A state maps field names (``ModelSpec.fields``) to the JSON forms of :mod:`synchro.values`; foreign keys hold the raw
value of the column that they point to, which means something in this database only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any, TypeVar

from django.db import models
from django.db.models import BooleanField, ExpressionWrapper, Q, QuerySet

from changelog_format.values import JSON_NULL
from synchro import reasons, tables, values
from synchro.errors import UnloggableValueError
from synchro.registry import ModelSpec

State = dict[str, Any]
T = TypeVar("T")

CHUNK = 1000
"""Rows per query wherever rows are read or written by the chunk."""
COMPOSITE_CHUNK = 200
"""The same by composite primary keys: on SQLite these are OR-ed, and it refuses expressions deeper than 1000."""


def chunks(items: Sequence[T], size: int = CHUNK) -> Iterator[Sequence[T]]:
    """*items* in their order, at most *size* at a time; nothing for no items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


@cache
def _assigned(spec: ModelSpec) -> tuple[tuple[str, str, Callable[[Any], Any]], ...]:
    """Name, attribute and encoder of the fields of *spec*."""
    return tuple((field.name, field.attname, values.codec(field).encode_assigned) for field in spec.fields)


def instance_state(spec: ModelSpec, instance: models.Model) -> State | None:
    """The state of *instance* just after its row was written; None where only the row can tell (see ``values``)."""
    held = instance.__dict__
    state: State = {}
    for name, attname, encode in _assigned(spec):
        value = held.get(attname, values.INEXACT)
        if value is not values.INEXACT:
            try:
                value = encode(value)
            except (TypeError, ValueError, RecursionError) as error:
                raise _unloggable(spec, instance.pk, name, error) from error
        if value is values.INEXACT:
            return None
        state[name] = value
    return state


def held_state(spec: ModelSpec, instance: models.Model) -> State:
    """What *instance* is certain to know of its row, which is gone."""
    held = instance.__dict__
    state: State = {}
    for field in spec.fields:
        if field.attname in held:
            try:
                value = values.codec(field).encode_assigned(held[field.attname])
            except (TypeError, ValueError, RecursionError):
                continue  # it was never logged, and a row that is gone needs it no more
            if value is not values.INEXACT:
                state[field.name] = value
    return state


def _unloggable(spec: ModelSpec, pk: Any, field: str, error: Exception | str) -> UnloggableValueError:
    return UnloggableValueError(reasons.UNLOGGABLE_FIELD(object=f"{spec.label} {pk!r}", field=field, why=error))


def rows(spec: ModelSpec, using: str) -> QuerySet[models.Model]:
    """All rows of a model, past its managers: those hide rows, or refuse to work outside a scope."""
    return tables.rows(spec.model, using)


def row_states(spec: ModelSpec, pks: Iterable[Any], using: str) -> dict[Any, State]:
    """Primary key → state of the rows that exist among *pks*; one query a chunk, past every manager."""
    found: dict[Any, State] = {}
    for part in by_pk(spec, pks, using):
        found.update(_read(spec, part))
    return found


def by_pk(spec: ModelSpec, pks: Iterable[Any], using: str) -> Iterator[QuerySet[models.Model]]:
    """The rows that exist among *pks*, in querysets of as many as one statement takes."""
    size = CHUNK if len(spec.model._meta.pk_fields) == 1 else COMPOSITE_CHUNK
    for part in chunks(list(pks), size):
        yield rows(spec, using).filter(pk__in=part)


def _read(spec: ModelSpec, queryset: QuerySet[models.Model]) -> Iterator[tuple[Any, State]]:
    # A JSON column says None for SQL NULL and for JSON null: ask which it is.
    nullable_json = [f for f in spec.fields if isinstance(f, models.JSONField) and f.null]
    asked = {
        f"synchro_{field.name}_isnull": ExpressionWrapper(Q(**{f"{field.name}__isnull": True}), BooleanField())
        for field in nullable_json
    }
    names = [field.attname for field in spec.fields]
    encoders = [(field.name, values.codec(field).encode, isinstance(field, models.JSONField)) for field in spec.fields]
    width = len(names)
    found = queryset.annotate(**asked).values_list("pk", *names, *asked).order_by()
    for pk, *row in _fetched(spec, found, queryset):
        sql_nulls = {field.name for field, isnull in zip(nullable_json, row[width:], strict=True) if isnull}
        state: State = {}
        for (name, encode, is_json), value in zip(encoders, row[:width], strict=True):
            if is_json and value is None and name not in sql_nulls:
                value = JSON_NULL  # noqa: PLW2901  the column holds JSON null
            try:
                state[name] = encode(value)
            except Exception as error:  # a field class of somebody else's may fail in any way
                raise _unloggable(spec, pk, name, error) from error
        yield pk, state


def _fetched(spec: ModelSpec, found: QuerySet[Any, Any], queryset: QuerySet[models.Model]) -> list[tuple[Any, ...]]:
    """The rows of *found*. A value that cannot be read back, such as a decimal that SQLite rounded up, is named."""
    try:
        return list(found)
    except (ArithmeticError, TypeError, ValueError):
        for field in spec.fields:
            for pk in queryset.values_list("pk", flat=True).order_by():
                try:
                    queryset.filter(pk=pk).values_list(field.attname).first()
                except (ArithmeticError, TypeError, ValueError) as error:
                    raise _unloggable(spec, pk, field.name, reasons.UNREADABLE(error=repr(error))) from error
        raise


def column_value(field: models.Field[Any, Any], value: Any) -> Any:
    """What to assign to ``field.attname`` for the JSON form *value*.

    Raises ``UndecodableValueError`` if the field cannot take it.
    """
    return values.decode(field, value)
