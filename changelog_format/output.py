"""What the command line prints: to a standard output that may be closed or full, and never what steers a terminal."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["OutputError", "clean", "flush", "give_up", "say", "say_json", "several", "table", "write"]


class OutputError(Exception):
    """Standard output takes no more. Of itself, this says nothing about the bundle."""


def write(data: bytes) -> None:
    """Write bytes to standard output. Raises OutputError."""
    _output(lambda: sys.stdout.buffer.write(data))


def say(text: str) -> None:
    """Print a line. Raises OutputError."""
    _output(lambda: print(text))


def say_json(data: object) -> None:
    """Print one line of JSON. Raises OutputError."""
    say(json.dumps(data, ensure_ascii=False))


def flush() -> None:
    """Write what is buffered. Raises OutputError."""
    _output(lambda: sys.stdout.flush())  # noqa: PLW0108  (standard output may be closed: then there is no such method)


def give_up(stream: TextIO | None = None) -> None:
    """Keep Python from trying once more, with an exit status of its own, when it closes *stream* (standard output)."""
    stream = sys.stdout if stream is None else stream
    if stream is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _output(act: Callable[[], object]) -> None:
    """Raises OutputError, since an OSError would be blamed on the file that is read."""
    if sys.stdout is None:
        raise OutputError("is closed")
    try:
        act()
    except OSError as error:
        raise OutputError(error.strerror or str(error)) from error


def clean(text: str) -> str:
    """Return a text from a file such that it cannot steer the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def several(count: int, what: str) -> str:
    """Return *count* and the noun, in the plural unless it is 1."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Lines of a table: the columns as wide as they need, numbers to the right, nothing after the last."""
    cells = [[clean(str(cell)) for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    right = [bool(rows) and all(isinstance(row[at], int) for row in rows) for at in range(len(head))]
    return [
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in cells
    ]
