"""The base class of the networks: `forward_logits`, followed by a resize to the input's size."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from seg_core.errors import InvalidArgumentError
from seg_core.interfaces import FeatureInfo
from seg_core.model_files.build_spec import BuildSpec
from seg_core.model_files.reading import ModelInfo
from seg_models.backbones.base import Backbone

__all__ = ["SegmentationNetwork", "feature_of_stride", "last_features", "resize_outputs", "select_features"]

_OTHERS = "choose a backbone that has them, such as 'resnet50' or 'timm:convnext_tiny' (docs/timm.md lists others)"


def select_features(backbone: nn.Module, *features: FeatureInfo) -> list[str]:
    """Restricts the backbone to these features, so that no others stay in memory; returns their names in order."""
    names = [info.name for info in features]
    if isinstance(backbone, Backbone):  # a third-party backbone may return all of its features
        backbone.select(names)
    return names


def feature_of_stride(backbone: Backbone, stride: int) -> FeatureInfo:
    """Returns the backbone's first feature of a stride.

    Raises:
        InvalidArgumentError: if it has none.
    """
    for info in backbone.feature_info:
        if info.stride == stride:
            return info
    found = ", ".join(str(info.stride) for info in backbone.feature_info)
    raise InvalidArgumentError(
        f"this network needs a feature of stride {stride}, but the backbone has strides {found}; {_OTHERS}"
    )


def last_features(backbone: Backbone, count: int) -> tuple[FeatureInfo, ...]:
    """Returns the backbone's coarsest features, ordered from fine to coarse.

    Raises:
        InvalidArgumentError: if there are fewer than `count`.
    """
    if len(backbone.feature_info) < count:
        raise InvalidArgumentError(
            f"this network needs {count} features, but the backbone has {len(backbone.feature_info)}; {_OTHERS}"
        )
    return backbone.feature_info[-count:]


def resize_outputs(
    outputs: Mapping[str, Tensor], size: tuple[int, int], upsampling: Mapping[str, tuple[str, bool] | None]
) -> dict[str, Tensor]:
    """Returns the outputs at `size`.

    Args:
        outputs: name -> float (N, K, h, w).
        size: height and width in pixels.
        upsampling: name -> (mode, align_corners) of the resize, or None if the output has the size already.
    """
    resized = {}
    for name, output in outputs.items():
        how = upsampling[name]
        if how is not None:
            mode, align_corners = how
            output = F.interpolate(output, size=size, mode=mode, align_corners=align_corners)
        resized[name] = output
    return resized


class SegmentationNetwork(nn.Module, ABC):
    """A network that maps images to a dict of logits.

    The keys of the dict depend on how the network was built (`aux_loss`), never on train or eval mode.

    Attributes:
        upsampling: output name -> (mode, align_corners) of the resize at the end of `forward`, or None if
            `forward_logits` returns the output at the input's size already.
        build_spec: how to build this network again; set by its builder and kept in model files.
        randomly_initialized: names of the tensors that the named weights did not fill.
        model_info: classes and preprocessing of the named weights, if known and valid for this network.
    """

    upsampling: Mapping[str, tuple[str, bool] | None]
    build_spec: BuildSpec
    randomly_initialized: tuple[str, ...] = ()
    model_info: ModelInfo | None = None

    @abstractmethod
    def forward_logits(self, images: Tensor) -> dict[str, Tensor]:
        """Returns the outputs before the final resize.

        Args:
            images: float (N, C, H, W), normalized RGB if C is 3.

        Returns:
            Output name -> float (N, K, h, w), logits; `"out"` is first.
        """

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Returns the outputs at the input's size.

        Args:
            images: float (N, C, H, W), normalized RGB if C is 3.

        Returns:
            Output name -> float (N, K, H, W), logits; `"out"` is first.
        """
        return resize_outputs(self.forward_logits(images), (images.shape[-2], images.shape[-1]), self.upsampling)
