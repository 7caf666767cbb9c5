"""Values, moments and names as people read them."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

from django.db import models
from django.utils import formats, timezone
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from changelog_format import JSONNull, parse_date
from changelog_format.history import ABSENT
from synchro import moments, registry, values
from synchro.naming import key_text

NOTHING = "—"
LONG = 2000
"""Characters of a value that are shown."""


def model_name(label: str) -> str:
    """The name of the model *label*; the label itself where it is not installed here."""
    model = registry.by_label(label)
    return label if model is None else str(capfirst(model._meta.verbose_name))


def field_of(label: str, name: str) -> models.Field[Any, Any] | None:
    """The field *name* of the model *label*, or None where there is none such here."""
    model = registry.by_label(label)
    if model is None:
        return None
    return next((each for each in [*model._meta.fields, *model._meta.many_to_many] if each.name == name), None)


def field_name(label: str, name: str) -> str:
    """What the field is called in forms."""
    field = field_of(label, name)
    return name if field is None else str(capfirst(field.verbose_name))


def value_text(label: str, name: str, value: Any) -> str:
    """*value* (as a bundle carries it) of a field, for people."""
    if value is ABSENT:
        return NOTHING
    field = field_of(label, name)
    text = _relation(value) if field is None or field.is_relation else _plain(field, value)
    return cut(text, LONG)


def cut(text: str, length: int = 100_000) -> str:
    """The beginning of *text*."""
    return text if len(text) <= length else f"{text[:length]}…"


def moment(given: dt.datetime | str | int | None) -> dt.datetime | None:
    """A moment (a date of the format, microseconds) in the time zone of the reader."""
    if given is None or given == "":
        return None
    if isinstance(given, str):
        given = parse_date(given)
    if isinstance(given, int):
        given = moments.from_microseconds(given)
    return timezone.localtime(moments.aware(given))


def moment_text(given: dt.datetime | str | int | None) -> str:
    """The same as text; a dash where there is none."""
    found = moment(given)
    return NOTHING if found is None else str(formats.date_format(found, "DATETIME_FORMAT"))


def _relation(value: Any) -> str:
    if value is None:
        return NOTHING
    return key_text(value) if isinstance(value, list) else _other(value)


def _plain(field: models.Field[Any, Any], value: Any) -> str:
    if value is None:
        return NOTHING
    try:
        decoded = values.decode(field, value)
    except values.UndecodableValueError:
        return _other(value)
    try:
        chosen = dict(field.flatchoices).get(decoded)
    except TypeError:  # a value that is no key
        chosen = None
    return str(chosen) if chosen is not None else _other(decoded)


def _other(value: Any) -> str:  # noqa: PLR0911  one kind after the other
    if isinstance(value, str):
        return value or _("(empty)")
    if isinstance(value, bool):
        return _("Yes") if value else _("No")
    if value is None or isinstance(value, JSONNull):
        return NOTHING
    if isinstance(value, dt.datetime):
        return moment_text(value)
    if isinstance(value, dt.date):
        return str(formats.date_format(value, "DATE_FORMAT"))
    if isinstance(value, (bytes, memoryview)):
        return _("%(number)d bytes") % {"number": len(value)}
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False, indent=1, default=str)
    return str(formats.localize(value))
