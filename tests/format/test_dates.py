from datetime import datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from changelog_format import format_date, parse_date

FIRST, LAST = -62135596800 * 10**6, 253402300800 * 10**6 - 1
MOMENTS = st.integers(FIRST, LAST)


@given(MOMENTS)
@example(0)
@example(-1)
@example(FIRST)
@example(LAST)
def test_back_and_forth(moment):
    text = format_date(moment)
    assert len(text) == 27
    assert parse_date(text) == moment
    assert datetime(1970, 1, 1) + timedelta(microseconds=moment) == datetime.fromisoformat(text[:-1])  # noqa: DTZ001


@given(MOMENTS, MOMENTS)
def test_the_order_of_the_texts_is_the_order_in_time(one, two):
    assert (format_date(one) < format_date(two)) == (one < two)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-23",
        "2026-11-23T10:11:12Z",
        "2026-11-23T10:11:12.123Z",
        "2026-11-23 10:11:12.000123Z",
        "2026-11-23T10:11:12,000123Z",
        "2026-11-23T10:11:12.000123z",
        "2026-11-23T10:11:12.0001234",
        "2026-11-23T10:11:12.000123Z\n",
        "2026-W47-1T10:11:12.000123Z",
        "2026-11-23T24:00:00.000000Z",
        "2026-11-23T23:59:60.000000Z",
        "2026-02-29T00:00:00.000000Z",
        "2026-04-31T00:00:00.000000Z",
        "1900-02-29T00:00:00.000000Z",
        "0000-01-01T00:00:00.000000Z",
        "2026-00-01T00:00:00.000000Z",
        "2026-01-00T00:00:00.000000Z",
        "٢٠٢٦-11-23T10:11:12.000123Z",
        "2026-11-23T10:11:12.00012\ud800Z",
    ],
)
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError, match="not a date"):
        parse_date(text)


@pytest.mark.parametrize("text", ["2024-02-29T00:00:00.000000Z", "2000-02-29T23:59:59.999999Z"])
def test_leap_days_are_dates(text):
    assert format_date(parse_date(text)) == text


@pytest.mark.parametrize("moment", [FIRST - 1, LAST + 1, 10**40, -(10**40)])
def test_years_are_1_to_9999(moment):
    with pytest.raises(ValueError, match="years 1 to 9999"):
        format_date(moment)
