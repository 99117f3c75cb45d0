"""The base class of losses that take class weights."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from seg_core.labels.tasks import MULTICLASS, check_task
from seg_train.losses.checking import check_reduction, checked_weight
from seg_train.losses.elements import element_weights
from seg_train.losses.other_names import explained
from seg_train.losses.reduction import mean_denominator

__all__ = ["WeightedLoss", "WeightedPixelLoss"]


class WeightedLoss(nn.Module):
    """Base class of losses of class logits, with class weights, an ignored value, a reduction and a task.

    Args:
        weight: float (K,), one factor >= 0 per class, at least one of them above 0, or None for 1 each; a buffer that
            is not in the state dict.
        ignore_index: target value excluded from the loss and the gradient.
        reduction: `"mean"`, `"sum"` or `"none"`.
        task: `"multiclass"`, `"binary"` or `"multilabel"`.

    Raises:
        InvalidArgumentError: if `weight`, `reduction` or `task` is not allowed.
    """

    weight: Tensor | None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            cls.__init__ = explained(cls.__init__)  # type: ignore[method-assign, assignment]

    def __init__(
        self,
        weight: Tensor | Sequence[float] | None,
        ignore_index: int,
        reduction: str,
        task: str = MULTICLASS,
    ) -> None:
        super().__init__()
        check_reduction(reduction)
        self.task = check_task(task)
        # checked here, not in `forward`, where reading the values would wait for the device at each step
        self.register_buffer("weight", None if weight is None else checked_weight(weight), persistent=False)
        self.ignore_index = ignore_index
        self.reduction = reduction

    def extra_repr(self) -> str:
        """Returns the arguments, for `print(loss)`."""
        weight = "" if self.weight is None else f"weight={[round(w, 4) for w in self.weight.tolist()]}, "
        task = "" if self.task == MULTICLASS else f", task={self.task!r}"
        return f"{weight}ignore_index={self.ignore_index}, reduction={self.reduction!r}{task}"


class WeightedPixelLoss(WeightedLoss):
    """Base class of losses whose mean is the sum over pixels, or elements, divided by their class weights."""

    def denominator(self, target: Tensor) -> Tensor:
        """Returns the divisor of the mean: 0-d, see `seg_train.losses.micro_batches`."""
        if self.task == MULTICLASS or self.reduction != "mean":
            return mean_denominator(target, self.ignore_index, self.weight, self.reduction)
        weight = None if self.weight is None else self.weight.to(target.device)
        return element_weights(target, self.task, self.ignore_index, weight).sum()
