"""DeepLabV3: rethinking atrous convolution for semantic image segmentation.

Liang-Chieh Chen, George Papandreou, Florian Schroff, Hartwig Adam, 2017. https://arxiv.org/abs/1706.05587
The authors' code: https://github.com/tensorflow/models/tree/master/research/deeplab
Variant "torchvision" is https://github.com/pytorch/vision

Differs from the paper:
- output stride 8 by default, with which the paper's best figures are evaluated; it trains at 16, which is an option
- the stem of the ResNets is torchvision's 7x7 convolution, for its ImageNet weights. The authors' stem of 64, 64 and
  128 channels is 7.1 G of the 10.0 G multiply-accumulates that ResNet-101 has less here for a 513x513 image at output
  stride 16 (DeepLabV3+ paper, table 3: 81.02 B); the rest is not explained.
- MobileNetV3 and other backbones without residual stages have no multi-grid; MobileNetV3 has output stride 16
- dropout of 0.1 before the logits, as in the authors' code
- upsampling does not align corners unless `align_corners=True`; the authors' code does
- with a batch of one in train mode the image pooling normalizes with its running statistics
- auxiliary logits from the third stage (on MobileNetV3 from stride 8), as in torchvision

Variant "torchvision" has a 3x3 convolution before the logits and dropout of 0.5 in the pyramid, rates 12, 24, 36
whatever the output stride, and no multi-grid. Variant "pixseg" is the same at output stride 32,
https://github.com/CyrusCKF/PixSeg

Variant "mmsegmentation" (on ResNets, https://github.com/open-mmlab/mmsegmentation) has the deep stem, a head a quarter
as wide as the coarsest features, whose branches, the image pooling first, a 3x3 convolution joins, rates 12, 24, 36,
and no multi-grid. Variant "mmsegmentation_769" aligns the corners of the upsampling besides. Dropout is as in the paper
variant; mmsegmentation's takes whole channels.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from seg_core.errors import InvalidArgumentError
from seg_models.backbones.base import Backbone
from seg_models.builders.build import build_network
from seg_models.builders.signatures import Common, builder, on_backbone
from seg_models.layers import ConvNormAct, FCNHead, PooledBatchNorm2d, SeparableConv
from seg_models.networks.base import SegmentationNetwork, read_features
from seg_models.networks.mmsegmentation.presets import on_resnet

__all__ = [
    "ASPP",
    "RATES",
    "DeepLabV3",
    "deeplabv3",
    "deeplabv3_mobilenet_v3_large",
    "deeplabv3_resnet18",
    "deeplabv3_resnet50",
    "deeplabv3_resnet101",
]

WIDTH = 256
MULTI_GRID = (1, 2, 4)
# output stride -> rates of the pyramid (section 3.3: doubled when the output stride is 8)
RATES = {8: (12, 24, 36), 16: (6, 12, 18), 32: (3, 6, 9)}
MMSEGMENTATION = on_resnet(output_stride=8, atrous_rates=RATES[8], multi_grid=False, extra_conv=False, scaled_head=True)


class ImagePooling(nn.Sequential):
    """The mean over the image, as features of the same size."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(in_channels, out_channels, 1, bias=False),
            PooledBatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Maps (N, C, h, w) to (N, out_channels, h, w)."""
        pooled = features
        for layer in self:
            pooled = layer(pooled)
        return pooled.expand(-1, -1, *features.shape[-2:])


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling (figure 5): (N, C, h, w) to (N, width, h, w).

    Args:
        in_channels: of the features.
        rates: dilation of each 3x3 branch.
        separable: whether the 3x3 convolutions are depthwise separable, as in DeepLabV3+.
        dropout: at the end.
        scaled: whether the width is a quarter of `in_channels`, the pooled branch the first, and the branches are
            joined by a 3x3 convolution, as in mmsegmentation; else the width is 256, the pooled branch the last, and a
            1x1 convolution joins them.

    Attributes:
        width: channels of each branch and of the result.
    """

    def __init__(
        self,
        in_channels: int,
        rates: Sequence[int],
        *,
        separable: bool = False,
        dropout: float = 0.1,
        scaled: bool = False,
    ) -> None:
        super().__init__()
        self.width = width = in_channels // 4 if scaled else WIDTH
        branches: list[nn.Module] = [ConvNormAct(in_channels, width, 1)]
        for rate in rates:
            if separable:
                branches.append(SeparableConv(in_channels, width, rate))
            else:
                branches.append(ConvNormAct(in_channels, width, 3, dilation=rate))
        branches.insert(0 if scaled else len(branches), ImagePooling(in_channels, width))
        self.convs = nn.ModuleList(branches)
        self.project = ConvNormAct(len(branches) * width, width, 3 if scaled else 1).append(nn.Dropout(dropout))

    def forward(self, features: Tensor) -> Tensor:
        """Maps (N, C, h, w) to (N, width, h, w)."""
        result: Tensor = self.project(torch.cat([branch(features) for branch in self.convs], dim=1))
        return result


class DeepLabV3(SegmentationNetwork):
    """A dilated backbone with atrous spatial pyramid pooling on its coarsest features.

    Args:
        backbone: gives ordered features from fine to coarse.
        classifier: of the coarsest features.
        aux_feature: name of the feature that `aux_classifier` reads.
        aux_classifier: its logits are `"aux"`.
        align_corners: of the upsampling.
    """

    def __init__(
        self,
        backbone: Backbone,
        classifier: nn.Module,
        aux_feature: str,
        aux_classifier: nn.Module | None = None,
        *,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        coarsest = backbone.feature_info[-1]
        aux = [info for info in backbone.feature_info if aux_classifier is not None and info.name == aux_feature]
        self.features = read_features(backbone, coarsest, *aux)
        self.backbone = backbone
        self.classifier = classifier
        self.aux_classifier = aux_classifier
        names = ["out"] if aux_classifier is None else ["out", "aux"]
        self.upsampling = dict.fromkeys(names, ("bilinear", align_corners))

    def forward_logits(self, images: Tensor) -> dict[str, Tensor]:
        """Returns logits at the features' size.

        Args:
            images: float (N, C, H, W), normalized RGB where C is 3.

        Returns:
            `"out"` and, with an auxiliary head, `"aux"`: float (N, K, h, w), 1/8 of H and W at output stride 8.
        """
        found = self.backbone(images)
        coarsest, *middle = [found[name] for name in self.features]
        outputs = {"out": self.classifier(coarsest)}
        if self.aux_classifier is not None:
            outputs["aux"] = self.aux_classifier(*middle)
        return outputs


def _make(
    make_backbone: Callable[..., Backbone],
    *,
    num_classes: int,
    aux_loss: bool,
    output_stride: int,
    atrous_rates: Sequence[int],
    multi_grid: bool,
    extra_conv: bool,
    scaled_head: bool,
    align_corners: bool,
    aux_from: int,
) -> DeepLabV3:
    """Joins backbone and heads."""
    backbone = make_backbone(output_stride=output_stride, **({"multi_grid": MULTI_GRID} if multi_grid else {}))
    if not atrous_rates or any(type(rate) is not int or rate < 1 for rate in atrous_rates):
        raise InvalidArgumentError(f"atrous_rates must be whole numbers from 1 on, got {atrous_rates!r}")
    coarsest, aux = backbone.feature_info[-1], backbone.feature_info[aux_from]
    aspp = ASPP(coarsest.channels, atrous_rates, dropout=0.5 if extra_conv else 0.1, scaled=scaled_head)
    extra = list(ConvNormAct(aspp.width, aspp.width, 3)) if extra_conv else []
    return DeepLabV3(
        backbone,
        nn.Sequential(aspp, *extra, nn.Conv2d(aspp.width, num_classes, 1)),
        aux.name,
        FCNHead(aux.channels, num_classes) if aux_loss else None,
        align_corners=align_corners,
    )


@builder
def deeplabv3(
    backbone: str,
    *,
    output_stride: int | None = None,
    atrous_rates: Sequence[int] | None = None,
    multi_grid: bool | None = None,
    extra_conv: bool | None = None,
    scaled_head: bool | None = None,
    align_corners: bool | None = None,
    backbone_options: Mapping[str, Any] | None = None,
    **common: Unpack[Common],
) -> DeepLabV3:
    """DeepLabV3 on the named backbone.

    Args:
        backbone: name of the backbone, see `list_backbones`, or `timm:` and a name of timm.
        output_stride: pixels per feature of the backbone's last stages: 8, 16 or 32; None is 8, for MobileNetV3 16.
        atrous_rates: dilations of the pyramid's 3x3 convolutions; None is 6, 12, 18 at output stride 16, doubled at 8,
            halved at 32.
        multi_grid: whether the blocks of the last stage are dilated by 1, 2, 4 times the stage's dilation; None is True
            for ResNets, which alone have it.
        extra_conv: whether a 3x3 convolution comes before the logits; None is False.
        scaled_head: whether the pyramid is as in mmsegmentation: a quarter as wide as the coarsest features rather than
            256 channels, its branches, the pooled one first, joined by a 3x3 convolution rather than 1x1; None is
            False.
        align_corners: whether the upsampling keeps the corners' centers in place; None is False.
        backbone_options: more options of the backbone's builder, as `{"stem": "deep"}` for ResNets.
    """
    resnet, mobilenet = backbone.startswith("resnet"), backbone.startswith("mobilenet")
    usual = 16 if mobilenet else 8
    torchvision = {
        "output_stride": usual,
        "atrous_rates": RATES[8],
        "multi_grid": False,
        "extra_conv": True,
        "scaled_head": False,
        "align_corners": False,
    }
    return build_network(
        "deeplabv3",
        functools.partial(_make, aux_from=-3 if mobilenet else -2),
        backbone=backbone,
        backbone_options=backbone_options,
        options={
            "output_stride": output_stride,
            "atrous_rates": None if atrous_rates is None else tuple(atrous_rates),
            "multi_grid": multi_grid,
            "extra_conv": extra_conv,
            "scaled_head": scaled_head,
            "align_corners": align_corners,
        },
        defaults={
            "output_stride": usual,
            "atrous_rates": RATES.get(output_stride or usual, ()),
            "multi_grid": resnet,
            "extra_conv": False,
            "scaled_head": False,
            "align_corners": False,
        },
        presets={
            "torchvision": torchvision,
            "pixseg": {**torchvision, "output_stride": 32},
            **MMSEGMENTATION,
        },
        **common,
    )


deeplabv3_resnet18 = on_backbone(deeplabv3, "resnet18")
deeplabv3_resnet50 = on_backbone(deeplabv3, "resnet50")
deeplabv3_resnet101 = on_backbone(deeplabv3, "resnet101")
deeplabv3_mobilenet_v3_large = on_backbone(deeplabv3, "mobilenet_v3_large")
