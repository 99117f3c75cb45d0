"""The steps that all builders share.

A builder is a short function in a network's file. It hands `build_network` a function that makes the bare network, and
what the user asked for; settling the variant, the options, the weights and the number of classes, and loading, stand
here.
"""

import functools
import os
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from seg_core.catalog import ModelEntry
from seg_core.errors import InvalidArgumentError, UnknownNameError, nearest
from seg_core.labels.metadata import DatasetMetadata, resolve_metadata
from seg_core.model_files.build_spec import BuildSpec
from seg_core.model_files.model_file import ModelInfo
from seg_core.model_files.weights import Weights, WeightsEnum
from seg_core.registry import MODELS
from seg_models.factory import get_backbone
from seg_models.pretrained.checkpoint import Checkpoint, load_checkpoint, read_checkpoint
from seg_models.pretrained.enums import enum_of_model
from seg_models.pretrained.key_table import table_of
from seg_models.pretrained.recognition import Settled, recognize

__all__ = ["DEFAULT_NUM_CLASSES", "build_network", "looks_like_path", "on_features"]

DEFAULT_NUM_CLASSES = 21  # those of VOC, as in torchvision

NetworkT = TypeVar("NetworkT", bound=nn.Module)


def build_network(
    name: str,
    make: Callable[..., NetworkT],
    *,
    weights: WeightsEnum | str | os.PathLike[str] | None = None,
    progress: bool = True,
    num_classes: int | None = None,
    class_names: Sequence[str] | None = None,
    aux_loss: bool | None = None,
    weights_backbone: object = None,
    in_channels: int = 3,
    variant: str | None = None,
    backbone: str | None = None,
    backbone_options: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
    presets: Mapping[str, Mapping[str, Any]] | None = None,
    other_makes: Mapping[str, str | Callable[..., nn.Module]] | None = None,
) -> NetworkT:
    """Does what every builder does: settles variant, options, weights and number of classes, makes the network, loads
    it.

    Args:
        name: of the model in the catalog; with a backbone, of the row for any backbone. Where the catalog has a row
            `<name>_<backbone>`, the network is that one.
        make: makes the network with fresh parameters (the backbone's may be loaded); called with the keywords
            `num_classes`, `aux_loss` where the catalog names more outputs than `"out"`, and the `options`. Where
            there is a backbone, what makes it comes first: a function of its options, as `output_stride`; else there
            is the keyword `in_channels`.
        weights: member of the model's enum, its name, `"DEFAULT"`, a checkpoint file, or None.
        progress: whether a download shows a bar.
        num_classes: of the logits; None takes the checkpoint's number, or 21 without a checkpoint.
        class_names: of the classes that are wanted, or None. The rows of the classifier are those of the checkpoint's
            classes of these names; the model's metadata are named after them.
        aux_loss: whether there are auxiliary outputs; None is False.
        weights_backbone: what the user named for the backbone. Cannot be combined with `weights`.
        in_channels: of the images.
        variant: name of a variant, or None for the one that the weights need, or else the model's first.
        backbone: name of the backbone, where the network has one.
        backbone_options: more options of its builder; plain values.
        options: the network's own options as the user gave them, None where not said; plain values.
        defaults: what an option is where neither the user nor the variant says it.
        presets: variant -> option -> the value that the variant needs; `"backbone_options"` is one of them, and holds
            those that the backbone needs.
        other_makes: variant that is another network -> what makes that, called as `make` is but with no `options`; a
            string names it as `"module:function"`, imported on use.

    Returns:
        The network in train mode, as torch makes it. `network.build_spec` says how to build it again. With `weights`,
        `network.randomly_initialized` is a tuple with the names of the tensors that the checkpoint could not fill,
        since it has another number of classes or lacks auxiliary heads; they are also logged as a warning. Where the
        checkpoint says what its classes and its preprocessing are, and the number of classes is its own,
        `network.model_info` holds it, as after `load_model`.

    Raises:
        UnknownNameError: if the weights or the variant do not exist.
        InvalidArgumentError: if an option has a value outside of what is allowed or contradicts another.
        CorruptFileError: if the checkpoint is damaged or of another network.
    """
    # what a row of its own does not say already
    particular: dict[str, Any] = {}
    if backbone is not None:
        row = f"{name}_{backbone}"
        if row in MODELS and isinstance(MODELS.entry(row), ModelEntry):
            name = row
        else:
            particular["backbone"] = backbone
    entry = _entry(name)
    if backbone is not None:
        backbone = entry.backbone or backbone
    if num_classes is not None:
        _check_count("num_classes", num_classes)
    _check_count("in_channels", in_channels)
    if class_names is not None:
        num_classes = _count_names(class_names, num_classes, weights)
    if aux_loss and len(entry.outputs) == 1:
        raise InvalidArgumentError(f"model {name!r} has no auxiliary heads, so aux_loss=True cannot be; leave it out")
    if weights_backbone is not None and backbone is None:
        raise InvalidArgumentError(
            f"model {name!r} has no backbone, got weights_backbone={weights_backbone!r}; leave it out"
        )
    if weights is not None and weights_backbone is not None:
        raise InvalidArgumentError(
            f"weights={weights!r} already hold the backbone, so weights_backbone={weights_backbone!r} cannot be used; "
            "leave out one of them"
        )

    def make_backbone(settled: Mapping[str, Any], **own: Any) -> nn.Module:
        assert backbone is not None
        for option in settled:
            if option in own or option in ("weights", "progress", "in_channels"):
                raise InvalidArgumentError(
                    f"backbone_options cannot hold {option!r}, which follows from the model's own arguments; leave it "
                    "out"
                )
        return get_backbone(
            backbone, weights=weights_backbone, progress=progress, in_channels=in_channels, **own, **settled
        )

    def settle(variant: str) -> Settled:
        """Returns what the network of a variant is made of."""
        preset = dict((presets or {}).get(variant, {}))
        of_backbone = _settle_backbone_options(variant, backbone_options or {}, preset.pop("backbone_options", {}))
        own: dict[str, Any] = {"aux_loss": bool(aux_loss)} if len(entry.outputs) > 1 else {}
        make_variant: Callable[..., nn.Module] = make
        other = (other_makes or {}).get(variant)
        if other is not None:
            make_variant = _other_make(other)
            _refuse_options(variant, options or {})
        else:
            own |= _settle_options(variant, options or {}, defaults or {}, preset)
        if backbone is None:
            make_variant = functools.partial(make_variant, in_channels=in_channels, **own)
        else:
            make_variant = functools.partial(make_variant, functools.partial(make_backbone, of_backbone), **own)
        arguments = {"in_channels": in_channels, **own, **particular}
        if of_backbone:
            arguments["backbone_options"] = of_backbone
        network = None if other is None else variant
        return Settled(lambda classes: make_variant(num_classes=classes), arguments, network)

    checkpoint = None if weights is None else _open_weights(name, weights, progress)
    if checkpoint is not None and checkpoint.variant is None:
        _check_variant(name, entry, variant)
        checkpoint = recognize(checkpoint, name, entry.variants if variant is None else (variant,), settle)
    variant = _settle_variant(name, entry, variant, checkpoint)
    settled = settle(variant)
    if num_classes is None:
        num_classes = checkpoint.count_classes(settled.make) if checkpoint is not None else DEFAULT_NUM_CLASSES
    network: NetworkT = settled.make(num_classes)  # type: ignore[assignment]  # the builder says what it is
    # plain attributes: nn.Module's stub takes everything set on a module for a tensor or a module
    if checkpoint is not None:
        network.randomly_initialized = load_checkpoint(network, checkpoint, settled.make, class_names)  # type: ignore[assignment]
    network.build_spec = spec = BuildSpec(name, variant, {"num_classes": num_classes, **settled.arguments})  # type: ignore[assignment]
    if checkpoint is not None and checkpoint.info is not None:
        if class_names is not None:
            metadata = DatasetMetadata("custom", tuple(class_names))
            info = replace(checkpoint.info, spec=spec, metadata=metadata, metrics={}, protocol={}, protocol_text="")
            network.model_info = info  # type: ignore[assignment]
        elif num_classes == checkpoint.num_classes:
            network.model_info = replace(checkpoint.info, spec=spec)  # type: ignore[assignment]
    return network


def on_features(network: Callable[..., NetworkT]) -> Callable[..., NetworkT]:
    """Returns the `make` of a network whose class takes the backbone first, and of whose options one is the backbone's.

    Args:
        network: called with the backbone and all keywords of `make` but `output_stride`.
    """

    def make(make_backbone: Callable[..., nn.Module], *, output_stride: int, **keywords: Any) -> NetworkT:
        return network(make_backbone(output_stride=output_stride), **keywords)

    return make


def _check_count(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidArgumentError(f"{name} must be a whole number from 1 on, got {value!r}")


def _count_names(class_names: Sequence[str], num_classes: int | None, weights: object) -> int:
    if isinstance(class_names, str) or not class_names or len(set(class_names)) < len(class_names):
        raise InvalidArgumentError(f"class_names must be a list of names that are all different, got {class_names!r}")
    if num_classes not in (None, len(class_names)):
        raise InvalidArgumentError(
            f"num_classes={num_classes!r} contradicts the {len(class_names)} class_names; leave it out"
        )
    if weights is None:
        raise InvalidArgumentError(
            "class_names choose among the classes of weights, and weights is None; name weights, or say num_classes= "
            "instead"
        )
    return len(class_names)


def _settle_options(
    variant: str, options: Mapping[str, Any], defaults: Mapping[str, Any], preset: Mapping[str, Any]
) -> dict[str, Any]:
    settled = {}
    for name, value in options.items():
        needed = preset.get(name)
        if value is not None and needed is not None and value != needed:
            raise InvalidArgumentError(
                f"{name}={value!r} contradicts variant {variant!r}, which needs {name}={needed!r}; leave out {name}, "
                "or choose another variant"
            )
        settled[name] = next((v for v in (value, needed, defaults[name]) if v is not None), None)
    return settled


def _settle_backbone_options(variant: str, options: Mapping[str, Any], preset: Mapping[str, Any]) -> dict[str, Any]:
    for name, needed in preset.items():
        if options.get(name, needed) != needed:
            raise InvalidArgumentError(
                f"backbone_options holds {name}={options[name]!r}, which contradicts variant {variant!r}: it needs "
                f"{name}={needed!r}; leave out {name}, or choose another variant"
            )
    return {**preset, **options}


def _other_make(target: str | Callable[..., nn.Module]) -> Callable[..., Any]:
    make: Callable[..., Any] = pkgutil.resolve_name(target) if isinstance(target, str) else target
    return make


def _refuse_options(variant: str, options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        if value is not None:
            raise InvalidArgumentError(
                f"variant {variant!r} has no option {name!r}, got {name}={value!r}; leave it out"
            )


def _entry(name: str) -> ModelEntry:
    entry = MODELS.entry(name)
    # a model registered by hand, as in a notebook, may come with nothing but its builder
    return entry if isinstance(entry, ModelEntry) else ModelEntry(entry.target, entry.summary)


def _open_weights(name: str, weights: WeightsEnum | str | os.PathLike[str], progress: bool) -> Checkpoint:
    if isinstance(weights, os.PathLike) or (isinstance(weights, str) and looks_like_path(weights)):
        checkpoint = read_checkpoint(weights)
        if checkpoint.builder not in (None, name):
            raise InvalidArgumentError(
                f"weights {os.fspath(weights)!r} are of model {checkpoint.builder!r} and do not fit {name!r}; build "
                "that model, or load the file with load_model"
            )
        return checkpoint
    member: WeightsEnum = enum_of_model(name).verify(weights)
    published: Weights = member.value
    metadata = resolve_metadata(published.label_set)
    table = table_of(published.key_rules, name, published.variant)
    return Checkpoint(
        source=str(member),
        tensors=table.convert(member.get_state_dict(progress=progress)),
        variant=published.variant,
        num_classes=metadata.num_classes,
        info=ModelInfo(
            spec=BuildSpec(name, published.variant, {}),
            metadata=metadata,
            preprocessing=published.transforms(),
            metrics=published.meta.get("metrics", {}),
            protocol_text=published.meta.get("protocol", ""),
        ),
    )


def looks_like_path(text: str) -> bool:
    """Tells a file from the name of a model or a weights member: it exists, has a folder, or a checkpoint's suffix."""
    path = Path(text)
    return path.is_file() or path.name != text or path.suffix in (".pt", ".pth", ".safetensors")


def _check_variant(name: str, entry: ModelEntry, variant: str | None) -> None:
    if variant is not None and variant not in entry.variants:
        raise UnknownNameError(
            f"model {name!r} has no variant {variant!r}.{nearest(variant, entry.variants)} Known: "
            f"{', '.join(entry.variants)}"
        )


def _settle_variant(name: str, entry: ModelEntry, variant: str | None, checkpoint: Checkpoint | None) -> str:
    _check_variant(name, entry, variant)
    if checkpoint is None or checkpoint.variant is None:
        return variant or entry.variants[0]
    _check_variant(name, entry, checkpoint.variant)
    if variant not in (None, checkpoint.variant):
        raise InvalidArgumentError(
            f"variant={variant!r} contradicts the weights {checkpoint.source}, which need variant "
            f"{checkpoint.variant!r}; leave out variant="
        )
    return checkpoint.variant
