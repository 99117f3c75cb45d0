"""The score that determines which weights are best."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from seg_core.errors import ConfigError, nearest
from seg_core.metrics.names import SCORE_NAMES

__all__ = ["Monitor", "default_monitor"]


def default_monitor(has_ema: bool) -> str:
    """Returns the score that is watched by default: mIoU, of the EMA weights if there are any."""
    return "ema_miou" if has_ema else "miou"


@dataclass(frozen=True)
class Monitor:
    """A score in the rows of evaluations.

    Args:
        name: `val_loss`, a score, or `iou_per_class.<class>`; with the prefix `ema_` for the EMA weights.
        has_ema: whether the run has EMA weights.
        labels: names of the classes; None if they are not known yet.

    Raises:
        ConfigError: if there is no such score.
    """

    name: str
    has_ema: bool = False
    labels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        plain = ["val_loss", *SCORE_NAMES]
        known = plain + [f"ema_{key}" for key in plain] if self.has_ema else plain
        table, dot, label = self._plain.partition(".")
        is_class = table == "iou_per_class" and bool(dot) and (self.labels is None or label in self.labels)
        if (self._plain in plain or is_class) and (self.weights == "last" or self.has_ema):
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
    def weights(self) -> str:
        """The weights that the score belongs to: `"last"` or `"ema"`."""
        return "ema" if self.name.startswith("ema_") else "last"

    @property
    def _plain(self) -> str:
        return self.name.removeprefix("ema_")

    def value(self, row: Mapping[str, Any]) -> float:
        """Returns the score in a row; NaN if it is undefined."""
        table, _, label = self.name.partition(".")
        value = row[table][label] if label else row.get(self.name)
        return math.nan if value is None else float(value)

    def is_better(self, value: float, best: float | None, min_delta: float = 0.0) -> bool:
        """Returns whether `value` is better than `best` by more than `min_delta`; NaN never is."""
        if math.isnan(value):
            return False
        if best is None:
            return True
        return best - value > min_delta if self.name.endswith("loss") else value - best > min_delta
