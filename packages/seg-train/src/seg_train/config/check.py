"""Checks that the names in a config exist and that their params fit.

Params are compared with the signatures of builders, datasets, losses, optimizers, schedulers and loggers. Optimizer and
scheduler are also tried on a tiny network. No network, dataset or run is built.
"""

import os
from collections.abc import Mapping
from typing import Any

import torch

from seg_core.catalog import DatasetEntry, Entry, ModelEntry
from seg_core.device import check_device
from seg_core.errors import InvalidArgumentError, UserError
from seg_core.labels.comparison import check_several_classes
from seg_core.labels.metadata import DatasetMetadata, resolve_metadata
from seg_core.labels.tasks import MULTICLASS, TASKS
from seg_core.model_files.build_spec import OBJECT
from seg_core.registry import DATASETS, LOGGERS, MODELS, OPTIMIZERS, PREDICTORS, SCHEDULERS
from seg_core.transforms.augment import SegmentationAugment
from seg_core.transforms.crop import SegmentationTransform
from seg_train.config import params
from seg_train.config.check_loss import check_criterion, check_outputs
from seg_train.config.names import known
from seg_train.config.own_code import transform_problems
from seg_train.config.own_model import channels_problem, weights_problems
from seg_train.config.own_parts import logger_problems, passed_on_problems
from seg_train.config.schema import (
    CriterionSection,
    DataSection,
    DatasetSection,
    EvaluationSection,
    ModelSection,
    OptimizerSection,
    SchedulerSection,
    TrainConfig,
    TrainerSection,
)
from seg_train.config.task import default_loss, with_loss_of_task
from seg_train.data.dataset_classes import classes_in_root
from seg_train.monitor import Monitor
from seg_train.optim.optimizers import REFUSED, WrongResultError, build_optimizer
from seg_train.optim.schedulers import LENGTH_ARGUMENTS, build_scheduler
from seg_train.optim.trial import TrialNetwork, advance, trial_step

__all__ = ["find_problems", "with_known_loss"]

# options of datasets that do not change the classes
_WITHOUT_CLASSES = {"missing", "download", "sbd_root", "label_set", "metadata", "orientation", "max_pixels"}


def find_problems(sections: Mapping[str, Any]) -> list[str]:
    """Returns all problems of the given sections, each with its full key."""
    problems: list[str] = []
    metadata: DatasetMetadata | None = None
    if isinstance(data := sections.get("data"), DataSection):
        metadata = _check_data(data, problems)
    if isinstance(model := sections.get("model"), ModelSection):
        _check_model(model, metadata, problems)
    if isinstance(criterion := sections.get("criterion"), CriterionSection):
        check_criterion(criterion, metadata, problems)
        if isinstance(model, ModelSection) and model.name in MODELS:
            check_outputs(criterion, model, problems)
    trainer = sections.get("trainer")
    if isinstance(optimizer := sections.get("optimizer"), OptimizerSection):
        _check_learning(optimizer, sections.get("lr_scheduler"), trainer, problems)
    if isinstance(trainer, TrainerSection):
        _check_device(trainer, problems)
        if isinstance(optimizer, OptimizerSection):
            _check_engine(trainer, optimizer, problems)
        if isinstance(data, DataSection):
            _check_micro_batches(data, trainer, problems)
    if isinstance(evaluation := sections.get("evaluation"), EvaluationSection):
        has_ema = isinstance(trainer, TrainerSection) and trainer.ema_decay is not None
        _check_evaluation(evaluation, has_ema, metadata, problems)
        _check_val_loss(evaluation, sections.get("lr_scheduler"), problems)
    for name, options in sections.get("log", {}).items():
        _check_logger(name, options, problems)
    return problems


def _check_engine(trainer: TrainerSection, optimizer: OptimizerSection, problems: list[str]) -> None:
    """Finds settings that torch cannot combine."""
    if optimizer.name == "LBFGS":
        if trainer.channels_last:
            problems.append(
                "trainer.channels_last = true: torch's LBFGS takes only parameters of the default layout; set it to "
                "false"
            )
        if trainer.precision == "fp16":
            problems.append(
                'trainer.precision = "fp16": the loss cannot be scaled for LBFGS, which calls the network itself; set '
                '"bf16" or "fp32"'
            )
    if trainer.strategy == "fsdp" and trainer.precision == "fp16":
        problems.append(
            'trainer.precision = "fp16": cannot be combined with trainer.strategy = "fsdp", which shards gradients; '
            'set "bf16"'
        )
    if trainer.strategy == "fsdp" and optimizer.name in ("LBFGS", "Adafactor", "Padam"):
        problems.append(
            f'optimizer.name = "{optimizer.name}": needs full tensors, but trainer.strategy = "fsdp" shards them; '
            "use AdamW or SGD"
        )


def _check_micro_batches(data: DataSection, trainer: TrainerSection, problems: list[str]) -> None:
    """Checks that a batch can be split evenly."""
    text = os.environ.get("WORLD_SIZE", "1")
    processes = int(text) if text.isdecimal() and int(text) else 1
    micro_batches = processes * trainer.accumulation_steps
    if data.loader.batch_size % micro_batches:
        problems.append(
            f"data.loader.batch_size = {data.loader.batch_size}: must be a multiple of {micro_batches}, the number "
            f"of its micro-batches: {processes} processes (WORLD_SIZE in the environment) times "
            f"trainer.accumulation_steps = {trainer.accumulation_steps}"
        )


def _check_evaluation(
    evaluation: EvaluationSection, has_ema: bool, metadata: DatasetMetadata | None, problems: list[str]
) -> None:
    predictor = known(PREDICTORS, "evaluation.predictor", evaluation.predictor, problems)
    if predictor is not None:
        supplied = ["left_right_pairs"]  # of the dataset
        call = params.PREDICTOR
        problems.extend(
            call.problems("evaluation", evaluation.predictor, predictor, evaluation.params, supplied=supplied)
        )
        problems.extend(passed_on_problems(evaluation.predictor, predictor, evaluation.params))
    if evaluation.tile is not None:
        known(PREDICTORS, "evaluation.tile needs", "tiled", problems)
    if evaluation.scales is not None or evaluation.hflip:
        known(PREDICTORS, "evaluation.scales and hflip need", "augmented", problems)
    if evaluation.monitor is not None:
        try:
            labels, task = (None, None) if metadata is None else (metadata.labels, metadata.task)
            Monitor(evaluation.monitor, has_ema, labels, task)
        except UserError as error:
            problems.append(str(error))


def _check_val_loss(evaluation: EvaluationSection, scheduler: object, problems: list[str]) -> None:
    """Finds keys that monitor val_loss in a config that disables its computation."""
    labels_alone = evaluation.predictor == "labels"
    if evaluation.loss and not labels_alone:
        return
    reason = 'evaluation.predictor = "labels" does not compute it' if evaluation.loss else "evaluation.loss = false"
    remedy = "set another predictor" if evaluation.loss else "set evaluation.loss = true"
    if evaluation.monitor is not None and evaluation.monitor.removeprefix("ema_") == "val_loss":
        problems.append(
            f'evaluation.monitor = "{evaluation.monitor}": needs val_loss, but {reason}; {remedy}, or monitor "miou"'
        )
    watched = scheduler.params.get("monitor") if isinstance(scheduler, SchedulerSection) else None
    if watched == "loss":
        problems.append(f'lr_scheduler.params.monitor = "loss": needs val_loss, but {reason}; {remedy}')


def _check_logger(name: str, options: Mapping[str, Any], problems: list[str]) -> None:
    logger = known(LOGGERS, f"log.{name}", name, problems)
    if logger is None:
        return
    problems.extend(logger_problems(name, logger))
    options = dict(options)
    if "enabled" in options:
        enabled = options.pop("enabled")
        if name == "local":
            problems.append("log.local.enabled: the local logger is always on; remove the key")
        elif not isinstance(enabled, bool):
            problems.append(f"log.{name}.enabled = {enabled!r}: must be true or false")
    problems.extend(params.LOGGER.problems(f"log.{name}", name, logger, options, key=f"log.{name}"))


def with_known_loss(config: TrainConfig) -> tuple[TrainConfig, str | None]:
    """Returns a checked config with the loss that its run will take, and the origin of this loss for `show`.

    Returns:
        The config, and None if it names its loss itself.
    """
    if "name" in config.criterion.model_fields_set:
        return config, None
    metadata = None if config.data.dataset.name == OBJECT else _check_data(config.data, [])
    if metadata is None:
        other = next(name for task in TASKS if (name := default_loss(task)) != config.criterion.name)
        return config, f"default, or {other} if the dataset is binary or multilabel"
    task = "" if metadata.task == MULTICLASS else f" of the task {metadata.task}"
    return with_loss_of_task(config, metadata), f"default{task}"


def _check_data(data: DataSection, problems: list[str]) -> DatasetMetadata | None:
    """Returns the metadata if it is available without opening the dataset."""
    train = data.transform.train
    try:
        SegmentationTransform(**train.crop_options())
    except UserError as error:
        problems.append(f"data.transform.train: {error}")
    problems.extend(transform_problems(train.custom or ()))
    try:
        SegmentationAugment(**data.augment.model_dump())
    except UserError as error:
        problems.append(f"data.augment: {error}")

    if train.crops_per_image > 1 and train.size is None:
        problems.append(
            f"data.transform.train.crops_per_image = {train.crops_per_image}: needs data.transform.train.size, the "
            "size of the random crops; without it every sample is the same whole image"
        )
    if data.sampling.rare_classes and data.transform.train.size is None:
        problems.append(
            "data.sampling.rare_classes = true: needs data.transform.train.size, since it draws random crops "
            "that contain the class"
        )

    section = data.dataset
    if section.name == OBJECT:
        _check_object("data.dataset", section.model_dump(include={"root", "params"}), problems)
        return None
    dataset = known(DATASETS, "data.dataset.name", section.name, problems)
    if dataset is None:
        return None
    key = "data.dataset.params"
    found = params.DATASET.problems("data.dataset", section.name, dataset, section.params)
    if not found:
        own = params.option_problems(dataset, section.root, section.params)
        found = [f"data.dataset: {problem}" for problem in own]
    problems.extend(found)
    entry = DATASETS.entry(section.name)
    if isinstance(entry, DatasetEntry):
        if entry.needs_root and section.root is None:
            problems.append(f"data.dataset.root is missing: {section.name} needs its root folder")
        # official split names in addition to ours
        names = getattr(dataset, "split_names", lambda: entry.splits)()
        for split_key in ("train_split", "val_split"):
            split = getattr(section, split_key)
            if names and split not in names:
                problems.append(
                    f'data.dataset.{split_key} = "{split}": {section.name} has the splits {", ".join(names)}'
                )
    try:
        classes = classes_in_root(dataset, section.root, section.params)
    except UserError as error:
        problems.append(f"{key}.{error}")
        return None
    if classes is not None:
        try:
            check_several_classes(classes)
        except InvalidArgumentError as error:
            problems.append(f"data.dataset: {error}")
            return None
        return classes
    label_set = _label_set(section, entry)
    if label_set is None:
        return None
    given = next((own for own in ("label_set", "metadata") if own in section.params), None)
    key = "data.dataset" if given is None else f"{key}.{given}"
    try:
        metadata = resolve_metadata(label_set)
        check_several_classes(metadata)
    except UserError as error:
        problems.append(f"{key}: {error}")
        return None
    return metadata


def _label_set(section: DatasetSection, entry: Entry) -> Any:
    """Returns the classes of a dataset for `resolve_metadata`; None if only the opened dataset has them."""
    for own in ("label_set", "metadata"):
        if section.params.get(own) is not None:
            return section.params[own]
    if not isinstance(entry, DatasetEntry) or not section.params.keys() <= _WITHOUT_CLASSES:
        return None  # options such as the version of Mapillary Vistas change the classes
    return entry.label_set


def _check_object(section: str, keys: Mapping[str, Any], problems: list[str]) -> None:
    """Finds keys beside the name of a section that stands for an object, which the run does not build."""
    given = [f"{section}.{key}" for key, value in keys.items() if value not in (None, {})]
    if given:
        problems.append(
            f'{section}.name = "{OBJECT}": stands for an object that is passed to Trainer, which has its own options; '
            f"remove {', '.join(given)}"
        )


def _check_model(model: ModelSection, metadata: DatasetMetadata | None, problems: list[str]) -> None:
    if model.name == OBJECT:
        _check_object("model", model.model_dump(exclude={"name"}), problems)
        return
    builder = known(MODELS, "model.name", model.name, problems)
    if builder is None:
        return
    entry = MODELS.entry(model.name)
    needs_backbone = isinstance(entry, ModelEntry) and entry.any_backbone
    supplied = ["in_channels", *(["backbone"] if needs_backbone else [])]  # the latter has a message of its own
    problems.extend(params.MODEL.problems("model", model.name, builder, model.params, supplied=supplied))
    if metadata is not None and (problem := channels_problem(model, metadata)):
        problems.append(problem)
    problems.extend(weights_problems(model))
    if needs_backbone and "backbone" not in model.params:
        problems.append(f'model.params.backbone is missing: {model.name} needs one; name it, such as "resnet50"')
    if isinstance(entry, ModelEntry) and model.variant is not None and model.variant not in entry.variants:
        problems.append(f'model.variant = "{model.variant}": {model.name} has the variants {", ".join(entry.variants)}')


def _check_learning(optimizer: OptimizerSection, scheduler: object, trainer: object, problems: list[str]) -> None:
    """Tries optimizer and scheduler on a tiny network, since only they check their values."""
    found = len(problems)
    if optimizer.name in REFUSED:
        problems.append(
            f'optimizer.name = "{optimizer.name}": cannot train these networks, {REFUSED[optimizer.name]}; use AdamW'
        )
    else:
        factory = known(OPTIMIZERS, "optimizer.name", optimizer.name, problems)
        if factory is not None:
            problems.extend(params.OPTIMIZER.problems("optimizer", optimizer.name, factory, optimizer.params))
    tried = None
    if found == len(problems):
        try:
            tried = build_optimizer(trial := TrialNetwork(), **dict(optimizer))
            trial_step(tried, trial)
        except Exception as error:  # optimizers raise many exception types
            key = "name" if isinstance(error, WrongResultError) else "params"
            problems.append(f"optimizer.{key}: {params.reason(error, optimizer.params)}")
            tried = None
    if not isinstance(scheduler, SchedulerSection):
        return
    found = len(problems)
    factory = known(SCHEDULERS, "lr_scheduler.name", scheduler.name, problems)
    if factory is not None:
        supplied = [LENGTH_ARGUMENTS.get(scheduler.name, ""), "max_lr" if scheduler.name == "OneCycleLR" else ""]
        problems.extend(
            params.SCHEDULER.problems("lr_scheduler", scheduler.name, factory, scheduler.params, supplied=supplied)
        )
    if found == len(problems):
        # if the optimizer is invalid, a substitute that every scheduler accepts
        tried = tried or torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
        steps = trainer.steps if isinstance(trainer, TrainerSection) else None
        if steps is not None and scheduler.warmup_steps >= steps:
            problems.append(
                f"lr_scheduler.warmup_steps = {scheduler.warmup_steps}: must be fewer than trainer.steps = {steps}"
            )
        try:
            advance(build_scheduler(tried, total=scheduler.warmup_steps + 100, **dict(scheduler)))
        except Exception as error:  # so do schedulers, some only at their first step
            key = "name" if isinstance(error, WrongResultError) else "params"
            problems.append(f"lr_scheduler.{key}: {params.reason(error, scheduler.params)}")


def _check_device(trainer: TrainerSection, problems: list[str]) -> None:
    try:
        check_device(trainer.device, "trainer.device")
    except InvalidArgumentError as error:
        problems.append(str(error))
