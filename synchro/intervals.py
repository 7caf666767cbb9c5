"""Sets of positions, kept as ranges."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator


class Intervals:
    """A set of whole numbers as sorted, disjoint, non-adjacent ranges (first and last included)."""

    __slots__ = ("_firsts", "_lasts")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in sorted(ranges):
            self.add(first, last)

    def __contains__(self, number: int) -> bool:
        place = bisect_right(self._firsts, number) - 1
        return place >= 0 and number <= self._lasts[place]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(zip(self._firsts, self._lasts, strict=True))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Intervals) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # mutable

    def overlaps(self, first: int, last: int) -> bool:
        """Whether one of the numbers from *first* to *last* is in it."""
        place = bisect_right(self._firsts, last) - 1
        return place >= 0 and first <= self._lasts[place]

    def add(self, first: int, last: int | None = None) -> None:
        """Add the numbers from *first* to *last* (to *first* alone without it)."""
        last = first if last is None else last
        low = bisect_right(self._lasts, first - 2)  # ranges before this one end too early to touch
        high = bisect_right(self._firsts, last + 1)
        if low < high:
            first = min(first, self._firsts[low])
            last = max(last, self._lasts[high - 1])
        self._firsts[low:high] = [first]
        self._lasts[low:high] = [last]


def runs(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """*numbers*, of which none comes twice, as ranges."""
    found: list[tuple[int, int]] = []
    first = last = None
    for number in sorted(numbers):
        if last is not None and number == last + 1:
            last = number
            continue
        if first is not None and last is not None:
            found.append((first, last))
        first = last = number
    if first is not None and last is not None:
        found.append((first, last))
    return found
