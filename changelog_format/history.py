"""What happened to objects, read from bundles: each change once, the newest state of each object, differences.

A change is known by the node that made it and its position there. So a bundle that is there twice, ranges that overlap,
and what another node passed on count once. What is compared is the greatest `(date, node)`, as everywhere.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .archive import SUFFIX, SUFFIXES
from .errors import BundleError
from .records import Change

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from .header import Header
    from .reader import BundleReader

    Opener = Callable[[str], BundleReader]

__all__ = ["Difference", "Made", "Newest", "bundles_in", "changes", "differences", "fold"]

ABSENT: Any = object()
"""The value of a field that a state does not have at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A change with what its line does not say by itself: the node that made it, and the bundle that it was read from.

    `line` is the line as it stands in the file, without its LF.
    """

    node: str
    seq: int
    file: str
    header: Header
    change: Change
    line: bytes

    @property
    def stamp(self) -> tuple[str, str]:
        """What decides which of two changes of one object is the newer one."""
        return self.change.date, self.node


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A field whose values differ; `ABSENT` where a state has no such field."""

    field: str
    before: Any
    after: Any


def bundles_in(paths: Iterable[str]) -> list[str]:
    """The files that *paths* name: a folder stands for every bundle in it and below, in the order of their names.

    Raises FileNotFoundError for a folder without any.
    """
    found: list[str] = []
    for path in paths:
        if not os.path.isdir(path):  # noqa: PTH112  (a path is what was typed)
            found.append(path)
            continue
        inside = sorted(str(file) for suffix in SUFFIXES for file in Path(path).rglob(f"*{suffix}") if file.is_file())
        if not inside:
            raise FileNotFoundError(2, f"has no bundles (*{SUFFIX})", path)
        found += inside
    return list(dict.fromkeys(found))


def changes(
    paths: Iterable[str], opened: Opener, *, models: Collection[str] = (), until: str | None = None
) -> Iterator[Made]:
    """Every change in the bundles *paths*, each once, in the order of the files.

    *opened* opens one of them. *models*: only those of these labels; *until*: only those dated up to then (a date as
    SPEC R35 has it, or the beginning of one). Raises BundleError and OSError; what came before that is not proven.
    """
    seen: set[tuple[str, int]] = set()
    for path in paths:
        try:
            for made in _changes_in(path, opened):
                if (made.node, made.seq) in seen:
                    continue
                seen.add((made.node, made.seq))
                if models and made.change.model not in models:
                    continue
                if until is None or made.change.date[: len(until)] <= until:
                    yield made
        except BundleError as error:
            error.add_note(path)  # among several files it must be known which
            raise


def _changes_in(path: str, opened: Opener) -> Iterator[Made]:
    with opened(path) as reader:
        header = reader.header
        for record in reader:
            if type(record) is Change:
                origin = record.origin
                node, seq = (header.node.id, record.seq) if origin is None else (origin.node, origin.seq)
                yield Made(node=node, seq=seq, file=path, header=header, change=record, line=reader.raw_line)


@dataclass(slots=True)
class Newest:
    """What counts of an object: its newest state or tombstone, and the newest of each of its links."""

    model: str
    id: str
    state: Made | None
    links: dict[tuple[str, str, str], Made]
    """`(field, model and id of the target)` → the change that made or removed the link last."""

    @property
    def present(self) -> bool:
        return self.state is not None and self.state.change.action != "delete"

    @property
    def fields(self) -> dict[str, Any]:
        """Its values, empty for one that is deleted, or of which there are only links."""
        return (self.state.change.fields if self.state is not None else None) or {}

    @property
    def key(self) -> list[Any] | None:
        made = self.state or next(iter(self.links.values()))
        return made.change.key


def fold(made: Iterable[Made]) -> dict[tuple[str, str], Newest]:
    """`(model, id)` → the newest of each object, by what merges say under the smallest of its ids.

    Takes memory for one change an object and link.
    """
    found: dict[tuple[str, str], Newest] = {}
    smaller: dict[tuple[str, str], str] = {}
    for each in made:
        change = each.change
        place = (change.model, change.id)
        if change.same is not None:
            one, other = sorted(_root(smaller, change.model, name) for name in change.same)
            if one != other:
                smaller[change.model, other] = one
            continue
        newest = found.get(place)
        if newest is None:
            newest = found[place] = Newest(change.model, change.id, None, {})
        _take(newest, each)
    merged: dict[tuple[str, str], Newest] = {}
    for (model, name), newest in found.items():
        root = _root(smaller, model, name)
        into = merged.get((model, root))
        if into is None:
            newest.id = root
            merged[model, root] = newest
            continue
        for each in (*newest.links.values(), *([newest.state] if newest.state is not None else ())):
            _take(into, each)
    for newest in merged.values():
        _follow_targets(newest, smaller)
    return merged


def _take(newest: Newest, each: Made) -> None:
    change = each.change
    if change.target is not None and change.field is not None:
        link = (change.field, change.target.model, change.target.id)
        if link not in newest.links or newest.links[link].stamp < each.stamp:
            newest.links[link] = each
    elif newest.state is None or newest.state.stamp < each.stamp:
        newest.state = each


def _follow_targets(newest: Newest, smaller: dict[tuple[str, str], str]) -> None:
    """The other end of a link may have been merged into another object, too."""
    links: dict[tuple[str, str, str], Made] = {}
    for (field, model, name), each in newest.links.items():
        link = (field, model, _root(smaller, model, name))
        if link not in links or links[link].stamp < each.stamp:
            links[link] = each
    newest.links = links


def _root(smaller: dict[tuple[str, str], str], model: str, name: str) -> str:
    while (model, name) in smaller:
        name = smaller[model, name]
    return name


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[Difference]:
    """The fields in which two states differ, in the order in which the states have them."""
    return [
        Difference(field=name, before=mine, after=theirs)
        for name in dict.fromkeys([*before, *after])
        if not _equal(mine := before.get(name, ABSENT), theirs := after.get(name, ABSENT))
    ]


def _equal(one: Any, other: Any) -> bool:
    """Equal as JSON is: `true` is not 1, and 1.0 is not 1."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)
