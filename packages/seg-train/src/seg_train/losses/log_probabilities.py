"""Log-probabilities of the true classes."""

import torch.nn.functional as F
from torch import Tensor

from seg_train.losses.cpu.log_probabilities import Term, log_probabilities_by_strips
from seg_train.losses.cpu.strips import MANY, can_be_read, takes_strips
from seg_train.losses.inputs import class_ids, split_ignored, widened

__all__ = ["log_probabilities", "without_ignored"]


def log_probabilities(logits: Tensor, target: Tensor, ignore_index: int, term: Term | None = None) -> Tensor:
    """Returns the log-probability of each pixel's true class, the softmax being that over all classes, with a graph.

    Args:
        logits: float (N, K, ...). Half precision is computed in float32.
        target: any integer type (N, ...), class ids and `ignore_index`.
        ignore_index: target value of the pixels that give 0, without a gradient, whatever their logits are.
        term: what is returned of the log-probabilities, instead of themselves.

    Returns:
        float32 (float64 for float64 logits), (N, ...).

    Raises:
        LabelOutOfRangeError: if the target holds another value. With CUDA torch itself stops; compiled code may not.
    """
    logits = widened(logits)
    if takes_strips(logits, MANY):
        return log_probabilities_by_strips(logits, target, ignore_index, term=term)[0]
    return log_probabilities_by_torch(logits, target, ignore_index, term)


def log_probabilities_by_torch(logits: Tensor, target: Tensor, ignore_index: int, term: Term | None = None) -> Tensor:
    """Returns what `log_probabilities` does for float32 or float64 logits, on any device, by torch's cross entropy."""
    seen, ids = without_ignored(logits, target, ignore_index)
    log_p = -F.cross_entropy(seen, ids, ignore_index=ignore_index, reduction="none")
    return log_p if term is None else term(log_p)


def without_ignored(logits: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Returns logits and target as torch's cross entropy takes them: int64, no infinite or NaN logit where ignored.

    Its gradient at an ignored pixel is 0 times the softmax there, which is NaN where a logit is infinite or NaN. So
    logits are 0 there, unless a look on a CPU shows that all are finite, which spares two copies of them.

    Raises:
        LabelOutOfRangeError: if the target holds another value, see `log_probabilities`.
    """
    ids, valid = split_ignored(target, ignore_index)
    if ids.device.type == "cuda":  # it would have to be waited for, and torch's cross entropy checks the target there
        ignored = ~valid
    else:
        _, ignored = class_ids(ids, logits.shape[1], ignore_index)
        # a sum that overflows is masked all the same
        if can_be_read(logits) and bool(logits.detach().sum().isfinite()):
            return logits, ids
    return logits.masked_fill(ignored[:, None], 0), ids
