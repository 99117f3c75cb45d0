"""The options of other libraries (torchvision, segmentation_models_pytorch, timm), and what they are called here."""

import functools
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import Enum
from fnmatch import fnmatchcase
from typing import Any, ParamSpec, TypeVar

from seg_core.catalog import ModelEntry
from seg_core.checks import is_integer
from seg_core.errors import InvalidTypeError, nearest
from seg_core.registry import BACKBONES, MODELS
from seg_core.spec import parameters_of

__all__ = [
    "TIMM",
    "WITHOUT_IMAGENET",
    "advise_name",
    "backbone_called",
    "explain_options",
    "explains_arguments",
    "options_by_name",
    "refuse_positional",
]

P = ParamSpec("P")
T = TypeVar("T")

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
_OF_THE_NETWORK = "remove it: help(get_model_builder(NAME)) lists the network's own options"
_NORMALIZED = "remove it: decoders have the normalization of their papers"
# options of segmentation_models_pytorch that have no counterpart
_REMOVED = {
    "encoder_depth": "remove it: networks use the stages of the backbone that their papers do",
    "encoder_output_stride": "use output_stride= if the network has it, else remove it",
    "decoder_channels": _OF_THE_NETWORK,
    "decoder_use_batchnorm": _NORMALIZED,
    "decoder_use_norm": _NORMALIZED,
    "decoder_attention_type": "remove it: decoders have no attention modules to choose",
    "decoder_interpolation": _OF_THE_NETWORK,
    "decoder_atrous_rates": _OF_THE_NETWORK,
    "decoder_aspp_dropout": _OF_THE_NETWORK,
    "decoder_dropout": _OF_THE_NETWORK,
    "decoder_pyramid_channels": _OF_THE_NETWORK,
    "decoder_segmentation_channels": _OF_THE_NETWORK,
    "decoder_merge_policy": _OF_THE_NETWORK,
    "psp_out_channels": _OF_THE_NETWORK,
    "psp_dropout": _OF_THE_NETWORK,
    "upsampling": "remove it: logits have the size of the images",
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
        backbone = backbone_called(next(named, None))
    entry = _entry_of(model, backbone)
    wanted = {
        name: value
        for name, value in options.items()
        if name not in own and name in _HERE and (entry.target or _fits(_HERE[name], own))
    }
    removed = {name: _REMOVED[name] for name in options if name in _REMOVED and name not in own}
    if not wanted and not removed:
        return None
    advice = removed | {
        name: _advice(_HERE[name], value, own, entry, backbone, options) for name, value in wanted.items()
    }
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
    name = backbone_called(value)
    if name is not None:
        return f"use backbone={name!r}"
    hint = nearest(value, BACKBONES.names()) if isinstance(value, str) else ""
    return f"use backbone=, one of list_backbones(), or '{TIMM}' and a timm name.{hint}"


def backbone_called(name: object) -> str | None:
    """Returns the backbone that segmentation_models_pytorch or the Hugging Face hub calls `name`, or None."""
    if not isinstance(name, str):
        return None
    for prefix in ("tu-", "timm/", "hf-hub:timm/", "hf_hub:timm/", TIMM):
        if name.startswith(prefix):
            return TIMM + name.removeprefix(prefix).partition(".")[0]
    here = name.removeprefix("timm-").replace("-", "_")
    if here in BACKBONES:
        return here
    return TIMM + here if name.startswith("timm-") else None


def refuse_positional(
    function: str, most: int, given: Sequence[Any], own: Collection[str], *, model: str | None = None
) -> None:
    """Raises InvalidTypeError if there are more positional arguments than a function takes.

    Args:
        function: its name, for the message.
        most: how many it takes.
        given: the positional arguments; the message says by which name the superfluous ones are passed.
        own: its options.
        model: name of the model or of the network that is built.
    """
    if len(given) <= most:
        return
    texts = [f"instead of {value!r} {_by_name(value, own, model)}" for value in given[most:]]
    count = f"{most} positional argument{'' if most == 1 else 's'}" if most else "no positional arguments"
    raise InvalidTypeError(f"{function}() takes {count}, got {len(given)}; pass options by name: {'; '.join(texts)}")


def _by_name(value: Any, own: Collection[str], model: str | None) -> str:
    """Returns how to pass a positional argument by its name."""
    entry = _entry_of(model, None)
    if isinstance(value, bool):
        return _advice("weights", value, own, entry, None, {})
    if is_integer(value, 1):
        return f"use {'in_channels' if model is None else 'num_classes'}={value}"
    if isinstance(value, Enum):
        return f"use weights={value}"
    if isinstance(value, str) and value.lower() == "imagenet":
        return _advice("weights_backbone", value, own, entry, None, {})
    if entry.target and backbone_called(value) is not None:
        return _backbone(value, own, entry)
    return "use NAME=..., with the name of the option"


def explains_arguments(called: str, others: Mapping[str, str]) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Returns a decorator: the function then says what to write instead of arguments named as in other libraries.

    Args:
        called: the function's name in messages.
        others: argument of other libraries -> what to write here; `{value}` stands for what was passed.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        own = parameters_of(function)

        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> T:
            wrong = {name: value for name, value in kwargs.items() if name in others and name not in own}
            if wrong:
                texts = [f"{name}= ({others[name].format(value=repr(value))})" for name, value in wrong.items()]
                raise InvalidTypeError(f"{called}() does not take {', '.join(texts)}")
            return function(*args, **kwargs)

        return checked

    return decorate


def options_by_name(function: Callable[P, T]) -> Callable[P, T]:
    """Decorates a function that builds by a name, and takes all else by name: it says how to pass what is not."""
    own: Collection[str] = parameters_of(function)
    builds_models = "weights" not in own

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        if len(args) > 1:
            model = str(args[0]).lower() if builds_models else None
            options = (*own, "weights_backbone") if builds_models else own
            if _entry_of(model, None).any_backbone:
                options = (*options, "backbone")
            refuse_positional(function.__name__, 1, args, options, model=model)
        return function(*args, **kwargs)

    return checked


def advise_name(name: str) -> str:
    """Returns what to write instead of a name that `seg_models` does not have, such as `Unet`, or ""."""
    entries = {key: entry for key in MODELS if isinstance(entry := MODELS.entry(key), ModelEntry)}
    wanted = _plain(name)
    for key, entry in entries.items():
        if entry.any_backbone and wanted in (_plain(key), _plain(entry.family)):
            return f"use create({key!r}, backbone='resnet50'), with one of list_backbones()"
    sizes = [key for key, entry in entries.items() if wanted in (_plain(key), _plain(entry.family))]
    if sizes:
        return f"use {' or '.join(sizes)}"
    return nearest(name, [key for key, entry in entries.items() if not entry.any_backbone]).strip()


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").replace("+", "plus")
