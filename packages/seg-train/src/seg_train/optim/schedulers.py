"""Builds a learning-rate scheduler by name, with arguments derived from the run's length and a warm-up.

The schedulers are those of torch. Arguments that are functions, other schedulers or a score are written as in a config:
a function as `"package.module:function"`, a scheduler as a table `{name, params}`, a score by its name.
"""

import itertools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from seg_core.checks import is_integer
from seg_core.errors import InvalidArgumentError, UserError
from seg_core.registry import SCHEDULERS, resolve_target
from seg_core.spec import check_params
from seg_train.optim.optimizers import WrongResultError
from seg_train.optim.warmup import Scheduler

__all__ = ["LENGTH_ARGUMENTS", "ChainedScheduler", "SequentialLR", "build_scheduler", "length_problems"]

# The argument of a scheduler for the length of the run, filled in if it is missing. Lengths of other schedulers (the
# rise of LinearLR, the steps of StepLR) are shorter than the run.
LENGTH_ARGUMENTS = {
    "ChainedScheduler": "total_iters",
    "CosineAnnealingLR": "T_max",
    "OneCycleLR": "total_steps",
    "PolynomialLR": "total_iters",
    "SequentialLR": "total_iters",
}
# Arguments that are functions, given by import path.
_FUNCTION_ARGUMENTS = ("lr_lambda", "scale_fn")
_NOT_PARAMS = ("optimizer", "last_epoch")


def build_scheduler(
    optimizer: torch.optim.Optimizer,
    name: str,
    params: Mapping[str, Any] | None = None,
    *,
    total: int,
    interval: str = "step",
    warmup_steps: int = 0,
    warmup_factor: float = 0.001,
) -> Scheduler:
    """Returns the scheduler with its warm-up.

    Args:
        optimizer: its learning rate is set.
        name: of the scheduler, see `seg_core.registry.SCHEDULERS`.
        params: arguments of the scheduler.
        total: length of the run, in the unit of `interval`.
        interval: see `Scheduler`.
        warmup_steps: see `Scheduler`.
        warmup_factor: see `Scheduler`.

    Raises:
        UnknownNameError: if there is no scheduler of that name.
        InvalidArgumentError: if an argument is missing or not allowed, or the warm-up is as long as the run.
        ValueError: if the scheduler itself rejects a value.
    """
    length = total
    if interval == "step" and warmup_steps:
        if warmup_steps >= total:
            raise InvalidArgumentError(
                f"warmup_steps must be fewer than the {total} steps of the run, got {warmup_steps}; shorten "
                "the warm-up or train longer"
            )
        length = total - warmup_steps
    return Scheduler(
        _make(name, params or {}, optimizer, length),
        length,
        interval=interval,
        warmup_steps=warmup_steps,
        warmup_factor=warmup_factor,
    )


def length_problems(name: str, params: Mapping[str, Any], length: int, unit: str = "steps") -> list[str]:
    """Returns what is wrong with the length of a scheduler that ends before the run, one sentence per problem.

    OneCycleLR fails in the step after its last one, and with PolynomialLR the learning rate is then 0.

    Args:
        name: of the scheduler.
        params: its arguments, as the user gave them.
        length: steps or epochs of the run, without those of a warm-up.
        unit: `"steps"` or `"epochs"`, for the message.
    """
    argument = LENGTH_ARGUMENTS.get(name, "")
    given = params.get(argument)
    if name not in ("OneCycleLR", "PolynomialLR") or not is_integer(given, 1) or given >= length:
        return []
    after = "it cannot be advanced further" if name == "OneCycleLR" else "the learning rate is 0 from there on"
    return [
        f"params.{argument} = {given}: {name} ends before the run, which has {length} {unit}, and {after}; remove "
        f"{argument}, which is the length of the run by default"
    ]


class SequentialLR(lr_scheduler.SequentialLR):
    """One scheduler after the other: torch's class of the same name, from tables.

    Args:
        optimizer: its learning rate is set.
        schedulers: one table per scheduler, with its `name` and, if needed, its `params`; none of them may be a
            SequentialLR or ChainedScheduler.
        milestones: step or epoch at which each scheduler but the first begins, ascending.
        total_iters: length of the sequence, from which the missing lengths of its schedulers are derived.

    Raises:
        InvalidArgumentError: if a table or a milestone is not allowed; the message says which.
        UnknownNameError: if a name is not that of a scheduler.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        schedulers: Sequence[Mapping[str, Any]],
        milestones: Sequence[int],
        total_iters: int,
    ) -> None:
        _check_tables(schedulers)
        ascending = isinstance(milestones, Sequence) and all(
            isinstance(milestone, int) and milestone > before
            for before, milestone in zip([0, *milestones], milestones, strict=False)
        )
        if not ascending or len(milestones) != len(schedulers) - 1:
            raise InvalidArgumentError(
                f"milestones must be {len(schedulers) - 1} ascending ints above 0, one fewer than the "
                f"{len(schedulers)} schedulers, got {milestones}"
            )
        edges = [0, *milestones, total_iters]
        # with a milestone after the end of the run, its scheduler never begins
        lengths = [max(1, end - start) for start, end in itertools.pairwise(edges)]
        made = _make_all(schedulers, optimizer, lengths)
        for place, scheduler in enumerate(made):
            # torch's class would fail at the milestone, in the middle of a run
            if isinstance(scheduler, lr_scheduler.SequentialLR | lr_scheduler.ChainedScheduler):
                raise InvalidArgumentError(
                    f"schedulers[{place}]: {schedulers[place]['name']} cannot be part of a SequentialLR; list its "
                    "schedulers here instead"
                )
        super().__init__(optimizer, made, list(milestones))

    def step(self) -> None:  # type: ignore[override]  # torch also takes an epoch, which it has deprecated
        """Advances by one step."""
        if self.last_epoch + 1 not in self._milestones:
            super().step()
            return
        with warnings.catch_warnings():
            # Before torch 2.8 the class uses an argument here that torch has deprecated.
            warnings.filterwarnings("ignore", message="The epoch parameter in")
            super().step()


class ChainedScheduler(lr_scheduler.ChainedScheduler):
    """Schedulers whose factors multiply: torch's class of the same name, from tables.

    Args:
        optimizer: its learning rate is set.
        schedulers: one table per scheduler, with its `name` and, if needed, its `params`.
        total_iters: length of each of them that needs one and does not set it.

    Raises:
        InvalidArgumentError: if a table is not allowed; the message says which.
        UnknownNameError: if a name is not that of a scheduler.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, schedulers: Sequence[Mapping[str, Any]], total_iters: int
    ) -> None:
        _check_tables(schedulers)
        super().__init__(_make_all(schedulers, optimizer, [total_iters] * len(schedulers)))


def _make(name: str, params: Mapping[str, Any], optimizer: torch.optim.Optimizer, length: int) -> LRScheduler:
    """Returns the scheduler `name` over `length` steps or epochs."""
    factory = SCHEDULERS.get(name)
    arguments = _filled_in(name, params, optimizer, length)
    check_params(name, factory, arguments, _NOT_PARAMS)
    scheduler: LRScheduler = factory(optimizer, **arguments)
    if not all(callable(getattr(scheduler, method, None)) for method in ("step", "state_dict", "load_state_dict")):
        raise WrongResultError(
            f"{name} must return a scheduler, a torch.optim.lr_scheduler.LRScheduler, got {type(scheduler).__name__}"
        )
    return scheduler


def _filled_in(name: str, params: Mapping[str, Any], optimizer: torch.optim.Optimizer, length: int) -> dict[str, Any]:
    """Returns the scheduler's arguments: `params`, and those derived from the run."""
    arguments = {k: _functions(k, v) if k in _FUNCTION_ARGUMENTS else v for k, v in params.items()}
    # the length of OneCycleLR may also be given as epochs times steps_per_epoch
    if name in LENGTH_ARGUMENTS and "epochs" not in arguments:
        arguments.setdefault(LENGTH_ARGUMENTS[name], length)
    if name == "OneCycleLR":
        # another scheduler of the same optimizer may have changed lr
        arguments.setdefault("max_lr", [group.get("initial_lr", group["lr"]) for group in optimizer.param_groups])
    return arguments


def _functions(argument: str, value: Any) -> Any:
    """Returns the function, or the list of functions, that import paths name."""
    if isinstance(value, list | tuple):
        return [_functions(argument, item) for item in value]
    if not isinstance(value, str):
        return value
    advice = "write 'package.module:function', of a module that Python can import"
    try:
        function = resolve_target(value)
    except (InvalidArgumentError, ImportError, AttributeError) as error:
        raise InvalidArgumentError(f"{argument} = {value!r} cannot be imported ({error}); {advice}") from error
    if not callable(function):
        raise InvalidArgumentError(f"{argument} = {value!r} is not a function but {type(function).__name__}; {advice}")
    # torch saves the attributes of callables that are not plain functions; a function written in C has none
    return function if hasattr(function, "__dict__") else lambda step: function(step)


def _check_tables(schedulers: Any) -> None:
    if not isinstance(schedulers, Sequence) or not schedulers or not all(isinstance(t, Mapping) for t in schedulers):
        raise InvalidArgumentError(
            "schedulers must be a list of at least one table such as {name = 'StepLR', params = {step_size = 5}}, got "
            f"{schedulers!r}"
        )
    for place, table in enumerate(schedulers):
        unknown = [key for key in table if key not in ("name", "params")]
        if unknown or not isinstance(table.get("name"), str) or not isinstance(table.get("params", {}), Mapping):
            raise InvalidArgumentError(
                f"schedulers[{place}] must have a name and, if needed, a table params, got {dict(table)}"
            )


def _make_all(
    tables: Sequence[Mapping[str, Any]], optimizer: torch.optim.Optimizer, lengths: Sequence[int]
) -> list[LRScheduler]:
    """Returns the schedulers of `tables`, in order; errors name the table."""
    made = []
    for place, (table, length) in enumerate(zip(tables, lengths, strict=True)):
        try:
            scheduler = _make(table["name"], table.get("params", {}), optimizer, length)
        except UserError as error:
            raise type(error)(f"schedulers[{place}]: {error}") from error
        except (ValueError, TypeError, ZeroDivisionError) as error:
            raise InvalidArgumentError(f"schedulers[{place}], {table['name']}: {error}") from error
        if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
            raise InvalidArgumentError(
                f"schedulers[{place}]: ReduceLROnPlateau watches a score and cannot be combined with others; use it "
                "alone, with warmup_steps for a warm-up"
            )
        made.append(scheduler)
    return made
