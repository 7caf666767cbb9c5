"""``cat``: the lines of bundles, as a table (``--csv``), or one an object (``--squash``)."""

from __future__ import annotations

import argparse
import json
import re
from typing import TYPE_CHECKING, Any

from .history import Made, bundles_in, changes, fold
from .output import write

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from .history import Opener

__all__ = ["add_choices", "add_options", "cat", "date_or_beginning", "wants_changes"]

_COLUMNS = (
    "node", "seq", "date", "action", "model", "id", "key", "actor", "reason", "link", "target", "same", "bundle",
)  # fmt: skip
_DATE = re.compile(r"\d{4}(-\d\d(-\d\d(T\d\d(:\d\d(:\d\d(\.\d{1,6})?)?)?)?)?)?Z?")
_QUOTED = re.compile(r'[",\r\n]|^\s|\s$|^$')


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options that choose and fold what is printed."""
    command.add_argument(
        "--csv", action="store_true",
        help="print a table with a row for each change and a column for each field, which begins with `fields.`",
    )  # fmt: skip
    command.add_argument(
        "--squash", action="store_true",
        help="print one change an object and link, the newest one (tombstones too); needs memory for each",
    )  # fmt: skip
    add_choices(command)


def add_choices(command: argparse.ArgumentParser) -> None:
    """Add the options that choose changes."""
    command.add_argument(
        "--model", action="append", default=[], metavar="APP.MODEL", help="only changes of this model; may be repeated"
    )
    command.add_argument(
        "--until", type=date_or_beginning, metavar="DATE",
        help="only changes made up to then, in UTC (2026-11-23, 2026-11-23T10:00): how things were",
    )  # fmt: skip


def date_or_beginning(text: str) -> str:
    """A date as SPEC R35 has it, or the beginning of one. Raises ArgumentTypeError."""
    if not _DATE.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no date: write 2026-11-23, or 2026-11-23T10:00 (in UTC)")
    return text.removesuffix("Z")


def wants_changes(options: argparse.Namespace) -> bool:
    """Whether something is to be chosen or folded; otherwise the lines are printed as they are."""
    return bool(options.csv or options.squash or options.model or options.until)


def cat(paths: Sequence[str], opened: Opener, options: argparse.Namespace) -> None:
    """Print what `wants_changes`. Raises BundleError, OSError, OutputError."""
    files = bundles_in(paths)
    models = [label.lower() for label in options.model]
    found: Iterable[Made] = changes(files, opened, models=models, until=options.until)
    if options.squash:
        found = _squashed(found)
    if not options.csv:
        for each in found:
            write(each.line + b"\n")
        return
    # The columns stand before the first row, so the headers are read for them first.
    named: dict[str, None] = {}
    for path in files:
        with opened(path) as reader:
            for label, info in reader.header.models.items():
                if not models or label in models:
                    named.update(dict.fromkeys([*info.fields, *info.relations]))
    write(_row([*_COLUMNS, *(f"fields.{name}" for name in named), "others"]))
    for each in found:
        write(_row(_cells(each, list(named))))


def _squashed(made: Iterable[Made]) -> Iterator[Made]:
    for newest in fold(made).values():
        if newest.state is not None:
            yield newest.state
        yield from newest.links.values()


def _cells(made: Made, names: Sequence[str]) -> list[str | None]:
    change = made.change
    fields = change.fields or {}
    reason = (change.context or {}).get("reason")
    target = change.target
    others = {name: value for name, value in fields.items() if name not in set(names)}
    return [
        made.node,
        str(made.seq),
        change.date,
        change.action,
        change.model,
        change.id,
        None if change.key is None else _json(change.key),
        change.actor,
        _cell(reason),
        change.field,
        None if target is None else _cell(target.id if target.key is None else target.key),
        None if change.same is None else _json(list(change.same)),
        made.header.bundle,
        *(_cell(fields.get(name)) for name in names),
        _json(others) if others else None,
    ]


def _cell(value: Any) -> str | None:
    """A text as it is, NULL as nothing (an empty text is quoted), anything else as JSON."""
    return value if value is None or isinstance(value, str) else _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _row(cells: Sequence[str | None]) -> bytes:
    """A row as RFC 4180 has it, in UTF-8."""
    texts = ("" if cell is None else _quoted(cell) for cell in cells)
    return (",".join(texts) + "\r\n").encode()


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text
