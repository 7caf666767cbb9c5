"""Field values: from Python to what JSON can hold, and back (SPEC, "Values").

JSON's own types stand for themselves. What JSON cannot hold is a *tag*: an object with exactly one member, whose name
begins with ``$``. Data that looks like a tag gets one more ``$``. Decimals, dates, times and UUIDs become strings;
their meaning is in the field's type, so `decode_value` leaves them strings.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from .limits import INT64_MAX, INT64_MIN, MAX_VALUE_DEPTH

__all__ = ["JSON_NULL", "JSONNull", "Range", "ValueFormError", "decode_base64", "decode_value", "encode_value"]

# PostgreSQL's numeric, the widest there is, has at most 131072 + 16383 digits. Without a bound, 1E+999999999 would
# be written out as a gigabyte of zeros.
_DECIMAL_DIGITS = 150_000
# What Python reads and writes without being told otherwise (sys.set_int_max_str_digits).
_INTEGER_DIGITS = 4300

_INTEGER = re.compile(r"-?[1-9][0-9]*")
_DURATION = re.compile(r"(-?)P(0|[1-9][0-9]{0,8})DT([01][0-9]|2[0-3])H([0-5][0-9])M([0-5][0-9])(?:\.([0-9]{6}))?S")
_BOUNDS = frozenset({"[]", "[)", "(]", "()"})


class ValueFormError(ValueError):
    """A value cannot be carried, or is not of its form. `rule` is the rule of SPEC.md."""

    def __init__(self, message: str, *, rule: str) -> None:
        super().__init__(message)
        self.rule = rule


class JSONNull:
    """JSON's null as a value of its own, as against None, which is SQL's NULL. There is one: `JSON_NULL`."""

    __slots__ = ()
    _only: JSONNull | None = None

    def __new__(cls) -> JSONNull:  # noqa: PYI034  (there is one object, whatever the subclass)
        """Return the only one."""
        if cls._only is None:
            cls._only = super().__new__(cls)
        return cls._only

    def __repr__(self) -> str:
        return "JSON_NULL"

    def __bool__(self) -> bool:
        return False

    def __reduce__(self) -> str:
        return "JSON_NULL"


JSON_NULL: Final = JSONNull()


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A range of numbers, dates or moments. None as `lower` or `upper` means unbounded on that side.

    `bounds` is ``[]``, ``[)``, ``(]`` or ``()``; a square bracket includes the end. An empty range has no ends.
    """

    lower: Any = None
    upper: Any = None
    bounds: str = "[)"
    empty: bool = False


# --- Python to JSON


def encode_value(value: object) -> Any:
    """Return what stands for `value` in a record: only None, bool, int, float, str, list and dict of exactly these.

    Raises TypeError for a type that cannot be carried (the message names it), ValueError for a value that cannot.
    """
    return _encode(value, 1)


def _encode(value: object, depth: int) -> Any:
    """Encode; `depth` is how many arrays and objects deep one would stand that stood for `value`."""
    kind = type(value)
    encode = _ENCODERS.get(kind)
    if encode is None:
        encode = _encoder_of_subclass(kind)
    return encode(value, depth)


def _encoder_of_subclass(kind: type) -> Callable[[Any, int], Any]:
    """Find the encoder by inheritance: text choices, safe strings, the date types of database drivers."""
    for base, encode in _ENCODERS.items():
        if issubclass(kind, base):
            return encode
    if issubclass(kind, Mapping):
        return _encode_mapping
    message = f"a value of type {kind.__module__}.{kind.__qualname__} cannot be carried"
    raise TypeError(message)


def _encode_same(value: Any, _depth: int) -> Any:
    return value


def _encode_int(value: int, depth: int) -> Any:
    if INT64_MIN <= value <= INT64_MAX:
        return value if type(value) is int else int(value)
    _check_depth(depth)
    try:
        return {"$int": int.__repr__(int(value))}
    except ValueError:
        message = f"an integer of more than {_INTEGER_DIGITS} digits cannot be carried"
        raise ValueFormError(message, rule="R20") from None


def _encode_float(value: float, depth: int) -> Any:
    if math.isfinite(value):
        return value if type(value) is float else float(value)
    _check_depth(depth)
    return {"$float": "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"}


def _encode_str(value: str, depth: int) -> Any:
    if type(value) is not str:
        value = str.__str__(value)
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        units = value.encode("utf-16-be", "surrogatepass")
        # Two surrogates that make a pair are the character that they make.
        text = units.decode("utf-16-be", "surrogatepass")
        if _is_unicode(text):
            return text
        _check_depth(depth)
        return {"$utf16": base64.b64encode(units).decode("ascii")}
    return value


def _encode_bytes(value: bytes | bytearray | memoryview, depth: int) -> Any:
    _check_depth(depth)
    return {"$bytes": base64.b64encode(bytes(value)).decode("ascii")}


def _encode_duration(value: timedelta, depth: int) -> Any:
    _check_depth(depth)
    return {"$duration": _duration_text(value)}


def _duration_text(value: timedelta) -> str:
    # In integers, because -timedelta.min is no timedelta.
    total = (value.days * 86400 + value.seconds) * 1_000_000 + value.microseconds
    sign = "-" if total < 0 else ""
    seconds, micro = divmod(abs(total), 1_000_000)
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    fraction = f".{micro:06}" if micro else ""
    return f"{sign}P{days}DT{hour:02}H{minute:02}M{second:02}{fraction}S"


def _encode_decimal(value: Decimal, _depth: int) -> str:
    if value.is_nan():
        return "NaN"
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and (abs(exponent) > _DECIMAL_DIGITS or abs(value.adjusted()) > _DECIMAL_DIGITS):
        message = f"a decimal of more than {_DECIMAL_DIGITS} digits cannot be carried"
        raise ValueError(message)
    return format(value, "f")


def _encode_datetime(value: datetime, _depth: int) -> str:
    if value.tzinfo is None or value.utcoffset() is None:
        return value.replace(tzinfo=None).isoformat()
    try:
        return value.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"
    except OverflowError:
        message = f"the moment {value!r} is outside the years 1 to 9999 in UTC"
        raise ValueError(message) from None


def _encode_date(value: date, _depth: int) -> str:
    return value.isoformat()


def _encode_time(value: time, _depth: int) -> str:
    if value.tzinfo is not None:
        message = "a time of day with a time zone cannot be carried"
        raise ValueError(message)
    return value.isoformat()


def _encode_uuid(value: UUID, _depth: int) -> str:
    return str(value)


def _encode_json_null(_value: JSONNull, depth: int) -> Any:
    _check_depth(depth)
    return {"$json": None}


def _encode_list(value: list[Any] | tuple[Any, ...], depth: int) -> Any:
    _check_depth(depth)
    return [_encode(item, depth + 1) for item in value]


def _encode_mapping(value: Mapping[Any, Any], depth: int) -> Any:
    _check_depth(depth)
    names: list[Any] = []
    for name in value:
        if not isinstance(name, str):
            message = f"an object name of type {type(name).__qualname__} cannot be carried, only str"
            raise TypeError(message)
        names.append(_encode_str(name, depth + 3))
    if any(type(name) is dict for name in names):
        # Its pairs stand three levels deeper: object, array, pair.
        pairs = [[name, _encode(item, depth + 3)] for name, item in zip(names, value.values(), strict=True)]
        _check_distinct(names)
        return {"$object": pairs}
    encoded = {name: _encode(item, depth + 1) for name, item in zip(names, value.values(), strict=True)}
    if len(encoded) != len(names):
        _check_distinct(names)
    if len(encoded) == 1 and names[0].startswith("$"):
        return {"$" + names[0]: encoded[names[0]]}
    return encoded


def _encode_range(value: Range, depth: int) -> Any:
    _check_depth(depth)
    if value.empty:
        if value.lower is not None or value.upper is not None:
            message = "an empty range has no ends"
            raise ValueFormError(message, rule="R27")
        return {"$range": "empty"}
    if value.bounds not in _BOUNDS:
        message = f"the bounds of a range are [], [), (] or (), not {value.bounds!r}"
        raise ValueFormError(message, rule="R27")
    body = {
        "lower": _encode(value.lower, depth + 2),
        "upper": _encode(value.upper, depth + 2),
        "bounds": value.bounds,
    }
    _check_depth(depth + 1)
    # Ends are checked as the reader checks them, so that nothing is written that it refuses.
    _decode_range(body, depth)
    return {"$range": body}


# datetime stands before date, whose subclass it is; bool cannot be subclassed.
_ENCODERS: dict[type, Callable[[Any, int], Any]] = {
    str: _encode_str,
    int: _encode_int,
    bool: _encode_same,
    type(None): _encode_same,
    float: _encode_float,
    datetime: _encode_datetime,
    date: _encode_date,
    time: _encode_time,
    Decimal: _encode_decimal,
    UUID: _encode_uuid,
    list: _encode_list,
    tuple: _encode_list,
    dict: _encode_mapping,
    bytes: _encode_bytes,
    bytearray: _encode_bytes,
    memoryview: _encode_bytes,
    timedelta: _encode_duration,
    JSONNull: _encode_json_null,
    Range: _encode_range,
}


# --- JSON to Python


def decode_value(value: object) -> Any:
    """Return the Python value that `value`, taken from a record, stands for.

    Raises ValueFormError, a ValueError, for a malformed or unknown tag and for what is not a value of the format.
    """
    return _decode(value, 1)


def _decode(value: object, depth: int) -> Any:
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return value
    if kind is int:
        if not INT64_MIN <= value <= INT64_MAX:  # type: ignore[operator]
            raise ValueFormError("an integer outside 64 bits stands as $int", rule="R14")
        return value
    if kind is float:
        if not math.isfinite(value):  # type: ignore[arg-type]
            raise ValueFormError("a float that is not finite stands as $float", rule="R15")
        return value
    if kind is list:
        _check_depth(depth)
        return [_decode(item, depth + 1) for item in value]  # type: ignore[attr-defined]
    if kind is dict:
        return _decode_object(value, depth)  # type: ignore[arg-type]
    raise ValueFormError(f"a value of type {kind.__qualname__} has to be encoded first", rule="R29")


def _decode_object(value: dict[Any, Any], depth: int) -> Any:
    _check_depth(depth)
    if len(value) == 1:
        ((name, content),) = value.items()
        if type(name) is str and name.startswith("$"):
            if name.startswith("$$"):
                return {name[1:]: _decode(content, depth + 1)}
            decode = _DECODERS.get(name)
            if decode is None:
                raise ValueFormError(f"unknown tag {name[:40]!r}", rule="R18")
            return decode(content, depth)
    for name in value:
        if type(name) is not str:
            raise ValueFormError(f"an object name is of type {type(name).__qualname__}", rule="R29")
    return {name: _decode(item, depth + 1) for name, item in value.items()}


def _decode_int(content: object, _depth: int) -> int:
    if type(content) is str and len(content) <= _INTEGER_DIGITS + 1 and _INTEGER.fullmatch(content):
        try:
            number = int(content)
        except ValueError:
            number = 0
        if not INT64_MIN <= number <= INT64_MAX:
            return number
    raise ValueFormError("$int is not a decimal integer outside 64 bits", rule="R20")


def _decode_float(content: object, _depth: int) -> float:
    if type(content) is str and content in {"NaN", "Infinity", "-Infinity"}:
        return float(content)
    raise ValueFormError("$float is not NaN, Infinity or -Infinity", rule="R21")


def decode_base64(content: object) -> bytes | None:
    """Decode canonical base64: padded, no other characters, unused bits zero."""
    if type(content) is not str:
        return None
    try:
        data = binascii.a2b_base64(content.encode("ascii"), strict_mode=True)
    except (ValueError, UnicodeEncodeError):
        return None
    return data if binascii.b2a_base64(data, newline=False).decode("ascii") == content else None


def _decode_bytes(content: object, _depth: int) -> bytes:
    data = decode_base64(content)
    if data is None:
        raise ValueFormError("$bytes is not base64 with padding", rule="R22")
    return data


def _decode_duration(content: object, _depth: int) -> timedelta:
    match = _DURATION.fullmatch(content) if type(content) is str else None
    if match is not None:
        sign, days, hours, minutes, seconds, micro = match.groups()
        factor = -1 if sign else 1
        try:
            duration = timedelta(
                days=factor * int(days),
                hours=factor * int(hours),
                minutes=factor * int(minutes),
                seconds=factor * int(seconds),
                microseconds=factor * int(micro or 0),
            )
        except OverflowError:
            duration = None
        # "-P0D…" and ".000000" are other spellings of what has one already.
        if duration is not None and _duration_text(duration) == content:
            return duration
    raise ValueFormError("$duration is not of the form [-]P<days>DT<hh>H<mm>M<ss>[.ffffff]S", rule="R23")


def _decode_json(content: object, _depth: int) -> JSONNull:
    if content is not None:
        raise ValueFormError("$json is not null", rule="R24")
    return JSON_NULL


def _decode_utf16(content: object, _depth: int) -> str:
    data = decode_base64(content)
    if data is not None and len(data) % 2 == 0:
        text = data.decode("utf-16-be", "surrogatepass")
        if not _is_unicode(text):
            return text
    raise ValueFormError("$utf16 is not base64 of UTF-16BE with a lone surrogate", rule="R25")


def _decode_pairs(content: object, depth: int) -> dict[str, Any]:
    if type(content) is not list:
        raise ValueFormError("$object is not an array of pairs", rule="R26")
    _check_depth(depth + 1)
    result: dict[str, Any] = {}
    escaped = False
    for pair in content:
        if type(pair) is not list or len(pair) != 2:  # noqa: PLR2004
            raise ValueFormError("$object is not an array of pairs", rule="R26")
        _check_depth(depth + 2)
        name, item = pair
        if type(name) is dict and list(name) == ["$utf16"]:
            _check_depth(depth + 3)
            name = _decode_utf16(name["$utf16"], depth + 3)
            escaped = True
        elif type(name) is not str:
            raise ValueFormError("a name in $object is neither a string nor $utf16", rule="R26")
        if name in result:
            raise ValueFormError("$object has a name twice", rule="R26")
        result[name] = _decode(item, depth + 3)
    if not escaped:
        raise ValueFormError("$object has no name that needs it", rule="R26")
    return result


def _decode_range(content: object, depth: int) -> Range:
    if content == "empty" and type(content) is str:
        return Range(empty=True)
    if type(content) is not dict or content.keys() != {"lower", "upper", "bounds"}:
        raise ValueFormError('$range is neither "empty" nor an object of lower, upper and bounds', rule="R27")
    _check_depth(depth + 1)
    bounds = content["bounds"]
    if type(bounds) is not str or bounds not in _BOUNDS:
        raise ValueFormError("the bounds of $range are not [], [), (] or ()", rule="R27")
    ends = [_decode(content[name], depth + 2) for name in ("lower", "upper")]
    if any(type(end) not in _END_TYPES for end in ends):
        raise ValueFormError("an end of $range is not a null, number or string", rule="R27")
    return Range(lower=ends[0], upper=ends[1], bounds=bounds)


_END_TYPES = frozenset({type(None), int, float, str, timedelta})

_DECODERS: dict[str, Callable[[Any, int], Any]] = {
    "$int": _decode_int,
    "$float": _decode_float,
    "$bytes": _decode_bytes,
    "$duration": _decode_duration,
    "$json": _decode_json,
    "$utf16": _decode_utf16,
    "$object": _decode_pairs,
    "$range": _decode_range,
}


# --- both


def _check_depth(depth: int) -> None:
    if depth > MAX_VALUE_DEPTH:
        raise ValueFormError(f"a value nests deeper than {MAX_VALUE_DEPTH} arrays and objects", rule="R19")


def _check_distinct(names: list[Any]) -> None:
    seen = {name["$utf16"] if type(name) is dict else "=" + name for name in names}
    if len(seen) != len(names):
        raise ValueFormError("an object has two names that are written the same", rule="R13")


def _is_unicode(text: str) -> bool:
    """Whether there is no lone surrogate in it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
