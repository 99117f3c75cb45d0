"""ResNet backbones: deep residual learning for image recognition.

Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun, 2015. https://arxiv.org/abs/1512.03385
The modules and their ImageNet weights are torchvision's; the parameter names are too.

Differs from the paper:
- the stride of a bottleneck is in its 3x3 convolution, as in torchvision
- at output stride 8 or 16 the last stages keep their resolution and dilate their convolutions instead. As in
  torchvision the first block of such a stage has the dilation of the stage before. In basic blocks, which torchvision
  does not dilate, the first convolution alone is dilated, as only it has the stride.
"""

import logging
from collections import OrderedDict
from typing import Any, cast
from urllib.error import URLError

from torch import Tensor, nn

from seg_core.errors import InvalidArgumentError, UnknownNameError, WriteError, nearest
from seg_core.interfaces import FeatureInfo

__all__ = ["ResNet", "resnet18", "resnet34", "resnet50", "resnet101"]

logger = logging.getLogger(__name__)

OUTPUT_STRIDES = (8, 16, 32)
STAGES = ("layer1", "layer2", "layer3", "layer4")


class ResNet(nn.Module):
    """The convolutional part of a torchvision ResNet.

    Args:
        trunk: a torchvision ResNet; its modules become this module's.
        in_channels: channels of the images; other than 3 gives the first convolution fresh parameters.
        output_stride: pixels per feature of the last stages: 8, 16 or 32.

    Attributes:
        feature_info: of each entry of the result, in its order.
    """

    def __init__(self, trunk: Any, in_channels: int = 3, output_stride: int = 32) -> None:
        super().__init__()
        self.conv1: nn.Module = trunk.conv1 if in_channels == 3 else _stem_convolution(in_channels)
        self.bn1: nn.Module = trunk.bn1
        self.relu: nn.Module = trunk.relu
        self.maxpool: nn.Module = trunk.maxpool
        self.layer1: nn.Sequential = trunk.layer1
        self.layer2: nn.Sequential = trunk.layer2
        self.layer3: nn.Sequential = trunk.layer3
        self.layer4: nn.Sequential = trunk.layer4
        _limit_stride([self.layer1, self.layer2, self.layer3, self.layer4], output_stride)
        self.feature_info = tuple(
            FeatureInfo(name, _out_channels(getattr(self, name)), min(4 * 2**stage, output_stride))
            for stage, name in enumerate(STAGES)
        )

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        """Returns the features of each stage, from fine to coarse.

        Args:
            images: float (N, C, H, W), normalised RGB where C is 3.

        Returns:
            `"layer1"` to `"layer4"`, float (N, channels, H / stride, W / stride), sizes rounded up.
        """
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))  # (N, 64, H/4, W/4)
        features = OrderedDict()
        for name in STAGES:
            x = getattr(self, name)(x)
            features[name] = x
        return features


def _stem_convolution(in_channels: int) -> nn.Conv2d:
    convolution = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution


def _spatial_convolution(block: Any) -> nn.Conv2d:
    """The convolution of a block that has the stride: the 3x3 of a bottleneck, the first of a basic block."""
    return cast(nn.Conv2d, block.conv2 if hasattr(block, "conv3") else block.conv1)


def _out_channels(stage: nn.Sequential) -> int:
    last: Any = stage[-1]
    norm: nn.BatchNorm2d = last.bn3 if hasattr(last, "bn3") else last.bn2
    return norm.num_features


def _limit_stride(stages: list[nn.Sequential], output_stride: int) -> None:
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
            convolution = _spatial_convolution(block)
            amount = before if position == 0 else dilation
            convolution.dilation = convolution.padding = (amount, amount)


def _resnet(name: str, weights: object, progress: bool, in_channels: int, output_stride: int) -> ResNet:
    # torchvision takes seconds to import, so only where a ResNet is made
    from torchvision.models import get_model_builder, get_model_weights

    if isinstance(in_channels, bool) or not isinstance(in_channels, int) or in_channels < 1:
        raise InvalidArgumentError(f"in_channels must be a whole number from 1 on, got {in_channels!r}")
    if output_stride not in OUTPUT_STRIDES:
        raise InvalidArgumentError(f"output_stride must be 8, 16 or 32, got {output_stride!r}")
    trunk = get_model_builder(name)(weights=None)
    if weights is not None:
        member = _verify(get_model_weights(name), weights)
        try:
            state = member.get_state_dict(progress=progress, check_hash=True)
        except (URLError, OSError, RuntimeError) as error:
            raise WriteError(
                f"cannot fetch {member.url} for weights_backbone={weights!r}: {error}; check the network and the "
                "folder of torch.hub, or leave out weights_backbone"
            ) from error
        trunk.load_state_dict(state)
        if in_channels != 3:
            logger.warning("%s is for 3 channels, in_channels=%d; initialised anew: conv1.weight", member, in_channels)
    return ResNet(trunk, in_channels, output_stride)


def _verify(enum: Any, weights: object) -> Any:
    """Returns torchvision's member that `weights` is or names."""
    if isinstance(weights, enum):
        return weights
    members = enum.__members__
    name = weights.removeprefix(enum.__name__ + ".") if isinstance(weights, str) else None
    if name not in members:
        hint = nearest(name, members) if name is not None else ""
        raise UnknownNameError(
            f"unknown weights_backbone {weights!r}.{hint} Known: {', '.join(members)} of torchvision's {enum.__name__}"
        )
    return members[name]


def resnet18(*, weights: object = None, progress: bool = True, in_channels: int = 3, output_stride: int = 32) -> ResNet:
    """Builds ResNet-18.

    Args:
        weights: member of torchvision's enum for this network, its name, or None for fresh parameters.
        progress: whether a download shows a bar.
        in_channels: channels of the images.
        output_stride: pixels per feature of the last stages: 8, 16 or 32.

    Raises:
        UnknownNameError: if there are no such weights.
        InvalidArgumentError: if another argument is outside of what is allowed.
    """
    return _resnet("resnet18", weights, progress, in_channels, output_stride)


def resnet34(*, weights: object = None, progress: bool = True, in_channels: int = 3, output_stride: int = 32) -> ResNet:
    """Builds ResNet-34; arguments as for `resnet18`."""
    return _resnet("resnet34", weights, progress, in_channels, output_stride)


def resnet50(*, weights: object = None, progress: bool = True, in_channels: int = 3, output_stride: int = 32) -> ResNet:
    """Builds ResNet-50; arguments as for `resnet18`."""
    return _resnet("resnet50", weights, progress, in_channels, output_stride)


def resnet101(
    *, weights: object = None, progress: bool = True, in_channels: int = 3, output_stride: int = 32
) -> ResNet:
    """Builds ResNet-101; arguments as for `resnet18`."""
    return _resnet("resnet101", weights, progress, in_channels, output_stride)
