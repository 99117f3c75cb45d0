"""What every loss asks of its arguments and inputs."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from seg_core.errors import InvalidArgumentError, LabelOutOfRangeError, list_ids

__all__ = [
    "REDUCTIONS",
    "WeightedLoss",
    "check_factor",
    "check_fraction",
    "check_inputs",
    "check_reduction",
    "checked_weight",
    "class_ids",
]

REDUCTIONS = ("mean", "sum", "none")


def check_reduction(reduction: str) -> None:
    """Raises InvalidArgumentError if there is no such reduction."""
    if reduction not in REDUCTIONS:
        raise InvalidArgumentError(f"reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")


def check_factor(name: str, value: float) -> None:
    """Raises InvalidArgumentError if `name`, the factor of a loss in a sum, is not a finite number of at least 0."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value < math.inf:
        raise InvalidArgumentError(f"{name} must be a finite number of at least 0, got {value!r}")


def check_fraction(name: str, value: float) -> None:
    """Raises InvalidArgumentError if the argument `name` does not lie in 0 to 1."""
    if not 0 <= value <= 1:
        raise InvalidArgumentError(f"{name} must lie in 0 to 1, got {value!r}")


def checked_weight(weight: Tensor | Sequence[float] | None) -> Tensor | None:
    """Returns a copy of class weights, float32 (K,), or float64 as given.

    Raises:
        InvalidArgumentError: if they are not finite numbers of at least 0.
    """
    if weight is None:
        return None
    # A copy, so that what the caller does with the argument later does not change the loss.
    values = torch.as_tensor(weight).detach().clone()
    values = values if values.dtype == torch.float64 else values.float()
    if values.ndim != 1 or not bool((values >= 0).all()) or not bool(values.isfinite().all()):
        raise InvalidArgumentError(
            f"weight must hold one finite number of at least 0 per class, got {values.tolist()}; see "
            "seg_train.class_weights"
        )
    return values


class WeightedLoss(nn.Module):
    """Base of the losses of class logits: class weights, an ignored value, a reduction.

    Args:
        weight: float (K,), one factor of at least 0 per class, or None for 1 each; a buffer outside of the state dict.
        ignore_index: target value that counts neither in the loss nor in the gradient.
        reduction: `"mean"`, `"sum"` or `"none"`.

    Raises:
        InvalidArgumentError: if `weight` or `reduction` is out of range.
    """

    weight: Tensor | None

    def __init__(self, weight: Tensor | Sequence[float] | None, ignore_index: int, reduction: str) -> None:
        super().__init__()
        check_reduction(reduction)
        self.register_buffer("weight", checked_weight(weight), persistent=False)
        self.ignore_index = ignore_index
        self.reduction = reduction

    def extra_repr(self) -> str:
        """Returns the arguments, for `print(loss)`."""
        weight = "" if self.weight is None else f"weight={[round(w, 4) for w in self.weight.tolist()]}, "
        return f"{weight}ignore_index={self.ignore_index}, reduction={self.reduction!r}"


def check_inputs(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> None:
    """Checks logits float (N, K, ...) and a target of integers (N, ...), and that there is one weight per class.

    Raises:
        InvalidArgumentError: if they do not belong together.
    """
    if logits.ndim < 2 or target.shape != logits.shape[:1] + logits.shape[2:]:
        raise InvalidArgumentError(
            f"logits (N, K, ...) and target (N, ...) must agree, got {tuple(logits.shape)} and {tuple(target.shape)}; "
            "resize the logits to the target first"
        )
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise InvalidArgumentError(f"target must hold class ids of an integer type, got {target.dtype}")
    if weight is not None and len(weight) != logits.shape[1]:
        raise InvalidArgumentError(
            f"weight has {len(weight)} entries but the logits have {logits.shape[1]} classes; give one per class"
        )


def class_ids(target: Tensor, num_classes: int, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Returns the class ids of a target, 0 for ignored pixels, and which pixels are ignored.

    A device is waited for, to know whether all values are allowed. In a graph to be compiled they are not checked.

    Args:
        target: any integer type and shape, class ids and `ignore_index`; it stays as it is.
        num_classes: number of classes K; class ids are 0 to K - 1.
        ignore_index: value of ignored pixels, which may be a class id.

    Returns:
        int64 and bool, both of the target's shape.

    Raises:
        LabelOutOfRangeError: if the target holds any other value.
    """
    labels = target.long()
    ignored = labels == ignore_index
    labels = labels.masked_fill(ignored, 0)
    if labels.numel() and not torch.compiler.is_compiling():
        lowest, highest = torch.stack(torch.aminmax(labels)).tolist()
        if lowest < 0 or highest >= num_classes:
            wrong = labels[(labels < 0) | (labels >= num_classes)].cpu().numpy()
            values, counts = np.unique(wrong, return_counts=True)
            allowed = f"the class ids 0 to {num_classes - 1}" if num_classes > 1 else "the class id 0"
            raise LabelOutOfRangeError(
                f"target holds {list_ids(values, counts)}; allowed are {allowed}, one per plane of logits, and "
                f"ignore_index {ignore_index}: map the ids with a LabelMap, or check num_classes and ignore_index"
            )
    return labels, ignored
