"""Pausing the log for a block or a function, in the current context only.

A pause belongs to the context (thread or asyncio task) that opened it and to whatever copies that context while the
pause is open: a task created inside the block is paused with it, and no longer than it. That last part is why the
context variable holds a mutable object and not ``True``: a task's copy of the variable can never be reset from
outside, but what it points at can be switched off.
"""

from __future__ import annotations

from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, overload

from synchro.around import around

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DisableSynchroLog", "disable_synchro_log", "is_paused"]

P = ParamSpec("P")
R = TypeVar("R")


class _Pause:
    """One entered block. ``active`` is switched off on exit, for every context that inherited it."""

    __slots__ = ("active", "outer", "owner")

    def __init__(self, owner: DisableSynchroLog, outer: _Pause | None) -> None:
        self.owner = owner
        self.outer = outer
        self.active = True


_innermost: ContextVar[_Pause | None] = ContextVar("synchro_pause", default=None)


def _still_active(pause: _Pause | None) -> _Pause | None:
    while pause is not None and not pause.active:
        pause = pause.outer
    return pause


def is_paused() -> bool:
    """Whether changes made now, in this context, stay out of the log. Called at each save."""
    pause = _innermost.get()
    return pause is not None and (pause.active or _still_active(pause) is not None)


class DisableSynchroLog:
    """Context manager (``with`` and ``async with``) inside which nothing is logged.

    Blocks nest, and one instance may be entered again while it is open, or be shared by threads and tasks: each
    ``with`` closes what it opened. Leaving a block that is not open raises RuntimeError.

    A ``with`` around a ``yield`` pauses the caller too, between the steps: generators run in their caller's context.
    The decorator `disable_synchro_log` does not.
    """

    __slots__ = ("__weakref__", "_open")

    def __init__(self) -> None:
        self._open: list[_Pause] = []

    def __enter__(self) -> Self:
        pause = _Pause(self, _still_active(_innermost.get()))
        self._open.append(pause)
        _innermost.set(pause)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pause = _innermost.get()
        while pause is not None and not (pause.owner is self and pause.active):
            pause = pause.outer
        if pause is None:
            # Entered in one context and left in another, as some test runners and servers do with generators: the
            # block must end there nevertheless, or its context would go unlogged for ever.
            if not self._open:
                raise RuntimeError("DisableSynchroLog was left without having been entered")
            pause = self._open[-1]
        pause.active = False
        self._open.remove(pause)
        _innermost.set(_still_active(_innermost.get()))

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(exc_type, exc, traceback)


@overload
def disable_synchro_log(function: Callable[P, R]) -> Callable[P, R]: ...
@overload
def disable_synchro_log() -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def disable_synchro_log(function: Any = None) -> Any:
    """Decorator: nothing that ``function`` does is logged. With or without parentheses.

    Works for functions, methods (above or below ``@classmethod`` and ``@staticmethod``), ``async def``, generators and
    async generators, which are paused while they run and not between their steps. A function that returns a coroutine
    or a generator made elsewhere is followed in the same way. Put it below ``@receiver``, so that the paused function
    is what gets connected. Raises TypeError for a class, or what cannot be called.
    """
    if function is None:
        return disable_synchro_log
    return around(function, DisableSynchroLog, "disable_synchro_log")
