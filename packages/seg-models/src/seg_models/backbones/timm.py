"""Backbones of timm, PyTorch image models, by name. https://github.com/huggingface/pytorch-image-models

Every timm network that can return features is a backbone here: `"timm:convnext_tiny"`. timm is an extra:
`pip install seg-models[timm]`.
"""

from collections import OrderedDict
from typing import Any

from torch import Tensor

from seg_core.errors import InvalidArgumentError, UnknownNameError, WriteError, nearest
from seg_core.interfaces import FeatureInfo
from seg_models.backbones.base import Backbone, check_arguments

__all__ = ["TimmBackbone", "timm_backbone"]


class TimmBackbone(Backbone):
    """A network of timm as a backbone.

    Args:
        model: result of `timm.create_model(..., features_only=True)`.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        # some transformers keep channels last
        self._channels_last = str(getattr(model, "output_fmt", "NCHW")).endswith("NHWC")
        info = zip(model.feature_info.channels(), model.feature_info.reduction(), strict=True)
        self.feature_info = tuple(FeatureInfo(f"stage{n}", *facts) for n, facts in enumerate(info, 1))
        self._names = self._selected()

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        """Returns `"stage1"`, `"stage2"`, ..., as `Backbone.forward`."""
        features = zip(self._names, self.model(images), strict=True)
        selected = OrderedDict((name, feature) for name, feature in features if name in self._selected())
        if self._channels_last:
            return OrderedDict((name, feature.permute(0, 3, 1, 2)) for name, feature in selected.items())
        return selected


def timm_backbone(
    name: str,
    *,
    weights: object = None,
    progress: bool = True,  # noqa: ARG001 - an argument of every backbone
    in_channels: int = 3,
    output_stride: int = 32,
    **options: Any,
) -> TimmBackbone:
    """Builds a backbone of timm.

    Args:
        name: timm's name, without the prefix, such as `"convnext_tiny"`.
        weights: `"DEFAULT"`, the tag of one of timm's pretrained weights, such as `"fb_in1k"`, or None to initialize
            randomly.
        progress: ignored; timm decides.
        in_channels: channels of the images; timm inflates its weights by the same rule as this toolkit.
        output_stride: pixels per feature of the last stages; less than 32 only if timm's network supports it.
        options: further options of timm's network, such as `img_size`.

    Raises:
        InvalidArgumentError: if timm is not installed, or cannot build its network with these options.
        UnknownNameError: if timm has no such network or weights.
        WriteError: if the weights cannot be fetched.
    """
    check_arguments(in_channels, output_stride)
    try:
        import timm
    except ModuleNotFoundError as error:
        raise InvalidArgumentError(
            f"backbone 'timm:{name}' needs timm, which is not installed; pip install seg-models[timm]"
        ) from error
    if not timm.is_model(name):
        hint = nearest(name, timm.list_models())
        raise UnknownNameError(f"unknown backbone 'timm:{name}'.{hint} timm.list_models() lists all")
    tag = _tag(timm, name, weights)
    if output_stride != 32:
        options = {**options, "output_stride": output_stride}
    try:
        model = timm.create_model(
            name if tag is None else f"{name}.{tag}",
            pretrained=tag is not None,
            features_only=True,
            in_chans=in_channels,
            **options,
        )
    except (TypeError, NotImplementedError, AssertionError, RuntimeError, ValueError, AttributeError) as error:
        raise InvalidArgumentError(
            f"timm cannot build {name!r} as a backbone with output_stride={output_stride}"
            + "".join(f", {k}={v!r}" for k, v in options.items() if k != "output_stride")
            + f": {error}; choose another backbone, or output_stride=32"
        ) from error
    except OSError as error:
        raise WriteError(
            f"cannot fetch the weights {tag!r} of timm's {name!r}: {error}; check the network, or remove "
            "weights_backbone"
        ) from error
    backbone = TimmBackbone(model)
    coarsest = backbone.feature_info[-1].stride
    if coarsest > output_stride:
        raise InvalidArgumentError(
            f"timm's {name!r} ignores output_stride={output_stride}: its features end at stride {coarsest}; choose "
            "another backbone, or a larger output_stride"
        )
    return backbone


def _tag(timm: Any, name: str, weights: object) -> str | None:
    """Returns the tag of the named weights."""
    if weights is None:
        return None
    full = [known for known in timm.list_pretrained(f"{name}*") if known.partition(".")[0] == name]
    tags = [known.partition(".")[2] for known in full]
    if weights == "DEFAULT" and tags:
        default = timm.get_pretrained_cfg(name)
        return str(default.tag) if default is not None and default.tag in tags else tags[0]
    if not isinstance(weights, str) or weights not in tags:
        hint = nearest(weights, tags) if isinstance(weights, str) else ""
        raise UnknownNameError(
            f"unknown weights_backbone {weights!r} of timm's {name!r}.{hint} Known: "
            + (", ".join(["DEFAULT", *tags]) if tags else "none")
        )
    return weights
