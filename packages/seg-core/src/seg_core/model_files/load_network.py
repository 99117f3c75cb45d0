"""A network from whatever names it: a model file, a run folder, an exported file, or a model's name with weights.

`seg predict`, `seg eval` and `Predictor` all find their network here, so that the same input means the same everywhere.
"""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seg_core.catalog import ModelEntry
from seg_core.errors import InvalidArgumentError
from seg_core.registry import LOADERS, MODELS

if TYPE_CHECKING:
    from torch import nn

__all__ = ["RUN_MODEL_FILES", "NetworkSource", "find_network", "load_network", "looks_like_path"]

logger = logging.getLogger(__name__)

RUN_MODEL_FILES = ("model.pt", "model_best.pt", "model_ema.pt")
"""Model files of a run folder: the last weights, the best, and the EMA's."""

_SUFFIXES = (".pt", ".pth", ".safetensors")


@dataclass(frozen=True)
class NetworkSource:
    """Where a network comes from; nothing is loaded yet.

    Attributes:
        given: what the user named, for messages.
        path: the model file or exported file; None for a model by name.
        weights: of a model by name: member of its weights enum, the member's name or a checkpoint file. None for a
            file, which holds its own.
        run: the run folder whose file it is, or None.
        note: a sentence on what was chosen for the user, or "".
    """

    given: str
    path: Path | None = None
    weights: Any = None
    run: Path | None = None
    note: str = ""


def looks_like_path(text: str) -> bool:
    """Tells a file from the name of a model or of weights: it exists, has a folder, or the suffix of a model's file."""
    path = Path(text)
    return path.is_file() or path.name != text or path.suffix in _SUFFIXES or path.suffix in LOADERS


def find_network(source: str | os.PathLike[str], weights: Any = None) -> NetworkSource:
    """Returns where the network comes from that a user names. Imports no torch and loads nothing.

    Args:
        source: path of a model file or an exported file, a run folder (its last weights are taken), or the name of a
            model.
        weights: of a model by name; None takes the default weights, and `note` says which.

    Raises:
        InvalidArgumentError: if weights are given with a file or a run, a model by name has none or needs a backbone,
            or a folder holds no model file.
        UnknownNameError: if there is no model of that name.
    """
    given = os.fspath(source)
    path = Path(source)
    if path.is_dir() and (isinstance(source, os.PathLike) or given not in MODELS):
        file, *others = (path / name for name in RUN_MODEL_FILES)
        if not file.is_file():
            raise InvalidArgumentError(
                f"{given} is a folder without a {file.name}; give a run folder or the path of a model file"
            )
        if weights is not None:
            raise InvalidArgumentError(
                f"weights {weights} cannot be used with run {given}, which holds its own; leave it out"
            )
        beside = [other.name for other in others if other.is_file()]
        also = f"; it also has {' and '.join(beside)}" if beside else ""
        return NetworkSource(given, file, run=path, note=f"taking the last weights of the run, {file}{also}")
    if isinstance(source, os.PathLike) or looks_like_path(given):
        if weights is not None:
            raise InvalidArgumentError(
                f"weights {weights} cannot be used with model file {given}, which holds its own; leave it out"
            )
        return NetworkSource(given, path)
    entry = MODELS.entry(given)
    known = entry if isinstance(entry, ModelEntry) else None
    if known is not None and known.any_backbone:
        raise InvalidArgumentError(
            f"model {given!r} needs a backbone; name a model that has one (`seg models` lists them), or a model file"
        )
    default = None if known is None else known.default_weights
    if weights is None:
        if known is None or default is None:
            raise InvalidArgumentError(
                f"model {given!r} has no published weights; give a model file (training writes model.pt), or weights"
            )
        return NetworkSource(given, weights=default, note=f"no weights given, taking {known.weights_enum}.{default}")
    return NetworkSource(given, weights=default if weights == "DEFAULT" and default is not None else weights)


def load_network(
    source: "nn.Module | str | os.PathLike[str] | NetworkSource",
    weights: Any = None,
    *,
    say: Callable[[str], None] = logger.warning,
) -> "nn.Module":
    """Returns the network that a user names, on the CPU; a network is returned as it is.

    Args:
        source: a network, what `find_network` takes, or what it returned.
        weights: as for `find_network`.
        say: called with a sentence on what was chosen for the user; not for a source that `find_network` returned.

    Raises:
        InvalidArgumentError: as for `find_network`; if weights are given with a network; or if weights leave a part of
            the network randomly initialized, so that its results would be random.
        UnknownNameError: if there is no model or there are no weights of that name.
        FileNotFoundError: if there is no such file.
        CorruptFileError: if the file is damaged.
    """
    if isinstance(source, str | os.PathLike):
        source = find_network(source, weights)
        if source.note:
            say(source.note)
    elif weights is not None:
        raise InvalidArgumentError(f"weights={weights!r} cannot be used with a network, which holds its own")
    if not isinstance(source, NetworkSource):
        return source
    if source.path is not None:
        if source.path.suffix in LOADERS:
            exported: nn.Module = LOADERS.get(source.path.suffix)(source.path)
            return exported
        from seg_core.model_files.model_file import load_model

        return load_model(source.path)
    network: nn.Module = MODELS.get(source.given)(weights=source.weights)
    unfilled = getattr(network, "randomly_initialized", ())
    if unfilled:
        raise InvalidArgumentError(
            f"weights {source.weights} leave {len(unfilled)} tensors of {source.given!r} randomly initialized, the "
            f"first is {unfilled[0]}, so the results would be random; take weights of this network"
        )
    return network
