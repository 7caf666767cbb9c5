"""The touch triggers: small ones on every tracked table and link table, which note the row that was written.

A trigger's name ends in a digest of what it does, so that the names alone tell which are missing and which are stale.
What a trigger notes is the key after the write, and the one before where it was another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.utils.translation import gettext as _

from synchro import conf, registry, tables, touches
from synchro.errors import TriggerError
from synchro.models import Touch
from synchro.muting import MARK, VARIABLE
from synchro.registry import AnyField, ModelClass

PREFIX = "synchro_touch_"
VENDORS = ("sqlite", "postgresql", "mysql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """One trigger: its name, its table, and how it is made and dropped."""

    name: str
    table: str
    create: tuple[str, ...]
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerState:
    """What is there and what should be: names of triggers."""

    missing: tuple[str, ...]
    stale: tuple[str, ...]
    installed: tuple[str, ...]

    @property
    def in_line(self) -> bool:
        return not self.missing and not self.stale


def check(using: str = DEFAULT_DB_ALIAS) -> TriggerState:
    """Compare the triggers in the database with what the models and ``SYNCHRO_TRIGGERS`` ask for."""
    wanted = {(each.name, each.table) for each in _wanted(using)} if conf.triggers() else set()
    found = set(_installed(using))
    return TriggerState(
        missing=_names(wanted - found), stale=_names(found - wanted), installed=_names(found & wanted)
    )  # fmt: skip


def install(using: str = DEFAULT_DB_ALIAS, *, anew: bool = False) -> TriggerState:
    """Create the triggers that are missing, and drop those that are stale; what was found.

    *anew*: what was written while a trigger was missing is not known, so note its whole table. Raises ``TriggerError``
    where the database has no triggers that synchro knows, or the setting does not ask for them.
    """
    connection = connections[using]
    if connection.vendor not in VENDORS:
        raise TriggerError(_("There are no touch triggers for %(database)s.") % {"database": connection.display_name})
    if not conf.triggers():
        raise TriggerError(
            _("SYNCHRO_TRIGGERS is not set."), hint=_("Set it to True, so that what they note is looked at.")
        )
    before = check(using)
    with transaction.atomic(using=using), connection.cursor() as cursor:
        _drop(cursor, set(before.stale), using)
        created = [each for each in _wanted(using) if each.name in before.missing]
        for each in created:
            for statement in each.create:
                cursor.execute(statement)
        if anew:
            notes = [Touch(model=label, key=None) for label in sorted({each.model for each in created})]
            Touch.objects.using(using).bulk_create(notes)
    return before


def remove(using: str = DEFAULT_DB_ALIAS) -> int:
    """Drop all touch triggers, and the notes that they left; how many triggers there were."""
    names = {name for name, _ in _installed(using)}
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        _drop(cursor, names, using)
        Touch.objects.using(using).all().delete()
    return len(names)


def after_migrate(using: str = DEFAULT_DB_ALIAS, **_kwargs: Any) -> None:
    """Receiver of ``post_migrate``: migrations may have rebuilt tables, which drops their triggers on SQLite."""
    tables.forget_existing()
    if connections[using].vendor not in VENDORS or not tables.exists(Touch, using):
        return
    state = check(using)
    if state.in_line:
        return
    if conf.triggers():
        install(using, anew=bool(state.installed or state.stale))
    else:
        remove(using)


def _names(pairs: set[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(sorted(name for name, _ in pairs))


# --- what is there ----------------------------------------------------------------------------------------------------

_INSTALLED = {
    "sqlite": "SELECT name, tbl_name FROM sqlite_master WHERE type = 'trigger'",
    "postgresql": (
        "SELECT t.tgname, c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid "
        "WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' AND pg_table_is_visible(c.oid)"
    ),
    "mysql": (
        "SELECT TRIGGER_NAME, EVENT_OBJECT_TABLE FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = DATABASE()"
    ),
}


def _installed(using: str) -> list[tuple[str, str]]:
    connection = connections[using]
    if connection.vendor not in VENDORS:
        return []
    with connection.cursor() as cursor:
        cursor.execute(_INSTALLED[connection.vendor])
        return [(name, table) for name, table in cursor.fetchall() if name.startswith(PREFIX)]


def _drop(cursor: Any, names: set[str], using: str) -> None:
    connection = connections[using]
    quote = connection.ops.quote_name
    for name, table in _installed(using):
        if name in names:
            on = f" ON {quote(table)}" if connection.vendor == "postgresql" else ""
            cursor.execute(f"DROP TRIGGER IF EXISTS {quote(name)}{on}")
            if connection.vendor == "postgresql":
                cursor.execute(f"DROP FUNCTION IF EXISTS {quote(name)}()")


# --- what should be ---------------------------------------------------------------------------------------------------


def _wanted(using: str) -> list[Trigger]:
    connection = connections[using]
    with connection.cursor() as cursor:
        there = set(connection.introspection.table_names(cursor))
    if Touch._meta.db_table not in there:
        return []
    build = {"sqlite": _on_sqlite, "postgresql": _on_postgresql, "mysql": _on_mariadb}[connection.vendor]
    found = []
    for model, columns in touches.covered().items():
        if model._meta.db_table in there:
            found += list(build(model, columns, using))
    if connection.vendor == "mysql":
        found += [each for each in _cascades(using) if each.table in there]
    return found


class _Sql:
    """The pieces of SQL of one table's triggers."""

    def __init__(self, model: ModelClass, columns: Sequence[AnyField], using: str) -> None:
        self._using = using
        self.quote = connections[using].ops.quote_name
        self.vendor = connections[using].vendor
        self.table = self.quote(model._meta.db_table)
        self.touch = self.quote(Touch._meta.db_table)
        self.into = f"INSERT INTO {self.touch} ({self.quote('model')}, {self.quote('key')})"
        self.label = "'" + model._meta.label_lower.replace("'", "''") + "'"
        self.columns = columns
        self._model = model

    def key(self, of: str) -> str:
        """The key of the row *of* (NEW, OLD, an alias), as text."""
        names = [f"{of}.{tables.quoted(column, self._using)}" for column in self.columns]
        if not names:
            return "NULL"
        if len(names) == 1:
            return f"CAST({names[0]} AS {'CHAR' if self.vendor == 'mysql' else 'text'})"
        listed = ", ".join(names)
        if self.vendor == "postgresql":
            return f"CAST(json_build_array({listed}) AS text)"
        return f"{'JSON_ARRAY' if self.vendor == 'mysql' else 'json_array'}({listed})"

    def changed(self) -> str:
        """Whether an update gave the row another key."""
        differ = "{} IS NOT {}" if self.vendor == "sqlite" else "NOT ({} <=> {})"
        names = [tables.quoted(column, self._using) for column in self.columns]
        return " OR ".join(differ.format(f"OLD.{name}", f"NEW.{name}") for name in names) or "FALSE"

    def trigger(self, kind: str, *statements: str) -> Trigger:
        """The trigger of these *statements*, in which ``{name}`` stands for its name."""
        text = "\n".join([kind, self._model._meta.db_table, *statements])
        name = PREFIX + hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
        create = tuple(statement.replace("{name}", self.quote(name)) for statement in statements)
        return Trigger(name=name, table=self._model._meta.db_table, create=create, model=self._model._meta.label_lower)


def _on_sqlite(model: ModelClass, columns: Sequence[AnyField], using: str) -> Iterator[Trigger]:
    sql = _Sql(model, columns, using)
    note = {row: f"{sql.into} VALUES ({sql.label}, {sql.key(row)});" for row in ("NEW", "OLD")}
    moved = f"{sql.into} SELECT {sql.label}, {sql.key('OLD')} WHERE {sql.changed()};"
    still = f"NOT EXISTS (SELECT 1 FROM {sql.touch} WHERE id = 0)"  # noqa: S608  a constant
    for event, body in (("INSERT", note["NEW"]), ("UPDATE", f"{note['NEW']} {moved}"), ("DELETE", note["OLD"])):
        yield sql.trigger(
            event,
            f"CREATE TRIGGER {{name}} AFTER {event} ON {sql.table} WHEN {still} BEGIN {body} END",
        )


def _on_postgresql(model: ModelClass, columns: Sequence[AnyField], using: str) -> Iterator[Trigger]:
    """A statement at a time: one that writes a million rows notes them by one INSERT."""
    sql = _Sql(model, columns, using)
    new = f"SELECT {sql.label}, {sql.key('n')} FROM synchro_new n"  # noqa: S608  names of our own
    old = f"SELECT {sql.label}, {sql.key('o')} FROM synchro_old o"  # noqa: S608  names of our own
    kinds = {
        "INSERT": (f"{sql.into} {new};", "REFERENCING NEW TABLE AS synchro_new"),
        "UPDATE": (f"{sql.into} {new} UNION {old};", "REFERENCING OLD TABLE AS synchro_old NEW TABLE AS synchro_new"),
        "DELETE": (f"{sql.into} {old};", "REFERENCING OLD TABLE AS synchro_old"),
        "TRUNCATE": (f"{sql.into} VALUES ({sql.label}, NULL);", ""),
    }
    for event, (body, referencing) in kinds.items():
        yield sql.trigger(
            event,
            f"CREATE OR REPLACE FUNCTION {{name}}() RETURNS trigger LANGUAGE plpgsql AS "
            f"$synchro$ BEGIN {body} RETURN NULL; END $synchro$",
            f"CREATE TRIGGER {{name}} AFTER {event} ON {sql.table} {referencing} FOR EACH STATEMENT "
            f"WHEN (left(COALESCE(current_query(), ''), {len(MARK)}) <> '{MARK}') EXECUTE FUNCTION {{name}}()",
        )


def _on_mariadb(model: ModelClass, columns: Sequence[AnyField], using: str) -> Iterator[Trigger]:
    sql = _Sql(model, columns, using)
    note = {row: f"{sql.into} VALUES ({sql.label}, {sql.key(row)});" for row in ("NEW", "OLD")}
    moved = f"IF {sql.changed()} THEN {note['OLD']} END IF;"
    for event, body in (("INSERT", note["NEW"]), ("UPDATE", f"{note['NEW']} {moved}"), ("DELETE", note["OLD"])):
        yield sql.trigger(event, _unless_muted(f"AFTER {event} ON {sql.table}", body))


def _unless_muted(when: str, body: str) -> str:
    return f"CREATE TRIGGER {{name}} {when} FOR EACH ROW IF COALESCE({VARIABLE}, 0) = 0 THEN {body} END IF"


# --- cascades in the database -----------------------------------------------------------------------------------------
#
# On MariaDB and MySQL what a foreign key's ON DELETE does fires no triggers: the row that is pointed to has to tell of
# those that will go or change with it.


def _cascades(using: str) -> Iterator[Trigger]:
    covered = touches.covered()
    for target in registry.database_targets(registry.DATABASE_CASCADES):
        sql = _Sql(target, (), using)
        notes = list(_carried_away(target, "OLD.{}", covered, using, (target,)))
        if notes:
            yield sql.trigger("CASCADE", _unless_muted(f"BEFORE DELETE ON {sql.table}", " ".join(notes)))


def _carried_away(
    target: ModelClass,
    row: str,
    covered: dict[ModelClass, list[AnyField]],
    using: str,
    within: tuple[ModelClass, ...],
) -> Iterator[str]:
    """Statements that note what a deletion of rows of *target* does in the database; *row* gives a column of them."""
    for column in registry.pointing_to(target, registry.DATABASE_CASCADES):
        source = column.model
        sql = _Sql(source, covered.get(source, []), using)
        pointed = row.format(tables.quoted(column.target_field, using))
        rows = f"FROM {sql.table} WHERE {tables.quoted(column, using)} IN ({pointed})"
        circular = source in within
        if source in covered:
            told = f"SELECT {sql.label}, {sql.key(sql.table)} {rows}" if not circular else f"VALUES ({sql.label}, NULL)"
            yield f"{sql.into} {told};"
        if not circular and column.remote_field.on_delete is registry.DATABASE_CASCADE:
            deeper = f"SELECT {sql.table}.{{}} {rows.replace('{', '{{').replace('}', '}}')}"
            yield from _carried_away(source, deeper, covered, using, (*within, source))
