"""Bundles in Django's storages: what ``storage:ALIAS/path`` means.

A storage has neither folders that can be asked for nor a rename. So a bundle is written to a temporary file first and
saved when it is whole; what is there under its name already is never overwritten, unless it is the same range.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from django.core.exceptions import SuspiciousOperation
from django.core.files import File
from django.core.files.storage import InvalidStorageError, Storage, storages
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from synchro.errors import StorageError

PREFIX = "storage:"
_COMPARED = 1 << 20


@dataclass(frozen=True, slots=True)
class Stored:
    """A file in the storage *alias* of ``STORAGES``, or a folder: its name is empty then, or ends with ``/``."""

    alias: str
    name: str

    def __str__(self) -> str:
        return f"{PREFIX}{self.alias}/{self.name}"

    @property
    def is_folder(self) -> bool:
        return not self.name or self.name.endswith("/")

    @property
    def storage(self) -> Storage:
        """Raises ``StorageError`` where the settings name no such storage, or it cannot be made."""
        try:
            return storages[self.alias]
        except InvalidStorageError as error:
            if self.alias in storages.backends:
                raise StorageError(f"{self}: {error}", hint=_("See STORAGES in the settings.")) from error
            known = ", ".join(sorted(storages.backends))
            raise StorageError(
                _("%(file)s: STORAGES has no %(alias)r; it has %(known)s.")
                % {"file": self, "alias": self.alias, "known": known},
                hint=_("Write storage:ALIAS/folder/."),
            ) from error
        except Exception as error:  # what a backend raises that does not like its options
            raise StorageError(
                f"{self}: {type(error).__name__}: {error}", hint=_("See STORAGES in the settings.")
            ) from error

    def check(self) -> None:
        """Raise ``StorageError`` where there is no such storage; before much is done for it."""
        self.storage  # noqa: B018  it is made once, and then known

    def within(self, name: str) -> Stored:
        """The file *name* in this folder."""
        return Stored(self.alias, self.name + name)

    def exists(self) -> bool:
        """Whether there is a file. Raises ``StorageError``."""
        with self._reported(gettext_noop("%(file)s could not be looked for: %(error)s.")):
            return bool(self.storage.exists(self.name))

    def files(self, suffixes: Sequence[str]) -> list[Stored]:
        """The files in this folder whose names end so, sorted. Raises ``StorageError``."""
        with self._reported(gettext_noop("%(file)s could not be listed: %(error)s.")):
            try:
                _, names = self.storage.listdir(self.name.rstrip("/"))
            except FileNotFoundError:
                return []
        return [self.within(name) for name in sorted(names) if name.endswith(tuple(suffixes))]

    def open(self) -> BinaryIO:
        """The file, to read. Raises ``StorageError``."""
        with self._reported(gettext_noop("%(file)s could not be read: %(error)s.")):
            return cast("BinaryIO", self.storage.open(self.name, "rb"))

    def fetch(self, stack: ExitStack) -> BinaryIO:
        """A copy of the file that can be read more than once, removed with *stack*. Raises ``StorageError``."""
        with (
            self._reported(gettext_noop("%(file)s could not be read: %(error)s.")),
            self.storage.open(self.name, "rb") as source,
        ):
            spool = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  the stack closes it
            shutil.copyfileobj(source, spool)
        spool.seek(0)
        return spool

    def save(self, path: Path, replaces: Callable[[BinaryIO], bool]) -> None:
        """Store the file at *path* under this name. Raises ``StorageError``.

        Of what is there already only what *replaces* says yes to, and the beginning of the very file (that is what is
        left when somebody was interrupted here), give way to it.
        """
        if self.exists():
            same, begun = self._compared(path)
            if same:
                return
            if not begun and not self._asked(replaces):
                raise StorageError(
                    _("%(file)s exists, and is another bundle or something else.") % {"file": self},
                    hint=_("Nothing was overwritten. Remove it there, or name another file."),
                )
            with self._reported(gettext_noop("%(file)s could not be replaced: %(error)s.")):
                self.storage.delete(self.name)
        saved: str | None = None
        try:
            with self._reported(gettext_noop("%(file)s could not be written: %(error)s.")), path.open("rb") as source:
                saved = self.storage.save(self.name, File(source, name=self.name))
                if saved != self.name:
                    raise StorageError(
                        _("%(file)s: somebody else wrote a file of this name meanwhile.") % {"file": self},
                        hint=_("Nothing was marked as exported: run the command again."),
                    )
                if self.storage.size(saved) != path.stat().st_size:
                    raise StorageError(
                        _("%(file)s: what is stored is not as long as what was written.") % {"file": self},
                        hint=_(_UNMARKED),
                    )
        except BaseException:
            with suppress(Exception):
                # Somebody else may have written a file of this name: only what this one begins with was made here.
                if saved is not None or self._compared(path)[1]:
                    self.storage.delete(saved or self.name)
            raise

    def _asked(self, replaces: Callable[[BinaryIO], bool]) -> bool:
        with self.open() as found:
            return replaces(found)

    def _compared(self, path: Path) -> tuple[bool, bool]:
        """Whether what is there is the file at *path*; and whether it is its beginning."""
        with self.open() as found, path.open("rb") as mine:
            while data := found.read(_COMPARED):
                if mine.read(len(data)) != data:
                    return False, False
            return not mine.read(1), True

    @contextmanager
    def _reported(self, failed: str) -> Iterator[None]:
        """Storages raise what their libraries raise. *failed* says so, not translated yet."""
        try:
            yield
        except StorageError:
            raise
        except NotImplementedError as error:
            why = _("this storage cannot do that")
            raise StorageError(_(failed) % {"file": self, "error": why}) from error
        except FileNotFoundError as error:
            raise StorageError(_("%(file)s: there is no such file.") % {"file": self}) from error
        except (OSError, SuspiciousOperation) as error:
            raise StorageError(_(failed) % {"file": self, "error": error}, hint=_(_UNMARKED)) from error
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            raise StorageError(_(failed) % {"file": self, "error": why}, hint=_(_UNMARKED)) from error


_UNMARKED = gettext_noop("Nothing was marked as exported, and nothing was imported.")


def parse(target: object) -> Stored | None:
    """What *target* names in a storage; None for a path, a stream, nothing. Raises ``StorageError``."""
    if not isinstance(target, str) or not target.startswith(PREFIX):
        return None
    alias, slash, name = target.removeprefix(PREFIX).partition("/")
    if not alias:
        raise StorageError(
            _("%(target)r names no storage.") % {"target": target}, hint=_("Write storage:ALIAS/folder/.")
        )
    return Stored(alias, name.lstrip("/") if slash else "")


@contextmanager
def readable(source: str | Path) -> Iterator[str | Path | BinaryIO]:
    """What ``changelog_format.open_bundle`` can read: a path as it is, a file in a storage as a stream."""
    place = parse(source)
    if place is None:
        yield source
        return
    with place.open() as stream:
        yield stream


__all__ = ["PREFIX", "Stored", "parse", "readable"]
