"""Xception backbones: deep learning with depthwise separable convolutions.

Francois Chollet, 2016. https://arxiv.org/abs/1610.02357
`xception65` is the aligned, deeper Xception of DeepLabV3+: Liang-Chieh Chen, Yukun Zhu, George Papandreou, Florian
Schroff, Hartwig Adam, 2018. https://arxiv.org/abs/1802.02611, in the authors' code
https://github.com/tensorflow/models/tree/master/research/deeplab

Differs from the papers:
- `xception` pads every convolution and pooling symmetrically, so that sizes round up; the paper's stem is not padded
- at output stride 8 or 16 the last stages keep their resolution: a pooling or convolution loses its stride, and the
  convolutions after it are dilated
- `xception65` has ReLU before a separable convolution; only its last three have it between and after the two parts
  instead, as in the authors' code. The paper's text has ReLU after every depthwise convolution.
"""

import itertools
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from seg_core.errors import UnknownNameError, reading_file
from seg_core.files.download import fetch
from seg_core.interfaces import FeatureInfo
from seg_core.model_files.foreign_pickle import load_safely
from seg_core.model_files.state_dict import tensors_of
from seg_models.backbones.base import Backbone, check_arguments, refuse_weights, with_in_channels
from seg_models.layers import ConvNormAct, relu
from seg_models.pretrained.rules.pixseg import XCEPTION

__all__ = ["AlignedXception", "Xception", "xception", "xception65"]

# Converted from the weights of Keras, which has an epsilon of 1e-3, TensorFlow's padding and images in [-1, 1]; this
# network has none of these. pixseg trained its networks from these weights unchanged.
IMAGENET = "https://github.com/CyrusCKF/pixseg/releases/download/xception/xception_imagenet.pth"
MEMBERS = ("IMAGENET1K_PIXSEG", "DEFAULT")
INSTEAD = "use weights_backbone='DEFAULT' with backbone='timm:legacy_xception' or 'timm:xception65'"


class Separable(nn.Sequential):
    """A depthwise 3x3 and a pointwise convolution, with nothing in between (figure 4)."""

    def __init__(self, in_channels: int, out_channels: int, dilation: int = 1) -> None:
        super().__init__(
            nn.Conv2d(in_channels, in_channels, 3, 1, dilation, dilation, groups=in_channels, bias=False),
            nn.Conv2d(in_channels, out_channels, 1, bias=False),
        )


class Block(nn.Module):
    """Separable convolutions after ReLU, and pooling if the block has a stride, with a shortcut (figure 5)."""

    def __init__(
        self,
        widths: Sequence[int],
        *,
        stride: int = 1,
        pooled: bool = False,
        dilation: int = 1,
        relu_first: bool = True,
    ) -> None:
        super().__init__()
        # the shortcut is first, so that parameters have the order of the published files
        self.shortcut = ConvNormAct(widths[0], widths[-1], 1, stride=stride, act=None) if pooled else None
        layers: list[nn.Module] = []
        for position, (before, after) in enumerate(itertools.pairwise(widths)):
            # the shortcut takes the block's input too, so the first ReLU must not work in place
            layers += [nn.ReLU(inplace=position > 0)] if position > 0 or relu_first else []
            layers += [Separable(before, after, dilation), nn.BatchNorm2d(after)]
        if pooled:
            layers.append(nn.MaxPool2d(3, stride, padding=1))
        self.main = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """Maps (N, widths[0], h, w) to (N, widths[-1], h / stride, w / stride)."""
        shortcut = features if self.shortcut is None else self.shortcut(features)
        return self.main(features) + shortcut


class Stride:
    """Counts the strides of layers: strides until the output stride is reached, dilation from then on."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.total = 1
        self.dilation = 1

    def step(self) -> int:
        """Returns the stride of the next layer that would halve the size; read that layer's dilation before."""
        if self.total < self.limit:
            self.total *= 2
            return 2
        self.dilation *= 2
        return 1


class Xception(Backbone):
    """The convolutional part of Xception (figure 5).

    Args:
        in_channels: channels of the images.
        output_stride: pixels per feature of the last stages: 8, 16 or 32.
    """

    def __init__(self, in_channels: int = 3, output_stride: int = 32) -> None:
        super().__init__()
        stride, info = Stride(output_stride), []
        self.stem = nn.Sequential(ConvNormAct(in_channels, 32, 3, stride=stride.step()), ConvNormAct(32, 64, 3))
        info.append(FeatureInfo("stage1", 64, stride.total))
        entry = []
        for number, (before, after) in enumerate(((64, 128), (128, 256), (256, 728)), 2):
            # if the pooling loses its stride, the layers after it are dilated
            dilation = stride.dilation
            entry.append(
                Block(
                    (before, after, after), stride=stride.step(), pooled=True, dilation=dilation, relu_first=number > 2
                )
            )
            info.append(FeatureInfo(f"stage{number}", after, stride.total))
        self.entry = nn.Sequential(*entry)
        self.middle = nn.Sequential(*(Block((728,) * 4, dilation=stride.dilation) for _ in range(8)))
        dilation = stride.dilation
        self.exit = nn.Sequential(
            Block((728, 728, 1024), stride=stride.step(), pooled=True, dilation=dilation),
            Separable(1024, 1536, stride.dilation),
            nn.BatchNorm2d(1536),
            nn.ReLU(inplace=True),
            Separable(1536, 2048, stride.dilation),
            nn.BatchNorm2d(2048),
            nn.ReLU(inplace=True),
        )
        info.append(FeatureInfo("stage5", 2048, stride.total))
        self.feature_info = tuple(info)

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        """Returns `"stage1"` to `"stage5"`, as `Backbone.forward`; sizes rounded up."""
        stages: tuple[Callable[[Tensor], Tensor], ...] = (
            self.stem,  # (N, 64, H/2, W/2)
            self.entry[0],  # (N, 128, H/4, W/4)
            self.entry[1],  # (N, 256, H/8, W/8)
            lambda x: self.middle(self.entry[2](x)),  # (N, 728, H/16, W/16)
            self.exit,  # (N, 2048, H/32, W/32)
        )
        features, selected = OrderedDict(), self._selected()
        x = images
        for number, stage in enumerate(stages, 1):
            x = stage(x)
            if (name := f"stage{number}") in selected:
                features[name] = x
        return features


def _norm(channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels, eps=1e-3)


class AlignedSeparable(nn.Sequential):
    """A depthwise 3x3 and a pointwise convolution, each with batch norm, and ReLU before them or after each."""

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int = 1, dilation: int = 1, relu_first: bool = True
    ) -> None:
        act = None if relu_first else relu
        depthwise = ConvNormAct(
            in_channels, in_channels, 3, stride=stride, dilation=dilation, groups=in_channels, act=act, norm=_norm
        )
        layers: list[nn.Module] = [depthwise, ConvNormAct(in_channels, out_channels, 1, act=act, norm=_norm)]
        # the input may be a feature of the backbone or a shortcut's input: never in place
        super().__init__(*([nn.ReLU()] if relu_first else []), *layers)


class AlignedBlock(nn.Module):
    """Three separable convolutions, the last with the stride (figure 4 of DeepLabV3+).

    Args:
        widths: channels of the input and of the three results.
        stride: stride of the block.
        dilation: dilation of the convolutions.
        shortcut: `"conv"`, `"sum"` or `"none"`.
    """

    def __init__(self, widths: Sequence[int], *, stride: int = 1, dilation: int = 1, shortcut: str = "sum") -> None:
        super().__init__()

        def convolution(position: int, stride: int = 1) -> AlignedSeparable:
            before, after = widths[position : position + 2]
            return AlignedSeparable(before, after, stride=stride, dilation=dilation, relu_first=shortcut != "none")

        self.head = nn.Sequential(convolution(0), convolution(1))
        self.last = convolution(2, stride)
        self.shortcut = (
            ConvNormAct(widths[0], widths[3], 1, stride=stride, act=None, norm=_norm) if shortcut == "conv" else None
        )
        self.adds = shortcut != "none"

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, widths[0], h, w) to (N, widths[2], h, w), from before the stride, and the block's result."""
        fine = self.head(features)
        result = self.last(fine)
        if self.adds:
            result = result + (features if self.shortcut is None else self.shortcut(features))
        return fine, result


class AlignedXception(Backbone):
    """The convolutional part of the 65 layers deep Xception of DeepLabV3+ (its figure 4).

    Args:
        in_channels: channels of the images.
        output_stride: pixels per feature of the last stages: 8, 16 or 32.
    """

    def __init__(self, in_channels: int = 3, output_stride: int = 32) -> None:
        super().__init__()
        stride, info = Stride(output_stride), []
        self.stem = nn.Sequential(
            ConvNormAct(in_channels, 32, 3, stride=stride.step(), norm=_norm), ConvNormAct(32, 64, 3, norm=_norm)
        )
        entry = []
        for number, (before, after) in enumerate(((64, 128), (128, 256), (256, 728)), 1):
            info.append(FeatureInfo(f"stage{number}", after, stride.total))
            dilation = stride.dilation
            entry.append(
                AlignedBlock((before, after, after, after), stride=stride.step(), dilation=dilation, shortcut="conv")
            )
        self.entry = nn.ModuleList(entry)
        self.middle = nn.ModuleList(AlignedBlock((728,) * 4, dilation=stride.dilation) for _ in range(16))
        info.append(FeatureInfo("stage4", 1024, stride.total))
        dilation = stride.dilation
        self.exit = nn.ModuleList(
            [
                AlignedBlock((728, 728, 1024, 1024), stride=stride.step(), dilation=dilation, shortcut="conv"),
                AlignedBlock((1024, 1536, 1536, 2048), dilation=stride.dilation, shortcut="none"),
            ]
        )
        info.append(FeatureInfo("stage5", 2048, stride.total))
        self.feature_info = tuple(info)

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        """Returns `"stage1"` to `"stage5"`, each but the last from before a stride, as `Backbone.forward`."""
        features, selected = OrderedDict(), self._selected()
        x = self.stem(images)  # (N, 64, H/2, W/2)
        for number, block in enumerate(self.entry, 1):
            fine, x = block(x)  # (N, 128, H/2, W/2), (N, 256, H/4, W/4), (N, 728, H/8, W/8)
            if (name := f"stage{number}") in selected:
                features[name] = fine
        for block in self.middle:
            x = block(x)[1]  # (N, 728, H/16, W/16)
        fine, x = self.exit[0](x)  # (N, 1024, H/16, W/16)
        if "stage4" in selected:
            features["stage4"] = fine
        del fine
        x = self.exit[1](x)[1]  # (N, 2048, H/32, W/32)
        if "stage5" in selected:
            features["stage5"] = x
        return features


def xception(
    *,
    weights: object = None,
    progress: bool = True,
    in_channels: int = 3,
    output_stride: int = 32,
) -> Xception:
    """Builds Xception.

    Args:
        weights: `"IMAGENET1K_PIXSEG"`, which is `"DEFAULT"`, or None to initialize randomly.
        progress: whether a download shows a progress bar.
        in_channels: channels of the images; the weights are inflated to numbers other than 3.
        output_stride: pixels per feature of the last stages: 8, 16 or 32.

    Raises:
        UnknownNameError: if there are no such weights.
        CorruptFileError: if their file is damaged.
        WriteError: if they cannot be fetched.
        InvalidArgumentError: if another argument has a value that is not allowed.
    """
    check_arguments(in_channels, output_stride)
    if weights is None:
        return Xception(in_channels, output_stride)
    if weights not in MEMBERS:
        raise UnknownNameError(f"unknown weights_backbone {weights!r} of xception. Known: {', '.join(MEMBERS)}")
    backbone = Xception(3, output_stride)
    path = fetch(IMAGENET, progress=progress)
    with reading_file(path):
        backbone.load_state_dict(XCEPTION.convert(tensors_of(load_safely(path), str(path))))
    first: Any = backbone.stem[0]
    first[0] = with_in_channels(first[0], in_channels, keep=True)
    return backbone


def xception65(
    *,
    weights: object = None,
    progress: bool = True,  # noqa: ARG001 - an argument of every backbone
    in_channels: int = 3,
    output_stride: int = 32,
) -> AlignedXception:
    """Builds the aligned Xception of DeepLabV3+; arguments as for `xception`."""
    check_arguments(in_channels, output_stride)
    refuse_weights("xception65", weights, INSTEAD)
    return AlignedXception(in_channels, output_stride)
