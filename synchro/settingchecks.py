"""System checks of the settings as a whole: names that nobody reads, values of another type, what does not go together.

What is wrong with the values of a single setting its reader in :mod:`synchro.conf` says.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from types import FunctionType
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004  Django's name
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.utils.translation import gettext as _

from synchro import conf, registry, trust
from synchro.errors import KeySettingError

_NAME = re.compile(r"SYNCHRO_[A-Z_]+\Z")
SWITCHES = ("SYNCHRO_TRIGGERS", "SYNCHRO_KEEP_PKS", "SYNCHRO_ALLOW_RESET", "SYNCHRO_DEBUG")
ACTOR = "synchro.middleware.ActorMiddleware"
_SESSION_USER = "django.contrib.auth.middleware.AuthenticationMiddleware"
_OF_ONE_DEPLOYMENT = frozenset({"contenttypes.contenttype", "sessions.session"})
_AT_ONCE = ("IMMEDIATE", "EXCLUSIVE")


def known_settings() -> frozenset[str]:
    """The names of all settings that there are: those that some reader in ``synchro.conf`` asks for."""
    readers = (each for each in vars(conf).values() if isinstance(each, FunctionType))
    constants = (constant for reader in readers for constant in reader.__code__.co_consts)
    return frozenset(name for name in constants if isinstance(name, str) and _NAME.match(name))


def check_settings(**_kwargs: Any) -> list[CheckMessage]:
    """What is wrong with the settings whatever they are used for."""
    return [
        *_unknown(),
        *_switches(),
        *_nothings(),
        *_remote(),
        *_local(),
        *_handlers(),
        *_middleware(),
        *_admin_folder(),
        *_trusting(),
    ]


def check_deployment(**_kwargs: Any) -> list[CheckMessage]:
    """What a deployment may mean to be so, and mostly does not; told by ``check --deploy``."""
    return [*_nobody(), *_locking(), *_signing()]


def _unknown() -> Iterator[CheckMessage]:
    known = known_settings()
    for name in dir(settings):
        if not name.startswith("SYNCHRO_") or name in known:
            continue
        near = difflib.get_close_matches(name, known, n=1)
        yield Warning(
            _("There is no setting %(name)s.") % {"name": name},
            hint=_("Did you mean %(near)s?") % {"near": near[0]}
            if near
            else _("There are %(names)s.") % {"names": ", ".join(sorted(known))},
            id="synchro.W050",
        )


def _switches() -> Iterator[CheckMessage]:
    for name in SWITCHES:
        value = getattr(settings, name, False)
        if not isinstance(value, bool):
            yield Error(
                _("%(name)s is %(value)r: write True or False.") % {"name": name, "value": value},
                hint=_("A text from an environment variable is true whatever it says, 'False' too."),
                id="synchro.E050",
            )


def _nothings() -> Iterator[CheckMessage]:
    """What is empty, and not in the way in which the setting could be; two settings have a check of their own."""
    for name in sorted(known_settings().difference(SWITCHES, ("SYNCHRO_NODE", "SYNCHRO_MODELS"))):
        value = getattr(settings, name, None)
        if value is False or (isinstance(value, (str, bytes)) and not value):
            yield Warning(
                _("%(name)s is %(value)r, which says nothing.") % {"name": name, "value": value},
                hint=_("Leave it out, or write what it is to say: an environment variable may be missing."),
                id="synchro.W059",
            )


def _admin_folder() -> Iterator[CheckMessage]:
    if not apps.is_installed("django.contrib.admin"):
        return
    from synchro.admin.folder import trouble  # brings the admin's models along

    try:
        found = trouble()
    except ImproperlyConfigured:
        return  # another check says so
    if found is not None:
        yield Warning(str(found), hint=found.hint, id="synchro.W060")


def _remote() -> Iterator[CheckMessage]:
    value = getattr(settings, "SYNCHRO_REMOTE", None)
    if value is not None and not isinstance(value, str):
        yield Error(
            _("SYNCHRO_REMOTE is %(value)r: write the alias of a database in DATABASES, or None.") % {"value": value},
            id="synchro.E051",
        )


def _local() -> Iterator[CheckMessage]:
    """What each deployment has for itself."""
    try:
        tracked = registry.tracked_labels()
    except ImproperlyConfigured:
        return  # another check says so
    for label in sorted(_OF_ONE_DEPLOYMENT & tracked):
        yield Warning(
            _("SYNCHRO_MODELS names %(label)s, whose rows mean something only in the deployment that made them.")
            % {"label": label},
            hint=_("Leave it out."),
            id="synchro.W055",
        )
    named = [entry[0] if isinstance(entry, (tuple, list)) and entry else entry for entry in conf.models()]
    for app in ("dbsettings", "synchro"):
        if app not in named:
            continue
        yield Warning(
            _("SYNCHRO_MODELS names %(app)r, whose tables are never tracked.") % {"app": app}, id="synchro.W056"
        )


def _handlers() -> Iterator[CheckMessage]:
    try:
        modes = conf.apply_modes()
    except ImproperlyConfigured:
        return  # another check says so
    if conf.triggers() is True and "save" in modes.values():
        yield Warning(
            _(
                "SYNCHRO_APPLY is 'save' and SYNCHRO_TRIGGERS is True: what signal handlers do is logged and "
                "travels, and where it arrives they do it once more."
            ),
            hint=_("Leave SYNCHRO_APPLY out (it is 'raw' with triggers), or be sure of these handlers."),
            id="synchro.W051",
        )


def _middleware() -> Iterator[CheckMessage]:
    middleware = list(getattr(settings, "MIDDLEWARE", ()))
    if middleware.count(ACTOR) > 1:
        yield Warning(_("%(middleware)s is in MIDDLEWARE more than once.") % {"middleware": ACTOR}, id="synchro.W052")
    near = difflib.get_close_matches(ACTOR, [each for each in middleware if each != ACTOR], n=1, cutoff=0.9)
    if near:
        yield Error(
            _("MIDDLEWARE has %(near)r.") % {"near": near[0]},
            hint=_("Did you mean %(middleware)r?") % {"middleware": ACTOR},
            id="synchro.E052",
        )


def _trusting() -> Iterator[CheckMessage]:
    try:
        keys = trust.listed()
    except (ImproperlyConfigured, KeySettingError):
        return  # another check says so
    if keys is not None and not keys.by_name:
        yield Warning(
            _("SYNCHRO_TRUSTED_KEYS names nobody: the bundles of all others are refused."),
            hint=_("Name the nodes whose bundles are to be taken, with their keys, or leave the setting out."),
            id="synchro.W057",
        )


def _signing() -> Iterator[CheckMessage]:
    try:
        required, key = conf.trusted_keys() is not None, conf.signing_key()
    except ImproperlyConfigured:
        return  # another check says so
    if required and key is None:
        yield Warning(
            _("SYNCHRO_TRUSTED_KEYS requires signatures, and without SYNCHRO_SIGNING_KEY nothing is signed here."),
            hint=_("Set it, or silence this where bundles are signed on another machine."),
            id="synchro.W058",
        )


def _nobody() -> Iterator[CheckMessage]:
    middleware = list(getattr(settings, "MIDDLEWARE", ()))
    if _SESSION_USER in middleware and ACTOR not in middleware:
        yield Warning(
            _("Who makes a change in a request is not logged."),
            hint=_("Add %(middleware)r to MIDDLEWARE, or silence this where nobody is to be named.")
            % {"middleware": ACTOR},
            id="synchro.W053",
        )


def _locking() -> Iterator[CheckMessage]:
    for connection in connections.all():
        mode = connection.settings_dict.get("OPTIONS", {}).get("transaction_mode")
        if connection.vendor == "sqlite" and str(mode).upper() not in _AT_ONCE:
            yield Warning(
                _(
                    "The database %(alias)r is an SQLite file whose transactions do not lock it from the start: of two "
                    "processes that write at once, one fails."
                )
                % {"alias": connection.alias},
                hint=_('Set OPTIONS = {"transaction_mode": "IMMEDIATE"}.'),
                id="synchro.W054",
            )
