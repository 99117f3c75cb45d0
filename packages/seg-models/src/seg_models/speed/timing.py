"""Times of calls: warmed up, and several kinds in turn, so that a busy machine slows all of them alike."""

import gc
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Ratio", "Times", "ratio_of", "time_in_turn"]

_MIN_ROUNDS, _MAX_ROUNDS = 3, 10_000
_MIN_FOR_TENTHS, _MIN_FOR_HUNDREDTHS = 10, 100
_WARM_UP = 0.1  # fraction of the time for measuring


@dataclass(frozen=True)
class Times:
    """Latency: the distribution of the times of equal calls.

    Attributes:
        runs: number of calls.
        median: in seconds.
        fastest: the shortest, on a busy machine the nearest to what it does alone.
        p10: time that a tenth of the calls stayed below; None for fewer than 10 calls.
        p90: time that nine tenths of the calls stayed below; None for fewer than 10 calls.
        p99: time that 99 of 100 calls stayed below; None for fewer than 100 calls.
    """

    runs: int
    median: float
    fastest: float
    p10: float | None
    p90: float | None
    p99: float | None

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Times":
        """Returns the distribution of at least one time."""
        p10, p90 = _percentiles(seconds, (10, 90), _MIN_FOR_TENTHS)
        (p99,) = _percentiles(seconds, (99,), _MIN_FOR_HUNDREDTHS)
        return cls(len(seconds), float(np.median(seconds)), min(seconds), p10, p90, p99)


@dataclass(frozen=True)
class Ratio:
    """How long one kind of call takes beside another: the ratios of the two times within each round.

    Attributes:
        rounds: number of rounds.
        median: median of the ratios; below 1 if the first is faster.
        p10: ratio that a tenth of the rounds stayed below; None for fewer than 10 rounds.
        p90: ratio that nine tenths of the rounds stayed below; None for fewer than 10 rounds.
        faster_in: number of rounds in which the first was faster.
    """

    rounds: int
    median: float
    p10: float | None
    p90: float | None
    faster_in: int


def ratio_of(seconds: Sequence[float], baseline: Sequence[float]) -> Ratio:
    """Returns how long calls take beside those of a baseline; equal positions are the same round."""
    ratios = [a / max(b, 1e-12) for a, b in zip(seconds, baseline, strict=True)]
    p10, p90 = _percentiles(ratios, (10, 90), _MIN_FOR_TENTHS)
    return Ratio(len(ratios), float(np.median(ratios)), p10, p90, sum(ratio < 1 for ratio in ratios))


def time_in_turn(
    works: Mapping[str, Callable[[], Any]],
    seconds: float,
    *,
    wait: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
    max_rounds: int = _MAX_ROUNDS,
) -> dict[str, list[float]]:
    """Returns the seconds of each call, by name; equal positions are the same round.

    Each kind is warmed up first, by two calls or more, for a tenth of the time. Then each round calls every kind once,
    in random order: if the order were fixed, each would always find the caches as the same other one leaves them.

    Args:
        works: name -> call.
        seconds: how long to measure each kind; there are at least 3 rounds, however long they take.
        wait: waits until the device has done its work.
        clock: returns the time in seconds.
        max_rounds: number of rounds after which measuring ends early.
    """
    for work in works.values():
        begin = clock()
        work()
        while True:
            work()
            wait()
            if clock() - begin >= _WARM_UP * seconds:
                break
    found: dict[str, list[float]] = {name: [] for name in works}
    order = random.Random(0)
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()  # a collection would be a long call of whichever kind happens to cause it
    try:
        begin = clock()
        for done in range(1, max_rounds + 1):
            for name in order.sample(list(works), len(works)):
                wait()
                start = clock()
                works[name]()
                wait()
                found[name].append(clock() - start)
            if done >= _MIN_ROUNDS and clock() - begin >= seconds * len(works):
                break
    finally:
        if enabled:
            gc.enable()
    return found


def _percentiles(values: Sequence[float], ranks: Sequence[int], minimum: int) -> list[float | None]:
    """Returns percentiles, interpolated linearly; None if there are fewer than `minimum` values."""
    if len(values) < minimum:
        return [None] * len(ranks)
    return [float(value) for value in np.percentile(values, ranks)]
