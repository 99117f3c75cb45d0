"""SegFormer: simple and efficient design for semantic segmentation with transformers.

Enze Xie, Wenhai Wang, Zhiding Yu, Anima Anandkumar, Jose M. Alvarez, Ping Luo, 2021. https://arxiv.org/abs/2105.15203
The authors' code: https://github.com/NVlabs/SegFormer

Differs from the paper:
- the backbone's norms, as in `seg_models.backbones.mit`
- the levels are concatenated from fine to coarse, as in mmsegmentation; from coarse to fine in the authors' code
- in variant "mmsegmentation" the levels are reduced to 256 channels for every size, with batch norm and ReLU
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from seg_models.backbones.base import Backbone
from seg_models.builders.backbone import BackboneRecipe
from seg_models.builders.build import build_network
from seg_models.builders.options import BackboneOptions, Variants
from seg_models.builders.signatures import builder, on_backbone
from seg_models.layers import ConvNormAct, resize
from seg_models.networks.base import SegmentationNetwork, last_features, select_features

__all__ = [
    "VARIANTS",
    "SegFormer",
    "SegFormerOptions",
    "segformer",
    "segformer_b0",
    "segformer_b1",
    "segformer_b2",
    "segformer_b3",
    "segformer_b4",
    "segformer_b5",
]

LEVELS = 4


@dataclass(frozen=True)
class SegFormerOptions(BackboneOptions):
    """The options of SegFormer.

    Attributes:
        width: channels that every level is reduced to. On MiT-B0 and -B1 the default is 256, as in the authors' code.
        level_norm: whether batch norm and ReLU follow that reduction.
    """

    width: int = 768
    level_norm: bool = False


_SMALL = SegFormerOptions(width=256)
VARIANTS: Variants = {
    "paper": {"b0": _SMALL, "b1": _SMALL, "mit_b0": _SMALL, "mit_b1": _SMALL, "*": SegFormerOptions()},
    "mmsegmentation": SegFormerOptions(width=256, level_norm=True),
}


class SegFormer(SegmentationNetwork):
    """A backbone, and a decoder of linear layers on its levels (figure 2).

    Args:
        backbone: returns features from fine to coarse; the last four are used.
        num_classes: channels of the logits.
        options: options of the network.
    """

    def __init__(self, backbone: Backbone, num_classes: int, options: SegFormerOptions) -> None:
        super().__init__()
        width = options.width
        levels = last_features(backbone, LEVELS)
        self.levels = select_features(backbone, *levels)
        self.backbone = backbone
        self.reductions = nn.ModuleList(
            ConvNormAct(info.channels, width, 1) if options.level_norm else nn.Conv2d(info.channels, width, 1)
            for info in levels
        )
        self.fusion = ConvNormAct(LEVELS * width, width, 1)
        self.classifier = nn.Sequential(nn.Dropout2d(0.1), nn.Conv2d(width, num_classes, 1))
        self.upsampling = {"out": ("bilinear", False)}

    def forward_logits(self, images: Tensor) -> dict[str, Tensor]:
        """Returns `"out"` at the stride of the finest features, 4 on MiT."""
        features = self.backbone(images)
        reduced = [reduce(features[level]) for level, reduce in zip(self.levels, self.reductions, strict=True)]
        finest = reduced[0]
        levels = [finest, *(resize(level, finest) for level in reduced[1:])]
        return {"out": self.classifier(self.fusion(torch.cat(levels, dim=1)))}


def _build(recipe: BackboneRecipe, options: SegFormerOptions, num_classes: int) -> SegFormer:
    """Joins backbone and decoder."""
    return SegFormer(recipe.build(), num_classes, options)


@builder(VARIANTS)
def segformer(backbone: str, **arguments: Any) -> SegFormer:
    """Builds SegFormer on the named backbone."""
    return build_network("segformer", _build, arguments, VARIANTS, backbone=backbone)


segformer_b0 = on_backbone(segformer, "b0")
segformer_b1 = on_backbone(segformer, "b1")
segformer_b2 = on_backbone(segformer, "b2")
segformer_b3 = on_backbone(segformer, "b3")
segformer_b4 = on_backbone(segformer, "b4")
segformer_b5 = on_backbone(segformer, "b5")
