"""One line of strict JSON, and the object that it holds (SPEC R11 to R17, R64)."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

import orjson

from .errors import LimitError, LineError
from .limits import INT64_MAX, INT64_MIN, LINE_SIZE, LINE_VALUES, MAX_DEPTH

__all__ = ["FAST_SIZE", "check_size", "format_line", "parse_line", "read_line"]

_INT64_DIGITS = 20  # a sign and 19 digits; what is longer is not even converted
# orjson asks for up to 256 bytes for each value that it writes, and ends the whole process where it does not get them.
# So it sees lines up to this size, for which that is 8 MB. Longer ones, which are rare, take twice as long without it.
FAST_SIZE = 64 * 1024
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


def parse_line(line: bytes, *, values: int = LINE_VALUES) -> dict[str, Any]:
    """Return the object in `line`, which is without its LF. Raises LineError.

    Raises LimitError where it may hold more than `values` JSON values (SPEC R64).
    """
    return read_line(line, values=values)[0]


def read_line(line: bytes, *, values: int = LINE_VALUES) -> tuple[dict[str, Any], bool]:
    """As `parse_line`; and whether the line, of FAST_SIZE at most, is spelled as `format_line` spells it."""
    if len(line) > values:
        _check_count(line, values)
    spelled = False
    if len(line) > FAST_SIZE:
        value = _parse_exactly(line)
    else:
        try:
            value = orjson.loads(line)
            # Written back the same, it has no name twice: the second would be gone. Nearly every line goes this way.
            spelled = orjson.dumps(value) == line
            if not spelled:
                value = _parse_exactly(line)
        except (ValueError, TypeError, RecursionError):
            value = _parse_exactly(line)
    if type(value) is not dict:
        raise LineError("the line is not a JSON object", rule="R12")
    if line.count(b"{") + line.count(b"[") > MAX_DEPTH:
        _check_depth(value)
    return value, spelled


def format_line(record: dict[str, Any]) -> bytes:
    """Return `record` as one line without its LF. Raises LineError and LimitError where a reader would.

    Values are expected to be checked already, but for lone surrogates and nesting.
    """
    try:
        line = orjson.dumps(record)
    except (TypeError, RecursionError) as error:
        if "surrogates" in str(error):
            raise LineError("a string has a lone surrogate", rule="R16") from None
        if "ecursion" in str(error):
            _refuse_depth()
        raise LineError(f"not JSON: {error}", rule="R12") from None
    if line.count(b"{") + line.count(b"[") > MAX_DEPTH:
        _check_depth(record)
    if len(line) > LINE_VALUES:
        _check_count(line, LINE_VALUES)
    return line


def check_size(line: bytes, *, size: int = LINE_SIZE, values: int = LINE_VALUES) -> None:
    """Refuse a line of more than `size` bytes (SPEC R10), or that may hold more than `values` values (R64)."""
    if len(line) > size:
        raise LimitError(f"a line of {len(line)} bytes, where at most {size} are taken", rule="R10")
    _check_count(line, values)


def _check_count(line: bytes, most: int) -> None:
    """Refuse a line with more than `most` commas and opening brackets, one of which stands before each value."""
    if line.count(b",") + line.count(b"[") + line.count(b"{") <= most:
        return
    # Those in strings do not count. Without escapes, a quote begins or ends a string.
    text = line.replace(b"\\\\", b"").replace(b'\\"', b"")
    count, strings, at = 0, 0, 0
    while at < len(text):
        quote = text.find(b'"', at)
        end = len(text) if quote < 0 else quote
        count += text.count(b",", at, end) + text.count(b"[", at, end) + text.count(b"{", at, end)
        strings += 1
        # Where strings stand without commas it is not JSON, and as many as that are not to be walked through either.
        if count > most or strings > 2 * most + 1:
            raise LimitError(f"the line has more than {most} commas and opening brackets", rule="R64")
        if quote < 0:
            return
        at = text.find(b'"', quote + 1) + 1 or len(text)


def _parse_exactly(line: bytes) -> Any:
    """Parse slowly, and say exactly what is wrong. Accepts other spellings: white space, escapes, digits of floats."""
    if line.startswith(b"\xef\xbb\xbf"):
        raise LineError("the line begins with a byte order mark", rule="R11")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise LineError(f"not UTF-8 at byte {error.start} of the line", rule="R11") from None
    if not text:
        raise LineError("the line is empty", rule="R12")
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_int=_parse_int,
            parse_float=_parse_float,
            parse_constant=_parse_constant,
        )
    except json.JSONDecodeError as error:
        # Without the parser's own words, which differ between versions of Python.
        raise LineError(f"not JSON at character {error.pos} of the line", rule="R12") from None
    except RecursionError:
        _refuse_depth()
    # Before anything else walks over it.
    _check_depth(value)
    # UTF-8 has no surrogates, so a lone one was an escape.
    if _SURROGATE_ESCAPE.search(text) and _has_surrogate(value):
        raise LineError("a string has a lone surrogate", rule="R16")
    return value


def _has_surrogate(value: object) -> bool:
    """Whether a string or name in it has a lone surrogate. `value` does not nest too deep."""
    stack = [value]
    while stack:
        item = stack.pop()
        if type(item) is dict:
            stack.extend(item)
            stack.extend(item.values())
        elif type(item) is list:
            stack.extend(item)
        elif type(item) is str and not item.isascii():
            try:
                item.encode()
            except UnicodeEncodeError:
                return True
    return False


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise LineError(f"the name {name[:40]!r} stands twice in one object", rule="R13")
            seen.add(name)
    return result


def _parse_int(text: str) -> int:
    if len(text) <= _INT64_DIGITS and INT64_MIN <= (number := int(text)) <= INT64_MAX:
        return number
    raise LineError(f"the integer {text[:40]} is outside 64 bits", rule="R14")


def _parse_float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise LineError(f"the number {text[:40]} is too great for a float", rule="R15")
    return number


def _parse_constant(text: str) -> NoReturn:
    raise LineError(f"{text} is not JSON", rule="R15")


def _check_depth(value: object) -> None:
    """Refuse what nests too deep. Not recursive, since that is what it guards against."""
    level = [value]
    for _ in range(MAX_DEPTH):
        inner: list[object] = []
        for item in level:
            if type(item) is dict:
                inner.extend(item.values())
            elif type(item) is list:
                inner.extend(item)
        level = inner
        if not level:
            return
    if any(type(item) is dict or type(item) is list for item in level):
        _refuse_depth()


def _refuse_depth() -> NoReturn:
    raise LineError(f"the line nests deeper than {MAX_DEPTH} arrays and objects", rule="R17")
