"""Who wrote a bundle, and who may read it: the keys that the settings name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import orjson
from django.utils.translation import gettext as _

from changelog_format import (
    Header,
    Identities,
    MissingExtraError,
    Recipients,
    Signer,
    Trailer,
    TrustedKey,
    TrustedKeys,
    UnusableKeyError,
    check_relayed,
    check_signature,
)
from changelog_format.keys import node_name
from changelog_format.signing import check_signed
from synchro import conf
from synchro.errors import KeySettingError

Sources = Sequence[str | os.PathLike[str]]
REQUEST_DOMAIN = "synchro-request/signature/ed25519/1"


@contextmanager
def _setting(name: str) -> Iterator[None]:
    try:
        yield
    except (UnusableKeyError, MissingExtraError) as error:
        raise KeySettingError(f"{name}: {error}.", hint=_("Nothing was written and nothing was imported.")) from error


def signer() -> Signer | None:
    """What signs bundles here. Raises ``KeySettingError``."""
    source = conf.signing_key()
    if source is None:
        return None
    with _setting("SYNCHRO_SIGNING_KEY"):
        return Signer.load(source)


def trusted() -> TrustedKeys | None:
    """Whose signatures are required; None where none are. Raises ``KeySettingError``.

    The key by which this deployment signs is trusted for its own name: its bundles come back from archives.
    """
    keys = listed()
    own = None if keys is None else signer()
    return keys if keys is None or own is None else keys.and_own(conf.node_name(), own.public)


def listed() -> TrustedKeys | None:
    """``SYNCHRO_TRUSTED_KEYS`` as it is; None where it is absent. Raises ``KeySettingError``."""
    value = conf.trusted_keys()
    if value is None:
        return None
    with _setting("SYNCHRO_TRUSTED_KEYS"):
        return TrustedKeys.of_mapping(value) if isinstance(value, dict) else TrustedKeys.read(value)


def recipients(destination: str, asked: Sequence[str] = ()) -> Recipients | None:
    """To whom bundles for *destination* are encrypted: those *asked* for, else those of the settings.

    Raises ``KeySettingError``, also where the settings name destinations and say nothing of this one: a name that was
    mistyped, or left out, is no reason to write what others can read.
    """
    named = conf.recipients_by_destination()
    if named and not asked and destination not in named and "*" not in named:
        raise KeySettingError(
            _("SYNCHRO_RECIPIENTS says nothing of %(destination)r, whose bundle everybody could read.")
            % {"destination": destination},
            hint=_('Name its recipients there, or add "*": [] to write all other bundles unencrypted.'),
        )
    texts = tuple(asked) or conf.recipients(destination)
    if not texts:
        return None
    with _setting(_("The recipients")):
        return Recipients(texts)


def identities(asked: Sources = ()) -> Identities | None:
    """By what encrypted bundles are read: those *asked* for, else those of the settings. Raises ``KeySettingError``."""
    sources = tuple(asked) or conf.identities()
    if not sources:
        return None
    with _setting(_("The identities")):
        return Identities(sources)


class Voucher:
    """Who vouches for the changes of one bundle.

    Making it raises ``changelog_format.SignatureError`` where signatures are required and the bundle's is not in order.
    """

    def __init__(self, header: Header, trailer: Trailer) -> None:
        keys = trusted()
        self._header = header
        self._key: TrustedKey | None = None
        if keys is not None:
            with _setting("SYNCHRO_TRUSTED_KEYS"):
                self._key = check_signature(header, trailer, keys)
        self._vouched: set[str] = set()

    def check(self, origin: str) -> None:
        """Raise ``changelog_format.RelayError`` where a change that *origin* made cannot be taken from this bundle."""
        if self._key is not None and origin not in self._vouched:
            check_relayed(self._header, self._key, origin)
            self._vouched.add(origin)


def signed_request(data: dict[str, Any]) -> dict[str, Any]:
    """The request *data* with a signature, where there is a key to sign with."""
    own = signer()
    return data if own is None else {**data, "signature": own.sign(_request_message(data))}


def check_request(data: dict[str, Any], ident: str, created: str) -> None:
    """Raise ``changelog_format.SignatureError`` where signatures are required and that of the request is not in order.

    *ident* is the id of the node that asks, or its name where it has none yet.
    """
    keys = trusted()
    if keys is None:
        return
    unsigned = {name: value for name, value in data.items() if name != "signature"}
    signature = data.get("signature")
    check_signed(
        signature if isinstance(signature, dict) else None,
        _request_message(unsigned),
        what=f"request of {ident}",
        name=node_name(ident) or ident,
        created=created,
        trusted=keys,
    )


def _request_message(data: dict[str, Any]) -> bytes:
    return REQUEST_DOMAIN.encode() + b"\0" + orjson.dumps(data, option=orjson.OPT_SORT_KEYS)


Vouch = Callable[[str], None]
