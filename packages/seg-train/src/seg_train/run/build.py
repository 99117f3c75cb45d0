"""Builds a run from its config: accelerator, network with loss, optimizer and scheduler, loggers; data in `data.py`."""

import atexit
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import TorchDynamoPlugin
from torch import nn

from seg_core.device import fastest_precision, warn_of_slow_bf16
from seg_core.errors import ConfigError, InvalidArgumentError
from seg_core.labels.metadata import DatasetMetadata
from seg_core.model_files.build_spec import BuildSpec
from seg_core.own_code import naming
from seg_core.randomness import sample_seed, seed
from seg_core.registry import LOGGERS, LOSSES
from seg_core.spec import build_named
from seg_train.config.schema import TrainConfig
from seg_train.config.task import task_problems
from seg_train.loggers.base import Logger
from seg_train.losses.deep_supervision import DeepSupervision
from seg_train.optim.optimizers import build_optimizer
from seg_train.optim.schedulers import build_scheduler, length_problems
from seg_train.optim.warmup import Scheduler
from seg_train.run.classes import settle_classes
from seg_train.run.data import RunData, RunLength
from seg_train.run.launch import check_environment, check_joined
from seg_train.run.model import RunNetwork, synchronize_batch_norm, train_depthwise_in_full_precision
from seg_train.run.network import build_network, check_parameters
from seg_train.run.objects import describe_object
from seg_train.run.step import Parts
from seg_train.run.together import together

__all__ = [
    "build_accelerator",
    "build_loggers",
    "build_parts",
    "precision_of",
]


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
        model = build_network(config.model, data.metadata, resumed=warn is None)
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
        task=data.metadata.task,
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


def _criterion(config: TrainConfig, metadata: DatasetMetadata, class_weights: list[float] | None) -> DeepSupervision:
    section = config.criterion
    named = [
        ("criterion", section.name, section.params),
        *(
            (f"criterion.outputs.{key}", output.name, output.params)
            for key, output in section.outputs.items()
            if output.name is not None
        ),
    ]
    for key, loss, params in named:
        for problem in task_problems(key, loss, params, metadata, is_main=key == "criterion"):
            raise ConfigError(problem)
    weights = None if class_weights is None else torch.tensor(class_weights)
    outputs = {
        name: (
            output.weight,
            None if output.name is None else _loss(output.name, output.params, metadata, weights),
        )
        for name, output in section.outputs.items()
    }
    return DeepSupervision(
        _loss(section.name, section.params, metadata, weights),
        aux_weight=section.aux_weight,
        outputs=outputs,
        boundary_aware_weight=section.boundary_aware_weight,
    )


def _loss(name: str, params: Mapping[str, Any], metadata: DatasetMetadata, weights: torch.Tensor | None) -> nn.Module:
    """Returns the loss `name`, with the ignored value, the task and the class weights if it takes them."""
    given: dict[str, Any] = {"ignore_index": metadata.ignore_index, "task": metadata.task}
    if weights is not None:
        given["weight"] = weights
    with naming("criterion", name):
        loss = build_named(LOSSES, name, params, **given)
    if not isinstance(loss, nn.Module):
        raise ConfigError(f'criterion.name = "{name}": must be a loss, a torch.nn.Module, got {type(loss).__name__}')
    return loss
