"""A private folder for bundles that go through the browser: nobody else can read it, and nothing stays in it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import tempfile
import time
from pathlib import Path

from django.conf import settings
from django.utils.translation import gettext as _

from synchro import conf
from synchro.errors import SynchroError

KEPT_SECONDS = 24 * 3600


class FolderError(SynchroError):
    """The folder cannot be trusted."""


def folder(name: str) -> Path:
    """The folder *name* for bundles, made where it is missing; what lies there for longer than a day is removed.

    Below ``SYNCHRO_ADMIN_FOLDER``, or in the system's folder for temporary files. Raises ``FolderError`` where it is
    not ours alone.
    """
    root = _root()
    for each in (root, root / name):
        _private(each)
    sweep(root / name, KEPT_SECONDS)
    return root / name


def trouble() -> FolderError | None:
    """What would be in the way of bundles that go through the browser; nothing is made."""
    root = _root()
    try:
        if root.exists():
            _ours(root)
        there = root if root.exists() else root.parent
        missing = not there.is_dir()
        if missing or not os.access(there, os.W_OK | os.X_OK):
            return _useless(root, os.strerror(errno.ENOENT if missing else errno.EACCES))
    except FolderError as error:
        return error
    except OSError as error:
        return _useless(root, error.strerror)
    return None


def _root() -> Path:
    root = conf.admin_folder()
    if root is None:
        # One for each project and user of the system; the name tells nothing.
        mark = hashlib.sha256(f"synchro {settings.SECRET_KEY}".encode()).hexdigest()[:16]
        root = Path(tempfile.gettempdir()) / f"synchro-{mark}"
    return root


def _useless(path: Path, error: str | None) -> FolderError:
    return FolderError(
        _("The folder %(path)s cannot be used: %(error)s.") % {"path": path, "error": error},
        hint=_("Set SYNCHRO_ADMIN_FOLDER to a folder in which this server can write."),
    )


def _private(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        _ours(path)
    except OSError as error:
        raise _useless(path, error.strerror) from error


def _ours(path: Path) -> None:
    found = path.lstat()
    strange = not stat.S_ISDIR(found.st_mode)
    if hasattr(os, "geteuid"):
        strange = strange or found.st_uid != os.geteuid() or bool(found.st_mode & 0o077)
    if strange:
        raise FolderError(
            _("The folder %(path)s is not private: others could read or exchange bundles there.") % {"path": path},
            hint=_("Set SYNCHRO_ADMIN_FOLDER to a folder that only this server's user can enter (mode 700)."),
        )


def sweep(path: Path, seconds: float, pattern: str = "*") -> None:
    """Remove the files in *path* that are older."""
    now = time.time()
    for each in path.glob(pattern):
        with contextlib.suppress(OSError):  # another process was quicker
            if now - each.lstat().st_mtime >= seconds:
                each.unlink()
