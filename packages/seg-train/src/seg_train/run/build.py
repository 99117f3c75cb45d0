"""From a config to the parts of a run: accelerator, data, network with loss, optimizer and scheduler, loggers."""

import atexit
import inspect
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import TorchDynamoPlugin
from torch import nn

from seg_core.errors import ConfigError, InvalidArgumentError
from seg_core.interfaces import SegmentationDataset
from seg_core.labels.metadata import DatasetMetadata
from seg_core.randomness import sample_seed, seed
from seg_core.registry import DATASETS, LOGGERS, LOSSES, MODELS
from seg_core.transforms.augment import SegmentationAugment
from seg_core.transforms.crop import SegmentationTransform
from seg_core.transforms.evaluation import EvaluationTransform
from seg_core.transforms.preprocessing import Preprocessing
from seg_train.config.schema import DatasetSection, TrainConfig
from seg_train.data.batches import Loader
from seg_train.loggers.base import Logger
from seg_train.losses.deep_supervision import DeepSupervision
from seg_train.optim.optimizers import build_optimizer
from seg_train.optim.schedulers import build_scheduler
from seg_train.optim.warmup import Scheduler
from seg_train.run.model import RunNetwork, synchronize_batch_norm, train_depthwise_in_full_precision
from seg_train.run.step import Parts

__all__ = [
    "RunData",
    "RunLength",
    "build_accelerator",
    "build_data",
    "build_loggers",
    "build_parts",
    "fastest_precision",
    "precision_of",
]


@dataclass(frozen=True)
class RunData:
    """The samples of a run.

    Attributes:
        train_set: dataset to learn from.
        val_set: dataset to evaluate on.
        train_loader: reads the former, transformed.
        val_loader: reads the latter, resized for the network; nothing is random.
        augment: changes looks, then normalizes.
        val_transform: what val images go through before the network.
    """

    train_set: SegmentationDataset
    val_set: SegmentationDataset
    train_loader: Loader
    val_loader: Loader
    augment: SegmentationAugment
    val_transform: EvaluationTransform

    @property
    def preprocessing(self) -> Preprocessing:
        """What an image goes through before the network, in evaluations and once it is trained."""
        return self.val_transform.preprocessing

    @property
    def metadata(self) -> DatasetMetadata:
        """Names and colors of the classes."""
        return self.train_set.metadata


@dataclass(frozen=True)
class RunLength:
    """How long a run is, in optimizer steps and epochs; the last epoch may be cut short."""

    steps: int
    epochs: int

    @classmethod
    def of(cls, config: TrainConfig, num_samples: int) -> "RunLength":
        """Returns the length of a run over `num_samples` training samples; an epoch has whole batches only."""
        steps_per_epoch = num_samples // config.data.loader.batch_size
        if config.trainer.steps is not None:
            return cls(config.trainer.steps, -(-config.trainer.steps // steps_per_epoch))
        assert config.trainer.epochs is not None  # the schema wants one of the two
        return cls(config.trainer.epochs * steps_per_epoch, config.trainer.epochs)


def build_accelerator(config: TrainConfig, precision: str | None = None) -> Accelerator:
    """Returns accelerate's engine for the device and precision of the config.

    Args:
        config: of the run.
        precision: `"fp32"`, `"bf16"` or `"fp16"` of a run that is resumed: where the config says `"auto"`, another
            machine must not choose anew.

    Raises:
        ConfigError: if accelerate does not compute on the device asked for, or the device has no such precision.
    """
    # accelerate keeps device and precision of the process's first Accelerator for good; a second run in a notebook may
    # want others. Under a launcher of several processes there is one run per process.
    had_group = torch.distributed.is_initialized()
    AcceleratorState._reset_state(reset_partial_state=not had_group)
    wanted = config.trainer.device
    on_cpu = wanted == "cpu"
    device = PartialState(cpu=on_cpu).device
    if torch.distributed.is_initialized() and not had_group:
        atexit.register(_leave_group)
    if wanted not in ("auto", device.type):
        raise ConfigError(f'trainer.device = "{wanted}" is not what accelerate chose here ({device}); use "auto"')
    chosen: str = config.trainer.precision
    if chosen == "auto":
        chosen = precision or fastest_precision(device)
    if chosen == "fp16" and device.type == "cpu":
        raise ConfigError('trainer.precision = "fp16" needs a GPU; on a CPU use "bf16", or "auto"')
    mixed = {"fp32": "no"}.get(chosen, chosen)
    plugin = None
    if config.trainer.compile:
        plugin = TorchDynamoPlugin(backend="inductor")
    accelerator = Accelerator(cpu=on_cpu, mixed_precision=mixed, dynamo_plugin=plugin)
    if device.type == "cuda":
        # windows of one size: the fastest algorithm is found in the first step
        torch.backends.cudnn.benchmark = config.data.transform.train.size is not None
    return accelerator


def _leave_group() -> None:
    if torch.distributed.is_initialized():  # a caller may have left it before
        torch.distributed.destroy_process_group()
    # Gloo's threads free the tensors of the last exchange some time after it, for which they need the interpreter: one
    # that asks while it shuts down aborts the process ("terminate called without an active exception"). They outlive
    # the group, since the network refers to it, and cannot be waited for; while this thread sleeps they get their turn.
    time.sleep(0.5)


def fastest_precision(device: torch.device) -> str:
    """Returns `"bf16"` where the processor computes in it, else `"fp32"`."""
    if device.type == "cuda":
        has = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        # private to torch, and not in all of its versions; without them bf16 is not known to pay
        names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        has = any(getattr(torch.cpu, name, lambda: False)() for name in names)
    else:
        has = False
    return "bf16" if has else "fp32"


def precision_of(accelerator: Accelerator) -> str:
    """Returns `"fp32"`, `"bf16"` or `"fp16"`."""
    mixed: str = accelerator.mixed_precision
    return "fp32" if mixed == "no" else mixed


def build_data(config: TrainConfig, accelerator: Accelerator) -> RunData:
    """Opens the datasets and makes what reads and changes their samples.

    Raises:
        ConfigError: if a split is smaller than a batch, or a batch cannot be shared by the processes.
        UserError: what the datasets raise, a missing folder say.
    """
    data, loader = config.data, config.data.loader
    processes = accelerator.num_processes
    parts = processes * config.trainer.accumulation_steps
    if loader.batch_size % parts:
        raise ConfigError(
            f"data.loader.batch_size = {loader.batch_size} must be a multiple of {parts}: {processes} processes share "
            f"it, each in trainer.accumulation_steps = {config.trainer.accumulation_steps} parts"
        )
    train_set = _open(data.dataset, data.dataset.train_split)
    val_set = _open(data.dataset, data.dataset.val_split)
    for key, dataset, least in (("train", train_set, loader.batch_size), ("val", val_set, processes)):
        if len(dataset) < least:
            raise ConfigError(
                f'data.dataset.{key}_split = "{getattr(data.dataset, key + "_split")}" has {len(dataset)} samples, '
                f"fewer than the {least} of one batch; lower data.loader.batch_size (now {loader.batch_size}) or "
                "add samples"
            )
    options: dict[str, Any] = {
        "seed": config.trainer.seed,
        "num_workers": loader.num_workers,
        "pin_memory": accelerator.device.type == "cuda",
    }
    ignored = train_set.metadata.ignore_index
    train = SegmentationTransform(
        size=data.transform.train.size, scale_range=data.transform.train.scale_range, mask_fill=ignored
    )
    augment = SegmentationAugment(
        **data.augment.model_dump(), mask_fill=ignored, left_right_pairs=train_set.metadata.left_right_pairs
    )
    resize = config.evaluation.resize
    preprocessing = Preprocessing(mean=augment.mean, std=augment.std)
    val_transform = EvaluationTransform(
        preprocessing.with_resize({} if resize is None else resize.model_dump(exclude_none=True))
    )
    return RunData(
        train_set=train_set,
        val_set=val_set,
        train_loader=Loader(train_set, train, **options),
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
) -> tuple[Parts, RunNetwork, Scheduler | None]:
    """Makes the network, its loss, optimizer and scheduler, and seeds what the training draws.

    Raises:
        UserError: what the builder or the loss raise.
    """
    trainer = config.trainer
    seed(trainer.seed)
    model: nn.Module = MODELS.get(config.model.name)(
        weights=config.model.weights,
        num_classes=data.metadata.num_classes,
        aux_loss=config.model.aux_loss,
        weights_backbone=config.model.weights_backbone,
        variant=config.model.variant,
        **config.model.params,
    )
    sharded = trainer.strategy == "fsdp" and accelerator.num_processes > 1
    if trainer.channels_last and not sharded:  # torch splits tensors of the default layout only
        model = model.to(memory_format=torch.channels_last)
    model = model.to(accelerator.device)
    if trainer.sync_batch_norm:
        model = synchronize_batch_norm(model, accelerator)
    if accelerator.device.type == "cpu" and accelerator.mixed_precision == "bf16":
        train_depthwise_in_full_precision(model)
    network = RunNetwork(model, accelerator, strategy=trainer.strategy, ema_decay=trainer.ema_decay)
    optimizer = build_optimizer(model, **dict(config.optimizer))
    # Before accelerate wraps the optimizer: with a gradient scaler it puts back the method `step` that it found, and a
    # scheduler of torch warns where that is not the one that counts for it.
    scheduler: Scheduler | None = None
    if config.lr_scheduler is not None:
        total = length.steps if config.lr_scheduler.interval == "step" else length.epochs
        scheduler = build_scheduler(optimizer, total=total, **dict(config.lr_scheduler))
    prepared_optimizer = network.prepare(optimizer)
    parts = Parts(
        model=network.prepared,
        criterion=_criterion(config, data.metadata, class_weights).to(accelerator.device),
        optimizer=prepared_optimizer,
        augment=data.augment,
        accelerator=accelerator,
        seed=trainer.seed,
        max_grad_norm=trainer.max_grad_norm,
        accumulation_steps=trainer.accumulation_steps,
    )
    # What dropout draws must not depend on how many numbers the network's initialization took.
    seed(sample_seed(trainer.seed, accelerator.process_index) % 2**32)
    return parts, network, scheduler


def build_loggers(config: TrainConfig, run_dir: Path) -> dict[str, Logger]:
    """Makes the loggers that the config names and does not switch off; the local one is always there.

    Raises:
        ConfigError: if a logger does not take its options.
        MissingDependencyError: if its package is not installed.
    """
    loggers = {}
    for name, given in {"local": {}, **config.log}.items():
        options = {key: value for key, value in given.items() if key != "enabled"}
        if not given.get("enabled", True):
            continue
        try:
            loggers[name] = LOGGERS.get(name)(run_dir, **options)
        except (TypeError, InvalidArgumentError) as error:
            raise ConfigError(f"log.{name}: {error}") from error
    return loggers


def _open(section: DatasetSection, split: str) -> SegmentationDataset:
    dataset: SegmentationDataset = DATASETS.get(section.name)(section.root, split=split, **section.params)
    return dataset


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
    """Returns the loss `name`; class weights go to those that take them."""
    factory = LOSSES.get(name)
    options: dict[str, Any] = {"ignore_index": ignore_index, **params}
    if weights is not None and "weight" in inspect.signature(factory).parameters:
        options["weight"] = weights
    loss: nn.Module = factory(**options)
    return loss
