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

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

# Loaded when it is asked for: who only writes a log needs neither reader nor keys.
_WHERE = {
    "ArchiveReport": "archive",
    "BundleError": "errors",
    "BundleReader": "reader",
    "BundleWriter": "writer",
    "Change": "records",
    "ContainerError": "errors",
    "DigestError": "errors",
    "EncryptionError": "errors",
    "ExpiredKeyError": "errors",
    "FilePiece": "records",
    "FileRef": "records",
    "Header": "header",
    "Identities": "encryption",
    "JSONNull": "values",
    "JSON_NULL": "values",
    "LimitError": "errors",
    "Limits": "limits",
    "LineError": "errors",
    "MissingExtraError": "errors",
    "ModelInfo": "header",
    "Moved": "header",
    "NoIdentityError": "errors",
    "NodeInfo": "header",
    "ObjectRecord": "records",
    "OrderError": "errors",
    "Origin": "records",
    "OutOfMemoryError": "errors",
    "Position": "header",
    "Range": "values",
    "ReaderStateError": "errors",
    "Recipients": "encryption",
    "RecordError": "errors",
    "RelayError": "errors",
    "SUPPORTED_FEATURES": "header",
    "SignatureError": "errors",
    "Signer": "signing",
    "StateError": "errors",
    "Stream": "archive",
    "Succession": "header",
    "Summary": "reader",
    "Target": "records",
    "Trailer": "records",
    "TrustedKey": "keys",
    "TrustedKeys": "keys",
    "UnsignedError": "errors",
    "UnsupportedError": "errors",
    "UntrustedKeyError": "errors",
    "UnusableKeyError": "keys",
    "VERSION": "header",
    "ValueFormError": "values",
    "WriterStateError": "errors",
    "check_archive": "archive",
    "check_relayed": "signing",
    "check_signature": "signing",
    "decode_value": "values",
    "encode_value": "values",
    "format_date": "dates",
    "open_bundle": "reader",
    "parse_date": "dates",
    "verify": "reader",
}

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


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        found = getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
        globals()[name] = found
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
