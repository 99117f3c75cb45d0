"""PSPNet: pyramid scene parsing network.

Hengshuang Zhao, Jianping Shi, Xiaojuan Qi, Xiaogang Wang, Jiaya Jia, 2016. https://arxiv.org/abs/1612.01105
The authors' code: https://github.com/hszhao/PSPNet

Differs from the paper:
- the stem of the ResNets is torchvision's 7x7 convolution, for its ImageNet weights; the authors' has three 3x3 of 64,
  64 and 128 channels. `backbone_options={"stem": "deep"}` is mmsegmentation's stem of that kind, of 32, 32 and 64.
- upsampling does not align corners unless `align_corners=True`; the authors' code does
- the head is a quarter as wide as the coarsest features: 512 channels on ResNet-50 and -101 as in the authors' code,
  128 on ResNet-18, which the paper does not have
- with a batch of one in train mode the branch pooled to one pixel normalizes with its running statistics

Variant "mmsegmentation" has the deep stem, "mmsegmentation_plain" (on ResNet-18) the plain one; with "_769" after
either every resize aligns corners. https://github.com/open-mmlab/mmsegmentation
Variants "pixseg", "pixseg_20250222" and "pixseg_20250304" have other heads: `seg_models.networks.pixseg.pspnet`.
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
from seg_models.layers import ConvNormAct, FCNHead, PyramidPooling
from seg_models.networks.base import SegmentationNetwork, last_features, select_features
from seg_models.networks.mmsegmentation.variants import on_resnet

__all__ = ["VARIANTS", "PSPNet", "PSPNetOptions", "pspnet", "pspnet_resnet18", "pspnet_resnet50", "pspnet_resnet101"]


@dataclass(frozen=True)
class PSPNetOptions(BackboneOptions):
    """The options of PSPNet.

    Attributes:
        output_stride: pixels per feature of the backbone's last stages: 8, 16 or 32.
        align_corners: whether every resize keeps the corners' centers in place.
    """

    output_stride: int = 8
    align_corners: bool = False


VARIANTS: Variants = {
    "paper": PSPNetOptions(),
    **on_resnet(PSPNetOptions()),
    "pixseg": OtherNetwork("seg_models.networks.pixseg.pspnet:build"),
    "pixseg_20250222": OtherNetwork("seg_models.networks.pixseg.pspnet:build_undilated"),
    "pixseg_20250304": OtherNetwork("seg_models.networks.pixseg.pspnet:build_dilated"),
}


class PSPNet(SegmentationNetwork):
    """A dilated backbone with pyramid pooling on its coarsest features (figure 3).

    Args:
        backbone: returns features from fine to coarse.
        num_classes: channels of the logits.
        aux_loss: whether to add an auxiliary head on the features before the coarsest, whose logits are `"aux"`.
        align_corners: whether every resize aligns corners.
    """

    def __init__(
        self, backbone: Backbone, num_classes: int, aux_loss: bool = False, *, align_corners: bool = False
    ) -> None:
        super().__init__()
        before, coarsest = last_features(backbone, 2)
        width = coarsest.channels // 4
        select_features(backbone, *([before, coarsest] if aux_loss else [coarsest]))
        self.before, self.coarsest = before.name, coarsest.name
        self.backbone = backbone
        self.pyramid = PyramidPooling(coarsest.channels, width, align_corners=align_corners)
        self.bottleneck = ConvNormAct(coarsest.channels + len(self.pyramid) * width, width, 3)
        self.classifier = nn.Sequential(nn.Dropout2d(0.1), nn.Conv2d(width, num_classes, 1))
        self.aux_classifier = FCNHead(before.channels, num_classes) if aux_loss else None
        self.upsampling = dict.fromkeys(["out", "aux"] if aux_loss else ["out"], ("bilinear", align_corners))

    def forward_logits(self, images: Tensor) -> dict[str, Tensor]:
        """Returns `"out"` and, with an auxiliary head, `"aux"`, at 1/8 of H and W for output stride 8."""
        features = self.backbone(images)
        coarsest = features[self.coarsest]
        pooled = torch.cat([coarsest, *self.pyramid(coarsest)], dim=1)
        outputs = {"out": self.classifier(self.bottleneck(pooled))}
        if self.aux_classifier is not None:
            outputs["aux"] = self.aux_classifier(features[self.before])
        return outputs


def _build(recipe: BackboneRecipe, options: PSPNetOptions, num_classes: int, aux_loss: bool) -> PSPNet:
    """Joins backbone and head."""
    backbone = recipe.build(output_stride=options.output_stride)
    return PSPNet(backbone, num_classes, aux_loss, align_corners=options.align_corners)


@builder(VARIANTS)
def pspnet(backbone: str, **arguments: Any) -> PSPNet:
    """Builds PSPNet on the named backbone."""
    return build_network("pspnet", _build, arguments, VARIANTS, backbone=backbone)


pspnet_resnet18 = on_backbone(pspnet, "resnet18")
pspnet_resnet50 = on_backbone(pspnet, "resnet50")
pspnet_resnet101 = on_backbone(pspnet, "resnet101")
