"""Making room for unique values that rows give to each other.

Where several rows exchange unique values (a swap, nodes of a tree that are moved), no order of single updates avoids a
clash, and the log of what was written past the ORM has only the final states. So the rows are first given values that
nobody has, and then those that they are to have.
"""

from __future__ import annotations

import datetime as dt
import secrets
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from django.db import models

from synchro import pks, tables
from synchro.plan import Remove, Write, table_models
from synchro.registry import AnyField, ModelClass

_FIRST, _LETTERS = 0x4E00, 20_000  # one character of many, wherever text is short


def park(writes: Iterable[Write], using: str, removes: Iterable[Remove] = ()) -> int:
    """Give the rows that *writes* change values of their own in the unique columns; how many rows that were.

    So also those that *removes* delete: something else may have to let go of them before they can go.
    """
    # By model and text of the primary key: the names of the fields that get other values afterwards, None for all.
    by_model: dict[ModelClass, dict[str, Collection[str] | None]] = defaultdict(dict)
    for write in writes:
        if write.slot.text is not None:
            for model in table_models(write.spec):
                by_model[model][write.slot.text] = write.values
    for removal in removes:
        if removal.slot.text is not None:
            for model in removal.tables:
                by_model[model].setdefault(removal.slot.text, None)
    parked = 0
    for model, of_model in by_model.items():
        for column in _columns(model):
            texts = [text for text, given in of_model.items() if given is None or column.name in given]
            parked += _park_column(model, column, texts, using)
    return parked


def _park_column(model: ModelClass, column: AnyField, texts: Sequence[str], using: str) -> int:
    if not texts:
        return 0
    rows = []
    for number, text in enumerate(texts):
        pk = pks.from_text(model, text)
        rows.append([_value(column, number), *(pk if isinstance(pk, tuple) else (pk,))])
    tables.update_many(model, [column], model._meta.pk_fields, rows, using)
    return len(rows)


def _columns(model: ModelClass) -> list[AnyField]:
    """For each thing that is unique in *model*'s own table, one column by which it can be parked."""
    options = model._meta
    own = {field.name: field for field in options.local_concrete_fields if not field.primary_key}
    groups: list[tuple[str, ...]] = [(field.name,) for field in own.values() if field.unique]
    groups += [tuple(names) for names in options.unique_together]
    groups += [tuple(each.fields) for each in options.constraints if isinstance(each, models.UniqueConstraint)]
    chosen: dict[AnyField, None] = {}
    for names in groups:
        fields = [own[name] for name in names if name in own and _parkable(own[name])]
        if fields and not any(field in chosen for field in fields):
            chosen[min(fields, key=lambda field: (not field.null, isinstance(field, models.ForeignKey)))] = None
    return list(chosen)


def _parkable(field: AnyField) -> bool:
    if getattr(field, "generated", False):
        return False
    kinds = (models.CharField, models.TextField, models.IntegerField, models.UUIDField, models.DateField)
    return field.null or isinstance(field, kinds)


def _value(field: AnyField, number: int) -> Any:
    if field.null:
        return None
    if isinstance(field, models.UUIDField):
        return uuid.uuid4()
    if isinstance(field, models.DateTimeField):
        moment = dt.datetime(9990, 1, 1, tzinfo=dt.UTC)
        return moment - dt.timedelta(seconds=secrets.randbelow(10**9) + number)
    if isinstance(field, models.DateField):
        return dt.date(9990, 1, 1) - dt.timedelta(days=secrets.randbelow(10**5) + number)
    if isinstance(field, models.IntegerField):
        top = 32_767 if isinstance(field, (models.SmallIntegerField, models.PositiveSmallIntegerField)) else 2**31 - 1
        return top - secrets.randbelow(top // 8) - number
    length = min(field.max_length or 8, 8)
    return "".join(chr(_FIRST + secrets.randbelow(_LETTERS)) for _ in range(length))
