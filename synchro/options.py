"""What operators may change while the project runs, kept by django-dbsettings.

dbsettings swallows errors, so nothing that correctness rests on lives here: a lost option changes how the next run
behaves, never what was sent or taken.
"""

from __future__ import annotations

import datetime as dt
from functools import partial
from typing import Any

import dbsettings
from dbsettings.loading import _get_cache_key, get_setting_storage, set_setting_value
from dbsettings.values import Value
from django import forms
from django.core.cache import cache
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext_lazy as _

from synchro import conf, moments

DEFAULT_TOLERANCE_SECONDS = 300
DEFAULT_LEVEL = 3
MAX_LEVEL = 19


class Fresh(Value):  # type: ignore[misc]  # dbsettings has no types
    """A value that is read and written past dbsettings' cache.

    What that holds may be stale: other processes write too, and transactions are rolled back. Besides, dbsettings does
    not write a value that equals the cached one, and writes a second row where it has cached that there is none.
    """

    def __get__(self, instance: object = None, owner: type | None = None) -> Any:
        if instance is not None:
            self._forget()
        return super().__get__(instance, owner)

    def __set__(self, instance: object, value: object) -> None:
        self._forget()
        set_setting_value(*self.key, value)

    def to_editor(self, _value: Any) -> str:
        return str(super().to_editor(self._stored()))

    def _forget(self) -> None:
        cache.delete(_get_cache_key(*self.key))

    def _stored(self) -> Any:
        self._forget()
        return get_setting_storage(*self.key).value


class UTCDateTimeValue(Fresh, dbsettings.DateTimeValue):  # type: ignore[misc]  # dbsettings has no types
    """A date and time kept as ISO 8601 in UTC with its microseconds, given as the project has them (``USE_TZ``).

    dbsettings' own value drops time zone and microseconds and stores the active locale's format, which another locale
    then reads as another date.
    """

    def to_python(self, value: Any) -> dt.datetime | None:
        if isinstance(value, str):
            value = parse_datetime(value)
        return moments.as_project_has_it(value) if isinstance(value, dt.datetime) else None

    def get_db_prep_save(self, value: Any, **_kwargs: Any) -> str:
        moment = self.to_python(value)
        return "" if moment is None else moments.aware(moment).astimezone(dt.UTC).isoformat()

    def to_editor(self, _value: Any) -> str:
        moment = self.to_python(self._stored())
        return "" if moment is None else timezone.localtime(moments.aware(moment)).isoformat(sep=" ")


class StringValue(Fresh, dbsettings.StringValue):  # type: ignore[misc]  # dbsettings has no types
    """Text."""


class PositiveIntegerValue(Fresh, dbsettings.PositiveIntegerValue):  # type: ignore[misc]  # dbsettings has no types
    """A whole number from 0."""


class LevelValue(PositiveIntegerValue):
    """A level of zstd."""

    field = staticmethod(partial(forms.IntegerField, min_value=1, max_value=MAX_LEVEL))


class SynchroSettings(dbsettings.Group):  # type: ignore[misc]  # dbsettings has no types
    """The options, each readable and assignable as an attribute; None where dbsettings could not read it."""

    last_check = UTCDateTimeValue(_("Last synchronization"), required=False)
    conflict_policy = StringValue(
        _("Conflict policy"),
        help_text=_("Who wins where neither SYNCHRO_CONFLICT nor the command says it."),
        choices=[(name, name) for name in conf.POLICIES],
        default="newest",
    )
    clock_tolerance = PositiveIntegerValue(
        _("Clock tolerance (seconds)"),
        help_text=_("Changes dated further in the future than this are refused."),
        default=DEFAULT_TOLERANCE_SECONDS,
    )
    compression_level = LevelValue(
        _("Compression level"), help_text=_("zstd level of the bundles, 1 to 19."), default=DEFAULT_LEVEL
    )
