"""FCN: fully convolutional networks for semantic segmentation.

Jonathan Long, Evan Shelhamer, Trevor Darrell, 2014. https://arxiv.org/abs/1411.4038
The authors' code: https://github.com/shelhamer/fcn.berkeleyvision.org
The structure on residual networks is torchvision's: https://github.com/pytorch/vision

`fcn_vgg16` is the paper's FCN-8s, 134.4 M parameters at 21 classes (paper, table 1: 134 M); `skips=1` and `skips=0` are
FCN-16s and FCN-32s.

Variant "mmsegmentation" (on ResNets) has the deep stem and a head of three 3x3 convolutions with batch norm, a quarter
as wide as the features; the third is on the features and the result of the second. Variant "mmsegmentation_769" aligns
the corners of the upsampling besides. https://github.com/open-mmlab/mmsegmentation

Variant "pixseg" is torchvision's structure at output stride 32, on VGG without the layers of the former classifier.
https://github.com/CyrusCKF/PixSeg

Differs from the paper:
- any image size: the first convolution is not padded by 100 pixels, and the 7x7 of the former classifier is padded
  so that the size stays; what the authors' code crops is resized here
- upsampling is bilinear interpolation. The paper's is a transposed convolution that starts as that; the last of them,
  and in the authors' code all of them, are not learned.
- the scores of finer features start as other convolutions do, not from zero
- on other backbones than VGG: `skips=0`, dilation to output stride 8 in place of skips, and a head of a 3x3 and a 1x1
  convolution with batch norm and dropout, which is torchvision's structure. The paper has no residual networks, so
  variants "paper" and "torchvision" are one structure there; the latter fixes the options.
- auxiliary logits from the features before the coarsest, as in torchvision
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from seg_core.errors import InvalidArgumentError
from seg_models.backbones.base import Backbone
from seg_models.builders.build import build_network
from seg_models.builders.signatures import Common, builder, on_backbone
from seg_models.layers import ConvNormAct, FCNHead, resize
from seg_models.networks.base import SegmentationNetwork, read_features
from seg_models.networks.mmsegmentation.presets import on_resnet

__all__ = ["FCN", "fcn", "fcn_resnet18", "fcn_resnet34", "fcn_resnet50", "fcn_resnet101", "fcn_vgg16"]

PRESETS = {
    "torchvision": {"output_stride": 8, "skips": 0, "concat_head": False, "align_corners": False},
    **on_resnet(output_stride=8, skips=0, concat_head=True),
}
PIXSEG = {**PRESETS["torchvision"], "output_stride": 32}


class ConcatHead(nn.Module):
    """mmsegmentation's logits: two 3x3 convolutions, and a third on their result beside the features.

    Args:
        in_channels: of the features.
        num_classes: of the logits.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        width = in_channels // 4
        self.convs = nn.Sequential(ConvNormAct(in_channels, width, 3), ConvNormAct(width, width, 3))
        self.fusion = ConvNormAct(in_channels + width, width, 3)
        self.logits = nn.Sequential(nn.Dropout2d(0.1), nn.Conv2d(width, num_classes, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Maps (N, C, h, w) to (N, K, h, w)."""
        logits: Tensor = self.logits(self.fusion(torch.cat([features, self.convs(features)], dim=1)))
        return logits


class FCN(SegmentationNetwork):
    """A backbone with a head on its coarsest features.

    Args:
        backbone: gives ordered features from fine to coarse.
        classifier: of the coarsest features.
        skip_classifiers: of the features before, from coarse to fine; their logits are added up (figure 3).
        aux_classifier: of the features before the coarsest; its logits are `"aux"`.
        align_corners: of every resize.
    """

    def __init__(
        self,
        backbone: Backbone,
        classifier: nn.Module,
        skip_classifiers: list[nn.Module],
        aux_classifier: nn.Module | None = None,
        *,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        *finer, before, coarsest = backbone.feature_info
        skipped = [before, *reversed(finer)][: len(skip_classifiers)]
        aux = [] if aux_classifier is None else [before]
        self.coarsest, *self.others = read_features(backbone, coarsest, *skipped, *aux)
        self.align_corners = align_corners
        self.backbone = backbone
        self.classifier = classifier
        self.skip_classifiers = nn.ModuleList(skip_classifiers)
        self.aux_classifier = aux_classifier
        names = ["out"] if aux_classifier is None else ["out", "aux"]
        self.upsampling = dict.fromkeys(names, ("bilinear", align_corners))

    def forward_logits(self, images: Tensor) -> dict[str, Tensor]:
        """Returns logits at the features' size.

        Args:
            images: float (N, C, H, W), normalized RGB where C is 3.

        Returns:
            `"out"` and, with an auxiliary head, `"aux"`: float (N, K, h, w), 1/8 of H and W at output stride 8 or with
            two skips.
        """
        features = self.backbone(images)
        logits = self.classifier(features[self.coarsest])
        # where there is an auxiliary head, the last of the others is its own
        for name, classifier in zip(self.others, self.skip_classifiers, strict=False):
            score = classifier(features[name])
            logits = score + resize(logits, score, align_corners=self.align_corners)
        outputs = {"out": logits}
        if self.aux_classifier is not None:
            outputs["aux"] = self.aux_classifier(features[self.others[-1]])
        return outputs


def _make(
    make_backbone: Callable[..., Backbone],
    *,
    num_classes: int,
    aux_loss: bool,
    output_stride: int,
    skips: int,
    concat_head: bool,
    align_corners: bool,
    fully_convolutional: bool,
) -> FCN:
    """Joins backbone and heads."""
    own = {"fully_convolutional": True} if fully_convolutional else {}
    backbone = make_backbone(output_stride=output_stride, **own)
    *finer, before, coarsest = backbone.feature_info
    candidates = [before, *reversed(finer)]
    if skips not in range(len(candidates) + 1):
        raise InvalidArgumentError(f"skips must be 0 to {len(candidates)} on this backbone, got {skips!r}")
    if concat_head:
        classifier: nn.Module = ConcatHead(coarsest.channels, num_classes)
    elif fully_convolutional:
        classifier = nn.Conv2d(coarsest.channels, num_classes, 1)
    else:
        classifier = FCNHead(coarsest.channels, num_classes)
    return FCN(
        backbone,
        classifier,
        [nn.Conv2d(info.channels, num_classes, 1) for info in candidates[:skips]],
        FCNHead(before.channels, num_classes) if aux_loss else None,
        align_corners=align_corners,
    )


@builder
def fcn(
    backbone: str,
    *,
    output_stride: int | None = None,
    skips: int | None = None,
    concat_head: bool | None = None,
    align_corners: bool | None = None,
    backbone_options: Mapping[str, Any] | None = None,
    **common: Unpack[Common],
) -> FCN:
    """FCN on the named backbone.

    Args:
        backbone: name of the backbone, see `list_backbones`, or `timm:` and a name of timm.
        output_stride: pixels per feature of the backbone's last stages: 8, 16 or 32; None is 32 for VGG, else 8.
        skips: finer features whose logits are added: 0, 1, 2 are FCN-32s, FCN-16s, FCN-8s at output stride 32; None is
            2 for VGG, else 0.
        concat_head: whether the coarsest features' head is mmsegmentation's of three 3x3 convolutions, the last of them
            on the features and the result of the others; None is False.
        align_corners: whether every resize keeps the corners' centers in place; None is False.
        backbone_options: more options of the backbone's builder, as `{"stem": "deep"}` for ResNets.
    """
    vgg = backbone in ("vgg16", "vgg16_bn")
    return build_network(
        "fcn",
        functools.partial(_make, fully_convolutional=vgg),
        backbone=backbone,
        backbone_options=backbone_options,
        options={
            "output_stride": output_stride,
            "skips": skips,
            "concat_head": concat_head,
            "align_corners": align_corners,
        },
        defaults={
            "output_stride": 32 if vgg else 8,
            "skips": 2 if vgg else 0,
            "concat_head": False,
            "align_corners": False,
        },
        presets=PRESETS,
        other_makes={"pixseg": functools.partial(_make, fully_convolutional=False, **PIXSEG)},
        **common,
    )


fcn_resnet18 = on_backbone(fcn, "resnet18")
fcn_resnet34 = on_backbone(fcn, "resnet34")
fcn_resnet50 = on_backbone(fcn, "resnet50")
fcn_resnet101 = on_backbone(fcn, "resnet101")
fcn_vgg16 = on_backbone(fcn, "vgg16")
