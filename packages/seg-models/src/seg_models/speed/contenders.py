"""The models that `benchmark` measures: by file, run folder, name, or as networks."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from seg_core.errors import InvalidArgumentError
from seg_core.model_files.load_network import find_network, is_model_name, load_network
from seg_models.factory import get_model
from seg_models.inference.preparation import check_model
from seg_models.speed.memory import returning_memory

__all__ = ["Contender", "load_contender"]

RANDOM = "random weights, which take as long as trained ones"


@dataclass(frozen=True)
class Contender:
    """A model to measure.

    Attributes:
        name: its name in the report.
        network: on the processor, or where the caller put it.
        note: a sentence about its weights, or "".
    """

    name: str
    network: nn.Module
    note: str = ""


def load_contender(
    source: nn.Module | str | os.PathLike[str],
    weights: Any = None,
    variant: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Contender:
    """Loads a model; one by name without `weights` is randomly initialized, so nothing is downloaded.

    Args:
        source: a network, a model file, an exported file, a run folder, or the name of a model.
        weights: for a model's name: weights as in `get_model`.
        variant: for a model's name: its variant.
        options: for a model's name: other options of its builder, such as `num_classes`.

    Raises:
        InvalidArgumentError: if weights, variant or options are given with another source than a name; if the builder
            has no such option; or if a network of its name needs a backbone.
        UnknownNameError: if there is no such model, or no such weights.
        FileNotFoundError: if there is no such file.
        CorruptFileError: if the file is damaged.
    """
    options = dict(options or {})
    check_model(source)
    if isinstance(source, nn.Module):
        spec = getattr(source, "build_spec", None)
        return Contender(type(source).__name__ if spec is None else spec.builder, source)
    given = os.fspath(source)
    if is_model_name(source) and given.strip() and (weights is None or options):
        options |= {name: value for name, value in (("weights", weights), ("variant", variant)) if value is not None}
        with returning_memory():  # blocks that are freed meanwhile would hide some of the memory of calls
            network = get_model(given, **options)
        return Contender(given, network, RANDOM if weights is None else f"weights {weights}")
    if options:
        raise InvalidArgumentError(
            f"{', '.join(options)} cannot be set for model file or run {given}, which contains its own; give a name"
        )
    found = find_network(source, weights, variant)
    with returning_memory():
        network = load_network(found)
    return Contender(given, network, found.note if found.weights is None else f"weights {found.weights}")
