"""Look into bundles without a project: ``python -m changelog_format info|verify|cat FILE``."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import sys
from typing import TYPE_CHECKING, Any, BinaryIO

from .archive import check_archive, described
from .commands_keys import add_commands, add_key_options, identities_of, said_of_signature, trusted_of
from .errors import BundleError, MissingExtraError, OutOfMemoryError
from .keys import UnusableKeyError
from .limits import LINE_SIZE, LINE_VALUES, Limits
from .reader import BundleReader, Summary, open_bundle, verify

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .header import Header, Position

__all__ = ["main"]

_OK, _REFUSED, _UNCHECKED, _INTERRUPTED = 0, 1, 3, 130
_STATUS = """\
exit status: 0 the bundle is in order (info: its header is); 1 it is refused; 2 wrong usage; 3 it could not be checked:
the file is missing or cannot be read, the output cannot be written, or there is not enough memory.
"""
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


class _OutputError(Exception):
    """Standard output takes no more. Of itself, this says nothing about the bundle."""


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
    name = _called(options)
    status = _OK
    try:
        alone = getattr(options, "run_alone", None)
        status = (alone(options) if alone else options.run(_source(options.file), options)) or _OK
        _flush()
    except BundleError as error:
        return _fail(name, str(error), _UNCHECKED if isinstance(error, OutOfMemoryError) else _REFUSED)
    except _OutputError as error:
        _give_up_output()
        # Who closed the pipe has seen enough.
        return _UNCHECKED if isinstance(error.__cause__, BrokenPipeError) else _fail("output", str(error), _UNCHECKED)
    except OSError as error:
        return _fail(name, error.strerror or str(error), _UNCHECKED)
    except MemoryError:
        return _fail(name, "there is not enough memory to show it", _UNCHECKED)
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
    for name, run, text in (
        ("info", _info, "say what the header says: who wrote it, from where to where; verify nothing after it"),
        ("verify", _verify, "read all of it, and say what is in it; of a folder, also whether its bundles join on"),
        ("cat", _cat, "print its lines while verifying them: exit status 0 says that all were in order"),
    ):
        command = commands.add_parser(name, help=text, description=text, epilog=_STATUS)
        file = (
            "a bundle, a folder of bundles, or - for standard input"
            if name == "verify"
            else "a bundle, or - for standard input"
        )
        command.add_argument("file", metavar="FILE", help=file)
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
        command.set_defaults(run=run)
        add_key_options(command, trusted=name == "verify")
        if name != "cat":
            command.add_argument("--json", action="store_true", help="print one JSON object")
    add_commands(commands, _print, _STATUS)
    return parser


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


def _fail(name: str, message: str, status: int) -> int:
    try:
        # What cat has printed comes before what is wrong with the next line.
        _flush()
    except _OutputError:
        _give_up_output()
    if sys.stderr is not None:  # print would take standard output instead
        with contextlib.suppress(OSError):  # nobody is left to be told
            print(_clean(f"{name}: {message}"), file=sys.stderr)
    return status


def _output(write: Callable[[], object]) -> None:
    """Write to standard output. Raises _OutputError, since an OSError would be blamed on the file that is read."""
    if sys.stdout is None:
        raise _OutputError("is closed")
    try:
        write()
    except OSError as error:
        raise _OutputError(error.strerror or str(error)) from error


def _flush() -> None:
    _output(lambda: sys.stdout.flush())  # noqa: PLW0108  (standard output may be closed: then there is no such method)


def _print(text: str) -> None:
    _output(lambda: print(text))


def _give_up_output() -> None:
    """Keep Python from trying once more, and saying so, when it closes the stream."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _info(source: str | BinaryIO, options: argparse.Namespace) -> None:
    with open_bundle(source, limits=_limits(options), identities=identities_of(options)) as reader:
        header = reader.header
    if options.json:
        _print_json(header.to_dict())
        return
    rows = [
        ("bundle", header.bundle),
        ("created", header.created),
        ("node", f"{header.node.name} ({header.node.id})"),
        ("destination", header.destination),
        ("range", f"{_position(header.start)} to {_position(header.end)}"),
        ("mode", header.mode + (f", only {', '.join(header.only)}" if header.only else "")),
        ("acks", ", ".join(f"{node} up to {seq}" for node, seq in header.acks.items()) or "none"),
        ("previous", header.previous or "none"),
    ]
    for label, value in rows:
        _print(f"{label + ':':<13}{_clean(value)}")
    _print("models:" if header.models else "models:      none")
    for label, info in header.models.items():
        key = f", key ({', '.join(info.key)})" if info.key else ""
        _print(_clean(f"  {label}: version {info.version}, {_several(len(info.fields), 'field')}{key}"))
    _print("not verified: only the header was read")


def _verify(source: str | BinaryIO, options: argparse.Namespace) -> int:
    if isinstance(source, str) and os.path.isdir(source):  # noqa: PTH112  (a path is what was typed)
        return _verify_archive(source, options)
    summary = verify(source, limits=_limits(options), identities=identities_of(options))
    trusted = trusted_of(options)
    signature = said_of_signature(summary, trusted)
    if options.json:
        _print_json({**_summary(summary), "signature": signature, "signature_checked": trusted is not None})
        return _OK
    counts = "; ".join(
        f"{model} {', '.join(f'{count} {action}' for action, count in actions.items())}"
        for model, actions in summary.counts.items()
    )
    name = _called(options)
    _print(
        _clean(
            f"{name}: in order, {_range(summary.header)}, {_several(summary.records, 'record')}"
            f" in {_several(summary.size, 'byte')} ({summary.raw_size} uncompressed)"
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
        _print_json(report.to_dict())
    else:
        for line in described(report):
            _print(_clean(line))
    return _OK if report.in_order else _REFUSED


def _cat(source: str | BinaryIO, options: argparse.Namespace) -> None:
    with open_bundle(source, limits=_limits(options), identities=identities_of(options)) as reader:
        _print_line(reader)
        for _record in reader:
            _print_line(reader)
        _print_line(reader)


def _print_line(reader: BundleReader) -> None:
    _output(lambda: sys.stdout.buffer.write(reader.raw_line + b"\n"))


def _print_json(data: dict[str, Any]) -> None:
    _print(json.dumps(data, ensure_ascii=False))


def _several(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


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


def _clean(text: str) -> str:
    """Return a text from a file such that it cannot steer the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


if __name__ == "__main__":
    sys.exit(main())
