"""Counts for binary and multilabel tasks: per class the pixels by truth and prediction, and histograms of scores."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = [
    "BINS",
    "as_planes",
    "average_precision",
    "best_thresholds",
    "count_planes",
    "count_scores",
    "counts_at",
    "wrong_planes",
]

BINS = 2**16
"""Bins of a histogram of scores: 1 MiB per class."""

# Bins are even in the logit, in which the scores of a network are spread evenly; in the probability most of them would
# be in the first and the last bin. Beyond this logit a probability in float32 hardly changes.
_LIMIT = 16.0
# Edges are between the numbers that half precision has, which would be on either side of an edge by rounding: many
# logits of a network in half precision are the same number.
_SHIFT = 1 / 3


def as_planes(values: Tensor, num_classes: int) -> Tensor:
    """Returns (N, K, ...) as (K, N, ...), and for one class anything as (1, ...)."""
    return values[None] if num_classes == 1 else values.movedim(1, 0)


def count_planes(truth: Tensor, pred: Tensor, ignore_index: int) -> Tensor:
    """Returns the pixels of each class by truth and prediction, without waiting for a device.

    Args:
        truth: integers (K, ...): 0, 1 or `ignore_index`.
        pred: integers or bools of the same shape: 0 or 1.
        ignore_index: value whose pixels are not counted.

    Returns:
        int64 (K, 2, 2): rows are truth, columns are predictions; on the device of `truth`.
    """
    truth, pred = truth.flatten(1), pred.flatten(1) != 0
    is_object, counted = truth == 1, truth != ignore_index
    hits, predicted = (is_object & pred).sum(1), (counted & pred).sum(1)
    objects, total = is_object.sum(1), counted.sum(1)
    misses, false = objects - hits, predicted - hits
    return torch.stack([total - hits - misses - false, false, misses, hits], 1).view(-1, 2, 2)


def wrong_planes(truth: Tensor, pred: Tensor, ignore_index: int) -> Tensor:
    """Returns int64 (2,): how many values of truth and prediction are not allowed; arguments as in `count_planes`."""
    wrong = (truth != 0) & (truth != 1) & (truth != ignore_index)
    beyond = torch.zeros((), dtype=torch.int64, device=pred.device)
    if pred.dtype != torch.bool:
        beyond = ((pred != 0) & (pred != 1)).sum()
    return torch.stack([wrong.sum(), beyond])


def count_scores(truth: Tensor, scores: Tensor, ignore_index: int) -> Tensor:
    """Returns the histogram of the scores of each class, apart for pixels with and without it.

    Args:
        truth: integers (K, ...): 0, 1 or `ignore_index`.
        scores: probabilities of the same shape, float in 0 to 1.
        ignore_index: value whose pixels are not counted.

    Returns:
        int64 (K, 2, BINS), on the device of `scores`: row 0 without the class, row 1 with it; bins from low to high.
    """
    num_classes = len(truth)
    logits = torch.logit(scores.flatten(1).float()).clamp_(-_LIMIT, _LIMIT)
    bins = ((logits + _LIMIT) * (BINS / (2 * _LIMIT)) + _SHIFT).long().clamp_(max=BINS - 1)
    truth = truth.flatten(1)
    rows = torch.arange(num_classes, device=scores.device)[:, None] * 2 + (truth == 1)
    # ignored pixels have a bin of their own, which is cut off: to pick the others would wait for the device
    places = torch.where(truth == ignore_index, 2 * num_classes * BINS, rows * BINS + bins).flatten()
    counts = torch.zeros(2 * num_classes * BINS + 1, dtype=torch.int64, device=scores.device)
    counts.scatter_add_(0, places, torch.ones_like(places))
    return counts[:-1].view(num_classes, 2, BINS)


def counts_at(histogram: Tensor, thresholds: Sequence[float]) -> Tensor:
    """Returns the pixels of each class by truth and prediction at other thresholds.

    Args:
        histogram: int64 (K, 2, BINS), as `count_scores` returns it.
        thresholds: K probabilities above 0 and below 1; exact for the edges of bins, as `best_thresholds` returns them.

    Returns:
        int64 (K, 2, 2): rows are truth, columns are predictions.
    """
    counts = []
    for of_class, threshold in zip(histogram, thresholds, strict=True):
        logit = math.log(threshold / (1 - threshold))
        first = round((min(max(logit, -_LIMIT), _LIMIT) + _LIMIT) * (BINS / (2 * _LIMIT)) + _SHIFT)
        counts.append(torch.stack([of_class[:, :first].sum(1), of_class[:, first:].sum(1)], 1))
    return torch.stack(counts)


def average_precision(histogram: Tensor) -> npt.NDArray[np.float64]:
    """Returns the average precision of each class, from a histogram as `count_scores` returns it.

    AP = sum over thresholds of (R_n - R_{n-1}) P_n, with precision and recall at each threshold from high to low, as in
    scikit-learn; scores in one bin count as equal.

    Returns:
        float64 (K,), 0 to 1; nan for a class of no pixel.
    """
    without, with_class = histogram.flip(-1).cumsum(-1).double().numpy().transpose(1, 0, 2)
    precision = np.divide(with_class, without + with_class, out=np.zeros_like(with_class), where=with_class > 0)
    total = with_class[:, -1:]
    steps = np.diff(with_class, prepend=0, axis=-1)
    found = (steps * precision).sum(-1)
    return np.divide(found, total[:, 0], out=np.full(len(found), np.nan), where=total[:, 0] > 0)


def best_thresholds(histogram: Tensor) -> npt.NDArray[np.float64]:
    """Returns the threshold of each class with the highest IoU, which is that of the highest F1 too.

    F1 = 2 IoU / (1 + IoU) grows with the IoU. Of equal thresholds the one nearest to 0.5 is taken.

    Args:
        histogram: int64 (K, 2, BINS), as `count_scores` returns it.

    Returns:
        float64 (K,), probabilities above 0 and below 1; 0.5 for a class of no pixel.
    """
    without, with_class = histogram.double().numpy().transpose(1, 0, 2)
    # positive are the bins from i on, for i from 1 to the last
    hits, false = (counts[:, ::-1].cumsum(-1)[:, -2::-1] for counts in (with_class, without))
    union = with_class.sum(-1, keepdims=True) + false
    iou = np.divide(hits, union, out=np.zeros_like(hits), where=union > 0)
    logits = (np.arange(1, BINS) - _SHIFT) * (2 * _LIMIT / BINS) - _LIMIT
    nearest = np.where(iou == iou.max(-1, keepdims=True), np.abs(logits), np.inf).argmin(-1)
    best = 1 / (1 + np.exp(-logits[nearest]))
    return np.where(iou.max(-1) > 0, best, 0.5)
