"""Processes or threads that read the pairs of a dataset beside this process."""

import contextlib
import multiprocessing
import os
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass

from seg_core.workers import ignore_signals

__all__ = ["CHUNK", "Workers", "num_cpus", "workers_for"]

CHUNK = 32
"""Pairs at once."""
_FEW = 64  # pairs for which no process is started


@dataclass(frozen=True)
class Workers:
    """What reads pairs beside this process.

    Attributes:
        executor: runs calls.
        number: of its processes or threads.
    """

    executor: Executor
    number: int


@contextlib.contextmanager
def workers_for(total: int) -> Iterator[Workers | None]:
    """Yields what reads several of `total` pairs at once, or None if this takes longer than it saves."""
    workers = min(num_cpus(), -(-total // CHUNK))
    if total <= _FEW or workers < 2:
        yield None
        return
    with _pool(workers - 1) as pool:
        yield Workers(pool, workers - 1)


def _pool(workers: int) -> Executor:
    if sys.platform == "linux":
        # a forked process has the modules, whose import would take longer than most checks
        context = multiprocessing.get_context("fork")
        return ProcessPoolExecutor(workers, context, initializer=ignore_signals)
    return ThreadPoolExecutor(workers)


def num_cpus() -> int:
    """Returns the number of CPUs of this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
