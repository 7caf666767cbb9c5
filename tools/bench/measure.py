"""Measuring one piece of work inside a worker process."""

import resource
import sys
import time
from contextlib import ExitStack, contextmanager

UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes


def _peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT


def measured(work):
    """Run *work*: CPU and wall seconds of this process, growth of its peak memory in bytes, what *work* returned."""
    before = _peak()
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
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
