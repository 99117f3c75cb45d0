"""PSPNet: pyramid scene parsing network.

Hengshuang Zhao, Jianping Shi, Xiaojuan Qi, Xiaogang Wang, Jiaya Jia, 2016. https://arxiv.org/abs/1612.01105
The authors' code: https://github.com/hszhao/PSPNet

Differs from the paper:
- the stem of the ResNets is torchvision's 7x7 convolution, for its ImageNet weights; the authors' has three 3x3 of 64,
  64 and 128 channels. `backbone_options={"stem": "deep"}` is mmsegmentation's of that kind, of 32, 32 and 64.
- upsampling does not align corners unless `align_corners=True`; the authors' code does
- the head is a quarter as wide as the coarsest features: 512 channels on ResNet-50 and -101 as in the authors' code,
  128 on ResNet-18, which the paper does not have
- with a batch of one in train mode the branch pooled to one pixel normalizes with its running statistics

Variant "mmsegmentation" has the deep stem, "mmsegmentation_plain" (on ResNet-18) the plain one; with "_769" after
either every resize aligns corners. https://github.com/open-mmlab/mmsegmentation
Variants "pixseg", "pixseg_20250222" and "pixseg_20250304" have other heads: `seg_models.networks.pixseg.pspnet`.
"""

from collections.abc import Mapping
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from seg_models.backbones.base import Backbone
from seg_models.builders.build import build_network, on_features
from seg_models.builders.signatures import Common, builder, on_backbone
from seg_models.layers import ConvNormAct, FCNHead, PyramidPooling
from seg_models.networks.base import SegmentationNetwork, read_features
from seg_models.networks.mmsegmentation.presets import on_resnet

__all__ = ["PSPNet", "pspnet", "pspnet_resnet18", "pspnet_resnet50", "pspnet_resnet101"]

PRESETS = on_resnet(output_stride=8)


class PSPNet(SegmentationNetwork):
    """A dilated backbone with pyramid pooling on its coarsest features (figure 3).

    Args:
        backbone: gives ordered features from fine to coarse.
        num_classes: of the logits.
        aux_loss: whether there is an auxiliary head on the features before the coarsest, whose logits are `"aux"`.
        align_corners: of every resize.
    """

    def __init__(
        self, backbone: Backbone, num_classes: int, aux_loss: bool = False, *, align_corners: bool = False
    ) -> None:
        super().__init__()
        *_, before, coarsest = backbone.feature_info
        width = coarsest.channels // 4
        self.features = read_features(backbone, coarsest, *([before] if aux_loss else []))
        self.backbone = backbone
        self.pyramid = PyramidPooling(coarsest.channels, width, align_corners=align_corners)
        self.bottleneck = ConvNormAct(coarsest.channels + len(self.pyramid) * width, width, 3)
        self.classifier = nn.Sequential(nn.Dropout2d(0.1), nn.Conv2d(width, num_classes, 1))
        self.aux_classifier = FCNHead(before.channels, num_classes) if aux_loss else None
        self.upsampling = dict.fromkeys(["out", "aux"] if aux_loss else ["out"], ("bilinear", align_corners))

    def forward_logits(self, images: Tensor) -> dict[str, Tensor]:
        """Returns logits at the features' size.

        Args:
            images: float (N, C, H, W), normalized RGB where C is 3.

        Returns:
            `"out"` and, with an auxiliary head, `"aux"`: float (N, K, h, w), 1/8 of H and W at output stride 8.
        """
        found = self.backbone(images)
        coarsest, *before = [found[name] for name in self.features]
        joined = torch.cat([coarsest, *self.pyramid(coarsest)], dim=1)
        outputs = {"out": self.classifier(self.bottleneck(joined))}
        if self.aux_classifier is not None:
            outputs["aux"] = self.aux_classifier(*before)
        return outputs


@builder
def pspnet(
    backbone: str,
    *,
    output_stride: int | None = None,
    align_corners: bool | None = None,
    backbone_options: Mapping[str, Any] | None = None,
    **common: Unpack[Common],
) -> PSPNet:
    """PSPNet on the named backbone.

    Args:
        backbone: name of the backbone, see `list_backbones`, or `timm:` and a name of timm.
        output_stride: pixels per feature of the backbone's last stages: 8, 16 or 32; None is 8.
        align_corners: whether every resize keeps the corners' centers in place; None is False.
        backbone_options: more options of the backbone's builder, as `{"stem": "deep"}` for ResNets.
    """
    return build_network(
        "pspnet",
        on_features(PSPNet),
        backbone=backbone,
        backbone_options=backbone_options,
        options={"output_stride": output_stride, "align_corners": align_corners},
        defaults={"output_stride": 8, "align_corners": False},
        presets=PRESETS,
        other_makes={
            "pixseg": "seg_models.networks.pixseg.pspnet:make",
            "pixseg_20250222": "seg_models.networks.pixseg.pspnet:make_undilated",
            "pixseg_20250304": "seg_models.networks.pixseg.pspnet:make_dilated",
        },
        **common,
    )


pspnet_resnet18 = on_backbone(pspnet, "resnet18")
pspnet_resnet50 = on_backbone(pspnet, "resnet50")
pspnet_resnet101 = on_backbone(pspnet, "resnet101")
