"""Keys as texts: where secret ones are kept, and a list of whose public ones are trusted.

A secret key is given as itself, as ``env:NAME`` for the environment variable that holds it, or as the path of a file.
Such a file has one secret a line; lines that begin with ``#`` are comments.

A list of trusted keys has a line for each: the name of the node, its public key, and options::

    office  ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=  not-after=2027-06-30
    hub     ed25519:PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=  relays=office,ship

``not-before`` and ``not-after`` bound when the bundles that a key signs were written (both days count); ``relays``
names the nodes whose changes its owner may pass on, ``*`` all. A name may have several lines.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from .dates import is_date

__all__ = [
    "PUBLIC",
    "SECRET",
    "TrustedKey",
    "TrustedKeys",
    "UnusableKeyError",
    "node_name",
    "public_text",
    "read_guarded",
    "read_public",
    "read_secrets",
    "refuse_exchangeable",
    "write_secret_file",
]

PUBLIC = "ed25519:"
SECRET = "synchro-secret-ed25519:"  # noqa: S105  (the beginning of one)
KEY_SIZE = 32
_FILE_SIZE = 1_000_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# What others than its owner may not do with it. A group may read: so a service is given a key that it cannot change.
_OPEN_TO_OTHERS = stat.S_IRWXO | stat.S_IWGRP
# What nobody may do with a file that says whom to trust, or for whom to encrypt.
_OPEN_TO_CHANGES = stat.S_IWOTH


class UnusableKeyError(ValueError):
    """A key, a key file or a list of trusted keys cannot be used. The text says which, and why."""


def node_name(node_id: str) -> str:
    """The name in a node id: ``office`` of ``office-7f3a9c21``."""
    return node_id.rpartition("-")[0]


def _key_bytes(text: str, prefix: str) -> bytes | None:
    try:
        data = base64.b64decode(text.removeprefix(prefix), validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if text.startswith(prefix) and len(data) == KEY_SIZE else None


def read_public(text: str) -> bytes:
    """The 32 bytes of a public key. Raises UnusableKeyError."""
    data = _key_bytes(text, PUBLIC)
    if data is None:
        raise UnusableKeyError(f"{text[:80]!r} is no public key: it is {PUBLIC} and 44 characters of base64")
    return data


def public_text(data: bytes) -> str:
    """A public key as text."""
    return PUBLIC + base64.b64encode(data).decode("ascii")


def secret_text(data: bytes) -> str:
    """A secret signing key as text."""
    return SECRET + base64.b64encode(data).decode("ascii")


def read_secret_key(text: str) -> bytes:
    """The 32 bytes of a secret signing key. Raises UnusableKeyError, which does not repeat it."""
    data = _key_bytes(text, SECRET)
    if data is None:
        raise UnusableKeyError(f"it is no secret signing key: such a one is {SECRET} and 44 characters of base64")
    return data


# --- where secrets are kept -------------------------------------------------------------------------------------------


def read_secrets(source: str | os.PathLike[str], prefix: str) -> list[str]:
    """The secrets that *source* is or names, see above; *prefix* is what a secret begins with.

    Raises UnusableKeyError: nothing is there, or a file of secrets is open to others. No text repeats a secret.
    """
    text = os.fspath(source)
    if text.startswith(prefix):
        return [text.strip()]
    if text.startswith("env:"):
        name = text.removeprefix("env:")
        found = _lines(os.environ.get(name, ""))
        if not found:
            raise UnusableKeyError(f"the environment has no key in {name}")
        return found
    found = _lines(_read_private(Path(text)))
    if not found:
        raise UnusableKeyError(f"{text} holds no key")
    return found


def _lines(text: str) -> list[str]:
    return [line for each in text.splitlines() if (line := each.strip()) and not line.startswith("#")]


def _read_private(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            if os.name == "posix" and mode & _OPEN_TO_OTHERS:
                raise UnusableKeyError(
                    f"{path} holds a secret and is open to others (mode {stat.S_IMODE(mode):04o}): "
                    f"run `chmod 600 {path}`, and make a new key if somebody may have read it"
                )
            refuse_exchangeable(path)
            data = stream.read(_FILE_SIZE)
    except OSError as error:
        raise UnusableKeyError(f"the key file {path} cannot be read: {error.strerror or error}") from None
    return data.decode("utf-8", "replace")


def read_guarded(path: Path) -> str:
    """The text of a file that need not be secret, but that nobody else may change: it says whom to trust.

    Raises UnusableKeyError where others may, OSError, and UnicodeDecodeError.
    """
    with path.open("rb") as stream:
        mode = os.fstat(stream.fileno()).st_mode
        if os.name == "posix" and mode & _OPEN_TO_CHANGES:
            raise UnusableKeyError(
                f"{path} can be changed by everybody (mode {stat.S_IMODE(mode):04o}): look at what it says, then run "
                f"`chmod o-w {path}`"
            )
        refuse_exchangeable(path)
        return stream.read(_FILE_SIZE).decode("utf-8")


def refuse_exchangeable(path: Path) -> None:
    """Raise UnusableKeyError where everybody can put another file in the place of *path*.

    Who may write a folder can do so, unless it is sticky as ``/tmp`` is. Raises OSError, too.
    """
    if os.name != "posix":
        return
    for folder in dict.fromkeys((path.parent, path.resolve().parent)):
        mode = folder.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise UnusableKeyError(
                f"{path} can be exchanged by everybody, as its folder is open to others (mode "
                f"{stat.S_IMODE(mode):04o}): run `chmod o-w {folder}`"
            )


def write_secret_file(path: str | os.PathLike[str], lines: Iterable[str]) -> None:
    """Write a new file that only its owner can read. Raises OSError, ``FileExistsError`` where there is one."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write("".join(f"{line}\n" for line in lines))
        stream.flush()
        os.fsync(stream.fileno())


# --- whose keys are trusted -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedKey:
    """A public key of a node: when bundles that it signs were written, and whose changes its owner may pass on."""

    public: bytes
    not_before: str | None = None
    not_after: str | None = None
    relays: frozenset[str] = field(default_factory=frozenset)

    def __str__(self) -> str:
        return public_text(self.public)

    def covers(self, date: str) -> bool:
        """Whether it may sign what was written at *date*, a date of the format."""
        return (self.not_before is None or self.not_before <= date) and (
            self.not_after is None or date <= self.not_after
        )

    def may_relay(self, name: str) -> bool:
        """Whether its owner is believed what the node called *name* is said to have done."""
        return "*" in self.relays or name in self.relays


@dataclass(frozen=True, slots=True)
class TrustedKeys:
    """The keys that are trusted, by the name of their node."""

    by_name: Mapping[str, tuple[TrustedKey, ...]]

    def of(self, name: str) -> tuple[TrustedKey, ...]:
        """The keys of the node called *name*."""
        return self.by_name.get(name, ())

    def and_own(self, name: str, public: bytes) -> TrustedKeys:
        """These, and *public* for the node *name*, unless something is said of that key already."""
        of_name = self.of(name)
        if any(key.public == public for key in of_name):
            return self
        return TrustedKeys({**self.by_name, name: (*of_name, TrustedKey(public=public))})

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> TrustedKeys:
        """The list in a file. Raises UnusableKeyError, also where others may change it."""
        try:
            text = read_guarded(Path(path))
        except (OSError, UnicodeDecodeError) as error:
            raise UnusableKeyError(f"the list of trusted keys {path} cannot be read: {error}") from None
        return cls.parse(text, str(path))

    @classmethod
    def parse(cls, text: str, where: str = "the list of trusted keys") -> TrustedKeys:
        """The list in a text. Raises UnusableKeyError."""
        found: dict[str, tuple[TrustedKey, ...]] = {}
        for number, line in enumerate(text.splitlines(), 1):
            name, *words = line.partition("#")[0].split() or [""]
            if not name:
                continue
            place = f"{where}, line {number}"
            _add(found, name, " ".join(words), place)
        return cls(found)

    @classmethod
    def of_mapping(cls, mapping: Mapping[str, str | Iterable[str]]) -> TrustedKeys:
        """The same where each name has the rest of such a line, or several. Raises UnusableKeyError."""
        found: dict[str, tuple[TrustedKey, ...]] = {}
        for name, keys in mapping.items():
            for each in (keys,) if isinstance(keys, str) else keys:
                _add(found, name, each, f"the trusted keys of {name!r}")
        return cls(found)


def _add(found: dict[str, tuple[TrustedKey, ...]], name: object, text: object, place: str) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UnusableKeyError(f"{place}: {name!r} is no name of a node")
    if not isinstance(text, str):
        raise UnusableKeyError(f"{place}: {text!r} is no text of a key and its options")
    key, *options = text.split() or [""]
    public = _key_bytes(key, PUBLIC)
    if public is None:
        raise UnusableKeyError(f"{place}: {key[:80]!r} is no public key: it is {PUBLIC} and 44 characters of base64")
    values: dict[str, str] = {}
    for option in options:
        what, equals, value = option.partition("=")
        if what not in {"not-before", "not-after", "relays"} or not equals or not value or what in values:
            raise UnusableKeyError(f"{place}: {option!r} is none of not-before=, not-after= and relays=, each once")
        values[what] = value
    relays = frozenset(filter(None, values.get("relays", "").split(",")))
    for relayed in relays - {"*"}:
        if not _NAME.fullmatch(relayed):
            raise UnusableKeyError(f"{place}: {relayed!r} is no name of a node to relay for")
    trusted = TrustedKey(
        public=public,
        not_before=_moment(values.get("not-before"), place, end=False),
        not_after=_moment(values.get("not-after"), place, end=True),
        relays=relays,
    )
    found[name] = (*found.get(name, ()), trusted)


def _moment(text: str | None, place: str, *, end: bool) -> str | None:
    """A date of the format: *text* as it stands, or the beginning or end of the day, in UTC."""
    if text is None or is_date(text):
        return text
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        message = f"{place}: {text!r} is no day (2027-06-30) and no date of the format (2027-06-30T12:00:00.000000Z)"
        raise UnusableKeyError(message) from None
    if end:
        day += timedelta(days=1) - timedelta(microseconds=1)
    return f"{day:%Y-%m-%dT%H:%M:%S.%f}Z".rjust(27, "0")
