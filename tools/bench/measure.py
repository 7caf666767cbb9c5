"""Measuring one piece of work inside a worker process."""

import resource
import sys
import time
from contextlib import ExitStack, contextmanager

UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes


def _peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT


def _cpu():
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def measured(work):
    """Run *work*: CPU and wall seconds, growth of this process's peak memory in bytes, what *work* returned.

    The CPU time is that of this process, all its threads, and the processes that it started.
    """
    before = _peak()
    wall, cpu = time.perf_counter(), _cpu()
    result = work()
    cpu, wall = _cpu() - cpu, time.perf_counter() - wall
    return {"cpu": cpu, "wall": wall, "memory": _peak() - before, **(result or {})}


@contextmanager
def counted(aliases):
    """A list whose only item is the number of queries made inside."""
    from django.db import connections

    number = [0]

    def count(execute, sql, params, many, context):
        number[0] += 1
        return execute(sql, params, many, context)

    with ExitStack() as stack:
        for alias in aliases:
            stack.enter_context(connections[alias].execute_wrapper(count))
        yield number
