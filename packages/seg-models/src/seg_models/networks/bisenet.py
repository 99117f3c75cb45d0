"""BiSeNet: bilateral segmentation network for real-time semantic segmentation.

Changqian Yu, Jingbo Wang, Chao Peng, Changxin Gao, Gang Yu, Nong Sang, 2018. https://arxiv.org/abs/1808.00897
The authors' code: https://github.com/yu-changqian/TorchSeg

The paper's table 4 has 49.0 M parameters and 10.8 G operations for a 640x360 picture on ResNet-18. The first cannot be
a count (the authors' code has 12.9 M, https://github.com/yu-changqian/TorchSeg/issues/30 reads it as megabytes); the
second is near the 11.6 G multiply-accumulates of that code.

Differs from the paper:
- the spatial path ends with a 1x1 convolution to 128 channels, as in the authors' code; the figure has three layers
- `bisenet_xception` is on Chollet's Xception; the paper's Xception39 is a smaller one of its own. On ResNet-50 the
  context path is as wide as on ResNet-18.
- upsampling does not align corners; the authors' code does
- the auxiliary heads have 256 channels, the head 64, as in the authors' code on ResNet-18
- with a batch of one in train mode the branches pooled to one pixel normalise with their running statistics
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from seg_models.backbones.base import Backbone
from seg_models.building import build_network
from seg_models.layers import ConvNormAct, PooledBatchNorm2d, resize
from seg_models.networks.base import SegmentationNetwork, read_features
from seg_models.signatures import Common, builder, on_backbone

__all__ = ["BiSeNet", "bisenet", "bisenet_resnet18", "bisenet_resnet50", "bisenet_xception"]

WIDTH = 128
HEAD_WIDTH = 64
AUX_WIDTH = 256


class SpatialPath(nn.Sequential):
    """Three convolutions of stride 2, that keep detail: (N, C, H, W) to (N, 128, H/8, W/8)."""

    def __init__(self, in_channels: int) -> None:
        super().__init__(
            ConvNormAct(in_channels, 64, 7, stride=2),
            ConvNormAct(64, 64, 3, stride=2),
            ConvNormAct(64, 64, 3, stride=2),
            ConvNormAct(64, WIDTH, 1),
        )


class AttentionRefinement(nn.Module):
    """Features weighed by channel with what their mean says (figure 2b): (N, C, h, w) to (N, 128, h, w)."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.conv = ConvNormAct(in_channels, WIDTH, 3)
        self.attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), ConvNormAct(WIDTH, WIDTH, 1, act=None, norm=PooledBatchNorm2d), nn.Sigmoid()
        )

    def forward(self, features: Tensor) -> Tensor:
        """Maps (N, C, h, w) to (N, 128, h, w)."""
        x = self.conv(features)
        weighed: Tensor = x * self.attention(x)
        return weighed


class ContextPath(nn.Module):
    """A backbone, its mean over the picture, and two attention refinement modules (figure 2a)."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        *_, before, coarsest = backbone.feature_info
        self.before, self.coarsest = read_features(backbone, before, coarsest)
        self.backbone = backbone
        self.global_context = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), ConvNormAct(coarsest.channels, WIDTH, 1, norm=PooledBatchNorm2d)
        )
        self.refine32 = AttentionRefinement(coarsest.channels)
        self.refine16 = AttentionRefinement(before.channels)
        self.conv32 = ConvNormAct(WIDTH, WIDTH, 3)
        self.conv16 = ConvNormAct(WIDTH, WIDTH, 3)

    def forward(self, images: Tensor, spatial: Tensor) -> tuple[Tensor, Tensor]:
        """Returns context at 1/8 (the size of `spatial`) and at 1/16, both (N, 128, h, w)."""
        features = self.backbone(images)
        before, coarsest = features[self.before], features[self.coarsest]
        context = self.refine32(coarsest) + self.global_context(coarsest)  # (N, 128, H/32, W/32)
        middle = self.conv32(resize(context, before))  # (N, 128, H/16, W/16)
        fine = self.conv16(resize(middle + self.refine16(before), spatial))  # (N, 128, H/8, W/8)
        return fine, middle


class FeatureFusion(nn.Module):
    """Joins both paths, and weighs the result by channel (figure 2c): two (N, 128, h, w) to (N, 256, h, w)."""

    def __init__(self) -> None:
        super().__init__()
        width = 2 * WIDTH
        self.conv = ConvNormAct(width, width, 1)
        self.attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(width, width, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, spatial: Tensor, context: Tensor) -> Tensor:
        """Maps two (N, 128, h, w) to (N, 256, h, w)."""
        x = self.conv(torch.cat([spatial, context], dim=1))
        fused: Tensor = x + x * self.attention(x)
        return fused


class Head(nn.Sequential):
    """Class logits: (N, C, h, w) to (N, K, h, w)."""

    def __init__(self, in_channels: int, width: int, num_classes: int) -> None:
        super().__init__(ConvNormAct(in_channels, width, 3), nn.Conv2d(width, num_classes, 1))


class BiSeNet(SegmentationNetwork):
    """Spatial path, context path, fusion (figure 2a).

    Args:
        backbone: gives ordered features from fine to coarse; the last two, of strides 16 and 32, are used.
        num_classes: of the logits.
        in_channels: of the images.
        aux_loss: whether there are auxiliary heads on the context at 1/8, whose logits are `"aux"`, and at 1/16,
            `"aux_16x"`.
    """

    def __init__(self, backbone: Backbone, num_classes: int, in_channels: int = 3, aux_loss: bool = False) -> None:
        super().__init__()
        self.spatial_path = SpatialPath(in_channels)
        self.context_path = ContextPath(backbone)
        self.fusion = FeatureFusion()
        self.classifier = Head(2 * WIDTH, HEAD_WIDTH, num_classes)
        self.aux_classifier = Head(WIDTH, AUX_WIDTH, num_classes) if aux_loss else None
        self.aux_classifier_16x = Head(WIDTH, AUX_WIDTH, num_classes) if aux_loss else None
        names = ["out", "aux", "aux_16x"] if aux_loss else ["out"]
        self.upsampling = dict.fromkeys(names, ("bilinear", False))

    def forward_logits(self, images: Tensor) -> dict[str, Tensor]:
        """Returns logits at stride 8, those of `"aux_16x"` at 16.

        Args:
            images: float (N, C, H, W), normalised RGB where C is 3.

        Returns:
            `"out"` and, with auxiliary heads, `"aux"` and `"aux_16x"`: float (N, K, h, w).
        """
        spatial = self.spatial_path(images)
        context, middle = self.context_path(images, spatial)
        outputs = {"out": self.classifier(self.fusion(spatial, context))}
        if self.aux_classifier is not None and self.aux_classifier_16x is not None:
            outputs["aux"] = self.aux_classifier(context)
            outputs["aux_16x"] = self.aux_classifier_16x(middle)
        return outputs


def _make(make_backbone: Callable[..., Backbone], *, num_classes: int, in_channels: int, aux_loss: bool) -> BiSeNet:
    """Joins backbone and heads."""
    return BiSeNet(make_backbone(), num_classes, in_channels, aux_loss)


@builder
def bisenet(backbone: str, *, backbone_options: Mapping[str, Any] | None = None, **common: Unpack[Common]) -> BiSeNet:
    """BiSeNet on the named backbone.

    Args:
        backbone: name of the backbone, see `list_backbones`, or `timm:` and a name of timm.
        backbone_options: more options of the backbone's builder.
    """
    # the spatial path reads the images too
    make = functools.partial(_make, in_channels=common.get("in_channels", 3))
    return build_network("bisenet", make, backbone=backbone, backbone_options=backbone_options, **common)


bisenet_resnet18 = on_backbone(bisenet, "resnet18")
bisenet_resnet50 = on_backbone(bisenet, "resnet50")
bisenet_xception = on_backbone(bisenet, "xception")
