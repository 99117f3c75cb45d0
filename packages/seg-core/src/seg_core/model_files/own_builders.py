"""Weights of networks whose builder is a user's own: what goes to the builder, and what is loaded for it."""

from pathlib import Path
from typing import Any

from torch import nn

from seg_core.catalog import ModelEntry
from seg_core.errors import CorruptFileError, InvalidArgumentError, reading_file
from seg_core.model_files.checkpoint_file import read_tensors
from seg_core.model_files.fit import check_own_tensors
from seg_core.model_files.paths import looks_like_path, split_nest
from seg_core.registry import MODELS
from seg_core.spec import takes

__all__ = ["file_to_load", "load_file", "takes_weights"]


def file_to_load(builder: str, weights: Any) -> str | None:
    """Returns the file that the builder's caller loads into the network itself, or None if the builder gets `weights`.

    Builders with a catalog entry of a model read files; of any other builder nothing is known, so that a file that it
    ignores would be random weights.

    Args:
        builder: name of a known model.
        weights: as the user gave them.
    """
    if not isinstance(weights, str | Path) or isinstance(MODELS.entry(builder), ModelEntry):
        return None
    given = str(weights)
    is_path = Path(split_nest(given)[0]).exists() or (looks_like_path(given) and "://" not in given)
    return given if is_path else None


def takes_weights(builder: str, argument: str = "weights") -> bool:
    """Returns whether a builder is known to do something with weights: `**kwargs` may ignore them."""
    return isinstance(MODELS.entry(builder), ModelEntry) or takes(MODELS.get(builder), argument)


def load_file(network: nn.Module, file: str, builder: str) -> None:
    """Loads every tensor of a file into a network, and sets its `model_info` if it is a model file.

    Args:
        network: as built by `builder`.
        file: a model file, run folder or checkpoint, see `read_tensors`.
        builder: its name, for messages.

    Raises:
        InvalidArgumentError: if there is no such file.
        CorruptFileError: if the file is damaged, or has other tensors than the network; the message names the first
            that differs.
    """
    path, state, info = read_tensors(file)
    try:
        check_own_tensors(network, state)
    except InvalidArgumentError as error:
        raise CorruptFileError(
            f"{path} is not of the network that {builder} builds with these options and number of classes: {error}"
        ) from error
    with reading_file(path):
        network.load_state_dict(
            state, strict=False
        )  # the tensors are the same; other state, such as extra, may be missing
    network.model_info = info  # type: ignore[assignment]  # a plain attribute
