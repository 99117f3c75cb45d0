"""Recognizes the variant of a checkpoint, and the project of its parameter names, from names and shapes."""

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seg_core.catalog import ModelEntry
from seg_core.errors import CorruptFileError, InvalidArgumentError, reading_file
from seg_core.files.download import read_manifest
from seg_core.registry import MODELS
from seg_models.pretrained.checkpoint import Checkpoint, Misfit, misfit, misfit_of_shapes
from seg_models.pretrained.class_axes import ClassAxis, shapes_and_axes
from seg_models.pretrained.input_channels import RGB, inflate_tensors, input_channels_of
from seg_models.pretrained.key_table import KeyTable
from seg_models.pretrained.lookup import tables_for
from seg_models.pretrained.tensor_names import groups_of, unwrapped

__all__ = ["Plan", "check_channels", "recognize"]

logger = logging.getLogger(__name__)

_ADVICE = "Choose the model, variant and options that the checkpoint was trained with"


@dataclass(frozen=True)
class Plan:
    """How a variant of a model is built.

    Attributes:
        build: builds the network for a number of classes.
        build_with: channels of the images -> `build` for these.
        in_channels: the channels that `build` is for.
        arguments: arguments of its build spec, except the number of classes.
        other_network: the variant, if that is another network than the model's own; else None.
    """

    build: Callable[[int], nn.Module]
    build_with: Callable[[int], Callable[[int], nn.Module]]
    in_channels: int
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

    If all names begin with a prefix, as that of a wrapper, it is dropped, with a warning. If several variants have
    these names and shapes, a known hash of the file decides; without one the first is used, with a warning if they
    compute different things.

    Args:
        checkpoint: a checkpoint of unknown variant.
        model: name of the model in the catalog.
        variants: the candidates, the preferred one first.
        plan: variant -> how it is built. Variants that an option contradicts are skipped.

    Raises:
        CorruptFileError: if the file matches none of them; the message names the nearest one and the differences.
        InvalidArgumentError: if every variant contradicts an option, or the file is for another number of channels and
            cannot be inflated.
    """
    candidates = _candidates(model, variants, plan)
    readings: list[_Reading] = []
    for dropped, tensors in unwrapped(checkpoint.tensors):
        found = [reading for each in candidates for reading in each.read(replace(checkpoint, tensors=tensors))]
        readings += found
        if any(not reading.misfit for reading in found):
            if dropped:
                logger.warning("%s: dropped %s of the names of its tensors", checkpoint.source, dropped)
            break
    fitting = [reading for reading in readings if not reading.misfit]
    if not fitting:
        nearest = min(readings, key=lambda reading: reading.misfit.count)
        check_channels(nearest.checkpoint, model, nearest.plan)
        names = "" if nearest.table.key_rules == "seg" else f" under {nearest.table.key_rules}'s names"
        hint = (
            f"Nearest is variant {nearest.variant!r}{names}. "
            if len({(r.variant, r.table.key_rules) for r in readings}) > 1
            else ""
        )
        raise CorruptFileError(
            f"{checkpoint.source} is not of this network with these options: {nearest.misfit}. {hint}"
            + (_prefix_advice(checkpoint, candidates) or _ADVICE)
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


def check_channels(checkpoint: Checkpoint, model: str, plan: Plan) -> None:
    """Raises if a checkpoint does not fit because it is for another number of channels of the images.

    Raises:
        InvalidArgumentError: names the number of channels that the checkpoint is for.
    """
    found = input_channels_of(checkpoint.tensors, plan.build_with)
    if found is None and plan.in_channels != RGB and not misfit(plan.build_with(RGB), checkpoint.tensors):
        raise InvalidArgumentError(
            f"{checkpoint.source} is for images of {RGB} channels, and cannot be inflated to "
            f"in_channels={plan.in_channels}: in model {model!r} more than the first convolution depends on them; set "
            f"in_channels={RGB}, or choose a model with a backbone"
        )
    if found not in (None, plan.in_channels) and not misfit(plan.build_with(found), checkpoint.tensors):
        raise InvalidArgumentError(
            f"{checkpoint.source} is for images of {found} channels, not in_channels={plan.in_channels}, and only "
            f"weights for {RGB} channels are inflated; set in_channels={found}"
        )


@dataclass(frozen=True)
class _Candidate:
    """A variant that the options allow, and its shapes, which are computed once."""

    variant: str
    plan: Plan
    tables: tuple[KeyTable, ...]
    shapes: Mapping[str, torch.Size]
    per_class: Mapping[str, ClassAxis]

    def read(self, checkpoint: Checkpoint) -> list[_Reading]:
        """Returns the checkpoint read under the names of each project, up to the first that fits."""
        with reading_file(checkpoint.source, _ADVICE):  # names and shapes of any file
            return self._read(checkpoint)

    def _read(self, checkpoint: Checkpoint) -> list[_Reading]:
        readings: list[_Reading] = []
        for table in self.tables:
            tensors: Mapping[str, Tensor] = table.convert(checkpoint.tensors)
            found, is_inflated = misfit_of_shapes(self.shapes, self.per_class, tensors), False
            if found and self.plan.in_channels != RGB:
                inflated = inflate_tensors(tensors, self.plan.build_with, self.plan.in_channels)
                if inflated is not None:
                    is_inflated = True
                    tensors, found = inflated, misfit_of_shapes(self.shapes, self.per_class, inflated)
            converted = replace(checkpoint, tensors=tensors, variant=self.variant, inflated=is_inflated)
            readings.append(_Reading(self.variant, table, converted, found, self.plan))
            if not found:
                break
        return readings


def _candidates(model: str, variants: Iterable[str], plan: Callable[[str], Plan]) -> list[_Candidate]:
    candidates: list[_Candidate] = []
    refused: InvalidArgumentError | None = None
    for variant in variants:
        try:
            planned = plan(variant)
        except InvalidArgumentError as error:
            refused = error
            continue
        tables = tuple(tables_for(model, variant))
        candidates.append(_Candidate(variant, planned, tables, *shapes_and_axes(planned.build)))
    if not candidates:
        assert refused is not None
        raise refused
    return candidates


def _prefix_advice(checkpoint: Checkpoint, candidates: Iterable[_Candidate]) -> str:
    """Returns advice if a part of the tensors, under a prefix of their own, is the network; else ""."""
    candidates = list(candidates)
    groups = {first: group for first, group in groups_of(checkpoint.tensors).items() if len(group) > 1}
    fitting = [
        first
        for first, group in groups.items()
        if len(groups) > 1
        and any(
            not reading.misfit
            for _, tensors in unwrapped(group)
            for candidate in candidates
            for reading in candidate.read(replace(checkpoint, tensors=tensors))
        )
    ]
    if not fitting:
        return ""
    them = " or ".join(f"{checkpoint.source}#{first}" for first in fitting)
    return f"Of this network are its tensors under {' and '.join(map(repr, fitting))}: choose them with {them}"


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
