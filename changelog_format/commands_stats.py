"""``stats``: what is in bundles: models, actions, objects, who made the changes, when, how many bytes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .history import bundles_in
from .output import clean, say, say_json, several, table
from .records import ACTIONS, Change, FilePiece

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from .history import Opener

__all__ = ["Stats", "stats"]


@dataclass(slots=True)
class _Origin:
    changes: int = 0
    first: str | None = None
    last: str | None = None

    def take(self, date: str) -> None:
        self.changes += 1
        self.first = date if self.first is None else min(self.first, date)
        self.last = date if self.last is None else max(self.last, date)


@dataclass(slots=True)
class Stats:
    """Numbers of one bundle or of several. A change that is there more than once counts once, and in `repeated`."""

    files: int = 0
    bytes: int = 0
    raw_bytes: int = 0
    records: int = 0
    repeated: int = 0
    carried: int = 0
    contents: int = 0
    content_bytes: int = 0
    actions: dict[str, Counter[str]] = field(default_factory=dict)
    objects: dict[str, set[str]] = field(default_factory=dict)
    line_bytes: Counter[str] = field(default_factory=Counter)
    origins: dict[str, _Origin] = field(default_factory=dict)
    actors: Counter[str] = field(default_factory=Counter)

    def to_dict(self) -> dict[str, Any]:
        """As the command line prints it."""
        return {
            "files": self.files,
            "bytes": self.bytes,
            "raw_bytes": self.raw_bytes,
            "records": self.records,
            "changes": sum(map(Counter.total, self.actions.values())),
            "repeated": self.repeated,
            "carried_objects": self.carried,
            "contents": self.contents,
            "content_bytes": self.content_bytes,
            "models": {
                model: {
                    "objects": len(self.objects[model]),
                    **{action: self.actions[model][action] for action in ACTIONS},
                    "raw_bytes": self.line_bytes[model],
                }
                for model in sorted(self.actions)
            },
            "origins": {
                node: {"changes": each.changes, "first": each.first, "last": each.last}
                for node, each in sorted(self.origins.items())
            },
            "actors": dict(self.actors.most_common()),
        }


def collect(paths: Sequence[str], opened: Opener) -> Stats:
    """Read bundles to their ends. Takes memory for each object's id and each change's position."""
    found = Stats()
    seen: set[tuple[str, int]] = set()
    for path in paths:
        with opened(path) as reader:
            for record in reader:
                if isinstance(record, FilePiece):
                    found.contents += not record.at
                    found.content_bytes += len(record.data)
                elif type(record) is Change:
                    _take(found, record, reader.header.node.id, len(reader.raw_line) + 1, seen)
                else:
                    found.carried += 1
            found.files += 1
            found.bytes += reader.size
            found.raw_bytes += reader.raw_size
            found.records += reader.trailer.records
    return found


def _take(found: Stats, change: Change, writer: str, size: int, seen: set[tuple[str, int]]) -> None:
    node, seq = (writer, change.seq) if change.origin is None else (change.origin.node, change.origin.seq)
    if (node, seq) in seen:
        found.repeated += 1
        return
    seen.add((node, seq))
    found.actions.setdefault(change.model, Counter())[change.action] += 1
    found.objects.setdefault(change.model, set()).add(change.id)
    found.line_bytes[change.model] += size
    found.origins.setdefault(node, _Origin()).take(change.date)
    found.actors[change.actor or ""] += 1


def stats(options: argparse.Namespace, opened: Opener) -> int:
    """Print the numbers of what `options.paths` name."""
    found = collect(bundles_in(options.paths), opened)
    if options.json:
        say_json(found.to_dict())
        return 0
    for line in described(found):
        say(line)
    return 0


def described(found: Stats) -> list[str]:
    """The numbers as they are printed for people."""
    told = found.to_dict()
    repeated = f" ({several(found.repeated, 'change')} more than once)" if found.repeated else ""
    counted = f"{several(found.files, 'bundle')}, {several(found.records, 'record')}{repeated}"
    lines = [f"{counted}, {several(found.bytes, 'byte')} ({found.raw_bytes} uncompressed)"]
    if found.contents:
        lines.append(f"with the contents of {several(found.contents, 'file')}, {several(found.content_bytes, 'byte')}")
    if told["models"]:
        head = ("model", "objects", *ACTIONS, "bytes")
        rows = [(model, *numbers.values()) for model, numbers in told["models"].items()]
        lines += ["", *table(head, rows)]
        lines += [
            "",
            *table(
                ("made at", "changes", "first", "last"),
                [(node, *each.values()) for node, each in told["origins"].items()],
            ),
        ]
    if any(found.actors):
        lines += [
            "",
            *table(("made by", "changes"), [(name or "(nobody named)", n) for name, n in told["actors"].items()]),
        ]
    return [clean(line) for line in lines]
