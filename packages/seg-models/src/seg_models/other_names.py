"""The options of other libraries (torchvision, segmentation_models_pytorch, timm), and what they are called here."""

import os
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from typing import Any

from seg_core.catalog import ModelEntry
from seg_core.checks import is_integer
from seg_core.errors import nearest
from seg_core.registry import BACKBONES, MODELS

__all__ = ["TIMM", "WITHOUT_IMAGENET", "explain_options"]

TIMM = "timm:"
WITHOUT_IMAGENET = ("mit_b?", "xception65")  # glob patterns of the backbones that have no ImageNet weights here

# name elsewhere -> option here
_HERE = {
    other: name
    for name, others in {
        "weights": "pretrained pretrained_weights weights_path checkpoint checkpoint_path ckpt ckpt_path",
        "weights_backbone": "encoder_weights pretrained_backbone backbone_weights backbone_pretrained",
        "backbone": "encoder_name encoder backbone_name",
        "num_classes": "classes class_num n_class n_classes nclass num_class num_labels n_labels out_channels",
        "in_channels": "in_chans in_channel in_ch input_channels n_channels num_channels channels",
        "aux_loss": "aux aux_head aux_params auxiliary auxlayer deep_supervision use_aux",
        "softmax": "activation",
    }.items()
    for other in others.split()
}


def explain_options(
    options: Mapping[str, Any], own: Collection[str], *, model: str | None = None, backbone: str | None = None
) -> str | None:
    """Returns what to write instead of options that are named as in other libraries; None if there are none.

    The advice fits the model: it names weights only if some are published.

    >>> explain_options({"pretrained": True, "classes": 3}, ["weights", "num_classes"], model="fcn_resnet50")
    "unknown arguments: 'pretrained' (use weights='DEFAULT'), 'classes' (use num_classes=3)"

    Args:
        options: what the user passed, by name.
        own: the options that the builder has; others are explained.
        model: name of the model or of the network; None for a backbone alone.
        backbone: name of the backbone, if the user chose it; else the options may name it.
    """
    if backbone is None:
        named = (value for name, value in options.items() if _HERE.get(name) == "backbone")
        backbone = _backbone_called(next(named, None))
    entry = _entry_of(model, backbone)
    wanted = {
        name: value
        for name, value in options.items()
        if name not in own and name in _HERE and (entry.target or _fits(_HERE[name], own))
    }
    if not wanted:
        return None
    advice = {name: _advice(_HERE[name], value, own, entry, backbone, options) for name, value in wanted.items()}
    if len(advice) == 1:
        ((name, text),) = advice.items()
        return f"unknown argument {name!r}; {text}"
    return f"unknown arguments: {', '.join(f'{name!r} ({text})' for name, text in advice.items())}"


def _fits(option: str, own: Collection[str]) -> bool:
    """Returns whether a builder that is in no catalog, or a backbone's, takes the option."""
    return option in own or (option in ("weights", "weights_backbone") and "weights" in own)


def _entry_of(model: str | None, backbone: str | None) -> ModelEntry:
    """Returns the catalog entry of a model, or of a network on a backbone; an empty one if there is none."""
    for name in (f"{model}_{backbone}", str(model)):
        if name in MODELS and isinstance(entry := MODELS.entry(name), ModelEntry):
            return entry
    return ModelEntry("")


def _advice(
    option: str,
    value: Any,
    own: Collection[str],
    entry: ModelEntry,
    backbone: str | None,
    options: Mapping[str, Any],
) -> str:
    is_set = value is not None and value is not False
    if option == "softmax":
        return "remove it: networks return logits" + (", whose .softmax(1) are probabilities" if is_set else "")
    if option == "weights":
        if isinstance(value, str | os.PathLike) and str(value).lower() != "imagenet":
            return f"use weights={os.fspath(value)!r}"
        if not is_set:
            return "remove it: without weights= all tensors are randomly initialized"
        if entry.default_weights and not isinstance(value, str):
            return "use weights='DEFAULT'"
        reason = "; no weights of the whole model are published" if entry.target and not isinstance(value, str) else ""
        return f"{_backbone_weights(value, own, entry, backbone)}{reason}"
    if option == "weights_backbone":
        if not is_set:
            return "remove it: without weights_backbone= the backbone is randomly initialized"
        has_weights = bool(options.get("weights")) or (entry.default_weights and options.get("pretrained") is True)
        return "remove it: weights hold the backbone" if has_weights else _backbone_weights(value, own, entry, backbone)
    if option == "backbone":
        return _backbone(value, own, entry)
    if option == "aux_loss":
        if is_set and len(entry.outputs) < 2 and entry.target:
            return "remove it: this network has no auxiliary heads"
        return "use aux_loss=True" if is_set else "remove it: without aux_loss=True there are no auxiliary outputs"
    count = len(value) if isinstance(value, list | tuple) else value
    return f"use {option}={count}" if is_integer(count, 1) else f"use {option}=, an integer"


def _backbone_weights(value: Any, own: Collection[str], entry: ModelEntry, backbone: str | None) -> str:
    backbone = entry.backbone or backbone
    key = "weights_backbone" if "weights_backbone" in own else "weights"  # that of the builder of a backbone
    if entry.target and backbone is None and not entry.any_backbone:
        return "remove it: this network has no backbone of its own"
    if backbone is not None and any(fnmatchcase(backbone, pattern) for pattern in WITHOUT_IMAGENET):
        return f"remove it: there are no ImageNet weights for {backbone}"
    return f"use {key}={_imagenet(value)!r}"


def _imagenet(value: Any) -> str:
    # torchvision's members have such names; other libraries' names of weights mean nothing here
    return value if isinstance(value, str) and value.startswith("IMAGENET1K") else "DEFAULT"


def _backbone(value: Any, own: Collection[str], entry: ModelEntry) -> str:
    if "backbone" not in own:
        if entry.backbone is None:
            return "remove it: this network has no backbone to choose"
        return f"remove it: the backbone is {entry.backbone}; create({entry.family!r}, backbone=...) builds others"
    name = _backbone_called(value)
    if name is not None:
        return f"use backbone={name!r}"
    hint = nearest(value, BACKBONES.names()) if isinstance(value, str) else ""
    return f"use backbone=, one of list_backbones(), or '{TIMM}' and a timm name.{hint}"


def _backbone_called(name: object) -> str | None:
    """Returns the backbone that segmentation_models_pytorch calls `name`, or None."""
    if not isinstance(name, str):
        return None
    for prefix in ("tu-", TIMM):
        if name.startswith(prefix):
            return TIMM + name.removeprefix(prefix)
    here = name.removeprefix("timm-").replace("-", "_")
    return here if here in BACKBONES else None
