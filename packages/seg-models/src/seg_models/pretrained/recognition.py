"""Which variant of a model a checkpoint holds, and under whose names: told from its names and shapes."""

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
from seg_models.pretrained.key_table import KeyTable, tables_for

__all__ = ["Settled", "recognize"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settled:
    """What a variant of a model is made of.

    Attributes:
        make: makes the network for a number of classes.
        arguments: of its build spec, but for the number of classes.
        network: the variant, where that is another network than the model's own; None where it is that.
    """

    make: Callable[[int], nn.Module]
    arguments: Mapping[str, Any]
    network: str | None = None


@dataclass(frozen=True)
class _Reading:
    """A checkpoint read as one variant of the model, under one project's names."""

    variant: str
    table: KeyTable
    checkpoint: Checkpoint
    misfit: Misfit
    settled: Settled


def recognize(
    checkpoint: Checkpoint,
    model: str,
    variants: Iterable[str],
    settle: Callable[[str], Settled],
) -> Checkpoint:
    """Returns the checkpoint with its variant, and its tensors under our names.

    Where several variants have these names and shapes, a known hash of the file decides; else the first is taken, with
    a warning if they compute different things.

    Args:
        checkpoint: of unknown variant.
        model: name of the model in the catalog.
        variants: those that it may have, the preferred first.
        settle: variant -> what it is made of. Variants that it refuses, since an option contradicts them, are passed
            over.

    Raises:
        CorruptFileError: if the file holds none of them; the message names the nearest and what differs.
        InvalidArgumentError: if every variant contradicts an option.
    """
    readings: list[_Reading] = []
    refused: InvalidArgumentError | None = None
    for variant in variants:
        try:
            settled = settle(variant)
        except InvalidArgumentError as error:
            refused = error
            continue
        for table in tables_for(model, variant):
            converted = replace(checkpoint, tensors=table.convert(checkpoint.tensors), variant=variant)
            readings.append(_Reading(variant, table, converted, misfit(settled.make, converted.tensors), settled))
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
            "model, variant and options that the checkpoint was made with"
        )
    chosen, *others = fitting
    known = _known_variant(checkpoint.source, model) if others else None
    chosen = next((reading for reading in fitting if reading.variant == known), chosen)
    unlike = [r.variant for r in fitting if r.variant != chosen.variant and _differ(r.settled, chosen.settled)]
    if unlike and known is None:
        logger.warning(
            "%s may be of variant %s of %s: names and shapes are the same. %r is taken; say it with variant=",
            checkpoint.source,
            " or ".join(repr(variant) for variant in [chosen.variant, *unlike]),
            model,
            chosen.variant,
        )
    if chosen.table.key_rules != "seg":
        logger.info("%s holds the names of %s", checkpoint.source, chosen.table.key_rules)
    return chosen.checkpoint


def _differ(one: Settled, other: Settled) -> bool:
    return (one.network, one.arguments) != (other.network, other.arguments)


def _known_variant(path: str, model: str) -> str | None:
    """The variant that the catalog has for a file of this hash, published or seen at its first use."""
    entry = MODELS.entry(model)
    published = entry.weights.values() if isinstance(entry, ModelEntry) else ()
    with Path(path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    used = {row["url"] for row in read_manifest().values() if row["sha256"] == digest}
    vouched = (w.variant for w in published if (w.hash and digest.startswith(w.hash)) or w.url in used)
    return next(vouched, None)
