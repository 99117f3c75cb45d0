"""FCN: fully convolutional networks for semantic segmentation, on residual networks.

Jonathan Long, Evan Shelhamer, Trevor Darrell, 2014. https://arxiv.org/abs/1411.4038
The structure on residual networks is torchvision's: https://github.com/pytorch/vision

Differs from the paper:
- it has no residual networks; forms "paper" and "torchvision" are therefore one structure. Form "torchvision", which
  torchvision's checkpoints need, fixes the output stride at 8.
- no skip connections: the backbone keeps its resolution by dilation instead
- a head of two convolutions, with batch norm and dropout, in place of the paper's convolutional classifier layers
"""

import functools
import os
from collections.abc import Callable

from torch import Tensor, nn

from seg_core.weights import WeightsEnum
from seg_models.backbones.resnet import ResNet, resnet34, resnet50
from seg_models.building import build_network
from seg_models.networks.base import SegmentationNetwork

__all__ = ["FCN", "fcn_resnet34", "fcn_resnet50"]

DEFAULTS = {"output_stride": 8}
PRESETS = {"torchvision": {"output_stride": 8}}


class FCNHead(nn.Sequential):
    """Class logits at the features' size: float (N, C, h, w) to (N, K, h, w)."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        inner = in_channels // 4
        super().__init__(
            nn.Conv2d(in_channels, inner, 3, padding=1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Conv2d(inner, num_classes, 1),
        )


class FCN(SegmentationNetwork):
    """A backbone with a head on its coarsest features, and where asked an auxiliary head on those before.

    Args:
        backbone: gives ordered features from fine to coarse.
        num_classes: of the logits.
        aux_loss: whether there is an auxiliary head, whose logits are `"aux"`.
    """

    def __init__(self, backbone: ResNet, num_classes: int, aux_loss: bool = False) -> None:
        super().__init__()
        *_, before, coarsest = backbone.feature_info
        self.backbone = backbone
        self.classifier = FCNHead(coarsest.channels, num_classes)
        self.aux_classifier = FCNHead(before.channels, num_classes) if aux_loss else None
        self.upsampling = dict.fromkeys(["out", "aux"] if aux_loss else ["out"], ("bilinear", False))

    def forward_logits(self, images: Tensor) -> dict[str, Tensor]:
        """Returns logits at the features' size.

        Args:
            images: float (N, C, H, W), normalised RGB where C is 3.

        Returns:
            `"out"` and, with an auxiliary head, `"aux"`: float (N, K, h, w), 1/8 of H and W at output stride 8.
        """
        *_, before, coarsest = self.backbone(images).values()
        outputs = {"out": self.classifier(coarsest)}
        if self.aux_classifier is not None:
            outputs["aux"] = self.aux_classifier(before)
        return outputs


def _fcn(
    resnet: Callable[..., ResNet],
    weights_backbone: object,
    progress: bool,
    *,
    num_classes: int,
    in_channels: int,
    aux_loss: bool,
    output_stride: int,
) -> FCN:
    """Joins a ResNet and the heads."""
    backbone = resnet(weights=weights_backbone, progress=progress, in_channels=in_channels, output_stride=output_stride)
    return FCN(backbone, num_classes, aux_loss)


def fcn_resnet34(
    *,
    weights: WeightsEnum | str | os.PathLike[str] | None = None,
    progress: bool = True,
    num_classes: int | None = None,
    aux_loss: bool | None = None,
    weights_backbone: object = None,
    in_channels: int = 3,
    form: str | None = None,
    output_stride: int | None = None,
) -> FCN:
    """FCN on ResNet-34, dilated to output stride 8.

    Args:
        weights: a checkpoint file, or None for fresh parameters (none are published).
        progress: whether a download shows a bar.
        num_classes: of the logits; None takes that of the weights, or 21.
        aux_loss: whether there are auxiliary logits `"aux"` from the third stage; None is False.
        weights_backbone: member of torchvision's `ResNet34_Weights`, its name, or None for fresh parameters.
        in_channels: channels of the images.
        form: `"paper"` or `"torchvision"`, one structure; the latter fixes the output stride.
        output_stride: pixels per feature of the backbone's last stages: 8, 16 or 32; None is 8.

    Raises:
        UnknownNameError: if the weights or the form do not exist.
        InvalidArgumentError: if an option has a value outside of what is allowed or contradicts another.
        CorruptFileError: if the checkpoint is damaged or of another network.
    """
    return build_network(
        "fcn_resnet34",
        functools.partial(_fcn, resnet34, weights_backbone, progress),
        weights=weights,
        progress=progress,
        num_classes=num_classes,
        aux_loss=aux_loss,
        weights_backbone=weights_backbone,
        in_channels=in_channels,
        form=form,
        options={"output_stride": output_stride},
        defaults=DEFAULTS,
        presets=PRESETS,
    )


def fcn_resnet50(
    *,
    weights: WeightsEnum | str | os.PathLike[str] | None = None,
    progress: bool = True,
    num_classes: int | None = None,
    aux_loss: bool | None = None,
    weights_backbone: object = None,
    in_channels: int = 3,
    form: str | None = None,
    output_stride: int | None = None,
) -> FCN:
    """FCN on ResNet-50, dilated to output stride 8.

    Args:
        weights: member of `FCN_ResNet50_Weights`, its name, `"DEFAULT"`, a checkpoint file, or None
            for fresh parameters.
        progress: whether a download shows a bar.
        num_classes: of the logits; None takes that of the weights, or 21.
        aux_loss: whether there are auxiliary logits `"aux"` from the third stage; None is False.
        weights_backbone: member of torchvision's `ResNet50_Weights`, its name, or None for fresh parameters.
        in_channels: channels of the images.
        form: `"paper"` or `"torchvision"`, one structure; the latter fixes the output stride.
        output_stride: pixels per feature of the backbone's last stages: 8, 16 or 32; None is 8.

    Raises:
        UnknownNameError: if the weights or the form do not exist.
        InvalidArgumentError: if an option has a value outside of what is allowed or contradicts another.
        CorruptFileError: if the checkpoint is damaged or of another network.
    """
    return build_network(
        "fcn_resnet50",
        functools.partial(_fcn, resnet50, weights_backbone, progress),
        weights=weights,
        progress=progress,
        num_classes=num_classes,
        aux_loss=aux_loss,
        weights_backbone=weights_backbone,
        in_channels=in_channels,
        form=form,
        options={"output_stride": output_stride},
        defaults=DEFAULTS,
        presets=PRESETS,
    )
