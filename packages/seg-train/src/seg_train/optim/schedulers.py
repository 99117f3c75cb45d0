"""Makes the LR scheduler that a config names, fills in what follows from the run's length, and puts a warm-up before
it.

The schedulers are torch's. Those of them that take functions, other schedulers or a score to watch are given here in a
form that a config can hold: a function as `"package.module:function"`, a scheduler as a table `{name, params}`, a score
by its name.
"""

import copy
import inspect
import itertools
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from seg_core.errors import InvalidArgumentError, UserError, nearest
from seg_core.registry import SCHEDULERS, resolve_target
from seg_train.config.schema import SchedulerSection

__all__ = ["LENGTH_ARGUMENTS", "ChainedScheduler", "ReduceLROnPlateau", "Scheduler", "SequentialLR", "build_scheduler"]

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
# What an evaluation measures and ReduceLROnPlateau may watch.
_SCORES = ("miou", "acc", "macc", "fwiou", "dice", "loss")


def build_scheduler(section: SchedulerSection, optimizer: torch.optim.Optimizer, total: int) -> "Scheduler":
    """Returns the scheduler, its warm-up included.

    Args:
        section: name, arguments, interval and warm-up.
        optimizer: whose learning rate it sets.
        total: length of the run in steps or epochs, as `section.interval` counts.

    Raises:
        UnknownNameError: if there is no scheduler of that name.
        InvalidArgumentError: if an argument is missing or not allowed, or the warm-up is as long as the run.
        ValueError: what the scheduler itself raises for a value out of range.
    """
    length = total
    if section.interval == "step" and section.warmup_steps:
        if section.warmup_steps >= total:
            raise InvalidArgumentError(
                f"warmup_steps must be fewer than the {total} steps of the run, got {section.warmup_steps}; shorten "
                "the warm-up or train longer"
            )
        length = total - section.warmup_steps
    return Scheduler(
        _make(section.name, section.params, optimizer, length),
        length,
        interval=section.interval,
        warmup_steps=section.warmup_steps,
        warmup_factor=section.warmup_factor,
    )


class Scheduler:
    """A scheduler of torch with a warm-up before it; the trainer tells it of each step and of each epoch.

    In the warm-up the learning rate rises in a straight line, from `warmup_factor` times what the scheduler begins with
    at the first optimizer step to that itself at step number `warmup_steps`, counted from 0.

    A scheduler that counts steps starts once the warm-up is over; its length, milestones and periods count from there,
    and what follows from the run's length covers the rest of the run (as in the recipe of SegFormer: E. Xie et al.,
    2021, arXiv:2105.15203, 1500 steps of warm-up, then polynomial to the end). A scheduler that counts epochs, or
    watches a score, counts those of the whole run; the warm-up, still by steps, is a factor on top of it.

    Args:
        scheduler: of torch, or with its interface, just built.
        length: steps or epochs that `scheduler` covers; it is not advanced past the last.
        interval: what `scheduler` counts, `"step"` or `"epoch"`. `ReduceLROnPlateau` counts epochs in any case.
        warmup_steps: optimizer steps of the warm-up, 0 for none.
        warmup_factor: above 0, at most 1.

    Raises:
        InvalidArgumentError: if an argument is not allowed.
    """

    def __init__(
        self,
        scheduler: LRScheduler,
        length: int,
        *,
        interval: str = "step",
        warmup_steps: int = 0,
        warmup_factor: float = 0.001,
    ) -> None:
        if interval not in ("step", "epoch"):
            raise InvalidArgumentError(f"interval must be 'step' or 'epoch', got {interval!r}")
        if warmup_steps < 0:
            raise InvalidArgumentError(f"warmup_steps must be at least 0, got {warmup_steps}")
        if not 0 < warmup_factor <= 1:
            raise InvalidArgumentError(f"warmup_factor must be above 0 and at most 1, got {warmup_factor}")
        watching = isinstance(scheduler, ReduceLROnPlateau)
        if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau) and not watching:
            raise InvalidArgumentError(
                "torch's own ReduceLROnPlateau does not say which score it watches; give "
                "seg_train.optim.schedulers.ReduceLROnPlateau"
            )
        self.scheduler = scheduler
        self.optimizer = scheduler.optimizer
        self.warmup_steps = warmup_steps
        self.warmup_factor = warmup_factor
        self._by_epoch = watching or interval == "epoch"
        self._length = math.inf if watching else length
        self._steps = 0
        self._advanced = 0
        # what the scheduler has set, while the warm-up shows less
        self._rates = self._current()
        self._warm_up()

    def step(self) -> None:
        """Goes on by one; call it after each optimizer step."""
        self._steps += 1
        if self._steps <= self.warmup_steps:
            self._warm_up()
        elif not self._by_epoch:
            self._advance()

    def end_epoch(self, scores: Mapping[str, Any] | None) -> None:
        """Goes on by one where epochs are counted; call it after each epoch, on every process alike.

        Args:
            scores: of the evaluation at its end, the same on all processes; None where there was none: a scheduler that
                watches a score then stays as it is.

        Raises:
            InvalidArgumentError: if the score that the scheduler watches is not among them.
        """
        if not self._by_epoch or (scores is None and isinstance(self.scheduler, ReduceLROnPlateau)):
            return
        warming = self._steps < self.warmup_steps
        if warming:  # the scheduler goes on from its own value
            self._set(self._rates)
        self._advance(scores)
        if warming:
            self._rates = self._current()
            self._warm_up()

    @property
    def watched_score(self) -> str | None:
        """The score that decides on the learning rate, such as `"miou"` or `"loss"`; None where none does."""
        return self.scheduler.monitor if isinstance(self.scheduler, ReduceLROnPlateau) else None

    @property
    def length(self) -> float:
        """Steps or epochs that the scheduler covers; infinite where it watches a score."""
        return self._length

    def get_last_lr(self) -> list[float | Tensor]:
        """Returns the learning rate of each parameter group."""
        return self._current()

    def state_dict(self) -> dict[str, Any]:
        """Returns where it stands, as plain containers; the learning rates themselves are in the optimizer's state."""
        return {
            "steps": self._steps,
            "advanced": self._advanced,
            "rates": list(self._rates),
            "scheduler": self.scheduler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from where `state_dict` was called; load the optimizer's state too."""
        self._steps = state["steps"]
        self._advanced = state["advanced"]
        self._rates = list(state["rates"])
        # a copy, since some schedulers take parts out of what they load
        self.scheduler.load_state_dict(copy.deepcopy(state["scheduler"] if "scheduler" in state else state["schedule"]))

    def _advance(self, scores: Mapping[str, Any] | None = None) -> None:
        self._advanced += 1
        # After the last step there is no next learning rate; OneCycleLR refuses to give one.
        if self._advanced >= self._length:
            return
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(self.scheduler.watched(scores or {}))
        else:
            self.scheduler.step()

    def _warm_up(self) -> None:
        if not self.warmup_steps:
            return
        done = self._steps / self.warmup_steps
        # at its end exactly what the scheduler has set
        factor = 1.0 if done >= 1 else self.warmup_factor + (1 - self.warmup_factor) * done
        self._set([rate * factor for rate in self._rates])

    def _current(self) -> list[float | Tensor]:
        rates = (group["lr"] for group in self.optimizer.param_groups)
        return [rate.clone() if isinstance(rate, Tensor) else rate for rate in rates]

    def _set(self, rates: Sequence[float | Tensor]) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            if isinstance(group["lr"], Tensor):  # a compiled or captured step holds that very tensor
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate


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


class ReduceLROnPlateau(lr_scheduler.ReduceLROnPlateau):
    """Lowers the learning rate when a score no longer improves: torch's class, with the score's name.

    Args:
        optimizer: whose learning rate it sets.
        monitor: score on val: `"miou"`, `"acc"`, `"macc"`, `"fwiou"`, `"dice"` or `"loss"`.
        mode: whether less (`"min"`) or more (`"max"`) is better; by default less for `"loss"`, else more.
        factor: below 1, of the learning rate when it is lowered.
        patience: epochs without improvement that are borne.
        threshold: least improvement that counts.
        threshold_mode: whether that is a share of the best score (`"rel"`) or a difference to it (`"abs"`).
        cooldown: epochs after a change in which none is counted.
        min_lr: lower bound, one number or one per parameter group.
        eps: smallest change that is made.

    Raises:
        InvalidArgumentError: if there is no such score.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        monitor: str = "miou",
        mode: str | None = None,
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0,
        eps: float = 1e-8,
    ) -> None:
        if monitor not in _SCORES:
            raise InvalidArgumentError(
                f"monitor must be one of {', '.join(_SCORES)}, got {monitor!r}.{nearest(str(monitor), _SCORES)}"
            )
        if mode not in (None, "min", "max"):
            raise InvalidArgumentError(
                f"mode must be 'min' or 'max', got {mode!r}; leave it out for what suits monitor"
            )
        if threshold_mode not in ("rel", "abs"):
            raise InvalidArgumentError(f"threshold_mode must be 'rel' or 'abs', got {threshold_mode!r}")
        chosen: Any = mode or ("min" if monitor == "loss" else "max")
        relative: Any = threshold_mode
        super().__init__(
            optimizer,
            mode=chosen,
            factor=factor,
            patience=patience,
            threshold=threshold,
            threshold_mode=relative,
            cooldown=cooldown,
            min_lr=list(min_lr) if isinstance(min_lr, Sequence) else min_lr,
            eps=eps,
        )
        self.monitor = monitor

    def watched(self, scores: Mapping[str, Any]) -> float:
        """Returns the score that is watched.

        Raises:
            InvalidArgumentError: if it is not among `scores`.
        """
        if self.monitor not in scores:
            raise InvalidArgumentError(
                f"ReduceLROnPlateau watches monitor={self.monitor!r}, which this evaluation does not measure; choose "
                f"one of {', '.join(name for name in _SCORES if name in scores) or 'none'}"
            )
        return float(scores[self.monitor])


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
