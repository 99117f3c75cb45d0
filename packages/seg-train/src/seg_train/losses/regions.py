"""The base of region losses (Dice, Jaccard, Tversky): the areas of the classes, and the mean over the classes.

With p_i the softmax of the logits at pixel i and t_i its target, summed over the valid pixels of the batch, class k has
the areas

    overlap_k = sum of p_ik where t_i = k,    predicted_k = sum of p_ik,    true_k = sum of 1 where t_i = k.

In the tasks `"binary"` and `"multilabel"` p_ik is the sigmoid of the logit, true_k counts the pixels with target 1, and
a pixel may be valid for some classes only.

With the softmax, a loss L of these areas has the gradient p_ik (d_ik - sum_j p_ij d_ij) at the logits, with
d_ik = dL/dpredicted_k, plus dL/doverlap_k where t_i = k. On a CPU `seg_train.losses.cpu.regions` computes areas and
gradient.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from seg_core.errors import InvalidArgumentError
from seg_core.labels.tasks import MULTICLASS
from seg_train.losses.checking import check_non_negative
from seg_train.losses.cpu.regions import areas_by_strips
from seg_train.losses.cpu.strips import use_strips
from seg_train.losses.elements import Elements, class_sums, elements_of
from seg_train.losses.inputs import check_inputs, class_ids, joined_pixels, widened
from seg_train.losses.reduction import reduce_classes
from seg_train.losses.weighted import WeightedLoss

__all__ = ["AbsentClasses", "ClassAreas", "RegionLoss", "areas_by_torch", "areas_of_elements", "class_areas"]

AbsentClasses = Literal["skip", "count"]


class ClassAreas(NamedTuple):
    """Areas of all classes over the valid pixels of a batch, in pixels: float (K,) each, see the module.

    Attributes:
        overlap: of prediction and target.
        predicted: of the prediction, or the sum of its squared probabilities.
        true: of the target, without a gradient.
    """

    overlap: Tensor
    predicted: Tensor
    true: Tensor


class RegionLoss(WeightedLoss):
    """One minus a score of each class's areas, averaged over the classes. Subclasses define `class_losses`.

    Args:
        weight: float (K,), one factor >= 0 per class, or None for 1 each.
        ignore_index: target value excluded from the loss and the gradient.
        reduction: `"mean"`, `"sum"` or `"none"`, over classes.
        smooth: number of pixels >= 0 added to the numerator and the denominator of each score.
        absent: whether to `"skip"` or `"count"` classes absent from the batch's target.
        task: `"multiclass"`, `"binary"` or `"multilabel"`.

    Raises:
        InvalidArgumentError: if an argument is not allowed.
    """

    squared = False  # whether predicted areas sum squared probabilities

    def __init__(
        self,
        weight: Tensor | Sequence[float] | None = None,
        ignore_index: int = 255,
        reduction: str = "mean",
        smooth: float = 0.0,
        absent: AbsentClasses = "skip",
        task: str = MULTICLASS,
    ) -> None:
        super().__init__(weight, ignore_index, reduction, task)
        check_non_negative("smooth", smooth)
        if absent not in get_args(AbsentClasses):
            raise InvalidArgumentError(f"absent must be one of {', '.join(get_args(AbsentClasses))}, got {absent!r}")
        self.smooth = smooth
        self.absent: AbsentClasses = absent

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Returns the loss: float32 (float64 for float64 logits), 0-d, or (K,) with `reduction="none"`.

        Args:
            logits: float (N, K, ...), one channel per class.
            target: any integer type (N, ...), class ids and `ignore_index`; of other tasks see the class.

        Raises:
            InvalidArgumentError: if shapes do not match, the target is not of an integer type, or the number of
                weights is not the number of classes.
            LabelOutOfRangeError: if the target contains any other value.
        """
        areas, counted = self.areas(logits, target)
        return reduce_classes(self.class_losses(areas), counted, self.weight, self.reduction)

    def areas(self, logits: Tensor, target: Tensor) -> tuple[ClassAreas, Tensor]:
        """Returns the areas of the classes and which of them count, bool (K,); raises what `forward` does."""
        if self.task == MULTICLASS:
            check_inputs(logits, target, self.weight)
            areas = class_areas(logits, target, self.ignore_index, self.squared)
            present = areas.true > 0
            return areas, present if self.absent == "skip" else present.any().expand_as(present)
        elements = elements_of(logits, target, self.task, self.ignore_index, self.weight, waits=True)
        areas = areas_of_elements(elements, self.squared)
        return areas, areas.true > 0 if self.absent == "skip" else elements.counts > 0

    def class_losses(self, areas: ClassAreas) -> Tensor:
        """Returns the loss of each class, (K,), finite even where an area is 0."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Returns the arguments, for `print(loss)`."""
        return f"{super().extra_repr()}, smooth={self.smooth}, absent={self.absent!r}"


def class_areas(logits: Tensor, target: Tensor, ignore_index: int, squared: bool = False) -> ClassAreas:
    """Returns the areas of the classes, float32 (float64 for float64 logits), differentiable.

    Args:
        logits: float (N, K, ...).
        target: any integer type (N, ...), class ids and `ignore_index`.
        ignore_index: target value of pixels that are left out.
        squared: whether `predicted` sums squared probabilities.

    Raises:
        LabelOutOfRangeError: if the target contains another value.
    """
    logits = widened(logits)
    if use_strips(logits):
        return ClassAreas(*areas_by_strips(logits, target, ignore_index, squared, areas_by_torch))
    return areas_by_torch(logits, target, ignore_index, squared)


def areas_of_elements(elements: Elements, squared: bool = False) -> ClassAreas:
    """Returns the areas of independent classes, from elements (N, K, ...), differentiable."""
    values = elements.logits.sigmoid()  # 0 at ignored elements
    overlap = class_sums(values * elements.truth)
    predicted = class_sums(values.square() if squared else values)
    return ClassAreas(overlap, predicted, class_sums(elements.truth))


def areas_by_torch(logits: Tensor, target: Tensor, ignore_index: int, squared: bool = False) -> ClassAreas:
    """Computes `class_areas` in torch operations, for float32 or float64 logits on any device.

    Compiled code cannot raise if a target is out of range: then the areas are NaN.
    """
    num_classes = logits.shape[1]
    ids, ignored = class_ids(joined_pixels(target, 1), num_classes, ignore_index)  # (N, L)
    hidden = ignored[:, None]
    # masked before the softmax too: an infinite or NaN logit would have a NaN gradient
    values = joined_pixels(logits, 2).masked_fill(hidden, 0).softmax(1).masked_fill(hidden, 0)
    if torch.compiler.is_compiling():
        outside = (ids < 0) | (ids >= num_classes)
        values = values.masked_fill(outside[:, None], float("nan"))
    own = (ids[:, None] == torch.arange(num_classes, device=ids.device)[:, None]) & ~hidden  # (N, K, L)
    overlap = values.where(own, 0).sum((0, 2))
    predicted = (values.square() if squared else values).sum((0, 2))
    return ClassAreas(overlap, predicted, own.sum((0, 2)).to(values.dtype))
