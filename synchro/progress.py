"""How far something long has got, for whoever looks on: a terminal, a page, a test.

Whoever wants to know says so around the call, and is told by everything inside that takes long::

    with watched(lambda stage, done, total: print(stage, done, total)):
        import_bundle(path)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, TypeAlias

Stage: TypeAlias = Literal["writing", "verifying", "planning", "importing", "scanning", "synchronizing"]
Watcher: TypeAlias = Callable[[Stage, int, int | None], object]
"""Called with what is being done, how many records (or rows) of it are done, and of how many, None if nobody knows.

It is called often, so it should be quick; what it raises ends what it watches, as any error does.
"""

EVERY = 256
"""How many records go by between two calls, where they are looked at one by one."""

_watcher: ContextVar[Watcher | None] = ContextVar("synchro_progress", default=None)


@contextmanager
def watched(watcher: Watcher | None) -> Iterator[None]:
    """Tell *watcher* how far what happens inside the block has got; with None nobody."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


def tell(stage: Stage, done: int, total: int | None = None) -> None:
    """Say how far *stage* has got. Costs next to nothing where nobody is looking on."""
    watcher = _watcher.get()
    if watcher is not None:
        watcher(stage, done, total)


__all__ = ["EVERY", "Stage", "Watcher", "tell", "watched"]
