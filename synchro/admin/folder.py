"""A private folder for bundles that go through the browser: nobody else can read it, and nothing stays in it."""

from __future__ import annotations

import contextlib
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
    root = conf.admin_folder()
    if root is None:
        # One for each project and user of the system; the name tells nothing.
        mark = hashlib.sha256(f"synchro {settings.SECRET_KEY}".encode()).hexdigest()[:16]
        root = Path(tempfile.gettempdir()) / f"synchro-{mark}"
    for each in (root, root / name):
        _private(each)
    sweep(root / name, KEPT_SECONDS)
    return root / name


def _private(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise FolderError(
            _("The folder %(path)s cannot be used: %(error)s.") % {"path": path, "error": error.strerror},
            hint=_("Set SYNCHRO_ADMIN_FOLDER to a folder in which this server can write."),
        ) from error
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
