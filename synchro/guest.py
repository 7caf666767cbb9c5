"""REMOTE without synchro's tables: it gets temporary ones for the time of one synchronization.

So the same code plans and applies, whether REMOTE has a log or not. What has to outlast the synchronization is kept in
LOCAL, and handed over once REMOTE has tables: which of our rows is which of REMOTE's (``RemoteReference``), and what
could not be taken and is to be tried again (``RemoteHeld``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from django.apps import apps
from django.db import DatabaseError, connections

from synchro import references, registry, serialize, tables
from synchro.models import ChangeLog, Held, Node, Reference, RemoteHeld, RemoteReference
from synchro.registry import ModelSpec
from synchro.resolving import is_unborn

Place = tuple[str, str]
"""Identity label of a model, and text of a primary key in LOCAL."""

_FIELDS = tables.columns(RemoteReference, "remote", "model", "pk_text", "remote_pk_text", "confirmed")


# --- the tables -------------------------------------------------------------------------------------------------------


@contextmanager
def temporary_tables(remote: str) -> Iterator[None]:
    """Inside the block this connection to *remote* has synchro's tables, empty; nobody else sees them.

    To be entered outside of transactions: MariaDB does not roll the creation of a temporary table back.
    """
    created: list[str] = []
    try:
        for model in apps.get_app_config("synchro").get_models():
            _create(model, remote)
            created.append(model._meta.db_table)
        yield
    except BaseException:
        with suppress(DatabaseError):  # the connection may be what has failed; then they are gone with it
            _drop(created, remote)
        raise
    else:
        _drop(created, remote)


def _create(model: Any, remote: str) -> None:
    connection = connections[remote]
    editor: Any = connection.SchemaEditorClass(connection)
    editor.deferred_sql = []
    # No foreign keys: MariaDB has none on temporary tables, and the order of creation would matter.
    editor.sql_create_inline_fk = None
    sql, parameters = editor.table_sql(model)
    statement = str(sql).replace("CREATE TABLE", "CREATE TEMPORARY TABLE", 1)
    # With AUTOINCREMENT, SQLite would make a temporary sqlite_sequence, which hides the one of the lasting tables.
    statement = statement.replace(" AUTOINCREMENT", "")
    if connection.vendor == "mysql":  # CREATE INDEX would commit what the caller has open
        quote = connection.ops.quote_name
        named = [[model._meta.get_field(name).column for name in index.fields] for index in model._meta.indexes]
        inline = "".join(f", INDEX ({', '.join(map(quote, columns))})" for columns in named)
        end = statement.rindex(")")
        statement, indexes = f"{statement[:end]}{inline}{statement[end:]}", []
    else:
        indexes = editor._model_indexes_sql(model)  # noqa: SLF001  what create_model() itself runs
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters or None)
        for index in indexes:
            if index is not None:
                cursor.execute(str(index))


def _drop(names: Iterable[str], remote: str) -> None:
    connection = connections[remote]
    temporary = "TEMPORARY " if connection.vendor == "mysql" else ""
    schema = {"sqlite": "temp.", "postgresql": "pg_temp."}.get(connection.vendor, "")
    with connection.cursor() as cursor:
        for name in names:
            cursor.execute(f"DROP {temporary}TABLE {schema}{connection.ops.quote_name(name)}")


# --- references -------------------------------------------------------------------------------------------------------


def load_references(node: Node, remote: str, using: str) -> dict[Place, str]:
    """Tell *remote*, which has our tables now, which of its rows are which objects of *node*, as far as is known here.

    Returns what was known, by our rows. What names a row that *remote* has no longer is forgotten.
    """
    known: dict[Place, str] = {}
    for spec, texts, gone in _remembered(remote, using):
        RemoteReference.objects.using(using).filter(pk__in=gone).delete()
        ids = references.ids_of(spec, texts, node.ident, using)
        present = references.resolve(spec, ids.values(), "", remote)
        references.add(((spec, ids[text], there) for text, there in texts.items() if ids[text] not in present), remote)
        known.update(((spec.identity_label, text), there) for text, there in texts.items())
    return known


def keep_references(node: Node, known: dict[Place, str], remote: str, using: str) -> None:
    """Remember here what *remote* has learned since :func:`load_references` returned *known*.

    Not confirmed yet: this is to be committed before *remote* is. A crash between the two then leaves references that
    lead nowhere, which are recognised, and not rows that nobody knows, which would be created a second time.
    """
    fresh: dict[Place, str] = {}
    rows = Reference.objects.using(remote).order_by("pk").values_list("pk", "model", "object_id", "pk_text")
    part = list(rows[: serialize.CHUNK])
    while part:
        by_label: dict[str, dict[str, str]] = defaultdict(dict)
        for _, label, object_id, there in part:
            by_label[label][object_id] = there
        for label, of_label in by_label.items():
            model = registry.by_label(label)
            if model is not None:
                spec = registry.spec(model)
                ours = references.resolve(spec, of_label, node.ident, using)
                here = {each: there for each, there in of_label.items() if each in ours and not is_unborn(spec, there)}
                fresh.update(((label, ours[each]), there) for each, there in here.items())
        part = list(rows.filter(pk__gt=part[-1][0])[: serialize.CHUNK])
    added = [(remote, *place, there, False) for place, there in fresh.items() if place not in known]
    moved = [(there, False, remote, *place) for place, there in fresh.items() if known.get(place, there) != there]
    tables.insert_many(RemoteReference, _FIELDS, added, using)
    tables.update_many(RemoteReference, _FIELDS[3:], _FIELDS[:3], moved, using)


def confirm_references(remote: str, using: str) -> None:
    """*remote* was committed: so was what :func:`keep_references` remembered."""
    RemoteReference.objects.using(using).filter(remote=remote, confirmed=False).update(confirmed=True)


def waiting(node: Node, remote: str, using: str) -> dict[int, int]:
    """The changes of *node*'s log that *remote* could not take yet: primary key → position, in their order."""
    pks = RemoteHeld.objects.using(using).filter(remote=remote).values("change_id")
    rows = ChangeLog.objects.using(using).filter(log=node, pk__in=pks)
    return {pk: seq for pk, seq in rows.order_by("seq").values_list("pk", "seq") if seq is not None}


def refused(remote: str, using: str) -> dict[int, str]:
    """What *remote* could not take now, as its temporary tables say: primary key in our log → reason."""
    found: dict[int, str] = {}
    rows = Held.objects.using(remote).order_by("pk")
    by_origin: dict[str, dict[int | None, str]] = defaultdict(dict)
    for ident, seq, reason in rows.values_list("change__origin__ident", "change__origin_seq", "reason"):
        by_origin[ident][seq] = reason
    for ident, reasons in by_origin.items():
        for part in serialize.chunks(list(reasons)):
            ours = ChangeLog.objects.using(using).filter(origin__ident=ident, origin_seq__in=part)
            found.update((pk, reasons[seq]) for pk, seq in ours.values_list("pk", "origin_seq"))
    return found


def keep_waiting(found: Mapping[int, str], remote: str, using: str) -> None:
    """Remember that just *found* (see :func:`refused`) is to be tried again."""
    RemoteHeld.objects.using(using).filter(remote=remote).delete()
    RemoteHeld.objects.using(using).bulk_create(
        RemoteHeld(remote=remote, change_id=pk, reason=reason) for pk, reason in found.items()
    )


def hand_over(node: Node, remote: str, using: str) -> None:
    """*remote* has tables of its own by now: what was remembered here for it moves there."""
    remembered = RemoteReference.objects.using(using).filter(remote=remote)
    if remembered.exists():
        load_references(node, remote, using)
        remembered.delete()


def _remembered(remote: str, using: str) -> Iterator[tuple[ModelSpec, dict[str, str], list[int]]]:
    """Model, our row → *remote*'s row, and the entries whose row *remote* lacks; a chunk at a time."""
    by_label: dict[str, list[RemoteReference]] = defaultdict(list)
    for entry in RemoteReference.objects.using(using).filter(remote=remote).order_by("pk"):
        by_label[entry.model].append(entry)
    for label, entries in by_label.items():
        model = registry.by_label(label)
        if model is None or not tables.exists(model, remote):
            continue
        spec = registry.spec(registry.spec(model).identity)
        for part in serialize.chunks(entries):
            believed = _confirmed(spec, part, remote) | _same(spec, part, remote, using)
            living = {entry.pk_text: entry.remote_pk_text for entry in part if entry.pk in believed}
            yield spec, living, [entry.pk for entry in part if entry.pk not in believed]


def _confirmed(spec: ModelSpec, entries: Sequence[RemoteReference], remote: str) -> set[int]:
    """Those of *entries* that were confirmed, and whose row *remote* still has."""
    wanted = {
        entry.pk: value
        for entry in entries
        if entry.confirmed and (value := references.pk_value(spec, entry.remote_pk_text)) is not None
    }
    alive: set[Any] = set()
    for found in serialize.by_pk(spec, wanted.values(), remote):
        alive.update(found.order_by().values_list("pk", flat=True))
    return {pk for pk, value in wanted.items() if value in alive}


def _same(spec: ModelSpec, entries: Sequence[RemoteReference], remote: str, using: str) -> set[int]:
    """Those of *entries* that were not confirmed, and whose row in *remote* holds what ours holds.

    The row may also be somebody else's, who got the number that was given up; that one is not to be overwritten.
    """
    pairs = {
        entry.pk: (references.pk_value(spec, entry.pk_text), references.pk_value(spec, entry.remote_pk_text))
        for entry in entries
        if not entry.confirmed
    }
    ours = serialize.row_states(spec, [mine for mine, _ in pairs.values() if mine is not None], using)
    theirs = serialize.row_states(spec, [there for _, there in pairs.values() if there is not None], remote)

    def plain(state: serialize.State | None) -> serialize.State | None:
        return None if state is None else {name: each for name, each in state.items() if name not in spec.relations}

    return {pk for pk, (mine, there) in pairs.items() if mine in ours and plain(ours[mine]) == plain(theirs.get(there))}
