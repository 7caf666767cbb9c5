"""What the commands share: the database option, what they say, how far they are, errors as one sentence with a hint."""

from __future__ import annotations

import errno
import os
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, TextIO

from django.core.management.base import BaseCommand, CommandError, CommandParser, DjangoHelpFormatter, OutputWrapper
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections
from django.utils.translation import gettext as _

from changelog_format import BundleError
from changelog_format.output import clean
from synchro import changelog, reasons
from synchro.errors import SynchroError
from synchro.hints import hint_of
from synchro.management.progressbar import ProgressLine
from synchro.progress import watched

INTERRUPTED = 130
UNSAID = 3


class SpokenCommand(BaseCommand):
    """A command that does its work whether or not anybody hears of it.

    A reader that goes away (``| head``) or a full disk must not stop an import half-way through its files, nor make
    what was done look undone. Ctrl-C ends it without a traceback. ``NO_COLOR`` is ``--no-color``.
    """

    help: Any = ""  # lazy until the command is made: argparse wraps plain texts only
    examples: tuple[str, ...] = ()
    """What may be written after the command's name."""
    _typed = False
    _quiet = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"stderr": _Voice(sys.stderr), **kwargs})
        self.help = str(self.help)

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        shown = [f"  manage.py {subcommand} {example}".rstrip() for example in self.examples]
        if shown:
            kwargs = {"epilog": "\n".join([_("Examples:"), *shown]), "formatter_class": _HelpFormatter, **kwargs}
        return super().create_parser(prog_name, subcommand, **kwargs)

    def run_from_argv(self, argv: list[str]) -> None:
        """As Django's; Ctrl-C where nothing more can be said of what it left behind is the same exit status, too."""
        self._typed = True
        try:
            super().run_from_argv(argv)
        except KeyboardInterrupt:
            self.stderr.write(_("Interrupted."))
            sys.exit(INTERRUPTED)

    def say(self, text: str, stream: OutputWrapper | None = None) -> None:
        """Print what went well; with ``--verbosity 0`` only warnings, JSON, and what was asked for are printed."""
        if not self._quiet:
            (stream or self.stdout).write(cleaned(text))

    def warn(self, text: str) -> None:
        """Print what somebody should look at."""
        self.stdout.write(self.style.WARNING(cleaned(text)))

    @contextmanager
    def working(self, options: dict[str, Any], *, interrupted: str) -> Iterator[None]:
        """As :func:`reported`, with a line on the terminal that says how far it is, unless ``--verbosity`` is 0."""
        line = ProgressLine() if self._typed and options["verbosity"] > 0 else None
        with reported(options["database"], interrupted=interrupted), watched(line):
            try:
                yield
            finally:
                if line is not None:
                    line.clear()

    def execute(self, *args: Any, **options: Any) -> str | None:
        """As Django's; raises ``CommandError`` at the end where what was said could not be written."""
        if os.environ.get("NO_COLOR") and not options.get("force_color"):
            options["no_color"] = True
        self._quiet = options.get("verbosity") == 0
        if options.get("stdout"):
            return super().execute(*args, **options)
        voice = options["stdout"] = _Voice(sys.stdout)
        result = super().execute(*args, **options)
        voice.flush()
        if voice.trouble is not None and not isinstance(voice.trouble, BrokenPipeError):
            text = _("It was done, but the output could not be written: %(error)s")
            text %= {"error": voice.trouble.strerror}
            raise CommandError(text, returncode=UNSAID)
        return result


class _HelpFormatter(DjangoHelpFormatter):
    """As Django's; examples stay line by line."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


def cleaned(text: str) -> str:
    """*text*, in which somebody else's file may be quoted, such that it cannot steer the terminal."""
    return "\n".join(map(clean, text.split("\n")))


class _Voice:
    """Standard output or error, until it fails; ``trouble`` is how. Python has ``None`` for one that is closed."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.trouble: OSError | None = None

    def write(self, text: str) -> None:
        if self._stream is None:
            self.trouble = OSError(errno.EBADF, os.strerror(errno.EBADF))
        else:
            self._try(self._stream, lambda stream: stream.write(text))

    def flush(self) -> None:
        if self._stream is not None:
            self._try(self._stream, lambda stream: stream.flush())

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()

    def _try(self, stream: TextIO, act: Callable[[TextIO], object]) -> None:
        if self.trouble is not None:
            return
        try:
            act(stream)
        except OSError as error:
            self.trouble = error
            # What is buffered would be tried once more when Python ends.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def bytes_of(stream: TextIO | None) -> BinaryIO:
    """*stream* as one for bundles. Raises OSError where it is closed, for which Python has ``None``."""
    if stream is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF), "-")
    return stream.buffer


def add_database(parser: ArgumentParser) -> None:
    """The option ``--database``, as Django's own commands have it."""
    parser.add_argument(
        "--database",
        choices=tuple(connections),
        default=DEFAULT_DB_ALIAS,
        help=_("The database alias to work on (default: %(default)s)."),
    )


def _refused(text: str) -> CommandError:
    return CommandError(cleaned(text))


@contextmanager
def reported(using: str, *, interrupted: str) -> Iterator[None]:
    """Turn this project's errors into ``CommandError``; *interrupted* says what Ctrl-C left behind."""
    try:
        if not changelog.available(using):
            raise _refused(
                _("The database %(alias)r lacks synchro's tables. Run `manage.py migrate` first.") % {"alias": using}
            )
        yield
    except SynchroError as error:
        text = reasons.told(str(error))
        # Among several files it must be known which.
        names = [each for each in getattr(error, "__notes__", ()) if each not in text]
        raise _refused("\n".join(filter(None, [": ".join([*names, text]), error.hint]))) from error
    except BundleError as error:
        name = ", ".join(getattr(error, "__notes__", [_("The bundle")]))
        if hint := hint_of(error):
            raise _refused(f"{name}: {error}\n{_('Nothing was imported.')} {hint}") from error
        raise _refused(
            _("%(name)s is damaged or no bundle: %(error)s\nNothing was imported.") % {"name": name, "error": error}
        ) from error
    except OSError as error:
        raise _refused(f"{error.filename or _('The file')}: {error.strerror or error}") from error
    # The driver's own errors too: Django does not translate what closing a cursor of a lost connection raises.
    except (DatabaseError, connections[using].Database.Error) as error:  # type: ignore[attr-defined]
        raise _refused(
            _("The database refused: %(error)s\nNothing was changed; the same command can be run again.")
            % {"error": error}
        ) from error
    except KeyboardInterrupt as error:
        raise CommandError(interrupted, returncode=INTERRUPTED) from error
