"""Times ways of computing in turn, so that a busy machine slows all of them alike, and compares what they compute."""

import random
import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from seg_core.metrics.argmax import Thresholds, argmax_labels, threshold_labels

__all__ = ["compare", "race"]

_clock = time.perf_counter
_ROUNDS = 25
_LEAST = 5  # rounds
_SLOW = 1.5  # times the fastest: not called again after the first rounds


def race(works: Mapping[str, Callable[[], object]], device: torch.device, budget: float) -> dict[str, float]:
    """Returns the median seconds of a call of each work.

    In each round every work is called once, in an order that differs from round to round. After a few rounds those
    that are much slower than the fastest are left out.

    Args:
        works: name -> what is timed.
        device: where it is computed.
        budget: seconds after which no further round is started, beyond the first five.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    start = _clock()
    for index in range(_ROUNDS):
        if index >= _LEAST and _clock() - start > budget:
            break
        names = list(works)
        if index >= _LEAST:
            best = min(min(times) for times in seconds.values())
            names = [name for name in names if min(seconds[name]) <= _SLOW * best]
        for name in random.Random(index).sample(names, len(names)):
            before = _clock()
            works[name]()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds[name].append(_clock() - before)
    return {name: statistics.median(times) for name, times in seconds.items()}


def compare(logits: Tensor, expected: Tensor, thresholds: Thresholds | None) -> tuple[int, int, float]:
    """Returns the number of equal labels, that of all labels, and the largest difference of a logit.

    Args:
        logits: floating point (N, K, H, W).
        expected: those of eager.
        thresholds: of a binary or multilabel task, one for all classes or one per class; None for a multiclass task.
    """
    error = float((logits.double() - expected.double()).abs().max())
    labels, wanted = (
        argmax_labels(each.float()) if thresholds is None else threshold_labels(each.float(), thresholds)
        for each in (logits, expected)
    )
    return int((labels == wanted).sum()), labels.numel(), error
