"""Loads checkpoints into networks: which tensors must match, and which may differ with the number of classes."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from seg_core.errors import CorruptFileError, InvalidArgumentError, reading_file
from seg_core.model_files.checkpoint_file import read_content, read_tensors
from seg_core.model_files.reading import ModelInfo, is_model_file, parse_model_file
from seg_core.model_files.state_dict import networks_in
from seg_models.pretrained.class_axes import ClassAxis, shapes_and_axes
from seg_models.pretrained.class_names import matching_classes
from seg_models.pretrained.tensor_names import is_counter, is_foreign

__all__ = [
    "Checkpoint",
    "Misfit",
    "load_checkpoint",
    "misfit",
    "misfit_of_shapes",
    "networks_in_file",
    "read_checkpoint",
]

logger = logging.getLogger(__name__)

_NAMES_SHOWN = 5


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a trained network.

    Attributes:
        source: the file or the weights member, for messages.
        tensors: parameter or buffer name -> tensor.
        variant: the variant stored in the file, or None.
        builder: the builder stored in the file, or None.
        num_classes: channels of the logits, or None if not stored in the file.
        info: classes, preprocessing and scores, or None if not stored in the file.
        inflated: whether the tensors were inflated from 3 channels.
    """

    source: str
    tensors: Mapping[str, Tensor]
    variant: str | None = None
    builder: str | None = None
    num_classes: int | None = None
    info: ModelInfo | None = None
    inflated: bool = False

    def count_classes(self, build: Callable[[int], nn.Module]) -> int:
        """Returns the number of classes of the file's logits.

        Args:
            build: builds the network for a number of classes.

        Raises:
            InvalidArgumentError: if it cannot be determined from the file.
        """
        if self.num_classes is not None:
            return self.num_classes
        axes = {
            name: axis
            for name, axis in shapes_and_axes(build)[1].items()
            if name in self.tensors and axis.dimension >= 0
        }
        # a width that is the number of classes divided by something is ambiguous, so the other tensors come first
        for name, axis in sorted(axes.items(), key=lambda item: -item[1].per_class):
            if self.tensors[name].dim() > axis.dimension:
                found = axis.count(self.tensors[name].shape[axis.dimension])
                if found == int(found) and found >= 1:
                    return int(found)
        raise InvalidArgumentError(f"the number of classes cannot be determined from {self.source}; set num_classes=")


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Reads a checkpoint file: a model file of this toolkit, a dict of tensors by name, or one inside another dict.

    The digest of a model file is checked, as in `load_model`.

    Args:
        path: path of the file; the suffix `.safetensors` selects that format, else it is torch's. `"file.pth#ema"`
            names one of several networks in a file, see `tensors_of`. A run folder gives its best weights.

    Raises:
        InvalidArgumentError: if there is no such file, or no such network in it; if it holds several and none is named;
            or if safetensors is needed and not installed.
        CorruptFileError: if it is damaged, or holds something else.
    """
    name, state, info = read_tensors(path)
    if info is None:
        return Checkpoint(name, state)
    return Checkpoint(name, state, info.spec.variant, info.spec.builder, info.metadata.num_classes, info)


def networks_in_file(path: str | os.PathLike[str]) -> ModelInfo | dict[str, dict[str, Tensor]]:
    """Returns the description in a model file; of another checkpoint each network in it: place in the file -> tensors.

    Raises:
        InvalidArgumentError: if there is no such file.
        CorruptFileError: if it is damaged, or holds no tensors by name.
    """
    content = read_content(os.fspath(path))
    with reading_file(path):
        return parse_model_file(content, path)[0] if is_model_file(content) else networks_in(content, os.fspath(path))


@dataclass(frozen=True)
class Misfit:
    """The tensors in which a checkpoint and a network differ; falsy if there are none.

    Attributes:
        lacking: tensors that only the network has.
        surplus: tensors that only the checkpoint has.
        reshaped: tensors whose shapes differ.
    """

    lacking: tuple[str, ...]
    surplus: tuple[str, ...]
    reshaped: tuple[str, ...]

    @property
    def count(self) -> int:
        """The number of tensors that differ."""
        return len(self.lacking) + len(self.surplus) + len(self.reshaped)

    def __bool__(self) -> bool:
        return self.count > 0

    def __str__(self) -> str:
        parts = {"it lacks": self.lacking, "it also holds": self.surplus, "of another shape are": self.reshaped}
        return "; ".join(f"{what} {_some(names)}" for what, names in parts.items() if names)


def misfit(build: Callable[[int], nn.Module], tensors: Mapping[str, Tensor]) -> Misfit:
    """Compares a checkpoint with a network, without allocating the network.

    These differences are ignored: tensors that depend on the number of classes may be for another number; auxiliary
    heads may be in only one of the two; the checkpoint may lack the counters of batch norms, as for torch itself, and
    hold tensors of a FLOP counter, a loss or a metric.

    Args:
        build: builds the network for a number of classes.
        tensors: tensors of the checkpoint, under the network's names.
    """
    return misfit_of_shapes(*shapes_and_axes(build), tensors)


def misfit_of_shapes(
    shapes: Mapping[str, torch.Size], per_class: Mapping[str, ClassAxis], tensors: Mapping[str, Tensor]
) -> Misfit:
    """Compares a checkpoint with the result of `shapes_and_axes` for a network, as `misfit` does."""
    return Misfit(
        lacking=tuple(name for name in shapes if not (name in tensors or _auxiliary(name) or is_counter(name))),
        surplus=tuple(name for name in tensors if not (name in shapes or _auxiliary(name) or is_foreign(name))),
        reshaped=tuple(
            name
            for name, shape in shapes.items()
            if name in tensors and not _same_shape(tensors[name].shape, shape, per_class.get(name))
        ),
    )


def _same_shape(one: torch.Size, other: torch.Size, axis: ClassAxis | None) -> bool:
    """Returns whether two shapes are equal, except in the axis that depends on the number of classes."""
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
    build: Callable[[int], nn.Module],
    class_names: Sequence[str] | None = None,
) -> tuple[str, ...]:
    """Loads a checkpoint into `network`; logs and returns the names of tensors that stay randomly initialized.

    Every tensor must match, except for the differences that `misfit` ignores: those tensors are not changed. A warning
    names tensors of the checkpoint that are no network's.

    Args:
        network: a network built by `build`.
        checkpoint: the tensors to load.
        build: builds the network for a number of classes.
        class_names: names of the network's classes: tensors that depend on classes then get, for each class, the
            checkpoint's rows of the class of that name.

    Raises:
        CorruptFileError: if the checkpoint is of another network.
        InvalidArgumentError: if there are class names, and the checkpoint does not name its own classes.
    """
    if found := misfit(build, checkpoint.tensors):
        raise CorruptFileError(
            f"{checkpoint.source} is not of this network with these options: {found}. Choose the model, variant and "
            "options that the checkpoint was trained with"
        )
    with reading_file(checkpoint.source):
        return _load(network, checkpoint, build, class_names)


def _load(
    network: nn.Module,
    checkpoint: Checkpoint,
    build: Callable[[int], nn.Module],
    class_names: Sequence[str] | None,
) -> tuple[str, ...]:
    own, given = network.state_dict(), checkpoint.tensors
    partly: tuple[str, ...] = ()
    if class_names is not None:
        given, partly = _by_class(own, checkpoint, shapes_and_axes(build)[1], class_names)
    fitting = {name: given[name] for name, tensor in own.items() if name in given and given[name].shape == tensor.shape}
    network.load_state_dict(fitting, strict=False)
    foreign = [name for name in given if name not in own and is_foreign(name) and not _auxiliary(name)]
    if foreign:
        logger.warning("%s: left out tensors that are not of the network: %s", checkpoint.source, _some(foreign))
    if any(name not in own and _auxiliary(name) for name in given):
        logger.info("%s: auxiliary heads dropped; aux_loss=True keeps them", checkpoint.source)
    unfilled = tuple(name for name in own if (name not in fitting and not _counts_for(name, fitting)) or name in partly)
    _warn_of_unfilled([name for name in unfilled if name not in partly], own, checkpoint, build)
    return unfilled


def _warn_of_unfilled(
    unfilled: Sequence[str], own: Mapping[str, Tensor], checkpoint: Checkpoint, build: Callable[[int], nn.Module]
) -> None:
    """Logs which tensors stay randomly initialized: for another number of classes, or since the checkpoint has none."""
    of_classes = [name for name in unfilled if name in checkpoint.tensors]
    lacking = [name for name in unfilled if name not in checkpoint.tensors]
    if of_classes:
        logger.warning(
            "%s has %d classes, the network has %d; these tensors depend on the classes and are randomly initialized: "
            "%s",
            checkpoint.source,
            checkpoint.count_classes(build),
            Checkpoint("the network", own).count_classes(build),
            ", ".join(of_classes),
        )
    if lacking:
        logger.warning(
            "%s lacks these tensors, which are randomly initialized: %s", checkpoint.source, ", ".join(lacking)
        )


def _by_class(
    own: Mapping[str, Tensor], checkpoint: Checkpoint, per_class: Mapping[str, ClassAxis], class_names: Sequence[str]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Selects the rows of tensors that depend on classes.

    Returns:
        The tensors for the network's classes, and the names of those that are partly randomly initialized.
    """
    if checkpoint.info is None:
        raise InvalidArgumentError(
            f"class_names cannot be matched: {checkpoint.source} does not name its classes; set num_classes= instead"
        )
    for name, axis in per_class.items():
        if axis.rows is None:
            raise InvalidArgumentError(
                f"class_names cannot be matched: {name} depends on the number of classes, but not class by class; set "
                "num_classes= instead"
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


def _counts_for(name: str, loaded: Mapping[str, Tensor]) -> bool:
    """Returns whether a tensor is the counter of a batch norm whose statistics were loaded."""
    return is_counter(name) and f"{name.rpartition('.')[0]}.running_mean" in loaded


def _auxiliary(name: str) -> bool:
    return name.startswith("aux")


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMES_SHOWN])
    return shown if len(names) <= _NAMES_SHOWN else f"{shown} and {len(names) - _NAMES_SHOWN} more"
