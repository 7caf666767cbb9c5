"""Running a function inside a block: functions, coroutines and generators, which are in it while they run."""

from __future__ import annotations

import functools
import inspect
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any, TypeAlias

from asgiref.sync import iscoroutinefunction

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from contextlib import AbstractContextManager

    Block: TypeAlias = Callable[[], AbstractContextManager[Any]]

__all__ = ["around"]


def around(function: Any, block: Block, name: str) -> Any:
    """*function*, run inside what *block* gives, which is asked for anew each time; *name* is that of the decorator.

    Works for functions, methods (above or below ``@classmethod`` and ``@staticmethod``), ``async def``, generators and
    async generators, which are inside while they run and not between their steps. A function that returns a coroutine
    or a generator made elsewhere is followed in the same way. Raises TypeError for a class, or what cannot be called.
    """
    if isinstance(function, (classmethod, staticmethod)):
        return type(function)(around(function.__func__, block, name))
    if isinstance(function, type) or not callable(function):
        raise TypeError(f"{name} decorates functions and methods, not {function!r}")
    if _is(inspect.isasyncgenfunction, function):
        return _async_generator(function, block)
    if _is(inspect.isgeneratorfunction, function):
        return _generator(function, block)
    if _is(iscoroutinefunction, function):
        return _coroutine(function, block)
    return _function(function, block)


def _coroutine(function: Callable[..., Any], block: Block) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        with block():
            return await function(*args, **kwargs)

    return wrapper


def _generator(function: Callable[..., Any], block: Block) -> Callable[..., Any]:
    """Run each step inside *block*, and the caller outside of it between the steps (PEP 380, a step at a time)."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        steps = function(*args, **kwargs)
        try:
            with block():
                value = next(steps)
            while True:
                try:
                    sent = yield value
                except GeneratorExit:
                    with block():
                        steps.close()
                    raise
                except BaseException as error:  # noqa: BLE001 - whatever the caller throws is the generator's to handle
                    with block():
                        value = steps.throw(error)
                else:
                    with block():
                        value = steps.send(sent)
        except StopIteration as stop:
            return stop.value

    return wrapper


def _async_generator(function: Callable[..., Any], block: Block) -> Callable[..., Any]:
    """The same for async generators (PEP 525)."""

    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        steps = function(*args, **kwargs)
        try:
            with block():
                value = await anext(steps)
            while True:
                try:
                    sent = yield value
                except GeneratorExit:
                    with block():
                        await steps.aclose()
                    raise
                except BaseException as error:  # noqa: BLE001 - as above
                    with block():
                        value = await steps.athrow(error)
                else:
                    with block():
                        value = await steps.asend(sent)
        except StopAsyncIteration:
            return

    return wrapper


def _function(function: Callable[..., Any], block: Block) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with block():
            result = function(*args, **kwargs)
        # Another decorator may hide an `async def` or a generator behind a plain function.
        if isinstance(result, CoroutineType):
            return _coroutine(lambda: result, block)()
        if isinstance(result, GeneratorType):
            return _generator(lambda: result, block)()
        if isinstance(result, AsyncGeneratorType):
            return _async_generator(lambda: result, block)()
        return result

    return wrapper


def _is(test: Callable[[Any], bool], function: Any) -> bool:
    """Whether ``function``, or the ``__call__`` of such an object, passes ``test``."""
    return test(function) or test(getattr(function, "__call__", None))  # noqa: B004 - the method itself is wanted
