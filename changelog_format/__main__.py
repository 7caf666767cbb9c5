"""Look into bundles without a project: ``python -m changelog_format info|verify|cat|diff|stats FILE``."""

from __future__ import annotations

import argparse
import errno
import os
import shutil
import sys
import tempfile
from typing import TYPE_CHECKING, Any, BinaryIO, Self, cast

from . import commands_cat, commands_diff, commands_stats
from .archive import check_archive, described
from .commands_keys import add_commands, add_key_options, identities_of, said_of_signature, trusted_of
from .errors import BundleError, MissingExtraError, OutOfMemoryError
from .history import bundles_in
from .keys import UnusableKeyError
from .limits import LINE_SIZE, LINE_VALUES, Limits
from .output import OutputError, clean, flush, give_up, say, say_json, several, write
from .reader import BundleReader, Summary, open_bundle, verify

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .header import Header, Position

__all__ = ["main"]

_OK, _REFUSED, _UNCHECKED, _INTERRUPTED = 0, 1, 3, 130
_STATUS = """\
exit status: 0 the bundle is in order (info: its header is); 1 it is refused; 2 wrong usage; 3 it could not be checked:
the file is missing or cannot be read, the output cannot be written, or there is not enough memory; 4 (diff) A and B are
in order, and differ.
"""
_EXAMPLES = {
    "info": "info office-7f3a9c21-000001-000003.jsonl.zst",
    "verify": "verify /media/stick --trusted trusted.txt",
    "cat": "cat --csv --squash --until 2026-11-23 /archive",
    "diff": "diff --model shop.city /archive /media",
    "stats": "stats --json /media/stick",
    "keygen": "keygen /etc/synchro/office.key",
    "sign": "sign --key office.key -o signed.zst plain.zst",
}
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status (see `_STATUS`; argparse exits with 2 for wrong usage)."""
    options = _parser().parse_args(argv)
    # A name in a bundle may have characters that this terminal has not.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        return _run(options)
    except (MissingExtraError, UnusableKeyError) as error:
        return _fail("keys", str(error), _UNCHECKED)
    except KeyboardInterrupt:
        return _INTERRUPTED


def _run(options: argparse.Namespace) -> int:
    status = _OK
    try:
        status = options.run(options) or _OK
        flush()
    except BundleError as error:
        return _fail(_called(options), str(error), _UNCHECKED if isinstance(error, OutOfMemoryError) else _REFUSED)
    except OutputError as error:
        give_up()
        # Who closed the pipe has seen enough.
        return _UNCHECKED if isinstance(error.__cause__, BrokenPipeError) else _fail("output", str(error), _UNCHECKED)
    except OSError as error:
        return _fail(str(error.filename or _called(options)), error.strerror or str(error), _UNCHECKED)
    except MemoryError:
        return _fail(_called(options), "there is not enough memory to show it", _UNCHECKED)
    return status


def _called(options: argparse.Namespace) -> str:
    """What a message calls the file that the command is about."""
    for name in ("file", "bundle", "key_file"):
        if hasattr(options, name):
            file: str = getattr(options, name)
            return "standard input" if file == "-" else file
    return "changelog-format"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="changelog-format", description="Look into bundles of a changelog.", epilog=_STATUS
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text, epilog=_STATUS)
        command.set_defaults(run=run)
        _add_limits(command)
        add_key_options(command, trusted=name == "verify")
        return command

    text = "say what the header says: who wrote it, from where to where; verify nothing after it"
    command = add("info", _info, text)
    command.add_argument("file", metavar="FILE", help="a bundle, or - for standard input")
    _add_json(command)
    text = "read all of it, and say what is in it; of a folder, also whether its bundles join on"
    command = add("verify", _verify, text)
    command.add_argument("file", metavar="FILE", help="a bundle, a folder of bundles, or - for standard input")
    _add_json(command)
    text = "print its lines while verifying them: exit status 0 says that all were in order"
    command = add("cat", _cat, text)
    command.add_argument("paths", nargs="+", metavar="FILE", help="bundles, folders of bundles, - for standard input")
    commands_cat.add_options(command)
    text = "say what differs between the newest states of the objects in A and in B, object by object, field by field"
    command = add("diff", _diff, text)
    command.add_argument("a", metavar="A", help="a bundle, a folder of bundles, or - for standard input")
    command.add_argument("b", metavar="B", help="the same, to compare with")
    commands_cat.add_choices(command)
    _add_json(command)
    text = "count: models, actions, objects, who made the changes and when, bytes"
    command = add("stats", _stats, text)
    command.add_argument("paths", nargs="+", metavar="FILE", help="bundles, folders of bundles, - for standard input")
    _add_json(command)
    add_commands(commands, say, _STATUS)
    for name, command in commands.choices.items():
        command.formatter_class = _Paragraphs
        command.epilog = f"example: changelog-format {_EXAMPLES[name]}\n\n{_STATUS}"
    return parser


class _Paragraphs(argparse.HelpFormatter):
    """Fills each paragraph by itself, where argparse makes one of all."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = super()._fill_text
        return "\n\n".join(fill(paragraph, width, indent) for paragraph in text.split("\n\n"))


def _add_limits(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--max-line",
        type=_size,
        metavar="SIZE",
        default=LINE_SIZE,
        help=f"refuse longer lines (bytes, or with K, M or G; {LINE_SIZE >> 20}M unless given)",
    )
    command.add_argument(
        "--max-values",
        type=_count,
        metavar="N",
        default=LINE_VALUES,
        help=f"refuse lines with more values ({LINE_VALUES} unless given)",
    )
    command.add_argument("--max-size", type=_size, metavar="SIZE", help="refuse more uncompressed bytes in all")
    command.add_argument("--max-records", type=_count, metavar="N", help="refuse more records")


def _add_json(command: argparse.ArgumentParser) -> None:
    what = "a JSON object for each object that differs" if command.prog.endswith("diff") else "one JSON object"
    command.add_argument("--json", action="store_true", help=f"print {what}")


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 up")
    return int(text[:18])


def _size(text: str) -> int:
    unit = _UNITS.get(text[-1:].upper(), 1)
    return unit * _count(text if unit == 1 else text[:-1])


def _limits(options: argparse.Namespace) -> Limits:
    return Limits(line=options.max_line, values=options.max_values, size=options.max_size, records=options.max_records)


def _source(file: str) -> str | BinaryIO:
    if file != "-":
        return file
    if sys.stdin is None:
        raise OSError(errno.EBADF, "is closed")
    return sys.stdin.buffer


class _Opener:
    """Opens the files that were typed, one after the other, and remembers which one for messages."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._input: BinaryIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._input is not None:
            self._input.close()

    def __call__(self, path: str) -> BundleReader:
        self._options.file = path
        return _open(path if path != "-" else self._standard_input(), self._options)

    def _standard_input(self) -> BinaryIO:
        """Standard input, kept in a temporary file: what is folded or tabulated is read more than once."""
        if self._input is None:
            source = cast("BinaryIO", _source("-"))
            self._input = tempfile.TemporaryFile()  # noqa: SIM115  (closed with this)
            shutil.copyfileobj(source, self._input)
        self._input.seek(0)
        return self._input


def _open(source: str | BinaryIO, options: argparse.Namespace) -> BundleReader:
    return open_bundle(source, limits=_limits(options), identities=identities_of(options))


def _fail(name: str, message: str, status: int) -> int:
    try:
        # What cat has printed comes before what is wrong with the next line.
        flush()
    except OutputError:
        give_up()
    if sys.stderr is not None:  # print would take standard output instead
        try:
            print(clean(f"{name}: {message}"), file=sys.stderr, flush=True)
        except OSError:  # nobody is left to be told
            give_up(sys.stderr)
    return status


def _info(options: argparse.Namespace) -> int:
    with _open(_source(options.file), options) as reader:
        header = reader.header
    if options.json:
        say_json(header.to_dict())
        return _OK
    rows = [
        ("bundle", header.bundle),
        ("created", header.created),
        ("node", f"{header.node.name} ({header.node.id})"),
        ("destination", header.destination),
        ("range", f"{_position(header.start)} to {_position(header.end)}"),
        ("mode", header.mode + (f", only {', '.join(header.only)}" if header.only else "")),
        ("acks", ", ".join(f"{node} up to {seq}" for node, seq in header.acks.items()) or "none"),
        ("successions", ", ".join(f"{each.node} goes on for {each.of}" for each in header.successions) or "none"),
        ("redacted", ", ".join(f"{label}.{name}" for label, names in header.redacted.items() for name in names)),
        ("previous", header.previous or "none"),
    ]
    for label, value in rows:
        if value:
            say(f"{label + ':':<13}{clean(value)}")
    say("models:" if header.models else "models:      none")
    for label, info in header.models.items():
        key = f", key ({', '.join(info.key)})" if info.key else ""
        say(clean(f"  {label}: version {info.version}, {several(len(info.fields), 'field')}{key}"))
    say("not verified: only the header was read")
    return _OK


def _verify(options: argparse.Namespace) -> int:
    source = _source(options.file)
    if isinstance(source, str) and os.path.isdir(source):  # noqa: PTH112  (a path is what was typed)
        return _verify_archive(source, options)
    summary = verify(source, limits=_limits(options), identities=identities_of(options))
    trusted = trusted_of(options)
    signature = said_of_signature(summary, trusted)
    if options.json:
        say_json({**_summary(summary), "signature": signature, "signature_checked": trusted is not None})
        return _OK
    counts = "; ".join(
        f"{model} {', '.join(f'{count} {action}' for action, count in actions.items())}"
        for model, actions in summary.counts.items()
    )
    name = _called(options)
    say(
        clean(
            f"{name}: in order, {_range(summary.header)}, {several(summary.records, 'record')}"
            f" in {several(summary.size, 'byte')} ({summary.raw_size} uncompressed)"
            + (f": {counts}" if counts else "")
            + f"; {signature}"
        )
    )
    return _OK


def _verify_archive(folder: str, options: argparse.Namespace) -> int:
    report = check_archive(
        folder, limits=_limits(options), trusted=trusted_of(options), identities=identities_of(options)
    )
    if options.json:
        say_json(report.to_dict())
    else:
        for line in described(report):
            say(clean(line))
    return _OK if report.in_order else _REFUSED


def _cat(options: argparse.Namespace) -> int:
    options.file = options.paths[0]
    if commands_cat.wants_changes(options):
        with _Opener(options) as opened:
            commands_cat.cat(options.paths, opened, options)
        return _OK
    for path in bundles_in(options.paths):
        options.file = path
        with _open(_source(path), options) as reader:
            _print_line(reader)
            for _record in reader:
                _print_line(reader)
            _print_line(reader)
    return _OK


def _diff(options: argparse.Namespace) -> int:
    with _Opener(options) as opened:
        return commands_diff.diff(options, opened)


def _stats(options: argparse.Namespace) -> int:
    with _Opener(options) as opened:
        return commands_stats.stats(options, opened)


def _print_line(reader: BundleReader) -> None:
    write(reader.raw_line + b"\n")


def _summary(summary: Summary) -> dict[str, Any]:
    header = summary.header
    return {
        "bundle": header.bundle,
        "node": header.node.to_dict(),
        "mode": header.mode,
        "range": {"from": header.start.to_dict(), "to": header.end.to_dict()},
        "records": summary.records,
        "lines": summary.lines,
        "frames": summary.frames,
        "size": summary.size,
        "raw_size": summary.raw_size,
        "sha256": summary.trailer.sha256,
        "relayed": summary.relayed,
        "counts": summary.counts,
    }


def _range(header: Header) -> str:
    return f"{header.mode} of {header.node.id} from {header.start.seq} to {header.end.seq}"


def _position(position: Position) -> str:
    return str(position.seq) if position.date is None else f"{position.seq} ({position.date})"


if __name__ == "__main__":
    sys.exit(main())
