"""Makes the LR schedule that a config names, and fills in what follows from the run's length."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

from seg_core.errors import InvalidArgumentError
from seg_core.registry import SCHEDULES
from seg_train.config.schema import ScheduleSection

__all__ = ["build_schedule"]

# The argument of a schedule that is the length of the run, filled in where the config leaves it out. Others that have
# a length too (the warm-up of LinearLR, the steps of StepLR) mean a part of the run.
_LENGTH_ARGUMENTS = {"CosineAnnealingLR": "T_max", "OneCycleLR": "total_steps", "PolynomialLR": "total_iters"}


def build_schedule(section: ScheduleSection, optimizer: torch.optim.Optimizer, total: int) -> LRScheduler:
    """Returns the schedule.

    Args:
        section: name, arguments and interval.
        optimizer: whose learning rate it sets.
        total: length of the run in steps or epochs, as `section.interval` counts.

    Raises:
        InvalidArgumentError: if an argument is missing.
        ValueError: what the schedule itself raises for a value out of range.
    """
    factory = SCHEDULES.get(section.name)
    arguments = filled_in(section, optimizer, total)
    required = [n for n, p in inspect.signature(factory).parameters.items() if p.default is p.empty]
    missing = [n for n in required if n != "optimizer" and n not in arguments]
    if missing:
        raise InvalidArgumentError(f"{section.name} needs {', '.join(missing)}; add to lr_scheduler.params")
    schedule: LRScheduler = factory(optimizer, **arguments)
    return schedule


def filled_in(section: ScheduleSection, optimizer: torch.optim.Optimizer, total: int) -> Mapping[str, Any]:
    """Returns the schedule's arguments: those of the config, and what follows from the run."""
    arguments = dict(section.params)
    length = _LENGTH_ARGUMENTS.get(section.name)
    # OneCycleLR may also be told its length as epochs times steps_per_epoch
    if length is not None and "epochs" not in arguments:
        arguments.setdefault(length, total)
    if section.name == "OneCycleLR":
        arguments.setdefault("max_lr", [group["lr"] for group in optimizer.param_groups])
    return arguments
