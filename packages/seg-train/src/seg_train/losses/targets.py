"""Targets computed from label maps: the boundaries that PIDNet learns and the details that STDC learns."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from seg_core.checks import is_integer
from seg_core.errors import InvalidArgumentError, InvalidTypeError
from seg_train.losses.inputs import has_integers, split_ignored

__all__ = ["boundary_targets", "detail_targets"]

# The fixed fusion of STDC's code, in tenths: the weight of each stride, and the sum above which a pixel is a detail.
_DETAIL_WEIGHTS = {1: 6, 2: 3, 4: 1}
_DETAIL_THRESHOLD = 1


def boundary_targets(masks: Tensor, width: int = 4, ignore_index: int = 255) -> Tensor:
    """Returns the boundaries between classes that PIDNet learns (https://arxiv.org/abs/2206.02066, section 3.4).

    There is no boundary between a class and ignored pixels or the image border. The authors' code instead finds edges
    with Canny's detector, for which ignored pixels are a class, and dilates them to 4x4 pixels.

    Args:
        masks: class ids of any integer type (..., H, W).
        width: of a boundary in pixels, half of them on each side; an even integer >= 2.
        ignore_index: value of pixels without a class.

    Returns:
        int64 (..., H, W): 1 on a boundary, 0 elsewhere, `ignore_index` where the mask has it.

    Raises:
        InvalidArgumentError: if masks are not of an integer type or have no height and width, or the width is not even.
    """
    if not is_integer(width, 2) or width % 2:
        raise InvalidArgumentError(f"width must be an even number of pixels, at least 2, got {width!r}")
    labels, valid = _labels(masks, ignore_index)
    if not labels.numel():  # torch cannot pool images without pixels
        return masks.long()
    nothing = labels.new_full((), -torch.inf)
    highest, lowest = (
        F.max_pool2d(values.where(valid, nothing), width + 1, stride=1, padding=width // 2)
        for values in (labels, -labels)
    )
    return _with_ignored(highest > -lowest, valid, masks, ignore_index)


def detail_targets(masks: Tensor, ignore_index: int = 255) -> Tensor:
    """Returns the details that STDC learns (https://arxiv.org/abs/2104.13188, section 3.3).

    A detail is a pixel where the Laplacian of the class ids is positive, i.e. whose id exceeds the mean of its
    neighbors. As in the authors' code it is computed at strides 1, 2 and 4 and combined: the sum with weights 0.6, 0.3
    and 0.1 must exceed 0.1. Ignored pixels and those outside the image are left out of the mean; in that code they
    count as 255 and 0. Where outlines are ignored, as in VOC, classes do not touch and there are almost no details;
    `boundary_targets` reach across such outlines.

    Args:
        masks: class ids of any integer type (..., H, W).
        ignore_index: value of pixels without a class.

    Returns:
        int64 (..., H, W): 1 on a detail, 0 elsewhere, `ignore_index` where the mask has it.

    Raises:
        InvalidArgumentError: if masks are not of an integer type or have no height and width.
    """
    labels, valid = _labels(masks, ignore_index)
    if not labels.numel():  # torch cannot convolve images without pixels
        return masks.long()
    ring = labels.new_ones(1, 1, 3, 3)
    ring[..., 1, 1] = 0
    height, width = labels.shape[-2:]
    total_weight = torch.zeros_like(labels)
    for stride, tenths in _DETAIL_WEIGHTS.items():
        # sums of ids must be exact, which they are not in half precision
        with torch.autocast(masks.device.type, enabled=False):
            around = F.conv2d(valid.float(), ring, stride=stride, padding=1)
            total = F.conv2d(labels.where(valid, 0), ring, stride=stride, padding=1)
        center = (..., slice(None, None, stride), slice(None, None, stride))
        above = (labels[center] * around > total) & valid[center]
        enlarged = above.repeat_interleave(stride, -2).repeat_interleave(stride, -1)
        total_weight += tenths * enlarged[..., :height, :width]
    return _with_ignored(total_weight > _DETAIL_THRESHOLD, valid, masks, ignore_index)


def _labels(masks: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Returns the class ids as float32 and the mask of valid pixels, both (N, 1, H, W)."""
    if not isinstance(masks, Tensor):
        raise InvalidTypeError(
            f"masks must be a tensor, got {type(masks).__name__}; pass a tensor, as of torch.as_tensor(masks)"
        )
    if not has_integers(masks):
        raise InvalidArgumentError(f"masks must hold class ids of an integer type, got {masks.dtype}")
    if masks.ndim < 2:
        raise InvalidArgumentError(f"masks must be (..., H, W), got {tuple(masks.shape)}")
    labels, valid = split_ignored(masks.reshape(math.prod(masks.shape[:-2]), 1, *masks.shape[-2:]), ignore_index)
    return labels.float(), valid


def _with_ignored(found: Tensor, valid: Tensor, masks: Tensor, ignore_index: int) -> Tensor:
    return found.long().where(valid, ignore_index).view(masks.shape)
