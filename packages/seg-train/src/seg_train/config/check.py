"""Checks what a config names: that the names exist, and that what is given for them fits.

Signatures of builders, data sets, losses, optimizers, schedules and loggers are read, and an optimizer and a schedule
are tried on one number; no network, data set or run is made.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch

from seg_core.augment import SegmentationAugment
from seg_core.catalog import DatasetEntry, ModelEntry
from seg_core.class_balance import class_weights
from seg_core.errors import InvalidArgumentError, UnknownNameError, UserError, nearest
from seg_core.metadata import DatasetMetadata, resolve_metadata
from seg_core.registry import DATASETS, LOGGERS, LOSSES, MODELS, OPTIMIZERS, SCHEDULES, Registry
from seg_core.transforms import SegmentationTransform
from seg_train.config.schema import (
    CriterionSection,
    DataSection,
    ModelSection,
    OptimizerSection,
    ScheduleSection,
    TrainerSection,
)
from seg_train.optimizers import build_optimizer
from seg_train.schedules import build_schedule

__all__ = ["find_problems"]

# What the trainer itself hands to a builder: such a key in `params` would contradict it.
_MODEL_GIVEN = {
    "num_classes": "it comes from the data set",
    "weights": "set model.weights",
    "weights_backbone": "set model.weights_backbone",
    "aux_loss": "set model.aux_loss",
    "form": "set model.form",
    "progress": "the trainer sets it",
    "in_channels": "pictures have 3",
}
_DATASET_GIVEN = {
    "root": "set data.dataset.root",
    "split": "set data.dataset.train_split and data.dataset.val_split",
    "transforms": "set data.transform",
}
_LOSS_GIVEN = {
    "weight": "set criterion.class_weights",
    "ignore_index": "it comes from the data set",
    "reduction": "the trainer needs the mean",
}
_OPTIMIZER_GIVEN = {"params": "they are the network's"}
_SCHEDULE_GIVEN = {"optimizer": "it is the [optimizer]", "last_epoch": "the trainer keeps it"}
_LOGGER_GIVEN = {"run_dir": "set paths.output and paths.run"}


def find_problems(sections: Mapping[str, Any]) -> list[str]:
    """Returns every problem of the sections that are there, each with its full key."""
    problems: list[str] = []
    metadata: DatasetMetadata | None = None
    if isinstance(data := sections.get("data"), DataSection):
        metadata = _check_data(data, problems)
    if isinstance(model := sections.get("model"), ModelSection):
        _check_model(model, problems)
    if isinstance(criterion := sections.get("criterion"), CriterionSection):
        _check_criterion(criterion, metadata, problems)
    if isinstance(optimizer := sections.get("optimizer"), OptimizerSection):
        _check_learning(optimizer, sections.get("lr_scheduler"), problems)
    if isinstance(trainer := sections.get("trainer"), TrainerSection):
        _check_device(trainer, problems)
    for name, options in sections.get("log", {}).items():
        logger = _known(LOGGERS, f"log.{name}", name, problems)
        if logger is not None:
            _check_params(f"log.{name}", name, logger, options, _LOGGER_GIVEN, problems)
    return problems


def _check_data(data: DataSection, problems: list[str]) -> DatasetMetadata | None:
    """Returns the metadata where it is known before the data set is opened."""
    for name, transform in (("train", data.transform.train), ("val", data.transform.val)):
        try:
            SegmentationTransform(size=transform.size, scale_range=transform.scale_range)
        except UserError as error:
            problems.append(f"data.transform.{name}: {error}")
    try:
        SegmentationAugment(**data.augment.model_dump())
    except UserError as error:
        problems.append(f"data.augment: {error}")

    section = data.dataset
    dataset = _known(DATASETS, "data.dataset.name", section.name, problems)
    if dataset is None:
        return None
    key = "data.dataset.params"
    _check_params(key, section.name, dataset, section.params, _DATASET_GIVEN, problems)
    entry = DATASETS.entry(section.name)
    label_set = section.params.get("metadata")
    if isinstance(entry, DatasetEntry):
        if entry.needs_root and section.root is None:
            problems.append(f"data.dataset.root is missing: {section.name} reads files; name their folder")
        for split_key in ("train_split", "val_split"):
            split = getattr(section, split_key)
            if entry.splits and split not in entry.splits:
                allowed = ", ".join(entry.splits)
                problems.append(f'data.dataset.{split_key} = "{split}": {section.name} has the splits {allowed}')
        label_set = label_set or entry.label_set
    if label_set is None:
        return None
    try:
        return resolve_metadata(label_set)
    except UserError as error:
        problems.append(f"{key}.metadata: {error}")
        return None


def _check_model(model: ModelSection, problems: list[str]) -> None:
    builder = _known(MODELS, "model.name", model.name, problems)
    if builder is None:
        return
    _check_params("model.params", model.name, builder, model.params, _MODEL_GIVEN, problems)
    entry = MODELS.entry(model.name)
    if isinstance(entry, ModelEntry) and entry.any_backbone and "backbone" not in model.params:
        problems.append(f'model.params.backbone is missing: {model.name} stands on one; name it, as "resnet50"')
    if isinstance(entry, ModelEntry) and model.form is not None and model.form not in entry.forms:
        problems.append(f'model.form = "{model.form}": {model.name} has the forms {", ".join(entry.forms)}')


def _check_criterion(criterion: CriterionSection, metadata: DatasetMetadata | None, problems: list[str]) -> None:
    loss = _known(LOSSES, "criterion.name", criterion.name, problems)
    weights = criterion.class_weights
    if loss is not None:
        found = len(problems)
        _check_params("criterion.params", criterion.name, loss, criterion.params, _LOSS_GIVEN, problems)
        if found == len(problems):
            try:
                loss(**criterion.params)
            except (UserError, TypeError) as error:
                problems.append(f"criterion.params: {error}")
        if weights != "none" and "weight" not in inspect.signature(loss).parameters:
            problems.append(f"criterion.class_weights: {criterion.name} takes no class weights; leave the key out")
    if isinstance(weights, str) and weights != "none":
        try:
            class_weights([1], weights)
        except UnknownNameError as error:
            problems.append(f'criterion.class_weights = "{weights}": {error}, "none", or a list of a number per class')
        except InvalidArgumentError:
            pass  # the scheme is known and wants more than plain counts
    elif not isinstance(weights, str) and metadata is not None and len(weights) != metadata.num_classes:
        problems.append(
            f"criterion.class_weights has {len(weights)} numbers but {metadata.name} has {metadata.num_classes} classes"
        )


def _check_learning(optimizer: OptimizerSection, schedule: object, problems: list[str]) -> None:
    """Tries the optimizer and the schedule on one number, since only they know what values they take."""
    found = len(problems)
    factory = _known(OPTIMIZERS, "optimizer.name", optimizer.name, problems)
    if factory is not None:
        _check_params("optimizer.params", optimizer.name, factory, optimizer.params, _OPTIMIZER_GIVEN, problems)
    tried = None
    if found == len(problems):
        try:
            tried = build_optimizer(optimizer, [torch.nn.Parameter(torch.zeros(1))])
        except (UserError, ValueError, TypeError, RuntimeError) as error:
            problems.append(f"optimizer.params: {error}")
    if not isinstance(schedule, ScheduleSection):
        return
    found = len(problems)
    factory = _known(SCHEDULES, "lr_scheduler.name", schedule.name, problems)
    if factory is not None:
        _check_params("lr_scheduler.params", schedule.name, factory, schedule.params, _SCHEDULE_GIVEN, problems)
    if found == len(problems):
        # where the optimizer is wrong itself, one that every schedule takes
        tried = tried or torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
        try:
            build_schedule(schedule, tried, total=100)
        except (UserError, ValueError, TypeError, ZeroDivisionError) as error:
            problems.append(f"lr_scheduler.params: {error}")


def _check_device(trainer: TrainerSection, problems: list[str]) -> None:
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(trainer.device, True):
        problems.append(
            f'trainer.device = "{trainer.device}": torch {torch.__version__} finds no such device here; "auto" takes '
            "what there is"
        )


def _known(registry: Registry, key: str, name: str, problems: list[str]) -> Callable[..., Any] | None:
    """Returns what `name` stands for; a problem and None where there is no such name."""
    try:
        found: Callable[..., Any] = registry.get(name)
    except UserError as error:
        problems.append(f'{key} = "{name}": {error}')
        return None
    return found


def _check_params(
    key: str,
    name: str,
    target: Callable[..., Any],
    params: Mapping[str, Any],
    given: Mapping[str, str],
    problems: list[str],
) -> None:
    """Compares `params` with the arguments that `target` takes, apart from those the trainer gives."""
    arguments = inspect.signature(target).parameters
    allowed = [
        n for n, p in arguments.items() if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD) and n not in given
    ]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in arguments.values())
    for param, value in params.items():
        if param in given:
            problems.append(f"{key}.{param} = {value}: not set here; {given[param]}")
        elif param not in allowed and not takes_any:
            hint = nearest(param, allowed)
            problems.append(
                f"{key}.{param} = {value}: {name} has no such parameter.{hint} Allowed: {', '.join(allowed) or 'none'}"
            )
