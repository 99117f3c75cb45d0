"""Fast-SCNN: fast semantic segmentation network.

Rudra P K Poudel, Stephan Liwicki, Roberto Cipolla, 2019. https://arxiv.org/abs/1902.04502
No code of the authors is known here; widely used: https://github.com/Tramac/Fast-SCNN-pytorch

Parameters: 1.138 M at 19 classes, and the paper's 1.11 M without the 23,680 of batch norms. Variant "mmsegmentation"
has a 3x3 convolution after the pyramid pooling, which is 262,144 parameters more, and no dilation in the fusion.

Differs from the paper:
- any image size: the coarse features are resized to the size of the fine ones, not by a factor of 4
- batch norm also follows convolutions that no non-linearity follows, as in mmsegmentation
- a 1x1 convolution joins the pyramid's branches with the features that they pool; the paper only names pyramid pooling
- dropout of 0.1 before the logits, and auxiliary heads of 32 channels, as in mmsegmentation; the paper gives neither
  the rate nor the heads' structure
- with a batch of one in train mode the branch pooled to one pixel normalizes with its running statistics
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from seg_core.errors import InvalidArgumentError
from seg_models.builders.build import build_network
from seg_models.builders.options import Options, Variants
from seg_models.builders.signatures import builder
from seg_models.layers import ConvNormAct, FCNHead, PyramidPooling, resize
from seg_models.networks.base import SegmentationNetwork

__all__ = ["VARIANTS", "FastSCNN", "FastSCNNOptions", "fast_scnn"]

FINE_WIDTH = 64  # of the features that both branches share
WIDTH = 128
AUX_WIDTH = 32
EXPANSION = 6
GROUPS = ((64, 2), (96, 2), (WIDTH, 1))  # channels and stride of each group of three bottlenecks


@dataclass(frozen=True)
class FastSCNNOptions(Options):
    """The options of Fast-SCNN.

    Attributes:
        pyramid_kernel: kernel size of the convolution after the pyramid pooling: 1 or 3.
        fusion_dilation: dilation of the depthwise convolution on the resized coarse features.
    """

    pyramid_kernel: int = 1
    fusion_dilation: int = 4


VARIANTS: Variants = {
    "paper": FastSCNNOptions(),
    "mmsegmentation": FastSCNNOptions(pyramid_kernel=3, fusion_dilation=1),
}


class SeparableConv(nn.Sequential):
    """A depthwise 3x3 and a pointwise convolution, each with batch norm, and one ReLU at the end (section 3.2.1)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__(
            ConvNormAct(in_channels, in_channels, 3, stride=stride, groups=in_channels, act=None),
            ConvNormAct(in_channels, out_channels, 1),
        )


class Bottleneck(nn.Module):
    """MobileNetV2's inverted bottleneck, residual if the shape stays (table 2)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        inner = EXPANSION * in_channels
        self.residual = stride == 1 and in_channels == out_channels
        self.layers = nn.Sequential(
            ConvNormAct(in_channels, inner, 1),
            ConvNormAct(inner, inner, 3, stride=stride, groups=inner),
            ConvNormAct(inner, out_channels, 1, act=None),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Maps (N, C, h, w) to (N, out_channels, h/stride, w/stride)."""
        residual = self.layers(features)
        return features + residual if self.residual else residual


class GlobalFeatureExtractor(nn.Module):
    """Nine bottlenecks and pyramid pooling: (N, 64, h, w) to (N, 128, h/4, w/4)."""

    def __init__(self, pyramid_kernel: int) -> None:
        super().__init__()
        blocks = []
        channels = FINE_WIDTH
        for width, first_stride in GROUPS:
            for stride in (first_stride, 1, 1):
                blocks.append(Bottleneck(channels, width, stride))
                channels = width
        self.bottlenecks = nn.Sequential(*blocks)
        self.pyramid = PyramidPooling(WIDTH, WIDTH // 4)
        self.join = ConvNormAct(2 * WIDTH, WIDTH, pyramid_kernel)

    def forward(self, features: Tensor) -> Tensor:
        """Maps (N, 64, h, w) to (N, 128, h/4, w/4)."""
        coarse = self.bottlenecks(features)
        return self.join(torch.cat([coarse, *self.pyramid(coarse)], dim=1))


class FeatureFusion(nn.Module):
    """Adds coarse features to fine ones (table 3)."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.coarse = nn.Sequential(
            ConvNormAct(WIDTH, WIDTH, 3, dilation=dilation, groups=WIDTH), ConvNormAct(WIDTH, WIDTH, 1, act=None)
        )
        self.fine = ConvNormAct(FINE_WIDTH, WIDTH, 1, act=None)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Maps (N, 64, h, w) and (N, 128, h', w') to (N, 128, h, w)."""
        return (self.fine(fine) + self.coarse(resize(coarse, fine))).relu()


class FastSCNN(SegmentationNetwork):
    """The whole network (table 1).

    Args:
        options: options of the network.
        num_classes: channels of the logits.
        in_channels: channels of the images.
        aux_loss: whether to add auxiliary heads on the fine features, at 1/8, whose logits are `"aux"`, and on the
            global ones, `"aux_32x"`.

    Raises:
        InvalidArgumentError: if `pyramid_kernel` is neither 1 nor 3.
    """

    def __init__(
        self, options: FastSCNNOptions, num_classes: int, in_channels: int = 3, aux_loss: bool = False
    ) -> None:
        super().__init__()
        if options.pyramid_kernel not in (1, 3):
            raise InvalidArgumentError(f"pyramid_kernel must be 1 or 3, got {options.pyramid_kernel!r}")
        self.learning_to_downsample = nn.Sequential(
            ConvNormAct(in_channels, 32, 3, stride=2),
            SeparableConv(32, 48, stride=2),
            SeparableConv(48, FINE_WIDTH, stride=2),
        )
        self.global_features = GlobalFeatureExtractor(options.pyramid_kernel)
        self.fusion = FeatureFusion(options.fusion_dilation)
        self.classifier = nn.Sequential(
            SeparableConv(WIDTH, WIDTH), SeparableConv(WIDTH, WIDTH), nn.Dropout(0.1), nn.Conv2d(WIDTH, num_classes, 1)
        )
        self.aux_classifier_32x = FCNHead(WIDTH, num_classes, AUX_WIDTH) if aux_loss else None
        self.aux_classifier = FCNHead(FINE_WIDTH, num_classes, AUX_WIDTH) if aux_loss else None
        names = ["out", "aux", "aux_32x"] if aux_loss else ["out"]
        self.upsampling = dict.fromkeys(names, ("bilinear", False))

    def forward_logits(self, images: Tensor) -> dict[str, Tensor]:
        """Returns `"out"` and, with auxiliary heads, `"aux"`, at stride 8, and `"aux_32x"` at stride 32."""
        fine = self.learning_to_downsample(images)  # (N, 64, H/8, W/8)
        coarse = self.global_features(fine)  # (N, 128, H/32, W/32)
        outputs = {"out": self.classifier(self.fusion(fine, coarse))}
        if self.aux_classifier is not None and self.aux_classifier_32x is not None:
            outputs["aux"] = self.aux_classifier(fine)
            outputs["aux_32x"] = self.aux_classifier_32x(coarse)
        return outputs


@builder(VARIANTS)
def fast_scnn(**arguments: Any) -> FastSCNN:
    """Builds Fast-SCNN; it has no backbone."""
    return build_network("fast_scnn", FastSCNN, arguments, VARIANTS)
