"""PIDNet: a real-time semantic segmentation network inspired by PID controllers.

Jiacong Xu, Zixiang Xiong, Shankar P. Bhattacharyya, 2022. https://arxiv.org/abs/2206.02066
The authors' code: https://github.com/XuJiacong/PIDNet

Parameters at 19 classes and multiply-accumulates for a 1024x2048 image: PIDNet-S has 7.63 M and 47.2 G (paper: 7.6 M,
47.6 G), L 36.9 M and 274.9 G (paper: 36.9 M, 275.8 G). M has 28.5 M and 177.3 G, as in the authors' code; the paper's
34.4 M and 197.4 G are not that network's. Four blocks instead of three at 1/16 and at 1/32, as L has, would give
34.4 M and 196.7 G, but the authors' code and its README have three.

mmsegmentation has this structure too; in training it adds dropout of 0.1 before the logits of `"out"`.

Differs from the paper:
- PIDNet-M is that of the authors' code, see above
- the auxiliary heads read features before their ReLU, as in mmsegmentation; in the authors' code a ReLU in place has
  changed them by then
- the convolutions of the stem have no bias, since batch norm follows each; in the authors' code two have one
- with a batch of one in train mode the norms of features of one pixel use their running statistics: after pooling, and
  in the bottlenecks at 1/64 of a small image
"""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seg_models.builders.build import build_network
from seg_models.builders.signatures import builder
from seg_models.layers import ConvNormAct, resize
from seg_models.networks.base import SegmentationNetwork
from seg_models.networks.ddrnet import (
    POOLS,
    Bottleneck,
    ContextPyramid,
    DeepAggregation,
    Head,
    NormActConv,
    Stem,
    basic_blocks,
)

__all__ = ["PIDNet", "pidnet_l", "pidnet_m", "pidnet_s"]


class ParallelAggregation(nn.Module):
    """Joins each scale of a `ContextPyramid` with the finest only, all at once: PAPPM instead of DAPPM."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = NormActConv(POOLS * width, POOLS * width, 3, groups=POOLS)

    def forward(self, finest: Tensor, pooled: Sequence[Tensor]) -> Tensor:
        """Maps the scales, each (N, width, h, w), to (N, 5 * width, h, w)."""
        joined = self.conv(torch.cat([scale + finest for scale in pooled], dim=1))
        return torch.cat([finest, joined], dim=1)


class PixelAttention(nn.Module):
    """Pag: mixes context into the detail at each pixel, the more the two resemble each other there.

    Args:
        channels: channels of both.
        width: channels in which they are compared.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.context = ConvNormAct(channels, width, 1, act=None)
        self.detail = ConvNormAct(channels, width, 1, act=None)

    def forward(self, detail: Tensor, context: Tensor) -> Tensor:
        """Maps detail (N, C, h, w) and context (N, C, any, any) to (N, C, h, w)."""
        alike = self.detail(detail) * resize(self.context(context), detail)
        weight = torch.sigmoid(alike.sum(1, keepdim=True))
        return weight * resize(context, detail) + (1 - weight) * detail


class BoundaryAttention(nn.Module):
    """Bag: detail at boundaries, context elsewhere; three (N, C, h, w) to one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = NormActConv(channels, channels, 3)

    def forward(self, detail: Tensor, context: Tensor, boundary: Tensor) -> Tensor:
        """Maps three (N, C, h, w) to one."""
        weight = torch.sigmoid(boundary)
        return self.conv(weight * detail + (1 - weight) * context)


class LightBoundaryAttention(nn.Module):
    """Light-Bag: the same with two 1x1 convolutions instead of the 3x3; three (N, C, h, w) to one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.detail = ConvNormAct(channels, channels, 1, act=None)
        self.context = ConvNormAct(channels, channels, 1, act=None)

    def forward(self, detail: Tensor, context: Tensor, boundary: Tensor) -> Tensor:
        """Maps three (N, C, h, w) to one."""
        weight = torch.sigmoid(boundary)
        return self.detail(detail + (1 - weight) * context) + self.context(context + weight * detail)


class PIDNet(SegmentationNetwork):
    """Three branches (figure 4): P for detail and D for boundaries, both at 1/8, and I for context, down to 1/64.

    Args:
        width: channels of the stem; the branches are multiples of it.
        large: whether it is deeper and has the modules of PIDNet-L, instead of the lighter ones of S and M.
        num_classes: channels of the logits.
        in_channels: channels of the images.
        aux_loss: whether to add auxiliary heads: on the P branch after its first fusion with context, whose logits are
            `"aux"`, and on the D branch after its second, whose logits are `"boundary"`.
    """

    def __init__(self, width: int, large: bool, num_classes: int, in_channels: int = 3, aux_loss: bool = False) -> None:
        super().__init__()
        blocks, context_blocks, pyramid_width, head_width = (3, 4, 112, 256) if large else (2, 3, 96, 128)
        detail = 2 * width
        self.stem = Stem(in_channels, width, blocks)
        self.context16 = basic_blocks(detail, 4 * width, context_blocks, stride=2)
        self.context32 = basic_blocks(4 * width, 8 * width, context_blocks, stride=2)
        self.context64 = nn.Sequential(Bottleneck(8 * width, 8 * width, stride=2), Bottleneck(16 * width, 8 * width))
        self.detail = nn.ModuleList(
            [
                basic_blocks(detail, detail, blocks, act=False),
                basic_blocks(detail, detail, blocks, act=False),
                Bottleneck(detail, detail),
            ]
        )
        self.compression = nn.ModuleList(ConvNormAct(n * width, detail, 1, act=None) for n in (4, 8))
        self.attention = nn.ModuleList(PixelAttention(detail, width) for _ in range(2))
        first = detail if large else width
        self.boundary = nn.ModuleList(
            [
                basic_blocks(detail, first, 1, act=False),
                basic_blocks(first, detail, 1, act=False) if large else Bottleneck(first, width),
                Bottleneck(detail, detail),
            ]
        )
        self.difference = nn.ModuleList(
            [ConvNormAct(4 * width, first, 3, act=None), ConvNormAct(8 * width, detail, 3, act=None)]
        )
        aggregation = DeepAggregation(pyramid_width) if large else ParallelAggregation(pyramid_width)
        self.pyramid = ContextPyramid(16 * width, pyramid_width, 4 * width, aggregation)
        self.fusion = BoundaryAttention(4 * width) if large else LightBoundaryAttention(4 * width)
        self.classifier = Head(4 * width, head_width, num_classes)
        self.aux_classifier = Head(detail, head_width, num_classes) if aux_loss else None
        self.aux_boundary = Head(detail, width, 1) if aux_loss else None
        names = ["out", "aux", "boundary"] if aux_loss else ["out"]
        self.upsampling = dict.fromkeys(names, ("bilinear", True))

    def forward_logits(self, images: Tensor) -> dict[str, Tensor]:
        """Returns `"out"` and, with auxiliary heads, `"aux"` and the one channel of `"boundary"`, at stride 8."""
        x = self.stem(images)  # (N, 2 width, H/8, W/8)
        context = self.context16(x)  # (N, 4 width, H/16, W/16)
        first = self.attention[0](self.detail[0](x), self.compression[0](context))  # (N, 2 width, H/8, W/8)
        boundary = self.boundary[0](x)
        boundary = boundary + resize(self.difference[0](context), boundary)
        context = self.context32(context)  # (N, 8 width, H/32, W/32)
        detail = self.attention[1](self.detail[1](F.relu(first)), self.compression[1](context))
        boundary = self.boundary[1](F.relu(boundary))
        second = boundary + resize(self.difference[1](context), boundary)  # (N, 2 width, H/8, W/8)
        detail = self.detail[2](F.relu(detail))  # (N, 4 width, H/8, W/8)
        boundary = self.boundary[2](F.relu(second))  # (N, 4 width, H/8, W/8)
        context = self.pyramid(self.context64(context))  # (N, 4 width, H/64, W/64)
        outputs = {"out": self.classifier(self.fusion(detail, resize(context, detail), boundary))}
        if self.aux_classifier is not None and self.aux_boundary is not None:
            outputs["aux"] = self.aux_classifier(first)
            outputs["boundary"] = self.aux_boundary(second)
        return outputs


@builder()
def pidnet_s(**arguments: Any) -> PIDNet:
    """Builds PIDNet-S, the smallest; it has no backbone."""
    return build_network("pidnet_s", functools.partial(PIDNet, 32, False), arguments)


@builder()
def pidnet_m(**arguments: Any) -> PIDNet:
    """Builds PIDNet-M, twice as wide as S; it has no backbone."""
    return build_network("pidnet_m", functools.partial(PIDNet, 64, False), arguments)


@builder()
def pidnet_l(**arguments: Any) -> PIDNet:
    """Builds PIDNet-L, as wide as M, deeper and with larger modules; it has no backbone."""
    return build_network("pidnet_l", functools.partial(PIDNet, 64, True), arguments)
