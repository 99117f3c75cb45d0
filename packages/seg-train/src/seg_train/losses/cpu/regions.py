"""What the losses of regions share: the areas of the classes, with an analytic gradient, and the mean over classes.

With p the softmax of the logits at pixel i and t the target, all sums running over the valid pixels of the batch, class
k has the areas

    overlap_k = sum of p_ik where t_i = k,    predicted_k = sum of p_ik,    true_k = sum of 1 where t_i = k.

Any loss L of these areas has the gradient p_ik (d_ik - sum_j p_ij d_ij) at the logits, where d_ik = dL/dpredicted_k,
plus dL/doverlap_k where t_i = k. On a CPU both are computed in strips of pixels that stay in the cache, with a softmax
each, so that beside the gradient no buffer of the size of the logits is needed.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seg_core.errors import InvalidArgumentError
from seg_train.losses.checking import WeightedLoss, check_inputs, class_ids
from seg_train.losses.cpu.strips import Strip, ids_of_strip, over_strips, takes_strips

__all__ = [
    "AbsentClasses",
    "ClassAreas",
    "RegionLoss",
    "areas_by_strips",
    "areas_by_torch",
    "class_areas",
    "reduce_classes",
    "softmax_of_strip",
]

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
        if not 0 <= smooth < float("inf"):
            raise InvalidArgumentError(f"smooth must be a finite number of at least 0, got {smooth!r}")
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


def reduce_classes(losses: Tensor, counted: Tensor, weight: Tensor | None, reduction: str) -> Tensor:
    """Returns the mean or the sum of class losses, or each of them.

    Args:
        losses: float (K,), or (N, K) for one row per image; finite.
        counted: bool of the same shape. The others give 0 and are left out of the mean.
        weight: float (K,), or None for 1 each.
        reduction: `"mean"`: sum of the weighted losses divided by the sum of the weights, within a row, and the mean of
            the rows that count at least one class; `"sum"`: of the weighted losses; `"none"`: the weighted losses.
    """
    factors = counted.to(losses.dtype)
    if weight is not None:
        factors = factors * weight.to(losses)
    weighted = losses.where(counted, 0) * factors
    if reduction == "none":
        return weighted
    if reduction == "sum":
        return weighted.sum()
    # the sum of nothing is 0 with a graph; divided by 1 it stays so
    total = factors.sum(-1)
    rows = counted.any(-1).sum()
    return (weighted.sum(-1) / total.where(total > 0, 1)).sum() / rows.clamp(min=1)


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
    logits = logits if logits.dtype == torch.float64 else logits.float()
    way = areas_by_strips if takes_strips(logits) else areas_by_torch
    return way(logits, target, ignore_index, squared)


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


def areas_by_strips(logits: Tensor, target: Tensor, ignore_index: int, squared: bool = False) -> ClassAreas:
    """Returns what `class_areas` does, for logits that `takes_strips` accepts."""
    return ClassAreas(*_Areas.apply(logits.flatten(2), target.flatten(1), ignore_index, squared))


class _Areas(torch.autograd.Function):
    """Areas of the classes from logits (N, K, L) and their target (N, L)."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, target: Tensor, ignore_index: int, squared: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        num_classes = logits.shape[1]

        def add_up(strips: Sequence[Strip]) -> npt.NDArray[np.float64]:
            # sums of float32 over millions of pixels would lose digits
            overlap, predicted, true = sums = np.zeros((3, num_classes))
            for strip in strips:
                ids, ignored = ids_of_strip(target, strip, num_classes, ignore_index)
                values = softmax_of_strip(logits, strip, ignored)
                overlap += np.bincount(ids, values[ids, np.arange(len(ids))], num_classes)
                true += np.bincount(ids[~ignored], minlength=num_classes)
                if squared:
                    np.square(values, out=values)
                predicted += values.sum(1)
            return sums

        sums = torch.from_numpy(np.sum(over_strips(add_up, logits.shape), axis=0)).to(logits.dtype)
        overlap, predicted, true = (row.clone() for row in sums)
        ctx.save_for_backward(logits, target)
        ctx.ignore_index, ctx.squared = ignore_index, squared
        ctx.mark_non_differentiable(true)
        return overlap, predicted, true

    @staticmethod
    def backward(ctx: Any, by_overlap: Tensor, by_predicted: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:
        logits, target = ctx.saved_tensors
        if torch.is_grad_enabled():  # this gradient is to have one itself
            areas = areas_by_torch(logits, target, ctx.ignore_index, ctx.squared)
            slopes = by_overlap, by_predicted
            return *torch.autograd.grad(areas[:2], logits, slopes, create_graph=True), None, None, None
        gradient = torch.empty_like(logits)
        out = gradient.numpy()
        overlap_factors, factors = by_overlap.numpy(), by_predicted.numpy()[:, None]

        def fill(strips: Sequence[Strip]) -> None:
            for strip in strips:
                image, pixels = strip
                ids, ignored = ids_of_strip(target, strip, logits.shape[1], ctx.ignore_index)
                values = softmax_of_strip(logits, strip, ignored)
                own = ids, np.arange(len(ids))
                change = values * factors
                if ctx.squared:
                    change *= 2 * values
                change[own] += values[own] * overlap_factors[ids]
                values *= change.sum(0)
                np.subtract(change, values, out=out[image, :, pixels])

        over_strips(fill, logits.shape)
        return gradient, None, None, None


def softmax_of_strip(
    logits: Tensor, strip: Strip, ignored: npt.NDArray[np.bool_], fill: float = 0.0
) -> npt.NDArray[Any]:
    """Returns the probabilities of a strip of logits (N, K, L) on a CPU: (K, l), and `fill` for ignored pixels."""
    image, pixels = strip
    seen = logits.detach().numpy()[image, :, pixels]
    with np.errstate(all="ignore"):  # where logits are infinite or NaN, so are the probabilities, as torch's
        values: npt.NDArray[Any] = seen - seen.max(0)
        np.exp(values, out=values)
        values /= values.sum(0)
    if ignored.any():
        np.copyto(values, fill, where=ignored)
    return values
