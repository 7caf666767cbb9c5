"""The forms of names: node ids, object ids, model labels, field names, digests (SPEC R31 to R34, R39, R43).

Each function says whether a value, of whatever type, is such a name. The answers for names that come again in each
record are remembered.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "are_field_names",
    "is_bundle_id",
    "is_digest",
    "is_field_name",
    "is_model_label",
    "is_node_id",
    "is_object_id",
]

NODE_ID_LENGTH = 64
OBJECT_ID_LENGTH = 600

_NODE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*-[0-9a-f]{8}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
# Not str.isidentifier, whose answer beyond ASCII changes with the version of Unicode, and so with that of Python. All
# that is not ASCII may stand in a name, which takes in every identifier that there will be, but for white space,
# controls, what sets the direction of text, surrogates and private use.
_BEYOND_ASCII = (
    r"\u00a1-\u167f\u1681-\u1fff\u200c\u200d\u2010-\u2027\u2030-\u205e\u2070-\u2fff\u3001-\ud7ff"
    r"\uf900-\ufefe\uff00-\ufff8\U00010000-\U000dffff\U000e0100-\U000effff"
)
_NAME = rf"[A-Za-z_{_BEYOND_ASCII}][A-Za-z0-9_{_BEYOND_ASCII}]*"
_LABEL = rf"{_NAME}\.[a-z_{_BEYOND_ASCII}][a-z0-9_{_BEYOND_ASCII}]*"
# Compiled when they are needed: that takes a third of the time of loading all that capturing changes needs.
_compiled = cache(re.compile)
_BUNDLE_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


@lru_cache(maxsize=1024)
def _node_id(text: str) -> bool:
    return len(text) <= NODE_ID_LENGTH and _NODE_ID.fullmatch(text) is not None


def is_node_id(value: object) -> bool:
    """``office-7f3a9c21``: a name, a hyphen, eight hexadecimal digits."""
    # The length is looked at first, so that the memory of the cache is bounded.
    return type(value) is str and len(value) <= NODE_ID_LENGTH and _node_id(value)


def is_object_id(value: object) -> bool:
    """``office-7f3a9c21/5``: where an object was born, and its primary key there."""
    if type(value) is not str or len(value) > OBJECT_ID_LENGTH:
        return False
    node, _, pk = value.partition("/")
    return pk != "" and len(node) <= NODE_ID_LENGTH and _node_id(node)


@lru_cache(maxsize=4096)
def _model_label(text: str) -> bool:
    return _compiled(_LABEL).fullmatch(text) is not None


def is_model_label(value: object) -> bool:
    """``geo.city``: application and model, the model without capitals."""
    return type(value) is str and len(value) <= OBJECT_ID_LENGTH and _model_label(value)


def is_field_name(value: object) -> bool:
    """Report whether it is a name: letters, digits and the underscore, and nearly all that is not ASCII."""
    return type(value) is str and _compiled(_NAME).fullmatch(value) is not None


def are_field_names(values: Mapping[Any, Any]) -> bool:
    """Report whether all keys are names."""
    try:
        # Every identifier of Python is a name (which a test holds against the Unicode of each version), and this
        # takes a third of the time.
        return all(map(str.isidentifier, values)) or all(map(_compiled(_NAME).fullmatch, values))
    except TypeError:
        return False  # not even strings


def is_digest(value: object) -> bool:
    """SHA-256 as 64 lower-case hexadecimal digits."""
    return type(value) is str and _DIGEST.fullmatch(value) is not None


def is_bundle_id(value: object) -> bool:
    """Report whether it is a UUID in lower case with hyphens."""
    return type(value) is str and _BUNDLE_ID.fullmatch(value) is not None
