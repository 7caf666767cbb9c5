"""Writing to and reading from this node's log.

A change is logged by one INSERT in the transaction of the change itself; :mod:`synchro.seal` gives it its position
later.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, NamedTuple

import orjson
from django.db import connections, models

from changelog_format import LimitError
from changelog_format.jsonl import check_size
from changelog_format.limits import LINE_SIZE, LINE_VALUES
from synchro import actors, pks, reasons, registry, serialize, tables
from synchro.errors import UnloggableValueError
from synchro.models import PK_LENGTH, Action, ChangeLog
from synchro.pause import is_paused
from synchro.registry import ModelSpec, spec


class Entry(NamedTuple):
    """One row to be logged: the columns of ``ChangeLog`` in the order in which they are inserted.

    Who made the change is whoever acts when it is logged.
    """

    model: str
    root: str
    pk_text: str
    link: str
    action: str
    captured: int
    payload: str
    version: int


class Restated(Entry):
    """One that says what the newest change of its object or link said: that is to be said again, and is no new one."""

    __slots__ = ()


_FIELDS = tables.columns(
    ChangeLog,
    *("model", "root", "pk_text", "link", "action", "captured", "payload", "version", "imported", "actor", "context"),
)
# Of a line's size and values what is left for the rest of the record: ids, the natural keys of targets.
_AROUND = 100_000
# No state of so many characters has too many of anything.
_ALWAYS_FITS = LINE_VALUES - _AROUND


def available(using: str) -> bool:
    """Whether database *using* has synchro's tables; without them nothing is logged there."""
    return tables.exists(ChangeLog, using)


def logs(using: str) -> bool:
    """Whether what is changed now, in this context, is to be logged in database *using*."""
    return logs_at(connections[using])


def logs_at(connection: Any) -> bool:
    """The same of the database of *connection*, for who has that already."""
    return not is_paused() and tables.is_there(ChangeLog, connection)


def now() -> int:
    """The time of this machine in microseconds since 1970 UTC."""
    return time.time_ns() // 1000


# What is gathered instead of being logged at once, by database; None for nothing.
_gathering: ContextVar[tuple[str, list[Entry]] | None] = ContextVar("synchro_gathering", default=None)


@contextmanager
def gathered(using: str) -> Iterator[None]:
    """Log what is logged one by one inside the block together, at its end. It belongs into one transaction."""
    entries: list[Entry] = []
    token = _gathering.set((using, entries))
    try:
        yield
    finally:
        _gathering.reset(token)
    _flush(entries, using)


def _flush(entries: list[Entry], using: str) -> None:
    if entries:
        append_many(entries, using)
        entries.clear()


def append(entry: Entry, using: str, connection: Any = None) -> None:
    """Log one change. Raw SQL, cached: a fifth of the cost of ``ChangeLog.objects.create()``."""
    gathering = _gathering.get()
    if gathering is not None and gathering[0] == using:
        gathering[1].append(entry)
        return
    connection = connection or connections[using]
    row = (*entry, False, *actors.current())
    # SQLite's driver needs a fifth of the time that Django takes to spell the statement for it, which is a tenth of a
    # save. Where somebody watches the queries, it is one of them.
    if connection.vendor == "sqlite" and not connection.queries_logged and not connection.execute_wrappers:
        connection.ensure_connection()
        connection.validate_no_broken_transaction()
        with connection.wrap_database_errors:
            connection.connection.execute(_insert(using, "?"), row)
        return
    with connection.cursor() as cursor:
        cursor.execute(_insert(using, "%s"), row)


@cache
def _insert(using: str, mark: str) -> str:
    quote = connections[using].ops.quote_name
    columns = ", ".join(tables.quoted(field, using) for field in _FIELDS)
    return f"INSERT INTO {quote(ChangeLog._meta.db_table)} ({columns}) VALUES ({', '.join([mark] * len(_FIELDS))})"  # noqa: S608


def append_many(entries: Iterable[Entry], using: str, *, resolution: bool = False) -> None:
    """Log several changes in the order given; *resolution*: they decide conflicts against the order of dates."""
    entries = list(entries)
    if len(entries) == 1 and not resolution:  # a link, mostly: half the time of what a statement for many needs
        append(entries[0], using)
        return
    gathering = _gathering.get()
    if gathering is not None and gathering[0] == using and gathering[1]:
        before, gathering[1][:] = gathering[1][:], []
        append_many(before, using)
    fields = [*_FIELDS, *tables.columns(ChangeLog, "resolution")]
    said = actors.current()
    tables.insert_many(ChangeLog, fields, ((*entry, False, *said, resolution) for entry in entries), using)


def state_entry(model_spec: ModelSpec, pk: Any, action: Action, state: serialize.State) -> Entry:
    """The entry for an object's whole state after *action* (before it, for a deletion)."""
    try:
        payload = orjson.dumps(state).decode()
    except (TypeError, ValueError) as error:
        raise UnloggableValueError(reasons.UNLOGGABLE(object=f"{model_spec.label} {pk!r}", why=error)) from error
    if len(payload) > _ALWAYS_FITS:
        try:
            check_size(payload.encode(), size=LINE_SIZE - _AROUND, values=LINE_VALUES - _AROUND)
        except LimitError as error:
            raise UnloggableValueError(
                reasons.UNLOGGABLE(object=f"{model_spec.label} {pk!r}", why=error.message)
            ) from error
    text, version = _pk_text(model_spec, pk), model_spec.version
    return Entry(model_spec.label, model_spec.root_label, text, "", action.value, now(), payload, version)


def link_entry(
    source: ModelSpec, source_pk: Any, field: models.ManyToManyField[Any, Any], target_pk: Any, action: Action
) -> Entry:
    """The entry for one m2m link of *source*, the model that declares *field*."""
    target = spec(field.related_model)
    link = f"{field.name}:{_pk_text(target, target_pk)}"
    text = _pk_text(source, source_pk)
    return Entry(source.label, source.label, text, link, action.value, now(), "", source.version)


def _pk_text(model_spec: ModelSpec, pk: Any) -> str:
    text = pks.to_text(model_spec.model, pk)
    if not text:
        raise UnloggableValueError(reasons.EMPTY_KEY(model=model_spec.label))
    if len(text) > PK_LENGTH:
        raise UnloggableValueError(reasons.LONG_KEY(object=f"{model_spec.label} {text[:40]}…", number=PK_LENGTH))
    return text


def log_rows(
    model_spec: ModelSpec, pk_values: Iterable[Any], action: Action, using: str, *, resolution: bool = False
) -> list[Any]:
    """Log the rows that exist among *pk_values* as they stand now; the primary keys that were found, as rows hold them.

    For changes that announced nothing: a row never logged that a logged one points to, referrers that ``SET_NULL``
    changed, a decision between two versions.
    """
    logged: list[Any] = []
    wanted = [pks.converted(model_spec.model, pk) for pk in pk_values]
    for part in serialize.chunks(list(dict.fromkeys(wanted))):
        states = serialize.row_states(model_spec, part, using)
        found = [pk for pk in part if pk in states]
        entries = (state_entry(model_spec, pk, action, states[pk]) for pk in found)
        append_many(entries, using, resolution=resolution)
        logged.extend(found)
    return logged


def log_objects(model_spec: ModelSpec, pk_values: Iterable[Any], action: Action, using: str) -> list[Any]:
    """As :func:`log_rows`, but a parent's row that is part of tracked multi-table children is logged as these.

    *model_spec* may be a parent that is not tracked itself: then only its children are logged.
    """
    wanted = [pks.converted(model_spec.model, pk) for pk in pk_values]
    covered: dict[Any, list[type[models.Model]]] = defaultdict(list)
    for child in registry.descendants(model_spec.model):  # the most derived ones first
        rest = [pk for pk in wanted if not any(issubclass(seen, child) for seen in covered.get(pk, ()))]
        own = pks_of_child(model_spec, spec(child), rest, using)
        logged = set(log_rows(spec(child), own.values(), action, using))
        for pk, own_pk in own.items():
            if own_pk in logged:
                covered[pk].append(child)
    if registry.is_tracked(model_spec.model):
        rest = [pk for pk in wanted if pk not in covered]
        return [*covered, *log_rows(model_spec, rest, action, using)]
    return list(covered)


def pks_of_child(parent: ModelSpec, child: ModelSpec, pk_values: Sequence[Any], using: str) -> dict[Any, Any]:
    """Primary key of the parent → that of the child: the same, unless it is not the child's first parent."""
    if parent.root is child.root:
        return {pk: pk for pk in pk_values}
    name = parent.model._meta.pk.name
    rows = serialize.rows(child, using).filter(**{f"{name}__in": pk_values})
    return dict(rows.values_list(name, "pk"))


def pending(using: str) -> models.QuerySet[ChangeLog]:
    """The changes without a position, oldest first."""
    return ChangeLog.objects.using(using).filter(log__isnull=True).order_by("pk")


def last_states(entries: Sequence[int], using: str) -> dict[int, serialize.State]:
    """``ChangeLog`` id → logged state, of the changes made here among *entries* that hold one."""
    found: dict[int, serialize.State] = {}
    for part in serialize.chunks(entries):
        rows = ChangeLog.objects.using(using).filter(pk__in=part, imported=False, link="").exclude(payload="")
        found.update((pk, orjson.loads(payload)) for pk, payload in rows.values_list("pk", "payload"))
    return found
