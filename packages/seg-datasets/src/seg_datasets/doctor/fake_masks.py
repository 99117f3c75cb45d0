"""Writes the masks of fake datasets: gray, palette, color and MATLAB files of raw ids."""

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg_core.files.image_writing import save_image
from seg_core.labels.metadata import resolve_metadata
from seg_datasets.doctor.fake_colors import write_colors
from seg_datasets.doctor.fake_mat import write_pascal_context, write_sbd
from seg_datasets.reading.base import Edition

__all__ = ["Ids", "WriteMask", "all_ids", "mask_writer", "palette_of", "write_palette"]

Ids = npt.NDArray[np.integer[Any]]
WriteMask = Callable[[Path, Ids, Edition], None]


def mask_writer(name: str) -> WriteMask:
    """Returns the function that writes a mask (H, W) of raw ids in the format of a dataset."""
    return _WRITERS.get(name, _write_gray)


def all_ids(edition: Edition, size: tuple[int, int], key: str) -> Ids:
    """Returns a mask (H, W) of square areas with sharp edges, in which every raw id of the label map occurs.

    The squares are as large as fits; the order of the ids differs from key to key. A mask with fewer pixels than there
    are ids holds the first ones.

    Args:
        edition: has the label map.
        size: (H, W).
        key: name of the mask, which decides the order.
    """
    ids = np.array(sorted(edition.label_map.mapping))
    height, width = size
    if height * width < len(ids):
        return np.resize(ids, size)
    side = max(s for s in range(1, min(size) + 1) if (height // s) * (width // s) >= len(ids))
    rows, columns = height // side, width // side
    shuffled = np.random.default_rng(zlib.crc32(key.encode())).permutation(ids)
    squares = np.resize(shuffled, (rows, columns)).repeat(side, axis=0).repeat(side, axis=1)
    return np.pad(squares, ((0, height - rows * side), (0, width - columns * side)), mode="edge")


def palette_of(edition: Edition) -> npt.NDArray[np.uint8]:
    """Returns the palette (256, 3) of a mask: the color of the class of each raw id, black elsewhere."""
    colors = resolve_metadata(edition.classes).colors
    palette = np.zeros((256, 3), np.uint8)
    for raw, train in edition.label_map.mapping.items():
        if isinstance(train, int):
            palette[raw] = colors[train]
    return palette


def write_palette(path: Path, ids: Ids, edition: Edition) -> None:
    """Writes a PNG with a palette, whose indices are the ids."""
    image = Image.fromarray(ids.astype(np.uint8)).convert("P")
    image.putpalette(palette_of(edition).tobytes())
    save_image(path, image)


def _write_gray(path: Path, ids: Ids, edition: Edition) -> None:  # noqa: ARG001 - all writers have this argument
    save_image(path, Image.fromarray(ids.astype(np.uint8)))


_WRITERS: dict[str, WriteMask] = {
    "FolderDataset": write_palette,
    "MapillaryVistas": write_palette,
    "PascalContext": write_pascal_context,
    "Potsdam": write_colors,
    "SBD": write_sbd,
    "VOC": write_palette,
    "Vaihingen": write_colors,
    "iSAID": write_colors,
}
