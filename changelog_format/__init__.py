"""The changelog file format of synchro, by itself: standard library, orjson and zstandard only.

`SPEC.md` is the text that counts; this package reads and writes what it describes::

    with open_bundle("office-7f3a9c21-000301-000412.jsonl.zst") as bundle:
        print(bundle.header.node.name)
        for record in bundle:
            ...

A map: `errors` and `limits`; `dates`, `names` and `values` are the forms of single values, `forms` their checks;
`header`, `records` and `pieces` (contents of files) are the lines as dataclasses, `jsonl` their text, `rules` what
holds between them; `container` is the zstd frames; `reader` and `writer` put all that together; `archive` looks at a
folder of bundles, `history` at what happened to objects in several; `keys`, `signing` and `encryption` (with libraries
that are optional) say who wrote a bundle and who may read it; `__main__` is the command line, with `output` and
`commands_…` for what has options of its own.
"""

from __future__ import annotations

from .archive import ArchiveReport, Stream, check_archive
from .dates import format_date, parse_date
from .encryption import Identities, Recipients
from .errors import (
    BundleError,
    ContainerError,
    DigestError,
    EncryptionError,
    ExpiredKeyError,
    LimitError,
    LineError,
    MissingExtraError,
    NoIdentityError,
    OrderError,
    OutOfMemoryError,
    ReaderStateError,
    RecordError,
    RelayError,
    SignatureError,
    StateError,
    UnsignedError,
    UnsupportedError,
    UntrustedKeyError,
    WriterStateError,
)
from .header import SUPPORTED_FEATURES, VERSION, Header, ModelInfo, Moved, NodeInfo, Position, Succession
from .keys import TrustedKey, TrustedKeys, UnusableKeyError
from .limits import Limits
from .reader import BundleReader, Summary, open_bundle, verify
from .records import Change, FilePiece, FileRef, ObjectRecord, Origin, Target, Trailer
from .signing import Signer, check_relayed, check_signature
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
    "EncryptionError",
    "ExpiredKeyError",
    "FilePiece",
    "FileRef",
    "Header",
    "Identities",
    "JSONNull",
    "LimitError",
    "Limits",
    "LineError",
    "MissingExtraError",
    "ModelInfo",
    "Moved",
    "NoIdentityError",
    "NodeInfo",
    "ObjectRecord",
    "OrderError",
    "Origin",
    "OutOfMemoryError",
    "Position",
    "Range",
    "ReaderStateError",
    "Recipients",
    "RecordError",
    "RelayError",
    "SignatureError",
    "Signer",
    "StateError",
    "Stream",
    "Succession",
    "Summary",
    "Target",
    "Trailer",
    "TrustedKey",
    "TrustedKeys",
    "UnsignedError",
    "UnsupportedError",
    "UntrustedKeyError",
    "UnusableKeyError",
    "ValueFormError",
    "WriterStateError",
    "check_archive",
    "check_relayed",
    "check_signature",
    "decode_value",
    "encode_value",
    "format_date",
    "open_bundle",
    "parse_date",
    "verify",
]
