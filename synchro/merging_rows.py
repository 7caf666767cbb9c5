"""Folding rows: whatever points to the row that goes is made to point to the one that stays."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import orjson
from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.db import models

from synchro import apply, digests, pks, reasons, registry, serialize, tables, values, versions
from synchro.models import ChangeLog
from synchro.plan import HoldError
from synchro.registry import ModelSpec
from synchro.versions import Key

ForeignKey: TypeAlias = "models.ForeignKey[Any, Any]"
ModelClass = type[models.Model]
FoldPairs: TypeAlias = Callable[[ModelSpec, Sequence[tuple[str, str]]], None]
"""Called with pairs of rows that would clash: texts of their primary keys."""


def repoint(spec: ModelSpec, moved: Mapping[Any, Any], fold: FoldPairs, using: str) -> None:
    """Re-point everything from the rows of *spec* that *moved* gives up to those that stay (primary keys).

    Raises ``HoldError`` where rows of a model that is not tracked would clash.
    """
    family = [spec.model, *spec.model._meta.get_parent_list()]
    for column in apply.relations_to(family):
        if column.model._meta.auto_created:
            _move_links(column, moved, using)
        elif not getattr(column.remote_field, "parent_link", False):
            _move_foreign_keys(column, moved, fold, using)
    _move_generic(family, moved, using)


def rename(spec: ModelSpec, texts: Sequence[tuple[str, str]], using: str) -> None:
    """Give rows other primary keys: of objects whose primary key is a foreign key to an object that was folded."""
    if spec.model._meta.parents or len(spec.model._meta.pk_fields) > 1:
        raise HoldError(reasons.OWNER_CHANGED(model=spec.label))
    pk: Any = spec.model._meta.pk
    rows = [tuple(pks.from_text(spec.model, text) for text in (kept, gone)) for gone, kept in texts]
    tables.update_many(spec.model, [pk], [pk], rows, using)
    for column in apply.relations_to([spec.model]):
        tables.update_many(column.model, [column], [column], rows, using)


def _move_foreign_keys(column: ForeignKey, moved: Mapping[Any, Any], fold: FoldPairs, using: str) -> None:
    model = column.model
    rows = _pointing(column, moved, using)
    if not rows:
        return
    if not column.target_field.primary_key:
        raise HoldError(reasons.POINTS_TO_ONE_OF_TWO(field=f"{model._meta.label_lower}.{column.name}"))
    clashes = _clashes(column, moved, using)
    if clashes:
        if not registry.is_tracked(model):
            raise HoldError(reasons.ONLY_ONE_MAY(model=model._meta.label_lower))
        spec = registry.spec(model)
        fold(spec, [(pks.to_text(model, mine), pks.to_text(model, theirs)) for mine, theirs in clashes])
        rows = _pointing(column, moved, using)
    tables.update_many(model, [column], [column], [(kept, gone) for gone, kept in moved.items()], using)
    if registry.is_tracked(model):
        _relog(registry.spec(model), column, rows, moved, using)


def _pointing(column: ForeignKey, wanted: Mapping[Any, Any], using: str) -> list[Any]:
    """The primary keys of the rows whose *column* points to *wanted*."""
    path = column.attname if column.target_field.primary_key else f"{column.name}__pk"
    found: list[Any] = []
    for part in serialize.chunks(list(wanted)):
        found += (
            tables.rows(column.model, using).filter(**{f"{path}__in": part}).order_by().values_list("pk", flat=True)
        )
    return found


def _unique_sets(model: ModelClass) -> Iterator[tuple[str, ...]]:
    yield from (
        (column.name,) for column in model._meta.local_concrete_fields if column.unique and not column.primary_key
    )
    yield from (tuple(names) for names in model._meta.unique_together)
    yield from (tuple(constraint.fields) for constraint in model._meta.total_unique_constraints)


def _clashes(column: ForeignKey, moved: Mapping[Any, Any], using: str) -> list[tuple[Any, Any]]:
    """(row that points to what stays, row that points to what goes) with otherwise the same unique values."""
    model = column.model
    found: dict[Any, Any] = {}
    for names in _unique_sets(model):
        if column.name not in names:
            continue
        columns = tables.columns(model, *names)
        place = names.index(column.name)
        wanted = [*moved, *moved.values()]
        seen: dict[tuple[Any, ...], Any] = {}
        pending: list[tuple[tuple[Any, ...], Any]] = []
        for part in serialize.chunks(wanted):
            rows = tables.rows(model, using).filter(**{f"{column.attname}__in": part})
            for pk, *row in rows.order_by().values_list("pk", *(each.attname for each in columns)):
                if None in row:
                    continue
                if row[place] in moved:
                    row[place] = moved[row[place]]
                    pending.append((tuple(row), pk))
                else:
                    seen[tuple(row)] = pk
        found.update({pk: seen[row] for row, pk in pending if row in seen})
    return [(mine, theirs) for theirs, mine in found.items()]


def _move_links(column: ForeignKey, moved: Mapping[Any, Any], using: str) -> None:
    """Rows of an m2m field's own table: a link that the row that stays has already goes."""
    through = column.model
    others = [each for each in through._meta.local_concrete_fields if each is not column and not each.primary_key]
    here: set[tuple[Any, ...]] = set()
    moving: list[tuple[Any, tuple[Any, ...]]] = []
    for part in serialize.chunks([*moved, *moved.values()]):
        rows = tables.rows(through, using).filter(**{f"{column.attname}__in": part}).order_by()
        for pk, end, *rest in rows.values_list("pk", column.attname, *(each.attname for each in others)):
            if end in moved:
                moving.append((pk, (moved[end], *rest)))
            else:
                here.add((end, *rest))
    key: Any = through._meta.pk
    tables.delete_many(through, [key], [(pk,) for pk, row in moving if row in here], using)
    tables.update_many(through, [column], [key], [(row[0], pk) for pk, row in moving if row not in here], using)


def _move_generic(family: Sequence[ModelClass], moved: Mapping[Any, Any], using: str) -> None:
    names = [(model._meta.app_label, model._meta.model_name) for model in family]
    labels = {app for app, _ in names}
    types = [
        row
        for row in ContentType.objects.using(using).filter(app_label__in=labels)
        if (row.app_label, row.model) in names
    ]
    for model in apps.get_models():
        for generic in model._meta.private_fields:
            if not hasattr(generic, "ct_field") or not hasattr(generic, "fk_field") or not model._meta.managed:
                continue
            kind, number = tables.columns(model, generic.ct_field, generic.fk_field)
            rows = [
                (number.to_python(kept), row.pk, number.to_python(gone))
                for row in types
                for gone, kept in moved.items()
            ]
            tables.update_many(model, [number], [kind, number], rows, using)


def _relog(spec: ModelSpec, column: ForeignKey, rows: Sequence[Any], moved: Mapping[Any, Any], using: str) -> None:
    """The last logged states of rows that were re-pointed say so too: otherwise they would look changed."""
    texts = [pks.to_text(spec.model, pk) for pk in rows]
    current = versions.find([Key(spec.root_label, text) for text in texts], using)
    entries = [each.change_id for each in current.values() if each.change_id is not None]
    given = {orjson.dumps(values.encode(column, gone)): values.encode(column, kept) for gone, kept in moved.items()}
    written = []
    for part in serialize.chunks(entries):
        logged = ChangeLog.objects.using(using).filter(pk__in=part, imported=False).exclude(payload="")
        for pk, payload in logged.values_list("pk", "payload"):
            state = orjson.loads(payload)
            kept = given.get(orjson.dumps(state.get(column.name)))
            if kept is not None:
                written.append((orjson.dumps({**state, column.name: kept}).decode(), pk))
    tables.update_many(ChangeLog, tables.columns(ChangeLog, "payload"), [ChangeLog._meta.pk], written, using)
    _remember(spec, column, texts, moved, using)


def _remember(spec: ModelSpec, column: ForeignKey, texts: Sequence[str], moved: Mapping[Any, Any], using: str) -> None:
    """The same for what is remembered of states that are no longer in the log."""
    known: dict[Key, int | None] = {}
    for part in serialize.chunks(texts):
        known.update(digests.remembered([Key(spec.root_label, text) for text in part], using))
    noted = {key.pk_text: number for key, number in known.items() if number is not None}
    if not noted:
        return
    before: dict[bytes, list[Any]] = defaultdict(list)
    for gone, kept in moved.items():
        before[orjson.dumps(values.encode(column, kept))].append(values.encode(column, gone))
    changed: dict[str, int] = {}
    for text, (_, state) in digests.row_states(spec, noted, using).items():
        earlier = before[orjson.dumps(state.get(column.name))]
        if any(noted[text] == digests.of_state({**state, column.name: each}) for each in earlier):
            changed[text] = digests.of_state(state)
    digests.store(spec.root_label, changed, using)
