"""Realistic inputs, generated from a seed: smooth images and logits, masks of large regions.

White noise would be unfair to methods that profit from similar neighbors, which real images have.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["blocky_labels", "coarse_logits", "like_prediction", "make_image", "smooth_logits"]

IGNORED = 255
_REGION = 96  # pixels between the values of the coarse random fields: about the size of a region


def smooth_logits(num_classes: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Returns logits like those of a network of stride 8: float32 (1, C, H, W), a coarse field upsampled bilinearly."""
    coarse = coarse_logits(num_classes, height, width, seed)
    return F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)


def coarse_logits(num_classes: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Returns the coarse logits that `smooth_logits` upsamples: float32 (1, C, ceil(H / 8), ceil(W / 8))."""
    generator = torch.Generator().manual_seed(seed)
    return 4.0 * _rough_field(num_classes, -(-height // 8), -(-width // 8), _REGION // 8, generator)


def blocky_labels(height: int, width: int, num_classes: int, ignored: float = 0.05, seed: int = 0) -> Tensor:
    """Returns a mask: uint8 (H, W), class ids in regions with irregular borders, 255 in some regions.

    Args:
        height: in pixels.
        width: in pixels.
        num_classes: at most 255; all of them occur in a large mask.
        ignored: fraction of the pixels that are 255.
        seed: equal seeds give equal masks.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = _regions(num_classes, height, width, generator)
    return labels.masked_fill(_lowest(ignored, height, width, generator), IGNORED)


def like_prediction(truth: Tensor, num_classes: int, wrong: float = 0.08, seed: int = 1) -> Tensor:
    """Returns a prediction for `truth`: uint8 (H, W) without 255, equal to it except near borders and in some regions.

    Args:
        truth: uint8 (H, W), as `blocky_labels` makes it.
        num_classes: class ids of the prediction are below it.
        wrong: fraction of the pixels in wrong regions; differences near borders are added to it.
        seed: equal seeds give equal predictions.
    """
    height, width = truth.shape
    generator = torch.Generator().manual_seed(seed)
    other = _regions(num_classes, height, width, generator)
    shifted = truth.roll((2, -3), dims=(0, 1))  # borders are slightly off the true ones
    replaced = _lowest(wrong, height, width, generator) | (shifted == IGNORED)
    return torch.where(replaced, other, shifted)


def make_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Returns a photograph-like image: uint8 (H, W, 3), shaded regions with edges, texture and some noise."""
    generator = torch.Generator().manual_seed(seed)
    regions = blocky_labels(height, width, num_classes=24, ignored=0.0, seed=seed).long()
    colors = torch.rand(24, 3, generator=generator)[regions].permute(2, 0, 1)[None]  # (1, 3, H, W)
    light = _field(1, height, width, 256, generator)
    texture = _field(3, height, width, 4, generator)
    noise = torch.randn(1, 3, height, width, generator=generator)
    values = 0.15 + 0.6 * colors + 0.08 * light + 0.03 * texture + 0.01 * noise
    return values.mul(255).clamp(0, 255).to(torch.uint8)[0].permute(1, 2, 0).contiguous().numpy()


def _field(channels: int, height: int, width: int, stride: int, generator: torch.Generator) -> Tensor:
    """Returns a smooth random field around 0: float32 (1, channels, H, W), uncorrelated beyond `stride` pixels."""
    coarse = torch.randn(1, channels, height // stride + 2, width // stride + 2, generator=generator)
    return F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False)


def _rough_field(channels: int, height: int, width: int, stride: int, generator: torch.Generator) -> Tensor:
    """Returns a field like `_field` with smaller features added, so that its regions have irregular borders."""
    fine = _field(channels, height, width, max(1, stride // 6), generator)
    return _field(channels, height, width, stride, generator) + 0.15 * fine


def _regions(num_classes: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Returns class ids in regions: uint8 (H, W)."""
    # at half the size: a full-size field of many classes would need gigabytes
    field = _rough_field(num_classes, -(-height // 2), -(-width // 2), _REGION // 2, generator)
    labels = field.argmax(1, keepdim=True).to(torch.uint8)
    return F.interpolate(labels, size=(height, width), mode="nearest-exact")[0, 0]


def _lowest(share: float, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Returns regions that cover that fraction of the pixels: bool (H, W)."""
    # by rank, not by value, so that the fraction is exact for any field; kthvalue counts from 1
    rank = round(share * height * width)
    if rank == 0:
        return torch.zeros(height, width, dtype=torch.bool)
    field = _field(1, height, width, _REGION // 2, generator)[0, 0]
    return field <= field.flatten().kthvalue(rank).values
