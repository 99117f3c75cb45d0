"""Weights of networks whose builder is a user's own: what goes to the builder, and what the trainer loads itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from seg_core.catalog import ModelEntry
from seg_core.model_files.load_network import looks_like_path
from seg_core.model_files.paths import split_nest
from seg_core.registry import MODELS
from seg_core.spec import takes
from seg_train.config.schema import ModelSection

__all__ = ["file_to_load", "weights_problems"]


def file_to_load(section: ModelSection) -> str | None:
    """Returns the file that the trainer loads into the network itself, or None if the builder gets `weights`.

    Builders with a catalog entry of a model read files; of any other builder nothing is known, so that a file that it
    ignores would be random weights.

    Args:
        section: with the name of a known model.
    """
    given = section.weights
    if given is None or isinstance(MODELS.entry(section.name), ModelEntry):
        return None
    is_path = Path(split_nest(given)[0]).exists() or (looks_like_path(given) and "://" not in given)
    return given if is_path else None


def weights_problems(section: ModelSection, builder: Callable[..., Any]) -> list[str]:
    """Returns the keys of weights that a builder of the user's own does not take, one sentence each."""
    if isinstance(MODELS.entry(section.name), ModelEntry):
        return []
    given = {"weights": section.weights, "weights_backbone": section.weights_backbone}
    if file_to_load(section) is not None:
        del given["weights"]
    return [
        f'model.{key} = "{value}": {section.name} has no parameter {key!r} of its own, so that its **kwargs may ignore '
        f"the value; add {key}=None to it and load what it names"
        + (", or give the path of a file, which the trainer loads" if key == "weights" else ", or remove the key")
        for key, value in given.items()
        if value is not None and not takes(builder, key)
    ]
