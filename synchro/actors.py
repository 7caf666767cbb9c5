"""Who makes the changes of this context, and why: noted with each change in the log, and carried in bundles."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, NamedTuple, ParamSpec, Self, TypeVar

import orjson

from changelog_format import BundleError
from changelog_format.forms import check_plain
from changelog_format.jsonl import format_line
from synchro.around import around

__all__ = ["ACTOR_LENGTH", "CONTEXT_LENGTH", "REASON", "acting", "asked", "current", "nobody"]

ACTOR_LENGTH = 255
CONTEXT_LENGTH = 2000
"""Characters of a context, as JSON."""
REASON = "reason"
"""The name in the context under which it says why."""

P = ParamSpec("P")
R = TypeVar("R")


class _Said(NamedTuple):
    """``actor`` is a name, or a function that is asked at each change; ``context`` is JSON, or empty."""

    actor: str | Callable[[], str]
    context: str


_NOBODY = _Said("", "")
_said: ContextVar[_Said] = ContextVar("synchro_actor", default=_NOBODY)


def current() -> tuple[str, str]:
    """Who acts now, and the context as JSON; empty where nobody said. Called at each change."""
    said = _said.get()
    return said if type(said.actor) is str else (said.actor(), said.context)  # type: ignore[operator, return-value]


class acting(AbstractContextManager["acting"]):  # noqa: N801  used as a function
    """Context manager and decorator: changes made inside are those of *actor*, a user or a name.

    Without *actor* it stays whoever acts outside. *reason* says why; *context* is whatever else is worth noting, plain
    JSON. Blocks nest; an actor begins with an empty context, a reason without one adds to that of outside. Threads do
    not inherit it, tasks that are started inside do.

    Raises ``ValueError`` for an actor of more than 255 characters, for a context of more than 2000 as JSON, and for
    what JSON cannot hold; ``TypeError`` for what is neither a user nor a name.
    """

    def __init__(self, actor: Any = None, reason: str | None = None, **context: Any) -> None:
        self._actor = None if actor is None else _name(actor)
        self._noted = dict(context) if reason is None else {REASON: reason, **context}
        _json(self._noted)  # refused here, not at the first change
        self._tokens: list[Token[_Said]] = []

    def __enter__(self) -> Self:
        outer = _said.get()
        if self._actor is not None:
            said = _Said(self._actor, _json(self._noted))
        else:
            noted = {**(orjson.loads(outer.context) if outer.context else {}), **self._noted}
            said = _Said(outer.actor, _json(noted))
        self._tokens.append(_said.set(said))
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _said.reset(self._tokens.pop())

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(exc_type, exc, traceback)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate *function*, a plain one, ``async def`` or a generator."""
        decorated: Callable[P, R] = around(function, lambda: acting._again(self), "acting")
        return decorated

    @classmethod
    def _again(cls, other: acting) -> acting:
        # An instance of its own each time: tokens belong to one context, and tasks run side by side.
        new = cls.__new__(cls)
        new._actor, new._noted, new._tokens = other._actor, other._noted, []  # noqa: SLF001
        return new


class _Inside(AbstractContextManager[None]):
    def __init__(self, said: _Said) -> None:
        self._inside = said
        self._token: Token[_Said] | None = None

    def __enter__(self) -> None:
        self._token = _said.set(self._inside)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._token is not None  # noqa: S101  it was entered
        _said.reset(self._token)


def nobody() -> AbstractContextManager[None]:
    """What is found or decided inside, whoever started the search, was made by somebody who is not known."""
    return _Inside(_NOBODY)


def asked(who: Callable[[], str]) -> AbstractContextManager[None]:
    """Changes made inside are those of whom *who* names at that moment: a name that fits, or an empty one."""
    return _Inside(_Said(who, ""))


def _name(actor: Any) -> str:
    name = actor if isinstance(actor, str) else actor.get_username() if hasattr(actor, "get_username") else None
    if not isinstance(name, str):
        raise TypeError(f"An actor is a user or a name, not {actor!r}.")
    if len(name) > ACTOR_LENGTH:
        raise ValueError(f"The actor {name[:20]}… has more than {ACTOR_LENGTH} characters.")
    _encoded("actor", {"actor": name})
    return str(name)


def _json(noted: dict[str, Any]) -> str:
    if not noted:
        return ""
    if not isinstance(noted.get(REASON, ""), str):
        raise TypeError(f"A reason is a text, not {noted[REASON]!r}.")
    text = _encoded("context", noted)
    if len(text) > CONTEXT_LENGTH:
        raise ValueError(f"The context has more than {CONTEXT_LENGTH} characters as JSON.")
    return text


def _encoded(what: str, noted: dict[str, Any]) -> str:
    """*noted* as JSON that every bundle and every database can hold."""
    try:
        check_plain(what, noted)
        format_line({what: noted})  # as in a record
        text = orjson.dumps(noted)
    except (BundleError, TypeError, ValueError) as error:
        raise ValueError(f"The {what} cannot be noted: {error}.") from error
    if rb"\u0000" in text:
        raise ValueError(f"The {what} has a NUL character, which not every database can hold.")
    return text.decode()
