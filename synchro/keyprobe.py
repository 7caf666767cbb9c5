"""Which fields a hand-written natural key is made of, found out without a database.

``natural_key()`` is called with a stand-in for an instance that answers each concrete field with an inert marker; what
comes back tells which fields went in, and in which order. ``get_by_natural_key()`` is called with a stand-in for the
manager that records the lookup. Only if both name the same fields is the key known; anything that computes, branches
or looks further is *opaque* (None), and callers go through the two methods themselves.
"""
# ruff: noqa: SLF001 - Django has no public name for a manager's queryset class and database

from __future__ import annotations

import inspect
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, NoReturn, cast

from django.core.exceptions import FieldDoesNotExist
from django.db import connections, models

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["Trace", "clear_caches", "confirmed_paths", "natural_key_paths", "trace"]

Model = type[models.Model]

MAX_DEPTH = 8
"""How many foreign keys deep a key may reach. Ends the probing of keys that contain themselves (trees)."""

# Django's own methods that the stand-ins cannot follow, by the module and qualified name of the function.
KNOWN_KEYS: dict[tuple[str, str], Callable[[Any], tuple[str, ...]]] = {
    ("django.contrib.auth.base_user", "AbstractBaseUser.natural_key"): lambda model: (model.USERNAME_FIELD,),
}
KNOWN_LOOKUPS: dict[tuple[str, str], Callable[[Any], tuple[str, ...]]] = {
    ("django.contrib.auth.models", "PermissionManager.get_by_natural_key"): lambda _model: (
        "codename",
        "content_type__app_label",
        "content_type__model",
    ),
    ("django.contrib.contenttypes.models", "ContentTypeManager.get_by_natural_key"): lambda _model: (
        "app_label",
        "model",
    ),
    ("django.contrib.auth.base_user", "BaseUserManager.get_by_natural_key"): lambda model: (model.USERNAME_FIELD,),
}

# What a manager or a queryset may be asked on the way to get(). An own get_queryset() may hide rows, but which rows are
# visible is not the question here, only the fields are.
_NEUTRAL = frozenset({
    "all", "db_manager", "defer", "get_queryset", "only", "order_by", "prefetch_related", "select_related", "using",
})  # fmt: skip

# Trees: what the methods of django-mptt and django-treebeard that go up are called.
_UPWARDS = frozenset({"get_ancestors", "get_family", "get_parent", "get_root"})

_natural_key_cache: dict[Model, tuple[str, ...] | None] = {}
_confirmed_cache: dict[Model, tuple[str, ...] | None] = {}


def clear_caches() -> None:
    """Forget what was found out."""
    _natural_key_cache.clear()
    _confirmed_cache.clear()


class _OpaqueError(Exception):
    """User code did something that a stand-in cannot answer."""


def _refuse(*_args: Any, **_kwargs: Any) -> NoReturn:
    raise _OpaqueError


class _Inert:
    """Something whose every use is refused; only its identity counts."""

    __slots__ = ()
    __bool__ = __eq__ = __hash__ = __str__ = __repr__ = __format__ = __len__ = __iter__ = __contains__ = _refuse
    __getitem__ = __lt__ = __le__ = __gt__ = __ge__ = __int__ = __float__ = __index__ = __call__ = _refuse
    __add__ = __radd__ = __sub__ = __mod__ = __mul__ = __and__ = __or__ = _refuse


class _Marker(_Inert):
    """The value of one field: ``path`` as in a lookup, from the probed model."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path


class _Row(_Inert):
    """Stands in for an instance of ``model`` that is reached by ``prefix`` (``""`` or ``"author__"``).

    Answers its concrete fields, strings and tuples that are constants of the class (``USERNAME_FIELD``), and
    ``natural_key()``; the field named ``null`` answers None.
    """

    def __init__(self, model: Model, prefix: str = "", null: str = "", depth: int = 0) -> None:
        self.__dict__.update(_model=model, _prefix=prefix, _null=null, _depth=depth)

    @property  # type: ignore[misc]  # so that zero-argument super() and isinstance() in user code work
    def __class__(self) -> Any:
        return self.__dict__["_model"]

    def __setattr__(self, _name: str, _value: Any) -> None:
        raise _OpaqueError

    def __getattr__(self, name: str) -> Any:
        model: Model = self.__dict__["_model"]
        if name == "natural_key":
            return MethodType(_function(model, "natural_key"), self)
        if name == "_meta":
            return model._meta
        try:
            field = model._meta.pk if name == "pk" else model._meta.get_field(name)
        except FieldDoesNotExist:
            return _constant(model, name)
        if not isinstance(field, models.Field) or not field.concrete:
            raise _OpaqueError
        return self._value(field, raw=name in ("pk", field.attname))

    def _value(self, field: models.Field[Any, Any], *, raw: bool) -> Any:
        state = self.__dict__
        if field.name == state["_null"]:
            return None
        if raw or not isinstance(field, models.ForeignKey):
            return _Marker(state["_prefix"] + field.attname)
        if state["_depth"] >= MAX_DEPTH:
            raise _OpaqueError
        return _Row(field.remote_field.model, f"{state['_prefix']}{field.name}__", depth=state["_depth"] + 1)


def _constant(model: Model, name: str) -> Any:
    constant = inspect.getattr_static(model, name, None)
    if isinstance(constant, str) or (isinstance(constant, tuple) and all(isinstance(part, str) for part in constant)):
        return constant
    raise _OpaqueError


class _Found(_Inert):
    """What the recording ``get()`` returns."""

    __slots__ = ("lookups",)

    def __init__(self, lookups: dict[str, Any]) -> None:
        self.lookups = lookups


class _ModelConstants(_Inert):
    """``self.model`` of a manager: only what is a constant of the class."""

    def __init__(self, model: Model) -> None:
        self.__dict__["_model"] = model

    def __getattr__(self, name: str) -> Any:
        return _constant(self.__dict__["_model"], name)


class _Lookup(_Inert):
    """Stands in for ``model``'s default manager and its querysets; records the conditions of ``filter`` and ``get``."""

    def __init__(self, manager: Any, lookups: dict[str, Any]) -> None:
        self.__dict__.update(_manager=manager, _lookups=lookups)

    @property  # type: ignore[misc]  # as for _Row
    def __class__(self) -> Any:
        return type(self.__dict__["_manager"])

    def _with(self, args: tuple[Any, ...], lookups: dict[str, Any]) -> dict[str, Any]:
        known: dict[str, Any] = self.__dict__["_lookups"]
        if args or known.keys() & lookups.keys():
            raise _OpaqueError
        return {**known, **lookups}

    def get(self, *args: Any, **lookups: Any) -> _Found:
        return _Found(self._with(args, lookups))

    def filter(self, *args: Any, **lookups: Any) -> _Lookup:
        return _Lookup(self.__dict__["_manager"], self._with(args, lookups))

    def __getattr__(self, name: str) -> Any:
        manager = self.__dict__["_manager"]
        if name in _NEUTRAL:
            return lambda *_args, **_kwargs: self
        if name == "get_by_natural_key":  # defined by a queryset class, which from_queryset() gave to the manager
            return MethodType(_function(manager._queryset_class, name), self)
        if name == "model":
            return _ModelConstants(manager.model)
        if name in ("db", "_db"):
            return manager._db
        raise _OpaqueError


@contextmanager
def _no_database(touched: list[str]) -> Iterator[None]:
    """Refuse every use of this thread's connections, and note it, lest user code swallows the refusal."""

    def guarded(alias: str) -> Any:
        def ensure_connection() -> NoReturn:
            touched.append(alias)
            raise _OpaqueError

        return ensure_connection

    with ExitStack() as stack:
        for connection in cast("Any", connections).all():
            # Every cursor and every transaction begins there, also on a connection that is open already. Set on the
            # object, which is this thread's own: other threads are not disturbed.
            own = vars(connection)
            if "ensure_connection" in own:
                stack.callback(own.__setitem__, "ensure_connection", own["ensure_connection"])
            else:
                stack.callback(own.pop, "ensure_connection", None)
            own["ensure_connection"] = guarded(connection.alias)
        yield


def _function(owner: Any, name: str) -> Any:
    """The plain function behind ``owner.name``; refused where there is none."""
    function = getattr(owner, name, None)
    function = getattr(function, "__func__", function)
    if not inspect.isfunction(function):
        raise _OpaqueError
    return function


def _identity(function: Any) -> tuple[str, str]:
    return function.__module__, function.__qualname__


def _markers(key: Any) -> tuple[str | None, ...]:
    """The paths of a key of markers, with None for None."""
    if type(key) not in (tuple, list) or not key:
        raise _OpaqueError
    if not all(component is None or type(component) is _Marker for component in key):
        raise _OpaqueError
    return tuple(None if component is None else component.path for component in key)


def _probe_natural_key(model: Model) -> tuple[str, ...] | None:
    function = _function(model, "natural_key")
    if known := KNOWN_KEYS.get(_identity(function)):
        return tuple(known(model))
    touched: list[str] = []
    with _no_database(touched):
        found = _markers(function(_Row(model)))
        if None in found:
            return None
        paths = tuple(path for path in found if path is not None)
        # `is None` cannot be refused, so ask again with each nullable field empty: a key that takes another shape then
        # is not told by its fields. One that cannot be had then (None has no natural key) is no contradiction.
        for field in model._meta.concrete_fields:
            if not field.null:
                continue
            try:
                again = _markers(function(_Row(model, null=field.name)))
            except AttributeError:
                continue
            if again != tuple(None if _fields(model, path)[0] is field else path for path in paths):
                return None
    return None if touched else paths


def _looks_up_by(model: Model, paths: tuple[str, ...]) -> bool:
    """Whether the default manager's lookup by a natural key of these paths is by exactly these paths."""
    manager: Any = model._default_manager
    function = _function(type(manager), "get_by_natural_key")
    if known := KNOWN_LOOKUPS.get(_identity(function)):
        return [_fields(model, lookup) for lookup in known(model)] == [_fields(model, path) for path in paths]
    for name in ("get", "filter"):  # an own get() may look for anything
        if getattr(type(manager), name) is not getattr(models.Manager, name):
            return False
        if getattr(manager._queryset_class, name) is not getattr(models.QuerySet, name):
            return False
    touched: list[str] = []
    markers = [_Marker(path) for path in paths]
    with _no_database(touched):
        agrees = _asks_for(model, function(_Lookup(manager, {}), *markers), markers, None)
        # As above: with None for what may be NULL it has to ask for NULL.
        for missing in markers:
            if agrees and any(field.null for field in _fields(model, missing.path)):
                arguments = [None if marker is missing else marker for marker in markers]
                agrees = _asks_for(model, function(_Lookup(manager, {}), *arguments), markers, missing)
    return agrees and not touched


def _asks_for(model: Model, found: Any, markers: Sequence[_Marker], missing: _Marker | None) -> bool:
    """Whether ``found`` is a row that was asked for by each marker's path, and ``missing``'s to be NULL."""
    if type(found) is not _Found or len(found.lookups) != len(markers):
        return False
    expected = {id(marker): _fields(model, marker.path) for marker in markers}
    for lookup, value in found.lookups.items():
        null = value is None or (value is True and lookup.endswith("__isnull"))
        marker = missing if null else value
        path = expected.pop(id(marker), None)
        asked = _fields(model, lookup.removesuffix("__isnull" if value is True else "__exact"))
        # A foreign key that is NULL makes all NULL that lies behind it.
        if path is None or asked != (path[: len(asked)] if null else path):
            return False
    return True


def _fields(model: Model, path: str) -> list[models.Field[Any, Any]]:
    """The fields along a path, in which `pk` and foreign keys' columns may be spelled in several ways."""
    fields: list[models.Field[Any, Any]] = []
    current: Model | None = model
    for name in path.split("__"):
        if current is None:
            raise _OpaqueError
        field = current._meta.pk if name == "pk" else current._meta.get_field(name)
        if not isinstance(field, models.Field):
            raise _OpaqueError
        fields.append(field)
        current = field.remote_field.model if isinstance(field, models.ForeignKey) else None
    return fields


def natural_key_paths(model: Model) -> tuple[str, ...] | None:
    """The lookup paths that ``model.natural_key()`` is made of, in order; None if it has none or cannot be told.

    A foreign key's raw value is spelled by its column: ``author_id``.
    """
    if model not in _natural_key_cache:
        try:
            _natural_key_cache[model] = _probe_natural_key(model)
        except Exception:  # noqa: BLE001 - user code, called in a way that it was not made for
            _natural_key_cache[model] = None
    return _natural_key_cache[model]


def confirmed_paths(model: Model) -> tuple[str, ...] | None:
    """The same, provided that the default manager's ``get_by_natural_key()`` looks up by exactly these; else None."""
    if model not in _confirmed_cache:
        paths = natural_key_paths(model)
        confirmed = False
        if paths is not None:
            try:
                confirmed = _looks_up_by(model, paths)
            except Exception:  # noqa: BLE001 - as above
                confirmed = False
        _confirmed_cache[model] = paths if confirmed else None
    return _confirmed_cache[model]


# --- what a computed key is made of -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Trace:
    """What a ``natural_key()`` that is not told by fields was seen to do.

    ``instances``: the fields whose objects, not values, are components of the key. ``upwards``: the fields and methods
    by which it went on to objects of its own kind.
    """

    instances: tuple[str, ...]
    upwards: tuple[str, ...]


class _TracedRow(_Row):
    """As `_Row`, with the methods and properties of the class, and seen to be there: ``if self.parent:``."""

    def __init__(self, model: Model, seen: dict[str, None], prefix: str = "", depth: int = 0) -> None:
        super().__init__(model, prefix, depth=depth)
        self.__dict__["_seen"] = seen

    def __bool__(self) -> bool:  # type: ignore[override]  # what _Inert refuses
        return True

    def __getattr__(self, name: str) -> Any:
        if name in _UPWARDS:
            self.__dict__["_seen"][name] = None
            raise _OpaqueError
        try:
            return super().__getattr__(name)
        except _OpaqueError:
            own = inspect.getattr_static(self.__dict__["_model"], name, None)
            if isinstance(own, property) and own.fget is not None:
                return own.fget(self)
            if isinstance(own, FunctionType):
                return MethodType(own, self)
            raise

    def _value(self, field: models.Field[Any, Any], *, raw: bool) -> Any:
        state = self.__dict__
        if raw or not isinstance(field, models.ForeignKey):
            return super()._value(field, raw=raw)
        if issubclass(state["_model"], field.remote_field.model):
            state["_seen"][field.name] = None
        if state["_depth"] >= MAX_DEPTH:
            raise _OpaqueError
        return _TracedRow(
            field.remote_field.model, state["_seen"], f"{state['_prefix']}{field.name}__", state["_depth"] + 1
        )


def trace(model: Model) -> Trace:
    """What ``model.natural_key()`` does, as far as stand-ins can follow it. Never touches the database."""
    upwards: dict[str, None] = {}
    key: Any = ()
    with suppress(Exception), _no_database([]):  # user code, called in a way that it was not made for
        key = _function(model, "natural_key")(_TracedRow(model, upwards))
    components = key if type(key) in (tuple, list) else ()
    instances = [part.__dict__["_prefix"].rstrip("_") for part in components if type(part) is _TracedRow]
    return Trace(tuple(instances), tuple(upwards))
