"""BiSeNet V2: bilateral network with guided aggregation for real-time semantic segmentation.

Changqian Yu, Changxin Gao, Jingbo Wang, Gang Yu, Chunhua Shen, Nong Sang, 2020. https://arxiv.org/abs/2004.02147
No code of the authors is known here; widely used: https://github.com/CoinCheung/BiSeNet, which mmsegmentation follows.
The structure is that of mmsegmentation, the initialization the paper's.

For a 512x1024 image 24.6 G multiply-accumulates at 19 classes, of which 9.8 G are the head's (paper, table 3: 21.15 G
in all). The paper does not say how wide the head is; it has 1024 channels in both codes, and 664 would give its number.

Differs from the paper:
- ReLU also follows the expanded depthwise convolution of a gather-and-expansion layer, and batch norm and ReLU the last
  convolution of the context embedding; ReLU also ends the aggregation. Both codes have them, the figures do not.
- convolutions of the aggregation that no batch norm follows have a bias, as in mmsegmentation
- dropout of 0.1 before all logits, as in both codes
- the booster's heads have two 3x3 convolutions, of 16, 64, 256 and 1024 channels from fine to coarse, as in
  mmsegmentation; the paper has one and does not say its width
- with a batch of one in train mode the branch pooled to one pixel normalizes with its running statistics
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seg_models.builders.build import build_network
from seg_models.builders.signatures import builder
from seg_models.layers import ConvNormAct, FCNHead, PooledBatchNorm2d, resize
from seg_models.networks.base import SegmentationNetwork

__all__ = ["BiSeNetV2", "bisenetv2"]

WIDTH = 128
HEAD_WIDTH = 1024
EXPANSION = 6
# channels of the semantic branch at 1/4, 1/8, 1/16 and 1/32, and of the heads there
SEMANTIC_WIDTHS = (16, 32, 64, WIDTH)
AUX_WIDTHS = (16, 64, 256, 1024)
LAYERS = (2, 2, 4)  # gather-and-expansion layers at 1/8, 1/16 and 1/32


class DetailBranch(nn.Sequential):
    """Wide and shallow, for detail (table 1): (N, C, H, W) to (N, 128, H/8, W/8)."""

    def __init__(self, in_channels: int) -> None:
        super().__init__(
            ConvNormAct(in_channels, 64, 3, stride=2),
            ConvNormAct(64, 64, 3),
            ConvNormAct(64, 64, 3, stride=2),
            ConvNormAct(64, 64, 3),
            ConvNormAct(64, 64, 3),
            ConvNormAct(64, WIDTH, 3, stride=2),
            ConvNormAct(WIDTH, WIDTH, 3),
            ConvNormAct(WIDTH, WIDTH, 3),
        )


class Stem(nn.Module):
    """Quarter-size features by a strided convolution and by pooling (figure 4a)."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.first = ConvNormAct(in_channels, width, 3, stride=2)
        self.strided = nn.Sequential(ConvNormAct(width, width // 2, 1), ConvNormAct(width // 2, width, 3, stride=2))
        self.join = ConvNormAct(2 * width, width, 3)

    def forward(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, width, H/4, W/4)."""
        half = self.first(images)
        pooled = F.max_pool2d(half, 3, stride=2, padding=1)
        return self.join(torch.cat([self.strided(half), pooled], dim=1))


class GatherExpansion(nn.Module):
    """A residual block around an expanded depthwise convolution, or two if it halves the size (figure 5)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        inner = EXPANSION * in_channels
        self.gather = ConvNormAct(in_channels, in_channels, 3)
        self.shortcut: nn.Module
        if stride == 1:
            self.expand = nn.Sequential(ConvNormAct(in_channels, inner, 3, groups=in_channels))
            self.shortcut = nn.Identity()
        else:
            self.expand = nn.Sequential(
                ConvNormAct(in_channels, inner, 3, stride=stride, groups=in_channels, act=None),
                ConvNormAct(inner, inner, 3, groups=inner),
            )
            self.shortcut = nn.Sequential(
                ConvNormAct(in_channels, in_channels, 3, stride=stride, groups=in_channels, act=None),
                ConvNormAct(in_channels, out_channels, 1, act=None),
            )
        self.project = ConvNormAct(inner, out_channels, 1, act=None)

    def forward(self, features: Tensor) -> Tensor:
        """Maps (N, C, h, w) to (N, out_channels, h/stride, w/stride)."""
        residual = self.project(self.expand(self.gather(features)))
        return (residual + self.shortcut(features)).relu()


class ContextEmbedding(nn.Module):
    """Adds features of the mean over the image (figure 4b): (N, 128, h, w) to the same shape.

    In training the second batch norm removes what the bias of the first adds, so that bias gets no gradient.
    """

    def __init__(self) -> None:
        super().__init__()
        self.context = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), PooledBatchNorm2d(WIDTH), ConvNormAct(WIDTH, WIDTH, 1, norm=PooledBatchNorm2d)
        )
        self.conv = ConvNormAct(WIDTH, WIDTH, 3)

    def forward(self, features: Tensor) -> Tensor:
        """Maps (N, 128, h, w) to the same shape."""
        return self.conv(features + self.context(features))


class SemanticBranch(nn.Module):
    """Narrow and deep, for context (table 1)."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.stem = Stem(in_channels, SEMANTIC_WIDTHS[0])
        self.stages = nn.ModuleList()
        for before, width, layers in zip(SEMANTIC_WIDTHS[:-1], SEMANTIC_WIDTHS[1:], LAYERS, strict=True):
            others = (GatherExpansion(width, width, 1) for _ in range(layers - 1))
            self.stages.append(nn.Sequential(GatherExpansion(before, width, 2), *others))
        self.embedding = ContextEmbedding()

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Returns the branch's result (N, 128, H/32, W/32), and features at 1/4, 1/8, 1/16, 1/32 for the booster."""
        features = [self.stem(images)]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return self.embedding(features[-1]), features


class Separable(nn.Sequential):
    """A depthwise 3x3 with batch norm and a pointwise convolution: (N, 128, h, w) to the same shape."""

    def __init__(self) -> None:
        super().__init__(ConvNormAct(WIDTH, WIDTH, 3, groups=WIDTH, act=None), nn.Conv2d(WIDTH, WIDTH, 1))


class GuidedAggregation(nn.Module):
    """Each branch gates the other at both sizes (figure 6): two (N, 128, h, w) to the larger one's shape."""

    def __init__(self) -> None:
        super().__init__()
        self.detail_fine = Separable()
        self.detail_coarse = nn.Sequential(
            ConvNormAct(WIDTH, WIDTH, 3, stride=2, act=None), nn.AvgPool2d(3, stride=2, padding=1)
        )
        self.semantic_fine = ConvNormAct(WIDTH, WIDTH, 3, act=None)
        self.semantic_coarse = Separable()
        self.join = ConvNormAct(WIDTH, WIDTH, 3)

    def forward(self, detail: Tensor, semantic: Tensor) -> Tensor:
        """Maps (N, 128, h, w) and (N, 128, h/4, w/4) to (N, 128, h, w)."""
        fine = self.detail_fine(detail) * resize(self.semantic_fine(semantic), detail).sigmoid()
        coarse = self.detail_coarse(detail) * self.semantic_coarse(semantic).sigmoid()
        return self.join(fine + resize(coarse, detail))


class BiSeNetV2(SegmentationNetwork):
    """Detail branch, semantic branch, guided aggregation (figure 3).

    Args:
        num_classes: channels of the logits.
        in_channels: channels of the images.
        aux_loss: whether to add the booster's heads on the semantic branch, from fine to coarse `"aux"`, `"aux_8x"`,
            `"aux_16x"` and `"aux_32x"`.
    """

    AUX = ("aux", "aux_8x", "aux_16x", "aux_32x")

    def __init__(self, num_classes: int, in_channels: int = 3, aux_loss: bool = False) -> None:
        super().__init__()
        self.detail = DetailBranch(in_channels)
        self.semantic = SemanticBranch(in_channels)
        self.aggregation = GuidedAggregation()
        self.classifier = FCNHead(WIDTH, num_classes, HEAD_WIDTH)
        heads = {
            name: nn.Sequential(ConvNormAct(channels, width, 3), FCNHead(width, num_classes, width))
            for name, channels, width in zip(self.AUX, SEMANTIC_WIDTHS, AUX_WIDTHS, strict=True)
        }
        self.aux_classifiers = nn.ModuleDict(heads) if aux_loss else None
        self.upsampling = dict.fromkeys(["out", *self.AUX] if aux_loss else ["out"], ("bilinear", False))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")  # as in section 5

    def forward_logits(self, images: Tensor) -> dict[str, Tensor]:
        """Returns `"out"` at stride 8 and, with auxiliary heads, `"aux"`, ..., `"aux_32x"` at 4, 8, 16 and 32."""
        semantic, features = self.semantic(images)
        outputs = {"out": self.classifier(self.aggregation(self.detail(images), semantic))}
        if self.aux_classifiers is not None:
            for name, level in zip(self.AUX, features, strict=True):
                outputs[name] = self.aux_classifiers[name](level)
        return outputs


@builder()
def bisenetv2(**arguments: Any) -> BiSeNetV2:
    """Builds BiSeNetV2; it has no backbone."""
    return build_network("bisenetv2", BiSeNetV2, arguments)
