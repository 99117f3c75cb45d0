"""Names of a row's values in TensorBoard and W&B."""

from collections.abc import Iterator, Mapping
from typing import Any

from seg_core.checks import is_number
from seg_core.metrics.names import SCORE_NAMES

__all__ = ["scalars_of_epoch", "scalars_of_step"]

_PLACE = ("kind", "epoch", "step")
_TRAIN = {"train_loss": "train/epoch_loss", "train_miou": "train/miou"}


def scalars_of_step(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yields name and value of each finite number in a row of `Logger.on_step`."""
    for key, value in row.items():
        if key not in _PLACE and is_number(value):
            yield ("train/loss" if key == "loss" else key), float(value)


def scalars_of_epoch(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yields name and value of each finite number in a row of `Logger.on_epoch`.

    Scores are `val/miou` and so on, those of the EMA `val_ema/miou`, the IoU of a class `val/iou/<class>`.
    """
    for key, value in row.items():
        if key in _PLACE:
            continue
        if key in _TRAIN:
            if is_number(value):
                yield _TRAIN[key], float(value)
            continue
        plain = key.removeprefix("ema_")
        group = "val" if plain == key else "val_ema"
        if plain == "iou_per_class":
            for label, iou in value.items():
                if is_number(iou):
                    yield f"{group}/iou/{label}", float(iou)
        elif is_number(value):
            is_score = plain == "val_loss" or plain in SCORE_NAMES
            yield (f"{group}/{plain.removeprefix('val_')}" if is_score else key), float(value)
