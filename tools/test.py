#!/usr/bin/env python3
"""Run every check of this project, in a virtualenv of its own.

    python3 tools/test.py                        everything, on SQLite, with the newest Django that this Python can have
    python3 tools/test.py --django 5.2           with that one
    python3 tools/test.py --database postgres    on PostgreSQL (see --help for where it is looked for)
    python3 tools/test.py --only-tests -k seal   pytest alone; what is not an option below goes to pytest

Needs Python 3.11 or newer and pip, nothing else. Exit status: that of the first check that failed, 0 when none did.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - for whoever starts it with an older one
    sys.exit("synchro needs Python 3.11 or newer; this is {}.{}.".format(*sys.version_info))

import argparse
import os
import subprocess
import time
from pathlib import Path

from environment import ROOT, EnvironmentFailedError, clean_environ, ensure

DATABASES = {"sqlite": "SQLite", "postgres": "PostgreSQL", "mariadb": "MariaDB", "mixed": "all three at once"}
EXTRAS = {"sqlite": "test", "postgres": "test,postgres", "mariadb": "test,mysql", "mixed": "test,postgres,mysql"}
# As many processes as there are cores, each with databases of its own; `-n 0` among the arguments puts them into one.
IN_PARALLEL = ["-n", "auto", "--maxprocesses", "4", "--dist", "worksteal"]
# What carries bundles from one kind of database to the others.
MIXED = [f"tests/app/test_{name}.py" for name in ("field_values", "zoo_property", "replay_property", "generic_keys")]

CONNECT = """
from django.db import connections
from django.db.utils import OperationalError
try:
    for connection in connections.all():
        if connection.vendor != "sqlite":
            with connection._nodb_cursor() as cursor:
                cursor.execute("SELECT 1")
except OperationalError as error:
    raise SystemExit(str(error).strip())
"""


def options() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        description="Run every check of this project. Options that are not listed here go to pytest.",
        epilog="PostgreSQL is looked for at 127.0.0.1:5432 (user postgres), MariaDB at 127.0.0.1:3306 (user root); "
        "SYNCHRO_TEST_HOST, SYNCHRO_TEST_PORT, SYNCHRO_TEST_USER and SYNCHRO_TEST_PASSWORD say otherwise.",
    )
    parser.add_argument("--django", metavar="X.Y", help="the version of Django, for example 5.2")
    parser.add_argument(
        "--database",
        choices=DATABASES,
        default=os.environ.get("SYNCHRO_TEST_DB", "sqlite"),
        help="where the tests run; also by SYNCHRO_TEST_DB (default: %(default)s)",
    )
    parser.add_argument("--only-tests", action="store_true", help="pytest alone, without linters and other checks")
    return parser.parse_known_args()


def environment(chosen: argparse.Namespace, *, slow: bool) -> Path:
    """The interpreter of the virtualenv with the chosen Django."""
    python = "py{}.{}".format(*sys.version_info)
    folder = ROOT / ".venv-test" / (f"{python}-django{chosen.django}" if chosen.django else python)
    # With the slow tests also those of the README's examples with tools that are large.
    extras = EXTRAS[chosen.database] + (",data" if slow else "")
    requirements = [f"{ROOT}[{extras}]"]
    if chosen.django:
        requirements.append(f"Django=={chosen.django}.*")
    return ensure(folder, requirements)


def checks(python: Path, chosen: argparse.Namespace, pytest_arguments: list[str]) -> list[tuple[str, list[str]]]:
    """What is to be run, as (name, command)."""

    def module(*command: str) -> list[str]:
        return [str(python), "-m", *command]

    chosen_tests = (
        MIXED if chosen.database == "mixed" and not any("tests/" in each for each in pytest_arguments) else []
    )
    tests = ("tests", module("pytest", *IN_PARALLEL, *chosen_tests, *pytest_arguments))
    if chosen.only_tests:
        return [tests]
    migrations = module("django", "makemigrations", "--check", "--dry-run", "--settings", "tests.project.settings")
    return [
        ("lint", module("ruff", "check", ".")),
        ("format", module("ruff", "format", "--check", ".")),
        ("types", module("mypy")),
        ("migrations", migrations),
        ("vectors", [str(python), "tools/make_vectors.py", "--check"]),
        tests,
    ]


def reachable(python: Path, environ: dict[str, str]) -> str | None:
    """Why the database cannot be used, or None."""
    command = [str(python), "-W", "ignore", "-c", CONNECT]
    done = subprocess.run(command, cwd=ROOT, env=environ, check=False, capture_output=True, text=True)
    return None if done.returncode == 0 else done.stderr.strip()


def main() -> int:
    chosen, pytest_arguments = options()
    started = time.monotonic()
    environ = clean_environ(SYNCHRO_TEST_DB=chosen.database)
    try:
        python = environment(chosen, slow="--slow" in pytest_arguments)
    except EnvironmentFailedError as error:
        print(f"tools/test.py: {error}", file=sys.stderr)
        return 1
    if chosen.database != "sqlite":
        reason = reachable(python, {**environ, "DJANGO_SETTINGS_MODULE": "tests.project.settings"})
        if reason:
            print(f"tools/test.py: {DATABASES[chosen.database]} cannot be used:\n{reason}", file=sys.stderr)
            return 1

    results = []
    for name, command in checks(python, chosen, pytest_arguments):
        print(f"\n== {name} ==", flush=True)
        results.append((name, subprocess.run(command, cwd=ROOT, env=environ, check=False).returncode))

    failed = [(name, status) for name, status in results if status]
    print("\n" + "; ".join(f"{name}: {'FAILED' if status else 'ok'}" for name, status in results))
    print(f"On {DATABASES[chosen.database]}, in {time.monotonic() - started:.0f} s.", end=" ")
    others = [f"{title} (--database {name})" for name, title in DATABASES.items() if name != chosen.database]
    print(f"Left out: {', '.join(others)}{'' if '--slow' in pytest_arguments else ', the slow tests (--slow)'}.")
    return failed[0][1] if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
