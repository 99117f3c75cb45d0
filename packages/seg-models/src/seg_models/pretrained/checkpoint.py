"""Checkpoints into networks: what must fit, what may differ with the number of classes, and what is said about it."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from seg_core.errors import CorruptFileError, InvalidArgumentError
from seg_core.model_files.foreign_pickle import load_safely
from seg_core.model_files.model_file import ModelInfo, is_model_file, parse_model_file
from seg_core.model_files.weights import tensors_of
from seg_models.pretrained.class_axes import ClassAxis, shapes_and_axes
from seg_models.pretrained.class_names import matching_classes

__all__ = ["Checkpoint", "Misfit", "load_checkpoint", "misfit", "read_checkpoint"]

logger = logging.getLogger(__name__)

_NAMES_SHOWN = 5


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a trained network.

    Attributes:
        source: the file or the weights member, for messages.
        tensors: parameter or buffer name -> tensor.
        variant: the variant that the file says it needs, or None where it says nothing.
        builder: the builder that the file says it was made by, or None.
        num_classes: of the logits, or None where the file says nothing.
        info: its classes, preprocessing and scores, or None where the file says nothing.
    """

    source: str
    tensors: Mapping[str, Tensor]
    variant: str | None = None
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
        axes = {
            name: axis
            for name, axis in shapes_and_axes(make)[1].items()
            if name in self.tensors and axis.dimension >= 0
        }
        # where a width follows from the number of classes by division, another tensor tells it better
        for name, axis in sorted(axes.items(), key=lambda item: -item[1].per_class):
            if self.tensors[name].dim() > axis.dimension:
                found = axis.count(self.tensors[name].shape[axis.dimension])
                if found == int(found) and found >= 1:
                    return int(found)
        raise InvalidArgumentError(f"the number of classes cannot be told from {self.source}; say it with num_classes=")


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Reads a checkpoint file: a model file of this toolkit, or tensors by name, as a dict or in one.

    The digest of a model file is checked, as `load_model` does.

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
    content = load_safely(path)
    if is_model_file(content):
        info, state = parse_model_file(content, path)
        return Checkpoint(name, state, info.spec.variant, info.spec.builder, info.metadata.num_classes, info)
    return Checkpoint(name, tensors_of(content, name))


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


@dataclass(frozen=True)
class Misfit:
    """What keeps a checkpoint from filling a network; false where nothing does.

    Attributes:
        lacking: tensors that the network has and the checkpoint has not.
        surplus: tensors that the checkpoint has and the network has not.
        reshaped: tensors of another shape.
    """

    lacking: tuple[str, ...]
    surplus: tuple[str, ...]
    reshaped: tuple[str, ...]

    @property
    def count(self) -> int:
        """The number of tensors that do not fit."""
        return len(self.lacking) + len(self.surplus) + len(self.reshaped)

    def __bool__(self) -> bool:
        return self.count > 0

    def __str__(self) -> str:
        parts = {"it lacks": self.lacking, "it also holds": self.surplus, "of another shape are": self.reshaped}
        return "; ".join(f"{what} {_some(names)}" for what, names in parts.items() if names)


def misfit(make: Callable[[int], nn.Module], tensors: Mapping[str, Tensor]) -> Misfit:
    """Compares a checkpoint with a network, without making the network.

    Two differences are none: what depends on the number of classes may be for another number, and auxiliary heads may
    be in only one of the two.

    Args:
        make: makes the network for a number of classes.
        tensors: of the checkpoint, under the network's names.
    """
    shapes, per_class = shapes_and_axes(make)
    return Misfit(
        lacking=tuple(name for name in shapes if name not in tensors and not _auxiliary(name)),
        surplus=tuple(name for name in tensors if name not in shapes and not _auxiliary(name)),
        reshaped=tuple(
            name
            for name, shape in shapes.items()
            if name in tensors and not _same_shape(tensors[name].shape, shape, per_class.get(name))
        ),
    )


def _same_shape(one: torch.Size, other: torch.Size, axis: ClassAxis | None) -> bool:
    """Whether two shapes agree, but for what depends on the number of classes."""
    if axis is None:
        return one == other
    if len(one) != len(other):
        return False
    return axis.dimension < 0 or all(
        a == b for d, (a, b) in enumerate(zip(one, other, strict=True)) if d != axis.dimension
    )


def load_checkpoint(
    network: nn.Module,
    checkpoint: Checkpoint,
    make: Callable[[int], nn.Module],
    class_names: Sequence[str] | None = None,
) -> tuple[str, ...]:
    """Fills `network` and returns the names of the tensors that keep their fresh values, which are logged too.

    Every tensor must fit, but for the two differences that `misfit` allows: then fresh values are kept.

    Args:
        network: as `make` made it.
        checkpoint: what to fill it with.
        make: makes the network for a number of classes.
        class_names: of the network's classes: what depends on classes then takes, class by class, what the checkpoint
            has for a class of that name.

    Raises:
        CorruptFileError: if the checkpoint is of another network.
        InvalidArgumentError: if there are class names, and the checkpoint does not say its own.
    """
    if found := misfit(make, checkpoint.tensors):
        raise CorruptFileError(
            f"{checkpoint.source} is not of this network with these options: {found}. Choose the model, variant and "
            "options that the checkpoint was made with"
        )
    own, given = network.state_dict(), checkpoint.tensors
    partly: tuple[str, ...] = ()
    if class_names is not None:
        given, partly = _by_class(own, checkpoint, shapes_and_axes(make)[1], class_names)
    fitting = {name: given[name] for name, tensor in own.items() if name in given and given[name].shape == tensor.shape}
    network.load_state_dict(fitting, strict=False)
    if any(name not in own for name in given):
        logger.info("%s: auxiliary heads left out; aux_loss=True keeps them", checkpoint.source)
    fresh = tuple(name for name in own if name not in fitting or name in partly)
    if fresh:
        logger.warning("%s does not fill these tensors, randomly initialized: %s", checkpoint.source, ", ".join(fresh))
    return fresh


def _by_class(
    own: Mapping[str, Tensor], checkpoint: Checkpoint, per_class: Mapping[str, ClassAxis], class_names: Sequence[str]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The checkpoint's tensors, those that depend on classes for the network's, and which of these are partly fresh."""
    if checkpoint.info is None:
        raise InvalidArgumentError(
            f"class_names cannot be matched: {checkpoint.source} does not say what its classes are; give num_classes= "
            "instead"
        )
    for name, axis in per_class.items():
        if axis.rows is None:
            raise InvalidArgumentError(
                f"class_names cannot be matched: {name} here depends on the number of classes, and not class "
                "by class; give num_classes= instead"
            )
    matches = matching_classes(class_names, checkpoint.info.metadata.labels)
    tensors = dict(checkpoint.tensors)
    for name, axis in per_class.items():
        if name in tensors:
            to, source = (axis.positions(classes) for classes in (list(matches), list(matches.values())))
            rows = tensors[name].index_select(axis.dimension, source).to(own[name])
            tensors[name] = own[name].clone().index_copy_(axis.dimension, to, rows)
    unmatched = [name for index, name in enumerate(class_names) if index not in matches]
    if unmatched:
        logger.warning(
            "%s has no classes for %s: their rows are randomly initialized", checkpoint.source, ", ".join(unmatched)
        )
    return tensors, tuple(per_class) if unmatched else ()


def _auxiliary(name: str) -> bool:
    return name.startswith("aux")


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMES_SHOWN])
    return shown if len(names) <= _NAMES_SHOWN else f"{shown} and {len(names) - _NAMES_SHOWN} more"
