"""UPerNet: unified perceptual parsing for scene understanding.

Tete Xiao, Yingcheng Liu, Bolei Zhou, Yuning Jiang, Jian Sun, 2018. https://arxiv.org/abs/1807.10221
The authors' code: https://github.com/CSAILVision/semantic-segmentation-pytorch

Differs from the paper:
- only the semantic segmentation part: no heads for scenes, parts, materials and textures
- the stem of the ResNets is torchvision's 7x7 convolution, for its ImageNet weights; the authors' has three 3x3 of 64,
  64 and 128 channels: 123,776 parameters, and 7.1 G multiply-accumulates at 512x512, more.
  `backbone_options={"stem": "deep"}` is mmsegmentation's stem of that kind, of 32, 32 and 64.
- pooled features are reduced before they are resized, as in PSPNet and mmsegmentation; the authors' code reduces them
  after, which costs 1.0 G more at 512x512
- dropout of 0.1 before the logits, and auxiliary logits of 256 channels from the features before the coarsest, as in
  mmsegmentation
- with a batch of one in train mode the branch pooled to one pixel normalizes with its running statistics

Variant "mmsegmentation" has the deep stem; in "mmsegmentation_769" every resize also aligns corners.
https://github.com/open-mmlab/mmsegmentation
Variant "pixseg" is another network: `seg_models.networks.pixseg.upernet`.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from seg_models.backbones.base import Backbone
from seg_models.builders.backbone import BackboneRecipe
from seg_models.builders.build import build_network
from seg_models.builders.options import BackboneOptions, OtherNetwork, Variants
from seg_models.builders.signatures import builder, on_backbone
from seg_models.layers import ConvNormAct, FCNHead, PyramidPooling, resize
from seg_models.networks.base import SegmentationNetwork, last_features, select_features
from seg_models.networks.mmsegmentation.variants import on_resnet

__all__ = [
    "VARIANTS",
    "UPerNet",
    "UPerNetOptions",
    "upernet",
    "upernet_resnet18",
    "upernet_resnet50",
    "upernet_resnet101",
]

WIDTH = 512
AUX_WIDTH = 256
LEVELS = 4


@dataclass(frozen=True)
class UPerNetOptions(BackboneOptions):
    """The options of UPerNet.

    Attributes:
        output_stride: pixels per feature of the backbone's last stages: 8, 16 or 32.
        align_corners: whether every resize keeps the corners' centers in place.
    """

    output_stride: int = 32
    align_corners: bool = False


VARIANTS: Variants = {
    "paper": UPerNetOptions(),
    **on_resnet(UPerNetOptions()),
    "pixseg": OtherNetwork("seg_models.networks.pixseg.upernet:build"),
}


class UPerNet(SegmentationNetwork):
    """A feature pyramid with pyramid pooling at its top (figure 4).

    Args:
        backbone: returns features from fine to coarse; the last four are used.
        num_classes: channels of the logits.
        aux_loss: whether to add an auxiliary head on the features before the coarsest, whose logits are `"aux"`.
        align_corners: whether every resize aligns corners.
    """

    def __init__(
        self, backbone: Backbone, num_classes: int, aux_loss: bool = False, *, align_corners: bool = False
    ) -> None:
        super().__init__()
        levels = last_features(backbone, LEVELS)
        *finer, top = [info.channels for info in levels]
        self.levels = select_features(backbone, *levels)
        self.align_corners = align_corners
        self.backbone = backbone
        self.pyramid = PyramidPooling(top, WIDTH, align_corners=align_corners)
        self.bottleneck = ConvNormAct(top + len(self.pyramid) * WIDTH, WIDTH, 3)
        self.laterals = nn.ModuleList(ConvNormAct(channels, WIDTH, 1) for channels in finer)
        self.fpn_convs = nn.ModuleList(ConvNormAct(WIDTH, WIDTH, 3) for _ in finer)
        self.fusion = ConvNormAct(LEVELS * WIDTH, WIDTH, 3)
        self.classifier = nn.Sequential(nn.Dropout2d(0.1), nn.Conv2d(WIDTH, num_classes, 1))
        self.aux_classifier = FCNHead(finer[-1], num_classes, AUX_WIDTH) if aux_loss else None
        self.upsampling = dict.fromkeys(["out", "aux"] if aux_loss else ["out"], ("bilinear", align_corners))

    def forward_logits(self, images: Tensor) -> dict[str, Tensor]:
        """Returns `"out"`, on ResNets at 1/4 of H and W, and, with an auxiliary head, `"aux"` at 1/16."""
        features = self.backbone(images)
        *finer, top = [features[level] for level in self.levels]
        outputs = {"out": self.classifier(self.fusion(self._join_levels(finer, top)))}
        if self.aux_classifier is not None:
            outputs["aux"] = self.aux_classifier(finer[-1])
        return outputs

    def _join_levels(self, finer: list[Tensor], top: Tensor) -> Tensor:
        """Returns the four levels of the pyramid concatenated: (N, 4 * 512, h, w) at the finest features' size.

        A separate function, so that no level stays in memory while the fusion runs.
        """
        summed = [self.bottleneck(torch.cat([top, *self.pyramid(top)], dim=1))]
        for lateral, features in zip(reversed(self.laterals), reversed(finer), strict=True):
            level = lateral(features)
            summed.insert(0, level + resize(summed[0], level, align_corners=self.align_corners))
        levels = [convolution(level) for convolution, level in zip(self.fpn_convs, summed[:-1], strict=True)]
        levels.append(summed[-1])
        levels[1:] = [resize(level, levels[0], align_corners=self.align_corners) for level in levels[1:]]
        return torch.cat(levels, dim=1)


def _build(recipe: BackboneRecipe, options: UPerNetOptions, num_classes: int, aux_loss: bool) -> UPerNet:
    """Joins backbone and head."""
    backbone = recipe.build(output_stride=options.output_stride)
    return UPerNet(backbone, num_classes, aux_loss, align_corners=options.align_corners)


@builder(VARIANTS)
def upernet(backbone: str, **arguments: Any) -> SegmentationNetwork:
    """Builds UPerNet on the named backbone."""
    return build_network("upernet", _build, arguments, VARIANTS, backbone=backbone)


upernet_resnet18 = on_backbone(upernet, "resnet18")
upernet_resnet50 = on_backbone(upernet, "resnet50")
upernet_resnet101 = on_backbone(upernet, "resnet101")
