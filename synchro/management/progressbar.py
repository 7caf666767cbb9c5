"""A line on the terminal that says how far something has got, how quick it is, and how long it will take."""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import TextIO

from django.utils.translation import gettext as _
from django.utils.translation import pgettext_lazy

from synchro.progress import Stage

PATIENCE = 0.7
"""Seconds before anything is shown: what is quick needs no line."""
_PAUSE = 0.1
_WIDTH = 20
_HOUR = 3600
_STAGES = {
    "writing": pgettext_lazy("progress", "writing"),
    "verifying": pgettext_lazy("progress", "verifying"),
    "planning": pgettext_lazy("progress", "planning"),
    "importing": pgettext_lazy("progress", "importing"),
    "scanning": pgettext_lazy("progress", "scanning"),
    "synchronizing": pgettext_lazy("progress", "synchronizing"),
}


class ProgressLine:
    """Shows one stage after the other on *stream*, if that is a terminal; otherwise nothing at all.

    It is a ``synchro.progress.Watcher``. The line is gone when its stage is at its end, and after :meth:`clear`, so
    that what is printed next begins on an empty one.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._shows = _is_terminal(self._stream)
        self._stage: Stage | None = None
        self._begun = self._told = 0.0
        self._first = 0
        self._shown = False

    def __call__(self, stage: Stage, done: int, total: int | None) -> None:
        if not self._shows:
            return
        now = time.monotonic()
        if stage != self._stage:
            self.clear()
            self._stage, self._begun, self._told, self._first = stage, now, 0.0, done
        if total is not None and done >= total:
            self.clear()
            self._stage = None
        elif now - self._begun >= PATIENCE and now - self._told >= _PAUSE:
            self._told = now
            self._show(self._text(done, total, now - self._begun))

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            self._shown = False
            self._write("\r\x1b[K")

    def _text(self, done: int, total: int | None, seconds: float) -> str:
        rate = (done - self._first) / seconds
        stage = _STAGES[self._stage] if self._stage else ""
        text = f"{stage}  {done:,}"
        if total:
            bar = ("#" * (_WIDTH * done // total)).ljust(_WIDTH, ".")
            of_all = _("%(done)s of %(total)s") % {"done": f"{done:,}", "total": f"{total:,}"}
            text = f"{stage}  [{bar}] {100 * done // total:3}%  {of_all}"
        if rate >= 1:
            text += f"  {rate:,.0f}/s"
            if total:
                text += "  " + _("%(time)s left") % {"time": _span((total - done) / rate)}
        return text

    def _show(self, text: str) -> None:
        width = shutil.get_terminal_size().columns - 1
        self._shown = True
        self._write(f"\r{text[:width]}\x1b[K")

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # nobody looks on any more; what is watched goes on
            self._shows = False


def _is_terminal(stream: TextIO | None) -> bool:
    if stream is None or os.environ.get("TERM") == "dumb":
        return False
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def _span(seconds: float) -> str:
    whole = int(seconds) + 1
    hours, rest = divmod(whole, _HOUR)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"
