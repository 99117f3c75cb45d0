"""Lists and builds models by name. Listing names does not import torch; building does."""

from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

from seg_core.catalog import ModelEntry
from seg_core.errors import InvalidArgumentError, UnknownNameError, nearest
from seg_core.registry import BACKBONES, MODELS
from seg_core.spec import check_params, parameters_of, takes_any
from seg_models.other_names import TIMM, backbone_called, explain_options, explains_arguments, options_by_name

if TYPE_CHECKING:
    from torch import nn

    from seg_core.model_files.weights import WeightsEnum
    from seg_models.backbones.base import Backbone

__all__ = [
    "create",
    "get_backbone",
    "get_model",
    "get_model_builder",
    "get_model_weights",
    "get_weight",
    "list_backbones",
    "list_models",
]

_OF_EVERY_BACKBONE = ("weights", "progress", "in_channels", "output_stride")


_LISTED_WITH = {
    "include": "use pattern={value}",
    "filter": "use pattern={value}",
    "exclude": "remove it, and leave names out of the result",
    "module": "remove it: all models are for semantic segmentation",
    "pretrained": "remove it: `get_model_weights(name)` lists the weights of a model",
}


@explains_arguments("list_models", _LISTED_WITH)
def list_models(pattern: str | None = None) -> list[str]:
    """Returns the names of all models of all installed packages, sorted.

    Args:
        pattern: glob pattern that the names must match, such as `"fcn*"`.
    """
    names = [name for name in MODELS.names() if pattern is None or fnmatch(name, pattern)]
    return [name for name in names if not getattr(MODELS.entry(name), "any_backbone", False)]


def get_model_builder(name: str) -> "Callable[..., nn.Module]":
    """Returns the builder of a model.

    Raises:
        UnknownNameError: if there is no such model; the message names the nearest.
    """
    return MODELS.get(name)


@options_by_name
def get_model(name: str, **options: Any) -> "nn.Module":
    """Builds a model by name.

    Args:
        name: one of `list_models()`; or the name of a network that takes `backbone`, such as `"upernet"`.
        options: options of the builder: `weights`, `num_classes`, `aux_loss`, `weights_backbone`, `in_channels`,
            `variant` and those of the network; see the builder's documentation.

    Raises:
        UnknownNameError: if there is no such model.
        InvalidArgumentError: if the builder has no such option, or an option has a value that is not allowed.
    """
    builder = get_model_builder(name)
    _refuse_other_names(builder, options, model=name, backbone=options.get("backbone"))
    check_params(f"model {name!r}", builder, options, complete=False)
    entry = MODELS.entry(name)
    if isinstance(entry, ModelEntry) and entry.any_backbone and "backbone" not in options:
        raise InvalidArgumentError(f"model {name!r} needs backbone=, one of list_backbones()")
    return builder(**options)


@options_by_name
def create(family: str, *, backbone: str | None = None, **options: Any) -> "nn.Module":
    """Builds a model by the name of its network and, if it has one, of its backbone.

    Args:
        family: name of the network, as `"fcn"` or `"DeepLabV3+"`, or of a model, as `"pidnet_s"`; case does not matter.
        backbone: one of `list_backbones()`, such as `"resnet50"`, or `"timm:"` and a timm name; None if the network has
            no backbone.
        options: options of the builder, as for `get_model`.

    Raises:
        UnknownNameError: if there is no such network or backbone.
        InvalidArgumentError: if the backbone or the model's size is missing, or the builder has no such option.
    """
    entries = {name: entry for name in MODELS if isinstance(entry := MODELS.entry(name), ModelEntry)}
    wanted = family.lower()
    if backbone is None and wanted in entries and not entries[wanted].any_backbone:
        return get_model(wanted, **options)
    members = {
        name: entry
        for name, entry in entries.items()
        if entry.family.lower() == wanted or (name == wanted and (entry.any_backbone or entry.backbone is None))
    }
    # the other models of a network that was found by the name of one model
    families = {entry.family for entry in members.values()}
    members |= {name: entry for name, entry in entries.items() if entry.family in families}
    if not members:
        known = sorted({entry.family for entry in entries.values()})
        raise UnknownNameError(
            f"unknown network {family!r}.{nearest(family, known)} Known: {', '.join(known)}; list_models() lists "
            "the models"
        )
    general = next((name for name, entry in members.items() if entry.any_backbone), None)
    fitting = [
        name
        for name, entry in members.items()
        if not entry.any_backbone
        and (backbone is None or entry.backbone == backbone or (general and name == f"{general}_{backbone}"))
    ]
    if len(fitting) == 1:
        return get_model(fitting[0], **options)
    known = sorted(entry.backbone for entry in members.values() if entry.backbone is not None)
    if backbone is None:
        if general is not None:
            _refuse_other_names(get_model_builder(general), options, model=general)
        if general is None:
            raise InvalidArgumentError(f"network {family!r} has several sizes: {', '.join(sorted(fitting))}; name one")
        raise InvalidArgumentError(
            f"network {family!r} needs backbone=, one of list_backbones(); it is known on {', '.join(known)}"
        )
    if general is None:
        if not known:
            raise UnknownNameError(f"network {family!r} has no backbone to choose; remove backbone={backbone!r}")
        raise UnknownNameError(
            f"network {family!r} has no backbone {backbone!r}.{nearest(backbone, known)} Known: {', '.join(known)}"
        )
    return get_model(general, backbone=backbone, **options)


@explains_arguments("list_backbones", _LISTED_WITH)
def list_backbones(pattern: str | None = None) -> list[str]:
    """Returns the names of all backbones of all installed packages, sorted; timm's are not listed: `"timm:NAME"`.

    Args:
        pattern: glob pattern that the names must match, such as `"resnet*"`.
    """
    return [name for name in BACKBONES.names() if pattern is None or fnmatch(name, pattern)]


@options_by_name
def get_backbone(
    name: str,
    *,
    weights: object = None,
    progress: bool = True,
    in_channels: int = 3,
    output_stride: int = 32,
    **options: Any,
) -> "Backbone":
    """Builds a backbone by name: a module from images to an ordered dict of features, from fine to coarse.

    Args:
        name: one of `list_backbones()`, or `"timm:"` and a timm name, such as `"timm:convnext_tiny"`.
        weights: ImageNet weights: member of torchvision's enum, its name, `"DEFAULT"`, the tag of timm weights, or
            None to initialize randomly.
        progress: whether a download shows a progress bar.
        in_channels: channels of the images. For numbers other than 3 the weights' first convolution is inflated: for
            one channel the kernels are summed over the colors; n channels repeat them in turn, times 3 / n.
        output_stride: pixels per feature of the last stages: 8, 16 or 32; strides beyond it become dilation.
        options: further options of this backbone, such as `stem="deep"` for ResNets.

    Raises:
        UnknownNameError: if there are no such backbone or weights.
        InvalidArgumentError: if the backbone has no such option, or an option has a value that is not allowed.
        WriteError: if the weights cannot be fetched.
    """
    if name not in BACKBONES and not name.startswith(TIMM) and (here := backbone_called(name)) is not None:
        raise UnknownNameError(f"unknown backbone {name!r}; use {here!r}")
    common = {"weights": weights, "progress": progress, "in_channels": in_channels, "output_stride": output_stride}
    _refuse_other_names(None if name.startswith(TIMM) else BACKBONES.get(name), options, backbone=name)
    if name.startswith(TIMM):
        from seg_models.backbones.timm import timm_backbone

        return timm_backbone(name.removeprefix(TIMM), **common, **options)  # type: ignore[arg-type]  # mixed values
    builder = BACKBONES.get(name)
    check_params(f"backbone {name!r}", builder, options, complete=False)
    return builder(**common, **options)


def get_model_weights(name: "str | Callable[..., nn.Module]") -> "type[WeightsEnum]":
    """Returns the weights enum of a model.

    Args:
        name: name of the model, or its builder.

    Raises:
        UnknownNameError: if there is no such model, or no weights for it.
    """
    if callable(name):
        builder = name
        name = next((n for n in MODELS if MODELS.entry(n).target == _target(builder)), builder.__name__)
    from seg_models.pretrained.enums import enum_of_model

    return enum_of_model(name)


def get_weight(name: str) -> "WeightsEnum":
    """Returns the weights member named `"EnumName.MEMBER"`, such as `"FCN_ResNet50_Weights.DEFAULT"`.

    Raises:
        UnknownNameError: if there is no such enum or member.
    """
    enum_name, _, member = name.partition(".")
    owners = {e.weights_enum: n for n in MODELS if isinstance(e := MODELS.entry(n), ModelEntry) and e.weights_enum}
    if enum_name not in owners:
        known = ", ".join(sorted(owners)) or "none"
        raise UnknownNameError(
            f"unknown weights {name!r}: there is no enum {enum_name!r}.{nearest(enum_name, owners)} Known: {known}"
        )
    if not member:
        raise UnknownNameError(f"weights {name!r} name no member; write for example '{enum_name}.DEFAULT'")
    from seg_models.pretrained.enums import enum_of_model

    return enum_of_model(owners[enum_name])[member]


def _refuse_other_names(
    builder: "Callable[..., object] | None",
    options: Mapping[str, Any],
    *,
    model: str | None = None,
    backbone: str | None = None,
) -> None:
    """Raises InvalidArgumentError if options are named as in other libraries; timm's backbones have no `builder`."""
    if builder is not None and takes_any(builder):
        return
    own = _OF_EVERY_BACKBONE if builder is None else parameters_of(builder)
    if message := explain_options(options, own, model=model, backbone=backbone):
        raise InvalidArgumentError(message)


def _target(builder: "Callable[..., nn.Module]") -> str:
    return f"{builder.__module__}:{builder.__qualname__}"
