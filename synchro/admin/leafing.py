"""Leafing through a table of any size, the newest first: without counting it, and without skipping what came before.

A page begins below a primary key and is looked for in slices of the table, each a range of primary keys. So whatever is
filtered for, and however rare it is, a request ends soon; if it has found less than a page, the next one goes on there.
Indexes for the filters would find at once what is rare, but not what is rare in two of them together, and every sealing
would pay for them.
"""

from __future__ import annotations

import time
from typing import Any

from django.contrib.admin.views.main import PAGE_VAR, ChangeList
from django.core.paginator import Paginator
from django.db.models import Max
from django.http import HttpRequest

SLICE = 50_000
"""Primary keys that one query looks at."""
SECONDS = 1.0
"""How long is looked for a page; the slice that is begun then is the last."""


_BEYOND = 2**63  # no primary key


class Leafing(ChangeList):
    """A list whose page number is the primary key below which the page begins (1: the newest).

    ``older`` is the number of the next page, or None. ``stopped``: there was no time to look at what is older.
    """

    older: int | None = None
    stopped = False
    finds_by_index = False
    """Whether searching names rows that an index finds: then there are no slices."""

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
        rows = self.queryset.order_by("-pk")
        table = self.model._base_manager.using(self.queryset.db)
        below = self.page_num if 1 < self.page_num < _BEYOND else None
        wanted = self.list_per_page + 1
        found: list[Any] = []
        end = time.monotonic() + SECONDS
        first = True
        while len(found) < wanted:
            newest = (table if below is None else table.filter(pk__lt=below)).aggregate(pk=Max("pk"))["pk"]
            if newest is None:
                return found
            if not first and time.monotonic() > end:
                self.older, self.stopped = newest + 1, True
                return found
            first = False
            below = 0 if self.query and self.finds_by_index else newest - SLICE + 1
            found += rows.filter(pk__gte=below, pk__lte=newest)[: wanted - len(found)]
            if below <= 1 and len(found) < wanted:
                return found
        self.older = found[-2].pk
        return found[:-1]
