"""RegSeg: rethinking dilated convolution for real-time semantic segmentation.

Roland Gao, 2021. https://arxiv.org/abs/2111.09957
The authors' code: https://github.com/RolandGao/RegSeg

The network is the code's `exp48_decoder26`, which the paper calls RegSeg. At 19 classes it has 38.4 G
multiply-accumulates for a 1024x2048 image; fvcore, which the authors use, counts norms, resizes and poolings too.

Differs from the paper:
- in nothing that we know of; where the paper gives no detail, this is the authors' code
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seg_models.builders.build import build_network
from seg_models.builders.signatures import builder
from seg_models.layers import ConvNormAct, resize
from seg_models.networks.base import SegmentationNetwork

__all__ = ["RegSeg", "regseg"]

GROUP_WIDTH = 16
# dilations of the blocks at stride 16 after the first (table 2); the last block widens to 320
DILATIONS = ((1,), (1, 2), *[(1, 4)] * 4, *[(1, 14)] * 7)


class SqueezeExcitation(nn.Module):
    """Features weighted by channel, from their means: (N, C, h, w) to the same shape."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(squeezed, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Maps (N, C, h, w) to the same shape."""
        return features * self.attention(features)


class AveragePool(nn.AvgPool2d):
    """Means of 2x2 pixels, of those that exist at an odd edge: (N, C, h, w) to (N, C, h/2, w/2), rounded up."""

    def __init__(self) -> None:
        super().__init__(2, 2, ceil_mode=True)

    def forward(self, features: Tensor) -> Tensor:
        """Maps (N, C, h, w) to (N, C, h/2, w/2), sizes rounded up."""
        if torch.compiler.is_compiling():
            # rounding up ties an exported program to even or odd sizes; an edge that repeats has the same means
            return F.avg_pool2d(F.pad(features, (0, 1, 0, 1), mode="replicate"), 2)
        return super().forward(features)


class DilatedConv(nn.Module):
    """Grouped 3x3 convolutions of several dilations, each on its share of the channels (figure 2)."""

    def __init__(self, channels: int, dilations: Sequence[int], stride: int) -> None:
        super().__init__()
        width = channels // len(dilations)
        groups = width // GROUP_WIDTH
        self.convs = nn.ModuleList(
            nn.Conv2d(width, width, 3, stride, dilation, dilation, groups, bias=False) for dilation in dilations
        )

    def forward(self, features: Tensor) -> Tensor:
        """Maps (N, C, h, w) to (N, C, h / stride, w / stride)."""
        shares = features.chunk(len(self.convs), dim=1)
        return torch.cat([convolution(share) for convolution, share in zip(self.convs, shares, strict=True)], dim=1)


class DBlock(nn.Module):
    """The block of RegNetY with dilated convolutions in its middle (figure 2)."""

    def __init__(self, in_channels: int, out_channels: int, dilations: Sequence[int] = (1,), stride: int = 1) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            ConvNormAct(in_channels, out_channels, 1),
            DilatedConv(out_channels, dilations, stride),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            SqueezeExcitation(out_channels, in_channels // 4),
            ConvNormAct(out_channels, out_channels, 1, act=None),
        )
        self.shortcut = nn.Sequential()
        if stride == 2:
            self.shortcut.append(AveragePool())
        if stride == 2 or in_channels != out_channels:
            self.shortcut.append(ConvNormAct(in_channels, out_channels, 1, act=None))
        self.act = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """Maps (N, in_channels, h, w) to (N, out_channels, h / stride, w / stride), sizes rounded up."""
        return self.act(self.residual(features) + self.shortcut(features))


class Decoder(nn.Module):
    """The sum of the levels at 1/16 and 1/8, concatenated with those at 1/4 (figure 3), and class logits."""

    def __init__(self, channels4: int, channels8: int, channels16: int, num_classes: int) -> None:
        super().__init__()
        self.lateral16 = ConvNormAct(channels16, 128, 1)
        self.lateral8 = ConvNormAct(channels8, 128, 1)
        self.lateral4 = ConvNormAct(channels4, 8, 1)
        self.conv8 = ConvNormAct(128, 64, 3)
        self.conv4 = ConvNormAct(64 + 8, 64, 3)
        self.classifier = nn.Conv2d(64, num_classes, 1)

    def forward(self, x4: Tensor, x8: Tensor, x16: Tensor) -> Tensor:
        """Maps features at 1/4, 1/8, 1/16 to (N, K, H/4, W/4)."""
        fine = self.lateral8(x8)
        x = self.conv8(fine + resize(self.lateral16(x16), fine))
        x = self.conv4(torch.cat([resize(x, x4), self.lateral4(x4)], dim=1))
        return self.classifier(x)


class RegSeg(SegmentationNetwork):
    """The whole network (table 2).

    Args:
        num_classes: channels of the logits.
        in_channels: channels of the images.
    """

    def __init__(self, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        self.upsampling = {"out": ("bilinear", False)}
        self.stem = ConvNormAct(in_channels, 32, 3, stride=2)
        self.stage4 = DBlock(32, 48, stride=2)
        self.stage8 = nn.Sequential(DBlock(48, 128, stride=2), DBlock(128, 128), DBlock(128, 128))
        *dilations, last = DILATIONS
        self.stage16 = nn.Sequential(
            DBlock(128, 256, stride=2), *(DBlock(256, 256, each) for each in dilations), DBlock(256, 320, last)
        )
        self.decoder = Decoder(48, 128, 320, num_classes)

    def forward_logits(self, images: Tensor) -> dict[str, Tensor]:
        """Returns `"out"` at stride 4, sizes rounded up."""
        x4 = self.stage4(self.stem(images))  # (N, 48, H/4, W/4)
        x8 = self.stage8(x4)  # (N, 128, H/8, W/8)
        return {"out": self.decoder(x4, x8, self.stage16(x8))}


@builder()
def regseg(**arguments: Any) -> RegSeg:
    """Builds RegSeg; it has neither backbone nor auxiliary heads."""
    return build_network("regseg", RegSeg, arguments)
