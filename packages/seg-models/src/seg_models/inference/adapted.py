"""Wraps a network so that it accepts images of any size and any floating-point type."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seg_core.registry import MODELS

__all__ = ["AnySize", "adapt", "last_resize", "min_size_of"]


class AnySize(nn.Module):
    """A network that pads small images and converts their type, so that it accepts float images of any size.

    Args:
        network: a network of this package, in eval mode.
        dtype: dtype of its weights; None if inputs have the same type.
        min_size: minimum height and width of its inputs. Smaller images are padded at the right and bottom with zeros,
            the mean color, and the logits are cropped.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype | None, min_size: int) -> None:
        super().__init__()
        self._network = network
        self._dtype = dtype
        self._min_size = min_size
        self.upsampling = getattr(network, "upsampling", {})
        self.eval()

    def is_small(self, images: Tensor) -> bool:
        """Returns whether images are smaller than the network's minimum size."""
        return min(images.shape[-2:]) < self._min_size

    def forward_logits(self, images: Tensor) -> dict[str, Tensor]:
        """Returns the network's outputs before the final resize; images must not be small."""
        return self._network.forward_logits(images.to(self._dtype))  # type: ignore[operator]  # a Network

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Returns float32 logits (N, K, H, W) as `"out"`."""
        height, width = images.shape[-2:]
        if self.is_small(images):
            missing = (max(0, self._min_size - width), max(0, self._min_size - height))
            images = F.pad(images, (0, missing[0], 0, missing[1]))
        logits = self._network(images.to(self._dtype))["out"]
        return {"out": logits[..., :height, :width].float()}


def adapt(model: nn.Module) -> nn.Module:
    """Returns `model` if it accepts images of any size, else an `AnySize` around it.

    Args:
        model: a network of this package, in eval mode; for other models no minimum size is known.
    """
    min_size = min_size_of(model)
    return model if min_size <= 1 or isinstance(model, AnySize) else AnySize(model, None, min_size)


def min_size_of(model: nn.Module) -> int:
    """Returns the minimum height and width in pixels of a model's inputs by the catalog; 1 if it is not listed."""
    spec = getattr(model, "build_spec", None)
    if spec is None or spec.builder not in MODELS:
        return 1
    return getattr(MODELS.entry(spec.builder), "min_size", 1)


def last_resize(model: nn.Module, images: Tensor) -> bool | None:
    """Returns `align_corners` of the bilinear resize that `model` ends with for these images.

    None if it ends with another step, which `forward_logits` would skip: another resize mode, or cropping of padding.
    """
    resize = getattr(model, "upsampling", {}).get("out")
    if resize is None or resize[0] != "bilinear" or (isinstance(model, AnySize) and model.is_small(images)):
        return None
    return bool(resize[1])
