"""Checks that the records share. Each raises RecordError naming the key and the rule.

Numbers beyond strict JSON, which a fast parser lets through, raise LineError here.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .dates import is_date
from .errors import LineError, RecordError
from .limits import INT64_MAX, INT64_MIN
from .names import are_field_names, is_field_name, is_model_label, is_node_id, is_object_id
from .values import ValueFormError, decode_value

if TYPE_CHECKING:
    from collections.abc import Mapping

_PLAIN = frozenset({str, type(None), bool})
# Characters of a value in an error text; of a name, which also is the most that a value takes when it is quoted.
_SHOWN = 80
_NAMED = 120


def shown(value: object) -> str:
    """Return a value for an error text: short, and safe to print."""
    if isinstance(value, str):
        return named(repr(value if len(value) <= _SHOWN else value[: _SHOWN - 1] + "…"))
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return repr(value) if abs(value) < 10**40 else "a huge number"
    if isinstance(value, dict):
        return "an object"
    return "an array" if isinstance(value, (list, tuple)) else f"a {type(value).__qualname__}"


def named(name: str) -> str:
    """Return a name for an error text: whole, unless it is longer than names are."""
    return name if len(name) <= _NAMED else name[: _NAMED - 1] + "…"


def require(data: Mapping[str, Any], key: str, what: str) -> Any:
    """Return the value of `key`, which has to be there."""
    try:
        return data[key]
    except KeyError:
        raise RecordError(f"{what} has no {key!r}", rule="R29") from None


def refuse_type(key: str, value: object, expected: str) -> RecordError:
    """Return the error that says that `key` has the wrong type."""
    return RecordError(f"{key} is {shown(value)}, not {expected}", rule="R29")


def check_text(key: str, value: object) -> str:
    """Any string."""
    if type(value) is not str:
        raise refuse_type(key, value, "a string")
    return value


def check_object(key: str, value: object) -> dict[str, Any]:
    """Any JSON object."""
    if type(value) is not dict:
        raise refuse_type(key, value, "an object")
    return value


def check_keys(key: str, value: object, names: frozenset[str]) -> dict[str, Any]:
    """Check for an object with exactly these keys."""
    data = check_object(key, value)
    if data.keys() != names:
        listed = ", ".join(sorted(names))
        raise RecordError(f"{key} does not have just the keys {listed}", rule="R29")
    return data


def check_integer(key: str, value: object, least: int) -> int:
    """Check for an integer of 64 bits that is not below `least`."""
    if type(value) is not int:
        raise refuse_type(key, value, "an integer")
    if not least <= value <= INT64_MAX:
        raise RecordError(f"{key} is {shown(value)}, not between {least} and {INT64_MAX}", rule="R30")
    return value


def check_date(key: str, value: object) -> str:
    """A date of the format."""
    if not is_date(value):
        raise RecordError(f"{key} is {shown(value)}, not a date YYYY-MM-DDTHH:MM:SS.ffffffZ", rule="R35")
    return value  # type: ignore[return-value]


def check_node_id(key: str, value: object) -> str:
    """A node id."""
    if not is_node_id(value):
        raise RecordError(f"{key} is {shown(value)}, not a node id", rule="R31")
    return value  # type: ignore[return-value]


def check_object_id(key: str, value: object) -> str:
    """An object id."""
    if not is_object_id(value):
        raise RecordError(f"{key} is {shown(value)}, not an object id", rule="R32")
    return value  # type: ignore[return-value]


def check_model_label(key: str, value: object) -> str:
    """A model label."""
    if not is_model_label(value):
        raise RecordError(f"{key} is {shown(value)}, not a model label", rule="R33")
    return value  # type: ignore[return-value]


def check_field_name(key: str, value: object) -> str:
    """A field name."""
    if not is_field_name(value):
        raise RecordError(f"{key} has {shown(value)}, which is not a field name", rule="R34")
    return value  # type: ignore[return-value]


def check_names(key: str, value: object) -> list[str]:
    """Check for an array of distinct field names."""
    if type(value) is not list:
        raise refuse_type(key, value, "an array")
    for item in value:
        check_field_name(key, item)
    if len(set(value)) != len(value):
        raise RecordError(f"{key} has a name twice", rule="R29")
    return value


def check_key(key: str, value: object) -> None:
    """Check a natural key: null, or values, at least one."""
    if value is None:
        return
    if type(value) is not list:
        raise refuse_type(key, value, "an array or null")
    if not value:
        raise RecordError(f"{key} is empty", rule="R29")
    for item in value:
        kind = type(item)
        if kind is not str and not (kind is int and INT64_MIN <= item <= INT64_MAX):
            check_value(key, item)


def check_fields(value: object) -> None:
    """Check the values of the fields of an object."""
    if type(value) is not dict:
        raise refuse_type("fields", value, "an object")
    _check_identifiers("fields", value)
    check_values(value)


def check_values(fields: dict[str, Any]) -> None:
    """Check the values of fields whose names are in order."""
    if _PLAIN.issuperset(map(type, fields.values())):
        return
    for name, item in fields.items():
        kind = type(item)
        # What is usual is let through here, at a third of the time that check_value takes.
        if kind in _PLAIN:
            continue
        if kind is int:
            if INT64_MIN <= item <= INT64_MAX:
                continue
        elif kind is float:
            if math.isfinite(item):
                continue
        elif kind is list and _PLAIN.issuperset(map(type, item)):
            continue
        check_value(f"fields.{named(name)}", item)


def check_value(key: str, value: object) -> None:
    """One value in its encoded form."""
    try:
        # Decoding and throwing away costs more than a check of its own, but the two cannot come to differ.
        decode_value(value)
    except ValueFormError as error:
        # What is no strict JSON is the line's fault, wherever it comes to light.
        kind = LineError if error.rule in {"R13", "R14", "R15"} else RecordError
        raise kind(f"{key}: {error}", rule=error.rule) from None


def check_refs(value: object) -> None:
    """Check the object ids that foreign keys point to."""
    if type(value) is not dict:
        raise refuse_type("refs", value, "an object")
    if not value:
        return
    _check_identifiers("refs", value)
    for name, item in value.items():
        if not is_object_id(item):
            check_object_id(f"refs.{named(name)}", item)


def _check_identifiers(key: str, names: dict[Any, Any]) -> None:
    if not are_field_names(names):
        for name in names:
            check_field_name(key, name)


def check_plain(key: str, value: object) -> None:
    """Check free JSON, such as the context of a change: any JSON, without the meaning that tags have in values."""
    stack: list[Any] = [value]
    while stack:
        item = stack.pop()
        kind = type(item)
        if kind is dict:
            for name in item:
                if type(name) is not str:
                    raise RecordError(f"{key} has a name of type {type(name).__qualname__}", rule="R29")
            stack.extend(item.values())
        elif kind is list:
            stack.extend(item)
        elif kind is int:
            if not INT64_MIN <= item <= INT64_MAX:
                raise LineError(f"{key} has an integer outside 64 bits", rule="R14")
        elif kind is float:
            if not math.isfinite(item):
                raise LineError(f"{key} has a float that is not finite", rule="R15")
        elif kind not in _PLAIN:
            raise RecordError(f"{key} has a value of type {kind.__qualname__}, which is not JSON", rule="R29")


def split_extra(data: Mapping[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """Return what stands under keys that this version does not know."""
    if data.keys() <= known:
        return {}
    extra = {key: value for key, value in data.items() if key not in known}
    for key, value in extra.items():
        check_plain(shown(key), value)
    return extra


def add_extra(data: dict[str, Any], extra: Mapping[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """Append `extra` in the order of its names; return `data`. Raises RecordError where it has a key of the format."""
    for key in sorted(extra):
        if key in known:
            raise RecordError(f"extra has {key!r}, which is a key of the format", rule="R29")
        data[key] = extra[key]
    return data
