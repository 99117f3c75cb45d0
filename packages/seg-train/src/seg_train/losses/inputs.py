"""Prepares logits and targets for the losses: checks, conversion to float32 and int64, separation of ignored pixels."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from seg_core.errors import InvalidArgumentError, InvalidTypeError, LabelOutOfRangeError, list_ids
from seg_core.labels.tasks import BINARY, MULTILABEL

__all__ = ["check_inputs", "check_tensors", "class_ids", "has_integers", "joined_pixels", "split_ignored", "widened"]


def widened(values: Tensor, *, planar: bool = False) -> Tensor:
    """Returns half-precision values as float32; float32 and float64 values are returned unchanged.

    Args:
        values: float, any shape.
        planar: whether the float32 copy on a CPU is contiguous, whatever the memory format of `values`. A CPU computes
            the softmax over contiguous class planes twice as fast as over channels_last logits.
    """
    if values.dtype in (torch.float32, torch.float64):
        return values
    layout = torch.contiguous_format if planar and values.device.type == "cpu" else torch.preserve_format
    return values.to(torch.float32, memory_format=layout)


def split_ignored(target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Returns the target as int64, and a bool mask of the same shape that is True where it is not `ignore_index`."""
    ids = target.long()  # an unsigned type could not be compared with a negative ignore_index
    return ids, ids != ignore_index


def joined_pixels(values: Tensor, axis: int) -> Tensor:
    """Returns values with all axes from `axis` on joined into one, of length 1 if there are none.

    `reshape` with -1 cannot tell the length of that axis if another one is 0, as in a batch without images.
    """
    return values.reshape(*values.shape[:axis], math.prod(values.shape[axis:]))


def has_integers(tensor: Tensor) -> bool:
    """Returns whether the tensor has an integer type; bool is none."""
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)


def check_inputs(logits: Tensor, target: Tensor, weight: Tensor | None = None, *, min_classes: int = 2) -> None:
    """Checks logits float (N, K, ...) against an integer target (N, ...) and class weights (K,).

    Args:
        logits: to check.
        target: to check.
        weight: class weights, or None.
        min_classes: minimum of K; below 2 only for logits that are not those of classes.

    Raises:
        InvalidTypeError: if one of them is no tensor, such as the outputs of a network.
        InvalidArgumentError: if their shapes or types do not fit, or there is only one class: its softmax is always 1,
            so its loss would be 0 whatever the logits are.
    """
    check_tensors(logits, target, is_of_classes=min_classes > 1)
    if logits.ndim < 2 or target.shape != logits.shape[:1] + logits.shape[2:]:
        advice = "resize the logits to the target first"
        if target.shape == logits.shape:
            advice = f'a target with one plane per class needs task="{BINARY if logits.shape[1] == 1 else MULTILABEL}"'
        raise InvalidArgumentError(
            f"logits (N, K, ...) and target (N, ...) must agree, got {tuple(logits.shape)} and {tuple(target.shape)}; "
            f"{advice}"
        )
    if logits.shape[1] < min_classes:
        raise InvalidArgumentError(
            f"logits must have at least {min_classes} classes, got {logits.shape[1]} in {tuple(logits.shape)}: the "
            "softmax of a single class is always 1, so there is nothing to learn; give the background a class too, or "
            f'use task="{BINARY}", which takes one logit per pixel'
        )
    if not has_integers(target):
        raise InvalidArgumentError(f"target must hold class ids of an integer type, got {target.dtype}")
    if weight is not None and len(weight) != logits.shape[1]:
        raise InvalidArgumentError(
            f"weight has {len(weight)} entries but the logits have {logits.shape[1]} classes; give one per class"
        )


def check_tensors(logits: object, target: object, is_of_classes: bool = True) -> None:
    """Raises InvalidTypeError if one of them is no tensor; the message says which tensor to pass."""
    for name, value in (("logits", logits), ("target", target)):
        if isinstance(value, Tensor):
            continue
        advice = f"pass a tensor, as of torch.as_tensor({name})"
        if isinstance(value, Mapping):
            advice = f"pass one of its tensors: {', '.join(map(repr, value))}"
            if name == "logits" and is_of_classes and "out" in value:
                advice = 'pass outputs["out"], or use DeepSupervision, which takes all outputs of a network'
        elif hasattr(value, "logits"):  # of transformers
            advice = "pass outputs.logits"
        elif isinstance(value, list | tuple) and name == "logits":
            advice = "pass one of its tensors, such as outputs[0]"
        raise InvalidTypeError(f"{name} must be a tensor, got {type(value).__name__}; {advice}")


def class_ids(target: Tensor, num_classes: int, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Returns the class ids of a target, 0 for ignored pixels, and the mask of ignored pixels.

    Checking the values synchronizes with the device. In a graph that is being compiled they are not checked.

    Args:
        target: any integer type and shape, class ids and `ignore_index`; not modified.
        num_classes: number of classes K; class ids are 0 to K - 1.
        ignore_index: value of ignored pixels, which may be a class id.

    Returns:
        int64 and bool, both of the target's shape.

    Raises:
        LabelOutOfRangeError: if the target contains any other value.
    """
    labels, valid = split_ignored(target, ignore_index)
    labels = labels.masked_fill(~valid, 0)
    if labels.numel() and not torch.compiler.is_compiling():
        lowest, highest = torch.stack(torch.aminmax(labels)).tolist()
        if lowest < 0 or highest >= num_classes:
            wrong = labels[(labels < 0) | (labels >= num_classes)].cpu().numpy()
            values, counts = np.unique(wrong, return_counts=True)
            allowed = f"the class ids 0 to {num_classes - 1}" if num_classes > 1 else "the class id 0"
            raise LabelOutOfRangeError(
                f"target contains {list_ids(values, counts)}; allowed are {allowed}, one per channel of logits, and "
                f"ignore_index {ignore_index}: map the ids with a LabelMap, or check num_classes and ignore_index"
            )
    return labels, ~valid
