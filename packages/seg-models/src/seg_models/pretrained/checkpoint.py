"""Checkpoints into networks: what must fit, what may differ with the number of classes, and what is said about it.

Which tensors depend on the number of classes is not written down anywhere: the network is made twice without storage,
for K and for K + 1 classes, and the shapes are compared.
"""

import logging
import os
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from seg_core.errors import CorruptFileError, InvalidArgumentError
from seg_core.model_file import ModelInfo, read_model_info

__all__ = ["Checkpoint", "load_checkpoint", "read_checkpoint"]

logger = logging.getLogger(__name__)

_PROBE_CLASSES = 7
_NAMES_SHOWN = 5


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a trained network.

    Attributes:
        source: the file or the weights member, for messages.
        tensors: parameter or buffer name -> tensor.
        form: the form that the file says it needs, or None where it says nothing.
        builder: the builder that the file says it was made by, or None.
        num_classes: of the logits, or None where the file says nothing.
        info: its classes, preprocessing and scores, or None where the file says nothing.
    """

    source: str
    tensors: Mapping[str, Tensor]
    form: str | None = None
    builder: str | None = None
    num_classes: int | None = None
    info: ModelInfo | None = None

    def count_classes(self, make: Callable[[int], nn.Module]) -> int:
        """Returns the number of classes of the file's logits.

        Args:
            make: makes the network for a number of classes.

        Raises:
            InvalidArgumentError: if the file does not tell.
        """
        if self.num_classes is not None:
            return self.num_classes
        for name, dimension in _class_dimensions(make).items():
            tensor = self.tensors.get(name)
            if tensor is not None and tensor.dim() > dimension:
                return tensor.shape[dimension]
        raise InvalidArgumentError(f"the number of classes cannot be told from {self.source}; say it with num_classes=")


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Reads a checkpoint file: a model file of this toolkit, or a plain dict of tensors by name.

    Args:
        path: of the file; the suffix `.safetensors` says that it is of that format, else it is torch's.

    Raises:
        InvalidArgumentError: if there is no such file, or safetensors is needed and not installed.
        CorruptFileError: if it is damaged, or holds something else.
    """
    name = os.fspath(path)
    if not Path(path).is_file():
        raise InvalidArgumentError(
            f"weights {name!r} look like a file and there is none; give the path of a checkpoint, or the name of a "
            "weights member such as 'DEFAULT'"
        )
    if Path(path).suffix == ".safetensors":
        return Checkpoint(name, _read_safetensors(name))
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise CorruptFileError(
            f"{name} cannot be read as a checkpoint: it is truncated, or holds more than plain tensors; write or "
            "copy it again"
        ) from error
    if isinstance(content, dict) and "state_dict" in content and "builder" in content:
        info = read_model_info(path)
        return Checkpoint(
            name, content["state_dict"], info.spec.form, info.spec.builder, info.metadata.num_classes, info
        )
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise CorruptFileError(
            f"{name} is neither a model file nor a plain dict of tensors by name; write one with save_model or "
            "torch.save(model.state_dict(), path)"
        )
    return Checkpoint(name, content)


def _read_safetensors(name: str) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ModuleNotFoundError as error:
        raise InvalidArgumentError(
            f"{name} needs safetensors, which is not installed; pip install seg-models[safetensors]"
        ) from error
    try:
        tensors: dict[str, Tensor] = load_file(name)
    except (SafetensorError, OSError) as error:
        raise CorruptFileError(f"{name} cannot be read as safetensors: {error}; write or copy it again") from error
    return tensors


def load_checkpoint(network: nn.Module, checkpoint: Checkpoint, make: Callable[[int], nn.Module]) -> tuple[str, ...]:
    """Fills `network` and returns the names of the tensors that keep their fresh values, which are logged too.

    Every tensor must fit, but for two differences: what depends on the number of classes keeps its fresh values where
    the checkpoint has another number, and auxiliary heads may be in only one of the two.

    Args:
        network: as `make` made it.
        checkpoint: what to fill it with.
        make: makes the network for a number of classes.

    Raises:
        CorruptFileError: if the checkpoint is of another network.
    """
    own, given = network.state_dict(), checkpoint.tensors
    per_class = _class_dimensions(make)
    missing = [name for name in own if name not in given]
    surplus = [name for name in given if name not in own]
    misfit = [name for name in own if name in given and given[name].shape != own[name].shape]
    problems = {
        "it lacks": [name for name in missing if not _auxiliary(name)],
        "it also holds": [name for name in surplus if not _auxiliary(name)],
        "of another shape are": [name for name in misfit if name not in per_class],
    }
    if any(problems.values()):
        raise CorruptFileError(
            f"{checkpoint.source} is not of this network with these options: "
            + "; ".join(f"{what} {_some(names)}" for what, names in problems.items() if names)
            + ". Choose the model, form and options that the checkpoint was made with"
        )
    fitting = {name: tensor for name, tensor in given.items() if name in own and name not in misfit}
    network.load_state_dict(fitting, strict=False)
    if surplus:
        logger.info("%s: auxiliary heads left out; aux_loss=True keeps them", checkpoint.source)
    fresh = tuple(name for name in own if name in misfit or name in missing)
    if fresh:
        logger.warning("%s does not fill these tensors, initialised anew: %s", checkpoint.source, ", ".join(fresh))
    return fresh


def _auxiliary(name: str) -> bool:
    return name.startswith("aux")


def _class_dimensions(make: Callable[[int], nn.Module]) -> dict[str, int]:
    """Returns, for each tensor whose shape depends on the number of classes, the dimension that is that number."""
    with torch.device("meta"):
        one, other = (make(num_classes).state_dict() for num_classes in (_PROBE_CLASSES, _PROBE_CLASSES + 1))
    found = {}
    for name, tensor in one.items():
        differing = [d for d, (a, b) in enumerate(zip(tensor.shape, other[name].shape, strict=True)) if a != b]
        if differing:
            found[name] = differing[0]
    return found


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:_NAMES_SHOWN])
    return shown if len(names) <= _NAMES_SHOWN else f"{shown} and {len(names) - _NAMES_SHOWN} more"
