"""The folder that a file goes to: often a stick, which may not be where it was.

A folder that is gone must not become a file of that name, and what lies below a mount point is not the medium.
"""

from __future__ import annotations

import os
from pathlib import Path

from django.utils.translation import gettext as _

from synchro.errors import ExportError, RequestError
from synchro.models import Bundle, Node


def named(target: str | Path | None, kind: type[ExportError | RequestError] = ExportError) -> Path:
    """*target* as a path (None: the current folder). Raises *kind* where it is a folder that is not there.

    That is one whose name ends with a slash, or has no suffix as names of files have one.
    """
    text = "." if target is None else os.fspath(target)
    path = Path(text)
    slash = text.endswith(tuple(each for each in (os.sep, os.altsep) if each))
    if not path.is_dir() and (slash or not (path.suffix or path.exists())):
        raise kind(
            _("%(folder)s is no folder that is there.") % {"folder": text},
            hint=_("Is the medium in its place? A file is named with a suffix, as in NAME.jsonl.zst."),
        )
    return path


def mount_point(path: Path) -> str:
    """Where the file system begins on which *path* is."""
    place = path.absolute()
    while not place.is_mount() and place != place.parent:
        place = place.parent
    return str(place)


def check_mounted(folder: Path, node: Node, using: str) -> None:
    """Raise ``ExportError`` where *folder* was on a medium when *node* last wrote to it, and is below its place now."""
    sent = Bundle.objects.using(using).filter(direction=Bundle.Direction.SENT, node=node)
    within = sent.filter(file__startswith=f"{folder}{os.sep}").order_by("-pk")
    for file, report in within.values_list("file", "report"):
        if Path(file).parent != folder:
            continue
        medium = report.get("medium") or ""
        if len(mount_point(folder)) < len(medium):
            raise ExportError(
                _("%(medium)s is not mounted: %(folder)s is on another file system than when it was last written to.")
                % {"medium": medium, "folder": folder},
                hint=_("Put the medium in its place. Where this is meant, name the file: -o FOLDER/NAME.jsonl.zst."),
            )
        return
