"""The base class of losses that take class weights."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from seg_core.errors import InvalidArgumentError
from seg_train.losses.checking import check_reduction
from seg_train.losses.inputs import widened

__all__ = ["WeightedLoss"]


class WeightedLoss(nn.Module):
    """Base class of losses of class logits, with class weights, an ignored value and a reduction.

    Args:
        weight: float (K,), one factor >= 0 per class, or None for 1 each; a buffer that is not in the state dict.
        ignore_index: target value excluded from the loss and the gradient.
        reduction: `"mean"`, `"sum"` or `"none"`.

    Raises:
        InvalidArgumentError: if `weight` or `reduction` is not allowed.
    """

    weight: Tensor | None

    def __init__(self, weight: Tensor | Sequence[float] | None, ignore_index: int, reduction: str) -> None:
        super().__init__()
        check_reduction(reduction)
        self.register_buffer("weight", _checked_weight(weight), persistent=False)
        self.ignore_index = ignore_index
        self.reduction = reduction

    def extra_repr(self) -> str:
        """Returns the arguments, for `print(loss)`."""
        weight = "" if self.weight is None else f"weight={[round(w, 4) for w in self.weight.tolist()]}, "
        return f"{weight}ignore_index={self.ignore_index}, reduction={self.reduction!r}"


def _checked_weight(weight: Tensor | Sequence[float] | None) -> Tensor | None:
    """Returns a copy of class weights: float (K,), float32 unless they are float64.

    Raises:
        InvalidArgumentError: if they are not finite numbers >= 0.
    """
    if weight is None:
        return None
    # A copy, so that later changes of the argument do not change the loss.
    values = widened(torch.as_tensor(weight).detach().clone())
    if values.ndim != 1 or not bool((values >= 0).all()) or not bool(values.isfinite().all()):
        raise InvalidArgumentError(
            f"weight must hold one finite number of at least 0 per class, got {values.tolist()}; see "
            "seg_train.class_weights"
        )
    return values
