"""DeepLabV3: rethinking atrous convolution for semantic image segmentation.

Liang-Chieh Chen, George Papandreou, Florian Schroff, Hartwig Adam, 2017. https://arxiv.org/abs/1706.05587
The authors' code: https://github.com/tensorflow/models/tree/master/research/deeplab
Variant "torchvision" is https://github.com/pytorch/vision

Differs from the paper:
- output stride 8 by default, with which the paper's best figures are evaluated; it trains at 16, which is an option
- the stem of the ResNets is torchvision's 7x7 convolution, for its ImageNet weights. The authors' stem of 64, 64 and
  128 channels is 7.1 G of the 10.0 G multiply-accumulates that ResNet-101 has less here for a 513x513 image at output
  stride 16 (DeepLabV3+ paper, table 3: 81.02 B); the rest is not explained.
- only ResNets have the multi-grid; MobileNetV3 has output stride 16
- dropout of 0.1 before the logits, as in the authors' code
- upsampling does not align corners unless `align_corners=True`; the authors' code does
- with a batch of one in train mode the image pooling normalizes with its running statistics
- auxiliary logits from the third stage (on MobileNetV3 from stride 8), as in torchvision

Variant "torchvision" has a 3x3 convolution before the logits and dropout of 0.5 in the pyramid, rates 12, 24, 36 at
every output stride, and no multi-grid. Variant "pixseg" is the same at output stride 32,
https://github.com/CyrusCKF/PixSeg

Variant "mmsegmentation" (on ResNets, https://github.com/open-mmlab/mmsegmentation) has the deep stem; a head a quarter
as wide as the coarsest features, whose branches, the image pooling first, are joined by a 3x3 convolution; rates 12,
24, 36; and no multi-grid. Variant "mmsegmentation_769" also aligns the corners of the upsampling. Dropout is as in the
paper's variant; mmsegmentation's takes whole channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from seg_core.checks import is_integer
from seg_core.errors import InvalidArgumentError
from seg_models.backbones.base import Backbone
from seg_models.builders.backbone import BackboneRecipe
from seg_models.builders.build import build_network
from seg_models.builders.options import BackboneOptions, Variants
from seg_models.builders.signatures import builder, on_backbone
from seg_models.layers import ConvNormAct, FCNHead, PooledBatchNorm2d, SeparableConv
from seg_models.networks.base import SegmentationNetwork, select_features
from seg_models.networks.mmsegmentation.variants import on_resnet

__all__ = [
    "ASPP",
    "MULTI_GRID",
    "RATES",
    "VARIANTS",
    "DeepLabV3",
    "DeepLabV3Options",
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


@dataclass(frozen=True)
class DeepLabV3Options(BackboneOptions):
    """The options of DeepLabV3.

    Attributes:
        output_stride: pixels per feature of the backbone's last stages: 8, 16 or 32. On MobileNetV3 the default is 16.
        atrous_rates: dilations of the pyramid's 3x3 convolutions; None is 6, 12, 18 at output stride 16, doubled at 8,
            halved at 32.
        multi_grid: whether the blocks of the last stage are dilated by 1, 2, 4 times the stage's dilation. Only ResNets
            can; on other backbones the default is False.
        extra_conv: whether a 3x3 convolution comes before the logits.
        scaled_head: whether the pyramid is mmsegmentation's: a quarter as wide as the coarsest features instead of 256
            channels, its branches, the pooled one first, joined by a 3x3 convolution instead of 1x1.
        align_corners: whether the upsampling keeps the corners' centers in place.
    """

    output_stride: int = 8
    atrous_rates: Sequence[int] | None = None
    multi_grid: bool = True
    extra_conv: bool = False
    scaled_head: bool = False
    align_corners: bool = False

    def settled(self) -> "DeepLabV3Options":
        """Returns the options with the rates that the output stride implies."""
        rates = RATES.get(self.output_stride, ()) if self.atrous_rates is None else self.atrous_rates
        return replace(self, atrous_rates=tuple(rates))


_TORCHVISION = DeepLabV3Options(atrous_rates=RATES[8], multi_grid=False, extra_conv=True)
VARIANTS: Variants = {
    "paper": {
        "resnet*": DeepLabV3Options(),
        "mobilenet*": DeepLabV3Options(output_stride=16, multi_grid=False),
        "*": DeepLabV3Options(multi_grid=False),
    },
    "torchvision": {"mobilenet*": replace(_TORCHVISION, output_stride=16), "*": _TORCHVISION},
    "pixseg": replace(_TORCHVISION, output_stride=32),
    **on_resnet(DeepLabV3Options(multi_grid=False, scaled_head=True)),
}


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
        in_channels: channels of the features.
        rates: dilation of each 3x3 branch.
        separable: whether the 3x3 convolutions are depthwise separable, as in DeepLabV3+.
        dropout: probability of the dropout at the end.
        scaled: whether the width is a quarter of `in_channels`, the pooled branch is the first, and a 3x3 convolution
            joins the branches, as in mmsegmentation; else the width is 256, the pooled branch is the last, and a 1x1
            convolution joins them.

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
        return self.project(torch.cat([branch(features) for branch in self.convs], dim=1))


class DeepLabV3(SegmentationNetwork):
    """A dilated backbone with atrous spatial pyramid pooling on its coarsest features.

    Args:
        backbone: returns features from fine to coarse.
        classifier: maps the coarsest features to logits.
        aux_feature: name of the feature that `aux_classifier` reads.
        aux_classifier: maps it to the logits `"aux"`, or None.
        align_corners: whether the upsampling aligns corners.
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
        select_features(backbone, coarsest, *aux)
        self.coarsest, self.aux_feature = coarsest.name, aux_feature
        self.backbone = backbone
        self.classifier = classifier
        self.aux_classifier = aux_classifier
        names = ["out"] if aux_classifier is None else ["out", "aux"]
        self.upsampling = dict.fromkeys(names, ("bilinear", align_corners))

    def forward_logits(self, images: Tensor) -> dict[str, Tensor]:
        """Returns `"out"` and, with an auxiliary head, `"aux"`, at 1/8 of H and W for output stride 8."""
        features = self.backbone(images)
        outputs = {"out": self.classifier(features[self.coarsest])}
        if self.aux_classifier is not None:
            outputs["aux"] = self.aux_classifier(features[self.aux_feature])
        return outputs


def _build(recipe: BackboneRecipe, options: DeepLabV3Options, num_classes: int, aux_loss: bool) -> DeepLabV3:
    """Joins backbone and heads."""
    grid = {"multi_grid": MULTI_GRID} if options.multi_grid else {}
    backbone = recipe.build(output_stride=options.output_stride, **grid)
    rates = options.atrous_rates
    if not rates or not all(is_integer(rate, 1) for rate in rates):
        raise InvalidArgumentError(f"atrous_rates must be integers >= 1, got {rates!r}")
    coarsest = backbone.feature_info[-1]
    # torchvision's auxiliary head reads the features before the coarsest, on MobileNetV3 those of stride 8
    aux = backbone.feature_info[-3 if recipe.name.startswith("mobilenet") else -2]
    aspp = ASPP(coarsest.channels, rates, dropout=0.5 if options.extra_conv else 0.1, scaled=options.scaled_head)
    extra = list(ConvNormAct(aspp.width, aspp.width, 3)) if options.extra_conv else []
    return DeepLabV3(
        backbone,
        nn.Sequential(aspp, *extra, nn.Conv2d(aspp.width, num_classes, 1)),
        aux.name,
        FCNHead(aux.channels, num_classes) if aux_loss else None,
        align_corners=options.align_corners,
    )


@builder(VARIANTS)
def deeplabv3(backbone: str, **arguments: Any) -> DeepLabV3:
    """Builds DeepLabV3 on the named backbone."""
    return build_network("deeplabv3", _build, arguments, VARIANTS, backbone=backbone)


deeplabv3_resnet18 = on_backbone(deeplabv3, "resnet18")
deeplabv3_resnet50 = on_backbone(deeplabv3, "resnet50")
deeplabv3_resnet101 = on_backbone(deeplabv3, "resnet101")
deeplabv3_mobilenet_v3_large = on_backbone(deeplabv3, "mobilenet_v3_large")
