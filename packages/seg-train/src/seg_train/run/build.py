"""Builds a run from its config: accelerator, data, network with loss, optimizer and scheduler, loggers."""

import atexit
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import TorchDynamoPlugin
from torch import nn

from seg_core.device import fastest_precision, warn_of_slow_bf16
from seg_core.errors import ConfigError, InvalidArgumentError, counted
from seg_core.interfaces import SegmentationDataset
from seg_core.labels.comparison import check_several_classes, difference_of_classes
from seg_core.labels.metadata import DatasetMetadata
from seg_core.model_files.build_spec import BuildSpec
from seg_core.own_code import naming
from seg_core.randomness import isolated_randomness, sample_seed, seed
from seg_core.registry import DATASETS, LOGGERS, LOSSES
from seg_core.spec import build_named
from seg_core.transforms.augment import SegmentationAugment
from seg_core.transforms.crop import SegmentationTransform
from seg_core.transforms.evaluation import EvaluationTransform
from seg_core.transforms.preprocessing import Preprocessing
from seg_train.config.schema import DatasetSection, TrainConfig
from seg_train.data.batches import Loader
from seg_train.data.own_transforms import build_own_transforms
from seg_train.loggers.base import Logger
from seg_train.losses.deep_supervision import DeepSupervision
from seg_train.optim.optimizers import build_optimizer
from seg_train.optim.schedulers import build_scheduler, length_problems
from seg_train.optim.warmup import Scheduler
from seg_train.run.classes import settle_classes
from seg_train.run.launch import check_environment, check_joined
from seg_train.run.model import RunNetwork, synchronize_batch_norm, train_depthwise_in_full_precision
from seg_train.run.network import build_network, check_parameters
from seg_train.run.objects import RunObjects, describe_object
from seg_train.run.step import Parts
from seg_train.run.together import together

__all__ = [
    "RunData",
    "RunLength",
    "build_accelerator",
    "build_data",
    "build_loggers",
    "build_parts",
    "precision_of",
]


@dataclass(frozen=True)
class RunData:
    """The data of a run.

    Attributes:
        train_set: dataset to train on.
        val_set: dataset to evaluate on.
        train_loader: reads random crops of `train_set`.
        val_loader: reads `val_set`, resized for the network; nothing is random.
        augment: augments a batch on the device, then normalizes it.
        val_transform: resizes and normalizes val images.
    """

    train_set: SegmentationDataset
    val_set: SegmentationDataset
    train_loader: Loader
    val_loader: Loader
    augment: SegmentationAugment
    val_transform: EvaluationTransform

    @property
    def preprocessing(self) -> Preprocessing:
        """Resizing and normalization of an image before the network, in evaluations and in the model file."""
        return self.val_transform.preprocessing

    @property
    def metadata(self) -> DatasetMetadata:
        """Names and colors of the classes."""
        return self.train_set.metadata


@dataclass(frozen=True)
class RunLength:
    """The length of a run in optimizer steps and epochs; the last epoch may be incomplete."""

    steps: int
    epochs: int

    @classmethod
    def of(cls, config: TrainConfig, num_samples: int) -> "RunLength":
        """Returns the length of a run on `num_samples` training samples; an epoch has whole batches only."""
        steps_per_epoch = num_samples // config.data.loader.batch_size
        if config.trainer.steps is not None:
            return cls(config.trainer.steps, -(-config.trainer.steps // steps_per_epoch))
        assert config.trainer.epochs is not None  # the schema requires one of the two
        return cls(config.trainer.epochs * steps_per_epoch, config.trainer.epochs)


def build_accelerator(config: TrainConfig, precision: str | None = None) -> Accelerator:
    """Returns the accelerator for the device and precision of the config, and connects the processes of the run.

    Args:
        config: config of the run.
        precision: `"fp32"`, `"bf16"` or `"fp16"` of a resumed run: with `"auto"` in the config, a different machine
            must not select a different one.

    Raises:
        ConfigError: if accelerate does not use the device of the config, or the device does not support the precision.
        UsageError: if a launcher started several processes that cannot share a run, or its variables are incomplete.
        ProcessDiedError: if another process of the run could not start.
    """
    with together():  # accelerate connects the processes, and waits until all of them come
        check_environment(os.environ)
    # accelerate keeps device and precision of the first Accelerator of a process; a second run in a notebook may need
    # others. Under a launcher of several processes there is one run per process.
    had_group = torch.distributed.is_initialized()
    AcceleratorState._reset_state(reset_partial_state=not had_group)
    wanted = config.trainer.device
    on_cpu = wanted == "cpu"
    if wanted == "auto":
        # accelerate connects processes on CPUs only if it is told to use them
        launched = "LOCAL_RANK" in os.environ and not torch.accelerator.is_available()
        on_cpu = launched or os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true"
    state = PartialState(cpu=on_cpu)
    device = state.device
    if torch.distributed.is_initialized() and not had_group:
        atexit.register(_leave_group)
    check_joined(os.environ, state.num_processes, device.type)
    if wanted not in ("auto", device.type):
        raise ConfigError(
            f'trainer.device = "{wanted}" differs from the device that accelerate selected ({device}); use "auto"'
        )
    chosen: str = config.trainer.precision
    if chosen == "auto":
        chosen = precision or fastest_precision(device)
    if chosen == "fp16" and device.type == "cpu":
        raise ConfigError('trainer.precision = "fp16" needs a GPU; on a CPU use "auto"')
    if config.trainer.precision == "bf16":
        warn_of_slow_bf16(device, 'trainer.precision = "auto"')
    mixed = {"fp32": "no"}.get(chosen, chosen)
    plugin = None
    if config.trainer.compile:
        plugin = TorchDynamoPlugin(backend="inductor")
    accelerator = Accelerator(cpu=on_cpu, mixed_precision=mixed, dynamo_plugin=plugin)
    if device.type == "cuda":
        # images of one size: the first step finds the fastest algorithm
        train = config.data.transform.train
        torch.backends.cudnn.benchmark = train.size is not None or (
            train.resize is not None and train.resize.size is not None
        )
    return accelerator


def _leave_group() -> None:
    if torch.distributed.is_initialized():  # a caller may have left it already
        torch.distributed.destroy_process_group()
    # Gloo's threads free the tensors of the last exchange some time later, and need the interpreter for it. If it shuts
    # down meanwhile, the process aborts ("terminate called without an active exception"). The threads outlive the
    # group, since the network refers to it, and cannot be joined; they run while this thread sleeps.
    time.sleep(0.5)


def precision_of(accelerator: Accelerator) -> str:
    """Returns `"fp32"`, `"bf16"` or `"fp16"`."""
    mixed: str = accelerator.mixed_precision
    return "fp32" if mixed == "no" else mixed


@together()
def build_data(config: TrainConfig, accelerator: Accelerator, objects: RunObjects) -> RunData:
    """Opens the datasets and builds loaders and transforms.

    Args:
        config: config of the run.
        accelerator: device and processes.
        objects: datasets in place of those of the config.

    Raises:
        ProcessDiedError: if another process of the run cannot open them.
        ConfigError: if a split is smaller than a batch, the processes cannot share a batch evenly, or there is only one
            class.
        UserError: if a dataset cannot be opened, for example because its folder is missing.
    """
    data, loader = config.data, config.data.loader
    processes = accelerator.num_processes
    micro_batches = processes * config.trainer.accumulation_steps
    if loader.batch_size % micro_batches:
        raise ConfigError(
            f"data.loader.batch_size = {loader.batch_size} must be a multiple of {micro_batches}: {processes} "
            "processes share it, each in trainer.accumulation_steps = "
            f"{config.trainer.accumulation_steps} micro-batches"
        )
    # Seeded alike, so that datasets that split at random when they are opened leave nothing of one split in the other,
    # and do so again when the run is resumed.
    train_set, val_set = objects.train_set, objects.val_set
    if train_set is None or val_set is None:
        with isolated_randomness(config.trainer.seed):
            train_set = _open(data.dataset, data.dataset.train_split)
        with isolated_randomness(config.trainer.seed):
            val_set = _open(data.dataset, data.dataset.val_split)
    for split, dataset in ((data.dataset.train_split, train_set), (data.dataset.val_split, val_set)):
        _check_dataset(data.dataset.name, split, dataset)
    _check_same_classes(train_set.metadata, val_set.metadata)
    try:
        check_several_classes(train_set.metadata)
    except InvalidArgumentError as error:
        raise ConfigError(f"data.dataset: {error}") from error
    _check_enough(config, "train", len(train_set), loader.batch_size)
    _check_enough(config, "val", len(val_set), processes)
    options: dict[str, Any] = {
        "seed": config.trainer.seed,
        "num_workers": loader.num_workers,
        "pin_memory": accelerator.device.type == "cuda",
    }
    ignored = train_set.metadata.ignore_index
    train = SegmentationTransform(**data.transform.train.crop_options(), mask_fill=ignored)
    augment = SegmentationAugment(
        **data.augment.model_dump(), mask_fill=ignored, left_right_pairs=train_set.metadata.left_right_pairs
    )
    resize = config.evaluation.resize
    preprocessing = Preprocessing(mean=augment.mean, std=augment.std)
    val_transform = EvaluationTransform(
        preprocessing.with_resize({} if resize is None else resize.model_dump(exclude_none=True))
    )
    named = [(own.name, own.params) for own in data.transform.train.custom or ()]
    own = build_own_transforms(named, train_set.metadata, config.trainer.seed)
    return RunData(
        train_set=train_set,
        val_set=val_set,
        train_loader=Loader(train_set, train, own=own, **options),
        val_loader=Loader(val_set, val_transform, splits_unlike_sizes=True, **options),
        augment=augment,
        val_transform=val_transform,
    )


def build_parts(
    config: TrainConfig,
    data: RunData,
    length: RunLength,
    class_weights: list[float] | None,
    accelerator: Accelerator,
    warn: Callable[[str], Any] | None = None,
    model: nn.Module | None = None,
) -> tuple[Parts, RunNetwork, Scheduler | None]:
    """Builds the network, its loss, optimizer and learning-rate scheduler, and seeds training.

    Args:
        config: config of the run.
        data: data of the run.
        length: length of the run.
        class_weights: of the loss, or None.
        accelerator: device, precision and processes.
        warn: called with a warning if the weights were trained on other classes; None for a resumed run.
        model: the network, in place of the one that the config names.

    Raises:
        ConfigError: if the learning-rate scheduler of a new run ends before the run.
        UserError: if the network or the loss cannot be built.
        ProcessDiedError: if another process of the run cannot build the network.
    """
    trainer = config.trainer
    seed(trainer.seed)
    if model is None:
        model = build_network(config.model, data.metadata.num_classes, resumed=warn is None)
    elif not isinstance(getattr(model, "build_spec", None), BuildSpec):
        model.build_spec = describe_object(model, data.metadata.num_classes)  # type: ignore[assignment]  # a plain attribute
    check_parameters(model)
    settle_classes(model, data.metadata, warn, config.model.name)
    frozen = [module for module in model.modules() if not module.training] if model.training else []
    sharded = trainer.strategy == "fsdp" and accelerator.num_processes > 1
    if trainer.channels_last and not sharded:  # torch shards only tensors of the default layout
        model = model.to(memory_format=torch.channels_last)
    model = model.to(accelerator.device)
    if trainer.sync_batch_norm:
        model = synchronize_batch_norm(model, accelerator)
    if accelerator.device.type == "cpu" and accelerator.mixed_precision == "bf16":
        train_depthwise_in_full_precision(model)
    network = RunNetwork(model, accelerator, strategy=trainer.strategy, ema_decay=trainer.ema_decay)
    optimizer = build_optimizer(model, **dict(config.optimizer))
    # Before accelerate wraps the optimizer: with a gradient scaler, it restores the `step` method that it found, and
    # torch's schedulers warn if that is not the one they have wrapped.
    scheduler: Scheduler | None = None
    if config.lr_scheduler is not None:
        by_step = config.lr_scheduler.interval == "step"
        total = length.steps if by_step else length.epochs
        if warn is not None:  # a resumed run keeps its params
            own = total - config.lr_scheduler.warmup_steps * by_step
            problems = length_problems(
                config.lr_scheduler.name, config.lr_scheduler.params, own, "steps" if by_step else "epochs"
            )
            if problems:
                raise ConfigError(f"lr_scheduler.{problems[0]}")
        scheduler = build_scheduler(optimizer, total=total, **dict(config.lr_scheduler))
    prepared_optimizer = network.prepare(optimizer)
    parts = Parts(
        model=network.prepared,
        criterion=_criterion(config, data.metadata, class_weights).to(accelerator.device),
        optimizer=prepared_optimizer,
        augment=data.augment,
        accelerator=accelerator,
        frozen=frozen,
        seed=trainer.seed,
        max_grad_norm=trainer.max_grad_norm,
        accumulation_steps=trainer.accumulation_steps,
        num_classes=data.metadata.num_classes,
    )
    # The dropout seed must not depend on how many random numbers initialization has drawn.
    seed(sample_seed(trainer.seed, accelerator.process_index) % 2**32)
    return parts, network, scheduler


def build_loggers(config: TrainConfig, run_dir: Path) -> dict[str, Logger]:
    """Builds the loggers that the config enables; the local one is always there.

    Raises:
        ConfigError: if the options of a logger are wrong.
        MissingDependencyError: if its package is not installed.
    """
    loggers: dict[str, Logger] = {}
    for name, given in {"local": {}, **config.log}.items():
        options = {key: value for key, value in given.items() if key != "enabled"}
        if not given.get("enabled", True):
            continue
        try:
            with naming("log", name):
                logger = LOGGERS.get(name)(run_dir, **options)
        except (TypeError, InvalidArgumentError) as error:
            raise ConfigError(f"log.{name}: {error}") from error
        if not isinstance(logger, Logger):
            raise ConfigError(
                f"log.{name}: must be a logger, a subclass of seg_train.Logger, got {type(logger).__name__}; derive it "
                "from that class, which has all hooks"
            )
        loggers[name] = logger
    return loggers


def _open(section: DatasetSection, split: str) -> SegmentationDataset:
    with naming("data.dataset.name", section.name):
        dataset: SegmentationDataset = DATASETS.get(section.name)(section.root, split=split, **section.params)
    return dataset


def _check_dataset(name: str, split: str, dataset: SegmentationDataset) -> None:
    """Checks that a dataset has what the trainer needs.

    Raises:
        ConfigError: if it does not.
    """
    if not isinstance(getattr(dataset, "metadata", None), DatasetMetadata):
        raise ConfigError(
            f"data.dataset.name = {name!r}: its {split} split needs the attribute `metadata`, a "
            "seg_core.DatasetMetadata with the names of the classes"
        )
    lacking = [method for method in ("__len__", "__getitem__", "file_names") if not hasattr(dataset, method)]
    if lacking:
        raise ConfigError(
            f"data.dataset.name = {name!r}: its {split} split has no {', '.join(lacking)}; a dataset needs its length, "
            "samples (image, mask) by index, and file_names(index), the names of a sample's files (any fixed names)"
        )


def _check_enough(config: TrainConfig, key: str, count: int, minimum: int) -> None:
    """Checks that a split has samples for a batch of training, or for each process of an evaluation.

    Raises:
        ConfigError: if it has fewer than `minimum`.
    """
    if count >= minimum:
        return
    section, loader = config.data.dataset, config.data.loader
    split = f'data.dataset.{key}_split = "{getattr(section, f"{key}_split")}" has {count} samples'
    if not count:
        raise ConfigError(f"{split}; set data.dataset.{key}_split to a split with images, or add images to this one")
    if key == "val":
        raise ConfigError(
            f"{split}, fewer than the {minimum} processes of the run, which evaluate at least one each; start at most "
            f"{counted(count, 'process', 'processes')}, or add samples"
        )
    raise ConfigError(
        f"{split}, fewer than the {minimum} of one batch; lower data.loader.batch_size (now {loader.batch_size}) to at "
        f"most {count}, or add samples"
    )


def _check_same_classes(train: DatasetMetadata, val: DatasetMetadata) -> None:
    """Checks that train and val have the same classes.

    Raises:
        ConfigError: if they differ; the message names the first difference.
    """
    found = difference_of_classes(val, train, "the train split")
    if found is not None:
        raise ConfigError(f"data.dataset: train and val have different classes: {found.replace('the network', 'val')}")
    if train.ignore_index != val.ignore_index:
        raise ConfigError(
            f"data.dataset: train ignores the value {train.ignore_index} and val {val.ignore_index}; give both the "
            "same ignore_index"
        )


def _criterion(config: TrainConfig, metadata: DatasetMetadata, class_weights: list[float] | None) -> DeepSupervision:
    section = config.criterion
    weights = None if class_weights is None else torch.tensor(class_weights)
    outputs = {
        name: (
            output.weight,
            None if output.name is None else _loss(output.name, output.params, metadata.ignore_index, weights),
        )
        for name, output in section.outputs.items()
    }
    return DeepSupervision(
        _loss(section.name, section.params, metadata.ignore_index, weights),
        aux_weight=section.aux_weight,
        outputs=outputs,
        boundary_aware_weight=section.boundary_aware_weight,
    )


def _loss(name: str, params: Mapping[str, Any], ignore_index: int, weights: torch.Tensor | None) -> nn.Module:
    """Returns the loss `name`, with the class weights if it takes any."""
    given: dict[str, Any] = {"ignore_index": ignore_index}
    if weights is not None:
        given["weight"] = weights
    with naming("criterion", name):
        loss = build_named(LOSSES, name, params, **given)
    if not isinstance(loss, nn.Module):
        raise ConfigError(f'criterion.name = "{name}": must be a loss, a torch.nn.Module, got {type(loss).__name__}')
    return loss
