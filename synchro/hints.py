"""What to do about a bundle that is not signed, sealed or encrypted as it has to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils.translation import gettext_lazy

from changelog_format import (
    BundleError,
    EncryptionError,
    ExpiredKeyError,
    RelayError,
    SignatureError,
    UnsignedError,
    UntrustedKeyError,
)

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise as StrPromise


def hint_of(error: BundleError) -> str:
    """The next step; empty where the file is damaged, or no bundle."""
    return next((str(hint) for kind, hint in _HINTS if isinstance(error, kind)), "")


_HINTS: tuple[tuple[type[BundleError], StrPromise], ...] = (
    (
        UnsignedError,
        gettext_lazy(
            "Have its writer sign it (SYNCHRO_SIGNING_KEY there), and ask how it lost its signature if it had one."
        ),
    ),
    (
        UntrustedKeyError,
        gettext_lazy("If that is its writer's key, add it to SYNCHRO_TRUSTED_KEYS; learn the key by another way."),
    ),
    (
        ExpiredKeyError,
        gettext_lazy("Have it written again with a key that is trusted at that time (see SYNCHRO_TRUSTED_KEYS)."),
    ),
    (
        RelayError,
        gettext_lazy("Get that node's own bundle, or add `relays=` with its name to the relaying node's key."),
    ),
    (SignatureError, gettext_lazy("It was changed after it was signed, or signed by somebody else. Ask for it again.")),
    (
        EncryptionError,
        gettext_lazy(
            "Give the identity that it is encrypted to (SYNCHRO_IDENTITY or --identity), or ask for it again."
        ),
    ),
)
