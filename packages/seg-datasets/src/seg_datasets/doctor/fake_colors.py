"""Fake color masks."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg_core.files.image_writing import save_image
from seg_datasets.reading.base import Edition
from seg_datasets.reading.color_masks import ColorReader

__all__ = ["write_colors"]


def write_colors(path: Path, ids: npt.NDArray[np.integer[Any]], edition: Edition) -> None:
    """Writes a mask (H, W) of raw ids in the colors of the edition's masks.

    Ids without a color are replaced by the lowest id with a color. In a folder `ann_dir`, the output of
    mmsegmentation's converter, the image contains the ids themselves.

    Args:
        path: the file; its suffix selects PNG or TIFF.
        ids: raw ids.
        edition: an edition with a `ColorReader` as mask reader.
    """
    reader = edition.mask_reader
    assert isinstance(reader, ColorReader), "only editions with color masks are written here"
    ids = np.where(np.isin(ids, list(reader.colors)), ids, min(reader.colors))
    if "ann_dir" in path.parts:
        save_image(path, Image.fromarray(ids.astype(np.uint8)))
        return
    table = np.zeros((max(reader.colors) + 1, 3), np.uint8)
    for index, color in reader.colors.items():
        table[index] = color
    save_image(path, Image.fromarray(table[ids]))
