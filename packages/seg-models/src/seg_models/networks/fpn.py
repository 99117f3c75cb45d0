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
- bilinear resizes do not align corners unless `align_corners=True`; there they do
"""

import itertools
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn

from seg_models.backbones.base import Backbone
from seg_models.builders.backbone import BackboneRecipe
from seg_models.builders.build import build_network
from seg_models.builders.options import BackboneOptions, Variants
from seg_models.builders.signatures import builder, on_backbone
from seg_models.layers import resize
from seg_models.networks.base import SegmentationNetwork, last_features, select_features

__all__ = ["FPN", "VARIANTS", "FPNOptions", "fpn", "fpn_efficientnet_b0", "fpn_resnet34"]

LEVELS = 4
PYRAMID_WIDTH = 256
WIDTH = 128
GROUPS = 32


@dataclass(frozen=True)
class FPNOptions(BackboneOptions):
    """The options of FPN.

    Attributes:
        align_corners: whether bilinear resizes keep the corners' centers in place, as in segmentation-models-pytorch.
    """

    align_corners: bool = False


VARIANTS: Variants = {"paper": FPNOptions()}


class ConvGroupNormReLU(nn.Sequential):
    """3x3 convolution without bias, group norm, ReLU: (N, in_channels, h, w) to (N, 128, h, w)."""

    def __init__(self, in_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, WIDTH, 3, padding=1, bias=False), nn.GroupNorm(GROUPS, WIDTH), nn.ReLU(inplace=True)
        )


class FPN(SegmentationNetwork):
    """A feature pyramid whose levels are resized to the finest one's size step by step, and summed.

    Args:
        backbone: returns features from fine to coarse; the last four are used.
        num_classes: channels of the logits.
        align_corners: whether every bilinear resize aligns corners.
    """

    def __init__(self, backbone: Backbone, num_classes: int, *, align_corners: bool = False) -> None:
        super().__init__()
        levels = last_features(backbone, LEVELS)
        self.levels = select_features(backbone, *levels)
        self.align_corners = align_corners
        self.backbone = backbone
        # from coarse to fine, the order in which they run
        self.laterals = nn.ModuleList(nn.Conv2d(info.channels, PYRAMID_WIDTH, 1) for info in reversed(levels))
        # a convolution before each doubling; the finest level, which is not doubled, has one too
        self.branches = nn.ModuleList(
            nn.ModuleList(ConvGroupNormReLU(WIDTH if step else PYRAMID_WIDTH) for step in range(max(doublings, 1)))
            for doublings in reversed(range(LEVELS))
        )
        self.classifier = nn.Sequential(nn.Dropout2d(0.2), nn.Conv2d(WIDTH, num_classes, 1))
        self.upsampling = {"out": ("bilinear", align_corners)}

    def forward_logits(self, images: Tensor) -> dict[str, Tensor]:
        """Returns `"out"` at the stride of the finest features, 4 on most backbones."""
        features = self.backbone(images)
        finer = [features.pop(level) for level in self.levels]  # popped, so that no level stays in memory
        merged: Tensor | None = None
        summed: Tensor | None = None
        for lateral, branch in zip(self.laterals, self.branches, strict=True):
            level = lateral(finer.pop())
            merged = level if merged is None else level + resize(merged, level, "nearest")
            x = merged
            # the finer levels have the sizes that this one is resized to
            for convolution, target in itertools.zip_longest(cast(nn.ModuleList, branch), reversed(finer)):
                x = convolution(x)
                if target is not None:
                    x = resize(x, target, align_corners=self.align_corners)
            summed = x if summed is None else summed + x
        return {"out": self.classifier(summed)}


def _build(recipe: BackboneRecipe, options: FPNOptions, num_classes: int) -> FPN:
    """Joins backbone and head."""
    return FPN(recipe.build(), num_classes, align_corners=options.align_corners)


@builder(VARIANTS)
def fpn(backbone: str, **arguments: Any) -> FPN:
    """Builds FPN on the named backbone."""
    return build_network("fpn", _build, arguments, VARIANTS, backbone=backbone)


fpn_resnet34 = on_backbone(fpn, "resnet34")
fpn_efficientnet_b0 = on_backbone(fpn, "efficientnet_b0")
