"""U-Net: convolutional networks for biomedical image segmentation.

Olaf Ronneberger, Philipp Fischer, Thomas Brox, 2015. https://arxiv.org/abs/1505.04597
The decoder is that of segmentation-models-pytorch, in which the network is mostly used:
https://github.com/qubvel-org/segmentation_models.pytorch
On ResNet-34, and on its `tu-efficientnet_b0`, parameters and multiply-accumulates are equal to those there. Its own
`efficientnet-b0` reads the stem's 32 channels at 1/2, and keeps 412,160 parameters that it never uses.

Differs from the paper:
- the encoder is any backbone; the decoder ends with 16 channels at the image's size and has twice as many at each
  coarser level
- features are upsampled by nearest neighbor; the paper has transposed 2x2 convolutions
- convolutions are padded, and have batch norm
- the logits' convolution is 3x3; the paper's is 1x1
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seg_models.backbones.base import Backbone
from seg_models.builders.backbone import BackboneRecipe
from seg_models.builders.build import build_network
from seg_models.builders.options import BackboneOptions, Variants
from seg_models.builders.signatures import builder, on_backbone
from seg_models.layers import ConvNormAct, resize
from seg_models.networks.base import SegmentationNetwork, select_features

__all__ = ["VARIANTS", "UNet", "unet", "unet_efficientnet_b0", "unet_resnet34"]

WIDTH = 16  # at the image's size
VARIANTS: Variants = {"paper": BackboneOptions()}


class DecoderBlock(nn.Sequential):
    """Two 3x3 convolutions: (N, in_channels, h, w) to (N, out_channels, h, w)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(ConvNormAct(in_channels, out_channels, 3), ConvNormAct(out_channels, out_channels, 3))


class UNet(SegmentationNetwork):
    """A backbone, and a decoder that goes back up through all of its features (figure 1).

    Args:
        backbone: returns features from fine to coarse; all are used.
        num_classes: channels of the logits.
    """

    def __init__(self, backbone: Backbone, num_classes: int) -> None:
        super().__init__()
        levels = backbone.feature_info
        finest, coarsest = levels[0], levels[-1]
        self.levels = select_features(backbone, *levels)
        self.backbone = backbone
        # from the finest features to the image's size there are no features to join
        self.strides = [2**power for power in reversed(range(finest.stride.bit_length() - 1))]
        skips = [info.channels for info in reversed(levels[:-1])] + [0] * len(self.strides)
        widths = [WIDTH * 2**power for power in reversed(range(len(skips)))]
        inputs = [coarsest.channels, *widths[:-1]]
        self.blocks = nn.ModuleList(
            DecoderBlock(before + skip, width) for before, skip, width in zip(inputs, skips, widths, strict=True)
        )
        self.classifier = nn.Conv2d(WIDTH, num_classes, 3, padding=1)
        self.upsampling = {"out": None}

    def forward_logits(self, images: Tensor) -> dict[str, Tensor]:
        """Returns `"out"` at the images' size."""
        features = self.backbone(images)
        skips = [features.pop(level) for level in self.levels]  # popped, so that no level stays in memory
        x = skips.pop()
        joining, rest = self.blocks[: len(skips)], self.blocks[len(skips) :]
        for block in joining:
            skip = skips.pop()
            x = block(torch.cat([resize(x, skip, "nearest"), skip], dim=1))
            del skip
        for block, stride in zip(rest, self.strides, strict=True):
            size = [-(-side // stride) for side in images.shape[-2:]]
            x = block(F.interpolate(x, size=size, mode="nearest"))
        return {"out": self.classifier(x)}


def _build(recipe: BackboneRecipe, num_classes: int) -> UNet:
    """Joins backbone and decoder."""
    return UNet(recipe.build(), num_classes)


@builder(VARIANTS)
def unet(backbone: str, **arguments: Any) -> UNet:
    """Builds U-Net on the named backbone."""
    return build_network("unet", _build, arguments, VARIANTS, backbone=backbone)


unet_resnet34 = on_backbone(unet, "resnet34")
unet_efficientnet_b0 = on_backbone(unet, "efficientnet_b0")
