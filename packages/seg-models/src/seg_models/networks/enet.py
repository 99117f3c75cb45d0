"""ENet: a deep neural network architecture for real-time semantic segmentation.

Adam Paszke, Abhishek Chaurasia, Sangpil Kim, Eugenio Culurciello, 2016. https://arxiv.org/abs/1606.02147
The authors' code: https://github.com/e-lab/ENet-training

Parameters: 0.366 M at 20 classes (paper: 0.37 M). For a 640x360 image 1.82 G multiply-accumulates in convolutions, or
3.64 G operations (paper: 3.83 G, which counts all operations).

Differs from the paper:
- any image size: sides are padded with zeros to a multiple of 8, below and to the right, and the result is cropped
- no convolution but the last has a bias (in the paper: no projection), since each is followed by batch norm
- the paper puts batch norm and PReLU between convolutions; here they are also between the two of an asymmetric pair,
  and batch norm follows the convolution that ends a branch, as in the authors' code
- the last convolution is 3x3; the paper gives no size, the authors' code has 2x2
- that code has ReLU and no dropout in the decoder; here, as in the text, PReLU and dropout are everywhere

Variant "pixseg" is another network: `seg_models.networks.pixseg.enet`.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seg_core.errors import InvalidArgumentError
from seg_models.builders.build import build_network
from seg_models.builders.options import Options, OtherNetwork, Variants
from seg_models.builders.signatures import builder
from seg_models.layers import ConvNormAct, PReLU
from seg_models.networks.base import SegmentationNetwork

__all__ = ["VARIANTS", "ENet", "enet"]

INNER_RATIO = 4  # a bottleneck works at a quarter of the channels that it returns
STRIDE = 8

VARIANTS: Variants = {"paper": Options(), "pixseg": OtherNetwork("seg_models.networks.pixseg.enet:ENet")}


class ConvNormPReLU(ConvNormAct):
    """Convolution without bias, batch norm, and PReLU with a slope per channel."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *,
        stride: int = 1,
        dilation: int = 1,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride=stride, dilation=dilation, act=PReLU)


class UpConvNormPReLU(nn.Sequential):
    """The same with a transposed 3x3 convolution that doubles height and width."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.ConvTranspose2d(in_channels, out_channels, 3, stride=2, padding=1, output_padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            PReLU(out_channels),
        )


class Expansion(nn.Sequential):
    """The end of a bottleneck's branch: 1x1 convolution, batch norm, spatial dropout."""

    def __init__(self, in_channels: int, out_channels: int, dropout: float) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.Dropout2d(dropout),
        )


class InitialBlock(nn.Module):
    """Half-size features: a strided convolution, concatenated with the pooled image (figure 2a).

    Attributes:
        out_channels: filters and image channels together.
    """

    def __init__(self, in_channels: int, num_filters: int) -> None:
        super().__init__()
        self.out_channels = num_filters + in_channels
        self.conv = nn.Conv2d(in_channels, num_filters, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(self.out_channels)
        self.act = PReLU(self.out_channels)

    def forward(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, out_channels, H/2, W/2)."""
        joined = torch.cat([self.conv(images), F.max_pool2d(images, 2)], dim=1)
        return self.act(self.norm(joined))


class Bottleneck(nn.Module):
    """A residual block around a 3x3 convolution, dilated, or split into 5x1 and 1x5 (figure 2b)."""

    def __init__(self, channels: int, dropout: float, *, dilation: int = 1, asymmetric: bool = False) -> None:
        super().__init__()
        inner = channels // INNER_RATIO
        if asymmetric:
            middle = [
                ConvNormPReLU(inner, inner, (5, 1)),
                ConvNormPReLU(inner, inner, (1, 5)),
            ]
        else:
            middle = [ConvNormPReLU(inner, inner, 3, dilation=dilation)]
        self.extension = nn.Sequential(ConvNormPReLU(channels, inner, 1), *middle, Expansion(inner, channels, dropout))
        self.act = PReLU(channels)

    def forward(self, features: Tensor) -> Tensor:
        """Maps (N, channels, h, w) to the same shape."""
        return self.act(features + self.extension(features))


class Downsampling(nn.Module):
    """A bottleneck that halves height and width; its shortcut is max pooling, with zeros for the new channels."""

    def __init__(self, in_channels: int, out_channels: int, dropout: float) -> None:
        super().__init__()
        inner = out_channels // INNER_RATIO
        self.new_channels = out_channels - in_channels
        self.extension = nn.Sequential(
            ConvNormPReLU(in_channels, inner, 2, stride=2),
            ConvNormPReLU(inner, inner, 3),
            Expansion(inner, out_channels, dropout),
        )
        self.act = PReLU(out_channels)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Returns features (N, out_channels, h/2, w/2) and positions int64 (N, in_channels, h/2, w/2)."""
        pooled, positions = F.max_pool2d(features, 2, return_indices=True)
        widened = F.pad(pooled, (0, 0, 0, 0, 0, self.new_channels))
        return self.act(widened + self.extension(features)), positions


class Upsampling(nn.Module):
    """A bottleneck that doubles height and width; its shortcut is unpooling to the positions that pooling took."""

    def __init__(self, in_channels: int, out_channels: int, dropout: float) -> None:
        super().__init__()
        inner = out_channels // INNER_RATIO
        self.main = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels))
        self.extension = nn.Sequential(
            ConvNormPReLU(in_channels, inner, 1), UpConvNormPReLU(inner, inner), Expansion(inner, out_channels, dropout)
        )
        self.act = PReLU(out_channels)

    def forward(self, features: Tensor, positions: Tensor) -> Tensor:
        """Maps (N, in_channels, h, w) and int64 (N, out_channels, h, w) to (N, out_channels, 2h, 2w)."""
        unpooled = F.max_unpool2d(self.main(features), positions, [2, 2])
        return self.act(unpooled + self.extension(features))


class ContextSection(nn.Sequential):
    """The eight bottlenecks 2.1 to 2.8, and again 3.1 to 3.8, that enlarge the receptive field (table 1)."""

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__(
            Bottleneck(channels, dropout),
            Bottleneck(channels, dropout, dilation=2),
            Bottleneck(channels, dropout, asymmetric=True),
            Bottleneck(channels, dropout, dilation=4),
            Bottleneck(channels, dropout),
            Bottleneck(channels, dropout, dilation=8),
            Bottleneck(channels, dropout, asymmetric=True),
            Bottleneck(channels, dropout, dilation=16),
        )


class ENet(SegmentationNetwork):
    """The whole network (table 1).

    Args:
        num_classes: channels of the logits.
        in_channels: channels of the images, at most 51: the pooled image is among the first features.

    Raises:
        InvalidArgumentError: if `in_channels` is over 51.
    """

    def __init__(self, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        self.upsampling = {"out": None}
        self.initial = InitialBlock(in_channels, num_filters=13)
        width = self.initial.out_channels  # 16 for RGB
        if width > 64:
            raise InvalidArgumentError(f"in_channels must be at most 51 for ENet, got {in_channels}")
        self.down1 = Downsampling(width, 64, dropout=0.01)
        self.section1 = nn.Sequential(*(Bottleneck(64, dropout=0.01) for _ in range(4)))
        self.down2 = Downsampling(64, 128, dropout=0.1)
        self.section2 = ContextSection(128, dropout=0.1)
        self.section3 = ContextSection(128, dropout=0.1)
        self.up4 = Upsampling(128, 64, dropout=0.1)
        self.section4 = nn.Sequential(*(Bottleneck(64, dropout=0.1) for _ in range(2)))
        self.up5 = Upsampling(64, width, dropout=0.1)
        self.section5 = Bottleneck(width, dropout=0.1)
        self.classifier = nn.ConvTranspose2d(width, num_classes, 3, stride=2, padding=1, output_padding=1)

    def forward_logits(self, images: Tensor) -> dict[str, Tensor]:
        """Returns `"out"` at the images' size."""
        height, width = images.shape[-2:]
        # always padded, even by nothing: a branch on the size would tie an exported program to one kind of size
        rows, columns = (height + STRIDE - 1) // STRIDE, (width + STRIDE - 1) // STRIDE
        padded = F.pad(images, (0, columns * STRIDE - width, 0, rows * STRIDE - height))
        features = self.initial(padded)  # (N, 16, H/2, W/2)
        features, positions1 = self.down1(features)  # (N, 64, H/4, W/4)
        features = self.section1(features)
        features, positions2 = self.down2(features)  # (N, 128, H/8, W/8)
        features = self.section3(self.section2(features))
        features = self.section4(self.up4(features, positions2))  # (N, 64, H/4, W/4)
        features = self.section5(self.up5(features, positions1))  # (N, 16, H/2, W/2)
        return {"out": F.pad(self.classifier(features), (0, width - columns * STRIDE, 0, height - rows * STRIDE))}


@builder(VARIANTS)
def enet(**arguments: Any) -> SegmentationNetwork:
    """Builds ENet; it has neither backbone nor auxiliary heads, and takes images of at most 51 channels."""
    return build_network("enet", ENet, arguments, VARIANTS)
