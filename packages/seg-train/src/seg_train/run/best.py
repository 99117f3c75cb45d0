"""Which weights of a run are the best, and when it stops early."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from seg_core.progress import Progress
from seg_train.config.schema import EvaluationSection
from seg_train.monitor import Monitor
from seg_train.run.state import Position

__all__ = ["BestScore", "BestWeights"]


@dataclass(frozen=True)
class BestWeights:
    """The best weights of a run, which `model_best.pt` holds.

    Attributes:
        score: name of the monitored score, such as `"miou"`; that of the weights that have it.
        value: its value, 0 to 1 but for losses.
        epoch: epoch of the evaluation, counted from 1; None for a run that an earlier seg-train started.
        step: its step.
        weights: `"last"`, or `"ema"` for their exponential moving average.
    """

    score: str
    value: float
    epoch: int | None
    step: int | None
    weights: str

    def __str__(self) -> str:
        when = "" if self.epoch is None else f" in epoch {self.epoch}, step {self.step}"
        return f"best {self.score} {self.value:.3f}{when}{' (EMA)' if self.weights == 'ema' else ''}"


class BestScore:
    """Watches the monitored score of a run.

    Args:
        monitor: the score.
        section: `min_delta` and `patience`.
        labels: names of the classes.
        progress: shows warnings and the end of the run.
    """

    def __init__(self, monitor: Monitor, section: EvaluationSection, labels: Sequence[str], progress: Progress) -> None:
        self.monitor = monitor
        self._section = section
        self._labels = list(labels)
        self._progress = progress
        self._has_warned = False

    def update(self, position: Position, row: Mapping[str, Any], matrix: Tensor) -> str | None:
        """Compares an evaluation with the best so far, and stops the run if none was better for long.

        Args:
            position: of the run; it is updated.
            row: row of the evaluation.
            matrix: confusion matrix of the last weights, with the true classes as rows, or (K, 2, 2).

        Returns:
            The weights that are the best so far, `"last"` or `"ema"`; None if they are not.
        """
        score, weights = self.monitor.best_of(row)
        if self._is_absent(matrix):
            score = None
        if score is None:
            self._warn_once()
        is_best = position.update_best(score, self.monitor, self._section.min_delta, weights)
        if self._section.patience is not None and position.stale >= self._section.patience:
            delta = self._section.min_delta
            margin = f" by more than {delta:g} (evaluation.min_delta)" if delta else ""
            self._progress.message(
                f"stopped early: {self.monitor.name} was not better than {position.counted}{margin} in "
                f"{position.stale} evaluations (evaluation.patience)"
            )
            position.finished = True
        return weights if is_best else None

    def of(self, position: Position) -> BestWeights | None:
        """Returns the best weights so far, or None if no evaluation had a score."""
        if position.best is None:
            return None
        return BestWeights(
            self.monitor.name, position.best, position.best_epoch, position.best_step, position.best_weights
        )

    def _is_absent(self, matrix: Tensor) -> bool:
        """Returns whether the IoU of a class is monitored that has no pixel in val: it is 0 or undefined."""
        label = self.monitor.label
        return label is not None and not bool(_pixels(matrix)[self._labels.index(label)].any())

    def _warn_once(self) -> None:
        if not self._has_warned:
            self._has_warned = True
            absent = "no pixel in val is of this class" if self.monitor.label else "it is not a number"
            self._progress.warn(
                f'evaluation.monitor = "{self.monitor.name}": this score is undefined, since {absent}; it counts '
                'neither for model_best.pt nor for evaluation.patience. Monitor another score, such as "miou"'
            )


def _pixels(matrix: Tensor) -> Tensor:
    """Returns the true pixels of each class by prediction, int64 (K, ...)."""
    return matrix if matrix.ndim == 2 else matrix[:, 1]
