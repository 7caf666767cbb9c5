"""Bundles encrypted with age (https://age-encryption.org/v1), which the program ``age`` decrypts, too (SPEC R78).

Needs the library ``pyrage`` (the extra ``encryption``), which is imported when something is encrypted or decrypted. It
works through streams and in a thread of its own, a pipe between, so that memory is bounded and nothing that is not
encrypted is ever on a disk.
"""

from __future__ import annotations

import contextlib
import io
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from .errors import EncryptionError, MissingExtraError, NoIdentityError
from .keys import UnusableKeyError, read_guarded, read_secrets

__all__ = [
    "DecryptingStream",
    "EncryptingStream",
    "Identities",
    "Recipients",
    "decrypted",
    "encrypt",
    "is_encrypted",
    "overhead",
]

IDENTITY = "AGE-SECRET-KEY-"
_BEGINNINGS = (b"age-encryption.org/", b"-----BEGIN AGE ENCRYPTED FILE-----")
_LOOK = max(map(len, _BEGINNINGS))
_CHUNK, _TAG = 64 * 1024, 16
# So much of a file is given to the library before something must have come out of it: a header of a hundred recipients
# of any kind, and the first chunk, also as text. The library reads a header in a time that grows with its square.
_FIRST = 256 * 1024
_RECIPIENTS = 100


def _library() -> Any:
    try:
        import pyrage
    except ImportError:
        raise MissingExtraError(
            "encryption needs the library pyrage: run `pip install django-synchro[encryption]`"
        ) from None
    return pyrage


def is_encrypted(beginning: bytes) -> bool:
    """Whether a file that begins so is encrypted with age, in binary or as text."""
    return beginning.startswith(_BEGINNINGS)


class Recipients:
    """Whom a bundle is encrypted to: each can decrypt it by himself."""

    def __init__(self, texts: Sequence[str]) -> None:
        """*texts* are recipients (``age1…``, ``ssh-ed25519 …``), or paths of files with one a line.

        Raises UnusableKeyError and MissingExtraError.
        """
        lines: list[str] = []
        for text in texts:
            lines += [text.strip()] if text.startswith(("age1", "ssh-")) else _recipients_in(text)
        self.texts = tuple(dict.fromkeys(lines))
        if not self.texts:
            raise UnusableKeyError("there is nobody to encrypt to")
        if len(self.texts) > _RECIPIENTS:
            raise UnusableKeyError(f"there are {len(self.texts)} recipients, and a file has {_RECIPIENTS} at most")
        library = _library()
        self.parsed: list[Any] = []
        for text in self.texts:
            kind = library.ssh if text.startswith("ssh-") else library.x25519
            try:
                self.parsed.append(kind.Recipient.from_str(text))
            except library.RecipientError:
                raise UnusableKeyError(f"{text[:100]!r} is no recipient: age1…, or the public key of ssh") from None


def _recipients_in(path: str) -> list[str]:
    try:
        text = read_guarded(Path(path))
    except UnusableKeyError:
        raise
    except (OSError, UnicodeDecodeError, ValueError):
        raise UnusableKeyError(f"{path[:200]!r} is no recipient (age1…), and no file of recipients") from None
    return [line for each in text.splitlines() if (line := each.strip()) and not line.startswith("#")]


class Identities:
    """The secret keys by which encrypted bundles are read."""

    def __init__(self, sources: Sequence[str | os.PathLike[str]]) -> None:
        """*sources* are identities (``AGE-SECRET-KEY-…``), ``env:NAME``, or paths of files, as age-keygen writes them.

        Raises UnusableKeyError and MissingExtraError.
        """
        library = _library()
        self.parsed: list[Any] = []
        for source in sources:
            for text in read_secrets(source, IDENTITY):
                try:
                    self.parsed.append(library.x25519.Identity.from_str(text))
                except library.IdentityError:
                    raise UnusableKeyError(f"what {_named(source)} holds is {_instead(text)}") from None


def _instead(text: str) -> str:
    """What a text is that is no identity, and what to do; nothing of it is repeated."""
    if is_encrypted(text.encode()):
        return (
            "protected by a passphrase, and nobody is there to type it: `age -d` it into a file that only this user "
            "can read, or give what it holds as env:NAME"
        )
    if text.startswith(("-----BEGIN ", "AGE-PLUGIN-")):
        return "a key of ssh or of a plugin, which only the program age can use: make one with age-keygen"
    return "no identity of age"


def _named(source: str | os.PathLike[str]) -> str:
    text = os.fspath(source)
    return "the setting" if text.startswith(IDENTITY) else text


def overhead(size: int, recipients: int) -> int:
    """By how many bytes at most an encrypted file of *size* bytes is longer than what it holds."""
    return _TAG * (size // _CHUNK + 1) + 1024 + 2048 * recipients


class _Guarded:
    """A stream as the library sees it. It remembers what went wrong, which the library may not pass on."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.error: BaseException | None = None
        self.count = 0

    def read(self, size: int) -> bytes:
        try:
            return self._stream.read(size) or b""
        except BaseException as error:
            self.error = error
            raise

    def write(self, data: bytes) -> int:
        if self.error is not None:  # what follows a part that was not written is not to be written either
            raise OSError(str(self.error))
        try:
            view = memoryview(data)
            while view:
                count = self._stream.write(view)
                view = view[len(view) if count is None else count :]
        except BaseException as error:
            self.error = error
            raise
        self.count += len(data)
        return len(data)

    def flush(self) -> None:
        """What is flushed, and when, is the business of who opened the stream."""


class _Encrypted(_Guarded):
    """The stream of an encrypted file, until something comes `out` of it not more than a header and a chunk."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream)
        self.out = False

    def read(self, size: int) -> bytes:
        if not self.out and self.count > _FIRST:
            self.error = EncryptionError("it is encrypted, and its header is longer than any", rule="R78")
            raise OSError(str(self.error))
        data = super().read(size)
        self.count += len(data)
        return data


class _Decrypted:
    """Where the library writes to."""

    def __init__(self, source: _Encrypted, stream: BinaryIO) -> None:
        self._source, self._stream = source, stream

    def write(self, data: bytes) -> int:
        self._source.out = True
        return self._stream.write(data)

    def flush(self) -> None:
        self._stream.flush()


class EncryptingStream:
    """Encrypts what is written to it, into *target*, which stays open. `finish` writes the end."""

    def __init__(self, target: BinaryIO, recipients: Recipients) -> None:
        self._library = _library()
        self._target = _Guarded(target)
        self._failure: BaseException | None = None
        reading, writing = os.pipe()
        self._out = os.fdopen(writing, "wb", buffering=_CHUNK)
        self._thread = threading.Thread(target=self._run, args=(reading, recipients.parsed), daemon=True)
        self._thread.start()

    @property
    def size(self) -> int:
        """How many bytes the target was given."""
        return self._target.count

    def write(self, data: bytes | memoryview) -> int:
        try:
            return self._out.write(data)
        except BrokenPipeError:
            self._join()
            raise

    def finish(self) -> None:
        """Write what is left; the target has all of it then. Raises OSError as the target did."""
        with contextlib.suppress(BrokenPipeError):
            self._out.close()
        self._join()

    def abort(self) -> None:
        """Give up. What the target was given is no whole file."""
        self._target.error = OSError("given up")
        with contextlib.suppress(BrokenPipeError):
            self._out.close()
        self._thread.join()

    def _join(self) -> None:
        self._thread.join()
        if self._target.error is not None:
            raise self._target.error
        if self._failure is not None:
            raise EncryptionError(f"it could not be encrypted: {self._failure}", rule="R78")

    def _run(self, descriptor: int, recipients: list[Any]) -> None:
        with os.fdopen(descriptor, "rb", buffering=0) as source:
            try:
                self._library.encrypt_io(source, self._target, recipients)
            except BaseException as error:  # noqa: BLE001  (raised by the thread that waits)
                self._failure = error


def encrypt(data: bytes, recipients: Recipients) -> bytes:
    """*data*, which is short, encrypted."""
    target = io.BytesIO()
    stream = EncryptingStream(target, recipients)
    stream.write(data)
    stream.finish()
    return target.getvalue()


class DecryptingStream:
    """What *source*, an encrypted stream, holds. Raises EncryptionError where it is for others, cut or changed.

    The source is closed with it only if *close* says so.
    """

    def __init__(self, source: BinaryIO, identities: Identities, *, close: bool = False) -> None:
        self._library = _library()
        self._raw, self._close = source, close
        self._source = _Encrypted(source)
        self._failure: BaseException | None = None
        reading, writing = os.pipe()
        self._in = os.fdopen(reading, "rb", buffering=0)
        self._thread = threading.Thread(target=self._run, args=(writing, identities.parsed), daemon=True)
        self._thread.start()

    def read(self, size: int = -1) -> bytes:
        data = self._in.read(size)
        if not data and size:
            self._thread.join()
            self._raise()
        return data or b""

    def _raise(self) -> None:
        if self._source.error is not None:
            raise self._source.error
        if isinstance(self._failure, self._library.DecryptError):
            raise NoIdentityError("it is encrypted, and no identity fits (or its beginning was changed)", rule="R78")
        if self._failure is not None:
            raise EncryptionError("the encrypted file was cut or changed", rule="R78")

    def close(self) -> None:
        self._in.close()
        self._thread.join()
        if self._close:
            self._raw.close()

    def _run(self, descriptor: int, identities: list[Any]) -> None:
        with contextlib.suppress(BrokenPipeError), os.fdopen(descriptor, "wb", buffering=_CHUNK) as target:
            try:
                self._library.decrypt_io(self._source, _Decrypted(self._source, target), identities)
            except BaseException as error:  # noqa: BLE001  (raised by the thread that reads)
                self._failure = error


class _Prefixed:
    """A stream whose beginning was read already."""

    def __init__(self, beginning: bytes, stream: BinaryIO, *, close: bool) -> None:
        self._beginning, self._stream, self._close = beginning, stream, close

    def read(self, size: int = -1) -> bytes:
        if self._beginning:
            data, self._beginning = self._beginning, b""
            if 0 <= size < len(data):
                data, self._beginning = data[:size], data[size:]
            return data
        return self._stream.read(size)

    def close(self) -> None:
        if self._close:
            self._stream.close()


def decrypted(stream: BinaryIO, identities: Identities, *, close: bool) -> BinaryIO:
    """What *stream* holds, decrypted if it is encrypted; *close* says whether it is closed with the result."""
    beginning = b""
    while len(beginning) < _LOOK and (more := stream.read(_LOOK - len(beginning))):
        beginning += more
    whole: Any = _Prefixed(beginning, stream, close=close)
    if is_encrypted(beginning):
        whole = DecryptingStream(whole, identities, close=True)
    result: BinaryIO = whole
    return result
