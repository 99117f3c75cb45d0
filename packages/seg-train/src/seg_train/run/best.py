"""Which weights of a run are the best, and when it stops early."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from seg_core.progress import Progress
from seg_train.config.schema import EvaluationSection
from seg_train.monitor import Monitor
from seg_train.run.state import Position

__all__ = ["BestScore"]


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
            matrix: confusion matrix of the last weights, with the true classes as rows.

        Returns:
            The weights that are the best so far, `"last"` or `"ema"`; None if they are not.
        """
        score, weights = self.monitor.best_of(row)
        if self._is_absent(matrix):
            score = None
        if score is None:
            self._warn_once()
        is_best = position.update_best(score, self.monitor, self._section.min_delta)
        if self._section.patience is not None and position.stale >= self._section.patience:
            delta = self._section.min_delta
            margin = f" by more than {delta:g} (evaluation.min_delta)" if delta else ""
            self._progress.message(
                f"stopped early: {self.monitor.name} was not better than {position.counted}{margin} in "
                f"{position.stale} evaluations (evaluation.patience)"
            )
            position.finished = True
        return weights if is_best else None

    def _is_absent(self, matrix: Tensor) -> bool:
        """Returns whether the IoU of a class is monitored that has no pixel in val: it is 0 or undefined."""
        label = self.monitor.label
        return label is not None and not bool(matrix[self._labels.index(label)].any())

    def _warn_once(self) -> None:
        if not self._has_warned:
            self._has_warned = True
            absent = "no pixel in val is of this class" if self.monitor.label else "it is not a number"
            self._progress.warn(
                f'evaluation.monitor = "{self.monitor.name}": this score is undefined, since {absent}; it counts '
                'neither for model_best.pt nor for evaluation.patience. Monitor another score, such as "miou"'
            )
