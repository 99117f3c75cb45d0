"""Base class of backbones: features by name, dilation instead of stride, ImageNet weights, input channels."""

import functools
import logging
import re
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.error import URLError

import torch
from torch import Tensor, nn

from seg_core.checks import check_integer
from seg_core.errors import InvalidArgumentError, UnknownNameError, UserError, WriteError, nearest
from seg_core.files.download import fetch, is_offline, stored_path
from seg_core.interfaces import FeatureInfo
from seg_models.pretrained.input_channels import inflate_kernels

__all__ = [
    "Backbone",
    "SequentialBackbone",
    "backbone_builder",
    "check_arguments",
    "imagenet_state",
    "refuse_weights",
    "replace_strides",
    "with_in_channels",
]

_HASH = re.compile(r"-([0-9a-f]{8,64})\.")  # as torchvision writes it into names of files

logger = logging.getLogger(__name__)

OUTPUT_STRIDES = (8, 16, 32)

T = TypeVar("T")


class Backbone(nn.Module, ABC):
    """The convolutional part of a classifier: images to features, from fine to coarse.

    Attributes:
        feature_info: one for each entry of the result, in the same order.
        min_size: minimum height and width of the images in pixels; prediction pads smaller ones.
    """

    feature_info: tuple[FeatureInfo, ...]
    min_size: int = 1

    def select(self, names: Iterable[str]) -> None:
        """Restricts the result, and `feature_info`, to these features, so that no others stay in memory.

        Args:
            names: names of features of the backbone, in any order.

        Raises:
            InvalidArgumentError: if it has no such feature.
        """
        wanted, known = set(names), self._selected()
        for name in wanted:
            if name not in known:
                raise InvalidArgumentError(
                    f"the backbone has no feature {name!r}.{nearest(name, known)} Known: {', '.join(known)}"
                )
        self.feature_info = tuple(info for info in self.feature_info if info.name in wanted)

    def _selected(self) -> tuple[str, ...]:
        return tuple(info.name for info in self.feature_info)

    @abstractmethod
    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        """Returns the features by name, from fine to coarse.

        Args:
            images: float (N, C, H, W), normalized RGB if C is 3.

        Returns:
            Name -> float (N, channels, H / stride, W / stride), rounded up or down, depending on the backbone.
        """


class SequentialBackbone(nn.Sequential, Backbone):
    """A sequence of numbered layers; the outputs of some of them are the features.

    Args:
        layers: layers of a classifier; those after the last feature are dropped.
        taps: positions of the layers whose results are `"stage1"`, `"stage2"`, ...
        output_stride: strides beyond it become dilation.
    """

    def __init__(self, layers: Sequence[nn.Module], taps: Sequence[int], output_stride: int) -> None:
        super().__init__(*layers[: taps[-1] + 1])
        self._names = {tap: f"stage{number}" for number, tap in enumerate(taps, 1)}
        strides = replace_strides(self, output_stride)
        channels = _channels_after(self)
        self.feature_info = tuple(FeatureInfo(name, channels[tap], strides[tap]) for tap, name in self._names.items())

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        """Returns the features by name, as `Backbone.forward`."""
        features, selected = OrderedDict(), self._selected()
        x = images
        for position, layer in enumerate(self):
            x = layer(x)
            if (name := self._names.get(position)) in selected:
                features[name] = x
        return features


def _channels_after(layers: nn.Sequential) -> list[int]:
    """Returns the number of channels after each layer: that of the last convolution so far."""
    found, channels = 0, []
    for layer in layers:
        found = next((m.out_channels for m in reversed(list(layer.modules())) if isinstance(m, nn.Conv2d)), found)
        channels.append(found)
    return channels


def replace_strides(layers: nn.Sequential, output_stride: int) -> list[int]:
    """Replaces strides beyond `output_stride` by dilation, in place, and returns the stride after each layer.

    A convolution that loses its stride is dilated itself, as in torchvision's dilated MobileNetV3; a pooling that loses
    its stride becomes 3x3, and the convolutions after it are dilated.

    Args:
        layers: layers in execution order; convolutions inside them are included.
        output_stride: maximum of pixels per feature.
    """
    stride = dilation = 1
    strides = []
    for layer in layers:
        for module in layer.modules():
            if not isinstance(module, nn.Conv2d | nn.MaxPool2d):
                continue
            pool = isinstance(module, nn.MaxPool2d)
            beyond = _side(module.stride) == 2 and stride == output_stride
            if beyond:
                dilation *= 2
                module.stride = 1 if pool else (1, 1)
            elif _side(module.stride) == 2:
                stride *= 2
            if pool and beyond:
                module.kernel_size, module.padding = 3, 1
            elif isinstance(module, nn.Conv2d) and dilation > 1 and (kernel := module.kernel_size[0]) > 1:
                module.dilation = (dilation, dilation)
                module.padding = (dilation * (kernel - 1) // 2,) * 2
        strides.append(stride)
    return strides


def _side(value: int | tuple[int, ...]) -> int:
    return value if isinstance(value, int) else value[0]


def check_arguments(in_channels: object, output_stride: object) -> None:
    """Checks that `in_channels` is at least 1, and `output_stride` is 8, 16 or 32.

    Raises:
        InvalidArgumentError: if not.
    """
    check_integer("in_channels", in_channels)
    if output_stride not in OUTPUT_STRIDES:
        raise InvalidArgumentError(f"output_stride must be 8, 16 or 32, got {output_stride!r}")


def imagenet_state(name: str, weights: object, progress: bool) -> Mapping[str, Tensor]:
    """Returns the parameters of a classifier published by torchvision.

    Args:
        name: name of torchvision's builder.
        weights: member of torchvision's enum for it, or its name, with or without the enum's name.
        progress: whether a download shows a progress bar.

    Raises:
        UnknownNameError: if there are no such weights.
        CorruptFileError: if the file is not the published one.
        WriteError: if they cannot be fetched.
    """
    from torchvision.models import get_model_weights

    member = _verify(get_model_weights(name), weights)
    if is_offline() and not (path := stored_path(member.url)).is_file():
        raise WriteError(
            f"cannot fetch {member.url} for weights_backbone={weights!r}: got no answer, since SEG_OFFLINE forbids "
            f"requests. The file belongs at {path}: download it by hand to that path, or remove weights_backbone"
        )
    published = _HASH.search(member.url)
    try:
        # with our limits and checks; torchvision then finds the file there
        fetch(member.url, published[1] if published else "", progress, argument="")
    except UserError as error:
        raise type(error)(f"{error}, or remove weights_backbone={weights!r}") from error
    try:
        return member.get_state_dict(progress=progress, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        raise WriteError(
            f"cannot fetch {member.url} for weights_backbone={weights!r}: {error}; check the network and the folder of "
            "torch.hub, or remove weights_backbone"
        ) from error


def _verify(enum: Any, weights: object) -> Any:
    """Returns the member of torchvision's enum that `weights` is or names."""
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


def refuse_weights(name: str, weights: object, instead: str) -> None:
    """Rejects `weights` for a backbone without published weights.

    Raises:
        UnknownNameError: if `weights` is not None.
    """
    if weights is not None:
        raise UnknownNameError(
            f"unknown weights_backbone {weights!r}: torchvision publishes none for {name}; remove it, or {instead}"
        )


def backbone_builder(build: Callable[..., T], name: str, summary: str, **options: str) -> Callable[..., T]:
    """Returns the builder of one backbone, with its documentation.

    Args:
        build: the builder of all backbones of its kind; its first argument is the name.
        name: name of torchvision's builder.
        summary: first sentences of the documentation.
        options: option of this kind of backbone -> its description.
    """
    builder = functools.partial(build, name)
    own = "".join(f"    {option}: {text}\n" for option, text in options.items())
    builder.__doc__ = f"{summary}\n\n{_ARGUMENTS}{own}{_RAISES}"
    return builder


_ARGUMENTS = """\
Args:
    weights: member of torchvision's enum for this network, its name, or None to initialize randomly.
    progress: whether a download shows a progress bar.
    in_channels: channels of the images; see `seg_models.pretrained.input_channels` for other than 3.
    output_stride: pixels per feature of the last stages: 8, 16 or 32.
"""
_RAISES = """
Raises:
    UnknownNameError: if there are no such weights.
    InvalidArgumentError: if another argument has a value that is not allowed.
    WriteError: if the weights cannot be fetched.
"""


def with_in_channels(convolution: nn.Conv2d, in_channels: int, *, keep: bool) -> nn.Conv2d:
    """Returns a first convolution for images of another number of channels.

    Args:
        convolution: the first convolution, for 3 channels.
        in_channels: channels of the images.
        keep: whether to inflate its trained kernels, by the rule of `inflate_kernels`; else the new ones are randomly
            initialized.
    """
    if in_channels == convolution.in_channels:
        return convolution
    # torch annotates these attributes as tuples of any length
    other = nn.Conv2d(
        in_channels,
        convolution.out_channels,
        convolution.kernel_size,  # type: ignore[arg-type]
        convolution.stride,  # type: ignore[arg-type]
        convolution.padding,  # type: ignore[arg-type]
        bias=convolution.bias is not None,
    )
    if not keep:
        nn.init.kaiming_normal_(other.weight, mode="fan_out", nonlinearity="relu")
        return other
    with torch.no_grad():
        other.weight.copy_(inflate_kernels(convolution.weight, in_channels))
        if other.bias is not None and convolution.bias is not None:
            other.bias.copy_(convolution.bias)
    logger.info("the first convolution was inflated from 3 to %d channels", in_channels)
    return other
