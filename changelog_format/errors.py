"""What can be wrong with a bundle.

::

    BundleError                 anything wrong with a file; carries line, byte and rule
    ├── ContainerError          the zstd frames (SPEC R1 to R9, R63)
    ├── LineError               a line is not strict JSON (R11 to R17)
    ├── RecordError             a record or value is not of its form (R18 to R35, R39 to R52)
    ├── OrderError              the records do not make up what the header announces (R36, R53 to R57)
    ├── DigestError             a digest in the trailer is another one (R58, R59)
    ├── UnsupportedError        a version or feature that this reader does not know (R37, R38)
    ├── SignatureError          who wrote it is not proven, where that is required (R72, R76)
    │   ├── UnsignedError       it has no signature, or has lost it (R73)
    │   ├── UntrustedKeyError   the key is not one of those of the node that it says it is of (R74)
    │   ├── ExpiredKeyError     the key was not to be used at that time (R75)
    │   └── RelayError          it speaks for a node for which its own may not speak (R77)
    ├── EncryptionError         it is encrypted, and cannot be decrypted here, or was cut or changed (R78)
    │   └── NoIdentityError     … since no identity that was given opens it (R78)
    └── LimitError              more than the reader is prepared to take in (R3, R10, R60, R64)
        └── OutOfMemoryError    more than this machine can take in (R60)
    MissingExtraError           what the file needs is not installed; also an ImportError
    StateError                  a mistake in the calling program, not in a file
    ├── WriterStateError
    └── ReaderStateError

The text of a BundleError is one short sentence: where, what, and the rule of SPEC.md, as in
``line 418: digest is ab12…, the trailer says cd34… (SPEC R58)``.
"""

from __future__ import annotations

from typing import Self

__all__ = [
    "BundleError",
    "ContainerError",
    "DigestError",
    "EncryptionError",
    "ExpiredKeyError",
    "LimitError",
    "LineError",
    "MissingExtraError",
    "NoIdentityError",
    "OrderError",
    "OutOfMemoryError",
    "ReaderStateError",
    "RecordError",
    "RelayError",
    "SignatureError",
    "StateError",
    "UnsignedError",
    "UnsupportedError",
    "UntrustedKeyError",
    "WriterStateError",
]

_MESSAGE_LENGTH = 400


class BundleError(Exception):
    """Something is wrong with a bundle.

    `line` counts from 1, `byte` is an offset in the stored file from 0; both are None where they are not known.
    `rule` is the rule of SPEC.md that is broken, such as ``"R12"``.
    """

    def __init__(
        self, message: str, *, rule: str | None = None, line: int | None = None, byte: int | None = None
    ) -> None:
        # What a message quotes is cut where it is quoted. Should that be forgotten somewhere, a file still cannot
        # fill a terminal or a log.
        if len(message) > _MESSAGE_LENGTH:
            message = message[: _MESSAGE_LENGTH - 1] + "…"
        super().__init__(message)
        self.message = message
        self.rule = rule
        self.line = line
        self.byte = byte

    def at(self, line: int) -> Self:
        """Say on which line it was, unless that is known already; return the error."""
        if self.line is None and self.byte is None:
            self.line = line
        return self

    def __str__(self) -> str:
        where = ""
        if self.line is not None:
            where = f"line {self.line}: "
        elif self.byte is not None:
            where = f"byte {self.byte}: "
        rule = f" (SPEC {self.rule})" if self.rule is not None else ""
        return f"{where}{self.message}{rule}"


class ContainerError(BundleError):
    """The file is not the sequence of zstd frames that it should be."""


class LineError(BundleError):
    """A line is not strict JSON."""


class RecordError(BundleError):
    """A record lacks a key, or a value is not of its form."""


class OrderError(BundleError):
    """The records do not make up what the header and the trailer announce."""


class DigestError(BundleError):
    """A digest differs from the one in the trailer."""


class UnsupportedError(BundleError):
    """The file is of a version, or needs a feature, that this reader does not know."""


class LimitError(BundleError):
    """The file asks for more than the reader is prepared to take in."""


class OutOfMemoryError(LimitError):
    """The file asks for more memory than there is. On another machine it may be in order."""


class SignatureError(BundleError):
    """The signature is none, or not that of this bundle."""


class UnsignedError(SignatureError):
    """The bundle has no signature, and one is required."""


class UntrustedKeyError(SignatureError):
    """The key that signed the bundle is not trusted for the node that the bundle says it is of."""


class ExpiredKeyError(SignatureError):
    """The bundle was written at a time for which its key is not trusted."""


class RelayError(SignatureError):
    """The bundle passes on a change of a node for which its writer is not trusted to speak."""


class EncryptionError(BundleError):
    """The file is encrypted for others, or was cut or changed after it was encrypted."""


class NoIdentityError(EncryptionError):
    """The bundle is encrypted, and there is no identity here that opens it. Elsewhere it may be in order."""


class MissingExtraError(ImportError):
    """A library that is optional is needed and not installed. The text says how to install it."""


class StateError(Exception):
    """A mistake in the calling program: something was called out of turn."""


class WriterStateError(StateError):
    """The writer is closed or was given up."""


class ReaderStateError(StateError):
    """The reader has not read so far yet, is closed, or has failed."""
