"""What a field's value looks like in a record, and back.

A codec belongs to one field. Its two encoders differ in what they may trust:

* ``encode(value)`` takes a value as the database gave it and always succeeds for what a database can hold;
* ``encode_assigned(value)`` takes what some code assigned to an instance, and returns :data:`INEXACT` unless it is
  certain that the row holds the very same (an ``F()`` expression, a string in a decimal field, ``1.005`` in two decimal
  places, a naive datetime under ``USE_TZ`` are not): the caller then reads the row.

``decode(value)`` gives the python value to assign. The JSON forms are those of SPEC.md, "Values".
"""

from __future__ import annotations

import datetime as dt
import math
import uuid
from collections.abc import Callable
from decimal import MAX_PREC, Context, Decimal, InvalidOperation
from types import SimpleNamespace
from typing import Any, Final, NamedTuple, cast

from django.conf import settings
from django.core.exceptions import SuspiciousOperation, ValidationError
from django.core.files.utils import validate_file_name
from django.db import models
from django.db.models.fields.files import FieldFile
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime, parse_time
from django.utils.translation import override

from changelog_format.values import JSON_NULL, JSONNull, decode_value, encode_value
from synchro import reasons

INEXACT: Final = object()
INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1
# SQLite keeps decimals as doubles and Django reads them back with 15 significant digits.
SQLITE_DECIMAL_DIGITS: Final = 15


class UndecodableValueError(ValueError):
    """A value of a record that the field of this deployment cannot take. The text says which and why."""


class Codec(NamedTuple):
    """The three functions of one field, as the module docstring describes them."""

    encode: Callable[[Any], Any]
    encode_assigned: Callable[[Any], Any]
    decode: Callable[[Any], Any]


def encode(field: models.Field[Any, Any], value: Any) -> Any:
    """The JSON form of *value*, as the database gave it for *field*."""
    return codec(field).encode(value)


def decode(field: models.Field[Any, Any], value: Any) -> Any:
    """The python value of the JSON form *value*; ``UndecodableValueError`` where the field cannot take it."""
    try:
        return codec(field).decode(value)
    except (
        ValidationError, ValueError, TypeError, OverflowError, InvalidOperation, AttributeError, SuspiciousOperation,
    ) as error:  # fmt: skip
        place = f"{field.model._meta.label_lower}.{field.name}"
        message = reasons.CANNOT_HOLD(place=place, value=repr(value)[:80], why=_english(error))
        raise UndecodableValueError(message) from error


def _english(error: Exception) -> str:
    """What *error* says, whatever language is active."""
    if not isinstance(error, ValidationError):
        return str(error)
    with override(None):
        return "; ".join(error.messages)


# By identity, with the field beside it, so that it stays the only one of that number: a field's own hash is computed in
# Python, and codecs are asked for several times a change.
_codecs: dict[int, tuple[models.Field[Any, Any], Codec]] = {}


def codec(field: models.Field[Any, Any]) -> Codec:
    """The codec of *field*; for a foreign key that of the column it points to, for it holds such a raw value."""
    found = _codecs.get(id(field))
    if found is None:
        found = _codecs[id(field)] = (field, _build(field))
    return found[1]


# --- plain kinds ------------------------------------------------------------------------------------------------------


def _same(value: Any) -> Any:
    return value


def _int(value: Any) -> Any:
    if value is None or (type(value) is int and INT64_MIN <= value <= INT64_MAX):
        return value
    return INEXACT


def _bool(value: Any) -> Any:
    return value if value is None or type(value) is bool else INEXACT


def inexact(_value: Any) -> Any:
    """The ``encode_assigned`` of fields of which only the row can tell."""
    return INEXACT


def _str(value: Any) -> Any:
    return value if value is None or type(value) is str else INEXACT


def _ip(value: Any) -> Any:
    # PostgreSQL's inet and Django's own cleaning respell IPv6 addresses.
    return value if value is None or (type(value) is str and ":" not in value and "/" not in value) else INEXACT


def _file(value: Any) -> Any:
    return None if value is None else str(value)


def _assigned_file(value: Any) -> Any:
    # A FieldFile without a file is stored as "", so None says nothing.
    return str(value) if isinstance(value, (str, FieldFile)) else INEXACT


def _float(value: Any) -> Any:
    if value is None:
        return None
    # SQLite stores -0.0 as 0.0 and NaN as NULL.
    if type(value) is float and math.isfinite(value) and (value or math.copysign(1.0, value) > 0):
        return value
    return INEXACT


def _encode_float(value: Any) -> Any:
    return encode_value(value) if type(value) is float and not math.isfinite(value) else value


def _decode_float(value: Any) -> Any:
    decoded = decode_value(value)
    return None if decoded is None else float(decoded)


def _decode_int(value: Any) -> Any:
    decoded = decode_value(value)
    if decoded is None:
        return None
    if isinstance(decoded, (bool, float)):
        raise UndecodableValueError(reasons.NEEDS_INTEGER(value=repr(decoded)))
    number = int(decoded)
    if not INT64_MIN <= number <= INT64_MAX:
        raise UndecodableValueError(reasons.TOO_MANY_BITS())
    return number


def _decode_bool(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    raise UndecodableValueError(reasons.NEEDS_BOOLEAN(value=repr(value)))


def _decode_str(value: Any) -> Any:
    decoded = decode_value(value)
    if decoded is None or isinstance(decoded, str):
        return decoded
    if isinstance(decoded, (int, float)) and not isinstance(decoded, bool):
        return str(decoded)
    raise UndecodableValueError(reasons.NEEDS_TEXT(value=type(decoded).__name__))


def _decode_file(value: Any) -> Any:
    name = _decode_str(value)
    # A path that leaves the storage is refused, as Django does for uploads.
    return validate_file_name(name, allow_relative_path=True) if name else name


def _encode_str(value: Any) -> Any:
    if type(value) is str and value.isascii():
        return value
    return None if value is None else encode_value(str(value))


# --- dates and times --------------------------------------------------------------------------------------------------


def _datetime_text(value: dt.datetime) -> str:
    if value.tzinfo is None:
        return value.isoformat()
    return value.astimezone(dt.UTC).replace(tzinfo=None).isoformat() + "Z"


def _encode_datetime(value: Any) -> Any:
    return None if value is None else _datetime_text(value)


def _datetime(value: Any) -> Any:
    if value is None:
        return None
    if type(value) is dt.datetime and (value.tzinfo is not None) == settings.USE_TZ:
        try:
            return _datetime_text(value)
        except OverflowError:
            return INEXACT
    return INEXACT


def _parsed(parse: Callable[[str], Any], otherwise: reasons.Reason) -> Callable[[Any], Any]:
    def decode_text(value: Any) -> Any:
        if value is None:
            return None
        parsed = parse(value) if isinstance(value, str) else None
        if parsed is None:
            raise UndecodableValueError(otherwise(value=repr(value)))
        return parsed

    return decode_text


_parse_date_field = _parsed(parse_date, reasons.NO_DATE)
_parse_time_field = _parsed(parse_time, reasons.NO_TIME)
_parse_datetime_field = _parsed(parse_datetime, reasons.NO_DATE_AND_TIME)


def _decode_datetime(value: Any) -> Any:
    parsed = _parse_datetime_field(value)
    if parsed is not None and parsed.tzinfo is not None:
        parsed.astimezone(dt.UTC)  # PostgreSQL would take a moment that Python cannot read again: OverflowError
    if parsed is None or (parsed.tzinfo is not None) == settings.USE_TZ:
        return parsed
    # The sender's USE_TZ differs: local time is that of TIME_ZONE, as in Django's own conversions.
    zone = timezone.get_default_timezone()
    return timezone.make_naive(parsed, zone) if parsed.tzinfo else timezone.make_aware(parsed, zone)


def _date(value: Any) -> Any:
    if value is None:
        return None
    return value.isoformat() if type(value) is dt.date else INEXACT


def _time(value: Any) -> Any:
    if value is None:
        return None
    return value.isoformat() if type(value) is dt.time and value.tzinfo is None else INEXACT


def _isoformat(value: Any) -> Any:
    return None if value is None else value.isoformat()


def _duration(value: Any) -> Any:
    return encode_value(value) if value is None or type(value) is dt.timedelta else INEXACT


def _decode_duration(value: Any) -> Any:
    decoded = decode_value(value)
    if decoded is None or isinstance(decoded, dt.timedelta):
        return decoded
    raise UndecodableValueError(reasons.NO_DURATION(value=repr(value)))


# --- other kinds ------------------------------------------------------------------------------------------------------


def _decimal_codec(field: models.DecimalField[Any, Any]) -> Codec:
    # Without limits since Django 6.0, where the database allows it; the stubs do not know that yet.
    places, digits = cast("int | None", field.decimal_places), cast("int | None", field.max_digits)

    def text(value: Any) -> Any:
        if value is None:
            return None
        if not isinstance(value, Decimal) or not value.is_finite():
            return encode_value(value)
        exponent = value.as_tuple().exponent
        if places is not None and isinstance(exponent, int) and exponent >= -places:
            return format(value, f".{places}f")
        return format(value, "f")

    def assigned(value: Any) -> Any:
        if value is None:
            return None
        if type(value) is not Decimal or not value.is_finite() or places is None or digits is None:
            return INEXACT
        exponent = value.as_tuple().exponent
        if digits > SQLITE_DECIMAL_DIGITS or not isinstance(exponent, int) or exponent < -places:
            return INEXACT
        if value.adjusted() >= digits - places or (not value and value.is_signed()):
            return INEXACT
        return format(value, f".{places}f")

    return Codec(text, assigned, lambda value: _fitting(_decode_decimal(value), digits, places))


def _fitting(number: Decimal | None, digits: int | None, places: int | None) -> Decimal | None:
    """*number* as it is, if a column of so many digits and decimal places holds it.

    A database might round it and say nothing.
    """
    if number is None or not number.is_finite() or places is None or digits is None:
        return number
    if number and number.adjusted() >= digits - places:
        raise UndecodableValueError(reasons.TOO_MANY_DIGITS(number=digits - places))
    if number != number.quantize(Decimal(1).scaleb(-places), context=Context(prec=MAX_PREC)):
        raise UndecodableValueError(reasons.TOO_MANY_PLACES(number=places))
    return number


def _decode_decimal(value: Any) -> Any:
    decoded = decode_value(value)
    if decoded is None:
        return None
    if isinstance(decoded, bool) or not isinstance(decoded, (str, int, float, Decimal)):
        raise UndecodableValueError(reasons.NO_DECIMAL(value=repr(value)))
    return Decimal(str(decoded))


def _uuid(value: Any) -> Any:
    if value is None:
        return None
    return str(value) if type(value) is uuid.UUID else INEXACT


def _encode_uuid(value: Any) -> Any:
    return None if value is None else str(value)


def _decode_uuid(value: Any) -> Any:
    return None if value is None else uuid.UUID(value)


def _binary(value: Any) -> Any:
    return encode_value(bytes(value)) if isinstance(value, (bytes, bytearray, memoryview)) else value


def _assigned_binary(value: Any) -> Any:
    return _binary(value) if value is None or isinstance(value, (bytes, bytearray, memoryview)) else INEXACT


def _decode_binary(value: Any) -> Any:
    decoded = decode_value(value)
    if decoded is None or isinstance(decoded, bytes):
        return decoded
    raise UndecodableValueError(reasons.NEEDS_BYTES())


_EXACT: Final = 1e16
_USUAL_DEPTH: Final = 20
_JSON_SCALARS: Final = frozenset({str, int, bool, type(None)})


def _plain_json(value: Any) -> bool:
    """Whether *value* consists of nothing that ``json.dumps`` and a database would respell."""
    kind = type(value)
    if kind in _JSON_SCALARS:
        return True
    if kind is float:
        # PostgreSQL keeps exact decimals: 1e16 comes back as an integer, -0.0 without its sign.
        return -_EXACT < value < _EXACT and (value != 0 or math.copysign(1.0, value) > 0)
    if kind is list:
        return all(map(_plain_json, value))
    if kind is dict:
        return all(type(name) is str for name in value) and all(map(_plain_json, value.values()))
    return False


def _is_carried_as_it_is(value: Any, depth: int = 0) -> bool:
    """Whether *value* is plain, and its JSON form is the very same: what one look can tell, not two."""
    kind = type(value)
    if kind is str:
        return bool(value.isascii())
    if kind is int:
        return bool(INT64_MIN <= value <= INT64_MAX)
    if kind is list:
        return depth < _USUAL_DEPTH and all(_is_carried_as_it_is(item, depth + 1) for item in value)
    if kind is dict:
        return (
            depth < _USUAL_DEPTH
            and all(type(name) is str and name.isascii() and name[:1] != "$" for name in value)
            and all(_is_carried_as_it_is(item, depth + 1) for item in value.values())
        )
    return _plain_json(value)


def _json_codec(field: models.JSONField[Any, Any]) -> Codec:
    custom = field.encoder is not None or field.decoder is not None

    def from_row(value: Any) -> Any:
        # A row's SQL NULL is told apart by the caller, which passes JSON_NULL for the other.
        if custom and value is not None and value is not JSON_NULL and not _plain_json(value):
            import json

            value = json.loads(json.dumps(value, cls=field.encoder))
        return encode_value(value)

    def assigned(value: Any) -> Any:
        if value is None or custom:
            return INEXACT
        if _is_carried_as_it_is(value):
            return value
        return encode_value(value) if _plain_json(value) else INEXACT

    def to_python(value: Any) -> Any:
        decoded = decode_value(value)
        if isinstance(decoded, JSONNull):
            return models.Value(None, models.JSONField())
        if custom and field.decoder is not None and decoded is not None:
            import json

            decoded = json.loads(json.dumps(decoded), cls=field.decoder)
        return decoded

    return Codec(from_row, assigned, to_python)


def _custom_codec(field: models.Field[Any, Any]) -> Codec:
    """A field class of somebody else's.

    Django's own contract for serializing: ``value_to_string`` and ``to_python``.
    """
    plain = (bool, int, float, str, Decimal, dt.datetime, dt.date, dt.time, dt.timedelta, uuid.UUID, bytes, memoryview)

    def from_row(value: Any) -> Any:
        if value is None:
            return None
        if type(value) in plain:
            return encode_value(bytes(value) if type(value) is memoryview else value)
        # It reads the one attribute of the object, whatever the object is.
        holder = cast("models.Model", SimpleNamespace(**{field.attname: value}))
        return encode_value(str(field.value_to_string(holder)))

    def to_python(value: Any) -> Any:
        decoded = decode_value(value)
        return None if decoded is None else field.to_python(decoded)

    return Codec(from_row, inexact, to_python)


def _fixed(codec_: Codec) -> Callable[[Any], Codec]:
    return lambda _field: codec_


_INT = _fixed(Codec(_same, _int, _decode_int))
_TEXT = _fixed(Codec(_encode_str, _str, _decode_str))
_BUILDERS: dict[Any, Callable[[Any], Codec]] = {
    models.AutoField: _INT,
    models.BigAutoField: _INT,
    models.SmallAutoField: _INT,
    models.IntegerField: _INT,
    models.BooleanField: _fixed(Codec(_same, _bool, _decode_bool)),
    models.CharField: _TEXT,
    models.TextField: _TEXT,
    models.FilePathField: _TEXT,
    models.GenericIPAddressField: _fixed(Codec(_encode_str, _ip, _decode_str)),
    models.FileField: _fixed(Codec(_file, _assigned_file, _decode_file)),
    models.FloatField: _fixed(Codec(_encode_float, _float, _decode_float)),
    models.DecimalField: _decimal_codec,
    models.DateTimeField: _fixed(Codec(_encode_datetime, _datetime, _decode_datetime)),
    models.DateField: _fixed(Codec(_isoformat, _date, _parse_date_field)),
    models.TimeField: _fixed(Codec(_isoformat, _time, _parse_time_field)),
    models.DurationField: _fixed(Codec(encode_value, _duration, _decode_duration)),
    models.UUIDField: _fixed(Codec(_encode_uuid, _uuid, _decode_uuid)),
    models.BinaryField: _fixed(Codec(_binary, _assigned_binary, _decode_binary)),
    models.JSONField: _json_codec,
}

# A subclass that overrides none of these converts as the class that it extends.
_CONVERSIONS: Final = (
    "from_db_value",
    "to_python",
    "get_prep_value",
    "get_db_prep_value",
    "get_db_prep_save",
    "value_from_object",
    "value_to_string",
)


# What these save is on the instance afterwards. Another ``pre_save`` may give a value and tell the instance nothing.
_PRE_SAVES: Final = frozenset(
    kind.pre_save for kind in (models.Field, models.DateField, models.DateTimeField, models.TimeField, models.FileField)
)


def _build(field: models.Field[Any, Any]) -> Codec:
    found = _conversions(field)
    return found if type(field).pre_save in _PRE_SAVES else found._replace(encode_assigned=inexact)


def _conversions(field: models.Field[Any, Any]) -> Codec:
    if field.remote_field is not None and isinstance(field, models.ForeignKey):
        return codec(field.target_field)
    base = converts_as(field)
    if base in _BUILDERS:
        return _BUILDERS[base](field)
    if base is not None:
        from synchro import pgvalues  # which builds on the codecs here

        return pgvalues.build(field, base) or _custom_codec(field)
    return _custom_codec(field)


def converts_as(field: models.Field[Any, Any]) -> type[models.Field[Any, Any]] | None:
    """Django's own class as which *field* converts its values; None for a field class of somebody else's."""
    for base in type(field).__mro__:
        if base in _BUILDERS or base.__module__.startswith("django.contrib.postgres.fields"):
            return base
        # Django's own classes between (PositiveIntegerField, EmailField…) convert as their base does.
        if not base.__module__.startswith("django.db.models") and any(name in vars(base) for name in _CONVERSIONS):
            return None
    return None


def has_lone_surrogate(text: str) -> bool:
    """Whether *text* is no Unicode text, which no database takes as such."""
    return any("\ud800" <= character <= "\udfff" for character in text)
