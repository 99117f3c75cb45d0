"""Tiny invented datasets with the exact official names, to try code and configs before the real files are there."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg_core.errors import InvalidArgumentError, WriteError, nearest
from seg_core.labels.metadata import resolve_metadata
from seg_core.registry import DATASETS
from seg_datasets.doctor.fake_colors import write_colors
from seg_datasets.doctor.fake_mapillary import write_config
from seg_datasets.doctor.fake_mat import write_pascal_context, write_sbd
from seg_datasets.reading.base import Edition, OfficialDataset
from seg_datasets.reading.layout import Layout, Part

__all__ = ["fake"]

Ids = npt.NDArray[np.integer[Any]]


def fake(
    name: str,
    folder: str | os.PathLike[str],
    *,
    edition: str | None = None,
    prefix: str | None = None,
    images: int = 0,
    masks: int = 0,
    size: tuple[int, int] = (24, 32),
) -> Path:
    """Writes a dataset of a few invented images in its official layout and returns the folder.

    Names, folders, file formats and lists are the official ones; images are noise, and every mask holds every raw id
    that the official masks may hold, in the order of the ids, row by row.

    Args:
        name: a dataset of official layout, one of `list_datasets()` but `FolderDataset` and `Shapes`.
        folder: where to write; it must be empty or not there yet.
        edition: which of the dataset's versions, as `"v1.2"`; the first if None.
        prefix: folder below `folder` that the tree is put into, one of the layout's `prefixes`; the one that the
            official archive makes if None.
        images: which of the ways in which images are known to lie, from 0.
        masks: the same for the masks.
        size: (height, width) of the images.

    Raises:
        UnknownNameError: if there is no such dataset.
        InvalidArgumentError: if it has no official layout, or no such edition, prefix or way.
        WriteError: if `folder` holds something, or cannot be written to.
    """
    chosen, layout = _edition(name, edition)
    root = Path(folder).expanduser()
    if root.exists() and any(root.iterdir()):
        raise WriteError(f"{root} is not empty; give a folder that is empty or not there, so that nothing is mixed up")
    if prefix is not None and prefix not in layout.prefixes:
        raise InvalidArgumentError(f"prefix must be one of {', '.join(map(repr, layout.prefixes))}, got {prefix!r}")
    below = root / (layout.top if prefix is None else prefix)
    for argument, choice in (("images", images), ("masks", masks)):
        most = max(len(getattr(part, argument)) for part in layout.parts.values()) - 1
        if not 0 <= choice <= most:
            raise InvalidArgumentError(f"{argument} must be from 0 to {most}, got {choice}")
    write_mask = _WRITERS.get(name, _write_gray)
    rng = np.random.default_rng(0)
    for split, part in layout.parts.items():
        for key in layout.examples.get(split, ()):
            pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
            _write_image(below / _path(part.images, images, key), pixels)
            if part.masks:
                mask_path = below / _path(part.masks, masks, key)
                mask_path.parent.mkdir(parents=True, exist_ok=True)
                write_mask(mask_path, _all_ids(chosen, size), chosen)
        _write_listing(below, layout, split, part)
    for extra in _EXTRAS.get(name, ()):
        extra(below, chosen)
    return root


def _edition(name: str, edition: str | None) -> tuple[Edition, Layout]:
    dataset_class = DATASETS.get(name)
    if not (isinstance(dataset_class, type) and issubclass(dataset_class, OfficialDataset)):
        raise InvalidArgumentError(f"dataset {name!r} has no official layout to invent files for")
    editions = dataset_class.editions or {"": dataset_class.edition}
    if edition is None:
        edition = next(iter(editions))
    if edition not in editions:
        raise InvalidArgumentError(
            f"{name} has no edition {edition!r}.{nearest(edition, editions)} Allowed: {', '.join(editions)}"
        )
    return editions[edition], editions[edition].layout


def _path(patterns: tuple[str, ...], choice: int, key: str) -> str:
    path = patterns[min(choice, len(patterns) - 1)]  # splits are not known in the same number of ways
    stars = path.count("*")
    parts = key.split("/")
    # a pattern with fewer stars leaves the first parts of the key, the folders, out
    for part in parts[len(parts) - stars :]:
        path = path.replace("*", part, 1)
    return path


def _all_ids(edition: Edition, size: tuple[int, int]) -> Ids:
    """Returns (H, W): the raw ids of the label map in turn."""
    ids = np.array(sorted(edition.label_map.mapping))
    return np.resize(ids, size)


def _write_image(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def _write_listing(below: Path, layout: Layout, split: str, part: Part) -> None:
    if part.listing is None or split not in layout.examples:
        return
    path = below / part.listing
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{key.rsplit('/', 1)[-1]}\n" for key in layout.examples[split]), encoding="utf-8")


def _write_gray(path: Path, ids: Ids, edition: Edition) -> None:  # noqa: ARG001 - all writers take it
    Image.fromarray(ids.astype(np.uint8)).save(path)


def _write_palette(path: Path, ids: Ids, edition: Edition) -> None:
    image = Image.fromarray(ids.astype(np.uint8)).convert("P")
    colors = resolve_metadata(edition.classes).colors
    palette = np.zeros((256, 3), np.uint8)
    for raw, train in edition.label_map.mapping.items():
        if isinstance(train, int):
            palette[raw] = colors[train]
    image.putpalette(palette.tobytes())
    image.save(path)


_WRITERS: dict[str, Callable[[Path, Ids, Edition], None]] = {
    "MapillaryVistas": _write_palette,
    "PascalContext": write_pascal_context,
    "Potsdam": write_colors,
    "SBD": write_sbd,
    "VOC": _write_palette,
    "Vaihingen": write_colors,
    "iSAID": write_colors,
}
_EXTRAS: dict[str, tuple[Callable[[Path, Edition], None], ...]] = {"MapillaryVistas": (write_config,)}
