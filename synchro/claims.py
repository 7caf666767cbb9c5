"""Which rows cannot have a unique value yet, since a row that is not among those to be written has it.

Asked when the database has refused a chunk: what has to wait is told at once, with all that wants the values of what
has to wait, instead of being found by trying halves.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from django.db import models
from django.db.models import Q

from synchro import naturalkeys, pks, reasons, serialize, tables, values
from synchro.plan import Operation, Remove, Write, table_models
from synchro.registry import AnyField, ModelClass, ModelSpec
from synchro.resolving import Slot, foreign_value


class _Wanter(NamedTuple):
    """A row of a chunk: whose it is, and its values after it, as far as they are known. JSON forms."""

    slot: Slot
    spec: ModelSpec
    values: dict[str, Any]


def waiting(operations: Iterable[Operation], using: str) -> dict[Slot, str]:
    """The objects of *operations* that have to wait, and why. Nothing where it is something else that is refused."""
    rows: dict[ModelClass, dict[Slot, _Wanter]] = defaultdict(dict)
    leaving: dict[ModelClass, set[Slot]] = defaultdict(set)
    for operation in operations:
        if isinstance(operation, Write):
            for model in table_models(operation.spec):
                known = rows[model].get(operation.slot)
                start = (operation.slot.row or {}) if known is None else known.values
                rows[model][operation.slot] = _Wanter(operation.slot, operation.spec, {**start, **operation.values})
                leaving[model].discard(operation.slot)
        elif isinstance(operation, Remove):
            for model in operation.tables:
                rows[model].pop(operation.slot, None)
                leaving[model].add(operation.slot)
    found: dict[Slot, str] = {}
    followers: dict[Slot, dict[Slot, str]] = defaultdict(dict)
    for model, wanters in rows.items():
        for fields in _unique_sets(model):
            _compare(model, fields, list(wanters.values()), leaving[model], (found, followers), using)
    unseen = list(found)
    while unseen:  # who wants the value of one that waits, waits as well
        for slot, reason in followers[unseen.pop()].items():
            if slot not in found:
                found[slot] = reason
                unseen.append(slot)
    return found


def _compare(
    model: ModelClass,
    fields: Sequence[AnyField],
    wanters: Sequence[_Wanter],
    leaving: set[Slot],
    told: tuple[dict[Slot, str], dict[Slot, dict[Slot, str]]],
    using: str,
) -> None:
    """Compare what *wanters* want of one unique constraint with what rows have."""
    found, followers = told
    of_slot = {each.slot: key for each in wanters if (key := _key(each, fields)) is not None}
    by_text = {slot.text: slot for slot in (*(each.slot for each in wanters), *leaving) if slot.text is not None}
    wanted: dict[Any, Slot] = {}
    what = f"{model._meta.label}.{'+'.join(field.name for field in fields)}"
    for slot, key in of_slot.items():
        if key in wanted:
            found[slot] = reasons.WANTED_TWICE(field=what)
        else:
            wanted[key] = slot
    for part in serialize.chunks(list(wanted), serialize.COMPOSITE_CHUNK):
        for text, key in _holders(model, fields, part, using):
            wanter, holder = wanted.get(key), by_text.get(text)
            if wanter is None or holder is wanter or holder in leaving:
                continue
            if holder is not None and of_slot.get(holder, key) != key:
                followers[holder][wanter] = reasons.TAKEN_BY_WAITING(field=what, key=text)
            else:
                found[wanter] = reasons.TAKEN(field=what, key=text)


def _key(wanter: _Wanter, fields: Sequence[AnyField]) -> Any:
    """What *wanter* will have in *fields*; None where it is not known, or NULL, which is like nothing else."""
    key = []
    for field in fields:
        value = wanter.values.get(field.name)
        if isinstance(value, Slot):
            try:
                value = foreign_value(value, wanter.spec, field.name)
            except KeyError:
                return None
        if value is None:
            return None
        key.append(value)
    return naturalkeys.freeze(key)


def _holders(
    model: ModelClass, fields: Sequence[AnyField], keys: Sequence[Any], using: str
) -> Iterator[tuple[str, Any]]:
    """The texts of the primary keys of the rows that have one of *keys* in *fields*, each with its key."""
    condition = Q()
    for field, given in zip(fields, zip(*keys, strict=True), strict=True):
        python = [values.decode(field, naturalkeys.thaw(value)) for value in dict.fromkeys(given)]
        condition &= Q(**{f"{field.attname}__in": python})
    rows = tables.rows(model, using).filter(condition).order_by()
    for pk, *held in rows.values_list("pk", *(field.attname for field in fields)):
        key = naturalkeys.freeze([values.encode(field, value) for field, value in zip(fields, held, strict=True)])
        yield pks.to_text(model, pk), key


def _unique_sets(model: ModelClass) -> Iterator[list[AnyField]]:
    """What is unique in *model*'s own table, without what only the database can tell (conditions, expressions)."""
    options = model._meta
    own = {field.name: field for field in options.local_concrete_fields}
    groups: list[Sequence[str]] = [(field.name,) for field in own.values() if field.unique and not field.primary_key]
    groups += options.unique_together
    groups += [
        each.fields for each in options.constraints if isinstance(each, models.UniqueConstraint) and not each.condition
    ]
    for names in groups:
        if names and all(name in own and not getattr(own[name], "generated", False) for name in names):
            yield [own[name] for name in names]
