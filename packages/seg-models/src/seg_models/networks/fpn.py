"""FPN: feature pyramid networks, with the semantic head of panoptic feature pyramid networks.

Tsung-Yi Lin, Piotr Dollar, Ross Girshick, Kaiming He, Bharath Hariharan, Serge Belongie, 2016.
https://arxiv.org/abs/1612.03144
Alexander Kirillov, Ross Girshick, Kaiming He, Piotr Dollar, 2019. https://arxiv.org/abs/1901.02446
Sizes are those of segmentation-models-pytorch, in which the network is mostly used:
https://github.com/qubvel-org/segmentation_models.pytorch
On ResNet-34, and on its `tu-efficientnet_b0`, parameters and multiply-accumulates are equal to those there. Its own
`efficientnet-b0` has 412,160 parameters more, which it never uses.

Differs from the paper:
- no 3x3 convolution on the merged levels, as in segmentation-models-pytorch
- dropout of 0.2 before the logits, as there
- bilinear resizes do not align corners unless `align_corners` says so; there they do
"""

import itertools
from collections.abc import Callable, Mapping
from typing import Any, Unpack, cast

from torch import Tensor, nn

from seg_models.backbones.base import Backbone
from seg_models.builders.build import build_network
from seg_models.builders.signatures import Common, builder, on_backbone
from seg_models.layers import resize
from seg_models.networks.base import SegmentationNetwork, last_features, read_features

__all__ = ["FPN", "fpn", "fpn_efficientnet_b0", "fpn_resnet34"]

LEVELS = 4
PYRAMID_WIDTH = 256
WIDTH = 128
GROUPS = 32


class ConvGroupNormReLU(nn.Sequential):
    """3x3 convolution without bias, group norm, ReLU: (N, in_channels, h, w) to (N, 128, h, w)."""

    def __init__(self, in_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, WIDTH, 3, padding=1, bias=False), nn.GroupNorm(GROUPS, WIDTH), nn.ReLU(inplace=True)
        )


class FPN(SegmentationNetwork):
    """A feature pyramid, whose levels are brought to the finest one's size step by step, and summed.

    Args:
        backbone: gives ordered features from fine to coarse; the last four are used.
        num_classes: of the logits.
        align_corners: of every resize that is bilinear.
    """

    def __init__(self, backbone: Backbone, num_classes: int, *, align_corners: bool = False) -> None:
        super().__init__()
        levels = last_features(backbone, LEVELS)
        self.features = read_features(backbone, *levels)
        self.align_corners = align_corners
        self.backbone = backbone
        # from coarse to fine, as they run
        self.laterals = nn.ModuleList(nn.Conv2d(info.channels, PYRAMID_WIDTH, 1) for info in reversed(levels))
        # a convolution before each doubling; the finest level, which is not doubled, has one too
        self.branches = nn.ModuleList(
            nn.ModuleList(ConvGroupNormReLU(WIDTH if step else PYRAMID_WIDTH) for step in range(max(doublings, 1)))
            for doublings in reversed(range(LEVELS))
        )
        self.classifier = nn.Sequential(nn.Dropout2d(0.2), nn.Conv2d(WIDTH, num_classes, 1))
        self.upsampling = {"out": ("bilinear", align_corners)}

    def forward_logits(self, images: Tensor) -> dict[str, Tensor]:
        """Returns logits at the finest features' size.

        Args:
            images: float (N, C, H, W), normalized RGB where C is 3.

        Returns:
            `"out"`: float (N, K, h, w), 1/4 of H and W on most backbones.
        """
        found = self.backbone(images)
        finer = [found.pop(name) for name in self.features]
        merged: Tensor | None = None
        summed: Tensor | None = None
        for lateral, branch in zip(self.laterals, self.branches, strict=True):
            level = lateral(finer.pop())
            merged = level if merged is None else level + resize(merged, level, "nearest")
            x = merged
            # what is finer than this level says the sizes that it is brought to
            for convolution, target in itertools.zip_longest(cast(nn.ModuleList, branch), reversed(finer)):
                x = convolution(x)
                if target is not None:
                    x = resize(x, target, align_corners=self.align_corners)
            summed = x if summed is None else summed + x
        return {"out": self.classifier(summed)}


def _make(make_backbone: Callable[..., Backbone], **options: Any) -> FPN:
    """Joins backbone and head."""
    return FPN(make_backbone(), **options)


@builder
def fpn(
    backbone: str,
    *,
    align_corners: bool | None = None,
    backbone_options: Mapping[str, Any] | None = None,
    **common: Unpack[Common],
) -> FPN:
    """FPN on the named backbone.

    Args:
        backbone: name of the backbone, see `list_backbones`, or `timm:` and a name of timm.
        align_corners: whether bilinear resizes keep the corners' centers in place, as in segmentation-models-pytorch;
            None is False.
        backbone_options: more options of the backbone's builder.
    """
    return build_network(
        "fpn",
        _make,
        backbone=backbone,
        backbone_options=backbone_options,
        options={"align_corners": align_corners},
        defaults={"align_corners": False},
        **common,
    )


fpn_resnet34 = on_backbone(fpn, "resnet34")
fpn_efficientnet_b0 = on_backbone(fpn, "efficientnet_b0")
