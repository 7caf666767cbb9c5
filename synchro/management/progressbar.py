"""A line on the terminal that says how far something has got, how quick it is, and how long it will take."""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import TextIO

from synchro.progress import Stage

PATIENCE = 0.7
"""Seconds before anything is shown: what is quick needs no line."""
_PAUSE = 0.1
_WIDTH = 20
_HOUR = 3600


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
        text = f"{self._stage}  {done:,}"
        if total:
            bar = ("#" * (_WIDTH * done // total)).ljust(_WIDTH, ".")
            text = f"{self._stage}  [{bar}] {100 * done // total:3}%  {done:,} of {total:,}"
        if rate >= 1:
            text += f"  {rate:,.0f}/s"
            if total:
                text += f"  {_span((total - done) / rate)} left"
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
