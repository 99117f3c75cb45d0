"""The model file: what training leaves behind and inference reads.

It says everything that a prediction needs: which builder made the network, its form and arguments, the label set with
its colours, the preprocessing, the scores with their protocol, and the versions it was written with. It holds plain
containers and tensors only, so it loads with `torch.load(weights_only=True)`.
"""

import os
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seg_core.__about__ import __version__
from seg_core.atomic import atomic_path
from seg_core.errors import CorruptFileError, InvalidArgumentError, UserError, WriteError
from seg_core.metadata import DatasetMetadata
from seg_core.preprocessing import Preprocessing
from seg_core.registry import MODELS

__all__ = ["BuildSpec", "ModelInfo", "load_model", "read_model_info", "save_model"]

_FORMAT = "seg-model"
_FORMAT_VERSION = 1


@dataclass(frozen=True)
class BuildSpec:
    """How a network was built; every builder leaves one on its network as `model.build_spec`.

    Attributes:
        builder: catalog name.
        form: name of the form.
        arguments: the builder's other arguments, `num_classes` included, as plain values; nothing that names weights.
    """

    builder: str
    form: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class ModelInfo:
    """What a model file says about its network.

    Attributes:
        spec: how to build it.
        metadata: names and colours of the classes.
        preprocessing: from a picture to the network's input.
        metrics: scores, as `{"miou": 0.71}`.
        protocol: how the scores were measured.
        versions: of the packages that wrote the file.
    """

    spec: BuildSpec
    metadata: DatasetMetadata
    preprocessing: Preprocessing
    metrics: Mapping[str, Any] = field(default_factory=dict)
    protocol: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)


class MissingModelFileError(UserError, FileNotFoundError):
    """There is no model file where one was named."""

    def __str__(self) -> str:
        return str(self.args[0])


def save_model(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    metadata: DatasetMetadata,
    preprocessing: Preprocessing,
    metrics: Mapping[str, Any] | None = None,
    protocol: str = "",
) -> None:
    """Writes `model` as a self-describing file, whole or not at all.

    Args:
        model: made by a registered builder (it carries `build_spec`); parameters may be on any device.
        path: of the file; `.pt` is usual.
        metadata: of the classes that the outputs are.
        preprocessing: what pictures go through before the network.
        metrics: scores of the model, plain numbers and lists.
        protocol: how they were measured: split, scale, policy for absent classes.

    Raises:
        InvalidArgumentError: if the model was not made by a builder, or its number of classes is not the metadata's.
        WriteError: if the file cannot be written.
    """
    spec = getattr(model, "build_spec", None)
    if not isinstance(spec, BuildSpec):
        raise InvalidArgumentError(
            f"model of type {type(model).__name__} carries no build_spec, so the file could not say how to build it "
            "again; make it with a registered builder, or set "
            "model.build_spec = seg_core.BuildSpec(builder, form, arguments)"
        )
    num_classes = spec.arguments.get("num_classes")
    if num_classes != metadata.num_classes:
        raise InvalidArgumentError(
            f"metadata {metadata.name!r} has {metadata.num_classes} classes but the model was built with "
            f"num_classes={num_classes}; pass the metadata that the model was trained on"
        )
    content = {
        "format": _FORMAT,
        "format_version": _FORMAT_VERSION,
        "builder": spec.builder,
        "form": spec.form,
        "arguments": dict(spec.arguments),
        "metadata": metadata.to_dict(),
        "preprocessing": preprocessing.to_dict(),
        "metrics": dict(metrics or {}),
        "protocol": protocol,
        "versions": _versions(),
        "state_dict": {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()},
    }
    with atomic_path(path) as temporary:
        try:
            torch.save(content, temporary)
        except RuntimeError as error:  # what torch's own writer raises on a full disk
            raise WriteError(f"cannot write {path}: {error}; check the free space of its disk") from error


def read_model_info(path: str | os.PathLike[str]) -> ModelInfo:
    """Returns what a model file says about its network, without building it.

    Raises:
        FileNotFoundError: if there is no such file.
        CorruptFileError: if it is damaged or no model file.
    """
    return _read(path)[0]


def load_model(path: str | os.PathLike[str], map_location: str | torch.device = "cpu") -> nn.Module:
    """Builds the network of a model file and returns it in eval mode, the file's `ModelInfo` as `model.model_info`.

    Args:
        path: of the file.
        map_location: device that the network is put on.

    Raises:
        FileNotFoundError: if there is no such file.
        CorruptFileError: if it is damaged, no model file, or does not fit the network that it names.
        UnknownNameError: if no installed package brings its builder.
    """
    info, state = _read(path)
    model: nn.Module = MODELS.get(info.spec.builder)(form=info.spec.form, **info.spec.arguments)
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise CorruptFileError(
            f"{path} does not fit {info.spec.builder} as built by the installed packages (the file was written with "
            f"{dict(info.versions)}): {error}"
        ) from error
    model.model_info = info  # type: ignore[assignment]  # a plain attribute; nn.Module's stub knows tensors and modules
    return model.to(map_location).eval()


def _read(path: str | os.PathLike[str]) -> tuple[ModelInfo, dict[str, Tensor]]:
    if not Path(path).is_file():
        raise MissingModelFileError(
            f"there is no model file {path}; give the path of one that training wrote (model.pt)"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
    ) as error:
        raise CorruptFileError(
            f"{path} cannot be read: it is truncated or no model file; write or copy it again"
        ) from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise CorruptFileError(
            f"{path} is a PyTorch file but not a model file of this toolkit; training writes model.pt, "
            "seg_core.save_model writes one from a network"
        )
    if content["format_version"] > _FORMAT_VERSION:
        raise CorruptFileError(
            f"{path} has format version {content['format_version']}, the installed seg-core {__version__} reads up to "
            f"{_FORMAT_VERSION}; upgrade seg-core"
        )
    try:
        info = ModelInfo(
            spec=BuildSpec(content["builder"], content["form"], content["arguments"]),
            metadata=DatasetMetadata.from_dict(content["metadata"]),
            preprocessing=Preprocessing.from_dict(content["preprocessing"]),
            metrics=content["metrics"],
            protocol=content["protocol"],
            versions=content["versions"],
        )
        return info, content["state_dict"]
    except (KeyError, TypeError, UserError) as error:
        raise CorruptFileError(f"{path} is a damaged model file: {error}") from error


def _versions() -> dict[str, str]:
    found = {"torch": str(torch.__version__), "seg-core": __version__}
    for package in ("seg-models", "seg-train", "torchvision"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
