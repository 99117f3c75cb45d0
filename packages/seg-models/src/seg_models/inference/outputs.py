"""What a network returns: finding its logits, checking them before labels are made, and their probabilities."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from seg_core.errors import InvalidArgumentError

__all__ = [
    "check_images",
    "check_num_channels",
    "find_logits",
    "resized_logits",
    "top_probabilities",
]

# keys of the main output: of torchvision and this toolkit, and of transformers
_KEYS = ("out", "logits")
_SCORE_STRIP = 2**20  # elements


def check_images(images: object) -> None:
    """Checks the input of the predict functions.

    Raises:
        InvalidArgumentError: if it is not float (N, C, H, W) with values.
    """
    if not isinstance(images, Tensor) or images.ndim != 4 or not images.is_floating_point() or not images.numel():
        seen = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise InvalidArgumentError(
            f"images must be a float tensor (N, C, H, W), normalized, of at least one image with pixels, got {seen}; "
            "Predictor takes files, arrays and PIL images"
        )


def find_logits(output: Any, images: Tensor) -> Tensor:
    """Returns the logits in the output of a network: a tensor, or a dict with the tensor `"out"` or `"logits"`.

    Args:
        output: what the network returned; a dict of one tensor is taken whatever its key.
        images: (N, C, H, W), its input.

    Returns:
        Floating point (N, K, h, w), at any size.

    Raises:
        InvalidArgumentError: if these are not in it.
    """
    found = output
    if isinstance(output, Mapping):
        keys = [key for key in _KEYS if key in output] or (list(output) if len(output) == 1 else [])
        if not keys:
            raise _not_logits(f"a dict with {', '.join(map(repr, output)) or 'nothing'}", len(images))
        found = output[keys[0]]
    if not isinstance(found, Tensor):
        raise _not_logits(f"a {type(found).__name__}", len(images))
    # sizes, not `len`: a program that is exported for any number of images takes this way too
    wrong = found.ndim != 4 or not found.is_floating_point() or found.shape[0] != images.shape[0] or 0 in found.shape
    if wrong:
        raise _not_logits(f"{found.dtype} {tuple(found.shape)}", len(images))
    return found


def check_num_channels(logits: Tensor, num_classes: int) -> None:
    """Checks that logits (N, K, h, w) have one channel per class.

    Raises:
        InvalidArgumentError: if they do not.
    """
    if logits.shape[1] != num_classes:
        raise InvalidArgumentError(
            f"the network returns {logits.shape[1]} channels, but the metadata names {num_classes} classes; pass the "
            "metadata of the classes that it was trained on"
        )


def resized_logits(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns logits (N, K, h, w) at another (height, width), interpolated bilinearly; unchanged at the same."""
    if tuple(logits.shape[-2:]) == size:
        return logits
    return F.interpolate(logits.float(), size, mode="bilinear", align_corners=False)


def top_probabilities(logits: Tensor) -> Tensor:
    """Returns float32 (H, W), the largest probability of logits (K, H, W), computed a few rows at a time."""
    rows = max(1, _SCORE_STRIP // (logits.shape[0] * logits.shape[2]))
    parts = []
    for strip in torch.split(logits, rows, 1):
        floats = strip.float()
        parts.append((floats - floats.amax(0)).exp_().sum(0).reciprocal_())
    return torch.cat(parts)


def _not_logits(seen: str, count: int) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"a network must return float logits ({count}, K, h, w) for {count} image{'' if count == 1 else 's'}, as a "
        f'tensor or as "out" or "logits" of a dict, got {seen}; wrap it in a module that returns them'
    )
