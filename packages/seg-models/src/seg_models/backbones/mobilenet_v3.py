"""MobileNetV3 backbones: searching for MobileNetV3.

Andrew Howard, Mark Sandler, Grace Chu, et al., 2019. https://arxiv.org/abs/1905.02244
The layers and their ImageNet weights are torchvision's; parameters are numbered as its `features`.

Differs from the paper:
- the features of a stride are those of the block that has the stride, as in torchvision's segmentation networks
- at output stride 8 or 16 the blocks that lose their stride are dilated themselves, and so are those after them
- `reduced_tail` halves the channels of the last stage, as the paper does for segmentation (its RF2); torchvision has no
  weights for it
"""

from collections.abc import Callable

from seg_core.errors import InvalidArgumentError
from seg_models.backbones.base import (
    SequentialBackbone,
    backbone_builder,
    check_arguments,
    imagenet_state,
    replace_strides,
    with_in_channels,
)

__all__ = ["mobilenet_v3_large", "mobilenet_v3_small"]


def _mobilenet_v3(
    name: str,
    *,
    weights: object = None,
    progress: bool = True,
    in_channels: int = 3,
    output_stride: int = 32,
    reduced_tail: bool = False,
) -> SequentialBackbone:
    from torchvision.models import get_model_builder

    check_arguments(in_channels, output_stride)
    if reduced_tail and weights is not None:
        raise InvalidArgumentError(
            f"weights_backbone={weights!r} are for the whole network; remove reduced_tail, or weights_backbone"
        )
    classifier = get_model_builder(name)(weights=None, reduced_tail=reduced_tail)
    if weights is not None:
        classifier.load_state_dict(imagenet_state(name, weights, progress))
    layers = classifier.features
    layers[0][0] = with_in_channels(layers[0][0], in_channels, keep=weights is not None)
    strides = replace_strides(layers, 32)
    taps = [*(strides.index(stride) for stride in (2, 4, 8, 16)), len(strides) - 1]
    return SequentialBackbone(list(layers), taps, output_stride)


def _builder(name: str, title: str) -> Callable[..., SequentialBackbone]:
    return backbone_builder(
        _mobilenet_v3,
        name,
        f'Builds {title}, without its classifier; features `"stage1"` to `"stage5"`, sizes rounded up.',
        reduced_tail="whether the last stage has half of its channels.",
    )


mobilenet_v3_large = _builder("mobilenet_v3_large", "MobileNetV3 large")
mobilenet_v3_small = _builder("mobilenet_v3_small", "MobileNetV3 small")
