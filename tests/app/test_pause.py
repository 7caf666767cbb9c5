import asyncio
import contextvars
import functools
import gc
import inspect
import threading

import pytest
from asgiref.sync import sync_to_async
from django.dispatch import Signal, receiver

from synchro.pause import DisableSynchroLog, disable_synchro_log, is_paused


@pytest.fixture(autouse=True)
def nothing_stays_paused():
    assert not is_paused()
    yield
    assert not is_paused()


# --- the block --------------------------------------------------------------------------------------------------------


def test_paused_inside_the_block_only():
    with DisableSynchroLog():
        assert is_paused()
    assert not is_paused()


def test_an_exception_ends_the_pause_and_passes():
    with pytest.raises(KeyError), DisableSynchroLog():
        raise KeyError
    assert not is_paused()


def test_blocks_nest():
    with DisableSynchroLog():
        with DisableSynchroLog():
            assert is_paused()
        assert is_paused()


def test_one_instance_can_be_entered_again_while_it_is_open():
    pause = DisableSynchroLog()
    with pause:
        with pause, pause:
            assert is_paused()
        assert is_paused()
    assert not is_paused()
    with pause:
        assert is_paused()


def test_blocks_may_end_in_another_order_than_they_began():
    first, second = DisableSynchroLog(), DisableSynchroLog()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert is_paused()
    second.__exit__(None, None, None)
    assert not is_paused()


def test_leaving_what_was_not_entered_is_refused():
    with pytest.raises(RuntimeError, match="without having been entered"):
        DisableSynchroLog().__exit__(None, None, None)


def test_a_block_left_in_another_context_ends_where_it_was_entered():
    pause = DisableSynchroLog()
    entered = contextvars.copy_context()
    entered.run(pause.__enter__)
    assert entered.run(is_paused)
    contextvars.copy_context().run(pause.__exit__, None, None, None)
    assert not entered.run(is_paused)


# --- threads and tasks ------------------------------------------------------------------------------------------------


def test_other_threads_go_on_logging():
    seen = []
    with DisableSynchroLog():
        thread = threading.Thread(target=lambda: seen.append(is_paused()))
        thread.start()
        thread.join()
    assert seen == [False]


def test_threads_share_an_instance():
    pause = DisableSynchroLog()
    both_inside, one_left = threading.Barrier(2), threading.Event()
    seen = {}

    def first():
        with pause:
            both_inside.wait()
        seen["first, after its block"] = is_paused()
        one_left.set()

    def second():
        with pause:
            both_inside.wait()
            one_left.wait()
            seen["second, in its block"] = is_paused()
        seen["second, after its block"] = is_paused()

    threads = [threading.Thread(target=run) for run in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert seen == {"first, after its block": False, "second, in its block": True, "second, after its block": False}


def test_tasks_are_paused_each_for_itself():
    async def paused(entered, leave):
        async with DisableSynchroLog():
            entered.set()
            await leave.wait()
            return is_paused()

    async def main():
        entered, leave = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(paused(entered, leave))
        await entered.wait()
        outside = is_paused()
        leave.set()
        return outside, await task

    assert asyncio.run(main()) == (False, True)


def test_a_task_made_in_the_block_does_not_stay_paused_after_it():
    async def child(seen, proceed):
        seen.append(is_paused())
        await proceed.wait()
        seen.append(is_paused())
        with DisableSynchroLog():
            seen.append(is_paused())
        seen.append(is_paused())

    async def main():
        seen, proceed = [], asyncio.Event()
        with DisableSynchroLog():
            task = asyncio.create_task(child(seen, proceed))
            await asyncio.sleep(0)
        proceed.set()
        await task
        return seen

    assert asyncio.run(main()) == [True, False, True, False]


def test_a_task_made_in_an_inner_block_is_paused_as_long_as_the_outer_one():
    async def child(seen, steps):
        for step in steps:
            await step.wait()
            seen.append(is_paused())

    async def main():
        seen, steps = [], [asyncio.Event(), asyncio.Event()]
        with DisableSynchroLog():
            with DisableSynchroLog():
                task = asyncio.create_task(child(seen, steps))
            steps[0].set()
            await asyncio.sleep(0.01)
        steps[1].set()
        await task
        return seen

    assert asyncio.run(main()) == [True, False]


def test_synchronous_code_called_from_a_task_is_paused_with_it():
    def nested():
        with DisableSynchroLog():
            return is_paused()

    async def main():
        async with DisableSynchroLog():
            inside = await sync_to_async(is_paused)()
        return inside, await sync_to_async(nested)(), await sync_to_async(is_paused)(), is_paused()

    assert asyncio.run(main()) == (True, True, False, False)


def test_nothing_is_kept_of_closed_blocks():
    gc.collect()
    before = sum(type(o).__name__ == "_Pause" for o in gc.get_objects())
    for _ in range(100):
        with DisableSynchroLog(), DisableSynchroLog():
            pass
    gc.collect()
    assert sum(type(o).__name__ == "_Pause" for o in gc.get_objects()) == before


# --- the decorator ----------------------------------------------------------------------------------------------------


@disable_synchro_log
def plain(argument, *, keyword=None):
    """Doc."""
    return argument, keyword, is_paused()


def test_a_function():
    assert plain(1, keyword=2) == (1, 2, True)
    assert (plain.__name__, plain.__doc__) == ("plain", "Doc.")
    assert list(inspect.signature(plain).parameters) == ["argument", "keyword"]


def test_with_parentheses():
    @disable_synchro_log()
    def function():
        return is_paused()

    assert function()


def test_an_exception_of_the_function():
    @disable_synchro_log
    def function():
        raise KeyError

    with pytest.raises(KeyError):
        function()
    assert not is_paused()


def test_recursion():
    @disable_synchro_log
    def function(depth):
        assert is_paused()
        if depth:
            function(depth - 1)
            assert is_paused()

    function(3)


def test_methods():
    class Thing:
        @disable_synchro_log
        def method(self):
            return self, is_paused()

        @disable_synchro_log
        @classmethod
        def above_classmethod(cls):
            return cls, is_paused()

        @classmethod
        @disable_synchro_log
        def below_classmethod(cls):
            return cls, is_paused()

        @disable_synchro_log
        @staticmethod
        def above_staticmethod():
            return is_paused()

    thing = Thing()
    assert thing.method() == (thing, True)
    assert thing.above_classmethod() == Thing.below_classmethod() == (Thing, True)
    assert thing.above_staticmethod()


def test_callable_objects_and_partials():
    class Callable:
        def __call__(self, value):
            return value, is_paused()

    class AsyncCallable:
        async def __call__(self):
            await asyncio.sleep(0)
            return is_paused()

    async def coroutine(value):
        await asyncio.sleep(0)
        return value, is_paused()

    assert disable_synchro_log(Callable())(1) == (1, True)
    assert asyncio.run(disable_synchro_log(AsyncCallable())())
    assert disable_synchro_log(functools.partial(plain, 1))() == (1, None, True)
    assert asyncio.run(disable_synchro_log(functools.partial(coroutine, 1))()) == (1, True)


@pytest.mark.parametrize("thing", [int, 3, "name"])
def test_what_cannot_be_decorated(thing):
    with pytest.raises(TypeError, match="decorates functions"):
        disable_synchro_log(thing)


def test_below_receiver():
    signal, seen = Signal(), []

    @receiver(signal)
    @disable_synchro_log
    def handler(sender, **kwargs):
        seen.append(is_paused())

    signal.send(None)
    assert seen == [True]
    assert handler.__name__ == "handler"


def test_an_async_receiver():
    signal, seen = Signal(), []

    @receiver(signal)
    @disable_synchro_log
    async def handler(sender, **kwargs):
        await asyncio.sleep(0)
        seen.append(is_paused())

    signal.send(None)
    asyncio.run(signal.asend(None))
    assert seen == [True, True]


def test_a_coroutine_function():
    @disable_synchro_log
    async def function(value):
        await asyncio.sleep(0)
        return value, is_paused()

    async def main():
        coroutine = function(1)
        assert not is_paused()
        result = await coroutine
        return result, is_paused()

    assert inspect.iscoroutinefunction(function)
    assert asyncio.run(main()) == ((1, True), False)


def test_a_coroutine_behind_a_plain_function():
    async def inner():
        await asyncio.sleep(0)
        return is_paused()

    @disable_synchro_log
    def function():
        return inner()

    assert asyncio.run(function())


def test_a_generator_is_paused_while_it_runs_and_its_caller_is_not():
    log = []

    @disable_synchro_log
    def numbers():
        log.append(is_paused())
        try:
            sent = yield 1
            log.append((sent, is_paused()))
            try:
                yield 2
            except KeyError:
                log.append(("thrown", is_paused()))
                yield 3
            return "returned"
        finally:
            log.append(("finally", is_paused()))

    assert inspect.isgeneratorfunction(numbers)
    steps = numbers()
    assert (next(steps), is_paused()) == (1, False)
    assert (steps.send("sent"), is_paused()) == (2, False)
    assert (steps.throw(KeyError()), is_paused()) == (3, False)
    with pytest.raises(StopIteration) as stop:
        next(steps)
    assert stop.value.value == "returned"
    assert log == [True, ("sent", True), ("thrown", True), ("finally", True)]


def test_a_generator_that_is_closed_early_and_one_that_fails():
    log = []

    @disable_synchro_log
    def endless():
        try:
            while True:
                yield is_paused()
        finally:
            log.append(is_paused())

    steps = endless()
    assert next(steps)
    steps.close()
    assert log == [True]

    @disable_synchro_log
    def failing():
        yield 1
        raise LookupError("from inside")

    with pytest.raises(LookupError, match="from inside"):
        list(failing())

    @disable_synchro_log
    def empty():
        yield from ()

    assert list(empty()) == []


def test_a_generator_behind_a_plain_function():
    @disable_synchro_log
    def function():
        return (is_paused() for _ in range(2))

    assert list(function()) == [True, True]


def test_an_async_generator():
    log = []

    @disable_synchro_log
    async def numbers():
        try:
            await asyncio.sleep(0)
            sent = yield is_paused()
            log.append((sent, is_paused()))
            try:
                yield 2
            except KeyError:
                await asyncio.sleep(0)
                log.append(("thrown", is_paused()))
                yield 3
        finally:
            log.append(("finally", is_paused()))

    async def main():
        steps = numbers()
        assert (await anext(steps), is_paused()) == (True, False)
        assert (await steps.asend("sent"), is_paused()) == (2, False)
        assert (await steps.athrow(KeyError()), is_paused()) == (3, False)
        with pytest.raises(StopAsyncIteration):
            await anext(steps)

        closed = numbers()
        await anext(closed)
        await closed.aclose()
        return [value async for value in numbers()]

    assert inspect.isasyncgenfunction(numbers)
    assert asyncio.run(main()) == [True, 2]
    assert log == [
        *[("sent", True), ("thrown", True), ("finally", True)],
        ("finally", True),
        *[(None, True), ("finally", True)],
    ]


def test_an_async_generator_behind_a_plain_function():
    async def inner():
        yield is_paused()

    @disable_synchro_log
    def function():
        return inner()

    async def main():
        return [value async for value in function()]

    assert asyncio.run(main()) == [True]
