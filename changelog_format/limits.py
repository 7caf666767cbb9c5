"""How much a reader takes in."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "BLOCK_SIZE",
    "CONTENTS",
    "FRAME_BLOCKS",
    "FRAME_SIZE",
    "INT64_MAX",
    "INT64_MIN",
    "LINE_SIZE",
    "LINE_VALUES",
    "MAX_DEPTH",
    "MAX_VALUE_DEPTH",
    "PIECE_SIZE",
    "Limits",
]

FRAME_SIZE = 4 * 1024 * 1024
LINE_SIZE = 64 * 1024 * 1024
# A zero takes two bytes of a line, a few bits of a file, and a hundred bytes of memory.
LINE_VALUES = 1_000_000
# What one zstd block decodes to at most (RFC 8878, 3.1.1.2.4).
BLOCK_SIZE = 128 * 1024
# Far more than compressors make of the most that a frame holds, 544 full blocks.
FRAME_BLOCKS = 64 * 1024
# Nesting of arrays and objects in a line, and in one value: four levels are left for the record around it.
MAX_DEPTH = 100
MAX_VALUE_DEPTH = 96
# Of a file's content: bytes in one piece; and contents in a bundle, of which a reader remembers the digests.
PIECE_SIZE = 1024 * 1024
CONTENTS = 1_000_000
INT64_MIN = -(2**63)
INT64_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The most that a reader takes in; sizes in bytes, before compression.

    `frame`: all lines of a frame but the last together. `line`: one line without its LF. `values`: the JSON values in
    one line. A reader holds one frame and the values of one line at a time, so the three bound its memory. `records`
    and `size` (of the whole) are unbounded unless given, since a reader's memory does not depend on them.
    """

    frame: int = FRAME_SIZE
    line: int = LINE_SIZE
    values: int = LINE_VALUES
    records: int | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        for name in ("frame", "line", "values", "records", "size"):
            most = getattr(self, name)
            if most is not None and (type(most) is not int or most < 0):
                raise ValueError(f"{name} is {most!r}, not a number from 0 up")
