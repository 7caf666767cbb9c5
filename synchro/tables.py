"""Rows written in bulk past the ORM: one statement run for many rows, whatever the database.

Used for synchro's own tables and by the applier. ``executemany`` with one row a statement is several times faster than
``bulk_create`` and ``bulk_update``, which build their SQL anew for each call, and keeps the number of queries constant.
Values go through each field's ``get_db_prep_save``; ``pre_save`` is not called, so ``auto_now`` keeps the given value.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeAlias, TypeVar, cast

import orjson
from django.db import connections, models
from django.db.models import QuerySet
from django.db.models.query import FlatValuesListIterable, ValuesListIterable
from django.db.models.sql import UpdateQuery

from synchro import reasons, values
from synchro.values import UndecodableValueError

AnyField: TypeAlias = "models.Field[Any, Any]"
ModelClass = type[models.Model]
M = TypeVar("M", bound=models.Model)


def columns(model: ModelClass, *names: str) -> list[AnyField]:
    """The concrete fields of *model* that are called *names*, in that order."""
    return [cast("AnyField", model._meta.get_field(name)) for name in names]


def exists(model: ModelClass, using: str) -> bool:
    """Whether *model*'s table is there.

    A table that is there is asked for once a process; one that is missing again and again, for another process may run
    ``migrate``, though not at each save.
    """
    return is_there(model, connections[using])


def is_there(model: ModelClass, connection: Any) -> bool:
    """The same of the database of *connection*."""
    key = (connection.alias, connection.settings_dict["NAME"], model._meta.db_table)
    asked = _existing.get(key)
    if asked is True:
        return True
    if asked is None or time.monotonic() - asked > ASK_AGAIN_SECONDS:
        with connection.cursor() as cursor:
            there = model._meta.db_table in connection.introspection.table_names(cursor)
        asked = _existing[key] = True if there else time.monotonic()
    return asked is True


ASK_AGAIN_SECONDS = 5
# Database and table → True, or when it was last found missing.
_existing: dict[tuple[Any, ...], bool | float] = {}


def forget_existing(**_kwargs: Any) -> None:
    """Receiver of ``post_migrate``: tables may have come or gone."""
    _existing.clear()


def rows(model: type[M], using: str) -> QuerySet[M]:
    """All rows of *model*, past its managers: those hide rows, or refuse to work outside a scope."""
    return (_CompositeRows if len(model._meta.pk_fields) > 1 else QuerySet)(model, using=using)


# Django gives the parts of a composite primary key as the driver gives them where "pk" is asked for among values: a
# UUID as its digits on SQLite, where instances and the fields by themselves have the UUID.


def converted_pk(model: ModelClass, pk: Any, using: str) -> Any:
    """Primary key *pk*, as ``values_list()`` gave it, with the values that the fields have."""
    if not isinstance(pk, tuple):
        return pk
    return tuple(_part(field, part, using) for field, part in zip(model._meta.pk_fields, pk, strict=True))


def _part(field: AnyField, value: Any, using: str) -> Any:
    if type(value) not in {str, int, float}:
        return value
    connection = connections[using]
    while isinstance(field, models.ForeignKey):
        field = field.target_field
    column: Any = field.get_col(field.model._meta.db_table)
    for convert in (*connection.ops.get_db_converters(column), *column.get_db_converters(connection)):
        value = convert(value, column, connection)
    return value


class _Tuples(ValuesListIterable):  # type: ignore[type-arg]  # Django has no such brackets
    def __iter__(self) -> Iterator[Any]:
        rows: Any = self.queryset
        places = {place for place, name in enumerate(rows._fields) if name == "pk"}
        for row in super().__iter__():
            yield tuple(converted_pk(rows.model, part, rows.db) if n in places else part for n, part in enumerate(row))


class _Flat(FlatValuesListIterable):  # type: ignore[type-arg]  # likewise
    def __iter__(self) -> Iterator[Any]:
        rows: Any = self.queryset
        for pk in super().__iter__():
            yield converted_pk(rows.model, pk, rows.db)


class _CompositeRows(QuerySet[M]):
    def values_list(self, *fields: Any, **options: Any) -> Any:
        found: Any = super().values_list(*fields, **options)
        if "pk" in fields:
            found._iterable_class = _Flat if options.get("flat") else _Tuples  # noqa: SLF001  its own
        return found


def any_of(wanted: Collection[int] | Collection[str], using: str) -> tuple[str, list[Any]]:
    """What stands behind a column that is one of *wanted*, which are not none; with its parameters.

    One statement for any number of them: SQLite's driver would keep that of each length, with megabytes of memory.
    """
    connection = connections[using]
    if connection.vendor == "postgresql":
        return "= ANY(%s)", [list(wanted)]
    if connection.vendor == "sqlite" and connection.features.supports_json_field:
        return "IN (SELECT value FROM json_each(%s))", [orjson.dumps(list(wanted)).decode()]
    return f"IN ({', '.join(['%s'] * len(wanted))})", list(wanted)


def among(rows: QuerySet[Any, Any], field: AnyField, wanted: Collection[int] | Collection[str]) -> list[Any]:
    """Those of *rows*, a ``values_list()`` with plain conditions, in which *field* of their table is one of *wanted*.

    A third of the time of ``filter(…__in=…)``, which looks at each value several times.
    """
    query, using = rows.query, rows.db
    if not wanted:
        return []
    if (query.where and query.where.connector != "AND") or query.is_sliced or query.group_by is not None:
        raise ValueError("conditions cannot be added to these rows")
    connection = connections[using]
    query = query.clone()
    query.clear_ordering(force=True)
    compiler = query.get_compiler(using)
    sql, parameters = compiler.as_sql()
    column = f"{connection.ops.quote_name(query.get_initial_alias())}.{quoted(field, using)}"
    condition, listed = any_of(wanted, using)
    word = "AND" if query.where else "WHERE"
    with connection.cursor() as cursor:
        cursor.execute(f"{sql} {word} {column} {condition}", (*parameters, *listed))
        found: list[Any] = cursor.fetchall()
    converters = compiler.get_converters([expression for expression, *_ in compiler.select])
    return list(compiler.apply_converters(found, converters)) if converters else found


def insert_many(
    model: ModelClass,
    fields: Sequence[AnyField],
    rows: Iterable[Sequence[Any]],
    using: str,
    *,
    prepared: bool = False,
    copy: bool = False,
) -> None:
    """Insert *rows* (values in the order of *fields*, all of one table); *prepared*: as the driver takes them.

    *copy*: by PostgreSQL's COPY, if that can be. The caller does without where it is refused, as by a table's row
    security.
    """
    connection = connections[using]
    if copy and _can_copy(fields, connection):
        _copy(model, fields, _ready(fields, rows, using, prepared=prepared), using)
        return
    quote = connection.ops.quote_name
    names = ", ".join(quoted(field, using) for field in fields)
    marks = ", ".join(_placeholder(field, using) for field in fields)
    sql = f"INSERT INTO {quote(model._meta.db_table)} ({names}) VALUES ({marks})"  # noqa: S608  quoted names only
    with unchecked(fields, using):
        _run(sql, fields, rows, using, prepared=prepared)


def _can_copy(fields: Iterable[AnyField], connection: Any) -> bool:
    """Whether rows can be written by COPY past the project's own wrappers of what is executed, of which there is none.

    Columns of numbers, texts, dates and JSON; others have casts, or types that the driver tells the server.
    """
    ours = connection.vendor == "postgresql" and not connection.execute_wrappers
    return ours and all(map(_is_copied, fields)) and hasattr(connection.Database, "Copy")


@cache
def _is_copied(field: AnyField) -> bool:
    while isinstance(field, models.ForeignKey):
        field = field.target_field
    return field.model._meta.app_label == "synchro" or values.converts_as(field) in _COPIED


_COPIED = (
    models.AutoField, models.BigAutoField, models.SmallAutoField, models.IntegerField, models.BooleanField,
    models.CharField, models.TextField, models.FloatField, models.DecimalField, models.DateField, models.DateTimeField,
    models.TimeField, models.UUIDField, models.JSONField,
)  # fmt: skip


def _copy(model: ModelClass, fields: Sequence[AnyField], rows: Sequence[Sequence[Any]], using: str) -> None:
    """Insert *rows*: an import of new objects takes three fifths of the time that it takes by ``executemany``."""
    if not rows:
        return
    connection = connections[using]
    names = ", ".join(quoted(field, using) for field in fields)
    sql = f"COPY {connection.ops.quote_name(model._meta.db_table)} ({names}) FROM STDIN"
    with _refusals(model), connection.cursor() as cursor, connection.wrap_database_errors, cursor.copy(sql) as copy:
        for row in rows:
            copy.write_row(row)


def update_many(
    model: ModelClass,
    fields: Sequence[AnyField],
    keys: Sequence[AnyField],
    rows: Iterable[Sequence[Any]],
    using: str,
    *,
    prepared: bool = False,
) -> None:
    """Set *fields* where *keys* match; each row gives the values of *fields*, then those of *keys*."""
    connection = connections[using]
    quote = connection.ops.quote_name
    assignments = ", ".join(f"{quoted(field, using)} = {_placeholder(field, using)}" for field in fields)
    condition = " AND ".join(f"{quoted(field, using)} = %s" for field in keys)
    sql = f"UPDATE {quote(model._meta.db_table)} SET {assignments} WHERE {condition}"  # noqa: S608  quoted names only
    with unchecked(fields, using):
        _run(sql, [*fields, *keys], rows, using, prepared=prepared)


def update_numbers(
    model: ModelClass, fields: Sequence[AnyField], rows: Sequence[Sequence[int | None]], using: str
) -> None:
    """Set *fields*, which are numbers, true or false, of the rows whose primary key comes last in each of *rows*.

    On PostgreSQL in one statement, which takes the program a tenth of the time of one a row.
    """
    connection = connections[using]
    if connection.vendor != "postgresql" or not rows:
        update_many(model, fields, [model._meta.pk], rows, using)
        return
    quote = connection.ops.quote_name
    columns_ = [quoted(field, using) for field in (*fields, model._meta.pk)]
    kinds = ["boolean[]" if isinstance(field, models.BooleanField) else "bigint[]" for field in fields] + ["bigint[]"]
    lists = ", ".join(f"%s::{kind}" for kind in kinds)
    assignments = ", ".join(f"{name} = new.{name}" for name in columns_[:-1])
    sql = (
        f"UPDATE {quote(model._meta.db_table)} old SET {assignments} "  # noqa: S608  quoted names only
        f"FROM unnest({lists}) AS new ({', '.join(columns_)}) WHERE old.{columns_[-1]} = new.{columns_[-1]}"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, [list(values) for values in zip(*rows, strict=True)])


@contextmanager
def unchecked(fields: Iterable[AnyField], using: str, *, anything: bool = False) -> Iterator[None]:
    """What foreign keys point to by ``to_field`` may change before or after these do, on every database.

    MariaDB would refuse that at once. Whoever does this looks at the foreign keys afterwards. *anything*: whatever
    *fields* are.
    """
    connection = connections[using]
    if connection.features.can_defer_constraint_checks or not (anything or any(map(_points_by_value, fields))):
        yield
        return
    with connection.constraint_checks_disabled():
        yield


@cache
def _points_by_value(field: AnyField) -> bool:
    """Whether *field* is one end of a foreign key with ``to_field``."""
    return bool(pointed_to_by(field)) or (isinstance(field, models.ForeignKey) and not field.target_field.primary_key)


@cache
def pointed_to_by(field: AnyField) -> tuple[models.ForeignKey[Any, Any], ...]:
    """The foreign keys that hold values of *field*, which is no primary key."""
    if field.primary_key:
        return ()
    relations = field.model._meta.get_fields(include_hidden=True)
    columns = [getattr(each, "field", None) for each in relations if each.auto_created and not each.concrete]
    return tuple(each for each in columns if isinstance(each, models.ForeignKey) and each.target_field == field)


def delete_many(model: ModelClass, keys: Sequence[AnyField], rows: Iterable[Sequence[Any]], using: str) -> None:
    """Delete the rows where *keys* match."""
    connection = connections[using]
    quote = connection.ops.quote_name
    condition = " AND ".join(f"{quoted(field, using)} = %s" for field in keys)
    sql = f"DELETE FROM {quote(model._meta.db_table)} WHERE {condition}"  # noqa: S608  quoted names only
    _run(sql, keys, rows, using)


def quoted(field: AnyField, using: str) -> str:
    """The name of *field*'s column in SQL; a concrete field has one, whatever the type says."""
    return connections[using].ops.quote_name(cast("str", field.column))


def _placeholder(field: AnyField, using: str) -> str:
    # PostgreSQL arrays and ranges, spatial columns: the field casts its parameter.
    if hasattr(field, "get_placeholder"):
        connection = connections[using]
        compiler = UpdateQuery(field.model).get_compiler(connection=connection)
        return str(field.get_placeholder(None, compiler, connection))
    return "%s"


def select_in(
    model: ModelClass,
    columns_: Sequence[AnyField],
    column: AnyField,
    wanted: Iterable[Any],
    using: str,
    equal: Mapping[str, Any],
    also: tuple[AnyField, Collection[int] | Collection[str]] | None = None,
    *,
    but: Mapping[str, Any] | None = None,
) -> list[tuple[Any, ...]]:
    """The values of *columns_* in the rows of *model* where *column* is one of *wanted*, and *equal* holds.

    *also*: and another column is one of these, too. *but*: and these do not hold.

    For columns of numbers and text, which are given and come as the driver has them: a fifth of the time that a
    queryset takes for a thousand values.
    """
    connection = connections[using]
    quote = connection.ops.quote_name
    names = ", ".join(quoted(each, using) for each in columns_)
    conditions = "".join(f" AND {quoted(each, using)} = %s" for each in columns(model, *equal))
    values_, compared = list(wanted), list(equal.values())
    for each, value in (but or {}).items():
        conditions += f" AND {quoted(columns(model, each)[0], using)} <> %s"
        compared.append(value)
    if also is not None:
        other, listed_too = also
        if not listed_too:
            return []
        condition, listed = any_of(listed_too, using)
        # SQLite would look for each of these at each of those, by an index of both: as in versions.find.
        many = connection.vendor == "sqlite" and min(len(values_), _AT_ONCE) * len(listed_too) > _PROBED
        conditions += f" AND {'+' if many else ''}{quoted(other, using)} {condition}"
        compared += listed
    head = f"SELECT {names} FROM {quote(model._meta.db_table)} WHERE {quoted(column, using)}"  # noqa: S608  quoted
    found: list[tuple[Any, ...]] = []
    with connection.cursor() as cursor:
        for start in range(0, len(values_), _AT_ONCE):
            condition, listed = any_of(values_[start : start + _AT_ONCE], using)
            cursor.execute(f"{head} {condition}{conditions}", [*listed, *compared])
            found += cursor.fetchall()
    if connection.vendor == "mysql":  # where exact text is bytes
        found = [tuple(each.decode() if isinstance(each, bytes) else each for each in row) for row in found]
    return found


_AT_ONCE, _PROBED = 1000, 20_000


def _run(
    sql: str, fields: Sequence[AnyField], rows: Iterable[Sequence[Any]], using: str, *, prepared: bool = False
) -> None:
    ready = _ready(fields, rows, using, prepared=prepared)
    if ready:
        with _refusals(fields[0].model), connections[using].cursor() as cursor:
            cursor.executemany(sql, ready)


def _ready(
    fields: Sequence[AnyField], rows: Iterable[Sequence[Any]], using: str, *, prepared: bool
) -> list[tuple[Any, ...]]:
    """*rows* as the driver takes them."""
    if prepared or all(field.model._meta.app_label == "synchro" for field in fields):
        # Our own columns hold numbers and text, which every driver takes: an eighth of an import's time less.
        return list(map(tuple, rows))
    return [tuple(_prepared(field, value, using) for field, value in zip(fields, row, strict=True)) for row in rows]


@contextmanager
def _refusals(model: ModelClass) -> Iterator[None]:
    """SQLite's driver does not wrap what it cannot bind."""
    try:
        yield
    except _REFUSALS as error:
        raise UndecodableValueError(reasons.CANNOT_HOLD_A_VALUE(place=model._meta.label_lower, why=error)) from error


# What fields and drivers raise, besides database errors, for values that no row can hold.
_REFUSALS = (ValueError, TypeError, OverflowError, ArithmeticError)


def _prepared(field: AnyField, value: Any, using: str) -> Any:
    try:
        return field.get_db_prep_save(value, connections[using])
    except _REFUSALS as error:
        place = f"{field.model._meta.label_lower}.{field.name}"
        raise UndecodableValueError(reasons.CANNOT_HOLD(place=place, value=repr(value)[:80], why=error)) from error


def allocate(model: ModelClass, count: int, using: str) -> list[Any] | None:
    """*count* numbers of *model*'s automatic primary key that nobody else will get; None where the database has no way.

    On SQLite that holds as long as the caller's transaction has written (and so has the write lock); on PostgreSQL the
    numbers are taken from the sequence.
    """
    connection = connections[using]
    quote = connection.ops.quote_name
    table, column = model._meta.db_table, cast("str", model._meta.pk.column)
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(f"SELECT MAX({quote(column)}) FROM {quote(table)}")  # noqa: S608  quoted names only
            highest = cursor.fetchone()[0] or 0
            cursor.execute("SELECT seq FROM sqlite_sequence WHERE name = %s", [table])
            row = cursor.fetchone()
            first = max(highest, row[0] if row else 0) + 1
            return list(range(first, first + count))
        if connection.vendor == "postgresql":
            cursor.execute(
                "SELECT nextval(pg_get_serial_sequence(%s, %s)) FROM generate_series(1, %s)",
                [quote(table), column, count],
            )
            return [value for (value,) in cursor.fetchall()]
    return None


# Where numbers cannot be taken from the database, they are set aside from here on, far beyond what it will have given.
_FAR = {"SmallAutoField": 2**14, "AutoField": 2**30, "BigAutoField": 2**30}


def set_aside(model: ModelClass, count: int, taken: int, using: str) -> list[int]:
    """*count* numbers of *model*'s automatic primary key that no row has or will have. *taken*: the highest of earlier.

    Other than those of :func:`allocate` they need not be used.
    """
    numbers = allocate(model, count, using)
    if numbers is None:
        kind = model._meta.pk.get_internal_type()
        first = max(_FAR.get(kind, 2**30), taken) + 1
        return list(range(first, first + count))
    if numbers:
        advance(model, numbers[-1], using)
    return numbers


def can_advance(using: str) -> bool:
    """Whether :func:`advance` does anything. MariaDB moves on by itself, but only by rows."""
    return connections[using].vendor in ("sqlite", "postgresql")


def advance(model: ModelClass, highest: int, using: str) -> None:
    """See to it that the database numbers the next row of *model* higher than *highest*."""
    connection = connections[using]
    quote = connection.ops.quote_name
    table, column = model._meta.db_table, cast("str", model._meta.pk.column)
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("UPDATE sqlite_sequence SET seq = MAX(seq, %s) WHERE name = %s", [highest, table])
            if not cursor.rowcount:
                cursor.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (%s, %s)", [table, highest])
        elif connection.vendor == "postgresql":
            sequence = "pg_get_serial_sequence(%s, %s)"
            cursor.execute(
                f"SELECT setval({sequence}, GREATEST(nextval({sequence}), %s))",
                [quote(table), column, quote(table), column, highest],
            )


def insert_returning(
    model: ModelClass,
    fields: Sequence[AnyField],
    rows: Sequence[Sequence[Any]],
    using: str,
    *,
    prepared: bool = False,
    copy: bool = False,
) -> list[Any]:
    """Insert *rows* of a table whose automatic primary key is not among *fields*; the options of :func:`insert_many`.

    Returns the new keys in the order of the rows.
    """
    pk = model._meta.pk
    if not rows:
        return []
    numbers = allocate(model, len(rows), using)
    if numbers is not None:
        numbered = ((number, *row) for number, row in zip(numbers, rows, strict=True))
        insert_many(model, [pk, *fields], numbered, using, prepared=prepared, copy=copy)
        return numbers
    # MariaDB: multi-row INSERT … RETURNING, as many rows as the driver takes. MySQL has no RETURNING: one by one.
    connection = connections[using]
    quote = connection.ops.quote_name
    bulk = connection.features.can_return_rows_from_bulk_insert
    names = ", ".join(quoted(field, using) for field in fields)
    marks = f"({', '.join(_placeholder(field, using) for field in fields)})"
    head = f"INSERT INTO {quote(model._meta.db_table)} ({names}) VALUES"
    tail = f" RETURNING {quoted(pk, using)}" if bulk else ""
    ready = _ready(fields, rows, using, prepared=prepared)
    found: list[Any] = []
    with unchecked(fields, using), _refusals(model), connection.cursor() as cursor:
        for start in range(0, len(ready), 1000 if bulk else 1):
            part = ready[start : start + (1000 if bulk else 1)]
            sql = f"{head} {', '.join([marks] * len(part))}{tail}"
            cursor.execute(sql, [value for row in part for value in row])
            found += [row[0] for row in cursor.fetchall()] if bulk else [cursor.lastrowid]
    return found
