"""The state of a run: its position, and everything else that a checkpoint restores."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from accelerate import Accelerator
from accelerate.utils import gather_object

from seg_core.checks import is_integer, is_number
from seg_core.text import short
from seg_train.loggers.group import LoggerGroup
from seg_train.monitor import Monitor
from seg_train.optim.warmup import Scheduler
from seg_train.run.checkpoint import get_random_state
from seg_train.run.meters import RunningScores, StepWindow, memory_mib
from seg_train.run.model import RunNetwork
from seg_train.run.rehearsal import check_scaler

__all__ = ["Position", "RunState"]


@dataclass
class Position:
    """The progress of a run.

    Attributes:
        step: optimizer steps done.
        epoch: epochs finished.
        batches: batches used of the current epoch.
        evaluated: step of the last evaluation, or None.
        seconds: training time so far, over all processes that worked on the run.
        best: best value of the monitored score so far, or None.
        best_epoch: epoch of that evaluation, counted from 1; None if it is not known.
        best_step: its step.
        best_weights: the weights that have it, `"last"` or `"ema"`.
        counted: value of the monitored score that last counted as better for `evaluation.patience`, or None.
        stale: evaluations since then.
        finished: whether the run is at its end.
    """

    step: int = 0
    epoch: int = 0
    batches: int = 0
    evaluated: int | None = None
    seconds: float = 0.0
    best: float | None = None
    best_epoch: int | None = None
    best_step: int | None = None
    best_weights: str = "last"
    counted: float | None = None
    stale: int = 0
    finished: bool = False

    def update_best(self, value: float | None, monitor: Monitor, min_delta: float, weights: str = "last") -> bool:
        """Compares the score of an evaluation with the best so far; returns whether it is better.

        For early stopping it is compared with the last score that counted, as in Keras and Lightning, so that small
        steps add up. A score that is undefined does not count as an evaluation.

        Args:
            value: the monitored score; None if it is undefined.
            monitor: what is better.
            min_delta: how much better it must be to reset the count of evaluations without a better score.
            weights: the weights that have the score, `"last"` or `"ema"`.
        """
        if value is None:
            return False
        if monitor.is_better(value, self.counted, min_delta):
            self.counted, self.stale = value, 0
        else:
            self.stale += 1
        is_best = monitor.is_better(value, self.best)
        if is_best:
            self.best, self.best_weights = value, weights
            self.best_epoch, self.best_step = self.epoch + 1, self.step
        return is_best

    def reset_best(self) -> None:
        """Forgets the best score; the next evaluation sets it."""
        self.best, self.best_epoch, self.best_step, self.best_weights = None, None, None, "last"
        self.counted, self.stale = None, 0

    @classmethod
    def restored(cls, stored: Mapping[str, Any]) -> "Position":
        """Returns the position in a checkpoint; former versions compared with the best score.

        Raises:
            ValueError: if a count is none.
            Exception: if it has other keys.
        """
        found = cls(**{"counted": stored["best"], **stored})
        for name in ("step", "epoch", "batches", "stale"):
            if not is_integer(getattr(found, name), 0):
                raise ValueError(f"position.{name} = {short(getattr(found, name))}: must be an integer >= 0")
        if not is_number(found.seconds) or not isinstance(found.finished, bool):
            raise ValueError("position.seconds must be a number, and position.finished true or false")
        return found


@dataclass
class RunState:
    """Everything that changes during a run.

    Attributes:
        accelerator: with the gradient scaler.
        network: weights, EMA and optimizer.
        scheduler: learning-rate scheduler, or None.
        running: training scores of the current epoch.
        window: loss and speed since the last row of step metrics.
        loggers: of the run.
        position: progress of the run.
        last_row: row of the last evaluation.
    """

    accelerator: Accelerator
    network: RunNetwork
    scheduler: Scheduler | None
    running: RunningScores
    window: StepWindow
    loggers: LoggerGroup
    position: Position
    last_row: dict[str, Any] = field(default_factory=dict)
    _start: float = field(default=0.0, init=False)

    def start_clock(self) -> None:
        """Starts measuring the training time, added to that of the position."""
        self._start = time.perf_counter() - self.position.seconds

    def measurements(self) -> dict[str, float]:
        """Returns learning rate, speed, memory and time for a row."""
        return {
            "lr": self.learning_rate(),
            "images_per_second": self.window.images_per_second(),
            "data_wait": self.window.data_wait(),
            "memory_mib": memory_mib(self.accelerator.device),
            "seconds": self._seconds(),
        }

    def learning_rate(self) -> float:
        """Returns the learning rate of the first parameter group."""
        return float(self.network.optimizer.param_groups[0]["lr"])

    def collect(self) -> dict[str, Any]:
        """Returns the state as plain containers and tensors; every process must call it.

        Only the main process receives all of it.
        """
        self.position.seconds = self._seconds()
        shared = {
            **self.network.state(),
            "running": self.running.state(),
            "window": self.window.state(),
            "random": gather_object([get_random_state()]),
        }
        if not self.accelerator.is_main_process:
            return shared
        scaler = self.accelerator.scaler
        return {
            **shared,
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "position": asdict(self.position),
            "last_row": self.last_row,
            "loggers": self.loggers.state(),
        }

    def restore_meters(self, content: Mapping[str, Any]) -> None:
        """Restores what `collect` returned of scores, loggers and gradient scaler."""
        if self.accelerator.scaler is not None and content["scaler"] is not None:
            check_scaler(content["scaler"])
            self.accelerator.scaler.load_state_dict(content["scaler"])
        self.last_row = content["last_row"]
        self.running.load_state(content["running"])
        self.window.load_state(content["window"])
        self.loggers.load_state(content["loggers"], self.position.step)

    def _seconds(self) -> float:
        return time.perf_counter() - self._start
