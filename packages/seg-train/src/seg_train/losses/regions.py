"""What the losses of regions share: the areas of the classes, with an analytic gradient, and the mean over classes.

With p the softmax of the logits at pixel i and t the target, all sums running over the valid pixels of the batch, class
k has the areas

    overlap_k = sum of p_ik where t_i = k,    predicted_k = sum of p_ik,    true_k = sum of 1 where t_i = k.

Any loss L of these areas has the gradient p_ik (d_ik - sum_j p_ij d_ij) at the logits, where d_ik = dL/dpredicted_k,
plus dL/doverlap_k where t_i = k. On a CPU both are computed in strips of pixels that stay in the cache, with a softmax
each, so that beside the gradient no buffer of the size of the logits is needed.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from seg_core.errors import InvalidArgumentError
from seg_train.losses.checking import check_factor
from seg_train.losses.cpu.regions import areas_by_strips
from seg_train.losses.cpu.strips import takes_strips
from seg_train.losses.inputs import check_inputs, class_ids, widened
from seg_train.losses.reduction import reduce_classes
from seg_train.losses.weighted import WeightedLoss

__all__ = ["AbsentClasses", "ClassAreas", "RegionLoss", "areas_by_torch", "class_areas"]

AbsentClasses = Literal["skip", "count"]


class ClassAreas(NamedTuple):
    """The areas of all classes over the valid pixels of a batch, in pixels: float (K,) each, see the module.

    Attributes:
        overlap: of prediction and target.
        predicted: of the prediction, or the sum of the squares of its probabilities.
        true: of the target, without a gradient.
    """

    overlap: Tensor
    predicted: Tensor
    true: Tensor


class RegionLoss(WeightedLoss):
    """One minus a score that compares the areas of a class, averaged over the classes.

    A subclass defines `class_losses`.

    Args:
        weight: float (K,), one factor of at least 0 per class, or None for 1 each.
        ignore_index: target value that counts neither in the loss nor in the gradient.
        reduction: `"mean"`, `"sum"` or `"none"`, over classes.
        smooth: number of at least 0 that is added to the numerator and the denominator of each score.
        absent: `"skip"` or `"count"`, what becomes of classes that the target of the batch does not have.

    Raises:
        InvalidArgumentError: if an argument is out of range.
    """

    def __init__(
        self,
        weight: Tensor | Sequence[float] | None = None,
        ignore_index: int = 255,
        reduction: str = "mean",
        smooth: float = 0.0,
        absent: AbsentClasses = "skip",
    ) -> None:
        super().__init__(weight, ignore_index, reduction)
        check_factor("smooth", smooth)
        if absent not in get_args(AbsentClasses):
            raise InvalidArgumentError(f"absent must be one of {', '.join(get_args(AbsentClasses))}, got {absent!r}")
        self.smooth = smooth
        self.absent: AbsentClasses = absent

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Returns the loss: float32 (float64 for float64 logits), 0-d, or (K,) where `reduction="none"`.

        Args:
            logits: float (N, K, ...), one plane per class.
            target: any integer type (N, ...), class ids and `ignore_index`.

        Raises:
            InvalidArgumentError: if the shapes do not belong together, the target is not of integers, or there is not
                one weight per class.
            LabelOutOfRangeError: if the target holds any other value.
        """
        check_inputs(logits, target, self.weight)
        areas = self.areas(logits, target)
        return reduce_classes(self.class_losses(areas), self.counted(areas), self.weight, self.reduction)

    def areas(self, logits: Tensor, target: Tensor) -> ClassAreas:
        """Returns what the score is made of."""
        return class_areas(logits, target, self.ignore_index)

    def class_losses(self, areas: ClassAreas) -> Tensor:
        """Returns the loss of each class, (K,), finite also where an area is 0."""
        raise NotImplementedError

    def counted(self, areas: ClassAreas) -> Tensor:
        """Returns which classes count: bool (K,)."""
        present = areas.true > 0
        return present if self.absent == "skip" else present.any().expand_as(present)

    def extra_repr(self) -> str:
        """Returns the arguments, for `print(loss)`."""
        return f"{super().extra_repr()}, smooth={self.smooth}, absent={self.absent!r}"


def class_areas(logits: Tensor, target: Tensor, ignore_index: int, squared: bool = False) -> ClassAreas:
    """Returns the areas of the classes, float32 (float64 for float64 logits), with a graph.

    Args:
        logits: float (N, K, ...).
        target: any integer type (N, ...), class ids and `ignore_index`.
        ignore_index: target value of the pixels that are left out.
        squared: whether `predicted` sums up the squares of the probabilities.

    Raises:
        LabelOutOfRangeError: if the target holds another value.
    """
    logits = widened(logits)
    if takes_strips(logits):
        return ClassAreas(*areas_by_strips(logits, target, ignore_index, squared, areas_by_torch))
    return areas_by_torch(logits, target, ignore_index, squared)


def areas_by_torch(logits: Tensor, target: Tensor, ignore_index: int, squared: bool = False) -> ClassAreas:
    """Returns what `class_areas` does for float32 or float64 logits, on any device, by operations of torch.

    Compiled code cannot raise for a target out of range: there the areas are NaN.
    """
    num_classes = logits.shape[1]
    ids, ignored = class_ids(target.reshape(len(target), -1), num_classes, ignore_index)  # (N, L)
    hidden = ignored[:, None]
    # before the softmax as well: a logit that is infinite or NaN would have a gradient of NaN
    values = logits.reshape(*logits.shape[:2], -1).masked_fill(hidden, 0).softmax(1).masked_fill(hidden, 0)
    if torch.compiler.is_compiling():
        outside = (ids < 0) | (ids >= num_classes)
        values = values.masked_fill(outside[:, None], float("nan"))
    own = (ids[:, None] == torch.arange(num_classes, device=ids.device)[:, None]) & ~hidden  # (N, K, L)
    overlap = values.where(own, 0).sum((0, 2))
    predicted = (values.square() if squared else values).sum((0, 2))
    return ClassAreas(overlap, predicted, own.sum((0, 2)).to(values.dtype))
