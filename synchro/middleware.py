"""``synchro.middleware.ActorMiddleware``: what a request changes is logged with the name of its user."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeAlias, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponseBase

from synchro.actors import ACTOR_LENGTH, asked

__all__ = ["ActorMiddleware"]

_Sync: TypeAlias = Callable[[HttpRequest], HttpResponseBase]
_Async: TypeAlias = Callable[[HttpRequest], Awaitable[HttpResponseBase]]

logger = logging.getLogger(__name__)


class ActorMiddleware:
    """Says who acts, for requests of any kind: sync and async, logged in by session or by token.

    The user is asked for at each change: whoever logs in during the request, as REST frameworks do with tokens, is
    seen, and a request that changes nothing asks for none. It may stand anywhere in ``MIDDLEWARE``. While the body of a
    streaming response is sent, nobody acts.
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
        with asked(_Asking(request)):
            return cast("_Sync", self._get_response)(request)

    async def _answer(self, request: HttpRequest) -> HttpResponseBase:
        with asked(_Asking(request)):
            return await cast("_Async", self._get_response)(request)


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
