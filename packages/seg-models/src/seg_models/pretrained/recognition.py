"""Which form of a model a checkpoint holds, and under whose names: told from its names and shapes."""

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

__all__ = ["Settled", "recognise"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settled:
    """What a form of a model is made of.

    Attributes:
        make: makes the network for a number of classes.
        arguments: of its build spec, but for the number of classes.
        network: the form, where that is another network than the model's own; None where it is that.
    """

    make: Callable[[int], nn.Module]
    arguments: Mapping[str, Any]
    network: str | None = None


@dataclass(frozen=True)
class _Reading:
    """A checkpoint read as one form of the model, under one dialect's names."""

    form: str
    table: KeyTable
    checkpoint: Checkpoint
    misfit: Misfit
    settled: Settled


def recognise(
    checkpoint: Checkpoint,
    model: str,
    forms: Iterable[str],
    settle: Callable[[str], Settled],
) -> Checkpoint:
    """Returns the checkpoint with its form, and its tensors under our names.

    Where several forms have these names and shapes, a known hash of the file decides; else the first is taken, with a
    warning if they compute different things.

    Args:
        checkpoint: of unknown form.
        model: name of the model in the catalog.
        forms: those that it may have, the preferred first.
        settle: form -> what it is made of. Forms that it refuses, since an option contradicts them, are passed over.

    Raises:
        CorruptFileError: if the file holds none of them; the message names the nearest and what differs.
        InvalidArgumentError: if every form contradicts an option.
    """
    readings: list[_Reading] = []
    refused: InvalidArgumentError | None = None
    for form in forms:
        try:
            settled = settle(form)
        except InvalidArgumentError as error:
            refused = error
            continue
        for table in tables_for(model, form):
            converted = replace(checkpoint, tensors=table.convert(checkpoint.tensors), form=form)
            readings.append(_Reading(form, table, converted, misfit(settled.make, converted.tensors), settled))
            if not readings[-1].misfit:
                break
    if not readings:
        assert refused is not None
        raise refused
    fitting = [reading for reading in readings if not reading.misfit]
    if not fitting:
        nearest = min(readings, key=lambda reading: reading.misfit.count)
        names = "" if nearest.table.dialect == "seg" else f" under {nearest.table.dialect}'s names"
        hint = f"Nearest is form {nearest.form!r}{names}. " if len(readings) > 1 else ""
        raise CorruptFileError(
            f"{checkpoint.source} is not of this network with these options: {nearest.misfit}. {hint}Choose the "
            "model, form and options that the checkpoint was made with"
        )
    chosen, *others = fitting
    known = _known_form(checkpoint.source, model) if others else None
    chosen = next((reading for reading in fitting if reading.form == known), chosen)
    unlike = [r.form for r in fitting if r.form != chosen.form and _differ(r.settled, chosen.settled)]
    if unlike and known is None:
        logger.warning(
            "%s may be of form %s of %s: names and shapes are the same. %r is taken; say it with form=",
            checkpoint.source,
            " or ".join(repr(form) for form in [chosen.form, *unlike]),
            model,
            chosen.form,
        )
    if chosen.table.dialect != "seg":
        logger.info("%s holds the names of %s", checkpoint.source, chosen.table.dialect)
    return chosen.checkpoint


def _differ(one: Settled, other: Settled) -> bool:
    return (one.network, one.arguments) != (other.network, other.arguments)


def _known_form(path: str, model: str) -> str | None:
    """The form that the catalog has for a file of this hash, published or seen at its first use."""
    entry = MODELS.entry(model)
    published = entry.weights.values() if isinstance(entry, ModelEntry) else ()
    with Path(path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    used = {row["url"] for row in read_manifest().values() if row["sha256"] == digest}
    vouched = (w.form for w in published if (w.hash and digest.startswith(w.hash)) or w.url in used)
    return next(vouched, None)
