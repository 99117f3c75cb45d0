"""Logits and targets of the tasks `"binary"` and `"multilabel"`, whose every element is a choice of its own.

An element is the logit x of one class at one pixel. The sigmoid of x is the probability that the class is there; the
target says 1 (it is), 0 (it is not) or `ignore_index`. A binary task has one class, the object, and one element per
pixel.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from seg_core.errors import InvalidArgumentError, LabelOutOfRangeError, list_ids
from seg_core.labels.tasks import BINARY, MULTILABEL
from seg_train.losses.cpu.strips import has_cpu_values
from seg_train.losses.inputs import check_tensors, has_integers, widened
from seg_train.losses.reduction import reduce_pixels

__all__ = [
    "Elements",
    "check_elements",
    "check_known",
    "class_sums",
    "element_loss",
    "element_weights",
    "elements_of",
    "log_likelihoods",
    "margins",
    "target_planes",
]

# The logit that ignored elements get. Its sigmoid and the loss of an absent class are 0 even in float64, and so are
# their gradients: no loss has to leave ignored elements out a second time.
_CERTAINLY_NOT = -1e4


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
    can_read = has_cpu_values(logits)
    if can_read and planes.numel() and ignore_index not in (0, 1) and _has_only_answers(planes):
        # nothing is ignored, which saves most of the passes over the elements
        every = torch.ones((), dtype=torch.bool).expand(planes.shape)
        return Elements(values, planes.to(values.dtype), every, _number_per_class(planes))
    valid = planes != ignore_index
    positive = (planes == 1) & valid
    known = positive | ~valid | (planes == 0)
    kept, truth = _as_floats(valid, values.dtype), _as_floats(positive, values.dtype)
    if can_read and bool(values.detach().sum().isfinite()):
        # the same as below, several times faster: nothing to hide is infinite or NaN
        values = torch.add(values * kept, 1 - kept, alpha=_CERTAINLY_NOT)
    else:
        values = values.masked_fill(~valid, _CERTAINLY_NOT)
    if torch.compiler.is_compiling() or (target.device.type != "cpu" and not waits):
        values = values.masked_fill(~known, math.nan)
    else:
        check_known(planes, known, ignore_index)
    return Elements(values, truth, valid, _counts(valid))


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


def _has_only_answers(planes: Tensor) -> bool:
    """Returns whether all values are 0 or 1; reads them, which waits for a device."""
    lowest, highest = torch.stack(torch.aminmax(planes)).tolist()
    return lowest >= 0 and highest <= 1


def _as_floats(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns a mask as 0 and 1; torch converts bytes several times faster than bools."""
    return mask.view(torch.int8).to(dtype)


def _counts(mask: Tensor) -> Tensor:
    """Returns the number of elements of each class that are True, int64 (K,); the rows are added up in memory order."""
    return mask.flatten(2).sum(-1).sum(0) if mask.ndim > 2 else class_sums(mask)


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


def margins(elements: Elements) -> Tensor:
    """Returns the logits of what the target says, differentiable: (N, K, ...), a large number at ignored elements.

    They are x where the target is 1 and -x where it is 0. The loss of an element depends on its margin alone, and its
    logarithm is computed from that without a difference of large numbers.
    """
    return elements.logits * (2 * elements.truth - 1)


def log_likelihoods(elements: Elements) -> Tensor:
    """Returns the log of the probability of what the target says, differentiable: (N, K, ...), 0 at ignored ones."""
    return F.logsigmoid(margins(elements))


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
