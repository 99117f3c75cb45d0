"""Cross entropy over pixels.

Differs from `torch.nn.CrossEntropyLoss`: it takes targets of any integer type, computes half-precision logits in
float32, and returns a 0 with a graph, not NaN, for a batch without valid pixels. On a CPU large logits are computed in
strips (`seg_train.losses.cpu.strips`), which takes less time and memory; otherwise torch's function is used.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from seg_core.labels.tasks import MULTICLASS
from seg_train.losses.checking import check_fraction, checked_task
from seg_train.losses.cpu.log_probabilities import log_probabilities_by_strips
from seg_train.losses.cpu.strips import CROSS_ENTROPY_FACTOR, use_strips
from seg_train.losses.inputs import check_inputs, widened
from seg_train.losses.log_probabilities import without_ignored
from seg_train.losses.reduction import pixel_weights, reduce_pixels
from seg_train.losses.weighted import WeightedPixelLoss

__all__ = ["CrossEntropyLoss", "cross_entropy_by_strips", "cross_entropy_by_torch"]


class CrossEntropyLoss(WeightedPixelLoss):
    """Cross entropy between class logits and label maps.

    Args:
        weight: float (K,), one factor >= 0 per class, or None for 1 each.
        ignore_index: target value excluded from the loss and the gradient.
        reduction: `"mean"` (sum divided by the sum of the valid pixels' weights), `"sum"` or `"none"` (0 for ignored
            pixels), as PyTorch defines them.
        label_smoothing: fraction 0 to 1 of the target that is spread evenly over all classes.
        task: `"multiclass"`; the other tasks have `BinaryCrossEntropyLoss`.

    Raises:
        InvalidArgumentError: if an argument is not allowed.
    """

    def __init__(
        self,
        weight: Tensor | Sequence[float] | None = None,
        ignore_index: int = 255,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
        task: str = MULTICLASS,
    ) -> None:
        checked_task("CrossEntropyLoss", task, (MULTICLASS,), "BinaryCrossEntropyLoss")
        super().__init__(weight, ignore_index, reduction)
        check_fraction("label_smoothing", label_smoothing)
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Returns the loss: float32 (float64 for float64 logits), 0-d, or (N, ...) with `reduction="none"`.

        Args:
            logits: float (N, K, ...), one channel per class.
            target: any integer type (N, ...), class ids and `ignore_index`.

        Raises:
            InvalidArgumentError: if shapes do not match, the target is not of an integer type, or the number of
                weights is not the number of classes.
            LabelOutOfRangeError: if the target contains any other value. On CUDA torch's own assertion fails instead;
                compiled code may not check.
        """
        check_inputs(logits, target, self.weight)
        logits = widened(logits, planar=True)
        weight = None if self.weight is None else self.weight.to(logits)
        compute = cross_entropy_by_strips if use_strips(logits, CROSS_ENTROPY_FACTOR) else cross_entropy_by_torch
        return compute(logits, target, weight, self.ignore_index, self.reduction, self.label_smoothing)

    def extra_repr(self) -> str:
        """Returns the arguments, for `print(loss)`."""
        return f"{super().extra_repr()}, label_smoothing={self.label_smoothing}"


def cross_entropy_by_torch(
    logits: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str, label_smoothing: float
) -> Tensor:
    """Computes `CrossEntropyLoss` with torch's function, for float32 or float64 logits on any device."""
    seen, ids = without_ignored(logits, target, ignore_index)
    loss = F.cross_entropy(
        seen.contiguous() if seen.device.type == "cpu" else seen,  # faster there, see `widened`
        ids,
        weight,
        ignore_index=ignore_index,
        reduction="none" if reduction == "none" else "sum",
        label_smoothing=label_smoothing,
    )
    return reduce_pixels(loss, pixel_weights(target, ignore_index, weight), reduction)


def cross_entropy_by_strips(
    logits: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str, label_smoothing: float
) -> Tensor:
    """Computes `CrossEntropyLoss` on a CPU, for logits that `use_strips` accepts."""
    num_classes = logits.shape[1]
    spread = None
    if label_smoothing > 0:
        spread = (logits.new_ones(num_classes) if weight is None else weight) / num_classes
    own, smoothed = log_probabilities_by_strips(logits, target, ignore_index, spread)
    weights = pixel_weights(target, ignore_index, weight)
    if weight is not None:
        own = own * weights
    if label_smoothing > 0:
        own = (1 - label_smoothing) * own + label_smoothing * smoothed
    return -reduce_pixels(own, weights, reduction)
