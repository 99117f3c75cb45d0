"""Labels from logits: the argmax over classes, or a threshold per class.

The argmax is several times faster than `torch.argmax` on a CPU, and has no int64 result.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from seg_core.checks import is_number
from seg_core.errors import InvalidArgumentError

__all__ = ["Thresholds", "argmax_labels", "logit_thresholds", "threshold_labels"]

Thresholds = float | Sequence[float]
"""A probability above 0 and below 1 that a class must exceed: one for all classes, or one per class."""

# Operations on at most this many elements run in the calling thread, and their operands stay in its cache.
_STRIP = 32768


@torch.no_grad()
def argmax_labels(logits: Tensor) -> Tensor:
    """Returns the class with the largest logit per pixel, the first one on ties, as `torch.argmax` does.

    On a CPU it needs less than 1 MiB besides the result. For logits in channels_last memory torch's own reduction is
    used, which is fast there and needs 12 bytes per pixel of one image. A pixel with a NaN among its logits gets an
    arbitrary class; check for NaN first if it matters.

    Args:
        logits: floating point (N, C, H, W) or (C, H, W), any memory format, any device; 1 to 65536 classes C.

    Returns:
        uint8 (N, H, W) or (H, W) on the same device, class ids; uint16 for more than 256 classes.

    Raises:
        InvalidArgumentError: if `logits` has another type or shape.
    """
    if not isinstance(logits, Tensor) or not logits.is_floating_point() or logits.ndim not in (3, 4):
        seen = f"{logits.dtype} {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise InvalidArgumentError(f"logits must be a floating point tensor (N, C, H, W) or (C, H, W), got {seen}")
    num_classes = logits.shape[-3]
    if not 1 <= num_classes <= 65536:
        raise InvalidArgumentError(f"logits must have 1 to 65536 classes, got {num_classes} in {tuple(logits.shape)}")
    dtype = torch.uint8 if num_classes <= 256 else torch.uint16
    if logits.device.type != "cpu":
        return logits.argmax(-3).to(dtype)
    images = logits if logits.ndim == 4 else logits[None]
    labels = torch.empty(images.shape[0], *images.shape[2:], dtype=dtype)  # (N, H, W)
    # in channels_last memory the logits of a pixel are adjacent, otherwise those of a class
    by_pixel = images.stride(1) < images.stride(3)
    for image, target in zip(images, labels, strict=True):
        if by_pixel:
            target.copy_(image.max(0).indices)
        else:
            _fill_by_plane(image, target)
    return labels if logits.ndim == 4 else labels[0]


def _fill_by_plane(image: Tensor, target: Tensor) -> None:
    """Writes the classes of `image` (C, H, W) into `target` (H, W) by a running maximum over the class planes.

    It goes strip by strip; a strip is as many rows as fit in the cache.
    """
    _, height, width = image.shape
    rows = max(1, min(height, _STRIP // max(1, width)))
    # torch's uint16 has no arithmetic
    scratch_type = torch.uint8 if target.dtype == torch.uint8 else torch.int32
    best_buffer = torch.empty(rows, width, dtype=image.dtype)
    label_buffer, class_buffer = torch.empty(2, rows, width, dtype=scratch_type)
    for top in range(0, height, rows):
        first, *others = image[:, top : top + rows].unbind(0)
        best, label, greater = (b[: first.shape[0]] for b in (best_buffer, label_buffer, class_buffer))
        best.copy_(first)
        label.zero_()
        for index, plane in enumerate(others, start=1):
            # class ids rise, so the largest id that beat all before it is the one of the maximum
            torch.gt(plane, best, out=greater)
            torch.maximum(label, greater.mul_(index), out=label)
            torch.maximum(best, plane, out=best)
        target[top : top + rows] = label


def logit_thresholds(thresholds: Thresholds, num_classes: int) -> list[float]:
    """Returns the logits of thresholds, one per class.

    Raises:
        InvalidArgumentError: if they are not numbers above 0 and below 1, one or one per class.
    """
    values = thresholds if isinstance(thresholds, Sequence) else (thresholds,) * num_classes
    if isinstance(values, str) or len(values) != num_classes or not all(is_number(t) and 0 < t < 1 for t in values):
        each = f", or {num_classes} such numbers, one per class" if num_classes > 1 else ""
        raise InvalidArgumentError(f"thresholds must be a number above 0 and below 1{each}, got {thresholds!r}")
    return [math.log(t / (1 - t)) for t in values]


@torch.no_grad()
def threshold_labels(logits: Tensor, thresholds: Thresholds = 0.5) -> Tensor:
    """Returns for each class the pixels whose probability, the sigmoid of the logit, is above a threshold.

    Args:
        logits: floating point (N, K, H, W) or (K, H, W), any device.
        thresholds: number above 0 and below 1, for all classes or one per class.

    Returns:
        uint8 of the same shape and device: 1 above the threshold, else 0. A pixel of a NaN is 0.

    Raises:
        InvalidArgumentError: if an argument is not as described above.
    """
    if not isinstance(logits, Tensor) or not logits.is_floating_point() or logits.ndim not in (3, 4):
        seen = f"{logits.dtype} {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise InvalidArgumentError(f"logits must be a floating point tensor (N, K, H, W) or (K, H, W), got {seen}")
    limits = logit_thresholds(thresholds, logits.shape[-3])
    wide = torch.promote_types(logits.dtype, torch.float32)
    if len(set(limits)) == 1 and (logits.dtype == wide or limits[0] == 0):
        return (logits > limits[0]).to(torch.uint8)
    # the limits are not rounded to the type of the logits, as one number would be
    return (logits > torch.tensor(limits, dtype=wide, device=logits.device)[:, None, None]).to(torch.uint8)
