"""Mix Transformer backbones (MiT), of SegFormer: simple and efficient design for semantic segmentation.

Enze Xie, Wenhai Wang, Zhiding Yu, Anima Anandkumar, Jose M. Alvarez, Ping Luo, 2021. https://arxiv.org/abs/2105.15203
The authors' code: https://github.com/NVlabs/SegFormer

Differs from the paper:
- all layer norms have an epsilon of 1e-6, as in mmsegmentation; those of embeddings and reductions have 1e-5 in the
  authors' code
"""

import itertools
import math
import operator
from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seg_core.errors import InvalidArgumentError
from seg_core.interfaces import FeatureInfo
from seg_models.backbones.base import Backbone, backbone_builder, check_arguments, refuse_weights

__all__ = ["MixTransformer", "mit_b0", "mit_b1", "mit_b2", "mit_b3", "mit_b4", "mit_b5"]

# of the stages, table 6
DOWNSAMPLING = (4, 2, 2, 2)
HEADS = (1, 2, 5, 8)
REDUCTIONS = (8, 4, 2, 1)
EXPANSION = 4
# network -> width of the first stage per head, blocks of each stage
SIZES = {
    "mit_b0": (32, (2, 2, 2, 2)),
    "mit_b1": (64, (2, 2, 2, 2)),
    "mit_b2": (64, (3, 4, 6, 3)),
    "mit_b3": (64, (3, 4, 18, 3)),
    "mit_b4": (64, (3, 8, 27, 3)),
    "mit_b5": (64, (3, 6, 40, 3)),
}


def layer_norm(channels: int) -> nn.LayerNorm:
    """Returns the layer norm of this network, over the last dimension."""
    return nn.LayerNorm(channels, eps=1e-6)


class ChannelsLastConv(nn.Conv2d):
    """A convolution of features with their channels last, (N, h, w, C), as norms and linear layers expect."""

    def forward(self, features: Tensor) -> Tensor:
        """Maps (N, h, w, in_channels) to (N, h', w', out_channels)."""
        return super().forward(features.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class PatchEmbedding(nn.Sequential):
    """Overlapping patches by a strided convolution: (N, h, w, C) to (N, h / stride, w / stride, C'), rounded up."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__(
            ChannelsLastConv(in_channels, channels, 2 * stride - 1, stride, stride - 1), layer_norm(channels)
        )


class Reduction(nn.Sequential):
    """One key from each patch: (N, h, w, C) to (N, h / size, w / size, C), rounded down."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__(ChannelsLastConv(channels, channels, size, size), layer_norm(channels))
        self.size = size

    def forward(self, features: Tensor) -> Tensor:
        """Reduces the features."""
        # The convolution itself drops what is left over at the end. Cropped before, the result's size is h // size; as
        # (h - size) // size + 1 inductor cannot tell it from 0 if h is dynamic, and does not compile. torch.export
        # in turn cannot reason about the crop.
        if torch.compiler.is_dynamo_compiling():
            height, width = (side // self.size * self.size for side in features.shape[1:3])
            features = features[:, :height, :width]
        convolution, norm = self
        return norm(convolution(features))


class EfficientAttention(nn.Module):
    """Self-attention whose keys and values come from reduced features (equation 2).

    Args:
        channels: channels of the features.
        heads: number of heads.
        reduction: height and width of the patches that become one key; 1 does not reduce.
    """

    def __init__(self, channels: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(channels, 2 * channels)
        self.project = nn.Linear(channels, channels)
        self.reduce = Reduction(channels, reduction) if reduction > 1 else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """Maps (N, h, w, C) to the same shape."""
        query = self.query(features).flatten(1, 2)  # (N, h * w, C)
        key, value = self.key_value(self.reduce(features)).flatten(1, 2).chunk(2, dim=-1)  # (N, reduced, C)
        query, key, value = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (query, key, value))
        attended = F.scaled_dot_product_attention(query, key, value)  # (N, heads, h * w, C / heads)
        return self.project(attended.transpose(1, 2).flatten(2).view_as(features))


class MixFFN(nn.Sequential):
    """A feed-forward network whose 3x3 depthwise convolution encodes positions (equation 3)."""

    def __init__(self, channels: int) -> None:
        hidden = EXPANSION * channels
        super().__init__(
            nn.Linear(channels, hidden),
            ChannelsLastConv(hidden, hidden, 3, padding=1, groups=hidden),
            nn.GELU(),
            nn.Linear(hidden, channels),
        )


class Block(nn.Module):
    """Attention and feed-forward network, each after a norm and with a shortcut.

    Args:
        channels: channels of the features.
        heads: number of heads of the attention.
        reduction: reduction of the attention.
        drop: probability that an image of a training batch takes only the shortcut.
    """

    def __init__(self, channels: int, heads: int, reduction: int, drop: float) -> None:
        super().__init__()
        # torchvision takes seconds to import, so only when a network is built
        from torchvision.ops import StochasticDepth

        self.norm1 = layer_norm(channels)
        self.attention = EfficientAttention(channels, heads, reduction)
        self.norm2 = layer_norm(channels)
        self.ffn = MixFFN(channels)
        self.drop = StochasticDepth(drop, "row")

    def forward(self, features: Tensor) -> Tensor:
        """Maps (N, h, w, C) to the same shape."""
        x = features + self.drop(self.attention(self.norm1(features)))
        return x + self.drop(self.ffn(self.norm2(x)))


class MixTransformer(Backbone):
    """Four stages of transformer blocks at strides 4, 8, 16 and 32 (table 6).

    Args:
        in_channels: channels of the images.
        width: channels of a head.
        depths: number of blocks in each stage.
        stochastic_depth: probability of skipping the last block in training; it grows from 0 at the first one.
    """

    # the features of stage 1 must be at least as large as the stride of its attention's reduction, 8: (29 + 3) / 4
    min_size = 29

    def __init__(self, in_channels: int, width: int, depths: Sequence[int], stochastic_depth: float = 0.1) -> None:
        super().__init__()
        drops = iter(torch.linspace(0, stochastic_depth, sum(depths), device="cpu").tolist())
        channels = [width * heads for heads in HEADS]
        stages = zip([in_channels, *channels[:-1]], channels, DOWNSAMPLING, HEADS, REDUCTIONS, depths, strict=True)
        self.stages = nn.ModuleList(
            nn.Sequential(
                PatchEmbedding(before, after, stride),
                *(Block(after, heads, reduction, next(drops)) for _ in range(depth)),
                layer_norm(after),
            )
            for before, after, stride, heads, reduction, depth in stages
        )
        strides = itertools.accumulate(DOWNSAMPLING, operator.mul)
        self.feature_info = tuple(
            FeatureInfo(f"stage{number}", *facts) for number, facts in enumerate(zip(channels, strides, strict=True), 1)
        )
        self.apply(_initialize)

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        """Returns the features of each stage, from fine to coarse.

        Args:
            images: float (N, C, H, W), H and W at least 29, normalized RGB if C is 3.

        Returns:
            `"stage1"` to `"stage4"`, float (N, channels, H / stride, W / stride), sizes rounded up.
        """
        x = images.permute(0, 2, 3, 1)
        features, selected = OrderedDict(), self._selected()
        for number, stage in enumerate(self.stages, 1):
            x = stage(x)  # (N, H / stride, W / stride, channels)
            if (name := f"stage{number}") in selected:
                features[name] = x.permute(0, 3, 1, 2)
        return features


def _initialize(module: nn.Module) -> None:
    """Initializes as the authors: linear layers from a truncated normal of 0.02, convolutions by fan out, biases 0."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    elif isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
    else:
        return
    nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # all layers have a bias


def _mit(
    name: str,
    *,
    weights: object = None,
    progress: bool = True,  # noqa: ARG001 - an argument of every backbone
    in_channels: int = 3,
    output_stride: int = 32,
    stochastic_depth: float = 0.1,
) -> MixTransformer:
    check_arguments(in_channels, output_stride)
    if output_stride != math.prod(DOWNSAMPLING):
        raise InvalidArgumentError(
            f"output_stride must be 32 for {name}, which has no convolutions to dilate, got {output_stride}; choose "
            "another backbone, or output_stride=32"
        )
    if (
        isinstance(stochastic_depth, bool)
        or not isinstance(stochastic_depth, int | float)
        or not (0 <= stochastic_depth < 1)
    ):
        raise InvalidArgumentError(f"stochastic_depth must be a number >= 0 and < 1, got {stochastic_depth!r}")
    refuse_weights(name, weights, "load a checkpoint of the whole network with weights=")
    return MixTransformer(in_channels, *SIZES[name], stochastic_depth)


def _builder(number: int) -> Callable[..., MixTransformer]:
    return backbone_builder(
        _mit,
        f"mit_b{number}",
        f'Builds MiT-B{number}; features `"stage1"` to `"stage4"`, sizes rounded up.',
        stochastic_depth="probability of skipping the last block in training; it grows from 0 at the first one.",
    )


mit_b0 = _builder(0)
mit_b1 = _builder(1)
mit_b2 = _builder(2)
mit_b3 = _builder(3)
mit_b4 = _builder(4)
mit_b5 = _builder(5)
