"""Resuming a run with another total length: its position and its learning rates."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.optim import lr_scheduler

from seg_core.errors import ConfigError
from seg_train.config.migrate import Migrated
from seg_train.config.schema import TrainConfig
from seg_train.optim.plateau import ReduceLROnPlateau
from seg_train.optim.schedulers import LENGTH_ARGUMENTS
from seg_train.optim.warmup import Scheduler
from seg_train.run.data import RunLength
from seg_train.run.state import Position

__all__ = ["adapt_position", "describe_rates", "length_of", "replay_scheduler", "set_groups"]


def length_of(stored: Migrated, config: TrainConfig, num_images: int) -> RunLength:
    """Returns the length that a run had when its checkpoint was written.

    Args:
        stored: the config in the checkpoint.
        config: config of the run now, which differs in the length at most.
        num_images: number of training images.
    """
    table = stored.tables["trainer"]
    trainer = config.trainer.model_copy(update={"epochs": table.get("epochs"), "steps": table.get("steps")})
    return RunLength.of(config.model_copy(update={"trainer": trainer}), num_images)


def adapt_position(
    position: Position, former: RunLength, now: RunLength, steps_per_epoch: int, *, extend: bool, folder: Path
) -> str | None:
    """Changes the position of a run to that of a run of the new length; returns a message, or None if nothing changes.

    Args:
        position: from the checkpoint; changed in place.
        former: length that the run had.
        now: length that it has now.
        steps_per_epoch: steps of a whole epoch.
        extend: whether a run that was stopped early continues, even at the same length.
        folder: run folder, for messages.

    Raises:
        ConfigError: if the run has more steps already.
    """
    if now.steps < position.step:
        raise ConfigError(
            f"the run in {folder} has done {position.step} steps, but its new total is {_length_text(now)}; set a "
            f"total of at least {position.step} steps, or leave it out"
        )
    stopped_early = position.finished and position.step < former.steps
    if former == now and not (stopped_early and extend):
        return None
    position.finished &= position.step == now.steps
    if position.finished:
        return None
    message = f"the run now ends after {_length_text(now)}, before it was {_length_text(former)}"
    if stopped_early:
        position.stale = 0
        message = (
            f"the run was stopped early after step {position.step} and continues to {_length_text(now)}; the count of "
            "evaluations without a better score (evaluation.patience) is reset"
        )
    if position.batches == 0 and position.step < position.epoch * steps_per_epoch:
        # the last epoch was cut short, and now it is not
        position.epoch -= 1
        position.batches = position.step - position.epoch * steps_per_epoch
    elif position.batches == 0 and position.step == now.steps:
        # the run ends with the previous epoch, which still lacks the last evaluation
        if position.evaluated == position.step:
            position.finished = True
        else:
            position.epoch -= 1
            position.batches = steps_per_epoch
    return message


def replay_scheduler(
    scheduler: Scheduler, steps: int, epochs: int, steps_per_epoch: int
) -> list[dict[str, Any]] | None:
    """Advances a new learning-rate scheduler to the step of the run, and returns the settings of each parameter group.

    The scheduler is then in the same state as if the run had been started with the new length. It is advanced step by
    step because most of torch's schedulers compute each learning rate from the previous one.

    Args:
        scheduler: just built, for the new length.
        steps: step count of the checkpoint's scheduler.
        epochs: finished epochs.
        steps_per_epoch: steps of a whole epoch.

    Returns:
        None if the scheduler watches a score: it has no length, and keeps its own state.

    Raises:
        ConfigError: if the scheduler ends before the run.
    """
    last = scheduler.scheduler
    if isinstance(last, ReduceLROnPlateau):
        return None
    if isinstance(last, lr_scheduler.OneCycleLR) and last.total_steps < scheduler.length:
        raise ConfigError(
            f"OneCycleLR ends after {last.total_steps} (lr_scheduler.params) and cannot be extended to "
            f"{scheduler.length:g}; only a run whose config leaves total_steps out can be extended"
        )
    with warnings.catch_warnings():
        # the optimizer took its steps in another process
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
        for _ in range(epochs):
            for _ in range(min(steps_per_epoch, steps)):
                scheduler.step()
            steps -= min(steps_per_epoch, steps)
            scheduler.end_epoch(None)
        for _ in range(steps):
            scheduler.step()
    return [
        {key: v.clone() if isinstance(v, Tensor) else v for key, v in group.items() if key != "params"}
        for group in scheduler.optimizer.param_groups
    ]


def set_groups(scheduler: Scheduler, groups: Sequence[Mapping[str, Any]]) -> None:
    """Writes the settings that `replay_scheduler` returned over those that the optimizer has loaded."""
    for group, values in zip(scheduler.optimizer.param_groups, groups, strict=True):
        for key, value in values.items():
            if isinstance(group.get(key), Tensor):  # a compiled or captured step refers to this tensor object
                group[key].fill_(value) if not isinstance(value, Tensor) else group[key].copy_(value)
            else:
                group[key] = value


def describe_rates(
    scheduler: Scheduler | None, config: TrainConfig, now: RunLength, step: int, former_rate: float, rate: float
) -> str:
    """Returns a sentence about the learning rate of a run with a changed length, with its values.

    Args:
        scheduler: learning-rate scheduler, for the new length.
        config: config of the run.
        now: its length.
        step: steps done.
        former_rate: learning rate in the checkpoint.
        rate: learning rate of the next step.
    """
    if scheduler is None or config.lr_scheduler is None:
        return f"the learning rate stays {rate:.6g}: the run has no learning-rate scheduler"
    name = config.lr_scheduler.name
    if isinstance(scheduler.scheduler, ReduceLROnPlateau):
        return f"the learning rate stays {rate:.6g} until {name} lowers it; it keeps its own state"
    argument = LENGTH_ARGUMENTS.get(name)
    if argument is None or argument in config.lr_scheduler.params:
        how = f"follows {name} as before"
    else:
        how = (
            f"now follows {name} over {now.epochs} epochs"
            if config.trainer.epochs
            else f"now follows {name} over {now.steps} steps"
        )
    return f"the learning rate {how}: {rate:.6g} at step {step + 1} (the checkpoint had {former_rate:.6g})"


def _length_text(length: RunLength) -> str:
    return f"{length.steps} steps ({length.epochs} epoch{'' if length.epochs == 1 else 's'})"
