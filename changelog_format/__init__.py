"""The changelog file format of synchro, by itself: standard library, orjson and zstandard only.

`SPEC.md` is the text that counts; this package reads and writes what it describes::

    with open_bundle("office-7f3a9c21-000301-000412.jsonl.zst") as bundle:
        print(bundle.header.node.name)
        for record in bundle:
            ...

A map: `errors` and `limits`; `dates`, `names` and `values` are the forms of single values, `forms` their checks;
`header`, `records` and `pieces` (contents of files) are the lines as dataclasses, `jsonl` their text, `rules` what
holds between them; `container` is the zstd frames; `reader` and `writer` put all that together; `archive` looks at a
folder of bundles; `__main__` is the command line.
"""

from __future__ import annotations

from .archive import ArchiveReport, Stream, check_archive
from .dates import format_date, parse_date
from .errors import (
    BundleError,
    ContainerError,
    DigestError,
    LimitError,
    LineError,
    OrderError,
    OutOfMemoryError,
    ReaderStateError,
    RecordError,
    StateError,
    UnsupportedError,
    WriterStateError,
)
from .header import SUPPORTED_FEATURES, VERSION, Header, ModelInfo, NodeInfo, Position
from .limits import Limits
from .reader import BundleReader, Summary, open_bundle, verify
from .records import Change, FilePiece, FileRef, ObjectRecord, Origin, Target, Trailer
from .values import JSON_NULL, JSONNull, Range, ValueFormError, decode_value, encode_value
from .writer import BundleWriter

__all__ = [
    "JSON_NULL",
    "SUPPORTED_FEATURES",
    "VERSION",
    "ArchiveReport",
    "BundleError",
    "BundleReader",
    "BundleWriter",
    "Change",
    "ContainerError",
    "DigestError",
    "FilePiece",
    "FileRef",
    "Header",
    "JSONNull",
    "LimitError",
    "Limits",
    "LineError",
    "ModelInfo",
    "NodeInfo",
    "ObjectRecord",
    "OrderError",
    "Origin",
    "OutOfMemoryError",
    "Position",
    "Range",
    "ReaderStateError",
    "RecordError",
    "StateError",
    "Stream",
    "Summary",
    "Target",
    "Trailer",
    "UnsupportedError",
    "ValueFormError",
    "WriterStateError",
    "check_archive",
    "decode_value",
    "encode_value",
    "format_date",
    "open_bundle",
    "parse_date",
    "verify",
]
