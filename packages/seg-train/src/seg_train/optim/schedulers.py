"""Makes the LR scheduler that a config names, fills in what follows from the run's length, and puts a warm-up before
it.

The schedulers are torch's. Those of them that take functions, other schedulers or a score to watch are given here in a
form that a config can hold: a function as `"package.module:function"`, a scheduler as a table `{name, params}`, a score
by its name.
"""

import inspect
import itertools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from seg_core.errors import InvalidArgumentError, UserError, nearest
from seg_core.registry import SCHEDULERS, resolve_target
from seg_train.optim.warmup import Scheduler

__all__ = ["LENGTH_ARGUMENTS", "ChainedScheduler", "SequentialLR", "build_scheduler"]

# The argument of a scheduler that is the length of the run, filled in where the config leaves it out. Others that have
# a length too (the rise of LinearLR, the steps of StepLR) mean a part of the run.
LENGTH_ARGUMENTS = {
    "ChainedScheduler": "total_iters",
    "CosineAnnealingLR": "T_max",
    "OneCycleLR": "total_steps",
    "PolynomialLR": "total_iters",
    "SequentialLR": "total_iters",
}
# Arguments that are functions: in a config the import path of one.
_FUNCTION_ARGUMENTS = ("lr_lambda", "scale_fn")
_GIVEN = ("optimizer", "last_epoch")


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
    """Returns the scheduler, its warm-up included.

    Args:
        optimizer: whose learning rate it sets.
        name: of the scheduler, see `seg_core.registry.SCHEDULERS`.
        params: its arguments.
        total: length of the run in steps or epochs, as `interval` counts.
        interval: see `Scheduler`.
        warmup_steps: see `Scheduler`.
        warmup_factor: see `Scheduler`.

    Raises:
        UnknownNameError: if there is no scheduler of that name.
        InvalidArgumentError: if an argument is missing or not allowed, or the warm-up is as long as the run.
        ValueError: what the scheduler itself raises for a value out of range.
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


class SequentialLR(lr_scheduler.SequentialLR):
    """One scheduler after the other: torch's class of the same name, from tables.

    Args:
        optimizer: whose learning rate they set.
        schedulers: one table per scheduler: its `name` and, where it needs any, its `params`; no other sequence or
        chain. milestones: step or epoch at which each but the first begins, ascending.
        total_iters: length of the whole; what follows from the run's length is the length of a scheduler's own part.

    Raises:
        InvalidArgumentError: if a table or a milestone is not allowed; the message says which.
        UnknownNameError: if there is no scheduler of a name.
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
        # a milestone after the end of the run leaves nothing to a scheduler, which never begins
        lengths = [max(1, end - start) for start, end in itertools.pairwise(edges)]
        made = _make_all(schedulers, optimizer, lengths)
        for place, scheduler in enumerate(made):
            # torch's class would fail at the milestone, in the midst of a run
            if isinstance(scheduler, lr_scheduler.SequentialLR | lr_scheduler.ChainedScheduler):
                raise InvalidArgumentError(
                    f"schedulers[{place}]: {schedulers[place]['name']} cannot be one of a SequentialLR; name its parts "
                    "here instead"
                )
        super().__init__(optimizer, made, list(milestones))

    def step(self) -> None:  # type: ignore[override]
        """Goes on by one."""
        if self.last_epoch + 1 not in self._milestones:
            super().step()
            return
        with warnings.catch_warnings():
            # Before torch 2.8 the class uses an argument here that torch itself calls deprecated.
            warnings.filterwarnings("ignore", message="The epoch parameter in")
            super().step()


class ChainedScheduler(lr_scheduler.ChainedScheduler):
    """Schedulers whose factors multiply: torch's class of the same name, from tables.

    Args:
        optimizer: whose learning rate they set.
        schedulers: one table per scheduler: its `name` and, where it needs any, its `params`.
        total_iters: length of each of them that has one and is not told it.

    Raises:
        InvalidArgumentError: if a table is not allowed; the message says which.
        UnknownNameError: if there is no scheduler of a name.
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
    taken = inspect.signature(factory).parameters
    named = {n: p for n, p in taken.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and n not in _GIVEN}
    missing = [n for n, p in named.items() if p.default is p.empty and n not in arguments]
    if missing:
        raise InvalidArgumentError(f"{name} needs {', '.join(missing)}; add to lr_scheduler.params")
    if not any(p.kind is p.VAR_KEYWORD for p in taken.values()):
        for argument in arguments:
            if argument not in named:
                raise InvalidArgumentError(
                    f"{name} has no argument {argument!r}.{nearest(argument, named)} It has: {', '.join(named)}"
                )
    scheduler: LRScheduler = factory(optimizer, **arguments)
    return scheduler


def _filled_in(name: str, params: Mapping[str, Any], optimizer: torch.optim.Optimizer, length: int) -> dict[str, Any]:
    """Returns the scheduler's arguments: those of the config, and what follows from the run."""
    arguments = {k: _functions(k, v) if k in _FUNCTION_ARGUMENTS else v for k, v in params.items()}
    # OneCycleLR may also be told its length as epochs times steps_per_epoch
    if name in LENGTH_ARGUMENTS and "epochs" not in arguments:
        arguments.setdefault(LENGTH_ARGUMENTS[name], length)
    if name == "OneCycleLR":
        # a scheduler built before on the same optimizer may have changed lr
        arguments.setdefault("max_lr", [group.get("initial_lr", group["lr"]) for group in optimizer.param_groups])
    return arguments


def _functions(argument: str, value: Any) -> Any:
    """Returns the function, or the list of functions, that import paths name."""
    if isinstance(value, list | tuple):
        return [_functions(argument, item) for item in value]
    if not isinstance(value, str):
        return value
    advice = "write 'package.module:function', of a module that Python finds"
    try:
        function = resolve_target(value)
    except (InvalidArgumentError, ImportError, AttributeError) as error:
        raise InvalidArgumentError(f"{argument} = {value!r} cannot be imported ({error}); {advice}") from error
    if not callable(function):
        raise InvalidArgumentError(f"{argument} = {value!r} is no function but {type(function).__name__}; {advice}")
    # torch saves the attributes of what is not a plain function, and a function written in C has none
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
                f"schedulers[{place}] must hold a name and, where needed, a table params, got {dict(table)}"
            )


def _make_all(
    tables: Sequence[Mapping[str, Any]], optimizer: torch.optim.Optimizer, lengths: Sequence[int]
) -> list[LRScheduler]:
    """Returns the schedulers of `tables`, in order; errors name the place."""
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
                f"schedulers[{place}]: ReduceLROnPlateau watches a score and cannot be one of several; use it alone, "
                "with warmup_steps where a warm-up is wanted"
            )
        made.append(scheduler)
    return made
