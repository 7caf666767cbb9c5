"""Dates as the format writes them: ``2026-11-23T10:11:12.000123Z``, always 27 characters, always UTC.

Because each has the same length and the greatest unit first, the order of the strings is the order in time.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from functools import lru_cache

__all__ = ["format_date", "is_date", "parse_date"]

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  (naive on purpose: every date here is UTC)
_FORM = re.compile(
    r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
    r"T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{6}Z"
).fullmatch
_from_iso = datetime.fromisoformat


def is_date(text: object) -> bool:
    """Whether `text` is a date of the format (SPEC R35)."""
    if type(text) is not str or _FORM(text) is None:
        return False
    if text[8:10] <= "28":
        return text[:4] != "0000"
    # Only the last days of a month need the calendar, which takes three times as long as the pattern.
    try:
        _from_iso(text[:26])
    except ValueError:
        return False
    return True


def parse_date(text: str) -> int:
    """Return the microseconds since 1970 UTC (before it, a negative number).

    Raises ValueError for anything but a date of exactly the format's form.
    """
    if not is_date(text):
        message = f"not a date of the form YYYY-MM-DDTHH:MM:SS.ffffffZ: {text!r}"
        raise ValueError(message)
    since = _from_iso(text[:26]) - _EPOCH
    return (since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds


def format_date(microseconds: int) -> str:
    """Return the date that is so many microseconds after 1970 UTC; the inverse of `parse_date`.

    Raises ValueError for moments before the year 1 or after 9999.
    """
    seconds, micro = divmod(microseconds, 1_000_000)
    try:
        return f"{_second(seconds)}.{micro:06d}Z"
    except OverflowError:
        message = f"not within the years 1 to 9999: {microseconds} microseconds"
        raise ValueError(message) from None


@lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    """The date without its fraction. Most changes share their second with others: a third of the time."""
    return (_EPOCH + timedelta(seconds=seconds)).isoformat("T", "seconds")
