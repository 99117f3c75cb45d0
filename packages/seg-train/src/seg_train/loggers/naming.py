"""Names under which the loggers of other tools show the rows of a run."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["scalars_of_epoch", "scalars_of_step"]

_PLACE = ("kind", "epoch", "step")
_TRAIN = {"train_loss": "train/epoch_loss", "train_miou": "train/miou"}


def scalars_of_step(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yields name and value of everything in a row of `Logger.on_step` that is a finite number."""
    for key, value in row.items():
        if key not in _PLACE and _is_number(value):
            yield ("train/loss" if key == "loss" else key), float(value)


def scalars_of_epoch(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yields name and value of everything in a row of `Logger.on_epoch` that is a finite number.

    Scores are `val/miou` and so on, those of the moving average `val_ema/miou`, the IoU of a class `val/iou/<class>`.
    """
    for key, value in row.items():
        if key in _PLACE:
            continue
        if key in _TRAIN:
            if _is_number(value):
                yield _TRAIN[key], float(value)
            continue
        plain = key.removeprefix("ema_")
        group = "val" if plain == key else "val_ema"
        if plain == "iou_per_class":
            for label, iou in value.items():
                if _is_number(iou):
                    yield f"{group}/iou/{label}", float(iou)
        elif _is_number(value):
            is_score = plain == "val_loss" or plain in _SCORES
            yield (f"{group}/{plain.removeprefix('val_')}" if is_score else key), float(value)


_SCORES = ("miou", "acc", "macc", "fwiou", "dice")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
