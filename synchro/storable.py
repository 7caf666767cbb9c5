"""What a database cannot hold although the field can: said before it is written, and never written changed.

SQLite keeps decimals as doubles and NaN as NULL, PostgreSQL takes no NUL in text, MariaDB no infinities, and a server
that is not strict cuts what is too long. The database's own errors, where it raises any, name neither field nor value.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Iterator
from decimal import Context, Decimal, InvalidOperation
from typing import Any, TypeAlias, cast

from django.db import connections, models
from django.utils.duration import duration_microseconds

from synchro import reasons, values
from synchro.values import INT64_MAX, INT64_MIN, SQLITE_DECIMAL_DIGITS, UndecodableValueError

AnyField: TypeAlias = "models.Field[Any, Any]"
Check: TypeAlias = Callable[[Any], "str | None"]

NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mysql": "MariaDB"}
_checks: dict[tuple[Any, str], Check | None] = {}


def check(field: AnyField, value: Any, using: str) -> None:
    """Raise ``UndecodableValueError`` where the database *using* cannot hold *value* (a python value) in *field*."""
    place = (field, using)
    if place not in _checks:
        _checks[place] = _build(field, using)
    found = _checks[place]
    reason = None if found is None or value is None else found(value)
    if reason is not None:
        column = f"{field.model._meta.label_lower}.{field.name}"
        raise UndecodableValueError(reasons.CANNOT_HOLD(place=column, value=repr(value)[:80], why=reason))


def _build(field: AnyField, using: str) -> Check | None:
    connection = connections[using]
    vendor = connection.vendor
    while isinstance(field, models.ForeignKey):
        field = field.target_field
    kind: Any = values.converts_as(field)
    low, high = None, None
    if kind in _INTEGERS:
        low, high = cast("Any", connection.ops).integer_field_range(field.get_internal_type())
    length = None if kind is models.TextField or vendor == "sqlite" else field.max_length
    checks: dict[Any, Callable[[], Check | None]] = {
        models.JSONField: lambda: _json(vendor),
        models.FloatField: lambda: _float(vendor),
        models.DecimalField: lambda: _sqlite_decimal(cast("Any", field)) if vendor == "sqlite" else None,
        models.DurationField: lambda: None if connection.features.has_native_duration_field else _duration,
        **dict.fromkeys(_TEXTS, lambda: _text(vendor, length)),
        **dict.fromkeys(_INTEGERS, lambda: _integer(low, high)),
    }
    return checks[kind]() if kind in checks else None


_TEXTS = (models.CharField, models.TextField, models.FilePathField, models.FileField)
_INTEGERS = (models.IntegerField, models.AutoField, models.BigAutoField, models.SmallAutoField)


def _text(vendor: str, length: int | None) -> Check:
    name = NAMES.get(vendor, vendor)

    def refusal(value: Any) -> str | None:
        text = str(value)
        if length is not None and len(text) > length:
            return reasons.TOO_LONG(number=length, length=len(text))
        if vendor == "postgresql" and "\0" in text:
            return reasons.KEEPS_NO_NUL(database=name)
        if not text.isascii() and values.has_lone_surrogate(text):
            return reasons.KEEPS_NO_SURROGATE(database=name)
        return None

    return refusal


def _json(vendor: str) -> Check:
    text = _text(vendor, None)
    name = NAMES.get(vendor, vendor)

    def refusal(value: Any) -> str | None:
        if hasattr(value, "resolve_expression"):  # JSON null
            return None
        for part in _parts(value):
            if isinstance(part, str):
                # SQLite keeps JSON as text in which everything that is not ASCII is escaped.
                reason = None if vendor == "sqlite" else text(part)
                if reason is not None:
                    return reason
            elif isinstance(part, float) and not math.isfinite(part):
                return reasons.KEEPS_NO_SUCH_NUMBER(database=name, value=part)
        return None

    return refusal


def _parts(value: Any) -> Iterator[Any]:
    """The scalars of a JSON value, and the names in it."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            waiting += [*part, *part.values()]
        elif isinstance(part, (list, tuple)):
            waiting += part
        else:
            yield part


def _float(vendor: str) -> Check | None:
    name = NAMES.get(vendor, vendor)
    if vendor == "sqlite":
        return lambda value: reasons.KEEPS_NULL(database=name) if math.isnan(value) else None
    if vendor == "mysql":
        return lambda value: None if math.isfinite(value) else reasons.KEEPS_FINITE(database=name)
    return None


def _sqlite_decimal(field: models.DecimalField[Any, Any]) -> Check:
    digits = Context(prec=SQLITE_DECIMAL_DIGITS)
    exponent = None if field.decimal_places is None else Decimal(1).scaleb(-field.decimal_places)

    def refusal(value: Any) -> str | None:
        if isinstance(value, Decimal) and value.is_finite():
            try:
                read = digits.create_decimal_from_float(float(value))
                read = read if exponent is None else read.quantize(exponent, context=field.context)
            except (InvalidOperation, OverflowError):
                read = None
            if read == value:
                return None
        return reasons.KEEPS_DIGITS(database=NAMES["sqlite"], number=SQLITE_DECIMAL_DIGITS)

    return refusal


def _duration(value: Any) -> str | None:
    fits = not isinstance(value, dt.timedelta) or INT64_MIN <= duration_microseconds(value) <= INT64_MAX
    return None if fits else reasons.TOO_MANY_MICROSECONDS()


def _integer(low: int | None, high: int | None) -> Check:
    def refusal(value: Any) -> str | None:
        if isinstance(value, int) and ((low is not None and value < low) or (high is not None and value > high)):
            return reasons.OUT_OF_RANGE(low=low, high=high)
        return None

    return refusal
