"""Reading a model file: its description and tensors, checked before anything is built from them."""

import functools
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from seg_core.__about__ import __version__
from seg_core.checks import is_integer
from seg_core.errors import CorruptFileError, InvalidArgumentError, UserError
from seg_core.labels.metadata import DatasetMetadata
from seg_core.metrics.protocol import EvaluationProtocol
from seg_core.metrics.thresholds import class_thresholds
from seg_core.model_files.build_spec import BuildSpec
from seg_core.model_files.digest import digest_of, plain
from seg_core.model_files.paths import told_of_checkpoint
from seg_core.model_files.plain_values import check_name, check_plain
from seg_core.model_files.state_dict import is_dense
from seg_core.text import short
from seg_core.transforms.preprocessing import Preprocessing

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "ModelInfo",
    "description_of",
    "is_model_file",
    "parse_description",
    "parse_model_file",
]

FORMAT = "seg-model"
FORMAT_VERSION = 3  # 1 has no digest, 1 and 2 have "form" and "licence" instead of "variant" and "license"
# keys by which a model file is recognized even if one of them is damaged
_OWN_KEYS = ("format_version", "builder", "arguments", "metadata", "preprocessing", "digest")
_LONGEST_REASON = 1000  # characters


_warned_of_no_digest = False


@dataclass(frozen=True)
class ModelInfo:
    """The description in a model file.

    Attributes:
        spec: how to build the network.
        metadata: names and colors of the classes, and the channels of the images.
        preprocessing: converts an image to the network's input; of the channels of the metadata.
        metrics: scores, as `{"miou": 0.71}`.
        protocol: how the scores were measured, as returned by `EvaluationProtocol.to_dict`; `{}` if unknown.
        protocol_text: the protocol as a sentence; `""` if unknown.
        versions: versions of the packages that wrote the file.
        thresholds: of a binary or multilabel task one probability per class that it must exceed, 0.5 unless the file
            holds others; None for a multiclass task.
    """

    spec: BuildSpec
    metadata: DatasetMetadata
    preprocessing: Preprocessing
    metrics: Mapping[str, Any] = field(default_factory=dict)
    protocol: Mapping[str, Any] = field(default_factory=dict)
    protocol_text: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    thresholds: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        # the dataclass is frozen; a description without thresholds has the defaults of its task
        object.__setattr__(self, "thresholds", class_thresholds(self.thresholds, self.metadata))


def is_model_file(content: object) -> bool:
    """Returns whether `content`, read by `torch.load`, is from a model file, even a damaged or newer one."""
    if not isinstance(content, dict):
        return False
    return content.get("format") == FORMAT or sum(key in content for key in _OWN_KEYS) > 2


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
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        told = told_of_checkpoint(path) or (
            "is a PyTorch file but not a model file of this toolkit (training and seg_core.save_model write these); to "
            "load its tensors, name their model, and give the file as its weights"
        )
        raise CorruptFileError(f"{path} {told}")
    found = _take(path, content, "format_version", int, "an integer >= 1")
    if found > FORMAT_VERSION:
        raise CorruptFileError(
            f"{path} has format version {found}, the installed seg-core {__version__} reads up to "
            f"{FORMAT_VERSION}; upgrade seg-core"
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
    return parse_description(path, content, found), state


def _tensors(path: str | os.PathLike[str], content: dict[Any, Any]) -> dict[str, Tensor]:
    state: dict[str, Tensor] = _take(path, content, "state_dict", dict, "tensors by name")
    size = Path(path).stat().st_size
    for name, tensor in state.items():
        if type(name) is not str or type(tensor) not in (Tensor, nn.Parameter) or not is_dense(tensor):
            raise _wrong(path, f"state_dict[{short(name)}]", type(tensor).__name__, "a dense tensor with a name")
        if tensor.nbytes > size:  # before its values are read, which would allocate memory
            raise _wrong(path, f"state_dict[{short(name)}]", tuple(tensor.shape), "a tensor that fits into the file")
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


def description_of(info: ModelInfo) -> dict[str, Any]:
    """Returns the content of a model file without its format and tensors: plain values, for `parse_description`."""
    content: dict[str, Any] = {
        "builder": info.spec.builder,
        "variant": info.spec.variant,
        "arguments": dict(info.spec.arguments),
        "metadata": plain(info.metadata.to_dict()),
        "preprocessing": plain(info.preprocessing.to_dict()),
        "metrics": dict(info.metrics),
        "protocol": dict(info.protocol),
        "protocol_text": info.protocol_text,
        "versions": dict(info.versions),
    }
    if info.thresholds is not None:  # files of multiclass tasks stay as they were
        content["thresholds"] = list(info.thresholds)
    return content


def parse_description(path: str | os.PathLike[str], content: dict[Any, Any], found: int = FORMAT_VERSION) -> ModelInfo:
    """Checks the description in a file, and returns it.

    Args:
        path: path of the file, for messages.
        content: as `description_of` returns it; other keys are not read.
        found: version of the format of the file.

    Raises:
        CorruptFileError: if a value is missing or not allowed.
    """
    take = functools.partial(_take, path, content)
    spec = BuildSpec(
        _name(path, "builder", take("builder", str, "the name of a model")),
        _name(path, "variant", take("variant" if found > 2 else "form", str, "the name of a variant")),
        _plain_table(path, "arguments", take("arguments", dict, "a table of plain values"), finite=True),
    )
    facts = _plain_table(path, "metadata", take("metadata", dict, "a table"))
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
    _plain_table(path, "versions", versions)
    if found == 1:
        protocol, text = {}, take("protocol", str, "a sentence")
    else:
        protocol, text = take("protocol", dict, "a table"), take("protocol_text", str, "a sentence")
    _plain_table(path, "protocol", {"text": text, **protocol})
    if protocol:
        _made(path, "protocol", _sentence, protocol)
    thresholds = content.get("thresholds")
    if thresholds is not None:
        kept = functools.partial(_thresholds, metadata=metadata)
        thresholds = _made(path, "thresholds", kept, thresholds)
    normalization = _plain_table(path, "preprocessing", take("preprocessing", dict, "a table"))
    # the channels stand in the metadata alone, so that the two cannot differ
    from_dict = functools.partial(Preprocessing.from_dict, channels=metadata.channels)
    return ModelInfo(
        spec=spec,
        metadata=metadata,
        preprocessing=_made(path, "preprocessing", from_dict, normalization),
        metrics=_plain_table(path, "metrics", take("metrics", dict, "a table of plain values")),
        protocol=protocol,
        protocol_text=text,
        versions=versions,
        thresholds=thresholds,
    )


def _thresholds(values: Any, metadata: DatasetMetadata) -> tuple[float, ...] | None:
    """Returns thresholds as the file should hold them, one per class."""
    if not isinstance(values, list):
        raise InvalidArgumentError(f"must be a list of one probability per class, got {values!r}")
    return class_thresholds(values, metadata)


def _take(path: str | os.PathLike[str], content: dict[Any, Any], key: str, kind: type[Any], allowed: str) -> Any:
    if key not in content:
        raise CorruptFileError(f"{path} is a damaged model file: it has no {key}, {allowed}; write or copy it again")
    value = content[key]
    if type(value) is not kind and not (kind is dict and isinstance(value, dict)):
        raise _wrong(path, key, value, allowed)
    return value


def _sentence(protocol: Mapping[str, Any]) -> str:
    """Returns a protocol as a sentence, which fails if its inner values have other types."""
    return str(EvaluationProtocol.from_dict(protocol))


def _name(path: str | os.PathLike[str], key: str, value: str) -> str:
    try:
        if value or key != "variant":  # a network without variants has none
            check_name(key, value)
    except InvalidArgumentError as error:
        raise CorruptFileError(f"{path} is a damaged model file: {error}") from error
    return value


def _plain_table(path: str | os.PathLike[str], key: str, table: dict[Any, Any], finite: bool = False) -> dict[str, Any]:
    try:
        check_plain(key, table, finite=finite)
    except InvalidArgumentError as error:
        raise CorruptFileError(f"{path} is a damaged model file: {error}") from error
    return table


def _made(path: str | os.PathLike[str], key: str, make: Callable[[Mapping[str, Any]], Any], values: Any) -> Any:
    try:
        return make(values)
    except UserError as error:
        text = str(error)  # it may show a long list
        shown = text if len(text) <= _LONGEST_REASON else text[:_LONGEST_REASON] + "..."
        raise CorruptFileError(f"{path} is a damaged model file: {key}: {shown}") from error
    except Exception as error:  # unexpected types
        raise _wrong(path, key, values, f"what save_model writes ({type(error).__name__}: {error})") from error


def _wrong(path: str | os.PathLike[str], key: str, value: object, allowed: str) -> CorruptFileError:
    return CorruptFileError(f"{path} is a damaged model file: {key} = {short(value)}: must be {allowed}")
