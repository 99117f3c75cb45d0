"""FCN's head on ResNets as in mmsegmentation 1.2.2. https://github.com/open-mmlab/mmsegmentation"""

import torch
from torch import Tensor, nn

from seg_models.layers import ConvNormAct

__all__ = ["ConcatHead"]


class ConcatHead(nn.Module):
    """Class logits from two 3x3 convolutions, and a third on their result concatenated with the features.

    Args:
        in_channels: channels of the features.
        num_classes: channels of the logits.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        width = in_channels // 4
        self.convs = nn.Sequential(ConvNormAct(in_channels, width, 3), ConvNormAct(width, width, 3))
        self.fusion = ConvNormAct(in_channels + width, width, 3)
        self.logits = nn.Sequential(nn.Dropout2d(0.1), nn.Conv2d(width, num_classes, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Maps (N, C, h, w) to (N, K, h, w)."""
        return self.logits(self.fusion(torch.cat([features, self.convs(features)], dim=1)))
