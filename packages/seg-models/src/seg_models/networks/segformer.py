"""SegFormer: simple and efficient design for semantic segmentation with transformers.

Enze Xie, Wenhai Wang, Zhiding Yu, Anima Anandkumar, Jose M. Alvarez, Ping Luo, 2021. https://arxiv.org/abs/2105.15203
The authors' code: https://github.com/NVlabs/SegFormer

Differs from the paper:
- the backbone's norms, as in `seg_models.backbones.mit`
- the levels are concatenated from fine to coarse, as in mmsegmentation; from coarse to fine in the authors' code
- in variant "mmsegmentation" the levels are reduced to 256 channels for every size, with batch norm and ReLU
"""

from collections.abc import Callable, Mapping
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from seg_models.backbones.base import Backbone
from seg_models.builders.build import build_network
from seg_models.builders.signatures import Common, builder, on_backbone
from seg_models.layers import ConvNormAct, resize
from seg_models.networks.base import SegmentationNetwork, last_features, read_features

__all__ = [
    "SegFormer",
    "segformer",
    "segformer_b0",
    "segformer_b1",
    "segformer_b2",
    "segformer_b3",
    "segformer_b4",
    "segformer_b5",
]

LEVELS = 4
# of the decoder, in the authors' code
WIDTHS = {"b0": 256, "b1": 256, "mit_b0": 256, "mit_b1": 256}
WIDTH = 768
PRESETS = {"mmsegmentation": {"width": 256, "level_norm": True}}


class SegFormer(SegmentationNetwork):
    """A backbone, and a decoder of linear layers on its levels (figure 2).

    Args:
        backbone: gives ordered features from fine to coarse; the last four are used.
        num_classes: of the logits.
        width: channels that every level is reduced to.
        level_norm: whether batch norm and ReLU follow that reduction.
    """

    def __init__(self, backbone: Backbone, num_classes: int, width: int, *, level_norm: bool = False) -> None:
        super().__init__()
        levels = last_features(backbone, LEVELS)
        self.features = read_features(backbone, *levels)
        self.backbone = backbone
        self.reductions = nn.ModuleList(
            ConvNormAct(info.channels, width, 1) if level_norm else nn.Conv2d(info.channels, width, 1)
            for info in levels
        )
        self.fusion = ConvNormAct(LEVELS * width, width, 1)
        self.classifier = nn.Sequential(nn.Dropout2d(0.1), nn.Conv2d(width, num_classes, 1))
        self.upsampling = {"out": ("bilinear", False)}

    def forward_logits(self, images: Tensor) -> dict[str, Tensor]:
        """Returns logits at the finest features' size.

        Args:
            images: float (N, C, H, W), normalized RGB where C is 3.

        Returns:
            `"out"`: float (N, K, h, w), 1/4 of H and W on MiT.
        """
        found = self.backbone(images)
        finest, *coarser = [
            reduction(found[name]) for name, reduction in zip(self.features, self.reductions, strict=True)
        ]
        levels = [finest, *(resize(level, finest) for level in coarser)]
        return {"out": self.classifier(self.fusion(torch.cat(levels, dim=1)))}


def _make(make_backbone: Callable[..., Backbone], **options: Any) -> SegFormer:
    """Joins backbone and decoder."""
    return SegFormer(make_backbone(), **options)


@builder
def segformer(
    backbone: str,
    *,
    width: int | None = None,
    level_norm: bool | None = None,
    backbone_options: Mapping[str, Any] | None = None,
    **common: Unpack[Common],
) -> SegFormer:
    """SegFormer on the named backbone.

    Args:
        backbone: name of the backbone, see `list_backbones`, or `timm:` and a name of timm.
        width: channels that every level is reduced to; None is 256 for MiT-B0 and -B1, else 768.
        level_norm: whether batch norm and ReLU follow that reduction; None is False.
        backbone_options: more options of the backbone's builder, as `{"stochastic_depth": 0.0}` for MiT.
    """
    return build_network(
        "segformer",
        _make,
        backbone=backbone,
        backbone_options=backbone_options,
        options={"width": width, "level_norm": level_norm},
        defaults={"width": WIDTHS.get(backbone, WIDTH), "level_norm": False},
        presets=PRESETS,
        **common,
    )


segformer_b0 = on_backbone(segformer, "b0")
segformer_b1 = on_backbone(segformer, "b1")
segformer_b2 = on_backbone(segformer, "b2")
segformer_b3 = on_backbone(segformer, "b3")
segformer_b4 = on_backbone(segformer, "b4")
segformer_b5 = on_backbone(segformer, "b5")
