import copy
import enum
import math
import pickle
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from changelog_format import JSON_NULL, JSONNull, Range, ValueFormError, decode_value, encode_value

# Any string of UTF-16 units; a pair of surrogates is the character that it makes, so there are none.
SURROGATES = st.characters(categories=["Cs"])
STRINGS = st.text() | st.text(st.characters(exclude_categories=[]) | SURROGATES).map(
    lambda text: text.encode("utf-16-be", "surrogatepass").decode("utf-16-be", "surrogatepass")
)
ENDS = st.none() | st.integers() | st.floats(allow_nan=False) | st.text()
RANGES = st.just(Range(empty=True)) | st.builds(
    Range, lower=ENDS, upper=ENDS, bounds=st.sampled_from(["[]", "[)", "(]", "()"])
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**66), 2**66)
    | st.floats(allow_nan=False)
    | STRINGS
    | st.binary()
    | st.timedeltas()
    | st.just(JSON_NULL)
    | RANGES
)
NAMES = STRINGS | st.sampled_from(["$", "$$", "$int", "$json", "$$bytes", "$utf16", "$object"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=20,
)


def same(one, two):
    """Equal, of the same types, with the sign of zero."""
    return type(one) is type(two) and one == two and repr(one) == repr(two)


@given(VALUES)
@example({"$": 1})
@example({"$$int": {"$int": "1"}})
@example({"\ud800": 1, "a": {"$x": "\udfff"}})
@example([2**63, -(2**63) - 1, 2**63 - 1, -(2**63)])
@example(-0.0)
@example(timedelta.min)
@example(timedelta.max)
def test_what_is_decoded_is_what_was_encoded(value):
    encoded = encode_value(value)
    line = orjson.dumps(encoded)
    assert orjson.loads(line) == encoded
    assert same(decode_value(encoded), value)
    assert orjson.dumps(encode_value(decode_value(encoded))) == line


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (2**64, {"$int": "18446744073709551616"}),
        (-(2**63) - 1, {"$int": "-9223372036854775809"}),
        (float("nan"), {"$float": "NaN"}),
        (-math.inf, {"$float": "-Infinity"}),
        (b"\x00\xff", {"$bytes": "AP8="}),
        (bytearray(b"a"), {"$bytes": "YQ=="}),
        (memoryview(b"a"), {"$bytes": "YQ=="}),
        (timedelta(days=1, hours=2, seconds=3, microseconds=4), {"$duration": "P1DT02H00M03.000004S"}),
        (timedelta(seconds=-1), {"$duration": "-P0DT00H00M01S"}),
        (timedelta.min, {"$duration": "-P999999999DT00H00M00S"}),
        (JSON_NULL, {"$json": None}),
        ("\ud800", {"$utf16": "2AA="}),
        ("\ud83d\ude00", "😀"),
        ({"$int": 5}, {"$$int": 5}),
        ({"$a": 1, "b": 2}, {"$a": 1, "b": 2}),
        ({"\ud800": 1}, {"$object": [[{"$utf16": "2AA="}, 1]]}),
        (Range(lower=1, upper=None), {"$range": {"lower": 1, "upper": None, "bounds": "[)"}}),
        (
            Range(lower=date(2026, 1, 2), upper=date(2026, 1, 3)),
            {"$range": {"lower": "2026-01-02", "upper": "2026-01-03", "bounds": "[)"}},
        ),
        (Range(empty=True), {"$range": "empty"}),
        (Decimal("1200.50"), "1200.50"),
        (Decimal("1E+3"), "1000"),
        (Decimal("1E-7"), "0.0000001"),
        (Decimal("-0.00"), "-0.00"),
        (Decimal("NaN"), "NaN"),
        (Decimal("Infinity"), "Infinity"),
        (date(2026, 1, 2), "2026-01-02"),
        (date(7, 1, 2), "0007-01-02"),
        (datetime(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05"),  # noqa: DTZ001
        (datetime(2026, 1, 2, 3, 4, 5, 60, tzinfo=UTC), "2026-01-02T03:04:05.000060Z"),
        (datetime(2026, 1, 2, 3, tzinfo=timezone(timedelta(hours=2))), "2026-01-02T01:00:00Z"),
        (time(3, 4), "03:04:00"),
        (time(3, 4, 5, 6), "03:04:05.000006"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ((1, 2), [1, 2]),
    ],
)
def test_encodings(value, encoded):
    assert same(encode_value(value), encoded)
    decode_value(encoded)


class Colour(enum.StrEnum):
    RED = "red"


class Size(enum.IntEnum):
    BIG = 2**70
    SMALL = 3


class Shouting(str):
    __slots__ = ()

    def __str__(self):
        return self.upper()


def test_subclasses_become_what_they_are():
    for value, plain in [(Colour.RED, "red"), (Size.SMALL, 3), (Shouting("a"), "a")]:
        assert same(encode_value(value), plain)
    assert encode_value(Size.BIG) == {"$int": str(2**70)}
    assert same(encode_value({Colour.RED: Colour.RED}), {"red": "red"})


@pytest.mark.parametrize("value", [object(), {1}, 1j, print, {1: 2}, {None: 1}, [object()], {"a": frozenset()}])
def test_other_types_are_refused_by_name(value):
    with pytest.raises(TypeError, match=r"of type .* cannot be carried"):
        encode_value(value)


@pytest.mark.parametrize(
    "value",
    [
        Decimal("1E+999999999"),
        Decimal("1E-999999999"),
        10**5000,
        time(1, tzinfo=UTC),
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=2))),
        Range(lower=1, bounds="[["),
        Range(lower=1, empty=True),
        Range(lower=[1]),
        {"\ud83d\ude00": 1, "😀": 2},
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_that_cannot_be_carried(value):
    with pytest.raises(ValueError):
        encode_value(value)


def nested(depth):
    value = []
    for _ in range(depth - 1):
        value = [value]
    return value


def test_nesting_is_bounded():
    assert decode_value(encode_value(nested(96))) == nested(96)
    endless = []
    endless.append(endless)
    for value in (nested(97), endless):
        with pytest.raises(ValueFormError, match="deeper than 96"):
            encode_value(value)
    with pytest.raises(ValueFormError, match="deeper than 96"):
        decode_value(nested(5000))


@given(st.integers(90, 100), st.sampled_from([b"", 2**70, JSON_NULL, Range(lower=2**70), {"\ud800": []}, {"$a": 1}]))
def test_both_ways_have_the_same_bound_on_nesting(depth, inner):
    value = inner
    for _ in range(depth):
        value = [value]
    try:
        encoded = encode_value(value)
    except ValueFormError:
        return
    assert same(decode_value(encoded), value)


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, math.nan, math.inf, (1,), b"", Decimal(1), {1: 2, 3: 4}])
def test_decoding_takes_only_encoded_values(value):
    with pytest.raises(ValueFormError):
        decode_value(value)


def test_json_null_is_one_object():
    assert JSONNull() is JSON_NULL
    assert copy.deepcopy(JSON_NULL) is JSON_NULL
    assert pickle.loads(pickle.dumps(JSON_NULL)) is JSON_NULL  # noqa: S301
    assert not JSON_NULL
    assert repr(JSON_NULL) == "JSON_NULL"


@settings(max_examples=50)
@given(
    st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner))
)
def test_decoding_anything_raises_nothing_but_value_errors(value):
    try:
        decoded = decode_value(value)
    except ValueFormError as error:
        assert error.rule.startswith("R")  # noqa: PT017
    else:
        assert same(decode_value(encode_value(decoded)), decoded)
