"""Loads a network by model file, run folder, exported file, or model name with weights.

`seg predict`, `seg eval` and `Predictor` all use these functions, so they accept the same inputs.
"""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seg_core.catalog import ModelEntry
from seg_core.errors import InvalidArgumentError, UnknownNameError, nearest
from seg_core.model_files.paths import RUN_MODEL_FILES, find_run_file, looks_like_path
from seg_core.registry import LOADERS, MODELS

if TYPE_CHECKING:
    from torch import nn

__all__ = ["NetworkSource", "find_network", "is_model_name", "load_network", "looks_like_path"]

_CONFIG_SUFFIXES = (".toml", ".yaml", ".yml", ".json", ".py")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class NetworkSource:
    """The source of a network; nothing is loaded yet.

    Attributes:
        given: the source as the user gave it, for messages.
        path: the model file or exported file; None for a model by name.
        weights: weights of a model by name: member of its weights enum, the member's name or a checkpoint file. None
            for a file, which contains its own.
        run: the run folder that contains the file, or None.
        variant: variant of a model by name; None for that of its weights.
        note: a sentence about a default that was chosen, or "".
    """

    given: str
    path: Path | None = None
    weights: Any = None
    run: Path | None = None
    note: str = ""
    variant: str | None = None


def find_network(source: str | os.PathLike[str], weights: Any = None, variant: str | None = None) -> NetworkSource:
    """Resolves a path or name to the source of a network. Imports no torch and loads nothing.

    Args:
        source: path of a model file or an exported file, a run folder (its best weights are used, which `note` says),
            or the name of a model.
        weights: weights of a model by name; None selects the default weights, which `note` names.
        variant: variant of a model by name; None selects that of its weights.

    Raises:
        InvalidArgumentError: if weights or a variant are given with a file or a run, a model by name has no weights or
            needs a backbone, or a folder holds no model file.
        UnknownNameError: if there is no model or no variant of that name.
    """
    given = os.fspath(source)
    if not given.strip():
        raise InvalidArgumentError("the model is an empty string; name a model file, a run folder or a model")
    path = Path(source)
    if is_model_name(source):
        return _find_by_name(given, weights, variant)
    if path.is_dir():
        file, note = find_run_file(path)
        _refuse_own("run", given, weights=weights, variant=variant)
        return NetworkSource(given, file, run=path, note=note)
    _refuse_config(path)
    _refuse_own("model file", given, weights=weights, variant=variant)
    return NetworkSource(given, path)


def is_model_name(source: str | os.PathLike[str]) -> bool:
    """Returns whether `find_network` takes `source` as a model's name: it is neither a path nor an existing folder.

    A registered name goes before a folder of that name.
    """
    if isinstance(source, os.PathLike):
        return False
    return source in MODELS if Path(source).is_dir() else not looks_like_path(source)


def _find_by_name(given: str, weights: Any, variant: str | None) -> NetworkSource:
    entry = MODELS.entry(given)
    known = entry if isinstance(entry, ModelEntry) else None
    if known is not None and known.any_backbone:
        raise InvalidArgumentError(
            f"model {given!r} needs a backbone; name a model that has one (`seg models` lists them), or a model file"
        )
    if variant is not None and known is not None and variant not in known.variants:
        raise UnknownNameError(
            f"model {given!r} has no variant {variant!r}.{nearest(variant, known.variants)} Variants: "
            f"{', '.join(known.variants)}"
        )
    default = None if known is None else known.default_weights
    if weights is None:
        if known is None or default is None:
            raise InvalidArgumentError(
                f"model {given!r} has no published weights; give a model file (training writes model.pt), or weights"
            )
        note = f"no weights given, taking {known.weights_enum}.{default}"
        return NetworkSource(given, weights=default, note=note, variant=variant)
    chosen = default if weights == "DEFAULT" and default is not None else weights
    return NetworkSource(given, weights=chosen, variant=variant)


def _refuse_config(path: Path) -> None:
    """Raises InvalidArgumentError if a file is a config, as other tools take one beside a checkpoint."""
    if path.suffix.lower() not in _CONFIG_SUFFIXES or not path.is_file():
        return
    run = path.parent if any((path.parent / name).is_file() for name in RUN_MODEL_FILES) else None
    instead = "a run folder (training writes them to runs/)" if run is None else f"its run folder, {run},"
    raise InvalidArgumentError(f"{path} is a config, not a model; give {instead} or a model file, without a config")


def _refuse_own(what: str, given: str, **options: Any) -> None:
    """Raises InvalidArgumentError if an option is given that the file has itself."""
    for name, value in options.items():
        if value is not None:
            raise InvalidArgumentError(
                f"{name} {value} cannot be used with {what} {given}, which contains its own; remove {name}"
            )


def load_network(
    source: "nn.Module | str | os.PathLike[str] | NetworkSource",
    weights: Any = None,
    *,
    say: Callable[[str], None] = logger.warning,
) -> "nn.Module":
    """Loads a network on the CPU; a network that is passed in is returned unchanged.

    Args:
        source: a network, a source as in `find_network`, or its result.
        weights: as for `find_network`.
        say: called with a sentence about a default that was chosen; not for a result of `find_network`.

    Raises:
        InvalidArgumentError: as for `find_network`; if weights are given with a network; or if weights leave tensors
            of the network randomly initialized, so that its results would be random.
        UnknownNameError: if there is no model or there are no weights of that name.
        FileNotFoundError: if there is no such file.
        CorruptFileError: if the file is damaged.
    """
    if isinstance(source, str | os.PathLike):
        source = find_network(source, weights)
        if source.note:
            say(source.note)
    elif weights is not None:
        raise InvalidArgumentError(f"weights={weights!r} cannot be used with a network, which contains its own")
    if not isinstance(source, NetworkSource):
        return source
    if source.path is not None:
        if source.path.suffix in LOADERS:
            return LOADERS.get(source.path.suffix)(source.path)
        from seg_core.model_files.model_file import load_model

        return load_model(source.path)
    options = {} if source.variant is None else {"variant": source.variant}
    network = _built(source.given, source.weights, options)
    unfilled = getattr(network, "randomly_initialized", ())
    if unfilled:
        raise InvalidArgumentError(
            f"weights {source.weights} leave {len(unfilled)} tensors of {source.given!r} randomly initialized, the "
            f"first is {unfilled[0]}, so the results would be random; use weights of this network"
        )
    return network


def _built(name: str, weights: Any, options: dict[str, Any]) -> "nn.Module":
    """Builds a model by name with weights; those in a file are loaded here if the builder is of no catalog."""
    from seg_core.model_files.own_builders import file_to_load, load_file, takes_weights

    builder: Callable[..., nn.Module] = MODELS.get(name)
    file = file_to_load(name, weights)
    if file is None:
        if not takes_weights(name):
            raise InvalidArgumentError(
                f"weights {weights!r}: the builder of model {name!r} has no parameter 'weights' of its own, so that "
                "its **kwargs may ignore them; add weights=None to it, or give the path of a file"
            )
        return builder(weights=weights, **options)
    network = builder(weights=None, **options)
    load_file(network, file, name)
    return network
