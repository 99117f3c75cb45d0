"""Antialiased bilinear resize of images of 16 bits, for which torch has no kernel.

Both directions are matrix products over strips that fit into the cache: faster than torch's kernel for floats, and
without a copy of the whole image as floats.
"""

import math

import numpy as np
import torch
from torch import Tensor

__all__ = ["resize_by_strips"]

# rows and columns of the result at a time; each needs only some rows or columns of the image
_ROWS = 32
_COLUMNS = 32


def resize_by_strips(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns images resized with the weights of torch's `interpolate(mode="bilinear", antialias=True)`.

    Args:
        images: uint16 (N, C, H, W), on the CPU, of any strides.
        size: (height, width) in pixels.

    Returns:
        uint16 (N, C, h, w), rounded, in contiguous memory.
    """
    count, channels, height, width = images.shape
    down, across = _parts(height, size[0], _ROWS), _parts(width, size[1], _COLUMNS)
    result = torch.empty((count, channels, *size), dtype=images.dtype)
    floats = torch.empty(max(weights.shape[1] for _, _, weights in down) * width)
    narrow, strip = torch.empty(channels * _ROWS * width), torch.empty(channels * _ROWS * size[1])
    for image, out in zip(images, result, strict=True):
        for rows, sources, weights in down:
            length = len(weights)
            between = narrow[: channels * length * width].view(channels, length, width)
            buffer = floats[: weights.shape[1] * width].view(-1, width)
            for channel in range(channels):
                torch.mm(weights, buffer.copy_(image[channel, sources]), out=between[channel])
            lines = between.view(-1, width)
            done = strip[: len(lines) * size[1]].view(-1, size[1])
            for columns, taken, factors in across:
                torch.mm(lines[:, taken], factors.mT, out=done[:, columns])
            # the conversion to integers truncates
            out[:, rows].copy_(done.add_(0.5).view(channels, length, size[1]))
    return result


def _parts(source: int, target: int, length: int) -> list[tuple[slice, slice, Tensor]]:
    """Returns parts of an axis of the result, the pixels of the image that each needs, and their weights.

    Args:
        source: pixels of the image.
        target: pixels of the result.
        length: largest number of pixels of a part.

    Returns:
        For each part two slices and float32 (pixels of the part, pixels of the image): the weights fall linearly from
        the center of a pixel of the result, to 0 at the distance of the larger of both pixels' sides.
    """
    step = source / target
    reach = max(step, 1.0)
    parts = []
    for start in range(0, target, length):
        stop = min(start + length, target)
        centers = (np.arange(start, stop) + 0.5) * step
        first, last = max(math.floor(centers[0] - reach), 0), min(math.ceil(centers[-1] + reach), source)
        weights = np.maximum(1 - np.abs(np.arange(first, last) + 0.5 - centers[:, None]) / reach, 0)
        weights /= weights.sum(1, keepdims=True)
        parts.append((slice(start, stop), slice(first, last), torch.from_numpy(weights.astype(np.float32))))
    return parts
