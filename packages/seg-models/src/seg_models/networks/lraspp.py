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

Variant "pixseg" of `lraspp_resnet18` is not dilated: fine features of stride 16, coarse ones of stride 32.
https://github.com/CyrusCKF/PixSeg

Variant "mmsegmentation" on MobileNetV3 pads as TensorFlow does, has the paper's windows, and gives logits of stride 2:
`seg_models.networks.mmsegmentation.lraspp`.
"""

import functools
from collections.abc import Mapping
from typing import Any, Unpack

from torch import Tensor, nn

from seg_models.backbones.base import Backbone
from seg_models.builders.build import build_network, on_features
from seg_models.builders.signatures import Common, builder, on_backbone
from seg_models.layers import ConvNormAct, resize
from seg_models.networks.base import SegmentationNetwork, feature_of_stride, read_features

__all__ = ["LRASPP", "lraspp", "lraspp_mobilenet_v3_large", "lraspp_mobilenet_v3_small", "lraspp_resnet18"]

LOW_STRIDE = 8
WIDTH = 128
PRESETS = {"torchvision": {"output_stride": 16}}


class LRASPPHead(nn.Module):
    """Logits of coarse features, gated by their mean over the image, plus those of fine ones (figure 10).

    Args:
        low_channels: of the fine features.
        high_channels: of the coarse features.
        num_classes: of the logits.
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
        logits: Tensor = self.low_classifier(low) + self.high_classifier(context)
        return logits


class LRASPP(SegmentationNetwork):
    """A backbone with the lite head on its features of one stride and its coarsest.

    Args:
        backbone: gives ordered features from fine to coarse, one of stride `low_stride` among them.
        num_classes: of the logits.
        low_stride: of the fine features.
    """

    def __init__(self, backbone: Backbone, num_classes: int, low_stride: int = LOW_STRIDE) -> None:
        super().__init__()
        low, high = feature_of_stride(backbone, low_stride), backbone.feature_info[-1]
        self.low, self.high = read_features(backbone, low, high)
        self.backbone = backbone
        self.classifier = LRASPPHead(low.channels, high.channels, num_classes)
        self.upsampling = {"out": ("bilinear", False)}

    def forward_logits(self, images: Tensor) -> dict[str, Tensor]:
        """Returns logits at the fine features' size.

        Args:
            images: float (N, C, H, W), normalized RGB where C is 3.

        Returns:
            `"out"`: float (N, K, h, w), 1/8 of H and W unless said otherwise.
        """
        features = self.backbone(images)
        return {"out": self.classifier(features[self.low], features[self.high])}


@builder
def lraspp(
    backbone: str,
    *,
    output_stride: int | None = None,
    backbone_options: Mapping[str, Any] | None = None,
    **common: Unpack[Common],
) -> SegmentationNetwork:
    """LRASPP on the named backbone.

    Args:
        backbone: name of the backbone, see `list_backbones`, or `timm:` and a name of timm.
        output_stride: pixels per feature of the backbone's last stages: 8, 16 or 32; None is 16.
        backbone_options: more options of the backbone's builder, as `{"reduced_tail": True}` for MobileNetV3.
    """
    return build_network(
        "lraspp",
        on_features(LRASPP),
        backbone=backbone,
        backbone_options=backbone_options,
        options={"output_stride": output_stride},
        defaults={"output_stride": 16},
        presets=PRESETS,
        other_makes={
            "pixseg": functools.partial(on_features(LRASPP), output_stride=32, low_stride=16),
            "mmsegmentation": "seg_models.networks.mmsegmentation.lraspp:make",
        },
        **common,
    )


lraspp_mobilenet_v3_large = on_backbone(lraspp, "mobilenet_v3_large")
lraspp_mobilenet_v3_small = on_backbone(lraspp, "mobilenet_v3_small")
lraspp_resnet18 = on_backbone(lraspp, "resnet18")
