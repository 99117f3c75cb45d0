"""Logits and targets of the tasks `"binary"` and `"multilabel"`, whose every element is a choice of its own.

An element is the logit x of one class at one pixel. The sigmoid of x is the probability that the class is there; the
target says 1 (it is), 0 (it is not) or `ignore_index`. A binary task has one class, the object, and one element per
pixel.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from seg_core.errors import InvalidArgumentError, LabelOutOfRangeError, list_ids
from seg_core.labels.tasks import BINARY, MULTILABEL
from seg_train.losses.cpu.strips import has_cpu_values
from seg_train.losses.inputs import check_tensors, has_integers, widened
from seg_train.losses.reduction import reduce_pixels

__all__ = [
    "Elements",
    "Margins",
    "check_elements",
    "check_known",
    "class_sums",
    "element_loss",
    "element_weights",
    "elements_of",
    "margins_of",
    "target_planes",
]

# The logit that ignored elements get. Its sigmoid and the loss of an absent class are 0 even in float64, and so are
# their gradients: no loss has to leave ignored elements out a second time.
_CERTAINLY_NOT = -1e4


# integers up to this number are exact in float32
_LARGEST_EXACT = 2**24


class Elements(NamedTuple):
    """What a loss needs to know of the elements, (N, K, ...) each, but for the counts.

    Attributes:
        logits: float32 or float64, a large negative number at ignored elements.
        truth: of the type of the logits, 1 where the target is 1, else 0, also at ignored elements.
        valid: bool, whether the element is not ignored.
        counts: int64 (K,), the number of valid elements of each class.
    """

    logits: Tensor
    truth: Tensor
    valid: Tensor
    counts: Tensor


def elements_of(
    logits: Tensor, target: Tensor, task: str, ignore_index: int, weight: Tensor | None = None, *, waits: bool = False
) -> Elements:
    """Checks logits and target and returns their elements, differentiable.

    Args:
        logits: float (N, K, ...), K = 1 for `"binary"`. Half precision is computed in float32.
        target: any integer type, 0, 1 and `ignore_index`; (N, ...) or (N, 1, ...) for `"binary"`, (N, K, ...) for
            `"multilabel"`; not modified.
        task: `"binary"` or `"multilabel"`.
        ignore_index: target value of elements without influence, whatever their logits are.
        weight: class weights (K,), or None.
        waits: whether to wait for the values of a target on another device than the CPU, in order to check them.

    Raises:
        InvalidTypeError: if one of them is no tensor.
        InvalidArgumentError: if shapes or types do not fit.
        LabelOutOfRangeError: if the target contains another value. In compiled code, and on a device for which the
            loss does not wait, the logit of such an element is NaN instead, and so is the loss.
    """
    check_elements(logits, target, task, weight)
    values = widened(logits)
    planes = _comparable(target_planes(target, task, logits.ndim), ignore_index)
    answers = _answers_of(planes, ignore_index, values.dtype)
    valid = planes != ignore_index
    if _hides_finite(logits, values):
        # the same as below, several times faster
        values = torch.add(values * (1 - answers.hidden), answers.hidden, alpha=_CERTAINLY_NOT)
    else:
        values = values.masked_fill(~valid, _CERTAINLY_NOT)
    values = _checked(values, planes, answers, ignore_index, raises=waits or target.device.type == "cpu")
    return Elements(values, answers.truth, valid, _number_per_class(planes) - _counts(answers.hidden))


class Margins(NamedTuple):
    """What a loss of single elements needs to know of them, (N, K, ...) each, but for the counts.

    Attributes:
        margins: float32 or float64, the logit of what the target says: x where it is 1, -x where it is 0. The loss of
            an element is a function of the margin alone, computed without a difference of large numbers. A large
            number at ignored elements, where -log(sigmoid) and its gradient are 0 even in float64.
        signs: 1 where the target is 1, -1 where it is 0, and 0 at ignored elements; of the type of the margins.
        counts: int64 (K,), the number of valid elements of each class.
    """

    margins: Tensor
    signs: Tensor
    counts: Tensor


def margins_of(logits: Tensor, target: Tensor, task: str, ignore_index: int, weight: Tensor | None = None) -> Margins:
    """Checks logits and target and returns the margins of their elements, differentiable.

    Args:
        logits: as for `elements_of`.
        target: as for `elements_of`.
        task: `"binary"` or `"multilabel"`.
        ignore_index: target value of elements without influence, whatever their logits are.
        weight: class weights (K,), or None.

    Raises:
        InvalidTypeError, InvalidArgumentError, LabelOutOfRangeError: as `elements_of` does.
    """
    check_elements(logits, target, task, weight)
    values = widened(logits)
    planes = _comparable(target_planes(target, task, logits.ndim), ignore_index)
    if has_cpu_values(logits) and planes.numel() and ignore_index not in (0, 1):
        given = planes.to(values.dtype)
        lowest, highest = torch.aminmax(given)
        if lowest >= 0 and highest <= 1:  # nothing is ignored, which saves half of the passes
            signs = given.mul_(2).sub_(1)
            return Margins(values * signs, signs, _number_per_class(planes))
    answers = _answers_of(planes, ignore_index, values.dtype)
    signs = torch.add(answers.hidden, answers.truth, alpha=2).sub_(1)  # 0 at ignored elements
    if not _hides_finite(logits, values):
        values = values.masked_fill(answers.hidden != 0, 0)
    margins, ignored = values * signs, _counts(answers.hidden)
    if not has_cpu_values(logits) or bool(ignored.any()):
        margins = torch.add(margins, answers.hidden, alpha=-_CERTAINLY_NOT)
    margins = _checked(margins, planes, answers, ignore_index, raises=target.device.type == "cpu")
    return Margins(margins, signs, _number_per_class(planes) - ignored)


class _Answers(NamedTuple):
    """The values of a target as floats (N, K, ...).

    Attributes:
        truth: 1 where the target is 1, else 0.
        hidden: 1 where the target is ignored, else 0.
        given: the values themselves.
        read: the values that `truth` and `hidden` stand for; where they differ from `given`, that is not allowed.
    """

    truth: Tensor
    hidden: Tensor
    given: Tensor
    read: Tensor


def _answers_of(planes: Tensor, ignore_index: int, dtype: torch.dtype) -> _Answers:
    """Returns what the values of a target mean.

    By arithmetic of floats: on a CPU a comparison takes as long as four of its steps.
    """
    given = planes.to(dtype)
    if ignore_index in (0, 1) or abs(ignore_index) > _LARGEST_EXACT:
        hidden = (planes == ignore_index).to(dtype)
        truth = (planes == 1).to(dtype) * (1 - hidden)
        known = (planes == ignore_index) | (planes == 0) | (planes == 1)
        return _Answers(truth, hidden, given, given.where(known, math.inf))
    if ignore_index > 1:
        hidden = (given - 1).clamp_(0, 1)  # 0 and 1 give 0, all larger values 1
        truth = given.clamp(0, 1).sub_(hidden)
    else:
        hidden = (-given).clamp_(0, 1)
        truth = given.clamp(0, 1)
    return _Answers(truth, hidden, given, torch.add(truth, hidden, alpha=ignore_index))


def _hides_finite(logits: Tensor, values: Tensor) -> bool:
    """Returns whether ignored logits can be hidden by a product with 0: none is infinite or NaN."""
    return has_cpu_values(logits) and bool(values.detach().sum().isfinite())


def _checked(values: Tensor, planes: Tensor, answers: _Answers, ignore_index: int, *, raises: bool) -> Tensor:
    """Returns values that are NaN where a target holds a value that is not allowed, or raises LabelOutOfRangeError."""
    if torch.compiler.is_compiling() or not raises:
        return values.masked_fill(answers.given != answers.read, math.nan)
    difference = (answers.read - answers.given).flatten()
    if float(torch.dot(difference, difference)) != 0:  # several times faster than torch.equal
        check_known(planes, answers.given == answers.read, ignore_index)
    return values


def check_elements(logits: Tensor, target: Tensor, task: str, weight: Tensor | None = None) -> None:
    """Raises what `elements_of` does for types and shapes that do not fit."""
    check_tensors(logits, target)
    given = f"got {tuple(logits.shape)} and {tuple(target.shape)}"
    pixels = logits.shape[:1] + logits.shape[2:]
    if task == BINARY:
        if logits.ndim < 2 or logits.shape[1] != 1:
            raise InvalidArgumentError(
                f'logits must be (N, 1, ...) with task="binary", got {tuple(logits.shape)}: build the network with '
                'num_classes=1, or use task="multilabel" for several classes, "multiclass" for a background and others'
            )
        if target.shape not in (pixels, logits.shape):
            raise InvalidArgumentError(
                f'logits (N, 1, ...) and target (N, ...) or (N, 1, ...) must agree with task="binary", {given}; resize '
                "the logits to the target first"
            )
    elif logits.ndim < 2 or target.shape != logits.shape:
        advice = "resize the logits to the target first"
        if target.shape == pixels:
            advice = 'give one plane of 0 and 1 per class, or use the task "binary" or "multiclass"'
        raise InvalidArgumentError(
            f'logits (N, K, ...) and target (N, K, ...) must agree with task="{MULTILABEL}", {given}; {advice}'
        )
    if not has_integers(target):
        raise InvalidArgumentError(f"target must hold 0, 1 and ignore_index in an integer type, got {target.dtype}")
    if weight is not None and len(weight) != logits.shape[1]:
        raise InvalidArgumentError(
            f"weight has {len(weight)} entries but the logits have {logits.shape[1]} channels; give one per channel"
        )


def target_planes(target: Tensor, task: str, ndim: int) -> Tensor:
    """Returns a target as planes (N, K, ...): that of a binary task may lack the axis of classes.

    Args:
        target: see `elements_of`.
        task: `"binary"` or `"multilabel"`.
        ndim: number of axes of the logits.
    """
    return target[:, None] if task == BINARY and target.ndim == ndim - 1 else target


def _comparable(target: Tensor, ignore_index: int) -> Tensor:
    """Returns the target in its own type if torch computes with that and it can hold `ignore_index`, else as int64."""
    if target.dtype in (torch.uint8, torch.int16, torch.int32):
        limits = torch.iinfo(target.dtype)
        if limits.min <= ignore_index <= limits.max:
            return target
    return target.long()


def _counts(ones: Tensor) -> Tensor:
    """Returns the sums of each class of floats 0 and 1: int64 (K,)."""
    if ones.ndim < 3 or math.prod(ones.shape[2:]) > _LARGEST_EXACT:
        return class_sums(ones.long())
    return ones.flatten(2).sum(-1).long().sum(0)  # of floats, several times faster than of bools


def _number_per_class(planes: Tensor) -> Tensor:
    return torch.full((planes.shape[1],), planes.numel() // planes.shape[1], device=planes.device)


def check_known(planes: Tensor, known: Tensor, ignore_index: int) -> None:
    """Raises LabelOutOfRangeError if a target holds values that are not known; reads them, which waits for a device."""
    if bool(known.all()):
        return
    values, counts = np.unique(planes[~known].cpu().numpy(), return_counts=True)
    raise LabelOutOfRangeError(
        f"target contains {list_ids(values, counts)}; allowed are 0 (not there), 1 (there) and ignore_index "
        f"{ignore_index}: map the values with a LabelMap, or check ignore_index; class ids need the task 'multiclass'"
    )


def element_weights(target: Tensor, task: str, ignore_index: int, weight: Tensor | None) -> Tensor:
    """Returns the sum of the weights of the valid elements, per class (K,) if there are weights, else 0-d.

    Args:
        target: see `elements_of`.
        task: `"binary"` or `"multilabel"`.
        ignore_index: value of ignored elements.
        weight: float (K,), or None for 1 each.
    """
    valid = _comparable(target, ignore_index) != ignore_index
    if weight is None:
        return valid.sum()
    if task == BINARY:
        return valid.sum() * weight
    return class_sums(valid) * weight


def class_sums(values: Tensor) -> Tensor:
    """Returns the sums over all axes but that of the classes: (K,) of values (N, K, ...)."""
    return values.sum([axis for axis in range(values.ndim) if axis != 1])


def element_loss(losses: Tensor, counts: Tensor, weight: Tensor | None, reduction: str, shape: torch.Size) -> Tensor:
    """Returns the mean or the sum of the losses of elements, or the losses themselves.

    Args:
        losses: float (N, K, ...), 0 at ignored elements.
        counts: (K,), the number of valid elements of each class.
        weight: float (K,), or None for 1 each.
        reduction: see `reduce_pixels`.
        shape: of the result with reduction `"none"`: that of the target.
    """
    if weight is None:
        reduced = reduce_pixels(losses, counts, reduction)
    else:
        factors = weight.to(losses)
        weighted = losses * factors.view(-1, *[1] * (losses.ndim - 2))
        reduced = reduce_pixels(weighted, counts * factors, reduction)
    return reduced.reshape(shape) if reduction == "none" else reduced
