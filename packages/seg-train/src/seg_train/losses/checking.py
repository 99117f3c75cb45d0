"""Checks of arguments that several losses share."""

import math
import numbers
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from seg_core.arrays import tensor_of_array
from seg_core.errors import InvalidArgumentError
from seg_core.labels.tasks import TASKS, check_task
from seg_train.losses.inputs import widened

__all__ = [
    "check_fraction",
    "check_non_negative",
    "check_reduction",
    "check_same_task",
    "checked_task",
    "checked_weight",
]

_REDUCTIONS = ("mean", "sum", "none")


def check_reduction(reduction: str) -> None:
    """Raises InvalidArgumentError if there is no such reduction."""
    if reduction not in _REDUCTIONS:
        raise InvalidArgumentError(f"reduction must be one of {', '.join(_REDUCTIONS)}, got {reduction!r}")


def check_non_negative(name: str, value: float) -> None:
    """Raises InvalidArgumentError if the argument `name` is not a finite number >= 0."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not 0 <= value < math.inf:
        raise InvalidArgumentError(f"{name} must be a finite number of at least 0, got {value!r}")


def check_fraction(name: str, value: float) -> None:
    """Raises InvalidArgumentError if the argument `name` is not in the range 0 to 1."""
    if not 0 <= value <= 1:
        raise InvalidArgumentError(f"{name} must be between 0 and 1, got {value!r}")


def checked_task(loss: str, task: str, allowed: Sequence[str] = TASKS, instead: str = "") -> str:
    """Returns `task` if it is one of those that a loss knows.

    Args:
        loss: its name, for the message.
        task: to check.
        allowed: the tasks that the loss knows.
        instead: name of the loss for the other tasks.

    Raises:
        InvalidArgumentError: if there is no such task, or the loss does not know it.
    """
    if check_task(task) not in allowed:
        raise InvalidArgumentError(
            f"{loss} is for the task {' or '.join(map(repr, allowed))}, got {task!r}; use {instead}(task={task!r})"
        )
    return task


def check_same_task(place: str, loss: object, task: str) -> None:
    """Raises InvalidArgumentError if a loss at `place` has another task; losses without one are of any task."""
    found = getattr(loss, "task", task)
    if found != task:
        raise InvalidArgumentError(
            f"{place} has the task {found!r}, but the loss around it has task={task!r}; give both the same task="
        )


def checked_weight(weight: object, name: str = "weight") -> Tensor:
    """Returns a copy of class weights: float (K,), float64 if they are a float64 tensor or array, else float32.

    Call it when a loss is built: reading the values waits for the device.

    Args:
        weight: a list of numbers, or a tensor or array (K,) of any float or integer type. Some of them may be 0, which
            switches these classes off.
        name: of the argument or the key of the config, for the message.

    Raises:
        InvalidArgumentError: if they are not finite numbers >= 0, at least one of them above 0.
    """
    if isinstance(weight, str) and weight in TASKS:  # as another library's mode
        raise InvalidArgumentError(f"{name} must hold one number per class, got {weight!r}; write task={weight!r}")
    try:
        # A copy, so that later changes of the argument do not change the loss.
        given = tensor_of_array(weight) if isinstance(weight, np.ndarray) else torch.as_tensor(weight)
        given = given.detach().clone()
    except (TypeError, ValueError, RuntimeError, OverflowError):  # all of these, depending on what torch is given
        given = None
    if given is None or given.dtype == torch.bool or given.is_complex() or _holds_bools(weight):
        raise InvalidArgumentError(
            f"{name} must hold one number per class, got {weight!r}; see seg_train.class_weights"
        )
    values = widened(given)
    if values.ndim != 1 or not bool((values >= 0).all()) or not bool(values.isfinite().all()):
        raise InvalidArgumentError(
            f"{name} must hold one finite number of at least 0 per class, got {values.tolist()}; see "
            "seg_train.class_weights"
        )
    if not bool((values > 0).any()):
        raise InvalidArgumentError(
            f"{name} must have at least one number above 0, got {values.tolist()}: every loss would be 0 and nothing "
            "would be learned; omit it for 1 each, or see seg_train.class_weights"
        )
    return values


def _holds_bools(weight: object) -> bool:
    """Returns whether a list holds a bool, which torch converts if there are numbers too."""
    return isinstance(weight, Sequence) and any(isinstance(value, bool | np.bool_) for value in weight)
