"""ResNet backbones: deep residual learning for image recognition.

Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun, 2015. https://arxiv.org/abs/1512.03385
The modules and their ImageNet weights are torchvision's; the parameter names are too.

Differs from the paper:
- the stride of a bottleneck is in its 3x3 convolution, as in torchvision
- at output stride 8 or 16 the last stages keep their resolution and dilate their convolutions instead. As in
  torchvision the first block of such a stage has the dilation of the stage before. In basic blocks, which torchvision
  does not dilate, the first convolution alone is dilated, as only it has the stride.
- `stem="deep"` begins with three 3x3 convolutions of 32, 32 and 64 channels instead of the 7x7, as in PSPNet
  (https://arxiv.org/abs/1612.01105) and mmsegmentation; torchvision has no weights for it
- with `multi_grid` every block of the last stage has the stage's dilation times its own factor, as in DeepLabV3
  (https://arxiv.org/abs/1706.05587)
"""

import itertools
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, cast

from torch import Tensor, nn

from seg_core.checks import is_integer
from seg_core.errors import InvalidArgumentError
from seg_core.interfaces import FeatureInfo
from seg_models.backbones.base import Backbone, backbone_builder, check_arguments, imagenet_state, with_in_channels

__all__ = ["ResNet", "resnet18", "resnet34", "resnet50", "resnet101"]

STAGES = ("layer1", "layer2", "layer3", "layer4")
STEMS = ("plain", "deep")


class ResNet(Backbone):
    """The convolutional part of a torchvision ResNet.

    Args:
        trunk: a torchvision ResNet; its modules become this module's.
        output_stride: pixels per feature of the last stages: 8, 16 or 32.
        multi_grid: factors on the dilation of the last stage's blocks, at least as many as it has; None is the rule of
            torchvision.
    """

    def __init__(self, trunk: Any, output_stride: int = 32, multi_grid: Sequence[int] | None = None) -> None:
        super().__init__()
        self.conv1: nn.Module = trunk.conv1
        self.bn1: nn.Module = trunk.bn1
        self.relu: nn.Module = trunk.relu
        self.maxpool: nn.Module = trunk.maxpool
        self.layer1: nn.Sequential = trunk.layer1
        self.layer2: nn.Sequential = trunk.layer2
        self.layer3: nn.Sequential = trunk.layer3
        self.layer4: nn.Sequential = trunk.layer4
        _limit_stride([self.layer1, self.layer2, self.layer3, self.layer4], output_stride, multi_grid)
        stages = [
            FeatureInfo(name, _out_channels(getattr(self, name)), min(4 * 2**stage, output_stride))
            for stage, name in enumerate(STAGES)
        ]
        self.feature_info = (FeatureInfo("stem", trunk.bn1.num_features, 2), *stages)

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        """Returns the features of the stem and of each stage, from fine to coarse.

        Args:
            images: float (N, C, H, W), normalized RGB if C is 3.

        Returns:
            `"stem"`, of stride 2, and `"layer1"` to `"layer4"`, float (N, channels, H / stride, W / stride), sizes
            rounded up.
        """
        features, selected = OrderedDict(), self._selected()
        x = self.relu(self.bn1(self.conv1(images)))  # (N, 64, H/2, W/2)
        if "stem" in selected:
            features["stem"] = x
        x = self.maxpool(x)  # (N, 64, H/4, W/4)
        for name in STAGES:
            x = getattr(self, name)(x)
            if name in selected:
                features[name] = x
        return features


def _deep_stem(in_channels: int) -> nn.Sequential:
    """Returns three 3x3 convolutions to 64 channels at half size; the trunk has the norm and ReLU after the last."""
    widths = (in_channels, 32, 32, 64)
    layers: list[nn.Module] = []
    for position, (before, after) in enumerate(itertools.pairwise(widths)):
        convolution = nn.Conv2d(before, after, 3, stride=1 if position else 2, padding=1, bias=False)
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        layers += [convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[:-2])


def _spatial_convolution(block: Any) -> nn.Conv2d:
    """Returns the convolution of a block that has the stride: the 3x3 of a bottleneck, the first of a basic block."""
    return cast(nn.Conv2d, block.conv2 if hasattr(block, "conv3") else block.conv1)


def _out_channels(stage: nn.Sequential) -> int:
    last: Any = stage[-1]
    norm: nn.BatchNorm2d = last.bn3 if hasattr(last, "bn3") else last.bn2
    return norm.num_features


def _limit_stride(stages: list[nn.Sequential], output_stride: int, multi_grid: Sequence[int] | None) -> None:
    """Replaces strides beyond `output_stride` by dilation."""
    dilation = 1
    for index, stage in enumerate(stages):
        before = dilation
        if 4 * 2**index > output_stride:
            dilation *= 2
            first: Any = stage[0]
            _spatial_convolution(first).stride = (1, 1)
            first.downsample[0].stride = (1, 1)
        for position, block in enumerate(stage):
            amount = before if position == 0 else dilation
            if multi_grid is not None and index == len(stages) - 1:
                amount = dilation * multi_grid[position]
            convolution = _spatial_convolution(block)
            convolution.dilation = convolution.padding = (amount, amount)


def _resnet(
    name: str,
    *,
    weights: object = None,
    progress: bool = True,
    in_channels: int = 3,
    output_stride: int = 32,
    stem: str = "plain",
    multi_grid: Sequence[int] | None = None,
) -> ResNet:
    # torchvision takes seconds to import, so only when a ResNet is built
    from torchvision.models import get_model_builder

    check_arguments(in_channels, output_stride)
    if stem not in STEMS:
        raise InvalidArgumentError(f"stem must be 'plain' or 'deep', got {stem!r}")
    if stem == "deep" and weights is not None:
        raise InvalidArgumentError(
            f"weights_backbone={weights!r} are torchvision's, which only has the plain stem; use stem='plain', or "
            "remove weights_backbone"
        )
    trunk = get_model_builder(name)(weights=None)
    blocks = len(trunk.layer4)
    if multi_grid is not None and (len(multi_grid) < blocks or not all(is_integer(f, 1) for f in multi_grid)):
        raise InvalidArgumentError(f"multi_grid must be at least {blocks} integers >= 1 for {name}, got {multi_grid!r}")
    if weights is not None:
        trunk.load_state_dict(imagenet_state(name, weights, progress))
    if stem == "deep":
        trunk.conv1 = _deep_stem(in_channels)
    else:
        trunk.conv1 = with_in_channels(trunk.conv1, in_channels, keep=weights is not None)
    return ResNet(trunk, output_stride, multi_grid)


def _builder(name: str, depth: int) -> Callable[..., ResNet]:
    return backbone_builder(
        _resnet,
        name,
        f'Builds ResNet-{depth}; features `"stem"` and `"layer1"` to `"layer4"`, sizes rounded up.',
        stem='`"plain"`, one 7x7 convolution, or `"deep"`, three 3x3.',
        multi_grid="factors on the dilation of the blocks of the last stage, or None.",
    )


resnet18 = _builder("resnet18", 18)
resnet34 = _builder("resnet34", 34)
resnet50 = _builder("resnet50", 50)
resnet101 = _builder("resnet101", 101)
