"""Bundles of a bounded size, for media that hold no larger file (FAT32: 4 GB).

Each part is a bundle with a range of its own that joins on to the one before. A header names its range, and how much
fits is known only when it is written: a part that grows too large is given up and written again up to where it fitted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from django.db import DEFAULT_DB_ALIAS
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from changelog_format import BundleWriter
from synchro import stored
from synchro.errors import ExportError
from synchro.exporting import DEFAULT_DESTINATION, ExportReport, Job, look_around, prepare, write
from synchro.packing import Packing

# The header of the part that is written in the end may be a little longer than that of the attempt.
SLACK = 1024
_UNITS = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3, "KI": 1024, "MI": 1024**2, "GI": 1024**3}
_SIZE = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s*([KMG]I?)?B?\Z", re.IGNORECASE)
# How little room is left in a part that counts as full: looking closer means compressing again and again.
_FULL = 0.02


class _FullError(Exception):
    """The part is too large; it fitted up to position ``seq``."""

    def __init__(self, seq: int) -> None:
        super().__init__(seq)
        self.seq = seq


def parse_size(text: str) -> int:
    """The bytes that *text* means: ``4GB``, ``700M``, ``64KiB``, ``1000000``. Raises ``ValueError``."""
    match = _SIZE.match(text.strip())
    if match is None:
        message = _("%(text)r is no size: write a number and B, KB, MB, GB, KiB, MiB or GiB, as 4GB") % {"text": text}
        raise ValueError(message)
    return int(float(match[1]) * _UNITS[(match[2] or "").upper()])


def export_parts(
    target: str | Path | None = None,
    *,
    max_size: int,
    to: str = DEFAULT_DESTINATION,
    since: int | None = None,
    until: int | None = None,
    overlap: int = 0,
    level: int | None = None,
    frame_size: int | None = None,
    threads: int | None = None,
    with_files: bool = False,
    encrypt_to: Sequence[str] = (),
    using: str = DEFAULT_DB_ALIAS,
) -> Iterator[ExportReport]:
    """As ``export_bundle``, in as many bundles as it takes for none to exceed *max_size* bytes; a report for each.

    *target* is a folder (None: the current one). Each part is durable, and the destination moved past it, before the
    next is begun: what an error leaves out is written by the next export. Raises ``ExportError`` also where one change
    alone is too large.
    """
    folder = Path() if target is None else target
    place = stored.parse(folder)
    if not (place.is_folder if place is not None else Path(folder).is_dir()):
        raise ExportError(
            _("%(folder)s is no folder; parts of a bounded size are written to one, named by their ranges.")
            % {"folder": folder}
        )
    new_id = look_around(folder, using)
    job = prepare(
        to=to,
        since=since,
        until=until,
        overlap=overlap,
        with_files=with_files,
        encrypt_to=encrypt_to,
        packing=Packing(level=level, frame_size=frame_size, threads=threads),
        using=using,
    )
    while job is not None:
        report = _part(replace(job, new_id=new_id), folder, max_size, using)
        yield report
        job = replace(job, start=report.to_seq) if report.to_seq < job.end else None


def _part(job: Job, folder: str | Path, max_size: int, using: str) -> ExportReport:
    try:
        return write(job, folder, using=using, watch=_Watch(job, max_size))
    except _FullError as full:
        if full.seq == job.start:
            raise ExportError(
                ngettext(
                    "The change at position %(seq)d alone needs more than %(size)d byte.",
                    "The change at position %(seq)d alone needs more than %(size)d bytes.",
                    max_size,
                )
                % {"seq": job.start + 1, "size": max_size},
                hint=_("Allow larger files; nothing after it was exported."),
            ) from None
        return write(replace(job, end=full.seq), folder, using=using)


class _Watch:
    """Raises ``_FullError`` when the bundle has become too large, or so nearly full that it is not worth going on."""

    def __init__(self, job: Job, max_size: int) -> None:
        self._start = self._fitted = job.start
        self._end = job.end
        self._room = max_size - SLACK - max_size // 1000
        self._look_at = 0  # with fewer bytes of lines than this it surely fits

    def __call__(self, writer: BundleWriter, seq: int) -> None:
        if seq <= self._fitted:  # begun again with another header
            self._fitted, self._look_at = self._start, 0
        if writer.text_size > self._look_at:
            left = self._room - writer.measure()
            if left < 0:
                raise _FullError(self._fitted)
            if left < self._room * _FULL and seq < self._end:
                raise _FullError(seq)
            # What comes adds to the file at most what it adds to the lines.
            self._look_at = writer.text_size + left
        self._fitted = seq
