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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seg_core.__about__ import __version__
from seg_core.checks import is_integer
from seg_core.errors import CorruptFileError, InvalidArgumentError, UserError, WriteError
from seg_core.files.atomic import atomic_path
from seg_core.labels.comparison import check_several_outputs, difference_of_classes
from seg_core.labels.metadata import DatasetMetadata
from seg_core.metrics.protocol import EvaluationProtocol
from seg_core.model_files.build_spec import BuildSpec
from seg_core.model_files.digest import digest_of, plain
from seg_core.model_files.fit import advice, build, check_description, check_tensors, tensors_to_save, unwrap
from seg_core.model_files.paths import find_run_file, other_kind
from seg_core.registry import MODELS
from seg_core.transforms.preprocessing import Preprocessing
from seg_core.versions import installed_versions

__all__ = [
    "ModelInfo",
    "is_model_file",
    "load_model",
    "parse_model_file",
    "read_model_info",
    "save_model",
]

logger = logging.getLogger(__name__)

_FORMAT = "seg-model"
_FORMAT_VERSION = 3  # 1 has no digest, 1 and 2 have "form" and "licence" instead of "variant" and "license"
# keys by which a model file is recognized even if one of them is damaged
_OWN_KEYS = ("format_version", "builder", "arguments", "metadata", "preprocessing", "digest")
_SHOWN = 80  # characters of a value in messages

_warned_of_no_digest = False


@dataclass(frozen=True)
class ModelInfo:
    """The description in a model file.

    Attributes:
        spec: how to build the network.
        metadata: names and colors of the classes.
        preprocessing: converts an image to the network's input.
        metrics: scores, as `{"miou": 0.71}`.
        protocol: how the scores were measured, as returned by `EvaluationProtocol.to_dict`; `{}` if unknown.
        protocol_text: the protocol as a sentence; `""` if unknown.
        versions: versions of the packages that wrote the file.
    """

    spec: BuildSpec
    metadata: DatasetMetadata
    preprocessing: Preprocessing
    metrics: Mapping[str, Any] = field(default_factory=dict)
    protocol: Mapping[str, Any] = field(default_factory=dict)
    protocol_text: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)


class MissingModelFileError(UserError, FileNotFoundError):
    """A model file does not exist."""

    exit_code = 2

    def __str__(self) -> str:
        return str(self.args[0])


def save_model(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    metadata: DatasetMetadata,
    preprocessing: Preprocessing,
    metrics: Mapping[str, Any] | None = None,
    protocol: EvaluationProtocol | Mapping[str, Any] | str | None = None,
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
        metadata: names and colors of the output classes.
        preprocessing: converts an image to the network's input.
        metrics: scores of the model, plain numbers and lists.
        protocol: how they were measured: an `EvaluationProtocol`, its `to_dict()`, or any sentence.

    Warns:
        UserWarning: if the names in `metadata` are not those of the weights that the network was built with
            (`model.model_info`); the message names the first one that differs.

    Raises:
        InvalidArgumentError: if the model was not built by a registered builder, or was changed since; if its number of
            classes differs from the metadata's, or is one; or if `metrics` or `protocol` hold other than plain values.
        WriteError: if the file cannot be written.
    """
    check_several_outputs(metadata)
    network = unwrap(model)
    spec = _checked_spec(network, metadata)
    _compare_names(network, metadata)
    state = tensors_to_save(network)
    try:
        check_tensors(spec, state)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(
            f"the network cannot be saved as model {spec.builder!r}, since the file could not be loaded: {error}; "
            f"{advice(state)}"
        ) from error
    facts, text = _protocol(protocol)
    content: dict[str, Any] = {
        "format": _FORMAT,
        "format_version": _FORMAT_VERSION,
        "builder": spec.builder,
        "variant": spec.variant,
        "arguments": dict(spec.arguments),
        "metadata": plain(metadata.to_dict()),
        "preprocessing": plain(preprocessing.to_dict()),
        "metrics": _plain_argument("metrics", dict(metrics or {})),
        "protocol": facts,
        "protocol_text": text,
        "versions": installed_versions("torch", "seg-core", "seg-models", "seg-train", "torchvision"),
        "state_dict": state,
    }
    content["digest"] = digest_of(content)
    with atomic_path(path) as temporary:
        try:
            torch.save(content, temporary)
        except RuntimeError as error:  # raised by torch's writer on a full disk
            raise WriteError(f"cannot write {path}: {error}; check the free space of its disk") from error


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
    path: str | os.PathLike[str], map_location: str | torch.device = "cpu", verify: bool = True
) -> nn.Module:
    """Builds the network of a model file and returns it in eval mode, the file's `ModelInfo` as `model.model_info`.

    The network computes in float32 (float64 if the file holds any), with exactly the values that were saved.

    Args:
        path: path of the file, or of a run folder, which gives its best weights.
        map_location: device that the network is moved to.
        verify: whether to check the digest over description and tensors, so that a damaged file is an error and never a
            network with wrong weights. It takes about as long as torch.load: 0.1 s for 130 MB. Older files without a
            digest are loaded with a warning, given once.

    Raises:
        FileNotFoundError: if there is no such file.
        CorruptFileError: if it is damaged, no model file, or does not fit the network that it names.
        UnknownNameError: if no package has its builder, or the user has not imported the code that has it.
    """
    info, state = _read(path, verify)
    try:
        check_description(info.spec)
        check_tensors(info.spec, state)
        model = build(info.spec)
    except InvalidArgumentError as error:
        raise CorruptFileError(
            f"{path} does not fit {info.spec.builder} as built by the installed packages (the file was written with "
            f"{dict(info.versions)}): {error}"
        ) from error
    wide = _widest(*state.values(), *model.state_dict().values())
    if wide is not None and any(t.dtype != wide for t in model.state_dict().values() if t.is_floating_point()):
        model = model.to(wide)
    model.load_state_dict(state, strict=True)
    model.model_info = info  # type: ignore[assignment]  # a plain attribute; nn.Module's stub has tensors and modules
    return model.to(map_location).eval()


def is_model_file(content: object) -> bool:
    """Returns whether `content`, read by `torch.load`, is from a model file, even a damaged or newer one."""
    if not isinstance(content, dict):
        return False
    return content.get("format") == _FORMAT or sum(key in content for key in _OWN_KEYS) > 2


def parse_model_file(
    content: object, path: str | os.PathLike[str], verify: bool = True
) -> tuple[ModelInfo, dict[str, Tensor]]:
    """Checks what `torch.load` read from a model file, and returns its description and tensors.

    Args:
        content: the content of the file.
        path: path of the file, for messages.
        verify: whether to check the digest.

    Raises:
        CorruptFileError: if it is damaged, or not from a model file.
    """
    global _warned_of_no_digest
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise CorruptFileError(
            f"{path} is a PyTorch file but not a model file of this toolkit (training and seg_core.save_model write "
            "these); to load its tensors, name their model, and give the file as its weights"
        )
    found = _take(path, content, "format_version", int, "an integer >= 1")
    if found > _FORMAT_VERSION:
        raise CorruptFileError(
            f"{path} has format version {found}, the installed seg-core {__version__} reads up to "
            f"{_FORMAT_VERSION}; upgrade seg-core"
        )
    if found < 1:
        raise _wrong(path, "format_version", found, "an integer >= 1")
    state = _tensors(path, content)
    if verify and (found > 1 or "digest" in content):
        _verify(path, content)
    elif verify and not _warned_of_no_digest:
        _warned_of_no_digest = True
        warnings.warn(
            f"{path} has no digest, so damage to it cannot be detected: it was written by an older seg-core. Load it "
            "and save it again with save_model; this warning is given once",
            stacklevel=4,
        )
    try:
        return _describe(path, content, found), state
    except RecursionError as error:
        raise CorruptFileError(f"{path} is a damaged model file: its description contains itself") from error


def _read(path: str | os.PathLike[str], verify: bool) -> tuple[ModelInfo, dict[str, Tensor]]:
    if Path(path).is_dir():
        path, note = find_run_file(path)
        logger.warning(note)
    if not Path(path).is_file():
        raise MissingModelFileError(
            f"there is no model file {path}; give the path of one that training wrote (model.pt)"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged archive or pickle can raise anything in torch's reader
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        otherwise = f"cannot be read: it is truncated or no model file ({reason}); write or copy it again"
        raise CorruptFileError(f"{path} {other_kind(path) or otherwise}") from error
    return parse_model_file(content, path, verify)


def _tensors(path: str | os.PathLike[str], content: dict[Any, Any]) -> dict[str, Tensor]:
    state: dict[str, Tensor] = _take(path, content, "state_dict", dict, "tensors by name")
    size = Path(path).stat().st_size
    for name, tensor in state.items():
        if type(name) is not str or type(tensor) not in (Tensor, nn.Parameter) or tensor.layout != torch.strided:
            raise _wrong(path, f"state_dict[{name!r}]", type(tensor).__name__, "a dense tensor with a name")
        if tensor.nbytes > size:  # before its values are read, which would allocate memory
            raise _wrong(path, f"state_dict[{name!r}]", tuple(tensor.shape), "a tensor that fits into the file")
    return state


def _verify(path: str | os.PathLike[str], content: dict[Any, Any]) -> None:
    written = _take(path, content, "digest", str, "a sha256 in hexadecimal digits")
    try:
        found = digest_of({key: value for key, value in content.items() if key != "digest"})
    except Exception as error:  # values that are not plain in a damaged file
        raise CorruptFileError(f"{path} is damaged: {error}; write or copy it again") from error
    if written != found:
        raise CorruptFileError(
            f"{path} is damaged: its content does not match its digest; copy it again from its source, or pass "
            "verify=False to read it anyway"
        )


def _describe(path: str | os.PathLike[str], content: dict[Any, Any], found: int) -> ModelInfo:
    take = functools.partial(_take, path, content)
    spec = BuildSpec(
        take("builder", str, "the name of a model"),
        take("variant" if found > 2 else "form", str, "the name of a variant"),
        _plain_table(path, "arguments", take("arguments", dict, "a table of plain values")),
    )
    facts = take("metadata", dict, "a table")
    if found < 3 and "licence" in facts:
        facts = {"license" if key == "licence" else key: value for key, value in facts.items()}
    metadata = _made(path, "metadata", DatasetMetadata.from_dict, facts)
    num_classes = spec.arguments.get("num_classes")
    if not is_integer(num_classes) or num_classes != metadata.num_classes:
        allowed = f"{metadata.num_classes}, the number of its metadata's classes"
        raise _wrong(path, "arguments['num_classes']", num_classes, allowed)
    versions = take("versions", dict, "versions by package")
    if not all(type(name) is str and type(value) is str for name, value in versions.items()):
        raise _wrong(path, "versions", versions, "versions by package")
    if found == 1:
        protocol, text = {}, take("protocol", str, "a sentence")
    else:
        protocol, text = take("protocol", dict, "a table"), take("protocol_text", str, "a sentence")
    if protocol:
        _made(path, "protocol", EvaluationProtocol.from_dict, protocol)
    return ModelInfo(
        spec=spec,
        metadata=metadata,
        preprocessing=_made(path, "preprocessing", Preprocessing.from_dict, take("preprocessing", dict, "a table")),
        metrics=_plain_table(path, "metrics", take("metrics", dict, "a table of plain values")),
        protocol=protocol,
        protocol_text=text,
        versions=versions,
    )


def _take(path: str | os.PathLike[str], content: dict[Any, Any], key: str, kind: type[Any], allowed: str) -> Any:
    if key not in content:
        raise CorruptFileError(f"{path} is a damaged model file: it has no {key}, {allowed}; write or copy it again")
    value = content[key]
    if type(value) is not kind and not (kind is dict and isinstance(value, dict)):
        raise _wrong(path, key, value, allowed)
    return value


def _plain_table(path: str | os.PathLike[str], key: str, table: dict[Any, Any]) -> dict[str, Any]:
    for name, value in table.items():
        if type(name) is not str:
            raise _wrong(path, f"{key} has the key", name, "a name")
        if not _is_plain(value):
            raise _wrong(path, f"{key}[{name!r}]", value, "numbers, strings, lists and tables")
    return table


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(_is_plain(inner) for pair in value.items() for inner in pair)
    return value is None or type(value) in (bool, int, float, str)


def _made(path: str | os.PathLike[str], key: str, make: Callable[[Mapping[str, Any]], Any], values: Any) -> Any:
    try:
        return make(values)
    except UserError as error:
        raise CorruptFileError(f"{path} is a damaged model file: {key}: {error}") from error
    except Exception as error:  # unexpected types
        raise _wrong(path, key, values, f"what save_model writes ({type(error).__name__}: {error})") from error


def _wrong(path: str | os.PathLike[str], key: str, value: object, allowed: str) -> CorruptFileError:
    shown = repr(value)
    shown = shown if len(shown) <= _SHOWN else shown[: _SHOWN - 3] + "..."
    return CorruptFileError(f"{path} is a damaged model file: {key} = {shown}: must be {allowed}")


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
            f"metadata {metadata.name!r} has {metadata.num_classes} classes but the model was built with "
            f"num_classes={num_classes}; pass the metadata that the model was trained on"
        )
    if spec.builder not in MODELS:
        raise InvalidArgumentError(
            f"model.build_spec names the builder {spec.builder!r}, which is not registered, so the file could not be "
            f"loaded; register it by seg_core.registry.MODELS.register({spec.builder!r}, builder)"
        )
    spec = BuildSpec(spec.builder, spec.variant, _plain_argument("model.build_spec.arguments", dict(spec.arguments)))
    try:
        check_description(spec)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"model.build_spec does not match its builder: {error}") from error
    return spec


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


def _plain_argument(name: str, values: dict[Any, Any]) -> dict[str, Any]:
    if wrong := [key for key in values if not isinstance(key, str)]:
        raise InvalidArgumentError(f"{name} has the key {wrong[0]!r}; a model file holds tables with names as keys")
    try:
        found: dict[str, Any] = plain(values)
    except TypeError as error:
        raise InvalidArgumentError(f"{name}{error}; a model file holds numbers, strings, lists and tables") from error
    return found


def _widest(*tensors: Tensor) -> torch.dtype | None:
    """Returns the floating-point type that holds all values of the tensors exactly, or None without floats."""
    # torch has no promotion rules for the one-byte types
    kinds = {t.dtype if t.dtype.itemsize > 1 else torch.float32 for t in tensors if t.is_floating_point()}
    return functools.reduce(torch.promote_types, kinds) if kinds else None
