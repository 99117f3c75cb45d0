"""Losses of boundaries, which PIDNet and STDC learn in addition to the classes, for sharp outlines.

PIDNet (Xu et al. 2022, https://arxiv.org/abs/2206.02066, section 3.4, equation 8) sums four losses:
0.4 l0 + 20 l1 + l2 + l3. l0 and l2 are the cross entropies of auxiliary and final logits, l1 is `BoundaryLoss`, l3 is
`BoundaryAwareLoss`; `seg_train.losses.deep_supervision` combines them. STDC (Fan et al. 2021,
https://arxiv.org/abs/2104.13188, section 3.3, equations 2 and 3) uses `DetailLoss` with a factor of 1.

`seg_train.losses.targets` computes the targets from the masks. In the task `"multilabel"` a pixel is on a boundary, or
a detail, if it is so for any class, and ignored if it is ignored for all of them.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_core.errors import InvalidArgumentError, LabelOutOfRangeError, list_ids
from seg_core.labels.tasks import BINARY, MULTICLASS, check_task
from seg_train.losses.binary_cross_entropy import BinaryCrossEntropyLoss
from seg_train.losses.checking import check_fraction, check_reduction, check_same_task
from seg_train.losses.cross_entropy import CrossEntropyLoss
from seg_train.losses.elements import check_elements, check_known, target_planes
from seg_train.losses.inputs import check_inputs, check_tensors, has_integers, split_ignored, widened
from seg_train.losses.reduction import reduce_pixels
from seg_train.losses.targets import boundary_targets, detail_targets

__all__ = ["BoundaryAwareLoss", "BoundaryLoss", "DetailLoss"]

_SMOOTH = 1.0  # pixels, as in the Dice loss of STDC's code


class BoundaryLoss(nn.Module):
    """Class-balanced binary cross entropy of boundaries: PIDNet's l1.

    With s the fraction of valid pixels in the batch that are on a boundary, these pixels have the weight 1 - s and the
    others s, so both kinds contribute equally. As in the authors' code, the mean is the weighted sum divided by the
    number of valid pixels, not by the sum of the weights; it is small, which the paper's factor 20 compensates. The
    factor is not part of this loss: set it where losses are summed. If no pixel or every pixel is on a boundary, the
    loss is 0.

    Args:
        width: of a boundary in pixels, half of them on each side; an even integer >= 2.
        ignore_index: target value excluded from the loss and the gradient.
        reduction: `"mean"` (sum divided by the number of valid pixels), `"sum"` or `"none"` (0 for ignored pixels).
        task: of the masks: `"multiclass"`; `"binary"`: (N, H, W) or (N, 1, H, W) of 0, 1 and `ignore_index`; or
            `"multilabel"`: (N, K, H, W) of such values.

    Raises:
        InvalidArgumentError: if an argument is not allowed.
    """

    def __init__(
        self, width: int = 4, ignore_index: int = 255, reduction: str = "mean", task: str = MULTICLASS
    ) -> None:
        super().__init__()
        check_reduction(reduction)
        self.task = check_task(task)
        boundary_targets(torch.zeros(1, 1, dtype=torch.int64), width)  # checks the width
        self.width = width
        self.ignore_index = ignore_index
        self.reduction = reduction

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Returns the loss: float32 (float64 for float64 logits), 0-d, or (N, H, W) with `reduction="none"`.

        Args:
            logits: float (N, 1, H, W), above 0 where a boundary is more likely than not.
            target: any integer type (N, H, W), class ids and `ignore_index`: the masks, not their boundaries; of other
                tasks see the class.

        Raises:
            InvalidArgumentError: if shapes do not match, or the target is not of an integer type.
            LabelOutOfRangeError: if the target contains another negative value, or in tasks other than `"multiclass"`
                one that is neither 0 nor 1. On CUDA and in compiled code such values count as classes.
        """
        ids, valid = _checked_ids(logits, target, (1,), self.ignore_index, self.task)
        found = (boundary_targets(ids, self.width, self.ignore_index) == 1) & valid
        found, valid = _of_any_class(found, valid, self.task)
        values = widened(logits)[:, 0].masked_fill(~valid, 0)
        share = found.sum().to(values.dtype) / valid.sum().clamp(min=1)
        factors = torch.where(found, 1 - share, share).where(valid, 0)
        losses = F.binary_cross_entropy_with_logits(values, found.to(values.dtype), factors, reduction="none")
        return reduce_pixels(losses, valid, self.reduction)

    def extra_repr(self) -> str:
        """Returns the arguments, for `print(loss)`."""
        own = f"width={self.width}, ignore_index={self.ignore_index}, reduction={self.reduction!r}"
        return f"{own}{_shown(self.task)}"


class DetailLoss(nn.Module):
    """Binary cross entropy plus Dice loss of STDC's details.

    The cross entropy is the mean over all valid pixels. The Dice loss of an image is
    1 - (2 overlap + 1) / (predicted + true + 1). Over its valid pixels, overlap sums probability times target,
    predicted the squared probability, and true the target, as in the paper; the authors' code does not square. It is
    averaged over the images that have valid pixels. There is no `reduction`, as one loss is a mean over pixels and the
    other over images.

    mmsegmentation's STDC has two channels, for no detail and for detail. Here their softmax gives the probability of a
    detail, which is the sigmoid of their difference. In mmsegmentation the cross entropy treats the channels as two
    independent binary choices; its Dice loss uses the softmax too, squared in the denominator.

    Args:
        ignore_index: target value excluded from the loss and the gradient.
        task: of the masks: `"multiclass"`; `"binary"`: (N, H, W) or (N, 1, H, W) of 0, 1 and `ignore_index`; or
            `"multilabel"`: (N, K, H, W) of such values.

    Raises:
        InvalidArgumentError: if there is no such task.
    """

    def __init__(self, ignore_index: int = 255, task: str = MULTICLASS) -> None:
        super().__init__()
        self.task = check_task(task)
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Returns the loss: 0-d float32 (float64 for float64 logits).

        Args:
            logits: float (N, 1, H, W), above 0 where a detail is more likely than not; or (N, 2, H, W), see the class.
            target: any integer type (N, H, W), class ids and `ignore_index`: the masks, not their details; of other
                tasks see the class.

        Raises:
            InvalidArgumentError: if shapes do not match, or the target is not of an integer type.
            LabelOutOfRangeError: if the target contains another negative value, or in tasks other than `"multiclass"`
                one that is neither 0 nor 1. On CUDA and in compiled code such values count as classes.
        """
        ids, valid = _checked_ids(logits, target, (1, 2), self.ignore_index, self.task)
        found = (detail_targets(ids, self.ignore_index) == 1) & valid
        found, valid = _of_any_class(found, valid, self.task)
        # masked before anything is computed: an infinite or NaN logit would have a NaN gradient
        seen = widened(logits).masked_fill(~valid[:, None], 0)
        values = seen[:, 0] if seen.shape[1] == 1 else seen[:, 1] - seen[:, 0]
        details = found.to(values.dtype)
        losses = F.binary_cross_entropy_with_logits(values, details, valid.to(values.dtype), reduction="none")

        probabilities = values.sigmoid() * valid
        areas = (probabilities * details, probabilities.square(), details)
        overlap, predicted, true = (area.flatten(1).sum(1) for area in areas)
        # 0 for an image without valid pixels: 1 - 1 / 1
        dice = 1 - (2 * overlap + _SMOOTH) / (predicted + true + _SMOOTH)
        num_images = valid.flatten(1).any(1).sum().clamp(min=1)
        return reduce_pixels(losses, valid, "mean") + dice.sum() / num_images

    def extra_repr(self) -> str:
        """Returns the arguments, for `print(loss)`."""
        return f"ignore_index={self.ignore_index}{_shown(self.task)}"


class BoundaryAwareLoss(nn.Module):
    """A class loss over only the pixels that are predicted to be on a boundary: PIDNet's l3.

    The paper uses cross entropy; the authors' code uses that of hard pixels, as for the final logits
    (`OhemCrossEntropyLoss`). If no pixel is predicted to be on a boundary, the loss is 0.

    Args:
        threshold: probability 0 to 1; pixels with a higher predicted probability of a boundary count.
        criterion: `(logits, target) -> loss`, which ignores `ignore_index` and returns 0 if all pixels are ignored, as
            all losses of this package do; None for `CrossEntropyLoss`, or `BinaryCrossEntropyLoss` by the task.
        ignore_index: target value excluded from the loss and the gradient.
        task: `"multiclass"`, `"binary"` or `"multilabel"`, that of `criterion`.

    Raises:
        InvalidArgumentError: if an argument is not allowed, or `criterion` ignores another value or has another task.
    """

    def __init__(
        self,
        threshold: float = 0.8,
        criterion: nn.Module | None = None,
        ignore_index: int = 255,
        task: str = MULTICLASS,
    ) -> None:
        super().__init__()
        self.task = check_task(task)
        check_same_task("criterion", criterion, task)
        check_fraction("threshold", threshold)
        ignored = getattr(criterion, "ignore_index", ignore_index)
        if ignored != ignore_index:
            raise InvalidArgumentError(
                f"ignore_index must be that of criterion, {ignored}, got {ignore_index}; set both to the same value"
            )
        self.threshold = threshold
        if criterion is None:
            default = CrossEntropyLoss if task == MULTICLASS else BinaryCrossEntropyLoss
            criterion = default(ignore_index=ignore_index, task=task)
        self.criterion = criterion
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, target: Tensor, boundary_logits: Tensor) -> Tensor:
        """Returns the loss that `criterion` computes for these pixels.

        Args:
            logits: float (N, K, H, W), one channel per class.
            target: any integer type (N, H, W), class ids and `ignore_index`; of other tasks see `criterion`.
            boundary_logits: float (N, 1, H, W); they get no gradient.

        Raises:
            InvalidArgumentError: if shapes do not match, or the target is not of an integer type.
            LabelOutOfRangeError: if `criterion` raises it for the pixels that count.
        """
        if self.task == MULTICLASS:
            check_inputs(logits, target)
            pixels = target
        else:
            check_elements(logits, target, self.task)
            target = target_planes(target, self.task, logits.ndim)
            pixels = target[:, 0]
        _check_channels(boundary_logits, pixels, (1,), "boundary_logits")
        near = widened(boundary_logits.detach())[:, 0].sigmoid() > self.threshold
        ids, _ = split_ignored(target, self.ignore_index)
        return self.criterion(logits, ids.where(near if pixels is target else near[:, None], self.ignore_index))

    def extra_repr(self) -> str:
        """Returns the arguments, for `print(loss)`."""
        return f"threshold={self.threshold}, ignore_index={self.ignore_index}{_shown(self.task)}"


def _check_channels(logits: Tensor, target: Tensor, channels: Sequence[int], name: str = "logits") -> None:
    if target.ndim != 3 or logits.ndim != 4 or logits.shape[1] not in channels:
        allowed = " or ".join(str(number) for number in channels)
        raise InvalidArgumentError(
            f"{name} must be (N, {allowed}, H, W) for a target (N, H, W), got {tuple(logits.shape)} and "
            f"{tuple(target.shape)}; these are logits of boundaries, not of classes"
        )
    if logits.shape[:1] + logits.shape[2:] != target.shape:
        raise InvalidArgumentError(
            f"{name} and target must agree, got {tuple(logits.shape)} and {tuple(target.shape)}; resize them to the "
            "target first"
        )


def _checked_ids(
    logits: Tensor, target: Tensor, channels: Sequence[int], ignore_index: int, task: str
) -> tuple[Tensor, Tensor]:
    """Returns the target as int64 and which of its pixels are valid: (N, H, W), or (N, K, H, W) for other tasks.

    The number of classes is unknown here, so only ids below 0 are checked, or those that are neither 0 nor 1.
    """
    if task == MULTICLASS:
        check_inputs(logits, target, min_classes=1)
        _check_channels(logits, target, channels)
    else:
        target = _checked_planes(logits, target, channels, task)
    ids, valid = split_ignored(target, ignore_index)
    if ids.device.type != "cuda" and not torch.compiler.is_compiling():  # on CUDA this would synchronize
        if task != MULTICLASS:
            check_known(ids, (ids == 0) | (ids == 1) | ~valid, ignore_index)
        wrong = ids[(ids < 0) & valid].cpu().numpy()
        if len(wrong):
            raise LabelOutOfRangeError(
                f"target contains {list_ids(*np.unique(wrong, return_counts=True))}; allowed are class ids >= 0 and "
                f"ignore_index {ignore_index}: map the ids with a LabelMap, or check ignore_index"
            )
    return ids, valid


def _checked_planes(logits: Tensor, target: Tensor, channels: Sequence[int], task: str) -> Tensor:
    """Returns the target of a task other than `"multiclass"` as planes (N, K, H, W)."""
    check_tensors(logits, target, is_of_classes=False)
    planes = target_planes(target, task, 4)
    if planes.ndim != 4 or (task == BINARY and planes.shape[1] != 1):
        allowed = "(N, H, W) or (N, 1, H, W)" if task == BINARY else "(N, K, H, W)"
        raise InvalidArgumentError(f'target must be {allowed} with task="{task}", got {tuple(target.shape)}')
    if not has_integers(target):
        raise InvalidArgumentError(f"target must hold 0, 1 and ignore_index in an integer type, got {target.dtype}")
    _check_channels(logits, planes[:, 0], channels)
    return planes


def _of_any_class(found: Tensor, valid: Tensor, task: str) -> tuple[Tensor, Tensor]:
    """Returns which pixels (N, H, W) are found in any plane, and which are valid in any."""
    return (found, valid) if task == MULTICLASS else (found.any(1), valid.any(1))


def _shown(task: str) -> str:
    return "" if task == MULTICLASS else f", task={task!r}"
