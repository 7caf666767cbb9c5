"""Writing past the touch triggers: what is done while the log is paused leaves no notes.

The pause belongs to a context of this process, the triggers to the database. So each statement that is run in a paused
context tells its triggers to be still, in a way that no rollback can leave behind and that nobody else is affected by:

* PostgreSQL: a comment at the beginning of the statement, which the triggers read (``current_query()``);
* MariaDB and MySQL: a variable of the session, which no transaction rolls back, set when the context changes;
* SQLite, which has one writer at a time: a row in the table of the notes that is there during the statement only.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from synchro import conf, tables
from synchro.models import Touch
from synchro.pause import is_paused

MARK = "/* synchro: no notes */"
VARIABLE = "@synchro_no_notes"

_WRITES = re.compile(r"\s*(?:--|/\*|\(|(?:insert|update|delete|replace|with)\b)", re.IGNORECASE)
Execute = Callable[[Any, Any, bool, dict[str, Any]], Any]


def connected(connection: BaseDatabaseWrapper, **_kwargs: Any) -> None:
    """Receiver of ``connection_created``."""
    if conf.triggers():
        _attach(connection)


def follow_settings() -> None:
    """``SYNCHRO_TRIGGERS`` may have changed (in tests): for the connections that are open."""
    for connection in connections.all(initialized_only=True):
        if conf.triggers():
            _attach(connection)
        else:
            for each in [each for each in connection.execute_wrappers if isinstance(each, _Muting)]:
                connection.execute_wrappers.remove(each)
                each.end()


def atomic_if_paused(using: str) -> AbstractContextManager[Any]:
    """For a save in a paused context on SQLite: its statement and the row around it need one transaction."""
    if conf.triggers() and is_paused() and connections[using].vendor == "sqlite":
        return transaction.atomic(using=using, savepoint=False)
    return nullcontext()


def _attach(connection: BaseDatabaseWrapper) -> None:
    kind = {"postgresql": _Marked, "mysql": _BySession, "sqlite": _ByRow}.get(connection.vendor)
    if kind is not None and not any(isinstance(each, _Muting) for each in connection.execute_wrappers):
        # First of all: whoever adds one for a while takes the last one away afterwards.
        connection.execute_wrappers.insert(0, kind(connection))


class _Muting:
    """An execute wrapper of one connection."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection: Any = connection

    def __call__(self, execute: Execute, sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
        raise NotImplementedError

    def end(self) -> None:
        """Leave nothing of it in the session."""


class _Marked(_Muting):
    def __call__(self, execute: Execute, sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
        if is_paused() and isinstance(sql, str):
            sql = f"{MARK} {sql}"
        return execute(sql, params, many, context)


class _BySession(_Muting):
    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        super().__init__(connection)
        self._muted: tuple[Any, bool] = (None, False)

    def __call__(self, execute: Execute, sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
        session, paused = self._connection.connection, is_paused()
        muted = self._muted[1] if self._muted[0] is session else False
        if paused is not muted:
            self._set(session, muted=paused)
        return execute(sql, params, many, context)

    def end(self) -> None:
        session = self._connection.connection
        if session is not None and self._muted == (session, True):
            self._set(session, muted=False)

    def _set(self, session: Any, *, muted: bool) -> None:
        with session.cursor() as cursor:
            cursor.execute(f"SET {VARIABLE} = {int(muted)}")
        self._muted = session, muted


class _ByRow(_Muting):
    def __call__(self, execute: Execute, sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
        if not is_paused() or not _WRITES.match(str(sql)) or not tables.exists(Touch, self._connection.alias):
            return execute(sql, params, many, context)
        session = self._connection.connection
        alone = not session.in_transaction
        table = Touch._meta.db_table
        if alone:
            if "returning" in str(sql).lower():  # it is not over until its rows are read, and cannot be committed here
                return execute(sql, params, many, context)
            session.execute("BEGIN IMMEDIATE")
        try:
            session.execute(f"INSERT INTO {table} (id, model) VALUES (0, '')")  # noqa: S608  a constant
            try:
                return execute(sql, params, many, context)
            finally:
                session.execute(f"DELETE FROM {table} WHERE id = 0")  # noqa: S608  a constant
        except BaseException:
            if alone and session.in_transaction:
                session.execute("ROLLBACK")
            raise
        finally:
            if alone and session.in_transaction:
                session.execute("COMMIT")
