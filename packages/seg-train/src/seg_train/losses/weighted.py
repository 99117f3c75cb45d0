"""The base class of losses that take class weights."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from seg_train.losses.checking import check_reduction, checked_weight
from seg_train.losses.other_names import explained

__all__ = ["WeightedLoss"]


class WeightedLoss(nn.Module):
    """Base class of losses of class logits, with class weights, an ignored value and a reduction.

    Args:
        weight: float (K,), one factor >= 0 per class, at least one of them above 0, or None for 1 each; a buffer that
            is not in the state dict.
        ignore_index: target value excluded from the loss and the gradient.
        reduction: `"mean"`, `"sum"` or `"none"`.

    Raises:
        InvalidArgumentError: if `weight` or `reduction` is not allowed.
    """

    weight: Tensor | None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            cls.__init__ = explained(cls.__init__)  # type: ignore[method-assign, assignment]

    def __init__(self, weight: Tensor | Sequence[float] | None, ignore_index: int, reduction: str) -> None:
        super().__init__()
        check_reduction(reduction)
        # checked here, not in `forward`, where reading the values would wait for the device at each step
        self.register_buffer("weight", None if weight is None else checked_weight(weight), persistent=False)
        self.ignore_index = ignore_index
        self.reduction = reduction

    def extra_repr(self) -> str:
        """Returns the arguments, for `print(loss)`."""
        weight = "" if self.weight is None else f"weight={[round(w, 4) for w in self.weight.tolist()]}, "
        return f"{weight}ignore_index={self.ignore_index}, reduction={self.reduction!r}"
