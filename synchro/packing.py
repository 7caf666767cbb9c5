"""How bundles are compressed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from django.utils.translation import gettext as _

from changelog_format.limits import FRAME_SIZE
from synchro.errors import ExportError
from synchro.models import options
from synchro.options import DEFAULT_LEVEL, MAX_LEVEL

__all__ = ["USUAL", "Packing"]

MAX_THREADS = 64
# Level 3 is a quarter quicker in frames that fit into a processor's cache, and needs a third of the memory. Strong
# levels find a twentieth more in large ones.
USUAL_FRAME_SIZE = 1024 * 1024
_STRONG = 10
# One compresses while the log is read.
THREADS = 1


class WriterOptions(TypedDict):
    """What the writer of bundles is told."""

    level: int
    frame_size: int
    threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """The ``level`` of zstd, the most bytes of a frame, and by how many ``threads`` it is done; the file is the same.

    None stands for what was measured to be best, and of the level for what the option says.
    """

    level: int | None = None
    frame_size: int | None = None
    threads: int | None = None

    def options(self) -> WriterOptions:
        """For the writer. Raises ``ExportError`` for what cannot be."""
        level = self.level if self.level is not None else options.compression_level or DEFAULT_LEVEL
        if not 1 <= level <= MAX_LEVEL:
            raise ExportError(
                _("The compression level is %(level)s; it can be 1 to %(highest)d.")
                % {"level": level, "highest": MAX_LEVEL}
            )
        size = self.frame_size
        if size is None:
            size = USUAL_FRAME_SIZE if level < _STRONG else FRAME_SIZE
        if not 1 <= size <= FRAME_SIZE:
            raise ExportError(
                _("The size of frames is %(size)d bytes; it can be 1 to %(highest)d.")
                % {"size": size, "highest": FRAME_SIZE}
            )
        threads = THREADS if self.threads is None else self.threads
        if not 0 <= threads <= MAX_THREADS:
            raise ExportError(
                _("The number of threads is %(threads)d; it can be 0 to %(highest)d.")
                % {"threads": threads, "highest": MAX_THREADS}
            )
        return {"level": int(level), "frame_size": size, "threads": threads}


USUAL = Packing()
