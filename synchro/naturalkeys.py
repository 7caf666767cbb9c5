"""Natural keys: which one a model has, the keys of rows, and the rows of keys, in bulk.

A key is *known* when it is told by fields: ``("name", "country__code")``. It comes from, in this order,

1. ``SYNCHRO_NATURAL_KEYS``, which can also take a model's key away (None);
2. the fields of a `NaturalManager`;
3. `keyprobe`, for ``natural_key()`` and ``get_by_natural_key()`` written by hand.

A foreign key among the fields stands for its target's key, or for its own column where the target has none. A path that
ends at an automatic primary key means nothing on another deployment, so such a key is not used at all. A key that the
two methods compute is *opaque*: it works, one object at a time.

Keys are carried in JSON form, a list with one value a path. As dictionary keys they are frozen: see `freeze`.
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from django.core.exceptions import FieldDoesNotExist, MultipleObjectsReturned, ObjectDoesNotExist
from django.core.serializers.json import DjangoJSONEncoder
from django.core.signals import setting_changed
from django.db import connections, models, transaction
from django.db.models import Q, QuerySet

from synchro import conf, generic, keyprobe, reasons, tables, values
from synchro.managers import NaturalManager

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = [
    "KeySpec",
    "allows_many",
    "clear_caches",
    "declared_paths",
    "find",
    "freeze",
    "has_natural_key",
    "key_paths",
    "key_spec",
    "keys_of",
    "leaf",
    "portable_pk",
    "thaw",
]

logger = logging.getLogger("synchro.naturalkeys")

Model = type[models.Model]
AnyField: TypeAlias = "models.Field[Any, Any]"

CONDITIONS = 200
"""Keys a query: each is an OR-ed condition, and SQLite refuses expressions deeper than 1000."""
MOST_ROWS = 20
"""Rows a key that a search by components may bring before it is given up for a search by keys."""
PARAMETERS = 30_000
"""Parameters a query: SQLite takes 32,766 since 3.32 (Django goes on saying 999), PostgreSQL 65,535."""


# --- which key a model has --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySpec:
    """The natural key of a model.

    ``paths`` are its lookup paths, of field names, and ``leaves`` the fields whose values they give; a path that ends
    at a foreign key is its raw value. ``opaque``: only the model's two methods know it. Where it is neither, the model
    has none that can be used, and ``reason`` says why.
    """

    paths: tuple[str, ...] | None = None
    leaves: tuple[AnyField, ...] = ()
    opaque: bool = False
    reason: str = ""


class _UnusableError(Exception):
    """The key cannot be used; the text says why."""


class _OpaqueError(Exception):
    """The key is known to the model's methods only."""


_specs: dict[Model, KeySpec] = {}
_declared: dict[tuple[Model, str], tuple[str, ...] | None] = {}


def clear_caches(**_signal: Any) -> None:
    """Forget what was found out about models. Called when a setting changes (in tests)."""
    _specs.clear()
    _declared.clear()
    keyprobe.clear_caches()


setting_changed.connect(clear_caches, dispatch_uid="synchro.naturalkeys")


def key_spec(model: Model) -> KeySpec:
    """The natural key of ``model``, or the reason why it has none. Cached; never touches the database."""
    spec = _specs.get(model)
    if spec is None:
        spec = _specs[model] = _build_spec(model)
    return spec


def key_paths(model: Model) -> tuple[str, ...] | None:
    """The lookup paths of ``model``'s natural key; None if it has none or only its methods know it."""
    return key_spec(model).paths


def has_natural_key(model: Model) -> bool:
    """Whether ``model`` has a natural key that means the same on every deployment."""
    spec = key_spec(model)
    return spec.paths is not None or spec.opaque


def allows_many(model: Model) -> bool:
    """Whether the model's `NaturalManager` was told that several rows may have the same key."""
    manager = model._default_manager
    return isinstance(manager, NaturalManager) and manager.allow_many


def portable_pk(model: Model) -> bool:
    """Whether the primary key means the same on every deployment: no part of it is, or points at, an automatic one."""
    return not any(isinstance(leaf(field), models.AutoField) for field in model._meta.pk_fields)


def leaf(field: AnyField) -> AnyField:
    """The field whose values ``field`` holds: itself, or what a foreign key (to a foreign key…) finally points at."""
    while isinstance(field, models.ForeignKey):
        field = field.target_field
    return field


def declared_paths(model: Model, name: str) -> tuple[str, ...] | None:
    """What the field or path ``name`` of a `NaturalManager` stands for, whatever the settings say; None if opaque.

    This is the form in which ``natural_key()`` and ``get_by_natural_key()`` carry it. Cached.
    """
    cached = (model, name)
    if cached not in _declared:
        try:
            _declared[cached] = _expand(model, name, _Expansion(configured=False))
        except _OpaqueError:
            _declared[cached] = None
        except _UnusableError:
            _declared[cached] = (name,)  # Django's own error, at the lookup, is the clearest
    return _declared[cached]


def _setting(model: Model) -> tuple[bool, tuple[str, ...] | None]:
    """Whether ``SYNCHRO_NATURAL_KEYS`` speaks of ``model``, and what it says. A proxy is its concrete model."""
    keys = conf.natural_keys()
    for label in (model._meta.label_lower, cast("Model", model._meta.concrete_model)._meta.label_lower):
        if label in keys:
            return True, keys[label]
    return False, None


def _build_spec(model: Model) -> KeySpec:
    try:
        paths = _own_paths(model, _Expansion(configured=True))
        leaves = tuple(_portable_leaf(model, path) for path in paths)
    except _UnusableError as error:
        return KeySpec(reason=str(error))
    except _OpaqueError:
        if not _setting(model)[0] and callable(getattr(model, "natural_key", None)) and _looks_up(model):
            return KeySpec(opaque=True)
        if _setting(model)[0]:
            return KeySpec(reason=reasons.KEY_GOES_ROUND(model=model._meta.label))
        return KeySpec(reason=reasons.KEY_WITHOUT_METHODS(model=model._meta.label))
    return KeySpec(paths=tuple(_by_name(model, path) for path in paths), leaves=leaves)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Expansion:
    """How paths are expanded: by the settings or only by what the code declares; ``within`` ends cycles."""

    configured: bool
    within: tuple[Model, ...] = ()

    def enter(self, model: Model) -> _Expansion:
        if model in self.within:
            raise _OpaqueError
        return _Expansion(configured=self.configured, within=(*self.within, model))


def _looks_up(model: Model) -> bool:
    return callable(getattr(model._default_manager, "get_by_natural_key", None))


def _natural_fields(model: Model) -> tuple[str, ...] | None:
    """The fields of the model's NaturalManager, unless it looks up in another way."""
    manager_class = type(model._default_manager)
    if not issubclass(manager_class, NaturalManager):
        return None
    if manager_class.get_by_natural_key is not NaturalManager.get_by_natural_key:
        return None
    return manager_class.fields


def _own_paths(model: Model, expansion: _Expansion) -> tuple[str, ...]:
    """The paths of ``model``'s key."""
    configured, fields = _setting(model) if expansion.configured else (False, None)
    if configured and not fields:
        raise _UnusableError(reasons.KEY_TAKEN_AWAY(model=model._meta.label))
    if not configured:
        fields = _natural_fields(model)
    if fields:
        inside = expansion.enter(model)
        return tuple(path for name in fields for path in _expand(model, name, inside))
    if not callable(getattr(model, "natural_key", None)):
        raise _UnusableError(reasons.KEY_WITHOUT_METHOD(model=model._meta.label))
    # Of a foreign key's target only natural_key() counts: rows are found by paths, not through the target's manager.
    if not expansion.within and not _looks_up(model):
        raise _UnusableError(reasons.KEY_NOT_LOOKED_UP(model=model._meta.label))
    probe = keyprobe.natural_key_paths if expansion.within else keyprobe.confirmed_paths
    paths = probe(model)
    if paths is None:
        raise _OpaqueError
    return paths


def _expand(model: Model, path: str, expansion: _Expansion) -> tuple[str, ...]:
    """``path`` with a foreign key at its end replaced by its target's paths, or by its column."""
    *through, name = path.split("__")
    inside = expansion if expansion.within else expansion.enter(model)
    prefix = ""
    for step in through:
        field = _field(model, step)
        if not isinstance(field, models.ForeignKey):
            raise _UnusableError(reasons.KEY_LEADS_NOWHERE(model=model._meta.label, step=step, path=repr(path)))
        model, prefix = field.remote_field.model, f"{prefix}{field.name}__"
    field = _field(model, name)
    if not isinstance(field, models.ForeignKey):
        return (prefix + field.name,)
    if name == field.attname:
        return (prefix + field.attname,)
    target = field.remote_field.model
    try:
        own = _own_paths(target, inside)
    except _UnusableError:
        return (prefix + field.attname,)
    return tuple(f"{prefix}{field.name}__{path}" for path in own)


def _field(model: Model, name: str) -> AnyField:
    if name == "pk":
        return model._meta.pk
    try:
        field = model._meta.get_field(name)
    except FieldDoesNotExist:
        raise _UnusableError(reasons.KEY_WITHOUT_FIELD(model=model._meta.label, field=repr(name))) from None
    if not isinstance(field, models.Field) or not field.concrete or field.many_to_many:
        raise _UnusableError(reasons.KEY_WITHOUT_COLUMN(model=model._meta.label, field=name))
    return field


def _steps(model: Model, path: str) -> Iterator[AnyField]:
    for name in path.split("__"):
        field = _field(model, name)
        yield field
        if isinstance(field, models.ForeignKey):
            model = field.remote_field.model


def _by_name(model: Model, path: str) -> str:
    """``path`` with a foreign key's column at its end spelled as the field, which is how states and headers know it."""
    return "__".join(field.name for field in _steps(model, path))


def _portable_leaf(model: Model, path: str) -> AnyField:
    """The field whose values ``path`` gives. Raises where they are automatic."""
    *before, last = _steps(model, path)
    end = leaf(last)
    if last.name in generic.pairs(cast("Model", before[-1].related_model) if before else model):
        raise _UnusableError(reasons.KEY_IS_GENERIC(model=model._meta.label, path=path))
    if isinstance(end, models.AutoField):
        raise _UnusableError(reasons.KEY_IS_AUTOMATIC(model=model._meta.label, path=path, target=end.model._meta.label))
    if isinstance(end, models.CompositePrimaryKey):
        raise _UnusableError(reasons.KEY_IS_COMPOSITE(model=model._meta.label, path=path))
    return end


# --- keys as values ---------------------------------------------------------------------------------------------------


class _Items(tuple[Any, ...]):
    """A frozen dict; a class of its own only so that `thaw` knows."""

    __slots__ = ()


def freeze(key: Any) -> Any:
    """A hashable form of a JSON value: lists become tuples, dicts tuples of their sorted items. Frozen stays frozen."""
    if isinstance(key, _Items):
        return key
    if isinstance(key, (list, tuple)):
        return tuple(freeze(component) for component in key)
    if isinstance(key, dict):
        return _Items((name, freeze(key[name])) for name in sorted(key))
    return key


def thaw(key: Any) -> Any:
    """The JSON value again that `freeze` was given."""
    if isinstance(key, _Items):
        return {name: thaw(value) for name, value in key}
    if isinstance(key, tuple):
        return [thaw(component) for component in key]
    return key


def _chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    chunk: list[Any] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _per_query(width: int) -> int:
    """How many items of ``width`` parameters fit into a query."""
    return max(1, PARAMETERS // max(width, 1))


# --- keys of rows -----------------------------------------------------------------------------------------------------


def keys_of(model: Model, pks: Iterable[Any], using: str) -> dict[Any, list[Any]]:
    """The natural keys, in JSON form, of the rows with these primary keys (as ``instance.pk`` gives them).

    Rows that do not exist, and rows that have no key, are left out. A constant number of queries a chunk, past the
    managers, so that rows which these hide have their keys too. A NULL on the way gives None for what lies behind it.
    """
    spec = key_spec(model)
    wanted = list(dict.fromkeys(pks))
    found: dict[Any, list[Any]] = {}
    if not wanted or (spec.paths is None and not spec.opaque):
        return found
    numbers = isinstance(leaf(model._meta.pk), models.IntegerField) and all(type(pk) is int for pk in wanted)
    encoders = [values.codec(field).encode for field in spec.leaves]
    for chunk in _chunks(wanted, CONDITIONS if len(model._meta.pk_fields) > 1 else PARAMETERS):
        rows: QuerySet[Any, Any] = tables.rows(model, using).order_by()
        if spec.paths is None:
            found.update(_opaque_keys(rows.filter(pk__in=chunk)))
            continue
        columns = rows.values_list("pk", *spec.paths)
        read = tables.among(columns, model._meta.pk, chunk) if numbers else columns.filter(pk__in=chunk)
        if len(encoders) == 1:
            found.update((pk, [encoders[0](value)]) for pk, value in read)
            continue
        for pk, *components in read:
            found[pk] = [encode(value) for encode, value in zip(encoders, components, strict=True)]
    return found


def _opaque_keys(rows: QuerySet[Any, Any]) -> Iterator[tuple[Any, list[Any]]]:
    relations = [field.name for field in rows.model._meta.concrete_fields if isinstance(field, models.ForeignKey)]
    # Joined one level deep and past nothing else: what natural_key() touches beyond it costs a query a row.
    for row in rows.select_related(*relations) if relations else rows:
        try:
            key = row.natural_key()
            if not isinstance(key, (tuple, list)) or not key:
                raise TypeError(f"natural_key() must give a tuple, not {key!r}")
            yield row.pk, [_to_json(component) for component in key]
        except Exception as error:  # noqa: BLE001 - user code
            logger.warning("%s %r has no natural key: %s", row._meta.label, row.pk, error)


_plain = DjangoJSONEncoder()


def _to_json(component: Any) -> Any:
    """A component of an opaque key as Django's own JSON serializer writes it; an instance by its own key."""
    if component is None or isinstance(component, (str, bool, int, float)):
        return component
    if isinstance(component, (list, tuple)):
        return [_to_json(part) for part in component]
    if isinstance(component, models.Model):
        return {"key": _instance_key(component), "model": component._meta.label_lower}
    return _plain.default(component)


def _instance_key(instance: models.Model) -> list[Any]:
    model = type(instance)
    spec = key_spec(model)
    if spec.paths is not None:
        return [
            values.encode(field, _follow(instance, path)) for field, path in zip(spec.leaves, spec.paths, strict=True)
        ]
    if not spec.opaque:
        raise TypeError(f"it contains a {model._meta.label}, which has no natural key")
    return [_to_json(component) for component in cast("Any", instance).natural_key()]


def _follow(instance: Any, path: str) -> Any:
    *through, name = path.split("__")
    for step in through:
        instance = getattr(instance, step)
        if instance is None:
            return None
    return getattr(instance, instance._meta.get_field(name).attname)


# --- rows of keys -----------------------------------------------------------------------------------------------------


def find(model: Model, keys: Iterable[Any], using: str) -> dict[Any, list[Any]]:
    """Frozen key → primary keys of the rows that have it, lowest first; keys that no row has are left out.

    The rows that the default manager shows come first; only keys not found among them are looked for among the rows
    that it hides. A None in a key matches NULL, as ``get(field=None)`` does. A key of another length, or with a value
    that its field cannot hold, is not found.
    """
    spec = key_spec(model)
    wanted = list(dict.fromkeys(freeze(key) for key in keys))
    if not wanted or (spec.paths is None and not spec.opaque):
        return {}
    search = _find_opaque if spec.paths is None else _find_known
    found = search(model, wanted, using, hidden=False)
    missing = [key for key in wanted if key not in found]
    if missing and (spec.paths is None or _hides(model, using)):
        found.update(search(model, missing, using, hidden=True))
    return found


def _hides(model: Model, using: str) -> bool:
    """Whether the default manager may leave rows out."""
    query = _objects(model, using, hidden=False).query
    return bool(query.where or query.distinct or query.combinator or query.is_sliced or len(query.alias_map) > 1)


def _objects(model: Model, using: str, *, hidden: bool) -> QuerySet[Any, Any]:
    """The rows that the default manager shows, or all of them, in the order of their primary keys."""
    if not hidden:
        try:
            # filter() refuses what takes no further conditions (unions), order_by() what is sliced.
            return model._default_manager.db_manager(using).get_queryset().using(using).filter().order_by("pk")
        except Exception as error:  # noqa: BLE001 - user code
            logger.debug("%s: its default manager cannot be searched: %s", model._meta.label, error)
    return tables.rows(model, using).order_by("pk")


def _find_known(model: Model, keys: Sequence[Any], using: str, *, hidden: bool) -> dict[Any, list[Any]]:
    spec = key_spec(model)
    paths = spec.paths or ()
    rows: QuerySet[Any, Any] = _objects(model, using, hidden=hidden).values_list("pk", *paths)
    decoded = {key: lookup for key in keys if (lookup := _decode(spec, key, using)) is not None}
    size = _per_query(len(paths))
    found: dict[Any, list[Any]] = {}
    for chunk in _chunks(decoded, size):
        lookups = {key: decoded[key] for key in chunk}
        if len(paths) > 1 and _match(spec, rows.filter(_each_in(spec, lookups.values())), lookups, found, limit=True):
            continue
        for part in _chunks(lookups, size if len(paths) == 1 else CONDITIONS):
            few = {key: lookups[key] for key in part}
            _match(spec, rows.filter(_condition(spec, list(few.values()))), few, found, limit=False)
    return found


def _match(
    spec: KeySpec,
    rows: QuerySet[Any, Any],
    lookups: dict[Any, tuple[Any, ...]],
    found: dict[Any, list[Any]],
    *,
    limit: bool,
) -> bool:
    """Add to *found* which of *rows* has which of the keys in *lookups*.

    False, and nothing added, if there are far more rows than keys (*limit*): then asking key by key is cheaper.
    """
    asked: dict[Any, list[Any]] = {}
    for key, lookup in lookups.items():
        asked.setdefault(_encode(spec, lookup), []).append(key)
    components_asked = [set(values) for values in zip(*asked, strict=True)]
    matched: list[tuple[Any, Any]] = []
    strays = False
    most = MOST_ROWS * len(lookups)
    for number, (pk, *components) in enumerate(rows.iterator(chunk_size=CONDITIONS)):
        if limit and number > most:
            return False
        row = _encode(spec, components)
        matched += [(key, tables.converted_pk(rows.model, pk, rows.db)) for key in asked.get(row, ())]
        strays = strays or any(value not in given for value, given in zip(row, components_asked, strict=True))
    for key, pk in matched:
        _add(found, key, pk)
    if strays:
        # The database takes for equal what Python does not (collations, rounding): only it can tell which is which.
        for key, lookup in lookups.items():
            if key not in found:
                for pk, *_components in rows.filter(_condition(spec, [lookup])):
                    _add(found, key, tables.converted_pk(rows.model, pk, rows.db))
    return True


def _each_in(spec: KeySpec, lookups: Iterable[tuple[Any, ...]]) -> Q:
    """Rows of which each component is one of those asked for: more than the keys, in one statement that uses indexes.

    OR-ing the keys is exact, but takes a hundred times as long to build and to run where the key goes through a join.
    """
    condition = Q()
    for path, given in zip(spec.paths or (), zip(*lookups, strict=True), strict=True):
        known = list(dict.fromkeys(value for value in given if value is not None))
        part = Q(**{f"{path}__in": known})
        condition &= part if len(known) == len(set(given)) else part | Q(**{path: None})
    return condition


def _add(found: dict[Any, list[Any]], key: Any, pk: Any) -> None:
    pks = found.setdefault(key, [])
    if pk not in pks:  # a manager that joins shows a row several times
        pks.append(pk)


def _condition(spec: KeySpec, lookups: Sequence[tuple[Any, ...]]) -> Q:
    paths = spec.paths or ()
    if len(paths) == 1:
        given = [value for (value,) in lookups if value is not None]
        condition = Q(**{f"{paths[0]}__in": given})
        return condition if len(given) == len(lookups) else condition | Q(**{paths[0]: None})
    return Q(*(Q(**dict(zip(paths, lookup, strict=True))) for lookup in lookups), _connector=Q.OR)


def _encode(spec: KeySpec, components: Iterable[Any]) -> Any:
    return freeze([values.encode(field, value) for field, value in zip(spec.leaves, components, strict=True)])


def _decode(spec: KeySpec, key: Any, using: str) -> tuple[Any, ...] | None:
    """The python values of a frozen key; None where no row can have it."""
    if not isinstance(key, tuple) or len(key) != len(spec.leaves):
        return None
    connection = connections[using]
    decoded = []
    for field, component in zip(spec.leaves, key, strict=True):
        try:
            value = values.decode(field, thaw(component))
            prepared: Any = None if value is None else field.get_db_prep_value(value, connection)
        except Exception:  # noqa: BLE001 - a field class of somebody else's may refuse in any way
            return None
        # What databases and drivers refuse only when the query runs, which a transaction may not survive.
        if isinstance(prepared, int) and isinstance(field, models.IntegerField):
            low, high = cast("Any", connection.ops).integer_field_range(field.get_internal_type())
            if (low is not None and prepared < low) or (high is not None and prepared > high):
                return None
        if isinstance(prepared, str) and not _storable(prepared, connection.vendor):
            return None
        decoded.append(value)
    return tuple(decoded)


def _storable(text: str, vendor: str) -> bool:
    if vendor == "postgresql" and "\0" in text:
        return False
    return text.isascii() or not values.has_lone_surrogate(text)


def _find_opaque(model: Model, keys: Sequence[Any], using: str, *, hidden: bool) -> dict[Any, list[Any]]:
    manager: Any = model._default_manager.db_manager(using)
    if hidden:
        # db_manager() copies, so the manager that user code holds keeps hiding.
        plain = manager._queryset_class  # noqa: SLF001 - the queryset with the manager's methods, unfiltered
        manager.get_queryset = lambda: plain(model=model, using=using)
    connection = connections[using]
    found: dict[Any, list[Any]] = {}
    ambiguous: set[Any] = set()
    for key in keys:
        try:
            # A failed query must not take the caller's transaction with it.
            with transaction.atomic(using=using) if connection.in_atomic_block else nullcontext():
                row = manager.get_by_natural_key(*(_from_json(part, model, using) for part in thaw(key)))
        except ObjectDoesNotExist:
            continue
        except MultipleObjectsReturned:
            ambiguous.add(key)
        except Exception as error:  # noqa: BLE001 - user code
            logger.warning("%s: no row found by natural key %r: %s", model._meta.label, thaw(key), error)
        else:
            if isinstance(row, model):  # a child model may inherit a lookup that gives its parent's rows
                found[key] = [row.pk]
    if ambiguous:
        # Which rows they are only natural_key() can say, of all of them. Rare, and better than a third one.
        for pk, key in _opaque_keys(_objects(model, using, hidden=hidden)):
            if freeze(key) in ambiguous:
                _add(found, freeze(key), pk)
    return found


def _from_json(component: Any, holder: Model, using: str) -> Any:
    """What `_to_json` was given, as far as ``get_by_natural_key()`` needs it: instances. Raises ObjectDoesNotExist."""
    if isinstance(component, list):
        return [_from_json(part, holder, using) for part in component]
    if not isinstance(component, dict):
        return component
    model = holder._meta.apps.get_model(component["model"])
    pks = next(iter(find(model, [component["key"]], using).values()), None)
    if pks is None:
        raise ObjectDoesNotExist(f"{component['model']} has no row with natural key {component['key']!r}")
    return QuerySet(model, using=using).get(pk=pks[0])
