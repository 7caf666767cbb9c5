import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from changelog_format import LineError
from changelog_format.jsonl import format_line, parse_line

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)
OBJECTS = st.dictionaries(st.text(), JSON, max_size=4)


@given(OBJECTS)
def test_both_ways_of_parsing_agree(value):
    fast = orjson.dumps(value)
    assert format_line(value) == fast
    for spelling in (fast, json.dumps(value).encode(), json.dumps(value, indent="\t", ensure_ascii=False).encode()):
        parsed = parse_line(spelling)
        assert parsed == value
        assert repr(parsed) == repr(value)


@given(st.binary(max_size=40) | st.text('{}[]":,0123456789eE+-.\\u abtrfnNIy', max_size=25).map(str.encode))
def test_what_is_taken_is_json(line):
    try:
        parsed = parse_line(line)
    except LineError as error:
        assert error.rule in {"R11", "R12", "R13", "R14", "R15", "R16", "R17"}  # noqa: PT017
    else:
        assert parsed == json.loads(line)


@pytest.mark.parametrize("bracket", ["[]", "{}"])
def test_depth_is_counted_the_same_on_both_ways(bracket):
    for fast in (True, False):
        for depth, refused in ((100, False), (101, True), (253, True), (5000, True)):
            inner = "[" * (depth - 2) + bracket + "]" * (depth - 2)
            line = f'{{"a":{inner}}}'.encode()
            line = line if fast else b" " + line
            if refused:
                with pytest.raises(LineError, match="deeper than 100"):
                    parse_line(line)
            else:
                parse_line(line)


def test_many_brackets_are_not_depth():
    parse_line(b'{"a":"' + b"[" * 500 + b'","b":[' + b"[]," * 500 + b"[]]}")
