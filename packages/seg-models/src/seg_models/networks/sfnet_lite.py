"""SFNet-Lite: faster and accurate semantic segmentation via semantic flow.

Xiangtai Li, Jiangning Zhang, Yibo Yang, Guangliang Cheng, Kuiyuan Yang, Yunhai Tong, Dacheng Tao, 2022.
https://arxiv.org/abs/2207.04415
The authors' code: https://github.com/lxtGH/SFSegNets

Differs from the paper:
- the stem of the ResNets, as in `seg_models.networks.sfnet`. That stem, and a lateral convolution of the coarsest
  features which the authors' code makes and does not use, are the whole difference on ResNet-18: 214,400 parameters,
  and 15.0 G multiply-accumulates at 512x1024.
- the authors' code has this head on ResNet-18 and STDC; on ResNet-50 and -101 it is here 256 channels wide, as SFNet
- deep supervision of the aligned features, as in SFNet; the authors' code makes its head and does not use it
- with a batch of one in train mode the branch pooled to one pixel normalizes with its running statistics

Variants "pixseg" and "pixseg_fam_pooling" are other networks: `seg_models.networks.pixseg.sfnet_lite`.
"""

from collections.abc import Callable, Mapping
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from seg_models.backbones.base import Backbone
from seg_models.builders.build import build_network, on_features
from seg_models.builders.signatures import Common, builder, on_backbone
from seg_models.layers import ConvNormAct, resize
from seg_models.networks.base import SegmentationNetwork, last_features, read_features
from seg_models.networks.sfnet import LEVELS, PyramidPoolingModule, Supervision, lateral, warp, width_for

__all__ = [
    "GatedDualFlowAlignment",
    "SFNetLite",
    "sfnet_lite",
    "sfnet_lite_resnet18",
    "sfnet_lite_resnet50",
    "sfnet_lite_resnet101",
]


class GatedDualFlowAlignment(nn.Module):
    """Coarse and fine features, each warped by a flow of its own, and mixed by a gate."""

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
        seen = [reduced.mean(1, True), low.mean(1, True), reduced.amax(1, True), low.amax(1, True)]
        gate = self.gate(torch.cat(seen, dim=1)).sigmoid()  # (N, 1, H, W)
        mixed: Tensor = gate * warp(high, high_flow) + (1 - gate) * warp(low, low_flow)
        return mixed


class SFNetLite(SegmentationNetwork):
    """The coarsest features, aligned with the finest in one step.

    Args:
        backbone: gives ordered features from fine to coarse; the last four are used, but for the second of them.
        num_classes: of the logits.
        aux_loss: whether there is an auxiliary head on the aligned features, whose logits are `"aux"`.
        width: channels of the decoder; None is as in SFNet.
        make_pyramid: makes what maps the coarsest features to the decoder, for the channels of both.
        make_lateral: makes the same for each of the finer features.
        make_alignment: makes what aligns the finest and the coarsest, for the decoder's channels.
        align_output: whether the last resize aligns corners; all others do.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        aux_loss: bool = False,
        *,
        width: int | None = None,
        make_pyramid: Callable[[int, int], nn.Module] = PyramidPoolingModule,
        make_lateral: Callable[[int, int], nn.Module] = lateral,
        make_alignment: Callable[[int], nn.Module] = GatedDualFlowAlignment,
        align_output: bool = True,
    ) -> None:
        super().__init__()
        fine, _, middle, top = last_features(backbone, LEVELS)
        width = width or width_for(top)
        self.features = read_features(backbone, fine, middle, top)
        self.backbone = backbone
        self.pyramid = make_pyramid(top.channels, width)
        self.lateral_fine = make_lateral(fine.channels, width)
        self.lateral_middle = make_lateral(middle.channels, width)
        self.alignment = make_alignment(width)
        self.classifier = ConvNormAct(2 * width, width, 3).append(nn.Conv2d(width, num_classes, 1))
        self.aux_classifier = Supervision(width, num_classes) if aux_loss else None
        self.upsampling = dict.fromkeys(["out", "aux"] if aux_loss else ["out"], ("bilinear", align_output))

    def forward_logits(self, images: Tensor) -> dict[str, Tensor]:
        """Returns logits at stride 4.

        Args:
            images: float (N, C, H, W), normalized RGB where C is 3.

        Returns:
            `"out"` and, with an auxiliary head, `"aux"`: float (N, K, H/4, W/4).
        """
        found = self.backbone(images)
        fine, middle, top = [found[name] for name in self.features]
        aligned = self.alignment(self.lateral_fine(fine), self.pyramid(top))
        between = resize(self.lateral_middle(middle), aligned, align_corners=True)
        outputs = {"out": self.classifier(torch.cat([aligned, between], dim=1))}
        if self.aux_classifier is not None:
            outputs["aux"] = self.aux_classifier(aligned)
        return outputs


@builder
def sfnet_lite(
    backbone: str,
    *,
    output_stride: int | None = None,
    backbone_options: Mapping[str, Any] | None = None,
    **common: Unpack[Common],
) -> SFNetLite:
    """SFNet-Lite on the named backbone.

    Args:
        backbone: name of the backbone, see `list_backbones`, or `timm:` and a name of timm.
        output_stride: pixels per feature of the backbone's last stages: 8, 16 or 32; None is 32.
        backbone_options: more options of the backbone's builder, as `{"stem": "deep"}` for ResNets.
    """
    return build_network(
        "sfnet_lite",
        on_features(SFNetLite),
        backbone=backbone,
        backbone_options=backbone_options,
        options={"output_stride": output_stride},
        defaults={"output_stride": 32},
        other_makes={
            "pixseg": "seg_models.networks.pixseg.sfnet_lite:make",
            "pixseg_fam_pooling": "seg_models.networks.pixseg.sfnet_lite:make_pooled",
        },
        **common,
    )


sfnet_lite_resnet18 = on_backbone(sfnet_lite, "resnet18")
sfnet_lite_resnet50 = on_backbone(sfnet_lite, "resnet50")
sfnet_lite_resnet101 = on_backbone(sfnet_lite, "resnet101")
