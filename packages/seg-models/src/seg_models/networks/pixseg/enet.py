"""ENet as in pixseg. https://github.com/CyrusCKF/PixSeg

Variant "pixseg" is that of version 0.8.2, whose release has the file enet-cityscapes-512x1024, and of the older
enet-cityscapes-512x1024-20250304. It differs from the paper's variant:
- each PReLU has one slope for all channels
- a bottleneck works at a quarter of its input channels, so downsampling is narrower and upsampling wider; it does not
  end in batch norm, and dropout is 0.01 everywhere
- upsampling has a 2x2 transposed convolution
- the first convolution has a bias, the last has none
- the image is not padded. The sizes of features are rounded up once, then down twice: the pooled features ignore an
  odd row or column, which is zero after upsampling, before the next batch norm.

Features of images of less than 7 pixels a side, on which the source fails, are padded with zeros.
"""

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seg_core.errors import InvalidArgumentError
from seg_models.layers import ConvNormAct
from seg_models.networks.base import SegmentationNetwork

__all__ = ["ENet"]

INNER_RATIO = 4
DROPOUT = 0.01


def _prelu(_channels: int) -> nn.Module:
    return nn.PReLU()


def _fit(features: Tensor, height: int, width: int, value: float = 0.0) -> Tensor:
    """Returns the features at that size: padded with the value, or cropped, below and to the right."""
    return F.pad(features, (0, width - features.shape[-1], 0, height - features.shape[-2]), value=value)


# convolution without bias, batch norm, and PReLU with one slope
conv_norm_prelu = functools.partial(ConvNormAct, act=_prelu)


class Expansion(nn.Sequential):
    """The end of a bottleneck's branch: 1x1 convolution and spatial dropout."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.Dropout2d(DROPOUT))


class InitialBlock(nn.Module):
    """Half-size features, rounded up: a strided convolution, concatenated with the pooled image.

    Attributes:
        out_channels: filters and image channels together.
    """

    def __init__(self, in_channels: int, num_filters: int) -> None:
        super().__init__()
        self.out_channels = num_filters + in_channels
        self.conv = nn.Conv2d(in_channels, num_filters, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(self.out_channels)
        self.act = nn.PReLU()

    def forward(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, out_channels, H/2, W/2)."""
        filtered = self.conv(images)
        height, width = filtered.shape[-2:]
        pooled = F.max_pool2d(_fit(images, 2 * height, 2 * width, -torch.inf), 2)
        return self.act(self.norm(torch.cat([filtered, pooled], dim=1)))


class Bottleneck(nn.Module):
    """A residual block around a 3x3 convolution, dilated, or, with a dilation of 0, split into 5x1 and 1x5."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        inner = channels // INNER_RATIO
        if dilation == 0:
            middle = [conv_norm_prelu(inner, inner, (5, 1)), conv_norm_prelu(inner, inner, (1, 5))]
        else:
            middle = [conv_norm_prelu(inner, inner, 3, dilation=dilation)]
        self.extension = nn.Sequential(conv_norm_prelu(channels, inner, 1), *middle, Expansion(inner, channels))
        self.act = nn.PReLU()

    def forward(self, features: Tensor) -> Tensor:
        """Maps (N, channels, h, w) to the same shape."""
        return self.act(features + self.extension(features))


class Downsampling(nn.Module):
    """A bottleneck that halves height and width, rounded down but at least to one."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        inner = in_channels // INNER_RATIO
        self.new_channels = out_channels - in_channels
        self.extension = nn.Sequential(
            conv_norm_prelu(in_channels, inner, 2, stride=2),
            conv_norm_prelu(inner, inner, 3),
            Expansion(inner, out_channels),
        )
        self.act = nn.PReLU()

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Returns features (N, out_channels, h/2, w/2) and positions int64 (N, in_channels, h/2, w/2)."""
        height, width = features.shape[-2:]
        # cropped, so that positions refer to a plane of twice the pooled size
        features = _fit(features, 2 * max(height // 2, 1), 2 * max(width // 2, 1))
        pooled, positions = F.max_pool2d(features, 2, return_indices=True)
        widened = F.pad(pooled, (0, 0, 0, 0, 0, self.new_channels))
        return self.act(widened + self.extension(features)), positions


class Upsampling(nn.Module):
    """A bottleneck that doubles height and width; its shortcut is unpooling to the positions that pooling took."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        inner = in_channels // INNER_RATIO
        self.main = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels))
        self.reduction = conv_norm_prelu(in_channels, inner, 1)
        self.doubling = nn.ConvTranspose2d(inner, inner, 2, stride=2, bias=False)
        self.extension = nn.Sequential(nn.BatchNorm2d(inner), nn.PReLU(), Expansion(inner, out_channels))
        self.act = nn.PReLU()

    def forward(self, features: Tensor, positions: Tensor, like: Tensor) -> Tensor:
        """Maps (N, in_channels, h, w) and int64 (N, out_channels, h, w) to (N, out_channels, H, W).

        Args:
            features: features of the level below.
            positions: positions from the pooling that led to that level.
            like: (N, any, H, W), the tensor that was pooled.
        """
        height, width = like.shape[-2:]
        unpooled = _fit(F.max_unpool2d(self.main(features), positions, [2, 2]), height, width)
        doubled = _fit(self.doubling(self.reduction(features)), height, width)
        return self.act(unpooled + self.extension(doubled))


class ContextSection(nn.Sequential):
    """The eight bottlenecks 2.1 to 2.8, and again 3.1 to 3.8, of the paper's table 1."""

    def __init__(self, channels: int) -> None:
        super().__init__(*(Bottleneck(channels, dilation) for dilation in (1, 2, 0, 4, 1, 8, 0, 16)))


class ENet(SegmentationNetwork):
    """The whole network.

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
        self.down1 = Downsampling(width, 64)
        self.section1 = nn.Sequential(*(Bottleneck(64) for _ in range(4)))
        self.down2 = Downsampling(64, 128)
        self.section2 = ContextSection(128)
        self.section3 = ContextSection(128)
        self.up4 = Upsampling(128, 64)
        self.section4 = nn.Sequential(*(Bottleneck(64) for _ in range(2)))
        self.up5 = Upsampling(64, width)
        self.section5 = Bottleneck(width)
        self.classifier = nn.ConvTranspose2d(width, num_classes, 3, stride=2, padding=1, output_padding=1, bias=False)

    def forward_logits(self, images: Tensor) -> dict[str, Tensor]:
        """Returns `"out"` at the images' size."""
        half = self.initial(images)  # (N, 16, H/2, W/2)
        quarter, positions1 = self.down1(half)  # (N, 64, H/4, W/4)
        quarter = self.section1(quarter)
        features, positions2 = self.down2(quarter)  # (N, 128, H/8, W/8)
        features = self.section3(self.section2(features))
        features = self.section4(self.up4(features, positions2, quarter))  # (N, 64, H/4, W/4)
        features = self.section5(self.up5(features, positions1, half))  # (N, 16, H/2, W/2)
        height, width = images.shape[-2:]
        return {"out": _fit(self.classifier(features), height, width)}
