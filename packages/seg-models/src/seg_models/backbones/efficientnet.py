"""EfficientNet backbones: rethinking model scaling for convolutional neural networks.

Mingxing Tan, Quoc V. Le, 2019. https://arxiv.org/abs/1905.11946
The layers and their ImageNet weights are torchvision's; parameters are numbered as its `features`.

Differs from the paper:
- the last 1x1 convolution, which widens for the classifier, is dropped
- at output stride 8 or 16 the blocks that lose their stride are dilated themselves, and so are those after them
"""

from collections.abc import Callable

from seg_models.backbones.base import (
    SequentialBackbone,
    backbone_builder,
    check_arguments,
    imagenet_state,
    replace_strides,
    with_in_channels,
)

__all__ = ["efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3", "efficientnet_b4"]


def _efficientnet(
    name: str, *, weights: object = None, progress: bool = True, in_channels: int = 3, output_stride: int = 32
) -> SequentialBackbone:
    from torchvision.models import get_model_builder

    check_arguments(in_channels, output_stride)
    classifier = get_model_builder(name)(weights=None)
    if weights is not None:
        classifier.load_state_dict(imagenet_state(name, weights, progress))
    layers = classifier.features[:-1]
    layers[0][0] = with_in_channels(layers[0][0], in_channels, keep=weights is not None)
    strides = replace_strides(layers, 32)
    taps = [len(strides) - 1 - strides[::-1].index(stride) for stride in (2, 4, 8, 16, 32)]
    return SequentialBackbone(list(layers), taps, output_stride)


def _builder(number: int) -> Callable[..., SequentialBackbone]:
    summary = f'Builds EfficientNet-B{number}; features `"stage1"` to `"stage5"`, sizes rounded up.'
    return backbone_builder(_efficientnet, f"efficientnet_b{number}", summary)


efficientnet_b0 = _builder(0)
efficientnet_b1 = _builder(1)
efficientnet_b2 = _builder(2)
efficientnet_b3 = _builder(3)
efficientnet_b4 = _builder(4)
