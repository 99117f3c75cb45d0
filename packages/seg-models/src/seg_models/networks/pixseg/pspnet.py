"""PSPNet as in pixseg, in three variants. https://github.com/CyrusCKF/PixSeg

Variant "pixseg" is that of version 0.8.2, whose release has the file pspnet_resnet50-cityscapes-512x1024. A single
convolution reduces the features and the pyramid's branches to as many channels as there are classes, with batch norm
and ReLU; torchvision's FCN head, a quarter as wide, maps those to logits.

The other two are older, from when it was named semantic_segmentation_toolkit. Their head is twice as wide as in the
paper's variant, 1024 channels on ResNet-50:

- "pixseg_20250222", of the files of that date (VOC), of 20250226 and 20250301 (Cityscapes), does not dilate the
  backbone: output stride 32
- "pixseg_20250304", of the Cityscapes file of that date, has output stride 8

Differs from the paper, in all three:
- dropout of single values, not of whole channels, before the logits
- what `seg_models.networks.pspnet` lists; the auxiliary head is the same too
"""

import torch
from torch import Tensor, nn

from seg_models.backbones.base import Backbone
from seg_models.builders.backbone import BackboneRecipe
from seg_models.layers import ConvNormAct, FCNHead, PyramidPooling
from seg_models.networks.pspnet import PSPNet

__all__ = ["PyramidContext", "build", "build_dilated", "build_undilated"]


class PyramidContext(nn.Module):
    """PSPNet's pyramid, concatenated after the features that it pools, and reduced.

    pixseg's UPerNet, SFNet and SFNet-Lite have it on top of their backbones.

    Args:
        in_channels: channels of the features.
        width: channels of each of the pyramid's branches, and of the result.
        kernel_size: kernel size of the convolution that reduces.
    """

    def __init__(self, in_channels: int, width: int, kernel_size: int = 1) -> None:
        super().__init__()
        self.pyramid = PyramidPooling(in_channels, width)
        self.reduce = ConvNormAct(in_channels + len(self.pyramid) * width, width, kernel_size).append(nn.Dropout(0.1))

    def forward(self, features: Tensor) -> Tensor:
        """Maps (N, C, h, w) to (N, width, h, w)."""
        return self.reduce(torch.cat([features, *self.pyramid(features)], dim=1))


def build(recipe: BackboneRecipe, num_classes: int, aux_loss: bool) -> PSPNet:
    """Builds variant "pixseg"."""
    backbone = recipe.build(output_stride=8)
    network = PSPNet(backbone, num_classes, aux_loss)
    network.bottleneck = ConvNormAct(_pooled_channels(backbone), num_classes, 1)
    # the source has no channels left in between for fewer than four classes
    network.classifier = FCNHead(num_classes, num_classes, max(num_classes // 4, 1))
    return network


def build_undilated(recipe: BackboneRecipe, num_classes: int, aux_loss: bool) -> PSPNet:
    """Builds variant "pixseg_20250222"."""
    return _build_wide(recipe.build(output_stride=32), num_classes, aux_loss)


def build_dilated(recipe: BackboneRecipe, num_classes: int, aux_loss: bool) -> PSPNet:
    """Builds variant "pixseg_20250304"."""
    return _build_wide(recipe.build(output_stride=8), num_classes, aux_loss)


def _build_wide(backbone: Backbone, num_classes: int, aux_loss: bool) -> PSPNet:
    network = PSPNet(backbone, num_classes, aux_loss)
    width = _pooled_channels(backbone) // 4
    network.bottleneck = ConvNormAct(_pooled_channels(backbone), width, 3)
    network.classifier = nn.Sequential(nn.Dropout(0.1), nn.Conv2d(width, num_classes, 1))
    return network


def _pooled_channels(backbone: Backbone) -> int:
    """Returns the channels of the features and the pyramid's branches together."""
    return 2 * backbone.feature_info[-1].channels
