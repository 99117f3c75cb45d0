"""Names of a row's values in TensorBoard, W&B and MLflow, and titles of images."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from seg_core.checks import is_number
from seg_core.metrics.names import ALL_SCORE_NAMES

__all__ = ["image_name", "scalars_of_epoch", "scalars_of_step", "shortened", "title_of"]

_PLACE = ("kind", "epoch", "step")
_MAX_NAME = 32  # characters of a file name in a title: two titles fit beside each other
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
        if plain.endswith("_per_class"):
            for label, number in value.items():
                if is_number(number):
                    yield f"{group}/{plain.removesuffix('_per_class')}/{label}", float(number)
        elif is_number(value):
            is_score = plain == "val_loss" or plain in ALL_SCORE_NAMES
            yield (f"{group}/{plain.removeprefix('val_')}" if is_score else key), float(value)


def image_name(dataset: Any, index: int) -> str:
    """Returns the name of a sample's image file without its folder, or "" if the dataset has no names of files."""
    file_names = getattr(dataset, "file_names", None)
    name = next(iter(file_names(index)), "") if file_names is not None else ""
    return re.split(r"[/\\]", str(name).rstrip("/\\"))[-1]


def title_of(split: str, index: int, name: str) -> str:
    """Returns the title of a sample.

    >>> title_of("val", 3, "berlin_000000_000019_leftImg8bit.png"), title_of("val", 3, "")
    ('val 3: berlin_000000_00…leftImg8bit.png', 'val 3')
    """
    return f"{split} {index}: {shortened(name, _MAX_NAME)}" if name else f"{split} {index}"


def shortened(text: str, limit: int) -> str:
    """Returns a text of at most `limit` characters; the middle of a longer one is left out, as `abc…xyz`."""
    if len(text) <= limit:
        return text
    end = (limit - 1) // 2
    return f"{text[: limit - 1 - end]}…{text[len(text) - end :]}"
