"""DDRNet: deep dual-resolution networks for real-time and accurate semantic segmentation of road scenes.

Yuanduo Hong, Huihui Pan, Weichao Sun, Yisong Jia, 2021. https://arxiv.org/abs/2101.06085
The authors' code: https://github.com/ydhongHIT/DDRNet

DDRNet-23-slim has 5.70 M parameters at 19 classes, and for a 1024x2048 image 36.3 G multiply-accumulates (paper:
5.7 M, 36.3 G). The structure is the authors', and mmsegmentation's.

Differs from the paper:
- any image size: context is resized to the size of the spatial features; the authors' code fails if a side is not a
  multiple of 8
- the convolutions of the stem have no bias, since batch norm follows each; in the authors' code two have one
- with a batch of one in train mode the norms of features of one pixel use their running statistics: after pooling, and
  in the bottlenecks at 1/64 of a small image
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seg_models.builders.build import build_network
from seg_models.builders.signatures import builder
from seg_models.layers import ConvNormAct, PooledBatchNorm2d, relu, resize
from seg_models.networks.base import SegmentationNetwork

__all__ = [
    "Bottleneck",
    "ContextPyramid",
    "DDRNet",
    "DeepAggregation",
    "Head",
    "NormActConv",
    "Stem",
    "basic_blocks",
    "ddrnet23_slim",
]

WIDTH = 32
PYRAMID_WIDTH = 128
HEAD_WIDTH = 64
WINDOWS = ((5, 2), (9, 4), (17, 8))  # size and stride; a pool of the whole map is the last
POOLS = len(WINDOWS) + 1


class NormActConv(nn.Module):
    """Batch norm, ReLU, convolution without bias: (N, in_channels, h, w) to (N, out_channels, h, w)."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, groups: int = 1) -> None:
        super().__init__()
        padding = kernel_size // 2
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, groups=groups, bias=False)
        self.norm = PooledBatchNorm2d(in_channels)
        self.act = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """Maps (N, in_channels, h, w) to (N, out_channels, h, w)."""
        return self.conv(self.act(self.norm(features)))


class BasicBlock(nn.Module):
    """ResNet's block of two 3x3 convolutions.

    Args:
        in_channels: channels of the features.
        out_channels: channels of the result.
        stride: 1 or 2.
        act: whether it ends in ReLU.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, act: bool = True) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            ConvNormAct(in_channels, out_channels, 3, stride=stride),
            ConvNormAct(out_channels, out_channels, 3, act=None),
        )
        same = stride == 1 and in_channels == out_channels
        self.shortcut = nn.Identity() if same else ConvNormAct(in_channels, out_channels, 1, stride=stride, act=None)
        self.act = nn.ReLU(inplace=True) if act else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """Maps (N, in_channels, h, w) to (N, out_channels, h/stride, w/stride), sizes rounded up."""
        return self.act(self.residual(features) + self.shortcut(features))


class Bottleneck(nn.Module):
    """ResNet's block of 1x1, 3x3 and 1x1 convolutions, twice as wide at its end and without ReLU there.

    Args:
        in_channels: channels of the features.
        width: channels of the 3x3 convolution.
        stride: 1 or 2.
    """

    def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        norm, out_channels = PooledBatchNorm2d, 2 * width
        self.residual = nn.Sequential(
            ConvNormAct(in_channels, width, 1, norm=norm),
            ConvNormAct(width, width, 3, stride=stride, norm=norm),
            ConvNormAct(width, out_channels, 1, act=None, norm=norm),
        )
        self.shortcut = (
            nn.Identity()
            if stride == 1 and in_channels == out_channels
            else ConvNormAct(in_channels, out_channels, 1, stride=stride, act=None, norm=norm)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Maps (N, in_channels, h, w) to (N, 2 * width, h/stride, w/stride), sizes rounded up."""
        return self.residual(features) + self.shortcut(features)


def basic_blocks(in_channels: int, channels: int, count: int, stride: int = 1, act: bool = True) -> nn.Sequential:
    """Returns basic blocks in a row: (N, in_channels, h, w) to (N, channels, h/stride, w/stride), sizes rounded up.

    Args:
        in_channels: channels of the features.
        channels: channels of the result.
        count: number of blocks.
        stride: stride of the first block.
        act: whether the last block ends in ReLU.
    """
    blocks = nn.Sequential()
    for number in range(1, count + 1):
        blocks.append(BasicBlock(in_channels, channels, stride, act or number < count))
        in_channels, stride = channels, 1
    return blocks


class Stem(nn.Sequential):
    """The layers before the branches: (N, in_channels, H, W) to (N, 2 * width, H/8, W/8), sizes rounded up."""

    def __init__(self, in_channels: int, width: int, blocks: int) -> None:
        super().__init__(
            ConvNormAct(in_channels, width, 3, stride=2),
            ConvNormAct(width, width, 3, stride=2),
            basic_blocks(width, width, blocks),
            basic_blocks(width, 2 * width, blocks, stride=2),
        )


class DeepAggregation(nn.ModuleList):
    """Joins the scales of a `ContextPyramid` one after the other, each with the result of the finer ones."""

    def __init__(self, width: int) -> None:
        super().__init__(NormActConv(width, width, 3) for _ in range(POOLS))

    def forward(self, finest: Tensor, pooled: Sequence[Tensor]) -> Tensor:
        """Maps the scales, each (N, width, h, w), to (N, 5 * width, h, w)."""
        results = [finest]
        for convolution, scale in zip(self, pooled, strict=True):
            results.append(convolution(scale + results[-1]))
        return torch.cat(results, dim=1)


class ContextPyramid(nn.Module):
    """Features at several scales, pooled in ever larger windows; with `DeepAggregation` the paper's DAPPM.

    Args:
        in_channels: channels of the features.
        width: channels of each scale.
        out_channels: channels of the result.
        aggregation: maps the finest scale and a list of the others, each (N, width, h, w), to (N, 5 * width, h, w).
    """

    def __init__(self, in_channels: int, width: int, out_channels: int, aggregation: nn.Module) -> None:
        super().__init__()
        self.scales = nn.ModuleList(NormActConv(in_channels, width, 1) for _ in range(1 + POOLS))  # from the finest
        self.aggregation = aggregation
        self.compression = NormActConv((1 + POOLS) * width, out_channels, 1)
        self.shortcut = NormActConv(in_channels, out_channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Maps (N, in_channels, h, w) to (N, out_channels, h, w)."""
        finest, *scales, whole = self.scales
        pooled = [_at_scale(scale, features, *window) for scale, window in zip(scales, WINDOWS, strict=True)]
        pooled.append(resize(whole(F.adaptive_avg_pool2d(features, 1)), features))
        joined = self.aggregation(finest(features), pooled)
        return self.compression(joined) + self.shortcut(features)


def _at_scale(scale: nn.Module, features: Tensor, size: int, stride: int) -> Tensor:
    """Returns `scale`, which works on each position alone, applied to pooled windows, at the features' size."""
    if not torch.compiler.is_compiling():
        return resize(scale(F.avg_pool2d(features, size, stride, size // 2)), features)
    # A single window along a side would tie an exported program to sizes with a single window. So there is one more,
    # which the matrices ignore.
    pooled = scale(F.avg_pool2d(F.pad(features, (0, stride, 0, stride)), size, stride, size // 2))
    rows, columns = (_resize_matrix((side - 1) // stride + 1, side, features) for side in features.shape[2:])
    resized = F.linear(F.linear(pooled, columns).transpose(2, 3), rows).transpose(2, 3)
    return resized.contiguous()  # a sum with features of another layout would tie the sizes too


def _resize_matrix(before: int, after: int, like: Tensor) -> Tensor:
    """Returns (after, before + 1): the bilinear resize of `before` positions, which ignores the one after them."""
    position = ((torch.arange(after, device=like.device) + 0.5) * before / after - 0.5).clamp(0, before - 1)
    distance = position.unsqueeze(1) - torch.arange(before + 1, device=like.device)
    return (1 - distance.abs()).clamp(min=0).to(like.dtype)


class BilateralFusion(nn.Module):
    """Gives each of two branches the other's features.

    Args:
        channels: channels of the spatial features.
        halvings: by how many powers of two the context is smaller; it is wider by as many.
    """

    def __init__(self, channels: int, halvings: int) -> None:
        super().__init__()
        self.compression = ConvNormAct(channels * 2**halvings, channels, 1, act=None)
        self.down = nn.Sequential()
        for step in range(halvings):
            width = channels * 2**step
            # no ReLU at the end: a sum follows
            self.down.append(ConvNormAct(width, 2 * width, 3, stride=2, act=None if step == halvings - 1 else relu))
        self.act = nn.ReLU()

    def forward(self, context: Tensor, spatial: Tensor) -> tuple[Tensor, Tensor]:
        """Maps context and spatial features, before their ReLU, to the same shapes."""
        up = resize(self.compression(self.act(context)), spatial)
        return context + self.down(self.act(spatial)), spatial + up


class Head(nn.Sequential):
    """Class logits: (N, in_channels, h, w) to (N, K, h, w)."""

    def __init__(self, in_channels: int, width: int, num_classes: int) -> None:
        super().__init__(
            NormActConv(in_channels, width, 3),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, num_classes, 1),
        )


class DDRNet(SegmentationNetwork):
    """DDRNet-23-slim: two branches, of spatial detail at 1/8 and of context down to 1/64.

    Args:
        num_classes: channels of the logits.
        in_channels: channels of the images.
        aux_loss: whether to add an auxiliary head, whose logits are `"aux"`, on the spatial branch after its first
            fusion with context.
    """

    def __init__(self, num_classes: int, in_channels: int = 3, aux_loss: bool = False) -> None:
        super().__init__()
        width = 2 * WIDTH  # of the spatial branch
        self.stem = Stem(in_channels, WIDTH, blocks=2)
        self.context16 = basic_blocks(width, 2 * width, 2, stride=2, act=False)
        self.context32 = basic_blocks(2 * width, 4 * width, 2, stride=2, act=False)
        self.context64 = Bottleneck(4 * width, 4 * width, stride=2)
        self.fusion16 = BilateralFusion(width, halvings=1)
        self.fusion32 = BilateralFusion(width, halvings=2)
        self.spatial = nn.ModuleList(
            [
                basic_blocks(width, width, 2, act=False),
                basic_blocks(width, width, 2, act=False),
                Bottleneck(width, width),
            ]
        )
        self.pyramid = ContextPyramid(8 * width, PYRAMID_WIDTH, 2 * width, DeepAggregation(PYRAMID_WIDTH))
        self.classifier = Head(2 * width, HEAD_WIDTH, num_classes)
        self.aux_classifier = Head(width, HEAD_WIDTH, num_classes) if aux_loss else None
        self.upsampling = dict.fromkeys(["out", "aux"] if aux_loss else ["out"], ("bilinear", False))

    def forward_logits(self, images: Tensor) -> dict[str, Tensor]:
        """Returns `"out"` and, with an auxiliary head, `"aux"`, at stride 8, sizes rounded up."""
        x = self.stem(images)  # (N, 64, H/8, W/8)
        context, first = self.fusion16(self.context16(x), self.spatial[0](x))  # (N, 128, H/16, W/16), (N, 64, H/8, W/8)
        context, spatial = self.fusion32(self.context32(F.relu(context)), self.spatial[1](F.relu(first)))
        context = self.pyramid(self.context64(F.relu(context)))  # (N, 128, H/64, W/64)
        spatial = self.spatial[2](F.relu(spatial))  # (N, 128, H/8, W/8)
        outputs = {"out": self.classifier(spatial + resize(context, spatial))}
        if self.aux_classifier is not None:
            outputs["aux"] = self.aux_classifier(first)
        return outputs


@builder()
def ddrnet23_slim(**arguments: Any) -> DDRNet:
    """Builds DDRNet-23-slim; it has no backbone."""
    return build_network("ddrnet23_slim", DDRNet, arguments)
