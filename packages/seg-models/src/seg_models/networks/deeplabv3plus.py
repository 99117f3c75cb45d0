"""DeepLabV3+: encoder-decoder with atrous separable convolution for semantic image segmentation.

Liang-Chieh Chen, Yukun Zhu, George Papandreou, Florian Schroff, Hartwig Adam, 2018. https://arxiv.org/abs/1802.02611
The authors' code: https://github.com/tensorflow/models/tree/master/research/deeplab

The separable variant on Xception has 41.1 M parameters and 54.0 G multiply-accumulates for a 513x513 image at output
stride 16 (paper, table 5: 54.17 B).

Differs from the paper:
- `deeplabv3plus_xception` is on `xception65`, the aligned Xception of this paper
- as in the paper, the convolutions of the head are not separable on ResNets; on other backbones they are
- dropout of 0.1 before the decoder, as in the authors' code
- upsampling does not align corners unless `align_corners=True`; the authors' code does
- the stem of the ResNets is torchvision's 7x7 convolution, for its ImageNet weights. The authors' stem of 64, 64 and
  128 channels is 7.1 G of the 8.5 G multiply-accumulates that ResNet-101 has less here for a 513x513 image (paper,
  table 3: 101.28 B); the rest is not explained.
- with a batch of one in train mode the image pooling normalizes with its running statistics
- auxiliary logits from the features before the coarsest, which the paper does not have

Variant "mmsegmentation" (on ResNets, https://github.com/open-mmlab/mmsegmentation) has the deep stem, output stride 8
without multi-grid, and a separable head a quarter as wide as the coarsest features, whose branches, the image pooling
first, are joined by a plain 3x3 convolution; the fine features are reduced to 3/16 of their channels: 48, on ResNet-18
12. Variant "mmsegmentation_769" also aligns the corners of every resize. Dropout is as in the paper's variant;
mmsegmentation's comes after the decoder and takes whole channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from seg_models.backbones.base import Backbone
from seg_models.builders.backbone import BackboneRecipe
from seg_models.builders.build import build_network
from seg_models.builders.options import BackboneOptions, Variants
from seg_models.builders.signatures import builder, on_backbone
from seg_models.layers import ConvNormAct, FCNHead, SeparableConv, resize
from seg_models.networks.base import SegmentationNetwork, feature_of_stride, last_features, select_features
from seg_models.networks.deeplabv3 import ASPP, MULTI_GRID, RATES
from seg_models.networks.mmsegmentation.variants import on_resnet

__all__ = [
    "VARIANTS",
    "DeepLabV3Plus",
    "DeepLabV3PlusOptions",
    "deeplabv3plus",
    "deeplabv3plus_mobilenet_v3_large",
    "deeplabv3plus_resnet18",
    "deeplabv3plus_resnet50",
    "deeplabv3plus_resnet101",
    "deeplabv3plus_xception",
]

LOW_STRIDE = 4
LOW_WIDTH = 48


@dataclass(frozen=True)
class DeepLabV3PlusOptions(BackboneOptions):
    """The options of DeepLabV3+.

    Attributes:
        output_stride: pixels per feature of the backbone's last stages: 8, 16 or 32. The rates of the pyramid are 6,
            12, 18 at 16, doubled at 8, halved at 32.
        separable: whether the 3x3 convolutions of the head are depthwise separable. On ResNets the default is False.
        multi_grid: whether the blocks of the last stage are dilated by 1, 2, 4 times the stage's dilation. Only ResNets
            can, and for them the default is True.
        scaled_head: whether the head is mmsegmentation's: a quarter as wide as the coarsest features instead of 256
            channels, the branches of the pyramid, the pooled one first, joined by a 3x3 convolution instead of 1x1, the
            fine features reduced to 3/16 of their channels instead of 48.
        align_corners: whether every resize keeps the corners' centers in place.
    """

    output_stride: int = 16
    separable: bool = True
    multi_grid: bool = False
    scaled_head: bool = False
    align_corners: bool = False


VARIANTS: Variants = {
    "paper": {"resnet*": DeepLabV3PlusOptions(separable=False, multi_grid=True), "*": DeepLabV3PlusOptions()},
    **on_resnet(DeepLabV3PlusOptions(output_stride=8, scaled_head=True)),
}


class Decoder(nn.Module):
    """Joins coarse context with fine features by two 3x3 convolutions (figure 2).

    Args:
        low_channels: channels of the fine features.
        low_width: channels that these are reduced to.
        width: channels of the context and of the result.
        separable: whether the 3x3 convolutions are depthwise separable.
        align_corners: whether the context's resize aligns corners.
    """

    def __init__(self, low_channels: int, low_width: int, width: int, *, separable: bool, align_corners: bool) -> None:
        super().__init__()
        convolution = SeparableConv if separable else ConvNormAct
        self.align_corners = align_corners
        self.reduce = ConvNormAct(low_channels, low_width, 1)
        self.refine = nn.Sequential(convolution(width + low_width, width), convolution(width, width))

    def forward(self, low: Tensor, context: Tensor) -> Tensor:
        """Maps (N, C, H/4, W/4) and (N, width, h, w) to (N, width, H/4, W/4)."""
        context = resize(context, low, align_corners=self.align_corners)
        return self.refine(torch.cat([context, self.reduce(low)], dim=1))


class DeepLabV3Plus(SegmentationNetwork):
    """DeepLabV3 with a decoder at stride 4.

    Args:
        backbone: returns features from fine to coarse, one of stride 4 among them.
        num_classes: channels of the logits.
        rates: dilations of the atrous spatial pyramid pooling.
        options: options of the head.
        aux_loss: whether to add an auxiliary head, whose logits are `"aux"`.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        rates: Sequence[int],
        options: DeepLabV3PlusOptions,
        aux_loss: bool = False,
    ) -> None:
        super().__init__()
        separable, align_corners = options.separable, options.align_corners
        low = feature_of_stride(backbone, LOW_STRIDE)
        before, coarsest = last_features(backbone, 2)
        select_features(backbone, low, coarsest, *([before] if aux_loss else []))
        self.low, self.before, self.coarsest = low.name, before.name, coarsest.name
        self.backbone = backbone
        self.aspp = ASPP(coarsest.channels, rates, separable=separable, scaled=options.scaled_head)
        width, low_width = self.aspp.width, low.channels * 3 // 16 if options.scaled_head else LOW_WIDTH
        self.decoder = Decoder(low.channels, low_width, width, separable=separable, align_corners=align_corners)
        self.classifier = nn.Conv2d(width, num_classes, 1)
        self.aux_classifier = FCNHead(before.channels, num_classes) if aux_loss else None
        self.upsampling = dict.fromkeys(["out", "aux"] if aux_loss else ["out"], ("bilinear", align_corners))

    def forward_logits(self, images: Tensor) -> dict[str, Tensor]:
        """Returns `"out"` at stride 4 and, with an auxiliary head, `"aux"` at the stride of its features."""
        features = self.backbone(images)
        context = self.aspp(features[self.coarsest])
        outputs = {"out": self.classifier(self.decoder(features[self.low], context))}
        if self.aux_classifier is not None:
            outputs["aux"] = self.aux_classifier(features[self.before])
        return outputs


def _build(recipe: BackboneRecipe, options: DeepLabV3PlusOptions, num_classes: int, aux_loss: bool) -> DeepLabV3Plus:
    """Joins backbone and head."""
    grid = {"multi_grid": MULTI_GRID} if options.multi_grid else {}
    backbone = recipe.build(output_stride=options.output_stride, **grid)
    return DeepLabV3Plus(backbone, num_classes, RATES[options.output_stride], options, aux_loss)


@builder(VARIANTS)
def deeplabv3plus(backbone: str, **arguments: Any) -> DeepLabV3Plus:
    """Builds DeepLabV3+ on the named backbone."""
    return build_network("deeplabv3plus", _build, arguments, VARIANTS, backbone=backbone)


deeplabv3plus_resnet18 = on_backbone(deeplabv3plus, "resnet18")
deeplabv3plus_resnet50 = on_backbone(deeplabv3plus, "resnet50")
deeplabv3plus_resnet101 = on_backbone(deeplabv3plus, "resnet101")
deeplabv3plus_mobilenet_v3_large = on_backbone(deeplabv3plus, "mobilenet_v3_large")
deeplabv3plus_xception = on_backbone(deeplabv3plus, "xception")
