"""The facts of a run that its start shows and environment.json keeps: device, processes, data, network, disk."""

import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from seg_core.errors import counted
from seg_core.model_files.build_spec import OBJECT
from seg_core.progress import Progress, size_text
from seg_core.randomness import isolated_randomness
from seg_train.config.schema import TrainConfig
from seg_train.optim.optimizers import build_optimizer
from seg_train.optim.trial import TrialNetwork, stored_per_weight, trial_step
from seg_train.run.build import precision_of
from seg_train.run.data import RunData
from seg_train.run.launch import launch_warning
from seg_train.run.model import RunNetwork
from seg_train.run.plan import RunPlan

__all__ = ["RunFacts", "disk_needed", "show_start"]


@dataclass(frozen=True)
class RunFacts:
    """The facts of a run.

    Attributes:
        device: type of the device, such as `"cuda"`.
        device_name: its name, such as `"NVIDIA H200"`.
        precision: `"fp32"`, `"bf16"` or `"fp16"`.
        processes: number of processes that share each batch.
        workers: number of worker processes of each of them.
        train_samples: number of training samples.
        val_samples: number of val samples.
        classes: number of classes.
        crops_per_image: training samples of each image in an epoch.
        images: the channels of the images, their range, and where mean and standard deviation come from.
        mean: mean of each channel that images are normalized by, of values scaled to 0 to 1.
        std: standard deviation of each channel, likewise.
        model: name of the network in the config, or the class of an object.
        parameters: number of parameters.
        trained_parameters: number of those that are trained.
        batch_size: samples of one step.
        steps: number of steps.
        epochs: number of epochs.
        evaluations: number of evaluations, if the run does not stop early.
        disk_bytes: estimated size of its checkpoints and model files.
    """

    device: str
    device_name: str
    precision: str
    processes: int
    workers: int
    train_samples: int
    val_samples: int
    classes: int
    crops_per_image: int
    images: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    model: str
    parameters: int
    trained_parameters: int
    batch_size: int
    steps: int
    epochs: int
    evaluations: int
    disk_bytes: int

    @classmethod
    def of(
        cls, config: TrainConfig, data: RunData, network: RunNetwork, plan: RunPlan, accelerator: Accelerator
    ) -> "RunFacts":
        """Returns the facts of a run that is built."""
        parameters = list(network.network.parameters())
        return cls(
            device=accelerator.device.type,
            device_name=_name_of(accelerator.device),
            precision=precision_of(accelerator),
            processes=accelerator.num_processes,
            workers=config.data.loader.num_workers,
            train_samples=len(data.train_set),
            val_samples=len(data.val_set),
            classes=data.metadata.num_classes,
            crops_per_image=config.data.transform.train.crops_per_image,
            images=str(data.normalization),
            mean=data.normalization.mean,
            std=data.normalization.std,
            model=config.model.name if config.model.name != OBJECT else type(network.network).__name__,
            parameters=sum(p.numel() for p in parameters),
            trained_parameters=sum(p.numel() for p in parameters if p.requires_grad),
            batch_size=config.data.loader.batch_size,
            steps=plan.length.steps,
            epochs=plan.length.epochs,
            evaluations=plan.evaluations(),
            disk_bytes=disk_needed(config, network),
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns the facts as plain values."""
        return asdict(self)

    def lines(self, folder: Path) -> list[str]:
        """Returns the lines that the start shows.

        Args:
            folder: run folder.
        """
        frozen = self.parameters - self.trained_parameters
        crops = f" of {self.crops_per_image} crops each" if self.crops_per_image > 1 else ""
        return [
            f"device  {self.device_name}, {self.precision}, {counted(self.processes, 'process', 'processes')}, "
            f"{counted(self.workers, 'worker')}" + (" each" if self.processes > 1 else ""),
            f"data    {self.train_samples:,} training samples{crops}, {self.val_samples:,} val samples, "
            f"{counted(self.classes, 'class', 'classes')}",
            f"images  {self.images}",
            f"model   {self.model}, {self.parameters:,} parameters"
            + (f", {frozen:,} of them frozen" if frozen else ""),
            f"length  {self.steps:,} steps of {counted(self.batch_size, 'sample')} in "
            f"{counted(self.epochs, 'epoch')}, {counted(self.evaluations, 'evaluation')}",
            f"disk    about {size_text(self.disk_bytes)} in {folder}, {size_text(_free(folder))} free",
        ]


def show_start(facts: RunFacts, config: TrainConfig, folder: Path, progress: Progress) -> None:
    """Shows the facts of a run, and warns if its launcher started others beside it, or the disk is too small for it.

    Args:
        facts: of the run.
        config: config of the run.
        folder: run folder.
        progress: shows them.
    """
    for line in facts.lines(folder):
        progress.message(line)
    if warning := launch_warning(os.environ, facts.processes):
        progress.warn(warning)
    free = _free(folder)
    if free < facts.disk_bytes:
        progress.warn(
            f"the run needs about {size_text(facts.disk_bytes)} of disk and {folder} has {size_text(free)} free; "
            f"set another paths.output, or lower trainer.keep_checkpoints (now {config.trainer.keep_checkpoints})"
        )


def disk_needed(config: TrainConfig, network: RunNetwork) -> int:
    """Returns the estimated bytes of the checkpoints and model files of a run: weights, EMA and optimizer state.

    Metrics and plots are small beside them and are not counted.
    """
    weights = sum(t.numel() * t.element_size() for t in network.network.state_dict().values() if isinstance(t, Tensor))
    trained = sum(p.numel() * p.element_size() for p in network.network.parameters() if p.requires_grad)
    with isolated_randomness(0):  # building the trial draws random numbers
        trial = TrialNetwork(32)
        optimizer = build_optimizer(trial, **dict(config.optimizer))
        trial_step(optimizer, trial)
    copies = 1 if network.average is None else 2
    checkpoint = copies * weights + stored_per_weight(optimizer, trial) * trained
    # the last ones, the best one, and one that is being written
    return round(checkpoint * (config.trainer.keep_checkpoints + 2) + weights * (copies + 1))


def _name_of(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU with {counted(torch.get_num_threads(), 'thread')}" if device.type == "cpu" else device.type.upper()


def _free(folder: Path) -> int:
    """Returns the free bytes of the disk that a folder is on, or will be."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free
