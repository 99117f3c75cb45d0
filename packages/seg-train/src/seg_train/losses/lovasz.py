"""Lovasz loss: the convex extension of the Jaccard loss to probabilities, or to the hinge loss of logits."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from seg_core.errors import InvalidArgumentError
from seg_core.labels.tasks import MULTICLASS
from seg_train.losses.cpu.lovasz import extension_by_strips
from seg_train.losses.cpu.strips import use_strips
from seg_train.losses.elements import Elements, elements_of
from seg_train.losses.inputs import check_inputs, class_ids, joined_pixels, widened
from seg_train.losses.reduction import reduce_classes
from seg_train.losses.weighted import WeightedLoss

__all__ = ["LovaszLoss"]

_Classes = Literal["present", "all"]


class LovaszLoss(WeightedLoss):
    """The Lovasz extension of the Jaccard loss of each class, averaged over the classes.

    From Berman et al. 2018 (https://arxiv.org/abs/1705.08790, algorithm 1). With p the softmax, the errors of class k
    are 1 - p_k where the target is k and p_k elsewhere. Sorted in descending order, each error is weighted by the
    increase of the Jaccard loss when its pixel becomes wrong in addition to those before it. With G pixels of the
    class, g of them among the first i, and U = G + i - g, that is 1 / U for a pixel of the class and
    (G - g) / (U (U - 1)) for another. The paper computes the same as a difference of two losses, which loses digits.

    In the tasks `"binary"` and `"multilabel"` it is the Lovasz hinge of the same paper (section 3.1): with x the logit,
    the errors are max(0, 1 - x) where the target is 1 and max(0, 1 + x) where it is 0.

    Args:
        weight: float (K,), one factor >= 0 per class, or None for 1 each.
        ignore_index: target value excluded from the loss and the gradient.
        reduction: over classes, never over pixels. `"mean"` (sum of the weighted losses divided by the sum of the
            weights of the classes that count), `"sum"` of the weighted losses, or `"none"`: the weighted loss of each
            class, 0 for classes that do not count.
        classes: which classes count: `"present"`, those in the target, or `"all"`: the loss of an absent class is its
            largest error. None, as in the authors' code, is `"present"` for the task `"multiclass"` and `"all"` for
            the others, which learn from images without an object too.
        per_image: whether the loss is computed per image, with the classes of each. `"mean"` is then the mean over the
            images of which a class counts, `"sum"` sums over classes and images, `"none"` returns (N, K). Otherwise the
            pixels of the batch are treated as one image.
        task: `"multiclass"`; `"binary"`: logits (N, 1, ...) and a target (N, ...) of 0, 1 and `ignore_index`; or
            `"multilabel"`: logits (N, K, ...) and such a target (N, K, ...).

    Raises:
        InvalidArgumentError: if an argument is not allowed.
    """

    def __init__(
        self,
        weight: Tensor | Sequence[float] | None = None,
        ignore_index: int = 255,
        reduction: str = "mean",
        classes: _Classes | None = None,
        per_image: bool = False,
        task: str = MULTICLASS,
    ) -> None:
        super().__init__(weight, ignore_index, reduction, task)
        if classes is None:
            classes = "present" if task == MULTICLASS else "all"
        if classes not in get_args(_Classes):
            raise InvalidArgumentError(f"classes must be one of {', '.join(get_args(_Classes))}, got {classes!r}")
        self.classes: _Classes = classes
        self.per_image = per_image

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Returns the loss: float32 (float64 for float64 logits), 0-d, or (K,) or (N, K) with `reduction="none"`.

        Args:
            logits: float (N, K, ...), one channel per class.
            target: any integer type (N, ...), class ids and `ignore_index`; of other tasks see the class.

        Raises:
            InvalidArgumentError: if shapes do not match, the target is not of an integer type, or the number of
                weights is not the number of classes.
            LabelOutOfRangeError: if the target contains any other value.
        """
        if self.task != MULTICLASS:
            elements = elements_of(logits, target, self.task, self.ignore_index, self.weight, waits=True)
            (losses, true), valid = hinge_extension(elements, self.per_image)
        else:
            check_inputs(logits, target, self.weight)
            compute = extension_by_torch
            logits = widened(logits)
            if use_strips(logits):
                losses, true = extension_by_strips(logits, target, self.ignore_index, self.per_image, compute)
            else:
                losses, true = compute(logits, target, self.ignore_index, self.per_image)
            valid = (true > 0).any(1, keepdim=True).expand_as(true)
        counted = true > 0 if self.classes == "present" else valid
        if not self.per_image:
            losses, counted = losses[0], counted[0]
        return reduce_classes(losses, counted, self.weight, self.reduction)

    def extra_repr(self) -> str:
        """Returns the arguments, for `print(loss)`."""
        return f"{super().extra_repr()}, classes={self.classes!r}, per_image={self.per_image}"


class Extension(NamedTuple):
    """The Lovasz extension of the Jaccard loss, with one row per image, or one for the batch.

    Attributes:
        losses: loss of each class, float (rows, K); 0 in a row without valid pixels.
        true: number of pixels of each class, (rows, K), without a gradient.
    """

    losses: Tensor
    true: Tensor


def extension_by_torch(logits: Tensor, target: Tensor, ignore_index: int, per_image: bool) -> Extension:
    """Computes the extension in torch operations, for float32 or float64 logits on any device.

    Compiled code cannot raise if a target is out of range: then the losses are NaN.
    """
    num_classes = logits.shape[1]
    ids, ignored = class_ids(joined_pixels(target, 1), num_classes, ignore_index)  # (N, L)
    values = joined_pixels(logits, 2).masked_fill(ignored[:, None], 0).softmax(1)
    if torch.compiler.is_compiling():
        outside = (ids < 0) | (ids >= num_classes)
        values = values.masked_fill(outside[:, None], float("nan"))
    values = values.transpose(0, 1)  # (K, N, L)
    if not per_image:
        ids, ignored = ids.reshape(1, -1), ignored.reshape(1, -1)
    losses, true = [], []
    for index, plane in enumerate(values):
        own = (ids == index) & ~ignored  # (rows, pixels)
        area = own.sum(1, keepdim=True)
        errors = plane if per_image else plane.reshape(1, -1)
        # ignored pixels get the lowest value, so that they come last
        errors = torch.where(own, 1 - errors, errors).masked_fill(ignored, -1)
        losses.append(_extension(errors, own, area))
        true.append(area[:, 0])
    return Extension(torch.stack(losses, 1), torch.stack(true, 1))


def hinge_extension(elements: Elements, per_image: bool) -> tuple[Extension, Tensor]:
    """Computes the extension of the hinge loss of independent classes.

    Args:
        elements: (N, K, ...), whose logits at ignored elements are so low that their error is below 0.
        per_image: whether each image has its own row.

    Returns:
        The extension, and whether there are valid pixels: bool (rows, K).
    """
    losses, true, valid = [], [], []
    for plane in range(elements.logits.shape[1]):
        values, own, counted = (
            joined_pixels(tensor[:, plane], 1) if per_image else tensor[:, plane].reshape(1, -1)
            for tensor in (elements.logits, elements.truth == 1, elements.valid)
        )
        area = own.sum(1, keepdim=True)
        losses.append(_extension(1 + torch.where(own, -values, values), own, area))
        true.append(area[:, 0])
        valid.append(counted.any(1))
    return Extension(torch.stack(losses, 1), torch.stack(true, 1)), torch.stack(valid, 1)


def _extension(errors: Tensor, own: Tensor, area: Tensor) -> Tensor:
    """Returns the extension of each row, (rows,), from errors (rows, pixels); negative ones count as 0.

    Args:
        errors: float (rows, pixels).
        own: bool (rows, pixels), the pixels of the class.
        area: int64 (rows, 1), their number.
    """
    errors, order = errors.sort(dim=1, descending=True, stable=True)
    own = own.gather(1, order)
    own_before = own.cumsum(1)
    ranks = torch.arange(1, own.shape[1] + 1, device=own.device)
    union = (area + ranks - own_before).to(errors.dtype)
    left = (area - own_before).to(errors.dtype)
    increments = torch.where(own, 1, left / (union - 1).clamp(min=1)) / union
    increments = torch.where(area > 0, increments, (ranks == 1).to(errors.dtype))
    return (errors.masked_fill(errors < 0, 0) * increments).sum(1)
