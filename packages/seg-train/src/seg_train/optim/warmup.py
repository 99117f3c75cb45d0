"""Linear warm-up of the learning rate, before or on top of a scheduler of torch."""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from seg_core.errors import InvalidArgumentError
from seg_train.optim.plateau import ReduceLROnPlateau

__all__ = ["Scheduler"]


class Scheduler:
    """A scheduler of torch with a warm-up; the trainer calls `step` and `end_epoch`.

    During the warm-up the learning rate rises linearly: from `warmup_factor` times the scheduler's initial rate at the
    first optimizer step to that rate itself at step `warmup_steps`, counted from 0.

    A scheduler that counts steps starts after the warm-up. Its length, milestones and periods count from there, and
    arguments derived from the run's length cover the rest of the run (as in SegFormer's recipe: E. Xie et al., 2021,
    arXiv:2105.15203, 1500 steps of warm-up, then polynomial decay to the end). A scheduler that counts epochs, or
    watches a score, counts the epochs of the whole run; the warm-up, still by steps, is a factor on top of it.

    Args:
        scheduler: of torch, or with the same interface, newly built.
        length: steps or epochs that `scheduler` covers; it is not advanced beyond the last.
        interval: unit of `scheduler`, `"step"` or `"epoch"`. `ReduceLROnPlateau` always counts epochs.
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
                "torch's own ReduceLROnPlateau does not say which score it watches; use "
                "seg_train.optim.plateau.ReduceLROnPlateau"
            )
        self.scheduler = scheduler
        self.optimizer = scheduler.optimizer
        self.warmup_steps = warmup_steps
        self.warmup_factor = warmup_factor
        self._by_epoch = watching or interval == "epoch"
        self._length = math.inf if watching else length
        self._steps = 0
        self._advanced = 0
        # the rates that the scheduler has set; during the warm-up the optimizer has lower ones
        self._rates = self._current()
        self._warm_up()

    def step(self) -> None:
        """Advances by one step; call it after each optimizer step."""
        self._steps += 1
        if self._steps <= self.warmup_steps:
            self._warm_up()
        elif not self._by_epoch:
            self._advance()

    def end_epoch(self, scores: Mapping[str, Any] | None) -> None:
        """Advances by one epoch if epochs are counted; call it after each epoch, in every process.

        Args:
            scores: of the evaluation after the epoch, the same in all processes; None without evaluation: then a
                scheduler that watches a score does not change.

        Raises:
            InvalidArgumentError: if `scores` do not contain the score that the scheduler watches.
        """
        if not self._by_epoch or (scores is None and isinstance(self.scheduler, ReduceLROnPlateau)):
            return
        warming = self._steps < self.warmup_steps
        if warming:  # the scheduler continues from its own rates
            self._set(self._rates)
        self._advance(scores)
        if warming:
            self._rates = self._current()
            self._warm_up()

    @property
    def watched_score(self) -> str | None:
        """The score that determines the learning rate, such as `"miou"` or `"loss"`; None if none does."""
        return self.scheduler.monitor if isinstance(self.scheduler, ReduceLROnPlateau) else None

    @property
    def length(self) -> float:
        """Steps or epochs that the scheduler covers; infinite if it watches a score."""
        return self._length

    def get_last_lr(self) -> list[float | Tensor]:
        """Returns the learning rate of each parameter group."""
        return self._current()

    def state_dict(self) -> dict[str, Any]:
        """Returns the state as plain containers; the learning rates themselves are in the optimizer's state."""
        return {
            "steps": self._steps,
            "advanced": self._advanced,
            "rates": list(self._rates),
            "scheduler": self.scheduler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores a state of `state_dict`; load the optimizer's state too."""
        self._steps = state["steps"]
        self._advanced = state["advanced"]
        self._rates = list(state["rates"])
        # a copy, since some schedulers remove entries from what they load; "schedule" was the key in older checkpoints
        self.scheduler.load_state_dict(copy.deepcopy(state["scheduler"] if "scheduler" in state else state["schedule"]))

    def _advance(self, scores: Mapping[str, Any] | None = None) -> None:
        self._advanced += 1
        # After the last step there is no next learning rate; OneCycleLR would raise.
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
        # at the end exactly the scheduler's rates
        factor = 1.0 if done >= 1 else self.warmup_factor + (1 - self.warmup_factor) * done
        self._set([rate * factor for rate in self._rates])

    def _current(self) -> list[float | Tensor]:
        rates = (group["lr"] for group in self.optimizer.param_groups)
        return [rate.clone() if isinstance(rate, Tensor) else rate for rate in rates]

    def _set(self, rates: Sequence[float | Tensor]) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            if isinstance(group["lr"], Tensor):  # a compiled or captured step refers to this tensor
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
