"""What the versions that are here were made on: a change that comes after one that was made on it is no news.

Changes come in the order in which they were made, unless one was held, or files of some models went ahead. Then the
date of its base does not tell that what is here already was made on top of it; the log does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from synchro import serialize
from synchro.models import ChangeLog
from synchro.versions import Key, Stamp


class Ancestry:
    """For some objects and links: what each logged version was made on."""

    def __init__(self, using: str) -> None:
        self._using = using
        self._bases: dict[Key, dict[Stamp, Stamp]] = {}

    def load(self, wanted: Iterable[tuple[Key, Stamp]]) -> None:
        """Read what was logged of objects and links after a version of each; a query a chunk and model."""
        by_root: dict[tuple[str, bool], dict[str, set[Key]]] = defaultdict(lambda: defaultdict(set))
        since: dict[tuple[str, bool], int] = {}
        for key, stamp in wanted:
            kind = key.root, bool(key.link)
            by_root[kind][key.pk_text].add(key)
            since[kind] = min(since.get(kind, stamp.date), stamp.date)
            self._bases[key] = {}
        for (root, linked), of_root in by_root.items():
            for part in serialize.chunks(sorted(of_root)):
                rows = ChangeLog.objects.using(self._using).filter(
                    root=root, pk_text__in=part, date__gte=since[root, linked], base__isnull=False
                )
                rows = rows.exclude(link="") if linked else rows.filter(link="")
                columns = ("pk_text", "link", "date", "origin__ident", "base", "base_node__ident")
                made: tuple[Any, ...]
                for made in rows.values_list(*columns):
                    bases = self._bases.get(Key(root, *made[:2]))
                    if bases is not None:
                        bases[Stamp(*made[2:4])] = Stamp(*made[4:])

    def made_upon(self, key: Key, newest: Stamp, earlier: Stamp) -> bool:
        """Whether the version *newest* was made on top of *earlier*, directly or through others."""
        bases = self._bases.get(key, {})
        stamp: Stamp | None = newest
        while stamp is not None and stamp > earlier:
            stamp = bases.get(stamp)
        return stamp == earlier
