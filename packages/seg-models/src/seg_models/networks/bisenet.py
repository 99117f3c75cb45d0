"""BiSeNet: bilateral segmentation network for real-time semantic segmentation.

Changqian Yu, Jingbo Wang, Chao Peng, Changxin Gao, Gang Yu, Nong Sang, 2018. https://arxiv.org/abs/1808.00897
The authors' code: https://github.com/yu-changqian/TorchSeg

The paper's table 4 has 49.0 M parameters and 10.8 G operations for a 640x360 image on ResNet-18. The first cannot be
a count (the authors' code has 12.9 M, https://github.com/yu-changqian/TorchSeg/issues/30 reads it as megabytes); the
second is near the 11.6 G multiply-accumulates of that code.

Differs from the paper:
- the spatial path ends with a 1x1 convolution to 128 channels, as in the authors' code; the figure has three layers
- `bisenet_xception` is on Chollet's Xception; the paper's Xception39 is a smaller one. On ResNet-50 the context path
  is as wide as on ResNet-18.
- upsampling does not align corners; the authors' code does
- the auxiliary heads have 256 channels, the head 64, as in the authors' code on ResNet-18
- with a batch of one in train mode the branches pooled to one pixel normalize with their running statistics

Variants "pixseg" and "pixseg_20250304" have another fusion and other heads: `seg_models.networks.pixseg.bisenet`.
Variant "mmsegmentation" also has other widths on ResNet-50: `seg_models.networks.mmsegmentation.bisenet`.
"""

from typing import Any

import torch
from torch import Tensor, nn

from seg_models.backbones.base import Backbone
from seg_models.builders.backbone import BackboneRecipe
from seg_models.builders.build import build_network
from seg_models.builders.options import BackboneOptions, OtherNetwork, Variants
from seg_models.builders.signatures import builder, on_backbone
from seg_models.layers import ConvNormAct, PooledBatchNorm2d, resize
from seg_models.networks.base import SegmentationNetwork, last_features, select_features

__all__ = ["VARIANTS", "BiSeNet", "bisenet", "bisenet_resnet18", "bisenet_resnet50", "bisenet_xception"]

WIDTH = 128
HEAD_WIDTH = 64
AUX_WIDTH = 256

_PIXSEG = "seg_models.networks.pixseg.bisenet:build"
VARIANTS: Variants = {
    "paper": BackboneOptions(),
    "mmsegmentation": OtherNetwork("seg_models.networks.mmsegmentation.bisenet:build"),
    "pixseg": {"resnet50": OtherNetwork(_PIXSEG, {"output_stride": 8}), "*": OtherNetwork(_PIXSEG)},
    "pixseg_20250304": OtherNetwork("seg_models.networks.pixseg.bisenet:build_20250304"),
}


class SpatialPath(nn.Sequential):
    """Three convolutions of stride 2 that keep detail: (N, C, H, W) to (N, width, H/8, W/8)."""

    def __init__(self, in_channels: int, width: int = WIDTH) -> None:
        half = width // 2
        super().__init__(
            ConvNormAct(in_channels, half, 7, stride=2),
            ConvNormAct(half, half, 3, stride=2),
            ConvNormAct(half, half, 3, stride=2),
            ConvNormAct(half, width, 1),
        )


class AttentionRefinement(nn.Module):
    """Features weighted by channel, from their mean (figure 2b): (N, C, h, w) to (N, width, h, w)."""

    def __init__(self, in_channels: int, width: int = WIDTH) -> None:
        super().__init__()
        self.conv = ConvNormAct(in_channels, width, 3)
        self.attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), ConvNormAct(width, width, 1, act=None, norm=PooledBatchNorm2d), nn.Sigmoid()
        )

    def forward(self, features: Tensor) -> Tensor:
        """Maps (N, C, h, w) to (N, width, h, w)."""
        x = self.conv(features)
        return x * self.attention(x)


class ContextPath(nn.Module):
    """A backbone, its mean over the image, and two attention refinement modules (figure 2a).

    Args:
        backbone: returns features from fine to coarse; the last two are used.
        width: channels of the context.
        mode: mode of the upsampling, as in `resize`.
    """

    def __init__(self, backbone: Backbone, width: int = WIDTH, mode: str = "bilinear") -> None:
        super().__init__()
        self.mode = mode
        before, coarsest = last_features(backbone, 2)
        self.before, self.coarsest = select_features(backbone, before, coarsest)
        self.backbone = backbone
        self.global_context = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), ConvNormAct(coarsest.channels, width, 1, norm=PooledBatchNorm2d)
        )
        self.refine32 = AttentionRefinement(coarsest.channels, width)
        self.refine16 = AttentionRefinement(before.channels, width)
        self.conv32 = ConvNormAct(width, width, 3)
        self.conv16 = ConvNormAct(width, width, 3)

    def forward(self, images: Tensor, spatial: Tensor) -> tuple[Tensor, Tensor]:
        """Returns context at 1/8 (the size of `spatial`) and at 1/16, both (N, width, h, w)."""
        features = self.backbone(images)
        before, coarsest = features[self.before], features[self.coarsest]
        context = self.refine32(coarsest) + self.global_context(coarsest)  # (N, width, H/32, W/32)
        middle = self.conv32(resize(context, before, self.mode))  # (N, width, H/16, W/16)
        fine = self.conv16(resize(middle + self.refine16(before), spatial, self.mode))  # (N, width, H/8, W/8)
        return fine, middle


class FeatureFusion(nn.Module):
    """Joins both paths and weights the result by channel (figure 2c): two (N, 128, h, w) to (N, 256, h, w).

    Args:
        hidden: channels between the two convolutions that compute the weights.
        bias: whether these convolutions have a bias.
    """

    def __init__(self, hidden: int = 2 * WIDTH, *, bias: bool = False) -> None:
        super().__init__()
        width = 2 * WIDTH
        self.conv = ConvNormAct(width, width, 1)
        self.attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(width, hidden, 1, bias=bias),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, width, 1, bias=bias),
            nn.Sigmoid(),
        )

    def forward(self, spatial: Tensor, context: Tensor) -> Tensor:
        """Maps two (N, 128, h, w) to (N, 256, h, w)."""
        x = self.conv(torch.cat([spatial, context], dim=1))
        return x + x * self.attention(x)


class Head(nn.Sequential):
    """Class logits: (N, C, h, w) to (N, K, h, w)."""

    def __init__(self, in_channels: int, width: int, num_classes: int) -> None:
        super().__init__(ConvNormAct(in_channels, width, 3), nn.Conv2d(width, num_classes, 1))


class BiSeNet(SegmentationNetwork):
    """Spatial path, context path, fusion (figure 2a).

    Args:
        spatial_path: maps images to detail.
        context_path: maps images to context.
        fusion: joins the results of the two paths.
        classifier: maps the fused features to logits.
        aux_classifier: maps the context at 1/8 to the logits `"aux"`, or None.
        aux_classifier_16x: maps the context at 1/16 to the logits `"aux_16x"`; None if the other is.
    """

    def __init__(
        self,
        spatial_path: SpatialPath,
        context_path: ContextPath,
        fusion: nn.Module,
        classifier: nn.Module,
        aux_classifier: nn.Module | None = None,
        aux_classifier_16x: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.spatial_path = spatial_path
        self.context_path = context_path
        self.fusion = fusion
        self.classifier = classifier
        self.aux_classifier = aux_classifier
        self.aux_classifier_16x = aux_classifier_16x
        names = ["out"] if aux_classifier is None else ["out", "aux", "aux_16x"]
        self.upsampling = dict.fromkeys(names, ("bilinear", False))

    def forward_logits(self, images: Tensor) -> dict[str, Tensor]:
        """Returns `"out"` and, with auxiliary heads, `"aux"`, at stride 8, and `"aux_16x"` at stride 16."""
        spatial = self.spatial_path(images)
        context, middle = self.context_path(images, spatial)
        outputs = {"out": self.classifier(self.fusion(spatial, context))}
        if self.aux_classifier is not None and self.aux_classifier_16x is not None:
            outputs["aux"] = self.aux_classifier(context)
            outputs["aux_16x"] = self.aux_classifier_16x(middle)
        return outputs


def _build(recipe: BackboneRecipe, num_classes: int, aux_loss: bool) -> BiSeNet:
    """Joins backbone and heads."""
    backbone = recipe.build()
    return BiSeNet(
        SpatialPath(recipe.in_channels),
        ContextPath(backbone),
        FeatureFusion(),
        Head(2 * WIDTH, HEAD_WIDTH, num_classes),
        Head(WIDTH, AUX_WIDTH, num_classes) if aux_loss else None,
        Head(WIDTH, AUX_WIDTH, num_classes) if aux_loss else None,
    )


@builder(VARIANTS)
def bisenet(backbone: str, **arguments: Any) -> SegmentationNetwork:
    """Builds BiSeNet on the named backbone."""
    return build_network("bisenet", _build, arguments, VARIANTS, backbone=backbone)


bisenet_resnet18 = on_backbone(bisenet, "resnet18")
bisenet_resnet50 = on_backbone(bisenet, "resnet50")
bisenet_xception = on_backbone(bisenet, "xception")
