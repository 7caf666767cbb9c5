"""Making room for unique values that rows give to each other.

Where several rows exchange unique values (a swap, nodes of a tree that are moved), no order of single updates avoids a
clash, and the log of what was written past the ORM has only the final states. So the rows are first given values that
nobody has, and then those that they are to have.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import secrets
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import models

from synchro import naturalkeys, pks, tables
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
    for value, text in zip(_values(column, len(texts)), texts, strict=True):
        pk = pks.from_text(model, text)
        rows.append([value, *(pk if isinstance(pk, tuple) else (pk,))])
    with tables.unchecked([column], using, anything=isinstance(column, models.ForeignKey)):
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
    return field.null or isinstance(naturalkeys.leaf(field), tuple(_MAKERS))


def _values(field: AnyField, count: int) -> Iterable[Any]:
    """*count* different values that nobody has in the column of *field*, at its far end.

    A foreign key that cannot be NULL points nowhere for the moment: that is looked at when all is written.
    """
    if field.null:
        return [None] * count
    field = naturalkeys.leaf(field)
    maker = next(make for kind, make in _MAKERS.items() if isinstance(field, kind))
    return maker(field, count)


def _texts(field: AnyField, count: int) -> Iterable[str]:
    length = min(field.max_length or 8, 8)
    start = secrets.randbelow(_LETTERS**length)
    for number in range(start, start + count):
        letters = [chr(_FIRST + number // _LETTERS**place % _LETTERS) for place in range(length)]
        yield "".join(letters)


def _integers(field: AnyField, count: int) -> Iterable[int]:
    top = 32_767 if isinstance(field, (models.SmallIntegerField, models.PositiveSmallIntegerField)) else 2**31 - 1
    start = top - secrets.randbelow(top // 8)
    return range(start, start - count, -1)


def _decimals(field: Any, count: int) -> Iterable[Decimal]:
    # As many as PostgreSQL takes where the field has no limits, and no more than SQLite keeps apart.
    places = field.decimal_places if field.decimal_places is not None else 2
    digits = min(field.max_digits or 15, 15)
    top = 10**digits - 1
    start = top - secrets.randbelow(top // 8 + 1)
    return [Decimal(number).scaleb(-places) for number in range(start, start - count, -1)]


def _floats(_field: AnyField, count: int) -> Iterable[float]:
    start = 2**50 - secrets.randbelow(2**40)
    return map(float, range(start, start - count, -1))


def _moments(_field: AnyField, count: int) -> Iterable[dt.datetime]:
    last = dt.datetime(9990, 1, 1, tzinfo=dt.UTC) - dt.timedelta(seconds=secrets.randbelow(10**9))
    if not settings.USE_TZ:
        last = last.replace(tzinfo=None)
    return [last - dt.timedelta(seconds=number) for number in range(count)]


def _days(_field: AnyField, count: int) -> Iterable[dt.date]:
    last = dt.date(9990, 1, 1) - dt.timedelta(days=secrets.randbelow(10**5))
    return [last - dt.timedelta(days=number) for number in range(count)]


def _times(_field: AnyField, count: int) -> Iterable[dt.time]:
    start = dt.datetime(2000, 1, 1) + dt.timedelta(microseconds=secrets.randbelow(86_400 * 10**6))  # noqa: DTZ001
    return [(start + dt.timedelta(microseconds=number)).time() for number in range(count)]


def _durations(_field: AnyField, count: int) -> Iterable[dt.timedelta]:
    longest = dt.timedelta(days=30_000_000 - secrets.randbelow(10**6))
    return [longest - dt.timedelta(seconds=number) for number in range(count)]


def _uuids(_field: AnyField, count: int) -> Iterable[uuid.UUID]:
    return (uuid.uuid4() for _ in range(count))


def _blobs(_field: AnyField, count: int) -> Iterable[bytes]:
    return (secrets.token_bytes(16) for _ in range(count))


def _addresses(field: Any, count: int) -> Iterable[str]:
    start = secrets.randbelow(2**27)
    protocol = getattr(field, "protocol", "both").lower()
    first = 240 << 24 if protocol == "ipv4" else 0xFD00 << 112
    make: Any = ipaddress.IPv4Address if protocol == "ipv4" else ipaddress.IPv6Address
    return (str(make(first + start + number)) for number in range(count))


_MAKERS: dict[type[AnyField], Callable[[AnyField, int], Iterable[Any]]] = {
    models.CharField: _texts,
    models.TextField: _texts,
    models.FileField: _texts,
    models.IntegerField: _integers,
    models.DecimalField: _decimals,
    models.FloatField: _floats,
    models.DateTimeField: _moments,
    models.DateField: _days,
    models.TimeField: _times,
    models.DurationField: _durations,
    models.UUIDField: _uuids,
    models.BinaryField: _blobs,
    models.GenericIPAddressField: _addresses,
}
