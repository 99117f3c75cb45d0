"""The score that determines which weights are best."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from seg_core.errors import ConfigError, nearest
from seg_core.labels.tasks import MULTICLASS
from seg_core.metrics.names import ALL_SCORE_NAMES, SCORE_TITLES, row_names

__all__ = ["Monitor"]


@dataclass(frozen=True)
class Monitor:
    """A score in the rows of evaluations.

    Args:
        name: `val_loss`, a score, or `iou_per_class.<class>`; with the prefix `ema_` for the EMA weights.
        has_ema: whether the run has EMA weights.
        labels: names of the classes; None if they are not known yet.
        task: of the dataset; None if it is not known yet.
        of_either: whether the score of the EMA weights is watched too; the better of both counts.

    Raises:
        ConfigError: if there is no such score.
    """

    name: str
    has_ema: bool = False
    labels: tuple[str, ...] | None = None
    task: str | None = MULTICLASS
    of_either: bool = False

    @classmethod
    def of(cls, name: str | None, has_ema: bool, labels: tuple[str, ...], task: str = MULTICLASS) -> "Monitor":
        """Returns the monitor of a config; without a name mIoU, the better one of last weights and EMA.

        Raises:
            ConfigError: if there is no such score.
        """
        if name is not None:
            return cls(name, has_ema, labels, task)
        return cls("miou", has_ema, labels, task, of_either=has_ema)

    def __post_init__(self) -> None:
        plain = ["val_loss", *(ALL_SCORE_NAMES if self.task is None else row_names(self.task))]
        known = plain + [f"ema_{key}" for key in plain] if self.has_ema else plain
        table, dot, label = self._plain.partition(".")
        is_class = table == "iou_per_class" and bool(dot) and (self.labels is None or label in self.labels)
        if (self._plain in plain or is_class) and (self._plain == self.name or self.has_ema):
            return
        if table == "iou_per_class" and dot and self.labels is not None and not is_class:
            raise ConfigError(
                f'evaluation.monitor = "{self.name}": there is no class {label!r}.{nearest(label, self.labels)} The '
                f"classes are {', '.join(self.labels)}"
            )
        hint = nearest(self.name, known)
        raise ConfigError(
            f'evaluation.monitor = "{self.name}": there is no such score in this run.{hint} Allowed: '
            f"{', '.join(plain)}, iou_per_class.<class>, and with trainer.ema_decay the same with the prefix ema_"
        )

    @property
    def _plain(self) -> str:
        return self.name.removeprefix("ema_")

    @property
    def label(self) -> str | None:
        """The class whose IoU is watched, or None."""
        _, _, label = self.name.partition(".")
        return label or None

    @property
    def title(self) -> str:
        """The score in words, such as `"val Dice"`, `"EMA IoU of road"` or `"EMA val loss"`."""
        plain, of = self._plain, "val" if self._plain == self.name else "EMA"
        if self.label is not None:
            return f"{of} IoU of {self.label}"
        if plain == "val_loss":
            return "val loss" if of == "val" else "EMA val loss"
        return f"{of} {SCORE_TITLES[plain]}"

    def best_of(self, row: Mapping[str, Any]) -> tuple[float | None, str]:
        """Returns the score in a row of an evaluation, and the weights that it belongs to.

        Returns:
            Score: None if it is undefined, such as the IoU of a class that does not occur.
            Weights: `"last"` or `"ema"`; the last ones if both are equal.
        """
        names = [self.name, f"ema_{self.name}"] if self.of_either else [self.name]
        best: tuple[float | None, str] | None = None
        for name in names:
            value = row[name.partition(".")[0]][self.label] if self.label else row.get(name)
            if value is not None and math.isnan(value) and not name.endswith("loss"):
                value = None  # nothing was counted; the loss of a network that diverged is NaN
            if best is None or (value is not None and self.is_better(value, best[0])):
                best = (value, "ema" if name.startswith("ema_") else "last")
        assert best is not None
        return best

    def is_better(self, value: float, best: float | None, min_delta: float = 0.0) -> bool:
        """Returns whether `value` is better than `best` by more than `min_delta`; NaN never is, any other than NaN."""
        if math.isnan(value):
            return False
        if best is None or math.isnan(best):
            return True
        return best - value > min_delta if self.name.endswith("loss") else value - best > min_delta
