"""Moments as the project has them: with a time zone under ``USE_TZ``, otherwise naive in ``TIME_ZONE``."""

from __future__ import annotations

import datetime as dt

from django.conf import settings
from django.utils import timezone


def aware(moment: dt.datetime) -> dt.datetime:
    """*moment* with a time zone; without one it is what ``datetime.now()`` gives, in ``TIME_ZONE``."""
    return moment if timezone.is_aware(moment) else timezone.make_aware(moment, timezone.get_default_timezone())


def as_project_has_it(moment: dt.datetime) -> dt.datetime:
    """*moment* as the project's own code would compare it and as its database takes it."""
    if settings.USE_TZ:
        return aware(moment)
    return timezone.make_naive(moment, timezone.get_default_timezone()) if timezone.is_aware(moment) else moment


def from_microseconds(microseconds: int) -> dt.datetime:
    """The moment of a change's date."""
    return as_project_has_it(dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=microseconds))
