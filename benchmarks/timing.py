"""Timing: all contenders of a case in one process, in turn, so that a busy machine slows all of them alike."""

import ctypes
import gc
import importlib
import importlib.util
import math
import platform
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.case import Case, DisagreementError

__all__ = ["Timing", "keep_freed_memory", "limit_threads", "shuffled", "time_case"]

_SHORTEST_SAMPLE = 0.02  # seconds; shorter ones would measure the clock and the scheduler
# parameters of glibc's mallopt (malloc.h), with their default values
_TRIM_THRESHOLD, _BYTES_AT_FIRST = -1, 128 * 1024
_MMAP_MAX, _MAPS_AT_FIRST = -4, 65536


@dataclass(frozen=True)
class Timing:
    """The seconds of one call, for each contender and round, and how closely the answers agree.

    Args:
        seconds: name -> one number per round; equal positions are the same round.
        repeats: name -> calls per sample.
        agreement: the sentence of the case's check.
    """

    seconds: Mapping[str, Sequence[float]]
    repeats: Mapping[str, int]
    agreement: str

    def median(self, name: str) -> float:
        """Returns the median over the rounds, in seconds."""
        return statistics.median(self.seconds[name])

    def quartiles(self, name: str) -> tuple[float, float]:
        """Returns the first and the third quartile over the rounds, in seconds."""
        seconds = self.seconds[name]
        if len(seconds) == 1:
            return seconds[0], seconds[0]
        first, _, third = statistics.quantiles(seconds, n=4, method="inclusive")
        return first, third

    def ratio(self, ours: str, other: str) -> float:
        """Returns how many times longer `other` takes than `ours`: the median of the ratios within each round."""
        pairs = zip(self.seconds[ours], self.seconds[other], strict=True)
        return statistics.median(b / a for a, b in pairs)


def time_case(case: Case, rounds: int, quick: bool = False) -> Timing:
    """Prepares all contenders, checks that they agree, and times them.

    Args:
        case: what is compared.
        rounds: samples per contender, at least 1.
        quick: whether to use small inputs.

    Raises:
        DisagreementError: if the answers differ; then nothing is timed.
    """
    with limit_threads(case.threads), keep_freed_memory(case.keep_freed):
        _seed()
        inputs = case.make_inputs(quick)
        works, repeats, answers = {}, {}, {}
        for contender in case.contenders:
            works[contender.name] = work = contender.prepare(inputs)
            start = time.perf_counter()
            result = work()  # the first call also loads and allocates what later calls reuse
            first = time.perf_counter() - start
            repeats[contender.name] = 1 if first > _SHORTEST_SAMPLE else _repeats_for(_sample(work, 1))
            if contender.kind != "bound":
                answers[contender.name] = result if contender.answer is None else contender.answer(inputs)
            del result
        try:
            agreement = case.check(answers)
        except DisagreementError as error:
            raise DisagreementError(f"case {case.name!r}: {error}") from error
        del answers
        seconds: dict[str, list[float]] = {name: [] for name in works}
        for index in range(rounds):
            gc.collect()
            for name in shuffled(list(works), index):
                seconds[name].append(_sample(works[name], repeats[name]))
    return Timing(seconds, repeats, agreement)


def shuffled(names: Sequence[str], index: int) -> list[str]:
    """Returns the names in the order of round `index`, a random permutation.

    If the order were only rotated, each contender would always follow the same one, and find its data in the caches.
    """
    return random.Random(index).sample(list(names), len(names))


@contextmanager
def limit_threads(threads: int | None) -> Iterator[None]:
    """Limits torch and, if installed, OpenCV to that many threads; None changes nothing."""
    if threads is None:
        yield
        return
    import torch

    cv2 = importlib.import_module("cv2") if importlib.util.find_spec("cv2") else None
    before = torch.get_num_threads(), cv2.getNumThreads() if cv2 else 0
    torch.set_num_threads(threads)
    if cv2:
        # 0, unlike 1, also keeps OpenCV from handing the work to a thread pool
        cv2.setNumThreads(0 if threads == 1 else threads)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        if cv2:
            cv2.setNumThreads(before[1])


@contextmanager
def keep_freed_memory(keep: bool) -> Iterator[None]:
    """Lets the process reuse the large buffers that it frees, instead of returning them and asking for fresh pages.

    Otherwise the state of the heap decides which buffers are returned at once, and equal work takes different times.
    Works with glibc only; elsewhere, and for `keep=False`, nothing changes.
    """
    if not keep or platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        libc.mallopt(_MMAP_MAX, _MAPS_AT_FIRST)
        libc.mallopt(_TRIM_THRESHOLD, _BYTES_AT_FIRST)
        libc.malloc_trim(0)


def _sample(work: Callable[[], Any], repeats: int) -> float:
    """Returns the seconds of one call: the mean of `repeats` calls without garbage collection."""
    gc.disable()
    try:
        start = time.perf_counter()
        for _ in range(repeats):
            work()
        return (time.perf_counter() - start) / repeats
    finally:
        gc.enable()


def _repeats_for(seconds: float) -> int:
    return max(1, math.ceil(_SHORTEST_SAMPLE / max(seconds, 1e-6)))


def _seed() -> None:
    """Seeds the global random generators that peers use."""
    random.seed(0)
    if importlib.util.find_spec("torch") is not None:
        import numpy as np
        import torch

        np.random.seed(0)  # noqa: NPY002 - peers use numpy's old global state
        torch.manual_seed(0)
