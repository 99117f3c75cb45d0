"""PSPNet as pixseg built it, in three variants. https://github.com/CyrusCKF/PixSeg

Variant "pixseg" is of version 0.8.2, whose release has the file pspnet_resnet50-cityscapes-512x1024. There the features
and the pyramid's branches are reduced at once to as many channels as there are classes, with batch norm and ReLU, and
torchvision's FCN head maps those to logits through a quarter as many.

The others are of its history, under the name semantic_segmentation_toolkit. There the head is twice as wide as in the
paper's variant, 1024 channels on ResNet-50:

- "pixseg_20250222", of the files of that date (VOC), of 20250226 and 20250301 (Cityscapes), leaves the backbone
  undilated: output stride 32
- "pixseg_20250304", of the Cityscapes file of that date, has output stride 8

Differs from the paper, in all of them:
- dropout of single values, not of whole channels, before the logits
- what is said in `seg_models.networks.pspnet`; the auxiliary head is the same too
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from seg_models.backbones.base import Backbone
from seg_models.layers import ConvNormAct, FCNHead, PyramidPooling
from seg_models.networks.pspnet import PSPNet

__all__ = ["PyramidContext", "make", "make_dilated", "make_undilated"]


class PyramidContext(nn.Module):
    """PSPNet's pyramid behind the features that it pools, reduced; pixseg's other networks end their backbones with it.

    Args:
        in_channels: of the features.
        width: of each of the pyramid's branches, and of the result.
        kernel_size: of the convolution that reduces.
    """

    def __init__(self, in_channels: int, width: int, kernel_size: int = 1) -> None:
        super().__init__()
        self.pyramid = PyramidPooling(in_channels, width)
        self.reduce = ConvNormAct(in_channels + len(self.pyramid) * width, width, kernel_size).append(nn.Dropout(0.1))

    def forward(self, features: Tensor) -> Tensor:
        """Maps (N, C, h, w) to (N, width, h, w)."""
        reduced: Tensor = self.reduce(torch.cat([features, *self.pyramid(features)], dim=1))
        return reduced


def make(make_backbone: Callable[..., Backbone], *, num_classes: int, aux_loss: bool) -> PSPNet:
    """Makes variant "pixseg"."""
    backbone = make_backbone(output_stride=8)
    network = PSPNet(backbone, num_classes, aux_loss)
    network.bottleneck = ConvNormAct(_joined(backbone), num_classes, 1)
    # the source has no channels left in between for fewer than four classes
    network.classifier = FCNHead(num_classes, num_classes, max(num_classes // 4, 1))
    return network


def make_undilated(make_backbone: Callable[..., Backbone], *, num_classes: int, aux_loss: bool) -> PSPNet:
    """Makes variant "pixseg_20250222"."""
    return _make_wide(make_backbone(output_stride=32), num_classes, aux_loss)


def make_dilated(make_backbone: Callable[..., Backbone], *, num_classes: int, aux_loss: bool) -> PSPNet:
    """Makes variant "pixseg_20250304"."""
    return _make_wide(make_backbone(output_stride=8), num_classes, aux_loss)


def _make_wide(backbone: Backbone, num_classes: int, aux_loss: bool) -> PSPNet:
    network = PSPNet(backbone, num_classes, aux_loss)
    width = _joined(backbone) // 4
    network.bottleneck = ConvNormAct(_joined(backbone), width, 3)
    network.classifier = nn.Sequential(nn.Dropout(0.1), nn.Conv2d(width, num_classes, 1))
    return network


def _joined(backbone: Backbone) -> int:
    """Channels of the features and the pyramid's branches side by side."""
    return 2 * backbone.feature_info[-1].channels
