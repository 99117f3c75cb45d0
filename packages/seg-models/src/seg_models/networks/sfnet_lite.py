"""SFNet-Lite: faster and accurate semantic segmentation via semantic flow.

Xiangtai Li, Jiangning Zhang, Yibo Yang, Guangliang Cheng, Kuiyuan Yang, Yunhai Tong, Dacheng Tao, 2022.
https://arxiv.org/abs/2207.04415
The authors' code: https://github.com/lxtGH/SFSegNets

Differs from the paper:
- the stem of the ResNets, as in `seg_models.networks.sfnet`. That stem, and a lateral convolution of the coarsest
  features which the authors' code builds and does not use, are the whole difference on ResNet-18: 214,400 parameters,
  and 15.0 G multiply-accumulates at 512x1024.
- the authors' code has this head on ResNet-18 and STDC; on ResNet-50 and -101 it is here 256 channels wide, as SFNet
- deep supervision of the aligned features, as in SFNet; the authors' code builds its head and does not use it
- with a batch of one in train mode the branch pooled to one pixel normalizes with its running statistics

Variants "pixseg" and "pixseg_fam_pooling" are other networks: `seg_models.networks.pixseg.sfnet_lite`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from seg_models.backbones.base import Backbone
from seg_models.builders.backbone import BackboneRecipe
from seg_models.builders.build import build_network
from seg_models.builders.options import OtherNetwork, Variants
from seg_models.builders.signatures import builder, on_backbone
from seg_models.layers import ConvNormAct, resize
from seg_models.networks.base import SegmentationNetwork, last_features, select_features
from seg_models.networks.sfnet import (
    LEVELS,
    PyramidPoolingModule,
    SFNetOptions,
    Supervision,
    lateral,
    warp,
    width_for,
)

__all__ = [
    "VARIANTS",
    "GatedDualFlowAlignment",
    "SFNetLite",
    "sfnet_lite",
    "sfnet_lite_resnet18",
    "sfnet_lite_resnet50",
    "sfnet_lite_resnet101",
]

VARIANTS: Variants = {
    "paper": SFNetOptions(),
    "pixseg": OtherNetwork("seg_models.networks.pixseg.sfnet_lite:build"),
    "pixseg_fam_pooling": OtherNetwork("seg_models.networks.pixseg.sfnet_lite:build_pooled"),
}


class GatedDualFlowAlignment(nn.Module):
    """Coarse and fine features, each warped by its own flow, and mixed by a gate."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduce_high = nn.Conv2d(width, width // 2, 1, bias=False)
        self.reduce_low = nn.Conv2d(width, width // 2, 1, bias=False)
        self.flows = nn.Conv2d(width, 4, 3, padding=1, bias=False)
        self.gate = nn.Conv2d(4, 1, 3, padding=1, bias=False)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """Maps (N, C, H, W) and (N, C, h, w) to (N, C, H, W)."""
        reduced = resize(self.reduce_high(high), low, align_corners=True)
        high_flow, low_flow = self.flows(torch.cat([reduced, self.reduce_low(low)], dim=1)).chunk(2, dim=1)
        pooled = [reduced.mean(1, True), low.mean(1, True), reduced.amax(1, True), low.amax(1, True)]
        gate = self.gate(torch.cat(pooled, dim=1)).sigmoid()  # (N, 1, H, W)
        return gate * warp(high, high_flow) + (1 - gate) * warp(low, low_flow)


class SFNetLite(SegmentationNetwork):
    """The coarsest features, aligned with the finest in one step.

    Args:
        backbone: returns features from fine to coarse; of the last four, all but the second are used.
        num_classes: channels of the logits.
        aux_loss: whether to add an auxiliary head on the aligned features, whose logits are `"aux"`.
        width: channels of the decoder; None is as in SFNet.
        pyramid: builds the module from the coarsest features to the decoder, given the channels of both.
        lateral: builds the same for each of the finer features.
        alignment: builds the module that aligns the finest and the coarsest, given the decoder's channels.
        align_output: whether the last resize aligns corners; all others do.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        aux_loss: bool = False,
        *,
        width: int | None = None,
        pyramid: Callable[[int, int], nn.Module] = PyramidPoolingModule,
        lateral: Callable[[int, int], nn.Module] = lateral,
        alignment: Callable[[int], nn.Module] = GatedDualFlowAlignment,
        align_output: bool = True,
    ) -> None:
        super().__init__()
        fine, _, middle, top = last_features(backbone, LEVELS)
        width = width or width_for(top)
        self.fine, self.middle, self.top = select_features(backbone, fine, middle, top)
        self.backbone = backbone
        self.pyramid = pyramid(top.channels, width)
        self.lateral_fine = lateral(fine.channels, width)
        self.lateral_middle = lateral(middle.channels, width)
        self.alignment = alignment(width)
        self.classifier = ConvNormAct(2 * width, width, 3).append(nn.Conv2d(width, num_classes, 1))
        self.aux_classifier = Supervision(width, num_classes) if aux_loss else None
        self.upsampling = dict.fromkeys(["out", "aux"] if aux_loss else ["out"], ("bilinear", align_output))

    def forward_logits(self, images: Tensor) -> dict[str, Tensor]:
        """Returns `"out"` and, with an auxiliary head, `"aux"`, at stride 4."""
        features = self.backbone(images)
        aligned = self.alignment(self.lateral_fine(features[self.fine]), self.pyramid(features[self.top]))
        middle = resize(self.lateral_middle(features[self.middle]), aligned, align_corners=True)
        outputs = {"out": self.classifier(torch.cat([aligned, middle], dim=1))}
        if self.aux_classifier is not None:
            outputs["aux"] = self.aux_classifier(aligned)
        return outputs


def _build(recipe: BackboneRecipe, options: SFNetOptions, num_classes: int, aux_loss: bool) -> SFNetLite:
    """Joins backbone and decoder."""
    return SFNetLite(recipe.build(output_stride=options.output_stride), num_classes, aux_loss)


@builder(VARIANTS)
def sfnet_lite(backbone: str, **arguments: Any) -> SFNetLite:
    """Builds SFNet-Lite on the named backbone."""
    return build_network("sfnet_lite", _build, arguments, VARIANTS, backbone=backbone)


sfnet_lite_resnet18 = on_backbone(sfnet_lite, "resnet18")
sfnet_lite_resnet50 = on_backbone(sfnet_lite, "resnet50")
sfnet_lite_resnet101 = on_backbone(sfnet_lite, "resnet101")
