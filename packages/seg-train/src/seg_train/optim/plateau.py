"""Lowers the learning rate when a score no longer improves."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.optim import lr_scheduler

from seg_core.errors import InvalidArgumentError, nearest
from seg_core.metrics.names import ALL_SCORE_NAMES

__all__ = ["ReduceLROnPlateau"]

_SCORES = (*ALL_SCORE_NAMES, "loss")


class ReduceLROnPlateau(lr_scheduler.ReduceLROnPlateau):
    """Lowers the learning rate when a score no longer improves: torch's class, with the score given by name.

    Args:
        optimizer: its learning rate is set.
        monitor: score on the val split: `"miou"`, `"acc"`, `"macc"`, `"fwiou"`, `"dice"` or `"loss"`; of binary and
            multilabel tasks `"precision"`, `"recall"`, `"specificity"` and `"ap"` in place of `"macc"` and `"fwiou"`.
        mode: whether lower (`"min"`) or higher (`"max"`) is better; None for lower for `"loss"`, else higher.
        factor: below 1, by which the learning rate is multiplied.
        patience: number of epochs without improvement before the learning rate is lowered.
        threshold: minimum improvement that counts.
        threshold_mode: whether `threshold` is relative to the best score (`"rel"`) or absolute (`"abs"`).
        cooldown: number of epochs after a reduction in which epochs without improvement are not counted.
        min_lr: lower bound of the learning rate, one number or one per parameter group.
        eps: minimum change of the learning rate; smaller ones are skipped.

    Raises:
        InvalidArgumentError: if there is no such score, or a mode is not allowed.
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
            raise InvalidArgumentError(f"mode must be 'min' or 'max', got {mode!r}; without it, monitor decides")
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
        """Returns the watched score.

        Raises:
            InvalidArgumentError: if `scores` do not contain it.
        """
        if self.monitor not in scores:
            raise InvalidArgumentError(
                f"ReduceLROnPlateau watches monitor={self.monitor!r}, which this evaluation does not compute; choose "
                f"one of {', '.join(name for name in _SCORES if name in scores) or 'none'}"
            )
        return float(scores[self.monitor])
