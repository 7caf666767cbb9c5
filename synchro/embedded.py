"""Primary keys inside texts and JSON: what a project says of where they are.

A module ``embedded_keys`` of some installed app says it, by functions that replace each key by what they are told::

    from synchro import embedded_keys

    @embedded_keys("blog.post", "body")
    def links(value, swap):
        return re.sub(r'<a page="([^"]+)"', lambda m: f'<a page="{swap("blog.page", m[1])}"', value)

On the way out ``swap`` is given local primary keys and answers with object ids (``office-7f3a9c21/5``), on the way in
it is the other way round; what means nothing to it comes back as it is. So a function has to find both. The log has the
values as rows have them, records have them with object ids. Nothing here touches a database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, TypeAlias, TypeVar

from django.core.exceptions import ImproperlyConfigured

from changelog_format import decode_value, encode_value
from synchro import reasons, registry
from synchro.conf import early_gettext as _
from synchro.errors import EmbeddedKeyError
from synchro.registry import ModelSpec

Swap: TypeAlias = Callable[[str, Any], Any]
"""Called with the label of a model and a key; gives what to put in the key's place."""
Rewrite: TypeAlias = Callable[[Any, Swap], Any]
Key: TypeAlias = tuple[str, str]
"""Label of a model (lower case), and a primary key or an object id of one of its rows, as text."""

_F = TypeVar("_F", bound=Rewrite)

_functions: dict[tuple[str, str], Rewrite] = {}


def embedded_keys(model: str, *fields: str) -> Callable[[_F], _F]:
    """Register a function for *fields* of *model* (``"app.model"``), which get it also in multi-table children.

    It is called with the value (text, or the python value of a JSON field; never None) and ``swap``, and gives the
    value with ``swap(label, key)`` in the place of each key. It must depend on these alone, and change nothing else.
    """
    if not fields or not all(isinstance(name, str) for name in (model, *fields)):
        raise ImproperlyConfigured(_("embedded_keys() takes a model ('app.model') and the names of its fields"))

    def register(function: _F) -> _F:
        for name in fields:
            _functions[model.lower(), name] = function
        functions_of.cache_clear()
        return function

    return register


def registered() -> Iterator[tuple[str, str]]:
    """Model and field of all that is registered, in a fixed order."""
    yield from sorted(_functions)


def clear_caches() -> None:
    """Forget what was found out about models. Called when settings change (in tests)."""
    functions_of.cache_clear()


@cache
def functions_of(spec: ModelSpec) -> Mapping[str, Rewrite]:
    """Field of *spec* → the function that finds keys in it."""
    if not _functions:
        return {}
    labels = [each._meta.label_lower for each in (spec.model, *spec.model._meta.get_parent_list())]
    travelling = {field.name for field in spec.fields}
    found: dict[str, Rewrite] = {}
    for (label, name), function in _functions.items():
        if label in labels and name in travelling:
            found.setdefault(name, function)
    return found


def mentioned(spec: ModelSpec, state: Mapping[str, Any]) -> set[Key]:
    """The keys that *state* (JSON forms) of *spec* has inside its values, of installed models."""
    found: set[Key] = set()

    def note(label: str, key: Any) -> Any:
        text = label.lower(), str(key)
        if registry.by_label(text[0]) is not None:
            found.add(text)
        return key

    _run(spec, state, note)
    return found


def rewritten(spec: ModelSpec, state: Mapping[str, Any], known: Mapping[Key, Any]) -> dict[str, Any]:
    """The fields of *state* that differ once each key is replaced by what *known* has for it. JSON forms."""

    def swap(label: str, key: Any) -> Any:
        return known.get((label.lower(), str(key)), key)

    return {name: value for name, value in _run(spec, state, swap).items() if value != state[name]}


def _run(spec: ModelSpec, state: Mapping[str, Any], swap: Swap) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, function in functions_of(spec).items():
        value = state.get(name)
        if value is not None:
            try:
                found[name] = encode_value(function(decode_value(value), swap))
            except Exception as error:  # the project's own code
                raise EmbeddedKeyError(
                    reasons.EMBEDDED_FAILED(model=spec.label, field=name, error=f"{type(error).__name__}: {error}")
                ) from error
    return found
