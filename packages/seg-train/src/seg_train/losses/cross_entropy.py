"""Cross entropy over pixels.

As `torch.nn.CrossEntropyLoss` with three differences: targets of any integer type are taken, logits in half precision
are computed in float32, and a batch without a valid pixel gives a 0 that still has a graph instead of NaN. On a CPU
large logits are computed in strips (`seg_train.losses.cpu.strips`), in less time and memory; elsewhere by torch's
function.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from seg_train.losses.checking import WeightedLoss, check_fraction, check_inputs
from seg_train.losses.cpu.strips import MANY, log_probabilities_by_strips, takes_strips, without_ignored

__all__ = [
    "CrossEntropyLoss",
    "cross_entropy_by_strips",
    "cross_entropy_by_torch",
    "mean_denominator",
    "pixel_factors",
    "reduce_pixels",
]


class CrossEntropyLoss(WeightedLoss):
    """Cross entropy between class logits and label maps.

    Args:
        weight: float (K,), one factor of at least 0 per class, or None for 1 each.
        ignore_index: target value that counts neither in the loss nor in the gradient.
        reduction: `"mean"` (sum divided by the sum of the valid pixels' weights), `"sum"` or `"none"` (0 for ignored
            pixels), as PyTorch defines them.
        label_smoothing: fraction 0 to 1 of the target that is spread evenly over all classes.

    Raises:
        InvalidArgumentError: if an argument is out of range.
    """

    def __init__(
        self,
        weight: Tensor | Sequence[float] | None = None,
        ignore_index: int = 255,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(weight, ignore_index, reduction)
        check_fraction("label_smoothing", label_smoothing)
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Returns the loss: float32 (float64 for float64 logits), 0-d, or (N, ...) where `reduction="none"`.

        Args:
            logits: float (N, K, ...), one plane per class.
            target: any integer type (N, ...), class ids and `ignore_index`.

        Raises:
            InvalidArgumentError: if the shapes do not belong together, the target is not of integers, or there is not
                one weight per class.
            LabelOutOfRangeError: if the target holds any other value. With CUDA torch itself stops; compiled code may
                not.
        """
        check_inputs(logits, target, self.weight)
        logits = _widened(logits)
        weight = None if self.weight is None else self.weight.to(logits)
        way = cross_entropy_by_strips if takes_strips(logits, MANY) else cross_entropy_by_torch
        return way(logits, target, weight, self.ignore_index, self.reduction, self.label_smoothing)

    def denominator(self, target: Tensor) -> Tensor:
        """Returns what the sum of the pixels' losses is divided by: 0-d, see `seg_train.losses.sharing`."""
        return mean_denominator(target, self.ignore_index, self.weight, self.reduction)

    def extra_repr(self) -> str:
        """Returns the arguments, for `print(loss)`."""
        return f"{super().extra_repr()}, label_smoothing={self.label_smoothing}"


def _widened(logits: Tensor) -> Tensor:
    """Returns float32 logits, or float64 ones as they are.

    A CPU takes the softmax over planes in half the time that it needs where the classes of a pixel lie side by side, so
    half precision is widened into planes, in one pass.
    """
    if logits.dtype in (torch.float32, torch.float64):
        return logits
    if logits.device.type == "cpu":
        return logits.to(torch.float32, memory_format=torch.contiguous_format)
    return logits.float()


def cross_entropy_by_torch(
    logits: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str, label_smoothing: float
) -> Tensor:
    """Returns what `CrossEntropyLoss` does, by torch's function, for float32 or float64 logits on any device."""
    seen, ids = without_ignored(logits, target, ignore_index)
    loss = F.cross_entropy(
        seen.contiguous() if seen.device.type == "cpu" else seen,  # see `_widened`
        ids,
        weight,
        ignore_index=ignore_index,
        reduction="none" if reduction == "none" else "sum",
        label_smoothing=label_smoothing,
    )
    return reduce_pixels(loss, pixel_factors(target, ignore_index, weight), reduction)


def cross_entropy_by_strips(
    logits: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str, label_smoothing: float
) -> Tensor:
    """Returns what `CrossEntropyLoss` does, for logits that `takes_strips` accepts."""
    num_classes = logits.shape[1]
    shares = None
    if label_smoothing > 0:
        shares = (logits.new_ones(num_classes) if weight is None else weight) / num_classes
    own, shared = log_probabilities_by_strips(logits, target, ignore_index, shares)
    factors = pixel_factors(target, ignore_index, weight)
    if weight is not None:
        own = own * factors
    if label_smoothing > 0:
        own = (1 - label_smoothing) * own + label_smoothing * shared
    return -reduce_pixels(own, factors, reduction)


def pixel_factors(target: Tensor, ignore_index: int, weight: Tensor | None) -> Tensor:
    """Returns the weight of each pixel: float (N, ...), 0 for ignored ones; without weights bool, True for valid ones.

    Args:
        target: any integer type (N, ...), class ids and `ignore_index`.
        ignore_index: target value of ignored pixels.
        weight: float (K,), or None for 1 each.
    """
    ids = target.long()
    valid = ids != ignore_index
    return valid if weight is None else weight[ids.where(valid, 0)].where(valid, 0)


def reduce_pixels(losses: Tensor, factors: Tensor, reduction: str) -> Tensor:
    """Returns the mean, the sum, or all of the losses of pixels.

    Args:
        losses: float (N, ...), weighted, 0 for ignored pixels; for `"mean"` and `"sum"` also their sum.
        factors: bool or float (N, ...), the weights of the pixels.
        reduction: `"mean"`: sum of the losses divided by the sum of the weights; `"sum"`; `"none"`.
    """
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    total = factors.sum().to(losses.dtype)
    # the sum of no pixels is 0 with a graph; divided by 1 it stays so
    return losses.sum() / total.where(total > 0, 1)


def mean_denominator(target: Tensor, ignore_index: int, weight: Tensor | None, reduction: str) -> Tensor:
    """Returns what `reduce_pixels` divides the mean by, the sum of the pixels' weights: 0-d; 0 for other reductions."""
    if reduction != "mean":
        return torch.zeros((), device=target.device)
    return pixel_factors(target, ignore_index, None if weight is None else weight.to(target.device)).sum()
