"""Prediction of whole images in one pass."""

from typing import Literal, get_args, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seg_core.checks import is_integer
from seg_core.errors import InvalidArgumentError
from seg_core.labels.tasks import MULTICLASS, MULTILABEL
from seg_core.metrics.argmax import Thresholds, argmax_labels, threshold_labels
from seg_core.metrics.decidable import check_decidable
from seg_models.inference.adapted import adapt
from seg_models.inference.labels import labels_from_logits
from seg_models.inference.outputs import check_images

__all__ = ["WholeOutput", "predict_labels", "predict_whole"]

WholeOutput = Literal["logits", "labels", "both"]


@overload
def predict_whole(
    model: nn.Module,
    images: Tensor,
    size: tuple[int, int] | None = None,
    output: Literal["logits", "labels"] = ...,
    *,
    thresholds: Thresholds | None = None,
) -> Tensor: ...


@overload
def predict_whole(
    model: nn.Module,
    images: Tensor,
    size: tuple[int, int] | None,
    output: Literal["both"],
    *,
    thresholds: Thresholds | None = None,
) -> tuple[Tensor, Tensor]: ...


def predict_whole(
    model: nn.Module,
    images: Tensor,
    size: tuple[int, int] | None = None,
    output: WholeOutput = "logits",
    *,
    thresholds: Thresholds | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Returns the logits or the labels of whole images, in one pass and without gradients.

    If the network ends with a bilinear resize, labels are computed without the logits at full size, see
    `labels_from_logits`. Images smaller than the network's minimum size are padded, and converted to the type of its
    weights.

    Args:
        model: a network in eval mode: one of this package, or another that returns logits (N, K, h, w), as a tensor
            or as `"out"` or `"logits"` of a dict; those of another size are resized.
        images: float (N, C, H, W), normalized RGB if C is 3, on the model's device.
        size: (height, width) in pixels of the result, to which logits are resized bilinearly; None keeps the size of
            the images.
        output: `"logits"`, `"labels"`, or `"both"`, labels first.
        thresholds: for labels of a binary or multilabel task: probability above 0 and below 1 that a class, the sigmoid
            of its logit, must exceed; one for all classes, or one per class. None gives the class of the largest logit.

    Returns:
        Logits: float32 (N, K, h, w), float64 if the network's are.
        Labels: uint8 (N, h, w), class ids; uint16 for more than 256 classes. With `thresholds` uint8 (N, K, h, w), 1
            where a class is above its threshold, else 0.

    Raises:
        InvalidArgumentError: if an argument is not as described above; if the network returns other than logits; for
            labels if it returns NaN, or, without `thresholds`, one channel only, of which every pixel would be class 0.
    """
    if output not in get_args(WholeOutput):
        raise InvalidArgumentError(f"output must be one of {', '.join(get_args(WholeOutput))}, got {output!r}")
    check_images(images)
    if size is not None and not (len(size) == 2 and all(is_integer(length, 1) for length in size)):
        raise InvalidArgumentError(f"size must be (height, width) in pixels, two integers >= 1, got {size!r}")
    own = (images.shape[-2], images.shape[-1])
    target = own if size is None else size
    network = adapt(model)
    task = MULTICLASS if thresholds is None else MULTILABEL
    with torch.no_grad():
        if target == own and output != "logits":
            logits, align_corners = network.logits_before_resize(images)
        else:
            logits, align_corners = network(images)["out"], False
        if output != "logits":
            check_decidable(logits, task)
            if tuple(logits.shape[-2:]) != target:
                labels = labels_from_logits(logits, target, align_corners=align_corners, thresholds=thresholds)
            else:
                labels = argmax_labels(logits) if thresholds is None else threshold_labels(logits, thresholds)
        if output == "labels":
            return labels
        if tuple(logits.shape[-2:]) != target:
            logits = F.interpolate(logits, target, mode="bilinear", align_corners=align_corners)
    return logits if output == "logits" else (labels, logits)


def predict_labels(
    model: nn.Module,
    images: Tensor,
    size: tuple[int, int] | None = None,
    *,
    thresholds: Thresholds | None = None,
) -> Tensor:
    """Returns the labels of whole images: `predict_whole` with `output="labels"`.

    Args:
        model: a network in eval mode, as for `predict_whole`.
        images: float (N, C, H, W), normalized RGB if C is 3, on the model's device.
        size: (height, width) in pixels of the labels; None keeps the size of the images.
        thresholds: of a binary or multilabel task, as in `predict_whole`.

    Returns:
        uint8 (N, h, w), class ids; uint16 for more than 256 classes. With `thresholds` uint8 (N, K, h, w), 0 and 1.

    Raises:
        InvalidArgumentError: as `predict_whole`.
    """
    return predict_whole(model, images, size, "labels", thresholds=thresholds)
