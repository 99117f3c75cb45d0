"""The labels that a `MetricStore` takes, as tensors of integers."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seg_core.arrays import tensor_of_array
from seg_core.errors import InvalidArgumentError
from seg_core.labels.tasks import BINARY, MULTICLASS, MULTILABEL

__all__ = ["LOGITS_ADVICE", "as_integers"]

LOGITS_ADVICE = {
    MULTICLASS: "logits become labels with argmax_labels",
    BINARY: "logits (N, 1, H, W) become labels (N, H, W) with threshold_labels(logits)[:, 0]",
    MULTILABEL: "logits become labels with threshold_labels",
}
"""How predictions of each task become labels, for messages."""


def as_integers(side: str, labels: Tensor | npt.NDArray[Any], task: str) -> Tensor:
    """Returns `labels` as a plain tensor of an integer type with arithmetic in torch, sharing memory if possible.

    Args:
        side: `"truths"` or `"preds"`, for messages.
        labels: to convert.
        task: of the store, for messages.

    Raises:
        InvalidArgumentError: if they are no tensor or array of integers.
    """
    advice = LOGITS_ADVICE[task] if side == "preds" else "convert masks of whole ids to an integer type, such as uint8"
    if isinstance(labels, np.ndarray):
        if labels.dtype.kind not in "uib":
            raise InvalidArgumentError(f"{side} must hold integers, got an array of {labels.dtype}; {advice}")
        tensor = tensor_of_array(labels)
    elif isinstance(labels, Tensor):
        if labels.is_floating_point() or labels.is_complex():
            raise InvalidArgumentError(f"{side} must hold integers, got a tensor of {labels.dtype}; {advice}")
        tensor = labels.detach().as_subclass(Tensor)
    else:
        raise InvalidArgumentError(f"{side} must be a tensor or a numpy array, got {type(labels).__name__}")
    if tensor.dtype == torch.bool:
        return tensor.to(torch.uint8)
    # torch has almost no arithmetic for the wide unsigned types
    return tensor.long() if tensor.dtype in (torch.uint16, torch.uint32, torch.uint64) else tensor
