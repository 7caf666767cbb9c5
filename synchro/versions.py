"""The newest known change of each object and of each m2m link: what conflicts are decided against."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from synchro import serialize, tables
from synchro.models import Action, ChangeLog, Version


class Key(NamedTuple):
    """What has a history of its own: an object (``link`` is ""), or one m2m link of it."""

    root: str
    pk_text: str
    link: str = ""


class Stamp(NamedTuple):
    """Date (microseconds) and node (its id) of a change; the greater one is the later change."""

    date: int
    node: str


class Current(NamedTuple):
    """The newest change of a key; ``seq``: its position at its origin, where the log has lost it."""

    stamp: Stamp
    deleted: bool
    change_id: int | None
    seq: int | None = None


_KEYS = tables.columns(Version, "root", "pk_text", "link")
_VALUES = tables.columns(Version, "date", "node", "deleted", "change_id", "seq")


def find(keys: Iterable[Key], using: str) -> dict[Key, Current]:
    """The newest changes of those *keys* that have one; a query a chunk and model for objects, and one for links."""
    wanted = set(keys)
    objects: dict[str, list[str]] = defaultdict(list)
    links: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for key in sorted(wanted):
        if key.link:
            links[key.root][key.pk_text].append(key.link)
        else:
            objects[key.root].append(key.pk_text)
    found: dict[Key, Current] = {}
    for root, texts in objects.items():
        rows = Version.objects.using(using).filter(root=root, link="").order_by().values_list(*_READ)
        for part in serialize.chunks(texts):
            found.update(_current(row) for row in tables.among(rows, _KEYS[1], part))
    for root, of_root in links.items():
        for part in serialize.chunks(list(of_root)):
            rows = Version.objects.using(using).filter(root=root).order_by()
            named = {link for text in part for link in of_root[text]}
            # An object may have very many links. But a database may look for each of them at each of the objects.
            few = len(part) * len(named) <= LOOKUPS
            rows = rows.filter(link__in=named) if few else rows.exclude(link="")
            of_part = map(_current, tables.among(rows.values_list(*_READ), _KEYS[1], part))
            found.update((key, current) for key, current in of_part if key in wanted)
    return found


LOOKUPS = 20 * serialize.CHUNK


_READ = ("root", "pk_text", "link", "date", "node__ident", "deleted", "change_id", "seq")


def _current(row: Sequence[Any]) -> tuple[Key, Current]:
    root, pk_text, link, date, node, deleted, change_id, seq = row
    return Key(root, pk_text, link), Current(Stamp(date, node), deleted, change_id, seq)


def find_pending(keys: Iterable[Key], own_ident: str, using: str) -> dict[Key, Current]:
    """The newest changes of *keys* that are logged and not sealed yet, dated as they were captured."""
    wanted = set(keys)
    found: dict[Key, Current] = {}
    for part in serialize.chunks(sorted(wanted)):
        rows = ChangeLog.objects.using(using).filter(log__isnull=True, pk_text__in=[key.pk_text for key in part])
        for pk, root, text, link, action, captured in rows.order_by("pk").values_list(
            "pk", "root", "pk_text", "link", "action", "captured"
        ):
            key = Key(root, text, link)
            if key in wanted:
                gone = action in (Action.DELETE, Action.UNLINK)
                found[key] = Current(Stamp(captured, own_ident), gone, pk)
    return found


def store(changed: Mapping[Key, Current], known: Iterable[Key], node_ids: Mapping[str, int], using: str) -> None:
    """Write *changed*; *known* are the keys that have a row already, *node_ids* the primary keys of the nodes by id."""
    present = set(known)
    new: list[VersionRow] = []
    others: list[VersionRow] = []
    for key, (stamp, deleted, change_id, _) in changed.items():
        row = (stamp.date, node_ids[stamp.node], deleted, change_id, None)
        (others if key in present else new).append((key, row))
    write(new, others, using)


VersionRow = tuple[tuple[str, str, str], tuple[int, int, bool, int | None, None]]
"""A key; and the date, the node (its primary key), whether it is gone, the row of the log, and no position."""


def write(new: Iterable[VersionRow], changed: Iterable[VersionRow], using: str, *, copy: bool = False) -> None:
    """Write the rows of keys that have none yet, and of *changed* ones; *copy*: see ``tables.insert_many``."""
    tables.insert_many(Version, [*_KEYS, *_VALUES], ((*key, *values) for key, values in new), using, copy=copy)
    tables.update_many(Version, _VALUES, _KEYS, ((*values, *key) for key, values in changed), using)


def forget(root: str, pk_texts: Iterable[str], using: str) -> None:
    """Objects that are known by another text from now on."""
    for part in serialize.chunks(sorted(pk_texts)):
        Version.objects.using(using).filter(root=root, link="", pk_text__in=part).delete()


def unlogged(root: str, pk_texts: Iterable[str], using: str) -> set[str]:
    """Those of *pk_texts* of which no change was ever logged."""
    wanted = set(pk_texts)
    rows = Version.objects.using(using).filter(root=root, link="").order_by().values_list("pk_text")
    for part in serialize.chunks(sorted(wanted)):
        wanted.difference_update(text for (text,) in tables.among(rows, _KEYS[1], part))
    return wanted
