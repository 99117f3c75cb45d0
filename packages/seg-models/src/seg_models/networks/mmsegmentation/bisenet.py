"""BiSeNet as in mmsegmentation 1.2.2, there BiSeNetV1. https://github.com/open-mmlab/mmsegmentation

Its checkpoints `bisenetv1_r18-d32...` and `bisenetv1_r50-d32...` need this network; all have auxiliary heads.

Differs from the paper's variant:
- the context is upsampled by nearest neighbor
- the weights of the fusion come from one 1x1 convolution with batch norm and ReLU, so that none is below 0.5
- every width follows the backbone: the context has as many channels as the backbone at 1/8, which is 128 on ResNet-18
  and 512 on ResNet-50; half of that in the spatial path, twice that in fusion and head, half in the auxiliary heads
- dropout of 0.1 before all logits

With a batch of one in train mode the branches pooled to one pixel normalize with their running statistics; the source
fails there.
"""

import torch
from torch import Tensor, nn

from seg_models.builders.backbone import BackboneRecipe
from seg_models.layers import ConvNormAct, FCNHead, PooledBatchNorm2d
from seg_models.networks.base import feature_of_stride
from seg_models.networks.bisenet import BiSeNet, ContextPath, SpatialPath

__all__ = ["build"]


class FeatureFusion(nn.Module):
    """Joins both paths and weights the result by channel: two (N, C, h, w) to (N, 2 * C, h, w)."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        width = 2 * in_channels
        self.conv = ConvNormAct(width, width, 1)
        self.attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), ConvNormAct(width, width, 1, norm=PooledBatchNorm2d), nn.Sigmoid()
        )

    def forward(self, spatial: Tensor, context: Tensor) -> Tensor:
        """Maps two (N, C, h, w) to (N, 2 * C, h, w)."""
        x = self.conv(torch.cat([spatial, context], dim=1))
        return x + x * self.attention(x)


def build(recipe: BackboneRecipe, num_classes: int, aux_loss: bool) -> BiSeNet:
    """Builds variant "mmsegmentation"."""
    backbone = recipe.build()
    width = feature_of_stride(backbone, 8).channels
    return BiSeNet(
        SpatialPath(recipe.in_channels, width),
        ContextPath(backbone, width, "nearest"),
        FeatureFusion(width),
        FCNHead(2 * width, num_classes, 2 * width),
        FCNHead(width, num_classes, width // 2) if aux_loss else None,
        FCNHead(width, num_classes, width // 2) if aux_loss else None,
    )
