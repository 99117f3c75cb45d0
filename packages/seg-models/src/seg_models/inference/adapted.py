"""Networks that take images of any size, and inputs of any floating point type."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seg_core.registry import MODELS

__all__ = ["AnySize", "adapt", "last_resize", "min_size_of"]


class AnySize(nn.Module):
    """A network behind padding and a change of type, so that it takes float images of any size.

    Args:
        network: as the builders make it, in eval mode.
        dtype: of its weights; None where they are what its inputs are.
        min_size: smallest height and width that it takes. Smaller inputs are padded at the right and at the bottom with
            zeros, the mean color, and the logits are cropped.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype | None, min_size: int) -> None:
        super().__init__()
        self._network = network
        self._dtype = dtype
        self._min_size = min_size
        self.upsampling = getattr(network, "upsampling", {})
        self.eval()

    def is_small(self, images: Tensor) -> bool:
        """Returns whether images are smaller than what the network takes."""
        return min(images.shape[-2:]) < self._min_size

    def forward_logits(self, images: Tensor) -> dict[str, Tensor]:
        """Returns the network's outputs before the final resize; images must not be small."""
        outputs: dict[str, Tensor] = self._network.forward_logits(images.to(self._dtype))  # type: ignore[operator]
        return outputs

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Returns float32 logits (N, K, H, W) as `"out"`."""
        height, width = images.shape[-2:]
        if self.is_small(images):
            missing = (max(0, self._min_size - width), max(0, self._min_size - height))
            images = F.pad(images, (0, missing[0], 0, missing[1]))
        logits = self._network(images.to(self._dtype))["out"]
        return {"out": logits[..., :height, :width].float()}


def adapt(model: nn.Module) -> nn.Module:
    """Returns `model` if it takes images of any size, else an `AnySize` around it.

    Args:
        model: as the builders make it, in eval mode; of others no smallest size is known.
    """
    least = min_size_of(model)
    return model if least <= 1 or isinstance(model, AnySize) else AnySize(model, None, least)


def min_size_of(model: nn.Module) -> int:
    """Returns the smallest height and width in pixels that the catalog says for a model; 1 where it says nothing."""
    spec = getattr(model, "build_spec", None)
    if spec is None or spec.builder not in MODELS:
        return 1
    return getattr(MODELS.entry(spec.builder), "min_size", 1)


def last_resize(model: nn.Module, images: Tensor) -> bool | None:
    """Returns `align_corners` of the bilinear resize that `model` ends with for these images.

    None where it ends in something else, which `forward_logits` would leave out: another mode, or cropped padding.
    """
    how = getattr(model, "upsampling", {}).get("out")
    if how is None or how[0] != "bilinear" or (isinstance(model, AnySize) and model.is_small(images)):
        return None
    return bool(how[1])
