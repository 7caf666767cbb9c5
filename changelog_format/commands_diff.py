"""``diff``: what differs between two bundles, or folders of them: object by object, field by field."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .history import ABSENT, Difference, Newest, bundles_in, changes, differences, fold
from .output import clean, say, say_json, several

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from .history import Opener

__all__ = ["ObjectDifference", "compare", "diff"]

_SHOWN = 200
DIFFERENT = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectDifference:
    """An object that is not the same on both sides. `only` is "a" or "b" where just one of them has it.

    `links_a` and `links_b` are what just one of them links to, as `(field, natural key or id)`.
    """

    model: str
    id: str
    key: list[Any] | None
    only: str | None
    fields: tuple[Difference, ...]
    links_a: tuple[tuple[str, Any], ...]
    links_b: tuple[tuple[str, Any], ...]
    a: Newest | None
    b: Newest | None

    def to_dict(self) -> dict[str, Any]:
        """As the command line prints it; what a side does not have is left out."""
        return {
            "model": self.model,
            "id": self.id,
            "key": self.key,
            "only": self.only,
            "fields": {
                each.field: {
                    side: value for side, value in (("a", each.before), ("b", each.after)) if value is not ABSENT
                }
                for each in self.fields
            },
            "links": {"a": [list(link) for link in self.links_a], "b": [list(link) for link in self.links_b]},
            "a": _made(self.a),
            "b": _made(self.b),
        }


def compare(
    a: Sequence[str], b: Sequence[str], opened: Opener, *, models: Sequence[str] = (), until: str | None = None
) -> Iterator[ObjectDifference]:
    """What differs in the newest states of the objects in the bundles *a* and *b*, sorted by model and id.

    An object is the same by its id, and otherwise by its natural key. One that was deleted is as one that is not there.
    """
    one, other = (fold(changes(paths, opened, models=models, until=until)) for paths in (a, b))
    by_key = {
        (place[0], _json(newest.key)): place
        for place, newest in other.items()
        if newest.present and newest.key is not None and place not in one
    }
    matched: set[tuple[str, str]] = set()
    found: list[ObjectDifference] = []
    for place, mine in one.items():
        at = place
        if place not in other and mine.key is not None:
            at = by_key.get((place[0], _json(mine.key)), place)
        matched.add(at)
        found += _compared(mine, other.get(at))
    found += [each for place, theirs in other.items() if place not in matched for each in _compared(None, theirs)]
    yield from sorted(found, key=lambda each: (each.model, each.id))


def _compared(a: Newest | None, b: Newest | None) -> Iterator[ObjectDifference]:
    here, there = a is not None and a.present, b is not None and b.present
    either = a or b
    if either is None:
        return
    fields = differences(a.fields if a and here else {}, b.fields if b and there else {})
    links_a, links_b = _links(a), _links(b)
    # A bundle of links alone says nothing of the object itself.
    stateless = either.state is None or (a is not None and b is not None and None in (a.state, b.state))
    if stateless:
        fields = []
    only = None if stateless or here == there else "a" if here else "b"
    less, more = {**links_a}, {**links_b}
    for shared in links_a.keys() & links_b.keys():
        del less[shared], more[shared]
    if only or fields or less or more:
        yield ObjectDifference(
            model=either.model,
            id=either.id,
            key=either.key,
            only=only,
            fields=tuple(fields),
            links_a=tuple(less.values()),
            links_b=tuple(more.values()),
            a=a,
            b=b,
        )


def _links(newest: Newest | None) -> dict[tuple[str, str], tuple[str, Any]]:
    """The links that there are, by field and the target's key or id (which deployments may know under another)."""
    found = {}
    for (field, _, name), made in (newest.links if newest is not None else {}).items():
        if made.change.action == "link":
            target = made.change.target
            what = name if target is None or target.key is None else target.key
            found[field, _json(what)] = (field, what)
    return found


def diff(options: argparse.Namespace, opened: Opener) -> int:
    """Print what differs; `DIFFERENT` where something does, otherwise 0."""
    models = [label.lower() for label in options.model]
    found = compare(bundles_in([options.a]), bundles_in([options.b]), opened, models=models, until=options.until)
    counts = {"a": 0, "b": 0, None: 0}
    for each in found:
        counts[each.only] += 1
        if options.json:
            say_json(each.to_dict())
        else:
            for line in described(each):
                say(clean(line))
    if not any(counts.values()):
        if not options.json:
            say("No differences.")
        return 0
    if not options.json:
        verb = "differs" if counts[None] == 1 else "differ"
        say(f"{several(counts[None], 'object')} {verb}, {counts['a']} only in A, {counts['b']} only in B.")
    return DIFFERENT


def described(each: ObjectDifference) -> Iterator[str]:
    """The lines that tell of one object."""
    name = each.id if each.key is None else f"{_json(each.key)} ({each.id})"
    where = f", only in {each.only.upper()}" if each.only else ""
    yield f"{each.model} {name}{where}"
    for side, newest in (("A", each.a), ("B", each.b)):
        made = _made(newest)
        if made is not None and (made["action"] != "delete" or each.only):
            by = f" by {made['actor']}" if made["actor"] else ""
            gone = ", deleted" if made["action"] == "delete" else ""
            yield f"  {side}: {made['date']} at {made['node']}{by}{gone}"
    for change in each.fields if each.only is None else ():
        yield f"    {change.field}: {_shown(change.before)} → {_shown(change.after)}"
    for sign, links in (("-", each.links_a), ("+", each.links_b)):
        for field, what in links:
            yield f"  {sign} {field}: {_shown(what)}"


def _made(newest: Newest | None) -> dict[str, Any] | None:
    if newest is None or newest.state is None:
        return None
    change = newest.state.change
    return {"date": change.date, "node": newest.state.node, "action": change.action, "actor": change.actor}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _shown(value: Any) -> str:
    if value is ABSENT:
        return "(no such field)"
    text = _json(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text)} characters)"
