"""Recognizes the variant of a checkpoint, and the project of its parameter names, from names and shapes."""

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from seg_core.catalog import ModelEntry
from seg_core.errors import CorruptFileError, InvalidArgumentError
from seg_core.files.download import read_manifest
from seg_core.registry import MODELS
from seg_models.pretrained.checkpoint import Checkpoint, Misfit, misfit
from seg_models.pretrained.key_table import KeyTable
from seg_models.pretrained.lookup import tables_for

__all__ = ["Plan", "recognize"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """How a variant of a model is built.

    Attributes:
        build: builds the network for a number of classes.
        arguments: arguments of its build spec, except the number of classes.
        other_network: the variant, if that is another network than the model's own; else None.
    """

    build: Callable[[int], nn.Module]
    arguments: Mapping[str, Any]
    other_network: str | None = None


@dataclass(frozen=True)
class _Reading:
    """A checkpoint read as one variant of the model, under one project's names."""

    variant: str
    table: KeyTable
    checkpoint: Checkpoint
    misfit: Misfit
    plan: Plan


def recognize(
    checkpoint: Checkpoint,
    model: str,
    variants: Iterable[str],
    plan: Callable[[str], Plan],
) -> Checkpoint:
    """Returns the checkpoint with its variant, and its tensors under our names.

    If several variants have these names and shapes, a known hash of the file decides; without one the first is used,
    with a warning if they compute different things.

    Args:
        checkpoint: a checkpoint of unknown variant.
        model: name of the model in the catalog.
        variants: the candidates, the preferred one first.
        plan: variant -> how it is built. Variants that an option contradicts are skipped.

    Raises:
        CorruptFileError: if the file matches none of them; the message names the nearest one and the differences.
        InvalidArgumentError: if every variant contradicts an option.
    """
    readings: list[_Reading] = []
    refused: InvalidArgumentError | None = None
    for variant in variants:
        try:
            planned = plan(variant)
        except InvalidArgumentError as error:
            refused = error
            continue
        for table in tables_for(model, variant):
            converted = replace(checkpoint, tensors=table.convert(checkpoint.tensors), variant=variant)
            readings.append(_Reading(variant, table, converted, misfit(planned.build, converted.tensors), planned))
            if not readings[-1].misfit:
                break
    if not readings:
        assert refused is not None
        raise refused
    fitting = [reading for reading in readings if not reading.misfit]
    if not fitting:
        nearest = min(readings, key=lambda reading: reading.misfit.count)
        names = "" if nearest.table.key_rules == "seg" else f" under {nearest.table.key_rules}'s names"
        hint = f"Nearest is variant {nearest.variant!r}{names}. " if len(readings) > 1 else ""
        raise CorruptFileError(
            f"{checkpoint.source} is not of this network with these options: {nearest.misfit}. {hint}Choose the "
            "model, variant and options that the checkpoint was trained with"
        )
    chosen, *others = fitting
    known = _known_variant(checkpoint.source, model) if others else None
    chosen = next((reading for reading in fitting if reading.variant == known), chosen)
    unlike = [r.variant for r in fitting if r.variant != chosen.variant and _differ(r.plan, chosen.plan)]
    if unlike and known is None:
        logger.warning(
            "%s may be of variant %s of %s: names and shapes are the same. Using %r; set variant= to choose",
            checkpoint.source,
            " or ".join(repr(variant) for variant in [chosen.variant, *unlike]),
            model,
            chosen.variant,
        )
    if chosen.table.key_rules != "seg":
        logger.info("%s has the parameter names of %s", checkpoint.source, chosen.table.key_rules)
    return chosen.checkpoint


def _differ(one: Plan, other: Plan) -> bool:
    return (one.other_network, one.arguments) != (other.other_network, other.arguments)


def _known_variant(path: str, model: str) -> str | None:
    """Returns the variant of a file by its hash in the catalog, published or recorded at its first use."""
    entry = MODELS.entry(model)
    published = entry.weights.values() if isinstance(entry, ModelEntry) else ()
    with Path(path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    used = {row["url"] for row in read_manifest().values() if row["sha256"] == digest}
    matching = (w.variant for w in published if (w.hash and digest.startswith(w.hash)) or w.url in used)
    return next(matching, None)
