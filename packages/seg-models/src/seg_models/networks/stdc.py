"""STDC: rethinking BiSeNet for real-time semantic segmentation.

Mingyuan Fan, Shenqi Lai, Junshi Huang, Xiaoming Wei, Zhenhua Chai, Junfeng Luo, Xiaolin Wei, 2021.
https://arxiv.org/abs/2104.13188
The authors' code: https://github.com/MichaelFan01/STDC-Seg

With their stage 6 for classification the backbones have 8.44 M and 12.47 M parameters. Variant "mmsegmentation" has two
channels of `"boundary"`, for no boundary and for boundary; its heads have dropout before the logits, and a bias in
them; the resize of `"aux"` and `"aux_16x"` does not align corners.

Differs from the paper:
- in a module of stride 2, a depthwise convolution halves the size between blocks 1 and 2, as in the authors' code; in
  the text, block 2 does
- the auxiliary heads on the context at 1/8 and 1/16 are those of the authors' code; the paper does not name them
- no stage 6, which only classification needs
- the detail head computes logits only; training derives their targets from masks
- with a batch of one in train mode the branches pooled to one pixel normalize with their running statistics
"""

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seg_core.errors import InvalidArgumentError
from seg_models.builders.build import build_network
from seg_models.builders.options import Options, Variants
from seg_models.builders.signatures import builder
from seg_models.layers import ConvNormAct, FCNHead, PooledBatchNorm2d, resize
from seg_models.networks.base import SegmentationNetwork
from seg_models.networks.bisenet import AttentionRefinement

__all__ = ["STDC", "VARIANTS", "STDCNet", "STDCOptions", "stdc1", "stdc2"]

WIDTH = 128  # of the context, as AttentionRefinement gives it
HEAD_WIDTH = 256
AUX_WIDTH = 64
STAGE_WIDTHS = (256, 512, 1024)  # at 1/8, 1/16 and 1/32


@dataclass(frozen=True)
class STDCOptions(Options):
    """The options of STDC.

    Attributes:
        boundary_channels: channels of `"boundary"`: 1, or 2 for logits of no boundary and of boundary.
        fcn_heads: whether the logits have a bias, and dropout before them.
        aux_align_corners: whether the resize of `"aux"` and `"aux_16x"` keeps the corners' centers in place.
    """

    boundary_channels: int = 1
    fcn_heads: bool = False
    aux_align_corners: bool = True


VARIANTS: Variants = {
    "paper": STDCOptions(),
    "mmsegmentation": STDCOptions(boundary_channels=2, fcn_heads=True, aux_align_corners=False),
}


class STDCModule(nn.Module):
    """Four convolutions in a row, each half as wide as the one before; their results concatenated (figures 3b and 3c).

    Args:
        in_channels: channels of the features.
        out_channels: channels of the result.
        stride: 1 or 2.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        half, quarter, eighth = (out_channels // part for part in (2, 4, 8))
        self.first = ConvNormAct(in_channels, half, 1)
        self.others = nn.ModuleList(
            [ConvNormAct(half, quarter, 3), ConvNormAct(quarter, eighth, 3), ConvNormAct(eighth, eighth, 3)]
        )
        self.downsample = ConvNormAct(half, half, 3, stride=2, groups=half, act=None) if stride == 2 else None

    def forward(self, features: Tensor) -> Tensor:
        """Maps (N, C, h, w) to (N, out_channels, h/stride, w/stride)."""
        first = last = self.first(features)
        if self.downsample is not None:
            first, last = F.avg_pool2d(first, 3, stride=2, padding=1), self.downsample(first)
        results = [first]
        for convolution in self.others:
            last = convolution(last)
            results.append(last)
        return torch.cat(results, dim=1)


class STDCNet(nn.Module):
    """The backbone, without the stage that only classification needs (table 2).

    Args:
        in_channels: channels of the images.
        modules: number of modules in each of the stages 3 to 5.
    """

    def __init__(self, in_channels: int, modules: tuple[int, int, int]) -> None:
        super().__init__()
        channels = 64
        self.stem = nn.Sequential(ConvNormAct(in_channels, 32, 3, stride=2), ConvNormAct(32, channels, 3, stride=2))
        self.stages = nn.ModuleList()
        for width, count in zip(STAGE_WIDTHS, modules, strict=True):
            others = (STDCModule(width, width, 1) for _ in range(count - 1))
            self.stages.append(nn.Sequential(STDCModule(channels, width, 2), *others))
            channels = width

    def forward(self, images: Tensor) -> list[Tensor]:
        """Returns features at 1/8, 1/16 and 1/32: float (N, 256, h, w), (N, 512, h, w) and (N, 1024, h, w)."""
        x = self.stem(images)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class ContextPath(nn.Module):
    """BiSeNet's: the mean over the image and two attention refinement modules (figure 4a)."""

    def __init__(self) -> None:
        super().__init__()
        _, before, coarsest = STAGE_WIDTHS
        self.refine32 = AttentionRefinement(coarsest)
        self.refine16 = AttentionRefinement(before)
        self.conv32 = ConvNormAct(WIDTH, WIDTH, 3)
        self.conv16 = ConvNormAct(WIDTH, WIDTH, 3)
        self.global_context = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), ConvNormAct(coarsest, WIDTH, 1, norm=PooledBatchNorm2d)
        )

    def forward(self, fine: Tensor, before: Tensor, coarsest: Tensor) -> tuple[Tensor, Tensor]:
        """Maps features at 1/8, 1/16, 1/32 to context at 1/8 and at 1/16, both (N, 128, h, w)."""
        context = self.refine32(coarsest) + self.global_context(coarsest)  # (N, 128, H/32, W/32)
        middle = self.conv32(resize(context, before, "nearest"))  # (N, 128, H/16, W/16)
        return self.conv16(resize(middle + self.refine16(before), fine, "nearest")), middle


class FeatureFusion(nn.Module):
    """BiSeNet's, for the features at 1/8 and the context, with a narrow middle in its attention."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = ConvNormAct(STAGE_WIDTHS[0] + WIDTH, HEAD_WIDTH, 1)
        self.attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(HEAD_WIDTH, HEAD_WIDTH // 4, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(HEAD_WIDTH // 4, HEAD_WIDTH, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, fine: Tensor, context: Tensor) -> Tensor:
        """Maps (N, 256, h, w) and (N, 128, h, w) to (N, 256, h, w)."""
        x = self.conv(torch.cat([fine, context], dim=1))
        return x + x * self.attention(x)


class Head(nn.Sequential):
    """The authors' head, whose logits have no bias: (N, C, h, w) to (N, K, h, w)."""

    def __init__(self, in_channels: int, num_classes: int, width: int) -> None:
        super().__init__(ConvNormAct(in_channels, width, 3), nn.Conv2d(width, num_classes, 1, bias=False))


class STDC(SegmentationNetwork):
    """The segmentation network (figure 4).

    Args:
        modules: number of modules in each of the backbone's stages 3 to 5.
        options: options of the network.
        num_classes: channels of the logits.
        in_channels: channels of the images.
        aux_loss: whether to add auxiliary heads: on the context at 1/8, whose logits are `"aux"`, and at 1/16,
            `"aux_16x"`; and the detail head on the features of stage 3, at 1/8, whose logits are `"boundary"`.

    Raises:
        InvalidArgumentError: if `boundary_channels` is neither 1 nor 2.
    """

    def __init__(
        self,
        modules: tuple[int, int, int],
        options: STDCOptions,
        num_classes: int,
        in_channels: int = 3,
        aux_loss: bool = False,
    ) -> None:
        super().__init__()
        if options.boundary_channels not in (1, 2):
            raise InvalidArgumentError(f"boundary_channels must be 1 or 2, got {options.boundary_channels!r}")
        head = FCNHead if options.fcn_heads else Head
        self.backbone = STDCNet(in_channels, modules)
        self.context_path = ContextPath()
        self.fusion = FeatureFusion()
        self.classifier = head(HEAD_WIDTH, num_classes, HEAD_WIDTH)
        self.aux_classifier = head(WIDTH, num_classes, AUX_WIDTH) if aux_loss else None
        self.aux_classifier_16x = head(WIDTH, num_classes, AUX_WIDTH) if aux_loss else None
        self.aux_boundary = head(STAGE_WIDTHS[0], options.boundary_channels, AUX_WIDTH) if aux_loss else None
        self.upsampling = {"out": ("bilinear", True)}
        if aux_loss:
            aux = ("bilinear", options.aux_align_corners)
            self.upsampling |= {"aux": aux, "aux_16x": aux, "boundary": ("bilinear", True)}

    def forward_logits(self, images: Tensor) -> dict[str, Tensor]:
        """Returns `"out"` and, with auxiliary heads, `"aux"` and `"boundary"`, at stride 8, and `"aux_16x"` at 16."""
        fine, before, coarsest = self.backbone(images)
        context, middle = self.context_path(fine, before, coarsest)
        outputs = {"out": self.classifier(self.fusion(fine, context))}
        if self.aux_classifier is not None and self.aux_classifier_16x is not None and self.aux_boundary is not None:
            outputs["aux"] = self.aux_classifier(context)
            outputs["aux_16x"] = self.aux_classifier_16x(middle)
            outputs["boundary"] = self.aux_boundary(fine)
        return outputs


@builder(VARIANTS)
def stdc1(**arguments: Any) -> STDC:
    """Builds STDC on the smaller of its own backbones."""
    return build_network("stdc1", functools.partial(STDC, (2, 2, 2)), arguments, VARIANTS)


@builder(VARIANTS)
def stdc2(**arguments: Any) -> STDC:
    """Builds STDC on the larger of its own backbones."""
    return build_network("stdc2", functools.partial(STDC, (4, 5, 3)), arguments, VARIANTS)
