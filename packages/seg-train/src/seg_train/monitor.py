"""The score that says which weights are best."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from seg_core.errors import ConfigError, nearest

__all__ = ["SCORES", "Monitor", "default_monitor"]

# of a confusion matrix, as rows of evaluations have them
SCORES = ("miou", "acc", "macc", "fwiou", "dice")


def default_monitor(has_average: bool) -> str:
    """Returns what is watched where the config does not say: mIoU, of the moving average where there is one."""
    return "ema_miou" if has_average else "miou"


@dataclass(frozen=True)
class Monitor:
    """A score in the rows of evaluations.

    Args:
        name: `val_loss`, a score, or `iou_per_class.<class>`; with `ema_` before it, of the moving average.
        has_average: whether the run has one.
        labels: names of the classes; None where they are not known yet.

    Raises:
        ConfigError: if there is no such score.
    """

    name: str
    has_average: bool = False
    labels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        plain = ["val_loss", *SCORES]
        known = plain + [f"ema_{key}" for key in plain] if self.has_average else plain
        table, dot, label = self._plain.partition(".")
        is_class = table == "iou_per_class" and bool(dot) and (self.labels is None or label in self.labels)
        if (self._plain in plain or is_class) and (self.weights == "last" or self.has_average):
            return
        if table == "iou_per_class" and dot and self.labels is not None and not is_class:
            raise ConfigError(
                f'evaluation.monitor = "{self.name}": there is no class {label!r}.{nearest(label, self.labels)} The '
                f"classes are {', '.join(self.labels)}"
            )
        hint = nearest(self.name, known)
        raise ConfigError(
            f'evaluation.monitor = "{self.name}": there is no such score in this run.{hint} Allowed: '
            f"{', '.join(plain)}, iou_per_class.<class>, and with trainer.ema_decay these with ema_ before them"
        )

    @property
    def weights(self) -> str:
        """Those that it is a score of: `"last"` or `"ema"`."""
        return "ema" if self.name.startswith("ema_") else "last"

    @property
    def _plain(self) -> str:
        return self.name.removeprefix("ema_")

    def value(self, row: Mapping[str, Any]) -> float:
        """Returns the score in a row; nan where it is not defined."""
        table, _, label = self.name.partition(".")
        value = row[table][label] if label else row.get(self.name)
        return math.nan if value is None else float(value)

    def is_better(self, value: float, best: float | None, least: float = 0.0) -> bool:
        """Returns whether `value` is better than `best`, by more than `least`; nan is never."""
        if math.isnan(value):
            return False
        if best is None:
            return True
        return best - value > least if self.name.endswith("loss") else value - best > least
