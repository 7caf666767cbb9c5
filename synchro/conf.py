"""The settings, read lazily: one typed function each. Misuse is reported by :mod:`synchro.checks`."""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Literal, cast

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections
from django.utils.translation import gettext

Policy = Literal["newest", "local", "incoming", "merge", "hold", "fail"]
POLICIES: tuple[Policy, ...] = ("newest", "local", "incoming", "merge", "hold", "fail")

ApplyMode = Literal["save", "raw"]
APPLY_MODES: tuple[ApplyMode, ...] = ("save", "raw")

DEFAULT_NODE_NAME = "node"
EVERYBODY = "*"
"""In settings by destination or by node: all, or all others."""
_NOT_ASSIGNED = object()
NODE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,54}\Z")


class Withheld(Enum):
    """The one value of ``WITHHELD``."""

    WITHHELD = "withheld"

    def __repr__(self) -> str:
        return self.name


WITHHELD = Withheld.WITHHELD
"""In ``SYNCHRO_REDACT``: the field is left out, and whoever imports keeps what he has there."""


def early_gettext(text: str) -> str:
    """*text* in the active language, or as it is while apps are being loaded: until then Django cannot translate."""
    return gettext(text) if apps.apps_ready else text


_ = early_gettext


def _setting(name: str, default: Any) -> Any:
    return getattr(settings, name, default)


def assigned(name: str, default: Any = None) -> Any:
    """What somebody assigned to *name* in :mod:`synchro.settings`, as 0.2 to 0.7 allowed."""
    module = sys.modules.get("synchro.settings")
    return default if module is None else vars(module).get(name, default)


def is_assigned(name: str) -> bool:
    """Whether somebody assigned *name* in :mod:`synchro.settings`, be it None."""
    return assigned(name, _NOT_ASSIGNED) is not _NOT_ASSIGNED


def local() -> str:
    """The database whose changes ``synchronize`` brings to REMOTE."""
    return cast("str", assigned("LOCAL", DEFAULT_DB_ALIAS))


def node_name(using: str = DEFAULT_DB_ALIAS) -> str:
    """How the deployment that owns database *using* is called.

    ``SYNCHRO_NODE`` names this deployment, which owns the default database. Any other database belongs to somebody else
    (it is what ``SYNCHRO_REMOTE`` points to) and goes by its alias until it says its own name.
    """
    if using != DEFAULT_DB_ALIAS:
        return re.sub(r"[^A-Za-z0-9._-]", "-", using).lstrip("._-")[:55] or DEFAULT_NODE_NAME
    name = _setting("SYNCHRO_NODE", None) or DEFAULT_NODE_NAME
    if not isinstance(name, str) or not NODE_NAME.match(name):
        message = _(
            "SYNCHRO_NODE is %(name)r: use 1 to 55 letters, digits, dots, dashes and underscores, beginning with "
            "a letter or a digit."
        ) % {"name": name}
        raise ImproperlyConfigured(message)
    return name


def models() -> Sequence[Any]:
    """``SYNCHRO_MODELS`` as it was written; :mod:`synchro.registry` gives it its meaning."""
    value = _setting("SYNCHRO_MODELS", ()) or ()
    if not isinstance(value, (str, tuple, list, set, frozenset)):
        message = _("SYNCHRO_MODELS is %(value)r: write a tuple of apps, or of tuples of an app and its models.") % {
            "value": value
        }
        raise ImproperlyConfigured(message)
    return (value,) if isinstance(value, str) else tuple(value)


def has_remote_setting() -> bool:
    """Whether the project says what its REMOTE is, be it None."""
    return is_assigned("REMOTE") or hasattr(settings, "SYNCHRO_REMOTE")


def warn_without_remote(stacklevel: int = 2) -> bool:
    """Whether ``SYNCHRO_REMOTE`` is absent, which is then warned of (``RuntimeWarning``)."""
    absent = not has_remote_setting()
    if absent:
        warnings.warn(
            _(
                "SYNCHRO_REMOTE is not set: changes are logged, but there is no database to synchronize to. "
                "Set it to None to say that this is meant."
            ),
            RuntimeWarning,
            stacklevel=stacklevel + 1,
        )
    return absent


def remote() -> str | None:
    """The database alias in ``SYNCHRO_REMOTE``, or None when there is no REMOTE.

    Warns (``RuntimeWarning``) when the setting is absent; raises ``ImproperlyConfigured`` when it names no database.
    """
    if warn_without_remote():
        return None
    alias = _remote()
    if alias is None:
        return None
    if alias not in connections:
        message = _("SYNCHRO_REMOTE is %(alias)r, but DATABASES has no such alias.") % {"alias": alias}
        raise ImproperlyConfigured(message)
    return cast("str", alias)


def _remote() -> Any:
    return assigned("REMOTE") if is_assigned("REMOTE") else _setting("SYNCHRO_REMOTE", None)


def configured_remote() -> str | None:
    """The database alias in ``SYNCHRO_REMOTE`` if it names one, without a word about it otherwise."""
    alias = _remote()
    return alias if isinstance(alias, str) and alias in connections else None


def _lowered(name: str) -> dict[str, Any]:
    value = _setting(name, None) or {}
    if not isinstance(value, Mapping):
        message = _("%(name)s must be a mapping of model labels, not %(kind)s.") % {
            "name": name,
            "kind": type(value).__name__,
        }
        raise ImproperlyConfigured(message)
    return {str(label).lower(): entry for label, entry in value.items()}


def _names(setting: str, label: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, (tuple, list, set, frozenset)) or not all(isinstance(name, str) for name in value):
        message = _("%(setting)s has %(value)r for %(label)s: write the names of fields.") % {
            "setting": setting,
            "value": value,
            "label": label,
        }
        raise ImproperlyConfigured(message)
    return tuple(value)


def skip_fields() -> Mapping[str, tuple[str, ...]]:
    """``SYNCHRO_SKIP_FIELDS``: model label (lower case) → fields that do not travel, for models one cannot edit."""
    name = "SYNCHRO_SKIP_FIELDS"
    return {label: _names(name, label, fields) for label, fields in _lowered(name).items()}


def model_versions() -> Mapping[str, int]:
    """``SYNCHRO_VERSIONS``: model label (lower case) → version, for models one cannot edit."""
    found = _lowered("SYNCHRO_VERSIONS")
    for label, version in found.items():
        if type(version) is not int or version < 1:
            message = _("SYNCHRO_VERSIONS has %(version)r for %(label)s: write a whole number from 1 up.") % {
                "version": version,
                "label": label,
            }
            raise ImproperlyConfigured(message)
    return found


def natural_keys() -> Mapping[str, tuple[str, ...] | None]:
    """``SYNCHRO_NATURAL_KEYS``: model label (lower case) → fields of its natural key, or None for "has none"."""
    name = "SYNCHRO_NATURAL_KEYS"
    return {label: None if fields is None else _names(name, label, fields) for label, fields in _lowered(name).items()}


def conflict_policies() -> Mapping[str, Policy]:
    """``SYNCHRO_CONFLICT``: model label (lower case) → policy; the key ``""`` is the default for all models.

    The setting may be a policy name, or a mapping of labels (and ``"*"``) to policy names.
    """
    value = _setting("SYNCHRO_CONFLICT", None)
    if value is None:
        return {}
    entries: dict[str, Any] = (
        {"": value}
        if isinstance(value, str)
        else {label.replace("*", ""): policy for label, policy in _lowered("SYNCHRO_CONFLICT").items()}
    )
    for policy in entries.values():
        if policy not in POLICIES:
            message = _("SYNCHRO_CONFLICT has %(policy)r: use one of %(known)s.") % {
                "policy": policy,
                "known": ", ".join(POLICIES),
            }
            raise ImproperlyConfigured(message)
    return entries


def triggers() -> bool:
    """``SYNCHRO_TRIGGERS``: whether triggers in the database note every write to the tracked tables (default: no)."""
    return bool(_setting("SYNCHRO_TRIGGERS", False))


def apply_mode(label: str) -> ApplyMode:
    """``SYNCHRO_APPLY`` for the model *label*: ``"save"`` through the model, or ``"raw"`` past handlers.

    The default is ``"save"``, as what handlers do is not logged; with triggers it is, and the default is ``"raw"``.
    """
    modes = apply_modes()
    return modes.get(label, modes.get("", "raw" if triggers() else "save"))


def apply_modes() -> Mapping[str, ApplyMode]:
    """``SYNCHRO_APPLY``: model label (lower case) → mode; the key ``""`` is the default for all models.

    The setting may be a mode, or a mapping of labels (and ``"*"``) to modes.
    """
    value = _setting("SYNCHRO_APPLY", None) or {}
    entries: dict[str, Any] = (
        {"": value}
        if isinstance(value, str)
        else {label.replace("*", ""): mode for label, mode in _lowered("SYNCHRO_APPLY").items()}
    )
    for mode in entries.values():
        if mode not in APPLY_MODES:
            message = _("SYNCHRO_APPLY has %(mode)r: use one of %(known)s.") % {
                "mode": mode,
                "known": ", ".join(APPLY_MODES),
            }
            raise ImproperlyConfigured(message)
    return entries


def accept() -> Mapping[str, Sequence[Any]] | None:
    """``SYNCHRO_ACCEPT``: node name → what its changes may be about, written as ``SYNCHRO_MODELS``; ``"*"`` for others.

    None where the setting is absent: everything that is tracked is accepted from everybody.
    """
    value = _setting("SYNCHRO_ACCEPT", None)
    if value is None:
        return None
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        message = _("SYNCHRO_ACCEPT is %(value)r: write a mapping of node names to apps and models.") % {"value": value}
        raise ImproperlyConfigured(message)
    for name, entries in value.items():
        if not isinstance(entries, (tuple, list, set, frozenset)):
            message = _("SYNCHRO_ACCEPT has %(entries)r for %(name)r: write a list, as in SYNCHRO_MODELS.") % {
                "entries": entries,
                "name": name,
            }
            raise ImproperlyConfigured(message)
    return {name: tuple(entries) for name, entries in value.items()}


def signing_key() -> str | os.PathLike[str] | None:
    """``SYNCHRO_SIGNING_KEY``: the path of a key file, ``env:NAME``, or the secret key; None: nothing is signed."""
    value = _setting("SYNCHRO_SIGNING_KEY", None)
    if value is not None and (not isinstance(value, (str, os.PathLike)) or not str(value)):
        message = _("SYNCHRO_SIGNING_KEY is no text: write the path of a key file, or 'env:NAME'.")
        raise ImproperlyConfigured(message)
    return value


def trusted_keys() -> dict[str, tuple[str, ...]] | str | os.PathLike[str] | None:
    """``SYNCHRO_TRUSTED_KEYS``: node name → its public keys with their options, or the path of a list of such.

    None where the setting is absent: signatures are not required. An empty mapping trusts nobody.
    """
    value = _setting("SYNCHRO_TRUSTED_KEYS", None)
    if value is None or (isinstance(value, (str, os.PathLike)) and str(value)):
        return value
    if not isinstance(value, Mapping):
        message = _("SYNCHRO_TRUSTED_KEYS is %(value)r: write a mapping of node names to public keys, or a path.") % {
            "value": value
        }
        raise ImproperlyConfigured(message)
    found: dict[str, tuple[str, ...]] = {}
    for name, keys in value.items():
        found[name] = (keys,) if isinstance(keys, str) else tuple(_texts("SYNCHRO_TRUSTED_KEYS", name, keys))
    return found


def recipients(destination: str) -> tuple[str, ...]:
    """``SYNCHRO_RECIPIENTS`` for bundles to *destination*: recipients of age, or paths of files of them.

    The setting is a list for all destinations, or a mapping of destinations (and ``"*"``) to lists.
    """
    by_destination = recipients_by_destination()
    return by_destination.get(destination, by_destination.get("*", ()))


def recipients_by_destination() -> Mapping[str, tuple[str, ...]]:
    """``SYNCHRO_RECIPIENTS`` whole; ``"*"`` is all other destinations."""
    name = "SYNCHRO_RECIPIENTS"
    value = _setting(name, None) or ()
    if not isinstance(value, Mapping):
        value = {"*": value}
    return {str(key): _texts(name, key, [each] if isinstance(each, str) else each) for key, each in value.items()}


def identities() -> tuple[str | os.PathLike[str], ...]:
    """``SYNCHRO_IDENTITY``: paths of identity files of age, or ``env:NAME``, one or several."""
    value = _setting("SYNCHRO_IDENTITY", None) or ()
    several = (value,) if isinstance(value, (str, os.PathLike)) else value
    if not isinstance(several, (tuple, list)) or not all(isinstance(each, (str, os.PathLike)) for each in several):
        message = _(
            "SYNCHRO_IDENTITY is no text: write the path of an identity file, or 'env:NAME', or a list of these."
        )
        raise ImproperlyConfigured(message)
    return tuple(several)


def _texts(setting: str, name: object, value: Any) -> tuple[str, ...]:
    if not isinstance(value, (tuple, list)) or not all(isinstance(each, str) for each in value):
        message = _("%(setting)s has %(value)r for %(name)r: write texts of keys.") % {
            "setting": setting,
            "value": value,
            "name": name,
        }
        raise ImproperlyConfigured(message)
    return tuple(value)


def redactions() -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    """``SYNCHRO_REDACT``: destination (``"*"``: each) → model label (lower case) → field → what stands for its values.

    That is ``WITHHELD``, a value, a callable, or the dotted path of one.
    """
    value = _setting("SYNCHRO_REDACT", None) or {}
    example = {"write": "{destination: {'app_label.model': {field: WITHHELD}}}"}
    if not isinstance(value, Mapping) or not all(isinstance(name, str) and name for name in value):
        raise ImproperlyConfigured(_("SYNCHRO_REDACT is %(value)r: write %(write)s.") % {"value": value, **example})
    found: dict[str, Mapping[str, Mapping[str, Any]]] = {}
    for destination, models_ in value.items():
        if not isinstance(models_, Mapping) or not all(
            isinstance(label, str) and isinstance(fields, Mapping) and all(isinstance(name, str) for name in fields)
            for label, fields in models_.items()
        ):
            text = _("SYNCHRO_REDACT has %(value)r for %(destination)r: write %(write)s.")
            raise ImproperlyConfigured(text % {"value": models_, "destination": destination, **example})
        found[destination] = {label.lower(): dict(fields) for label, fields in models_.items() if fields}
    return found


def keep_pks() -> bool:
    """``SYNCHRO_KEEP_PKS``: whether new objects keep the automatic primary keys of their birthplace where they can."""
    return bool(_setting("SYNCHRO_KEEP_PKS", False))


def admin_folder() -> Path | None:
    """``SYNCHRO_ADMIN_FOLDER``: where bundles wait that go through the browser; None for one below the system's."""
    value = _setting("SYNCHRO_ADMIN_FOLDER", None)
    if value is None:
        return None
    if not isinstance(value, (str, Path)) or not str(value):
        raise ImproperlyConfigured(
            _("SYNCHRO_ADMIN_FOLDER is %(value)r: write the path of a folder.") % {"value": value}
        )
    return Path(value)


def upload_limit() -> int:
    """``SYNCHRO_UPLOAD_LIMIT``: how many bytes a bundle may have that is uploaded in the admin (default: 1 GB)."""
    value = _setting("SYNCHRO_UPLOAD_LIMIT", 10**9)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ImproperlyConfigured(_("SYNCHRO_UPLOAD_LIMIT is %(value)r: write a number of bytes.") % {"value": value})
    return value


def allow_reset() -> bool:
    """``SYNCHRO_ALLOW_RESET``: whether the admin view offers the reset button (default: yes)."""
    return bool(assigned("ALLOW_RESET", _setting("SYNCHRO_ALLOW_RESET", True)))


def debug() -> bool:
    """``SYNCHRO_DEBUG``: with ``DEBUG``, let the admin view show the traceback of a failed synchronization."""
    if is_assigned("DEBUG"):
        return bool(assigned("DEBUG"))
    return bool(_setting("SYNCHRO_DEBUG", False)) and settings.DEBUG
