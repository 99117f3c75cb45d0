"""VGG backbones: very deep convolutional networks for large-scale image recognition.

Karen Simonyan, Andrew Zisserman, 2014. https://arxiv.org/abs/1409.1556
Layers are numbered as in torchvision's `features`, and take its ImageNet weights.

Differs from the paper:
- `vgg16_bn` has batch norm after each convolution, as in torchvision
- at output stride 8 or 16 the last poolings are 3x3 with stride 1, and the convolutions after them are dilated
- with `fully_convolutional` the two hidden layers of the classifier follow as a 7x7 and a 1x1 convolution of 4096
  channels, as in FCN (https://arxiv.org/abs/1411.4038); the 7x7 is padded so that the size stays
"""

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from seg_models.backbones.base import (
    SequentialBackbone,
    backbone_builder,
    check_arguments,
    imagenet_state,
    with_in_channels,
)

__all__ = ["vgg16", "vgg16_bn"]

WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))  # a pooling after each group
HIDDEN = 4096


def _layers(batch_norm: bool) -> list[nn.Module]:
    layers: list[nn.Module] = []
    channels = 3
    for group in WIDTHS:
        for width in group:
            convolution = nn.Conv2d(channels, width, 3, padding=1)
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]  # there is one: bias=True
            layers += [convolution, *([nn.BatchNorm2d(width)] if batch_norm else []), nn.ReLU(inplace=True)]
            channels = width
        layers.append(nn.MaxPool2d(2, 2))
    return layers


def _hidden_layers() -> list[nn.Module]:
    return [
        nn.Conv2d(WIDTHS[-1][-1], HIDDEN, 7, padding=3),
        nn.ReLU(inplace=True),
        nn.Dropout(),
        nn.Conv2d(HIDDEN, HIDDEN, 1),
        nn.ReLU(inplace=True),
        nn.Dropout(),
    ]


def _as_convolutions(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the classifier's hidden layers as kernels; the first takes 7x7 features of 512 channels, flattened."""
    return {
        "0.weight": state["classifier.0.weight"].view(HIDDEN, WIDTHS[-1][-1], 7, 7),
        "0.bias": state["classifier.0.bias"],
        "3.weight": state["classifier.3.weight"].view(HIDDEN, HIDDEN, 1, 1),
        "3.bias": state["classifier.3.bias"],
    }


def _vgg(
    name: str,
    *,
    weights: object = None,
    progress: bool = True,
    in_channels: int = 3,
    output_stride: int = 32,
    fully_convolutional: bool = False,
) -> SequentialBackbone:
    check_arguments(in_channels, output_stride)
    layers = _layers(batch_norm=name.endswith("_bn"))
    hidden = _hidden_layers() if fully_convolutional else []
    if weights is not None:
        state = imagenet_state(name, weights, progress)
        features = {k.removeprefix("features."): v for k, v in state.items() if k.startswith("features.")}
        nn.Sequential(*layers).load_state_dict(features)
        kernels = _as_convolutions(state) if fully_convolutional else {}
        # torchvision's IMAGENET1K_FEATURES have no classifier, but NaN in its place
        if all(kernel.isfinite().all() for kernel in kernels.values()):
            nn.Sequential(*hidden).load_state_dict(kernels)
    layers[0] = with_in_channels(layers[0], in_channels, keep=weights is not None)  # type: ignore[arg-type]  # a convolution
    taps = [position for position, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
    if fully_convolutional:
        layers += hidden
        taps[-1] = len(layers) - 1
    backbone = SequentialBackbone(layers, taps, output_stride)
    backbone.min_size = output_stride  # the poolings round down
    return backbone


def _builder(name: str, title: str) -> Callable[..., SequentialBackbone]:
    return backbone_builder(
        _vgg,
        name,
        f'Builds {title}; `"stage1"` to `"stage5"` are the results of its poolings, sizes rounded down.',
        fully_convolutional='whether `"stage5"` goes through the classifier\'s hidden layers, as convolutions.',
    )


vgg16 = _builder("vgg16", "VGG-16")
vgg16_bn = _builder("vgg16_bn", "VGG-16 with batch norm")
