"""LRASPP: lite reduced atrous spatial pyramid pooling, the segmentation head of MobileNetV3.

Andrew Howard, Mark Sandler, Grace Chu, et al., 2019. https://arxiv.org/abs/1905.02244
The structure is torchvision's: https://github.com/pytorch/vision

Differs from the paper:
- the gate pools the whole map; the paper pools windows of 49x49 with strides of 16 and 20, which at its image size of
  1024x2048 is nearly that, and fails on small images
- the last stage of MobileNetV3 has all of its channels, as ImageNet weights need; the paper's final networks have half
  (its RF2): `backbone_options={"reduced_tail": True}`
- the fine features are those of the block that reaches stride 8, as in torchvision
- `lraspp_resnet18` puts the head on a ResNet, which the paper does not have; output stride 16 as with MobileNetV3
- no auxiliary head, as in the paper

Variant "pixseg" of `lraspp_resnet18` is not dilated: `seg_models.networks.pixseg.lraspp`. Variant "mmsegmentation" on
MobileNetV3 pads as TensorFlow does, has the paper's pooling windows, and logits of stride 2:
`seg_models.networks.mmsegmentation.lraspp`.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from seg_models.backbones.base import Backbone
from seg_models.builders.backbone import BackboneRecipe
from seg_models.builders.build import build_network
from seg_models.builders.options import BackboneOptions, OtherNetwork, Variants
from seg_models.builders.signatures import builder, on_backbone
from seg_models.layers import ConvNormAct, resize
from seg_models.networks.base import SegmentationNetwork, feature_of_stride, select_features

__all__ = [
    "LRASPP",
    "VARIANTS",
    "LRASPPOptions",
    "lraspp",
    "lraspp_mobilenet_v3_large",
    "lraspp_mobilenet_v3_small",
    "lraspp_resnet18",
]

LOW_STRIDE = 8
WIDTH = 128


@dataclass(frozen=True)
class LRASPPOptions(BackboneOptions):
    """The options of LRASPP.

    Attributes:
        output_stride: pixels per feature of the backbone's last stages: 8, 16 or 32.
    """

    output_stride: int = 16


VARIANTS: Variants = {
    "paper": LRASPPOptions(),
    "torchvision": LRASPPOptions(),
    "pixseg": OtherNetwork("seg_models.networks.pixseg.lraspp:build"),
    "mmsegmentation": OtherNetwork("seg_models.networks.mmsegmentation.lraspp:build"),
}


class LRASPPHead(nn.Module):
    """Logits of coarse features, gated by their mean over the image, plus those of fine features (figure 10).

    Args:
        low_channels: channels of the fine features.
        high_channels: channels of the coarse features.
        num_classes: channels of the logits.
    """

    def __init__(self, low_channels: int, high_channels: int, num_classes: int) -> None:
        super().__init__()
        self.cbr = ConvNormAct(high_channels, WIDTH, 1)
        self.scale = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(high_channels, WIDTH, 1, bias=False), nn.Sigmoid()
        )
        self.low_classifier = nn.Conv2d(low_channels, num_classes, 1)
        self.high_classifier = nn.Conv2d(WIDTH, num_classes, 1)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """Maps (N, C, H/8, W/8) and (N, C', H/16, W/16) to (N, K, H/8, W/8)."""
        context = resize(self.cbr(high) * self.scale(high), low)
        return self.low_classifier(low) + self.high_classifier(context)


class LRASPP(SegmentationNetwork):
    """A backbone with the lite head on its coarsest features and its features of one finer stride.

    Args:
        backbone: returns features from fine to coarse, one of stride `low_stride` among them.
        num_classes: channels of the logits.
        low_stride: stride of the fine features.
    """

    def __init__(self, backbone: Backbone, num_classes: int, low_stride: int = LOW_STRIDE) -> None:
        super().__init__()
        low, high = feature_of_stride(backbone, low_stride), backbone.feature_info[-1]
        self.low, self.high = select_features(backbone, low, high)
        self.backbone = backbone
        self.classifier = LRASPPHead(low.channels, high.channels, num_classes)
        self.upsampling = {"out": ("bilinear", False)}

    def forward_logits(self, images: Tensor) -> dict[str, Tensor]:
        """Returns `"out"` at the stride of the fine features, 8 in the paper."""
        features = self.backbone(images)
        return {"out": self.classifier(features[self.low], features[self.high])}


def _build(recipe: BackboneRecipe, options: LRASPPOptions, num_classes: int) -> LRASPP:
    """Joins backbone and head."""
    return LRASPP(recipe.build(output_stride=options.output_stride), num_classes)


@builder(VARIANTS)
def lraspp(backbone: str, **arguments: Any) -> SegmentationNetwork:
    """Builds LRASPP on the named backbone."""
    return build_network("lraspp", _build, arguments, VARIANTS, backbone=backbone)


lraspp_mobilenet_v3_large = on_backbone(lraspp, "mobilenet_v3_large")
lraspp_mobilenet_v3_small = on_backbone(lraspp, "mobilenet_v3_small")
lraspp_resnet18 = on_backbone(lraspp, "resnet18")
