"""Log-probabilities of the true classes, on which the losses of pixels are built."""

import torch.nn.functional as F
from torch import Tensor

from seg_train.losses.cpu.log_probabilities import Term, log_probabilities_by_strips
from seg_train.losses.cpu.strips import CROSS_ENTROPY_FACTOR, has_cpu_values, use_strips
from seg_train.losses.inputs import class_ids, split_ignored, widened

__all__ = ["log_probabilities", "without_ignored"]


def log_probabilities(logits: Tensor, target: Tensor, ignore_index: int, term: Term | None = None) -> Tensor:
    """Returns the log of the softmax probability of each pixel's true class, differentiable.

    Args:
        logits: float (N, K, ...). Half precision is computed in float32.
        target: any integer type (N, ...), class ids and `ignore_index`.
        ignore_index: target value of pixels with result 0 and no gradient, whatever their logits are.
        term: function of the log-probabilities to return instead of them.

    Returns:
        float32 (float64 for float64 logits), (N, ...).

    Raises:
        LabelOutOfRangeError: if the target contains another value. On CUDA torch's own assertion fails instead;
            compiled code may not check.
    """
    logits = widened(logits)
    if use_strips(logits, CROSS_ENTROPY_FACTOR):
        return log_probabilities_by_strips(logits, target, ignore_index, term=term)[0]
    seen, ids = without_ignored(logits, target, ignore_index)
    log_p = -F.cross_entropy(seen, ids, ignore_index=ignore_index, reduction="none")
    return log_p if term is None else term(log_p)


def without_ignored(logits: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Returns inputs for torch's cross entropy: logits without infinite or NaN values at ignored pixels, int64 target.

    At an ignored pixel the gradient of that function is 0 times the softmax, which is NaN where a logit is infinite or
    NaN. So logits are set to 0 there. On a CPU this is skipped where all logits are finite, which saves two copies.

    Raises:
        LabelOutOfRangeError: if the target contains another value, see `log_probabilities`.
    """
    ids, valid = split_ignored(target, ignore_index)
    if ids.device.type == "cuda":  # checking would synchronize, and torch's cross entropy checks the target there
        ignored = ~valid
    else:
        _, ignored = class_ids(ids, logits.shape[1], ignore_index)
        # a sum that overflows is not finite either: then the logits are masked although they need not be
        if has_cpu_values(logits) and bool(logits.detach().sum().isfinite()):
            return logits, ids
    return logits.masked_fill(ignored[:, None], 0), ids
