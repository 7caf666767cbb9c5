"""Databases to measure in: made once for each state, and copied for each run."""

import json
import shutil
import sqlite3
import subprocess
from pathlib import Path

SERVERS = {
    "postgres": {"ENGINE": "django.db.backends.postgresql", "HOST": "127.0.0.1", "PORT": "5432", "USER": "postgres"},
    "mariadb": {
        "ENGINE": "django.db.backends.mysql",
        "HOST": "127.0.0.1",
        "PORT": "3306",
        "USER": "root",
        "OPTIONS": {"charset": "utf8mb4"},
    },
}
PREFIX = "synchro_bench"


class Sqlite:
    """Files in a folder."""

    def __init__(self, folder: Path, _python: Path) -> None:
        self._folder = folder

    def settings(self, name: str) -> dict:
        options = {"transaction_mode": "IMMEDIATE", "timeout": 60}
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(self._path(name)), "OPTIONS": options}

    def create(self, name: str) -> None:
        self.drop(name)
        sqlite3.connect(self._path(name)).close()

    def copy(self, source: str, name: str) -> None:
        shutil.copyfile(self._path(source), self._path(name))

    def drop(self, name: str) -> None:
        for suffix in ("", "-journal", "-wal", "-shm"):
            Path(f"{self._path(name)}{suffix}").unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.sqlite3"


class Server:
    """Databases on a server that this machine reaches; its own command-line tools are not needed."""

    def __init__(self, kind: str, python: Path) -> None:
        self._kind = kind
        self._python = python

    def settings(self, name: str) -> dict:
        return {**SERVERS[self._kind], "NAME": self._name(name)}

    def create(self, name: str) -> None:
        self._execute(self._dropping(name), f"CREATE DATABASE {self._name(name)}")

    def copy(self, source: str, name: str) -> None:
        if self._kind == "postgres":
            self._execute(
                self._dropping(name),
                f"CREATE DATABASE {self._name(name)} TEMPLATE {self._name(source)}",
            )
            return
        self.create(name)
        self._copy_tables(self._name(source), self._name(name))

    def drop(self, name: str) -> None:
        self._execute(self._dropping(name))

    def _dropping(self, name: str) -> str:
        # Also where a worker that was stopped is still connected.
        return f"DROP DATABASE IF EXISTS {self._name(name)}{' WITH (FORCE)' if self._kind == 'postgres' else ''}"

    def _name(self, name: str) -> str:
        return f"{PREFIX}_{name}".replace("-", "_")

    def _copy_tables(self, source: str, target: str) -> None:
        program = f"""
with connection.cursor() as cursor:
    cursor.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = %s", [{source!r}])
    tables = [name for (name,) in cursor.fetchall()]
    cursor.execute("SET foreign_key_checks = 0")
    cursor.execute("USE {target}")
    for table in tables:
        cursor.execute(f"SHOW CREATE TABLE {source}.`{{table}}`")
        cursor.execute(cursor.fetchone()[1])
        cursor.execute(f"INSERT INTO `{{table}}` SELECT * FROM {source}.`{{table}}`")
"""
        self._run(program)

    def _execute(self, *statements: str) -> None:
        lines = "\n".join(f"    cursor.execute({statement!r})" for statement in statements)
        self._run(f"with connection._nodb_cursor() as cursor:\n{lines}\n")

    def _run(self, program: str) -> None:
        server = {**SERVERS[self._kind], "NAME": "postgres" if self._kind == "postgres" else "mysql"}
        head = (
            "from django.conf import settings\n"
            f"settings.configure(DATABASES={{'default': {json.dumps(server)}}})\n"
            "from django.db import connection\n"
        )
        subprocess.run([str(self._python), "-W", "ignore", "-c", head + program], check=True)


def terminated(*_args: object) -> None:
    """What a program does that is told to end: as after Ctrl-C, it removes its databases first."""
    raise SystemExit(143)


def store(kind: str, folder: Path, python: Path) -> Sqlite | Server:
    """The store of databases of *kind*."""
    return Sqlite(folder, python) if kind == "sqlite" else Server(kind, python)
