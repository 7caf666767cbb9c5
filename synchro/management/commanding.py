"""What the commands share: the database option, and errors as one sentence with a hint."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management.base import CommandError
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections

from changelog_format import BundleError
from synchro import changelog
from synchro.errors import SynchroError

INTERRUPTED = 130


def add_database(parser: ArgumentParser) -> None:
    """The option ``--database``, as Django's own commands have it."""
    parser.add_argument(
        "--database",
        choices=tuple(connections),
        default=DEFAULT_DB_ALIAS,
        help="The database alias to work on (default: %(default)s).",
    )


@contextmanager
def reported(using: str, *, interrupted: str) -> Iterator[None]:
    """Turn this project's errors into ``CommandError``; *interrupted* says what Ctrl-C left behind."""
    try:
        if not changelog.available(using):
            raise CommandError(f"The database {using!r} lacks synchro's tables. Run `manage.py migrate` first.")
        yield
    except SynchroError as error:
        raise CommandError(f"{error}\n{error.hint}".rstrip()) from error
    except BundleError as error:
        name = ", ".join(getattr(error, "__notes__", ["The bundle"]))
        raise CommandError(f"{name} is damaged or no bundle: {error}\nNothing was imported.") from error
    except OSError as error:
        raise CommandError(f"{error.filename or 'The file'}: {error.strerror or error}") from error
    except DatabaseError as error:
        raise CommandError(
            f"The database refused: {error}\nNothing was changed; the same command can be run again."
        ) from error
    except KeyboardInterrupt as error:
        raise CommandError(interrupted, returncode=INTERRUPTED) from error
