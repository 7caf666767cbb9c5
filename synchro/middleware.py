"""``synchro.middleware.ActorMiddleware``: what a request changes is logged with the name of its user."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeAlias, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import FileResponse, HttpRequest, HttpResponseBase, StreamingHttpResponse

from synchro.actors import ACTOR_LENGTH, asked
from synchro.around import around

__all__ = ["ActorMiddleware"]

_Sync: TypeAlias = Callable[[HttpRequest], HttpResponseBase]
_Async: TypeAlias = Callable[[HttpRequest], Awaitable[HttpResponseBase]]

logger = logging.getLogger(__name__)


class ActorMiddleware:
    """Says who acts, for requests of any kind: sync and async, logged in by session or by token.

    The user is asked for at each change: whoever logs in during the request, as REST frameworks do with tokens, is
    seen, and a request that changes nothing asks for none. It may stand anywhere in ``MIDDLEWARE``. What is changed
    while a streaming response is sent is the user's, too.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: _Sync | _Async) -> None:
        self._get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self._is_async:
            return self._answer(request)
        asking = _Asking(request)
        with asked(asking):
            return _streamed(cast("_Sync", self._get_response)(request), asking)

    async def _answer(self, request: HttpRequest) -> HttpResponseBase:
        asking = _Asking(request)
        with asked(asking):
            return _streamed(await cast("_Async", self._get_response)(request), asking)


def _streamed(response: HttpResponseBase, asking: _Asking) -> HttpResponseBase:
    """*response*, whose body is made inside the block, too, if it is made step by step; files are only read."""
    if not isinstance(response, StreamingHttpResponse) or isinstance(response, FileResponse):
        return response
    content = response.streaming_content

    def steps() -> Iterator[Any]:
        yield from cast("Iterator[Any]", content)

    async def async_steps() -> AsyncIterator[Any]:
        async for step in cast("AsyncIterator[Any]", content):
            yield step

    response.streaming_content = around(async_steps if response.is_async else steps, lambda: asked(asking), "")()
    return response


class _Asking:
    """The name of *request*'s user at the moment of the call; empty if nobody is logged in."""

    __slots__ = ("_busy", "_request")

    def __init__(self, request: HttpRequest) -> None:
        self._request = request
        self._busy = False

    def __call__(self) -> str:
        if self._busy:  # finding the user changed something itself
            return ""
        self._busy = True
        try:
            user = getattr(self._request, "user", None)
            if user is None or not user.is_authenticated:
                return ""
            return str(user.get_username()).replace("\0", "")[:ACTOR_LENGTH]
        except Exception:
            # Whoever it is, the change is not to be lost for it.
            logger.exception("The user of a request that changes something could not be found out")
            return ""
        finally:
            self._busy = False
