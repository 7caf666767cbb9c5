"""Leafing through a table of any size, the newest first: without counting it, and without skipping what came before.

What the indexes that there are find few rows for is looked up there, whatever else is filtered for. Otherwise a page
begins below a primary key and is looked for in slices of the table, each a range of primary keys. So whatever is
filtered for, and however rare it is, a request ends soon; if it has found less than a page, the next one goes on there.
Indexes for all filters would find at once what is rare, but not what is rare in two of them together, and every sealing
would pay for them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from django.contrib.admin.views.main import PAGE_VAR, ChangeList
from django.core.paginator import Paginator
from django.db.models import Max, QuerySet
from django.http import HttpRequest

SLICE = 5_000
"""Primary keys that the first query looks at."""
LARGEST = 40
"""How many times as many a later one looks at where the ones before were quick."""
SECONDS = 1.0
"""How long is looked for a page; the slice that is begun then is the last."""
FEW = 2_000
"""Rows found by an index that are looked at one by one."""
_CHUNK = 500


_BEYOND = 2**63  # no primary key


class Leafing(ChangeList):
    """A list whose page number is the primary key below which the page begins (1: the newest).

    ``older`` is the number of the next page, or None. ``stopped``: there was no time to look at what is older.
    """

    older: int | None = None
    stopped = False

    def by_index(self) -> Iterable[tuple[QuerySet[Any], ...]]:
        """Rows that an index finds; each entry has all that one of the filters lets through, in any order."""
        return ()

    def get_results(self, request: HttpRequest) -> None:
        found = self._found()
        self.result_list = found
        self.result_count = self.full_result_count = len(found)  # equal: the number is nothing to be shown
        self.show_full_result_count = False
        self.show_admin_actions = False
        self.can_show_all = self.multi_page = False
        self.paginator = Paginator(found, self.list_per_page)

    @property
    def newest_url(self) -> str:
        """The first page, from others."""
        return self.get_query_string(remove=[PAGE_VAR]) if self.page_num > 1 else ""

    @property
    def older_url(self) -> str:
        """The next page, where there may be one."""
        return self.get_query_string({PAGE_VAR: self.older}) if self.older is not None else ""

    def _found(self) -> list[Any]:
        below = self.page_num if 1 < self.page_num < _BEYOND else None
        few = self._few()
        return self._sliced(below) if few is None else self._picked(few, below)

    def _few(self) -> list[int] | None:
        """The primary keys of a few rows that all wanted ones are among, or None."""
        for several in self.by_index():
            found: set[int] = set()
            for rows in several:
                # Without an order, or it would be the index that is read.
                found.update(rows.order_by().values_list("pk", flat=True)[: FEW + 1 - len(found)])
                if len(found) > FEW:
                    break
            else:
                return sorted(found, reverse=True)
        return None

    def _picked(self, keys: list[int], below: int | None) -> list[Any]:
        keys = [key for key in keys if below is None or key < below]
        rows = self.queryset.order_by("-pk")
        found: list[Any] = []
        for start in range(0, len(keys), _CHUNK):
            found += rows.filter(pk__in=keys[start : start + _CHUNK])[: self.list_per_page + 1 - len(found)]
            if len(found) > self.list_per_page:
                return self._page_of(found)
        return found

    def _sliced(self, below: int | None) -> list[Any]:
        rows = self.queryset.order_by("-pk")
        table = self.model._base_manager.using(self.queryset.db)
        wanted, size = self.list_per_page + 1, SLICE
        found: list[Any] = []
        begin = time.monotonic()
        end, first = begin + SECONDS, True
        while len(found) < wanted:
            newest = (table if below is None else table.filter(pk__lt=below)).aggregate(pk=Max("pk"))["pk"]
            if newest is None:
                return found
            if not first and begin > end:
                self.older, self.stopped = newest + 1, True
                return found
            first = False
            below = newest - size + 1
            found += rows.filter(pk__gte=below, pk__lte=newest)[: wanted - len(found)]
            if below <= 1 and len(found) < wanted:
                return found
            now = time.monotonic()
            if now - begin < SECONDS / 20:
                size = min(size * 4, SLICE * LARGEST)
            begin = now
        return self._page_of(found)

    def _page_of(self, found: list[Any]) -> list[Any]:
        """All but the last of *found*, which is of the next page."""
        self.older = found[-2].pk
        return found[:-1]
