"""The common steps of all builders: determine variant, weights and number of classes, then build and load."""

import functools
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from seg_core.catalog import ModelEntry
from seg_core.checks import check_integer
from seg_core.errors import InvalidArgumentError, UnknownNameError, nearest
from seg_core.labels.channels import ImageChannels
from seg_core.labels.metadata import DatasetMetadata, resolve_metadata
from seg_core.model_files.build_spec import BuildSpec
from seg_core.model_files.load_network import looks_like_path
from seg_core.model_files.reading import ModelInfo
from seg_core.model_files.weights import Weights, WeightsEnum
from seg_core.registry import MODELS, resolve_target
from seg_models.builders.backbone import BackboneRecipe
from seg_models.builders.channel_names import fit_by_name
from seg_models.builders.options import (
    PAPER,
    WITHOUT_OPTIONS,
    CommonOptions,
    Options,
    OtherNetwork,
    Variants,
    find_variant,
    split_arguments,
)
from seg_models.pretrained.checkpoint import Checkpoint, load_checkpoint, misfit, read_checkpoint
from seg_models.pretrained.enums import enum_of_model
from seg_models.pretrained.input_channels import (
    RGB,
    first_kernels,
    gray_normalization,
    inflate_tensors,
    place_colors,
)
from seg_models.pretrained.lookup import table_of
from seg_models.pretrained.recognition import Plan, check_channels, recognize

__all__ = ["DEFAULT_NUM_CLASSES", "build_network"]

logger = logging.getLogger(__name__)

DEFAULT_NUM_CLASSES = 21  # those of VOC, as in torchvision

NetworkT = TypeVar("NetworkT", bound=nn.Module)


def build_network(
    name: str,
    build: Callable[..., NetworkT],
    arguments: Mapping[str, Any],
    variants: Variants = WITHOUT_OPTIONS,
    *,
    backbone: str | None = None,
) -> NetworkT:
    """Builds a network with the user's options, and loads its weights.

    Args:
        name: name of the model in the catalog; with a backbone, name of the entry for any backbone. If the catalog has
            an entry `<name>_<backbone>`, that is the model.
        build: builds the bare network, randomly initialized except for its backbone. It is called with the keywords
            `num_classes`; `aux_loss`, if the catalog names outputs besides `"out"`; `options`, if the network has any;
            `recipe`, the `BackboneRecipe` of its backbone, or, if it has none, `in_channels`.
        arguments: what the user passed: `CommonOptions` and the network's own. An option that is None is ignored.
        variants: variant -> its options. Those of `"paper"` are defaults; those of any other variant are fixed.
        backbone: name of the backbone, if the network has one.

    Returns:
        The network in train mode, as torch builds it. `network.build_spec` describes how to build it again. With
        weights, `network.randomly_initialized` names the tensors that the checkpoint did not fill (for another number
        of classes, or without auxiliary heads); a warning lists them too. If the checkpoint contains its classes and
        preprocessing, and the network has these classes, `network.model_info` holds them, as after `load_model`.

    Raises:
        UnknownNameError: if the weights or the variant do not exist.
        InvalidArgumentError: if an option has a value that is not allowed, or contradicts another one.
        CorruptFileError: if the checkpoint is damaged or of another network.
    """
    model = _find_model(name, backbone)
    common, passed = split_arguments(arguments)
    channels = common.in_channels if isinstance(common.in_channels, ImageChannels) else None
    common = _check_common(model, common)
    plan = functools.partial(_plan, model, build, variants, common, passed)  # of a variant

    checkpoint = _open_checkpoint(model, common, plan)
    variant = _settle_variant(model, common.variant, checkpoint)
    planned = plan(variant)
    by_name = None
    if checkpoint is not None:
        by_name = None if channels is None else fit_by_name(checkpoint, channels, planned)
        checkpoint = by_name or _fit_channels(checkpoint, model.name, planned)
    num_classes = common.num_classes or _count_classes(checkpoint, planned)
    network: NetworkT = planned.build(num_classes)  # type: ignore[assignment]  # as the builder is annotated
    spec = BuildSpec(model.name, variant, {"num_classes": num_classes, **planned.arguments})
    # plain attributes: nn.Module's stub expects every attribute of a module to be a tensor or a module
    network.build_spec = spec  # type: ignore[assignment]
    if checkpoint is not None:
        network.randomly_initialized = load_checkpoint(network, checkpoint, planned.build, common.class_names)  # type: ignore[assignment]
        if by_name is None and channels is not None and _is_of_colors(checkpoint, channels):
            _place_colors(network, planned, channels, checkpoint.source)
        if info := _info_of(checkpoint, spec, common.class_names, channels):
            network.model_info = info  # type: ignore[assignment]
    return network


# ------------------------------------------------------------------------------------------- the model and its options


@dataclass(frozen=True)
class _Model:
    """The catalog entry of a model.

    Attributes:
        name: name of the entry.
        entry: the entry.
        backbone: name of its backbone, or None.
        arguments: arguments of the build spec that the entry does not imply: the backbone, if the entry is for any.
    """

    name: str
    entry: ModelEntry
    backbone: str | None
    arguments: Mapping[str, Any]

    @property
    def has_aux(self) -> bool:
        return len(self.entry.outputs) > 1


def _find_model(name: str, backbone: str | None) -> _Model:
    row = f"{name}_{backbone}"
    if backbone is not None and row in MODELS and isinstance(entry := MODELS.entry(row), ModelEntry):
        return _Model(row, entry, entry.backbone or backbone, {})
    entry = MODELS.entry(name)
    if not isinstance(entry, ModelEntry):  # registered at run time, such as in a notebook, with nothing but its builder
        entry = ModelEntry(entry.target, entry.summary)
    return _Model(name, entry, backbone, {} if backbone is None else {"backbone": backbone})


def _check_common(model: _Model, common: CommonOptions) -> CommonOptions:
    """Checks the options of every builder; returns them with the number of classes that class names imply."""
    if common.num_classes is not None:
        check_integer("num_classes", common.num_classes)
    _count_channels(common.in_channels)
    if common.class_names is not None:
        common = replace(common, num_classes=_count_names(common.class_names, common.num_classes, common.weights))
    if common.aux_loss and not model.has_aux:
        raise InvalidArgumentError(f"model {model.name!r} has no auxiliary heads; remove aux_loss=True")
    if common.weights_backbone is not None and model.backbone is None:
        raise InvalidArgumentError(
            f"model {model.name!r} has no backbone; remove weights_backbone={common.weights_backbone!r}"
        )
    if common.weights is not None and common.weights_backbone is not None:
        raise InvalidArgumentError(
            f"weights={common.weights!r} already hold the backbone; remove weights_backbone="
            f"{common.weights_backbone!r}, or weights"
        )
    return common


def _count_channels(in_channels: int | ImageChannels) -> int:
    return in_channels.count if isinstance(in_channels, ImageChannels) else check_integer("in_channels", in_channels)


def _count_names(class_names: Sequence[str], num_classes: int | None, weights: object) -> int:
    if isinstance(class_names, str) or not class_names or len(set(class_names)) < len(class_names):
        raise InvalidArgumentError(f"class_names must be a list of different names, got {class_names!r}")
    if num_classes not in (None, len(class_names)):
        raise InvalidArgumentError(
            f"num_classes={num_classes!r} contradicts the {len(class_names)} class_names; remove num_classes"
        )
    if weights is None:
        raise InvalidArgumentError(
            "class_names select from the classes of weights, but weights is None; set weights, or num_classes instead "
            "of class_names"
        )
    return len(class_names)


def _plan(
    model: _Model,
    build_paper: Callable[..., nn.Module],
    variants: Variants,
    common: CommonOptions,
    passed: Mapping[str, Any],
    variant: str,
) -> Plan:
    """Returns how a variant of the model is built with the user's options.

    Raises:
        InvalidArgumentError: if an option contradicts the variant.
    """
    given, passed = passed, dict(passed)
    in_channels = _count_channels(common.in_channels)
    passed_to_backbone = passed.pop("backbone_options", {})
    found = find_variant(variants, variant, model.backbone)
    to_backbone = _settle_backbone_options(variant, getattr(found, "backbone_options", None) or {}, passed_to_backbone)

    keywords: dict[str, Any] = {}
    arguments: dict[str, Any] = {"in_channels": in_channels}
    if model.has_aux:
        keywords["aux_loss"] = arguments["aux_loss"] = bool(common.aux_loss)
    if isinstance(found, OtherNetwork):
        _refuse_options(variant, passed)
        build = resolve_target(found.target)
    else:
        build = build_paper
        options = _settle_options(variant, found, passed)
        own = {f.name: getattr(options, f.name) for f in fields(options) if f.name != "backbone_options"}
        if own:
            keywords["options"] = options
            arguments |= own
    if model.backbone is None:
        keywords["in_channels"] = in_channels
    else:
        keywords["recipe"] = BackboneRecipe(
            model.backbone,
            in_channels,
            common.weights_backbone,
            common.progress,
            to_backbone,
            common.in_channels if isinstance(common.in_channels, ImageChannels) else None,
        )
    arguments |= model.arguments
    if to_backbone:
        arguments["backbone_options"] = to_backbone
    return Plan(
        build=lambda num_classes: build(num_classes=num_classes, **keywords),
        build_with=lambda channels: (
            _plan(model, build_paper, variants, replace(common, in_channels=channels), given, variant).build
        ),
        in_channels=in_channels,
        arguments=arguments,
        other_network=variant if isinstance(found, OtherNetwork) else None,
    )


def _settle_options(variant: str, options: Options, passed: Mapping[str, Any]) -> Options:
    """Returns the variant's options with those that the user passed."""
    wanted = replace(options, **passed).settled()
    fixed = wanted if variant == PAPER else options.settled()
    for name, value in passed.items():
        if getattr(wanted, name) != getattr(fixed, name):
            raise InvalidArgumentError(
                f"{name}={value!r} contradicts variant {variant!r}, which needs {name}={getattr(fixed, name)!r}; "
                f"remove {name}, or choose another variant"
            )
    return wanted


def _settle_backbone_options(variant: str, needed: Mapping[str, Any], passed: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in needed.items():
        if passed.get(name, value) != value:
            raise InvalidArgumentError(
                f"backbone_options holds {name}={passed[name]!r}, which contradicts variant {variant!r}: it needs "
                f"{name}={value!r}; remove {name}, or choose another variant"
            )
    return {**needed, **passed}


def _refuse_options(variant: str, passed: Mapping[str, Any]) -> None:
    for name, value in passed.items():
        raise InvalidArgumentError(f"variant {variant!r} has no option {name!r}; remove {name}={value!r}")


# --------------------------------------------------------------------------------------------------------- the weights


def _open_checkpoint(model: _Model, common: CommonOptions, plan: Callable[[str], Plan]) -> Checkpoint | None:
    """Returns the tensors of the named weights under our names, and their variant."""
    if common.weights is None:
        return None
    checkpoint = _open_weights(model.name, common.weights, common.progress)
    if checkpoint.variant is None:
        _check_variant(model, common.variant)
        variants = model.entry.variants if common.variant is None else (common.variant,)
        checkpoint = recognize(checkpoint, model.name, variants, plan)
    return checkpoint


def _open_weights(name: str, weights: WeightsEnum | str | os.PathLike[str], progress: bool) -> Checkpoint:
    if isinstance(weights, os.PathLike) or (isinstance(weights, str) and _is_path(name, weights)):
        checkpoint = read_checkpoint(weights)
        if checkpoint.builder not in (None, name):
            raise InvalidArgumentError(
                f"weights {os.fspath(weights)!r} are of model {checkpoint.builder!r} and do not fit {name!r}; build "
                "that model, or load the file with load_model"
            )
        return checkpoint
    member: WeightsEnum = enum_of_model(name).verify(weights)
    published: Weights = member.value
    if not published.meta.get("metrics") and member is type(member)["DEFAULT"]:
        _say_without_score(str(member))
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


def _is_path(name: str, weights: str) -> bool:
    """Returns whether weights are a file or a run folder; a folder with the name of a member is the member."""
    if looks_like_path(weights):
        return True
    entry = MODELS.entry(name)
    members = entry.weights if isinstance(entry, ModelEntry) else {}
    return weights not in (*members, "DEFAULT") and Path(weights).is_dir()


@functools.cache  # once per process
def _say_without_score(member: str) -> None:
    logger.warning("no score was published for %s, the default weights of this model; score them on your data", member)


def _fit_channels(checkpoint: Checkpoint, model: str, plan: Plan) -> Checkpoint:
    """Returns the checkpoint inflated to the network's channels if it is for 3, see `inflate_kernels`.

    Raises:
        InvalidArgumentError: if it is for another number of channels and cannot be inflated.
    """
    if not misfit(plan.build, checkpoint.tensors):
        return checkpoint
    if plan.in_channels != RGB:
        inflated = inflate_tensors(checkpoint.tensors, plan.build_with, plan.in_channels)
        if inflated is not None:
            return replace(checkpoint, tensors=inflated, inflated=True)
    check_channels(checkpoint, model, plan)
    return checkpoint


def _place_colors(network: nn.Module, plan: Plan, channels: ImageChannels, source: str) -> None:
    """Moves the weights of red, green and blue to the channels of these colors; warns if the network cannot."""
    kernels = first_kernels(plan.build_with, channels.count, channels.count + 1)
    if kernels:
        place_colors(network, kernels, channels)
    elif channels.rgb not in (None, (0, 1, 2)):
        logger.warning(
            "%s takes its first channels as red, green and blue: more than the first convolution of the network "
            "depends on the channels; order them so (their rgb is %s)",
            source,
            channels.rgb,
        )


def _is_of_colors(checkpoint: Checkpoint, channels: ImageChannels) -> bool:
    """Returns whether weights are for red, green and blue, in this order; those that are inflated, if not described."""
    if checkpoint.info is None:
        return checkpoint.inflated
    return checkpoint.info.metadata.channels.rgb == (0, 1, 2) and (checkpoint.inflated or channels.count == RGB)


def _settle_variant(model: _Model, variant: str | None, checkpoint: Checkpoint | None) -> str:
    _check_variant(model, variant)
    if checkpoint is None or checkpoint.variant is None:
        return variant or model.entry.variants[0]
    _check_variant(model, checkpoint.variant)
    if variant not in (None, checkpoint.variant):
        raise InvalidArgumentError(
            f"variant={variant!r} contradicts the weights {checkpoint.source}, which need variant "
            f"{checkpoint.variant!r}; remove variant"
        )
    return checkpoint.variant


def _check_variant(model: _Model, variant: str | None) -> None:
    known = model.entry.variants
    if variant is not None and variant not in known:
        raise UnknownNameError(
            f"model {model.name!r} has no variant {variant!r}.{nearest(variant, known)} Known: {', '.join(known)}"
        )


def _count_classes(checkpoint: Checkpoint | None, plan: Plan) -> int:
    return DEFAULT_NUM_CLASSES if checkpoint is None else checkpoint.count_classes(plan.build)


def _info_of(
    checkpoint: Checkpoint, spec: BuildSpec, class_names: Sequence[str] | None, channels: ImageChannels | None
) -> ModelInfo | None:
    """Returns the checkpoint's classes and preprocessing, or None if unknown or not those of the network."""
    info = checkpoint.info
    if info is None:
        return None
    if class_names is not None:
        metadata = DatasetMetadata("custom", tuple(class_names), channels=info.metadata.channels)
        info = replace(info, metadata=metadata, metrics={}, protocol={}, protocol_text="")
    elif spec.arguments["num_classes"] != checkpoint.num_classes:
        return None
    preprocessing = info.preprocessing
    if checkpoint.inflated and spec.arguments["in_channels"] == 1:
        preprocessing = gray_normalization(preprocessing)
    if channels is not None and (
        None not in (channels.mean, channels.std) or channels.count == len(preprocessing.mean)
    ):
        preprocessing = preprocessing.for_channels(channels)
    if preprocessing is not info.preprocessing:
        metadata = replace(info.metadata, channels=preprocessing.channels)
        info = replace(info, metadata=metadata, preprocessing=preprocessing)
    return replace(info, spec=spec)
