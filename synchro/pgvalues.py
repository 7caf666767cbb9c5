"""Codecs for the fields of django.contrib.postgres, which are told by name: importing them needs a driver.

An array is a list of the values of its base field, an hstore an object of texts, a range the tag ``$range``. All are
read back from the row: PostgreSQL respells ranges (``[1,5]`` is ``[1,6)``), and what was assigned may be anything.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from django.db import models

from changelog_format.values import Range, decode_value, encode_value
from synchro import reasons, values
from synchro.values import Codec, UndecodableValueError

AnyField: TypeAlias = "models.Field[Any, Any]"


def build(field: AnyField, base: type[AnyField]) -> Codec | None:
    """The codec of *field*, which converts as *base* does; None where Django's own contract will do."""
    kinds = {each.__name__ for each in base.__mro__}
    if "ArrayField" in kinds:
        return _array(field)
    if "HStoreField" in kinds:
        return Codec(encode_value, values.inexact, _decode_hstore)
    return _range(field) if "RangeField" in kinds else None


def _array(field: Any) -> Codec:
    item = values.codec(field.base_field)

    def encode(value: Any) -> Any:
        return None if value is None else [item.encode(each) for each in value]

    def decode(value: Any) -> Any:
        if value is None:
            return None
        if not isinstance(value, list):
            raise UndecodableValueError(reasons.NEEDS_LIST(value=repr(value)))
        return [item.decode(each) for each in value]

    return Codec(encode, values.inexact, decode)


def _decode_hstore(value: Any) -> Any:
    decoded = decode_value(value)
    if decoded is None:
        return None
    if isinstance(decoded, dict) and all(each is None or isinstance(each, str) for each in decoded.values()):
        return decoded
    raise UndecodableValueError(reasons.NEEDS_TEXTS(value=repr(value)))


def _range(field: Any) -> Codec:
    end = values.codec(field.base_field)

    def encode(value: Any) -> Any:
        if value is None:
            return None
        if value.isempty:
            return encode_value(Range(empty=True))
        lower, upper = end.encode(value.lower), end.encode(value.upper)
        return encode_value(Range(lower=lower, upper=upper, bounds=value._bounds))  # noqa: SLF001  psycopg has no other name

    def decode(value: Any) -> Any:
        decoded = decode_value(value)
        if decoded is None:
            return None
        if not isinstance(decoded, Range):
            raise UndecodableValueError(reasons.NEEDS_RANGE(value=repr(value)))
        if decoded.empty:
            return field.range_type(empty=True)
        lower, upper = (end.decode(each) for each in (decoded.lower, decoded.upper))
        return field.range_type(lower, upper, decoded.bounds)

    return Codec(encode, values.inexact, decode)
