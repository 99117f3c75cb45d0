"""DeepLabV3+: encoder-decoder with atrous separable convolution for semantic image segmentation.

Liang-Chieh Chen, Yukun Zhu, George Papandreou, Florian Schroff, Hartwig Adam, 2018. https://arxiv.org/abs/1802.02611
The authors' code: https://github.com/tensorflow/models/tree/master/research/deeplab

The separable form on Xception has 41.1 M parameters and 54.0 G multiply-accumulates for a 513x513 image at output
stride 16 (paper, table 5: 54.17 B).

Differs from the paper:
- `deeplabv3plus_xception` is on `xception65`, the aligned Xception of this paper
- on ResNets the paper's convolutions of the head are not separable, and so here; on other backbones they are
- dropout of 0.1 before the decoder, as in the authors' code
- upsampling does not align corners unless `align_corners=True`; the authors' code does
- the stem of the ResNets is torchvision's 7x7 convolution, for its ImageNet weights. The authors' stem of 64, 64 and
  128 channels is 7.1 G of the 8.5 G multiply-accumulates that ResNet-101 has less here for a 513x513 image (paper,
  table 3: 101.28 B); the rest is not explained.
- with a batch of one in train mode the image pooling normalizes with its running statistics
- auxiliary logits from the features before the coarsest, which the paper does not have

Variant "mmsegmentation" (on ResNets, https://github.com/open-mmlab/mmsegmentation) has the deep stem, output stride 8
without multi-grid, and a separable head a quarter as wide as the coarsest features, whose branches, the image pooling
first, a plain 3x3 convolution joins; the fine features are reduced to 3/16 of their channels: 48, on ResNet-18 12.
Variant "mmsegmentation_769" aligns the corners of every resize besides. Dropout is as in the paper variant;
mmsegmentation's comes after the decoder and takes whole channels.
"""

from collections.abc import Callable, Mapping
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from seg_models.backbones.base import Backbone
from seg_models.builders.build import build_network
from seg_models.builders.signatures import Common, builder, on_backbone
from seg_models.layers import ConvNormAct, FCNHead, SeparableConv, resize
from seg_models.networks.base import SegmentationNetwork, feature_of_stride, read_features
from seg_models.networks.deeplabv3 import ASPP, MULTI_GRID, RATES
from seg_models.networks.mmsegmentation.presets import on_resnet

__all__ = [
    "DeepLabV3Plus",
    "deeplabv3plus",
    "deeplabv3plus_mobilenet_v3_large",
    "deeplabv3plus_resnet18",
    "deeplabv3plus_resnet50",
    "deeplabv3plus_resnet101",
    "deeplabv3plus_xception",
]

LOW_STRIDE = 4
LOW_WIDTH = 48
PRESETS = on_resnet(output_stride=8, separable=True, multi_grid=False, scaled_head=True)


class Decoder(nn.Module):
    """Joins coarse context with fine features (figure 2): two 3x3 convolutions on both.

    Args:
        low_channels: of the fine features.
        low_width: channels that these are reduced to.
        width: channels of the context and of the result.
        separable: whether the 3x3 convolutions are depthwise separable.
        align_corners: of the context's resize.
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
        result: Tensor = self.refine(torch.cat([context, self.reduce(low)], dim=1))
        return result


class DeepLabV3Plus(SegmentationNetwork):
    """DeepLabV3 with a decoder at stride 4.

    Args:
        backbone: gives ordered features from fine to coarse, one of stride 4 among them.
        num_classes: of the logits.
        rates: of the atrous spatial pyramid pooling.
        separable: whether the head's 3x3 convolutions are depthwise separable.
        aux_loss: whether there is an auxiliary head, whose logits are `"aux"`.
        scaled_head: whether the head's widths are shares of the features' channels, and its branches are joined as in
            mmsegmentation.
        align_corners: of every resize.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        rates: tuple[int, ...],
        *,
        separable: bool,
        aux_loss: bool = False,
        scaled_head: bool = False,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        low = feature_of_stride(backbone, LOW_STRIDE)
        *_, before, coarsest = backbone.feature_info
        self.features = read_features(backbone, low, coarsest, *([before] if aux_loss else []))
        self.backbone = backbone
        self.aspp = ASPP(coarsest.channels, rates, separable=separable, scaled=scaled_head)
        width, low_width = self.aspp.width, low.channels * 3 // 16 if scaled_head else LOW_WIDTH
        self.decoder = Decoder(low.channels, low_width, width, separable=separable, align_corners=align_corners)
        self.classifier = nn.Conv2d(width, num_classes, 1)
        self.aux_classifier = FCNHead(before.channels, num_classes) if aux_loss else None
        self.upsampling = dict.fromkeys(["out", "aux"] if aux_loss else ["out"], ("bilinear", align_corners))

    def forward_logits(self, images: Tensor) -> dict[str, Tensor]:
        """Returns logits at stride 4.

        Args:
            images: float (N, C, H, W), normalized RGB where C is 3.

        Returns:
            `"out"`: float (N, K, H/4, W/4) and, with an auxiliary head, `"aux"`: at its features' size.
        """
        found = self.backbone(images)
        low, coarsest, *before = [found[name] for name in self.features]
        outputs = {"out": self.classifier(self.decoder(low, self.aspp(coarsest)))}
        if self.aux_classifier is not None:
            outputs["aux"] = self.aux_classifier(*before)
        return outputs


def _make(
    make_backbone: Callable[..., Backbone], *, num_classes: int, output_stride: int, multi_grid: bool, **head: bool
) -> DeepLabV3Plus:
    """Joins backbone and head."""
    backbone = make_backbone(output_stride=output_stride, **({"multi_grid": MULTI_GRID} if multi_grid else {}))
    return DeepLabV3Plus(backbone, num_classes, RATES[output_stride], **head)


@builder
def deeplabv3plus(
    backbone: str,
    *,
    output_stride: int | None = None,
    separable: bool | None = None,
    multi_grid: bool | None = None,
    scaled_head: bool | None = None,
    align_corners: bool | None = None,
    backbone_options: Mapping[str, Any] | None = None,
    **common: Unpack[Common],
) -> DeepLabV3Plus:
    """DeepLabV3+ on the named backbone.

    Args:
        backbone: name of the backbone, see `list_backbones`, or `timm:` and a name of timm.
        output_stride: pixels per feature of the backbone's last stages: 8, 16 or 32; None is 16. The rates of the
            pyramid are 6, 12, 18 at 16, doubled at 8, halved at 32.
        separable: whether the 3x3 convolutions of the head are depthwise separable; None is False for ResNets,
            else True.
        multi_grid: whether the blocks of the last stage are dilated by 1, 2, 4 times the stage's dilation; None is True
            for ResNets, which alone have it.
        scaled_head: whether the head is as in mmsegmentation: a quarter as wide as the coarsest features rather than
            256 channels, the branches of the pyramid, the pooled one first, joined by a 3x3 convolution rather than
            1x1, the fine features reduced to 3/16 of their channels rather than 48; None is False.
        align_corners: whether every resize keeps the corners' centers in place; None is False.
        backbone_options: more options of the backbone's builder, as `{"stem": "deep"}` for ResNets.
    """
    resnet = backbone.startswith("resnet")
    return build_network(
        "deeplabv3plus",
        _make,
        backbone=backbone,
        backbone_options=backbone_options,
        options={
            "output_stride": output_stride,
            "separable": separable,
            "multi_grid": multi_grid,
            "scaled_head": scaled_head,
            "align_corners": align_corners,
        },
        defaults={
            "output_stride": 16,
            "separable": not resnet,
            "multi_grid": resnet,
            "scaled_head": False,
            "align_corners": False,
        },
        presets=PRESETS,
        **common,
    )


deeplabv3plus_resnet18 = on_backbone(deeplabv3plus, "resnet18")
deeplabv3plus_resnet50 = on_backbone(deeplabv3plus, "resnet50")
deeplabv3plus_resnet101 = on_backbone(deeplabv3plus, "resnet101")
deeplabv3plus_mobilenet_v3_large = on_backbone(deeplabv3plus, "mobilenet_v3_large")
deeplabv3plus_xception = on_backbone(deeplabv3plus, "xception")
