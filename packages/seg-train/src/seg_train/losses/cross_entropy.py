"""Cross entropy over pixels.

As `torch.nn.CrossEntropyLoss` with three differences: targets of any integer type are taken, logits in half precision
are computed in float32, and a batch without a valid pixel gives a 0 that still has a graph instead of NaN. On a CPU
large logits are computed in strips (`seg_train.losses.cpu.strips`), in less time and memory; elsewhere by torch's
function.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from seg_train.losses.checking import check_fraction
from seg_train.losses.cpu.log_probabilities import log_probabilities_by_strips
from seg_train.losses.cpu.strips import MANY, takes_strips
from seg_train.losses.inputs import check_inputs, widened
from seg_train.losses.log_probabilities import without_ignored
from seg_train.losses.reduction import mean_denominator, pixel_factors, reduce_pixels
from seg_train.losses.weighted import WeightedLoss

__all__ = ["CrossEntropyLoss", "cross_entropy_by_strips", "cross_entropy_by_torch"]


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
        logits = widened(logits, planar=True)
        weight = None if self.weight is None else self.weight.to(logits)
        way = cross_entropy_by_strips if takes_strips(logits, MANY) else cross_entropy_by_torch
        return way(logits, target, weight, self.ignore_index, self.reduction, self.label_smoothing)

    def denominator(self, target: Tensor) -> Tensor:
        """Returns what the sum of the pixels' losses is divided by: 0-d, see `seg_train.losses.micro_batches`."""
        return mean_denominator(target, self.ignore_index, self.weight, self.reduction)

    def extra_repr(self) -> str:
        """Returns the arguments, for `print(loss)`."""
        return f"{super().extra_repr()}, label_smoothing={self.label_smoothing}"


def cross_entropy_by_torch(
    logits: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str, label_smoothing: float
) -> Tensor:
    """Returns what `CrossEntropyLoss` does, by torch's function, for float32 or float64 logits on any device."""
    seen, ids = without_ignored(logits, target, ignore_index)
    loss = F.cross_entropy(
        seen.contiguous() if seen.device.type == "cpu" else seen,  # see `widened`
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
