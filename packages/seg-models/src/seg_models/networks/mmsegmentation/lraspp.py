"""LRASPP on MobileNetV3 as in mmsegmentation 1.2.2. https://github.com/open-mmlab/mmsegmentation

Its checkpoints `lraspp_m-v3-d8...` (large) and `lraspp_m-v3s-d8...` (small) need this network.

Differs from the paper's variant:
- convolutions of stride 2 pad as TensorFlow does: so much that the size is halved and rounded up, with an odd pixel of
  padding to the right and below. The blocks, their sizes and the epsilon of 1e-3 are torchvision's, and so is the
  momentum of their norms, 0.01; mmsegmentation's is 0.1.
- dilated to stride 8
- the head goes back to stride 2: the gated features are joined with 64 channels of the last features of stride 4, then
  with 32 of stride 2. All its norms have an epsilon of 1e-3 too.
- the gate averages windows of 49x49 features, 16 rows and 20 columns apart, as in the paper; rows and columns after
  the last whole window are ignored
- dropout of 0.1 before the logits

A side of fewer than 49 features (385 pixels), on which the source fails, is averaged as a whole: one window, as at 49.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seg_models.backbones.base import SequentialBackbone, replace_strides
from seg_models.builders.backbone import BackboneRecipe
from seg_models.layers import ConvNormAct, resize
from seg_models.networks.base import SegmentationNetwork

__all__ = ["LRASPP", "build"]

EPSILON = 1e-3
OUTPUT_STRIDE = 8
WIDTH = 128
FINE_WIDTHS = (32, 64)  # of the features of stride 2 and 4 in the head
WINDOW = 49
STEPS = (16, 20)  # rows and columns between windows


class SamePadding(nn.Conv2d):
    """A convolution of stride 2 and an odd kernel k that pads as TensorFlow does: (N, C, H, W) to (N, C', H/2, W/2).

    It adds (k - 1) / 2 before and after a side; before an even side, one less.
    """

    @classmethod
    def like(cls, convolution: nn.Conv2d) -> "SamePadding":
        """Returns an instance with the parameters of a convolution that pads symmetrically."""
        kernel = convolution.kernel_size[0]
        same = cls(
            convolution.in_channels,
            convolution.out_channels,
            kernel,
            stride=2,
            padding=kernel // 2 - 1,  # forward adds the rest
            groups=convolution.groups,
            bias=False,
        )
        same.weight = convolution.weight
        return same

    def forward(self, features: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, C', H/2, W/2), sizes rounded up."""
        height, width = features.shape[-2:]
        return super().forward(F.pad(features, (width % 2, 1, height % 2, 1)))


def pad_as_tensorflow(layers: nn.Module) -> None:
    """Replaces the convolutions of stride 2, in place; TensorFlow pads the others as torch does."""
    for module in list(layers.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Conv2d) and child.stride == (2, 2):
                setattr(module, name, SamePadding.like(child))


def segmentation_backbone(backbone: SequentialBackbone) -> SequentialBackbone:
    """Returns a dilated MobileNetV3 that pads as TensorFlow does.

    Its features are the last of stride 2, the last of stride 4, and the coarsest.
    """
    layers = list(backbone)
    strides = replace_strides(backbone, OUTPUT_STRIDE)  # changes nothing a second time
    last = {stride: position for position, stride in enumerate(strides)}
    pad_as_tensorflow(backbone)
    return SequentialBackbone(layers, [last[2], last[4], len(layers) - 1], OUTPUT_STRIDE)


def norm(channels: int) -> nn.BatchNorm2d:
    """Returns the batch norm of this network."""
    return nn.BatchNorm2d(channels, eps=EPSILON)


class WindowGate(nn.Module):
    """Weights of the channels, between 0 and 1, from means over windows of 49x49; a shorter side is one window."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(in_channels, WIDTH, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Maps (N, C, h, w) to (N, 128, h, w)."""
        height, width = features.shape[-2:]
        if not torch.compiler.is_compiling():
            means = F.avg_pool2d(features, (min(height, WINDOW), min(width, WINDOW)), STEPS)
            return resize(self.project(means).sigmoid(), features)
        # as in adaptive_average_pool: exporters support neither a window size nor a number of windows known only at run
        # time
        (rows, to_rows), (columns, to_columns) = (
            _window_matrices(side, step, features) for side, step in zip((height, width), STEPS, strict=True)
        )
        gates = self.project(rows @ features @ columns.T).sigmoid()
        return to_rows @ gates @ to_columns.T


def _window_matrices(side: int, step: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Returns (windows, side), the means of windows, and (side, windows), the bilinear resize back without surplus."""
    window: Any = torch.sym_min(side, WINDOW)  # an integer, or a symbol for one
    count = (side - window) // step + 1
    number = torch.arange(side // step + 2, device=like.device)  # at least as many, and never one
    position = torch.arange(side, device=like.device)
    start = number.unsqueeze(1) * step
    means = ((position >= start) & (position < start + window)).to(like.dtype) / window
    center = ((position + 0.5) * (count / side) - 0.5).clamp(0, count - 1).unsqueeze(1)
    weights = (1 - (center - number).abs()).clamp(min=0)
    return means, weights.to(like.dtype)


class LRASPPHead(nn.Module):
    """Coarse features, gated by window means, joined with finer ones step by step, and class logits.

    Args:
        in_channels: channels of the features from fine to coarse.
        num_classes: channels of the logits.
    """

    def __init__(self, in_channels: list[int], num_classes: int) -> None:
        super().__init__()
        *fine_channels, coarse_channels = in_channels
        self.reduce = ConvNormAct(coarse_channels, WIDTH, 1, norm=norm)
        self.gate = WindowGate(coarse_channels)
        self.coarse = nn.Conv2d(WIDTH, WIDTH, 1)
        self.fine = nn.ModuleList(
            nn.Conv2d(channels, width, 1, bias=False)
            for channels, width in zip(fine_channels, FINE_WIDTHS, strict=True)
        )
        self.fusions = nn.ModuleList(ConvNormAct(WIDTH + width, WIDTH, 1, norm=norm) for width in FINE_WIDTHS)
        self.logits = nn.Sequential(nn.Dropout2d(0.1), nn.Conv2d(WIDTH, num_classes, 1))

    def forward(self, features: list[Tensor]) -> Tensor:
        """Maps three (N, C, h, w), from fine to coarse, to (N, K, h, w) at the size of the finest."""
        *finer, coarsest = features
        x = self.coarse(self.reduce(coarsest) * self.gate(coarsest))
        for level, convolution, fusion in reversed(list(zip(finer, self.fine, self.fusions, strict=True))):
            x = fusion(torch.cat([resize(x, level), convolution(level)], dim=1))
        return self.logits(x)


class LRASPP(SegmentationNetwork):
    """A dilated MobileNetV3 with the head on three of its features.

    Args:
        backbone: returns three features from fine to coarse.
        num_classes: channels of the logits.
    """

    def __init__(self, backbone: SequentialBackbone, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = LRASPPHead([info.channels for info in backbone.feature_info], num_classes)
        self.upsampling = {"out": ("bilinear", False)}

    def forward_logits(self, images: Tensor) -> dict[str, Tensor]:
        """Returns `"out"` at stride 2."""
        return {"out": self.classifier(list(self.backbone(images).values()))}


def build(recipe: BackboneRecipe, num_classes: int) -> LRASPP:
    """Builds variant "mmsegmentation"."""
    backbone = cast(SequentialBackbone, recipe.build(output_stride=OUTPUT_STRIDE))
    return LRASPP(segmentation_backbone(backbone), num_classes)
