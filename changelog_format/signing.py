"""Signatures of bundles: Ed25519 over what a bundle says of itself and the digest of all of it (SPEC R72 to R77).

Needs the library ``cryptography`` (the extra ``signing``), which is imported when a key is used.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import (
    ExpiredKeyError,
    MissingExtraError,
    RelayError,
    SignatureError,
    UnsignedError,
    UntrustedKeyError,
)
from .forms import shown
from .keys import KEY_SIZE, SECRET, UnusableKeyError, node_name, public_text, read_secret_key, read_secrets, secret_text

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from .header import Header
    from .keys import TrustedKey, TrustedKeys
    from .records import Trailer

__all__ = [
    "Signer",
    "check_relayed",
    "check_signature",
    "check_signed",
    "generate_key",
    "signed_message",
    "signing_key_of",
    "unvouched",
]

ALGORITHM = "ed25519"
DOMAIN = "synchro-changelog/signature/ed25519/1"
SIGNATURE_SIZE = 64
_KEYS = frozenset({"algorithm", "key", "value"})


def _library() -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise MissingExtraError(
            "signatures need the library cryptography: run `pip install django-synchro[signing]`"
        ) from None
    return ed25519


def signed_message(header: Header, *, records: int, sha256: str) -> bytes:
    """The bytes that are signed: each part with its length before it, so that nothing can move from one to the other.

    The digest covers the header, too. What a verifier goes by is named once more, so that no signature made for one
    purpose can be taken for another.
    """
    parts = (
        DOMAIN,
        str(header.version),
        header.node.id,
        header.node.name,
        header.bundle,
        header.created,
        str(records),
        sha256,
    )
    encoded = [part.encode("utf-8") for part in parts]
    return b"".join(len(part).to_bytes(8, "big") + part for part in encoded)


def generate_key() -> tuple[str, str]:
    """A new key, as the texts of its secret and its public half."""
    key = _library().Ed25519PrivateKey.generate()
    return secret_text(key.private_bytes_raw()), public_text(key.public_key().public_bytes_raw())


class Signer:
    """Signs bundles with one secret key. `public` is the other half."""

    def __init__(self, secret: bytes) -> None:
        self._key: Ed25519PrivateKey = _library().Ed25519PrivateKey.from_private_bytes(secret)
        self.public: bytes = self._key.public_key().public_bytes_raw()

    @classmethod
    def load(cls, source: str | os.PathLike[str]) -> Signer:
        """The key that *source* is or names (see `keys`). Raises UnusableKeyError and MissingExtraError."""
        secrets = read_secrets(source, SECRET)
        if len(secrets) != 1:
            raise UnusableKeyError(f"there are {len(secrets)} keys to sign with, where one is needed")
        return cls(read_secret_key(secrets[0]))

    def sign(self, message: bytes) -> dict[str, Any]:
        """The signature of *message* as the object that stands in a trailer."""
        return {
            "algorithm": ALGORITHM,
            "key": base64.b64encode(self.public).decode("ascii"),
            "value": base64.b64encode(self._key.sign(message)).decode("ascii"),
        }

    def signature(self, header: Header, *, records: int, sha256: str) -> dict[str, Any]:
        """The object for the trailer of the bundle."""
        return self.sign(signed_message(header, records=records, sha256=sha256))


@dataclass(frozen=True, slots=True)
class _Signature:
    key: bytes
    value: bytes


def _parsed(signature: Mapping[str, Any]) -> _Signature:
    if signature.get("algorithm") != ALGORITHM:
        what = shown(signature.get("algorithm"))
        raise SignatureError(f"the signature's algorithm is {what}, this reader knows {ALGORITHM!r}", rule="R72")
    if signature.keys() != _KEYS:
        raise SignatureError(f"the signature does not have just the keys {', '.join(sorted(_KEYS))}", rule="R72")
    return _Signature(_bytes(signature, "key", KEY_SIZE), _bytes(signature, "value", SIGNATURE_SIZE))


def _bytes(signature: Mapping[str, Any], name: str, size: int) -> bytes:
    text = signature[name]
    try:
        data = base64.b64decode(text, validate=True) if type(text) is str else b""
    except (binascii.Error, ValueError):
        data = b""
    if len(data) != size or base64.b64encode(data).decode("ascii") != text:
        raise SignatureError(f"the signature's {name} is not {size} bytes in base64", rule="R72")
    return data


def signing_key_of(trailer: Trailer) -> str | None:
    """The public key by which the bundle says that it is signed: a claim. None where it has no signature.

    Raises SignatureError.
    """
    return None if trailer.signature is None else public_text(_parsed(trailer.signature).key)


def check_signature(header: Header, trailer: Trailer, trusted: TrustedKeys) -> TrustedKey:
    """Check that the bundle was signed with a key that is trusted for the node that it says it is of; return that key.

    *trailer* is of a bundle that was read to its end. Raises SignatureError or one of its kinds.
    """
    return check_signed(
        trailer.signature,
        signed_message(header, records=trailer.records, sha256=trailer.sha256),
        what=f"bundle of {header.node.id}",
        name=node_name(header.node.id),
        created=header.created,
        trusted=trusted,
    )


def check_signed(
    signature: Mapping[str, Any] | None, message: bytes, *, what: str, name: str, created: str, trusted: TrustedKeys
) -> TrustedKey:
    """Check that *signature* is over *message*, by a key that was trusted for the node called *name* when it was made.

    *what* is how errors call it. Raises SignatureError or one of its kinds.
    """
    if signature is None:
        raise UnsignedError(f"the {what} is not signed, and signatures are required", rule="R73")
    parsed = _parsed(signature)
    found = [key for key in trusted.of(name) if key.public == parsed.key]
    if not found:
        others = sorted(other for other, keys in trusted.by_name.items() if any(k.public == parsed.key for k in keys))
        whose = f" but one of {', '.join(others)[:80]}" if others else ""
        key = public_text(parsed.key)
        raise UntrustedKeyError(f"the {what} is signed with {key}, no key of {name}{whose}", rule="R74")
    if not verifies(parsed.key, parsed.value, message):
        raise SignatureError(f"the signature of the {what} is not by {public_text(parsed.key)} over it", rule="R76")
    valid = [key for key in found if key.covers(created)]
    if not valid:
        bounds = "; ".join(f"from {key.not_before or 'ever'} to {key.not_after or 'ever'}" for key in found)
        raise ExpiredKeyError(
            f"the {what} was written {created}, and its key {found[0]} is trusted {bounds}", rule="R75"
        )
    return valid[0]


def verifies(public: bytes, value: bytes, message: bytes) -> bool:
    """Whether *value* is the signature over *message* by the key *public*. Raises MissingExtraError."""
    library = _library()
    from cryptography.exceptions import InvalidSignature

    try:
        library.Ed25519PublicKey.from_public_bytes(public).verify(value, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def check_relayed(header: Header, key: TrustedKey, origin: str) -> None:
    """Check that the owner of *key*, who signed the bundle, may pass on a change of the node *origin*.

    What it signs of its own name, also under an earlier id, it vouches for itself. Raises RelayError.
    """
    if unvouched(header, {origin: 1}, key):
        raise RelayError(
            f"{header.node.id} passes on a change of {origin}, and its key is not trusted to relay for "
            f"{node_name(origin)}",
            rule="R77",
        )


def unvouched(header: Header, relayed: Mapping[str, int], key: TrustedKey) -> dict[str, int]:
    """Of the nodes in *relayed* those for which the owner of *key*, who signed the bundle, is not trusted to speak."""
    sender = node_name(header.node.id)
    return {
        origin: count
        for origin, count in relayed.items()
        if (name := node_name(origin)) != sender and not key.may_relay(name)
    }
