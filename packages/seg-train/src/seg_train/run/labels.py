"""Labels and scores of logits, by the task of the dataset."""

from torch import Tensor

from seg_core.labels.tasks import BINARY, MULTICLASS
from seg_core.metrics.argmax import Thresholds, argmax_labels, threshold_labels

__all__ = ["labels_of", "scores_of"]


def labels_of(logits: Tensor, task: str, thresholds: Thresholds = 0.5) -> Tensor:
    """Returns the labels of logits at the size of the logits.

    Args:
        logits: float (N, K, H, W).
        task: of the dataset.
        thresholds: probability that a class of a binary or multilabel task must exceed: one, or one per class.

    Returns:
        Class ids, uint8 or uint16 (N, H, W); for a binary task 0 and 1, uint8 (N, H, W); for a multilabel task 0 and 1
        per class, uint8 (N, K, H, W).
    """
    if task == MULTICLASS:
        return argmax_labels(logits)
    return _squeezed(threshold_labels(logits, thresholds), task)


def scores_of(logits: Tensor, task: str) -> Tensor:
    """Returns the probabilities of a binary or multilabel task: float32 or float64, of the shape of its labels."""
    values = logits if logits.dtype.itemsize >= 4 else logits.float()
    return _squeezed(values.sigmoid(), task)


def _squeezed(planes: Tensor, task: str) -> Tensor:
    return planes[:, 0] if task == BINARY else planes
