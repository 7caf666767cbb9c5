"""A folder of bundles as an archive: whether each is whole, whether one is missing or was exchanged.

Each bundle names the digest of the one before it (`previous`), and where its range begins and ends, with the dates
there. So what is missing, or was exchanged for another, is noticed by its neighbours.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import BundleError, NoIdentityError, SignatureError
from .reader import Summary, open_bundle, verify
from .records import Change
from .signing import check_signature, unvouched

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from .encryption import Identities
    from .keys import TrustedKeys
    from .limits import Limits

__all__ = ["ArchiveReport", "Stream", "check_archive", "described"]

SUFFIX = ".jsonl.zst"
ENCRYPTED = ".age"
SUFFIXES = (SUFFIX, SUFFIX + ENCRYPTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """The bundles of one node for one destination.

    `first` and `last` are positions (the first one after `first`), `missing` the ranges between them that no bundle
    covers, as `(first, last)`. `since` and `until` are the dates at both ends. `chained` counts the bundles whose
    predecessor is here and is the very one that they name. `proven` counts those that were signed with a key that is
    trusted for the node; `hearsay` the changes of others in these, by node, for which that key is not trusted to speak.
    """

    node: str
    name: str
    destination: str
    bundles: int
    records: int
    first: int
    last: int
    since: str | None
    until: str | None
    missing: tuple[tuple[int, int], ...]
    chained: int
    proven: int = 0
    hearsay: Mapping[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As the command line prints it."""
        return {
            "node": self.node,
            "name": self.name,
            "destination": self.destination,
            "bundles": self.bundles,
            "records": self.records,
            "first": self.first,
            "last": self.last,
            "since": self.since,
            "until": self.until,
            "missing": [list(each) for each in self.missing],
            "chained": self.chained,
            "proven": self.proven,
            "hearsay": dict(self.hearsay),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveReport:
    """What an archive holds, and what is wrong with it: `problems` are sentences, empty where all is in order.

    `signed` counts bundles that carry a signature, `proven` those whose signature was checked and is in order.
    `checked`: signatures were asked for. `closed` are encrypted files that no identity opens, of which nothing is
    known; `others` what lies in the folder and was not looked at, since it has not the name of a bundle.
    """

    files: int
    streams: tuple[Stream, ...]
    copies: tuple[str, ...]
    signed: int
    problems: tuple[str, ...]
    checked: bool = False
    proven: int = 0
    closed: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def in_order(self) -> bool:
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """As the command line prints it."""
        return {
            "files": self.files,
            "in_order": self.in_order,
            "streams": [stream.to_dict() for stream in self.streams],
            "copies": list(self.copies),
            "signed": self.signed,
            "checked": self.checked,
            "proven": self.proven,
            "closed": list(self.closed),
            "others": list(self.others),
            "problems": list(self.problems),
        }


@dataclass(frozen=True, slots=True)
class _Look:
    """How files are opened."""

    limits: Limits | None
    identities: Identities | None


@dataclass(slots=True)
class _Bundle:
    path: str
    summary: Summary
    copies: list[str] = field(default_factory=list)
    proven: bool = False
    hearsay: Mapping[str, int] = field(default_factory=dict)

    @property
    def start(self) -> int:
        return self.summary.header.start.seq

    @property
    def end(self) -> int:
        return self.summary.header.end.seq

    @property
    def digest(self) -> str:
        return self.summary.trailer.sha256


def check_archive(
    folder: str | Path,
    *,
    limits: Limits | None = None,
    trusted: TrustedKeys | None = None,
    identities: Identities | None = None,
) -> ArchiveReport:
    """Verify every bundle in *folder* and below, then how they join on to each other.

    With *trusted* each has to be signed by a key in that list. Encrypted ones are read with *identities*. Memory is
    bounded by the number of files, not by their size. A file that cannot be read is a problem as a damaged one is.
    """
    problems: list[str] = []
    look = _Look(limits, identities)
    everything = sorted(str(path) for path in Path(folder).rglob("*") if path.is_file())
    files = [path for path in everything if path.endswith(SUFFIXES)]
    if not files:
        problems.append(f"{folder} has no bundles (*{SUFFIX})")
    found: dict[str, _Bundle] = {}
    copies: list[str] = []
    closed: list[str] = []
    for path in files:
        try:
            summary = verify(path, limits=limits, identities=identities)
        except NoIdentityError:
            closed.append(path)
            continue
        except BundleError as error:
            problems.append(f"{path}: {error}")
            continue
        except OSError as error:
            problems.append(f"{path} cannot be read: {error.strerror or error}")
            continue
        first = found.setdefault(summary.trailer.sha256, _Bundle(path, summary))
        if first.path != path:
            first.copies.append(path)
            copies.append(path)
        if trusted is not None:
            try:
                key = check_signature(summary.header, summary.trailer, trusted)
            except SignatureError as error:
                problems.append(f"{path}: {error}")
                continue
            # Of two copies, one may have lost its signature: that is said, and the other proves what both hold.
            first.proven, first.hearsay = True, unvouched(summary.header, summary.relayed, key)
    if closed:
        problems.append(_closed(len(closed), len(files), given=identities is not None))
    bundles = list(found.values())
    problems += _forks(bundles, look)
    streams = []
    by_stream: dict[tuple[str, str], list[_Bundle]] = defaultdict(list)
    for bundle in bundles:
        by_stream[bundle.summary.header.node.id, bundle.summary.header.destination].append(bundle)
    for of_stream in (by_stream[key] for key in sorted(by_stream)):
        stream, wrong = _stream(sorted(of_stream, key=lambda each: (each.start, each.end, each.path)), found)
        streams.append(stream)
        problems += wrong
    signed = sum(bundle.summary.trailer.signature is not None for bundle in bundles)
    return ArchiveReport(
        files=len(files),
        streams=tuple(streams),
        copies=tuple(copies),
        signed=signed,
        problems=tuple(problems),
        checked=trusted is not None,
        proven=sum(bundle.proven for bundle in bundles),
        closed=tuple(closed),
        others=tuple(path for path in everything if not path.endswith(SUFFIXES)),
    )


def _closed(number: int, files: int, *, given: bool) -> str:
    why = "no identity fits (or their beginnings were changed)" if given else "no identity was given"
    return f"{number} of {files} files are encrypted, and {why}: what is in them was not looked at (--identity FILE)"


def _stream(bundles: Sequence[_Bundle], everything: dict[str, _Bundle]) -> tuple[Stream, list[str]]:
    problems: list[str] = []
    header = bundles[0].summary.header
    ends = defaultdict(list)
    for bundle in bundles:
        ends[bundle.end].append(bundle)
    whole = [bundle for bundle in bundles if bundle.summary.header.only is None]
    chained = 0
    for bundle in whole:
        named = bundle.summary.header.previous
        if named is None:
            continue
        if named in everything:
            chained += 1
        elif any(other is not bundle for other in ends[bundle.start]):
            others = ", ".join(other.path for other in ends[bundle.start] if other is not bundle)
            problems.append(
                f"{bundle.path}: the bundle before it has the digest {named[:16]}…, and {others} has another: "
                "it was exchanged"
            )
        # Otherwise the bundle before it is missing, which the positions tell.
    covered = _covered((bundle.start, bundle.end) for bundle in whole)
    missing = tuple((before[1] + 1, after[0]) for before, after in pairwise(covered) if before[1] < after[0])
    for first, last in missing:
        what = f"the changes {first} to {last}" if first < last else f"the change {first}"
        verb = "are" if first < last else "is"
        problems.append(f"{what} of {header.node.id} for {header.destination!r} {verb} missing")
    first, last = (covered[0][0], covered[-1][1]) if covered else (bundles[0].start, bundles[0].start)
    dates = {
        position.seq: position.date
        for bundle in whole
        for position in (bundle.summary.header.start, bundle.summary.header.end)
    }
    stream = Stream(
        node=header.node.id,
        name=header.node.name,
        destination=header.destination,
        bundles=len(bundles),
        records=sum(bundle.summary.records for bundle in bundles),
        first=first,
        last=last,
        since=dates.get(first),
        until=dates.get(last),
        missing=missing,
        chained=chained,
        proven=sum(bundle.proven for bundle in bundles),
        hearsay=dict(sorted(sum((Counter(bundle.hearsay) for bundle in bundles), Counter()).items())),
    )
    return stream, problems


def _covered(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges `(after, up to)` joined where they touch or overlap."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


# --- forks ------------------------------------------------------------------------------------------------------------


def _forks(bundles: Sequence[_Bundle], look: _Look) -> Iterator[str]:
    """Two bundles of one node that say different things of one position: it was restored from a backup, or copied."""
    by_node: dict[str, list[_Bundle]] = defaultdict(list)
    for bundle in bundles:
        by_node[bundle.summary.header.node.id].append(bundle)
    for node, of_node in sorted(by_node.items()):
        dates: dict[int, tuple[str, str]] = {}
        said: set[int] = set()
        for bundle in of_node:
            for position in (bundle.summary.header.start, bundle.summary.header.end):
                if position.date is None:
                    continue
                date, path = dates.setdefault(position.seq, (position.date, bundle.path))
                if date != position.date and position.seq not in said:
                    said.add(position.seq)
                    yield _fork(node, position.seq, (path, date), (bundle.path, position.date))
        if said:
            continue
        ordered = sorted(
            (each for each in of_node if each.summary.header.mode == "history"), key=lambda each: (each.start, each.end)
        )
        for number, bundle in enumerate(ordered):
            for other in ordered[number + 1 :]:
                if other.start >= bundle.end:
                    break
                yield from _compared(node, bundle, other, look)


def _fork(node: str, seq: int, one: tuple[str, str], other: tuple[str, str]) -> str:
    return (
        f"position {seq} of {node} is dated {one[1]} in {one[0]} and {other[1]} in {other[0]}: two different changes "
        "claim it"
    )


def _compared(node: str, one: _Bundle, other: _Bundle, look: _Look) -> Iterator[str]:
    """The first position in the range of both at which they differ."""
    first, last = max(one.start, other.start) + 1, min(one.end, other.end)
    changes = zip(_changes(one.path, first, last, look), _changes(other.path, first, last, look), strict=False)
    for mine, theirs in changes:
        if mine.seq == theirs.seq and (mine.date, mine.origin) != (theirs.date, theirs.origin):
            yield _fork(node, mine.seq, (one.path, mine.date), (other.path, theirs.date))
            return


def _changes(path: str, first: int, last: int, look: _Look) -> Iterator[Change]:
    with open_bundle(path, limits=look.limits, identities=look.identities) as reader:
        for record in reader:
            if type(record) is Change and first <= record.seq:
                if record.seq > last:
                    return
                yield record


# --- in words ---------------------------------------------------------------------------------------------------------


_STREAMS, _PROBLEMS, _HEARSAY = 4, 4, 2
"""So many are shown, so that all of it is on a screen of 24 lines."""


def described(report: ArchiveReport) -> list[str]:
    """The report on one screen: what is there, what is wrong, what is proven by it and what is not."""
    copies = f", {len(report.copies)} of them copies of others" if report.copies else ""
    others = (
        f"; not looked at, by their names: {len(report.others)}, as {Path(report.others[0]).name}"
        if report.others
        else ""
    )
    lines = [f"{report.files} files{copies}{others}"]
    for each in report.streams[:_STREAMS]:
        dates = f", {each.since or 'the beginning'} to {each.until}" if each.until else ""
        lines.append(
            f"  {each.name} ({each.node}) for {each.destination!r}: {each.bundles} bundles, {each.records} records, "
            f"positions {each.first + 1} to {each.last}{dates}"
        )
        lines.append(
            f"    {'with gaps' if each.missing else 'without a gap'}, "
            f"{each.chained} of {each.bundles} name the bundle before them, and it is here"
        )
        if each.first:
            lines.append(f"    begins after position {each.first}: what was before is not in this archive")
    lines += _more(len(report.streams) - _STREAMS, "  … and {} more streams")
    lines += [f"PROBLEM: {problem}" for problem in report.problems[:_PROBLEMS]]
    lines += _more(len(report.problems) - _PROBLEMS, "PROBLEMS: … and {} more")
    if report.in_order:
        lines.append("Every file is whole and as it was written; none is missing between the positions above.")
    return lines + _described_signatures(report)


def _more(number: int, text: str) -> list[str]:
    return [f"{text.format(number)} (--json shows all)"] if number > 0 else []


def _described_signatures(report: ArchiveReport) -> list[str]:
    bundles = sum(each.bundles for each in report.streams)
    if not bundles:
        return ["Nothing is proven."]
    if not report.checked:
        signed = (
            f"{report.signed} of {bundles} carry a signature; --trusted FILE checks them"
            if report.signed
            else "none is signed"
        )
        return [f"Who wrote them is not proven by digests: {signed}."]
    lines = [f"Signed by the node that each says it is of, with a key that is trusted: {report.proven} of {bundles}."]
    hearsay = [
        f"NOT PROVEN: {count} changes of {origin} that {each.name} ({each.node}) passed on: they stand on its word."
        for each in report.streams
        for origin, count in each.hearsay.items()
    ]
    lines += [*hearsay[:_HEARSAY], *_more(len(hearsay) - _HEARSAY, "NOT PROVEN: … and what {} more passed on")]
    return [*lines, "When they were written, and that what they say is true, no signature proves."]
