"""Building blocks used by several networks."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

__all__ = [
    "ConvNormAct",
    "FCNHead",
    "PReLU",
    "PooledBatchNorm2d",
    "PyramidPooling",
    "SeparableConv",
    "adaptive_average_pool",
    "relu",
    "resize",
]


def relu(_channels: int) -> nn.Module:
    """Returns ReLU; takes the number of channels, as all activations of these blocks do."""
    return nn.ReLU(inplace=True)


class ConvNormAct(nn.Sequential):
    """Convolution without bias, batch norm, activation; with stride 1 and odd kernels the size is kept.

    Args:
        in_channels: channels of the features.
        out_channels: channels of the result.
        kernel_size: height and width, or one number for both.
        stride: stride of the convolution.
        dilation: dilation of the convolution.
        groups: groups of the convolution.
        act: builds the activation for a number of channels; None is no activation.
        norm: builds the norm for a number of channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int] = 3,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        act: Callable[[int], nn.Module] | None = relu,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ) -> None:
        height, width = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
        padding = (dilation * (height - 1) // 2, dilation * (width - 1) // 2)
        super().__init__(
            nn.Conv2d(in_channels, out_channels, (height, width), stride, padding, dilation, groups, bias=False),
            norm(out_channels),
        )
        if act is not None:
            self.append(act(out_channels))


class SeparableConv(nn.Sequential):
    """A depthwise 3x3 and a pointwise convolution, each with batch norm and ReLU, as in MobileNet and DeepLabV3+.

    Args:
        in_channels: channels of the features.
        out_channels: channels of the result.
        dilation: dilation of the depthwise convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, dilation: int = 1) -> None:
        super().__init__(
            ConvNormAct(in_channels, in_channels, 3, dilation=dilation, groups=in_channels),
            ConvNormAct(in_channels, out_channels, 1),
        )


class PooledBatchNorm2d(nn.BatchNorm2d):
    """Batch norm for features pooled to one pixel: with a batch of one it normalizes with its running statistics.

    A single value per channel has no variance to train with. For any other batch, size and mode it is `nn.BatchNorm2d`.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Maps float (N, C, h, w) to the same shape."""
        if self.training and features.shape[0] * features.shape[2] * features.shape[3] == 1:
            return F.batch_norm(features, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(features)


class FCNHead(nn.Sequential):
    """Class logits at the features' size: float (N, C, h, w) to (N, K, h, w); torchvision's head of FCN.

    Args:
        in_channels: channels of the features.
        num_classes: channels of the logits.
        width: channels in between; None is a quarter of `in_channels`.
    """

    def __init__(self, in_channels: int, num_classes: int, width: int | None = None) -> None:
        width = width or in_channels // 4
        super().__init__(
            nn.Conv2d(in_channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Dropout(0.1),
            nn.Conv2d(width, num_classes, 1),
        )


class PyramidPooling(nn.ModuleList):
    """The branches of PSPNet's pyramid (its figure 3): means of regions, reduced by a 1x1 convolution.

    With a batch of one in train mode, the branch whose map is 1x1 normalizes with its running statistics.

    Args:
        in_channels: channels of the features.
        width: channels of each branch.
        bins: number of regions along each side, for each branch.
        act: as in `ConvNormAct`.
        align_corners: whether the resize back to the features' size aligns corners.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        bins: tuple[int, ...] = (1, 2, 3, 6),
        *,
        act: Callable[[int], nn.Module] | None = relu,
        align_corners: bool = False,
    ) -> None:
        super().__init__(ConvNormAct(in_channels, width, 1, act=act, norm=PooledBatchNorm2d) for _ in bins)
        self.bins = bins
        self.align_corners = align_corners

    def forward(self, features: Tensor) -> list[Tensor]:
        """Maps float (N, C, h, w) to a tensor (N, width, h, w) for each of the bins."""
        pooled = (branch(adaptive_average_pool(features, size)) for branch, size in zip(self, self.bins, strict=True))
        return [resize(branch, features, align_corners=self.align_corners) for branch in pooled]


def adaptive_average_pool(features: Tensor, size: int) -> Tensor:
    """Returns the means over `size` x `size` equal regions, as `F.adaptive_avg_pool2d`.

    Exporters cannot write that operation for a height and width known only at run time. A program that is compiled or
    exported therefore computes the same means as a matrix product.

    Args:
        features: float (N, C, h, w).
        size: regions along each side.

    Returns:
        float (N, C, size, size).
    """
    if size == 1 or not torch.compiler.is_compiling():
        return F.adaptive_avg_pool2d(features, size)
    rows = _averaging_matrix(features.shape[2], size, features)
    columns = _averaging_matrix(features.shape[3], size, features)
    regions = (rows[:, None, :, None] * columns[None, :, None, :]).flatten(2).flatten(0, 1)  # (size * size, h * w)
    return F.linear(features.flatten(2), regions).view(*features.shape[:2], size, size)


def _averaging_matrix(length: int, bins: int, like: Tensor) -> Tensor:
    """(bins, length): bin b is the mean of positions floor(b * length / bins) to ceil((b + 1) * length / bins)."""
    index = torch.arange(bins, device=like.device).unsqueeze(1)
    position = torch.arange(length, device=like.device).unsqueeze(0)
    # position < ceil(x / bins) and position >= floor(y / bins), without rounding
    inside = ((position + 1) * bins > index * length) & (position * bins < (index + 1) * length)
    weights = inside.to(like.dtype)
    return weights / weights.sum(1, keepdim=True)


def resize(features: Tensor, like: Tensor, mode: str = "bilinear", align_corners: bool = False) -> Tensor:
    """Returns the features at the height and width of `like`.

    Args:
        features: float (N, C, h, w).
        like: (N, any, H, W).
        mode: `"bilinear"` or `"nearest"`.
        align_corners: whether the corners' centers stay in place; for bilinear only.
    """
    if mode == "nearest":
        return F.interpolate(features, size=like.shape[-2:], mode=mode)
    return F.interpolate(features, size=like.shape[-2:], mode=mode, align_corners=align_corners)


class PReLU(nn.PReLU):
    """PReLU with a slope per channel: `max(x, 0) + slope * min(x, 0)`, faster to train on a CPU than `torch.nn.PReLU`.

    torch's CPU kernels for a slope per channel are slow, above all backward: half of a training step of ENet. A few
    vectorized passes over the whole tensor take a third of that time. Elsewhere (inference, other devices, compiled or
    exported programs) this is `torch.nn.PReLU`.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Maps float (N, C, H, W) to the same shape."""
        if features.device.type != "cpu" or not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return super().forward(features)
        slope = self.weight.to(features.dtype).view(-1, 1, 1)
        return _RowwisePReLU.apply(features, slope)


class _RowwisePReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(features, slope)
        return features.clamp(max=0).mul_(slope).add_(features.relu())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        features, slope = ctx.saved_tensors
        above = torch.ops.aten.threshold_backward(gradient, features, 0)  # gradient where features > 0, else 0
        below = gradient - above
        slope_gradient = (below * features).sum((0, 2, 3)).view_as(slope)
        return above.add_(below.mul_(slope)), slope_gradient
