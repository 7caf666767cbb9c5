"""Logging the bulk operations of a :class:`synchro.LoggedQuerySet`, by the chunk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import connections, models
from django.db.models import Max, Q, QuerySet

from synchro import changelog, reasons, reconciling, registry, serialize, tables
from synchro.changelog import gathered
from synchro.errors import UnloggableValueError
from synchro.models import Action
from synchro.registry import ModelClass

FEW = 10_000
"""Rows that are named by primary key in one statement."""
_CONDITIONS = 200

__all__ = ["FEW", "creation_logged", "gathered", "locked", "log_gone", "log_updated", "logs"]


def logs(model: ModelClass, using: str) -> bool:
    """Whether what is done to rows of *model* now is to be logged."""
    return registry.spec(model).model in registry.written() and changelog.logs(using)


def locked(queryset: QuerySet[Any]) -> list[Any]:
    """The primary keys of the rows that *queryset* matches, which nobody else can write until the transaction ends."""
    using = queryset.db
    found = list(dict.fromkeys(queryset.order_by().values_list("pk", flat=True)))
    if connections[using].features.has_select_for_update:
        for part in serialize.chunks(found):
            rows = tables.rows(queryset.model, using).filter(pk__in=part).order_by("pk").select_for_update()
            list(rows.values_list("pk", flat=True))
    return found


def log_updated(model: ModelClass, found: Sequence[Any], given: Mapping[str, Any], using: str) -> None:
    """Log the rows *found* after an update that assigned *given*."""
    spec = registry.spec(model)
    keys = {name for field in model._meta.pk_fields for name in (field.name, field.attname)} | {"pk"}
    moved = keys & set(given)
    if not moved:
        changelog.log_objects(spec, found, Action.CHANGE, using)
        return
    value = given[moved.pop()]
    if hasattr(value, "resolve_expression") or len(model._meta.pk_fields) > 1:
        raise UnloggableValueError(reasons.COMPUTED_KEYS(model=spec.label))
    reconciling.reconcile(spec, [*found, value.pk if isinstance(value, models.Model) else value], using)


def log_gone(model: ModelClass, found: Sequence[Any], using: str) -> None:
    """Log that the rows *found* were deleted."""
    reconciling.reconcile(registry.spec(model), found, using)


@contextmanager
def creation_logged(
    model: ModelClass, objs: Sequence[models.Model], options: Mapping[str, Any], using: str
) -> Iterator[None]:
    """Log the rows that ``bulk_create(objs, **options)`` inside the block makes or changes."""
    spec = registry.spec(model)
    numbered: list[models.Model] = []
    if options["ignore_conflicts"]:
        numbered = _numbered(model, objs, using)
    given = [obj.pk for obj in objs if _has_pk(obj)]
    last = _last(model, using)
    yield
    if options["update_conflicts"]:
        known = [obj.pk for obj in objs if _has_pk(obj)]
        names = [tuple(options["unique_fields"])] if options["unique_fields"] else _unique_sets(model)
        found = [*known, *_matching(model, objs, names, using), *_after(model, last, using)]
        reconciling.reconcile(spec, dict.fromkeys(found), using)
    elif options["ignore_conflicts"]:
        found = given if numbered else [*given, *_after(model, last, using)]
        reconciling.reconcile(spec, dict.fromkeys(found), using)
        for obj in numbered:  # as Django leaves them: it tells no primary keys when conflicts are ignored
            obj.pk = None
    elif all(_has_pk(obj) for obj in objs):
        changelog.log_objects(spec, [obj.pk for obj in objs], Action.ADD, using)
    else:  # a database that does not say which numbers it gave
        reconciling.reconcile(spec, dict.fromkeys([*given, *_after(model, last, using)]), using)


def _numbered(model: ModelClass, objs: Sequence[models.Model], using: str) -> list[models.Model]:
    """On PostgreSQL: those of *objs* that were given their numbers beforehand.

    It does not say which it gave, and elsewhere new ones are greater than all that are there.
    """
    wanting = [obj for obj in objs if not _has_pk(obj)]
    if connections[using].vendor != "postgresql" or not isinstance(model._meta.pk, models.AutoField) or not wanting:
        return []
    for obj, number in zip(wanting, tables.allocate(model, len(wanting), using) or (), strict=True):
        obj.pk = number
    return wanting


def _has_pk(obj: models.Model) -> bool:
    parts = obj.pk if isinstance(obj.pk, tuple) else (obj.pk,)
    return not any(part is None or hasattr(part, "resolve_expression") for part in parts)


def _last(model: ModelClass, using: str) -> Any:
    if not isinstance(model._meta.pk, models.AutoField):
        return None
    return tables.rows(model, using).aggregate(last=Max("pk"))["last"] or 0


def _after(model: ModelClass, last: Any, using: str) -> list[Any]:
    if last is None:
        return []
    return list(tables.rows(model, using).filter(pk__gt=last).order_by("pk").values_list("pk", flat=True))


def _unique_sets(model: ModelClass) -> list[tuple[str, ...]]:
    options = model._meta
    found: list[tuple[str, ...]] = [
        (field.name,) for field in options.concrete_fields if field.unique and not field.primary_key
    ]
    found += [tuple(names) for names in options.unique_together]
    found += [tuple(each.fields) for each in options.constraints if isinstance(each, models.UniqueConstraint)]
    return [names for names in found if names]


def _matching(
    model: ModelClass, objs: Sequence[models.Model], names: Iterable[tuple[str, ...]], using: str
) -> Iterator[Any]:
    """The primary keys of the rows that have the values of *objs* in one of the sets of columns *names*."""
    for of_set in names:
        columns = tables.columns(model, *(model._meta.pk.name if name == "pk" else name for name in of_set))
        conditions = [
            Q(**{column.attname: getattr(obj, column.attname) for column in columns})
            for obj in objs
            if all(getattr(obj, column.attname) is not None for column in columns)
        ]
        for part in serialize.chunks(conditions, _CONDITIONS):
            any_of = Q()
            for condition in part:
                any_of |= condition
            yield from tables.rows(model, using).filter(any_of).order_by().values_list("pk", flat=True)
