"""The model file: written by training, read by inference.

It contains everything that prediction needs: the builder of the network with variant and arguments, the label set with
its colors, the preprocessing, the scores with their protocol, and the versions it was written with. It holds plain
containers and tensors only, so it loads with `torch.load(weights_only=True)`.

Since format version 2 it holds a digest over all of that (see `seg_core.model_files.digest`), which is checked on
reading: torch checks neither the checksums of its archives nor their directories, so a damaged file may load with other
numbers. Version 1 has no digest, and one sentence as `protocol`. Tensors and description are compared with the builder
before a file is written, and before anything is built from one.
"""

import functools
import logging
import os
import warnings
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seg_core.errors import (
    CorruptFileError,
    InvalidArgumentError,
    InvalidTypeError,
    MissingModelFileError,
    counted,
    reading_file,
    visible,
)
from seg_core.files.atomic import atomic_path, torch_write_error
from seg_core.labels.channels import ImageChannels
from seg_core.labels.comparison import check_several_outputs, difference_of_classes
from seg_core.labels.metadata import DatasetMetadata
from seg_core.metrics.argmax import Thresholds
from seg_core.metrics.protocol import EvaluationProtocol
from seg_core.metrics.thresholds import class_thresholds
from seg_core.model_files.build_spec import OBJECT, BuildSpec
from seg_core.model_files.digest import digest_of, plain
from seg_core.model_files.fit import (
    advice,
    build,
    check_builder,
    check_description,
    check_own_tensors,
    check_tensors,
    tensors_to_save,
    unwrap,
)
from seg_core.model_files.paths import find_run_file, other_kind
from seg_core.model_files.plain_values import check_name, check_plain
from seg_core.model_files.reading import FORMAT, FORMAT_VERSION, ModelInfo, description_of, parse_model_file
from seg_core.model_files.weighing import load_plain
from seg_core.registry import MODELS
from seg_core.transforms.preprocessing import Preprocessing
from seg_core.versions import installed_versions

__all__ = ["load_model", "read_model_info", "save_model"]

logger = logging.getLogger(__name__)


def save_model(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    metadata: DatasetMetadata,
    preprocessing: Preprocessing,
    metrics: Mapping[str, Any] | None = None,
    protocol: EvaluationProtocol | Mapping[str, Any] | str | None = None,
    thresholds: Thresholds | None = None,
) -> None:
    """Writes `model` as a self-describing file, atomically.

    The file can always be read back: names and shapes of the tensors are compared with those of the builder's network.
    For this the network is built without storage, once per network and process (0.05 to 0.5 s). A network inside of
    torch.compile, DistributedDataParallel, DataParallel or AveragedModel is saved without the wrapper; a network that
    is pruned, sharded, quantized, has adapters, or has another classifier than it was built with is rejected.

    Tensors keep their number type in the file. `load_model` restores the values exactly, in float32, or in float64 if
    the file holds any.

    Args:
        model: built by a registered builder (it has `build_spec`); parameters may be on any device.
        path: path of the file, usually `.pt`.
        metadata: names and colors of the output classes, and the channels of the images.
        preprocessing: converts an image to the network's input; its `channels` are those of the metadata.
        metrics: scores of the model, plain numbers and lists.
        protocol: how they were measured: an `EvaluationProtocol`, its `to_dict()`, or any sentence.
        thresholds: of a binary or multilabel task the probabilities above 0 and below 1 that the classes must exceed,
            one for all or one per class; None stands for 0.5.

    Warns:
        UserWarning: if the names in `metadata` are not those of the weights that the network was built with
            (`model.model_info`); the message names the first one that differs.

    Raises:
        InvalidArgumentError: if the model was not built by a registered builder, or was changed since; if its number of
            classes differs from the metadata's, or is one; if the network or the preprocessing has other channels than
            the metadata; if `metrics` or `protocol` hold other than plain values; or if a threshold is not allowed, or
            given for a multiclass task.
        WriteError: if the file cannot be written.
    """
    check_several_outputs(metadata)
    limits = class_thresholds(thresholds, metadata)
    network = unwrap(model)
    spec = _checked_spec(network, metadata)
    _check_channels(spec, metadata.channels, preprocessing.channels)
    _compare_names(network, metadata)
    state = tensors_to_save(network)
    try:
        if spec.builder != OBJECT:
            check_tensors(spec, state)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(
            f"the network cannot be saved as model {spec.builder!r}, since the file could not be loaded: {error}; "
            f"{advice(state)}"
        ) from error
    facts, text = _protocol(protocol)
    info = ModelInfo(
        spec,
        metadata,
        preprocessing,
        metrics=_plain_argument("metrics", dict(metrics or {})),
        protocol=facts,
        protocol_text=text,
        versions=installed_versions("torch", "seg-core", "seg-models", "seg-train", "torchvision"),
        thresholds=limits,
    )
    content: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **description_of(info),
        "state_dict": state,
    }
    content["digest"] = digest_of(content)
    with atomic_path(path) as temporary:
        try:
            torch.save(content, temporary)
        except RuntimeError as error:  # raised by torch's writer on a full disk
            raise torch_write_error(path, error) from error


def read_model_info(path: str | os.PathLike[str], verify: bool = True) -> ModelInfo:
    """Returns the description in a model file, without building its network.

    Args:
        path: path of the file, or of a run folder, which gives its best weights.
        verify: whether to check the file's digest, see `load_model`.

    Raises:
        FileNotFoundError: if there is no such file.
        CorruptFileError: if it is damaged or no model file.
    """
    return _read(path, verify)[0]


def load_model(
    path: str | os.PathLike[str],
    map_location: str | torch.device = "cpu",
    verify: bool = True,
    *,
    network: nn.Module | None = None,
) -> nn.Module:
    """Builds the network of a model file and returns it in eval mode, the file's `ModelInfo` as `model.model_info`.

    The network computes in float32 (float64 if the file holds any), with exactly the values that were saved.

    Args:
        path: path of the file, or of a run folder, which gives its best weights.
        map_location: device that the network is moved to.
        verify: whether to check the digest over description and tensors, so that a damaged file is an error and never a
            network with wrong weights. It takes about as long as torch.load: 0.1 s for 130 MB. Older files without a
            digest are loaded with a warning, given once.
        network: the network to load the weights into, in place of one that the file's builder builds; needed for the
            file of a network that was passed to the trainer as an object.

    Raises:
        FileNotFoundError: if there is no such file.
        CorruptFileError: if it is damaged, no model file, or does not fit the network that it names, or `network`.
        InvalidArgumentError: if the file needs `network`, or the user's module that it names has no such builder.
        InvalidTypeError: if `network` is no network.
        UnknownNameError: if no package has its builder, or the user has not imported the code that has it.
    """
    if network is not None and not isinstance(network, nn.Module):
        shown = network.__name__ if isinstance(network, type) else type(network).__name__
        raise InvalidTypeError(f"network must be a torch.nn.Module, got {shown}; pass an object: network=Net(...)")
    info, state = _read(path, verify)
    if network is None and info.spec.builder == OBJECT:
        raise InvalidArgumentError(
            f"{path} holds the weights of a network that no builder built, a {info.spec.arguments.get('class')}; "
            "build that network and load them into it: load_model(path, network=...); Predictor takes the result"
        )
    if network is None:
        try:
            check_builder(info.spec)
        except InvalidArgumentError as error:  # it is the user's code that lacks it: the file may be as it should be
            raise InvalidArgumentError(f"{path}: {error}") from error
    try:
        if network is None:
            check_description(info.spec)
            check_tensors(info.spec, state)
            model = build(info.spec)
        else:
            model = unwrap(network)
            check_own_tensors(model, state)
    except InvalidArgumentError as error:
        what = f"{info.spec.builder} as built by the installed packages" if network is None else "the given network"
        raise CorruptFileError(
            f"{path} does not fit {what} (the file was written with {dict(info.versions)}): {error}"
        ) from error
    wide = _widest(*state.values(), *model.state_dict().values())
    if wide is not None and any(t.dtype != wide for t in model.state_dict().values() if t.is_floating_point()):
        model = model.to(wide)
    with reading_file(path):
        model.load_state_dict(state, strict=True)
    model.model_info = info  # type: ignore[assignment]  # a plain attribute; nn.Module's stub has tensors and modules
    return model.to(map_location).eval()


def _read(path: str | os.PathLike[str], verify: bool) -> tuple[ModelInfo, dict[str, Tensor]]:
    if Path(path).is_dir():
        path, note = find_run_file(path)
        logger.warning(note)
    if not Path(path).is_file():
        raise MissingModelFileError(
            f"there is no model file {visible(str(path))}; give the path of one that training wrote (model.pt)"
        )
    try:
        content = load_plain(path)
    except CorruptFileError:
        raise
    except Exception as error:  # a damaged archive or pickle can raise anything in torch's reader
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        otherwise = f"cannot be read: it is truncated or no model file ({reason}); write or copy it again"
        raise CorruptFileError(f"{path} {other_kind(path) or otherwise}") from error
    with reading_file(path):
        return parse_model_file(content, path, verify)


def _checked_spec(network: nn.Module, metadata: DatasetMetadata) -> BuildSpec:
    spec = getattr(network, "build_spec", None)
    if not isinstance(spec, BuildSpec):
        raise InvalidArgumentError(
            f"model of type {type(network).__name__} has no build_spec, which is needed to build it from the file; "
            "build it with a registered builder, or set "
            "model.build_spec = seg_core.BuildSpec(builder, variant, arguments)"
        )
    num_classes = spec.arguments.get("num_classes")
    if num_classes != metadata.num_classes:
        raise InvalidArgumentError(
            f"metadata {metadata.name!r} has {counted(metadata.num_classes, 'class', 'classes')} but the model was "
            f"built with num_classes={num_classes}; pass the metadata that the model was trained on"
        )
    if spec.builder == OBJECT:
        return spec
    if spec.builder not in MODELS:
        raise InvalidArgumentError(
            f"model.build_spec names the builder {spec.builder!r}, which is not registered, so the file could not be "
            f"loaded; register it by seg_core.registry.MODELS.register({spec.builder!r}, builder)"
        )
    check_name("model.build_spec.builder", spec.builder)
    arguments = _plain_argument("model.build_spec.arguments", dict(spec.arguments), finite=True)
    spec = BuildSpec(spec.builder, spec.variant, arguments)
    try:
        check_description(spec)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"model.build_spec does not match its builder: {error}") from error
    return spec


def _check_channels(spec: BuildSpec, channels: ImageChannels, of_preprocessing: ImageChannels) -> None:
    """Checks that the network and the preprocessing are for the channels of the metadata.

    Raises:
        InvalidArgumentError: if one is not; the message says which.
    """
    if of_preprocessing != channels:
        differing = [f.name for f in fields(channels) if getattr(of_preprocessing, f.name) != getattr(channels, f.name)]
        raise InvalidArgumentError(
            f"preprocessing is for the {of_preprocessing}, but the metadata describe the {channels} (their "
            f"{', '.join(differing)} differ); pass preprocessing.for_channels(metadata.channels), or metadata whose "
            "channels are those that the network was trained on"
        )
    count = spec.arguments.get("in_channels")  # a network of the user's own may take any, or name them otherwise
    if count is not None and count != channels.count:
        raise InvalidArgumentError(
            f"the metadata describe the {channels}, but the model was built with in_channels={count}; pass metadata "
            f"with its {count}: dataclasses.replace(metadata, channels=seg_core.ImageChannels(names, range=...))"
        )


def _compare_names(network: nn.Module, metadata: DatasetMetadata) -> None:
    info = getattr(network, "model_info", None)
    if not isinstance(info, ModelInfo):
        return
    found = difference_of_classes(info.metadata, metadata, "the metadata")
    if found is not None:
        warnings.warn(
            f"{found}; the file will name the classes as the metadata do. Pass metadata=model.model_info.metadata, or, "
            "if the network was trained on other classes since it was built, set model.model_info = None",
            stacklevel=3,
        )


def _protocol(given: EvaluationProtocol | Mapping[str, Any] | str | None) -> tuple[dict[str, Any], str]:
    """Returns the table and the sentence for a file."""
    if given is None or isinstance(given, str):
        return {}, given or ""
    if isinstance(given, Mapping) and not given:
        return {}, ""
    protocol = given if isinstance(given, EvaluationProtocol) else EvaluationProtocol.from_dict(given)
    try:
        return protocol.to_dict(), str(protocol)
    except (TypeError, ValueError, LookupError) as error:  # a table whose inner values have other types
        raise InvalidArgumentError(f"protocol holds values of a wrong type ({error}): {given!r}") from error


def _plain_argument(name: str, values: dict[Any, Any], finite: bool = False) -> dict[str, Any]:
    if wrong := [key for key in values if not isinstance(key, str)]:
        raise InvalidArgumentError(f"{name} has the key {wrong[0]!r}; a model file holds tables with names as keys")
    try:
        found: dict[str, Any] = plain(values)
    except TypeError as error:
        raise InvalidArgumentError(f"{name}{error}; a model file holds numbers, strings, lists and tables") from error
    except RecursionError as error:
        raise InvalidArgumentError(f"{name} holds itself, or is nested very deep; a model file holds tables") from error
    check_plain(name, found, finite=finite)
    return found


def _widest(*tensors: Tensor) -> torch.dtype | None:
    """Returns the floating-point type that holds all values of the tensors exactly, or None without floats."""
    # torch has no promotion rules for the one-byte types
    kinds = {t.dtype if t.dtype.itemsize > 1 else torch.float32 for t in tensors if t.is_floating_point()}
    return functools.reduce(torch.promote_types, kinds) if kinds else None
