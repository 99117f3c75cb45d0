"""FCN: fully convolutional networks for semantic segmentation.

Jonathan Long, Evan Shelhamer, Trevor Darrell, 2014. https://arxiv.org/abs/1411.4038
The authors' code: https://github.com/shelhamer/fcn.berkeleyvision.org
The structure on residual networks is torchvision's: https://github.com/pytorch/vision

`fcn_vgg16` is the paper's FCN-8s, 134.4 M parameters at 21 classes (paper, table 1: 134 M); `skips=1` and `skips=0` are
FCN-16s and FCN-32s.

Variant "mmsegmentation" (on ResNets) has the deep stem and a head of three 3x3 convolutions with batch norm, a quarter
as wide as the features; the third takes the features and the result of the second. Variant "mmsegmentation_769" also
aligns the corners of the upsampling. https://github.com/open-mmlab/mmsegmentation

Variant "pixseg" is torchvision's structure at output stride 32, on VGG without the layers of the former classifier:
`seg_models.networks.pixseg.fcn`.

Differs from the paper:
- any image size: the first convolution is not padded by 100 pixels, and the 7x7 of the former classifier is padded
  so that the size stays; what the authors' code crops is resized here
- upsampling is bilinear interpolation. The paper's is a transposed convolution that starts as that; the last of them,
  and in the authors' code all of them, are not learned.
- the convolutions on finer features are initialized as others are, not with zeros
- on backbones other than VGG: `skips=0`, dilation to output stride 8 instead of skips, and a head of a 3x3 and a 1x1
  convolution with batch norm and dropout, which is torchvision's structure. The paper has no residual networks, so
  variants "paper" and "torchvision" are one structure there; the latter sets the options.
- auxiliary logits from the features before the coarsest, as in torchvision
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from seg_core.errors import InvalidArgumentError
from seg_models.backbones.base import Backbone
from seg_models.builders.backbone import BackboneRecipe
from seg_models.builders.build import build_network
from seg_models.builders.options import BackboneOptions, OtherNetwork, Variants
from seg_models.builders.signatures import builder, on_backbone
from seg_models.layers import FCNHead, resize
from seg_models.networks.base import SegmentationNetwork, select_features
from seg_models.networks.mmsegmentation.fcn import ConcatHead
from seg_models.networks.mmsegmentation.variants import on_resnet

__all__ = [
    "FCN",
    "VARIANTS",
    "FCNOptions",
    "fcn",
    "fcn_resnet18",
    "fcn_resnet34",
    "fcn_resnet50",
    "fcn_resnet101",
    "fcn_vgg16",
]


@dataclass(frozen=True)
class FCNOptions(BackboneOptions):
    """The options of FCN.

    Attributes:
        output_stride: pixels per feature of the backbone's last stages: 8, 16 or 32. On VGG the default is 32.
        skips: number of finer features whose logits are added: 0, 1, 2 are FCN-32s, FCN-16s, FCN-8s at output stride
            32. On VGG the default is 2.
        concat_head: whether the head is mmsegmentation's of three 3x3 convolutions, the last of them on the features
            and the result of the others.
        align_corners: whether every resize keeps the corners' centers in place.
    """

    output_stride: int = 8
    skips: int = 0
    concat_head: bool = False
    align_corners: bool = False


VARIANTS: Variants = {
    "paper": {"vgg16*": FCNOptions(output_stride=32, skips=2), "*": FCNOptions()},
    "torchvision": FCNOptions(),
    **on_resnet(FCNOptions(concat_head=True)),
    "pixseg": OtherNetwork("seg_models.networks.pixseg.fcn:build"),
}


class FCN(SegmentationNetwork):
    """A backbone with a head on its coarsest features.

    Args:
        backbone: returns features from fine to coarse.
        classifier: maps the coarsest features to logits.
        skip_classifiers: the same for the features before, from coarse to fine; all logits are added up (figure 3).
        aux_classifier: the same for the features before the coarsest; its logits are `"aux"`.
        align_corners: whether every resize aligns corners.
    """

    def __init__(
        self,
        backbone: Backbone,
        classifier: nn.Module,
        skip_classifiers: Sequence[nn.Module] = (),
        aux_classifier: nn.Module | None = None,
        *,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        *finer, coarsest = backbone.feature_info
        finer.reverse()  # from coarse to fine
        skipped = finer[: len(skip_classifiers)]
        select_features(backbone, coarsest, *skipped, *(finer[:1] if aux_classifier is not None else []))
        self.coarsest, self.before = coarsest.name, finer[0].name
        self.skipped = [info.name for info in skipped]
        self.align_corners = align_corners
        self.backbone = backbone
        self.classifier = classifier
        self.skip_classifiers = nn.ModuleList(skip_classifiers)
        self.aux_classifier = aux_classifier
        names = ["out"] if aux_classifier is None else ["out", "aux"]
        self.upsampling = dict.fromkeys(names, ("bilinear", align_corners))

    def forward_logits(self, images: Tensor) -> dict[str, Tensor]:
        """Returns `"out"` and, with an auxiliary head, `"aux"`; 1/8 of H and W at output stride 8 or with two skips."""
        features = self.backbone(images)
        logits = self.classifier(features[self.coarsest])
        for name, classifier in zip(self.skipped, self.skip_classifiers, strict=True):
            finer = classifier(features[name])
            logits = finer + resize(logits, finer, align_corners=self.align_corners)
        outputs = {"out": logits}
        if self.aux_classifier is not None:
            outputs["aux"] = self.aux_classifier(features[self.before])
        return outputs


def _build(recipe: BackboneRecipe, options: FCNOptions, num_classes: int, aux_loss: bool) -> FCN:
    """Joins backbone and heads."""
    vgg = recipe.name.startswith("vgg16")
    backbone = recipe.build(output_stride=options.output_stride, **({"fully_convolutional": True} if vgg else {}))
    *finer, coarsest = backbone.feature_info
    finer.reverse()  # from coarse to fine
    if options.skips not in range(len(finer) + 1):
        raise InvalidArgumentError(f"skips must be 0 to {len(finer)} on this backbone, got {options.skips!r}")
    classifier: nn.Module
    if options.concat_head:
        classifier = ConcatHead(coarsest.channels, num_classes)
    elif vgg:
        classifier = nn.Conv2d(coarsest.channels, num_classes, 1)
    else:
        classifier = FCNHead(coarsest.channels, num_classes)
    return FCN(
        backbone,
        classifier,
        [nn.Conv2d(info.channels, num_classes, 1) for info in finer[: options.skips]],
        FCNHead(finer[0].channels, num_classes) if aux_loss else None,
        align_corners=options.align_corners,
    )


@builder(VARIANTS)
def fcn(backbone: str, **arguments: Any) -> FCN:
    """Builds FCN on the named backbone."""
    return build_network("fcn", _build, arguments, VARIANTS, backbone=backbone)


fcn_resnet18 = on_backbone(fcn, "resnet18")
fcn_resnet34 = on_backbone(fcn, "resnet34")
fcn_resnet50 = on_backbone(fcn, "resnet50")
fcn_resnet101 = on_backbone(fcn, "resnet101")
fcn_vgg16 = on_backbone(fcn, "vgg16")
