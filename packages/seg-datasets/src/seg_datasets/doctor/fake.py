"""Writes tiny fake datasets with the official names, to try code and configs before the real files are available."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg_core.checks import check_integer
from seg_core.errors import InvalidArgumentError, WrongTargetError, nearest
from seg_core.files.atomic import check_folder
from seg_core.labels.metadata import resolve_metadata
from seg_core.registry import DATASETS
from seg_datasets.doctor.fake_colors import write_colors
from seg_datasets.doctor.fake_mapillary import write_config
from seg_datasets.doctor.fake_mat import write_pascal_context, write_sbd
from seg_datasets.reading.base import Edition, OfficialDataset
from seg_datasets.reading.layout import Layout, SplitFiles

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
    """Writes a fake dataset of a few images in the official layout and returns the folder.

    Names, folders, file formats and lists are the official ones. Images are noise. Every mask contains all raw ids that
    the official masks may contain, in ascending order, row by row.

    Args:
        name: a dataset with an official layout, so not `FolderDataset`, `Shapes` or `Unified`.
        folder: folder to write to; it must be empty or not exist yet.
        edition: the version of the dataset, such as `"v1.2"`; None for the first.
        prefix: folder below `folder` for the tree, one of the layout's `prefixes`; None for the one that the official
            archive creates.
        images: index of the known folder layout of the images, from 0.
        masks: index of the known folder layout of the masks, from 0.
        size: (height, width) of the images, in pixels.

    Raises:
        UnknownNameError: if there is no such dataset.
        InvalidArgumentError: if the dataset has no official layout, or no such edition, prefix or folder layout, or if
            the size is not one of an image.
        WrongTargetError: if `folder` is not empty, or is a file.
        WriteError: if it cannot be written to.
    """
    for length in size:
        check_integer("size", length)
    chosen, layout = _edition(name, edition)
    root = Path(folder).expanduser()
    check_folder(root, f"folder {root}")
    if root.exists() and any(root.iterdir()):
        raise WrongTargetError(f"{root} is not empty; choose an empty or new folder, to keep fake and real files apart")
    if prefix is not None and prefix not in layout.prefixes:
        raise InvalidArgumentError(f"prefix must be one of {', '.join(map(repr, layout.prefixes))}, got {prefix!r}")
    below = root / (layout.top if prefix is None else prefix)
    for argument, choice in (("images", images), ("masks", masks)):
        last = max(len(getattr(files, argument)) for files in layout.splits.values()) - 1
        if not 0 <= choice <= last:
            raise InvalidArgumentError(f"{argument} must be from 0 to {last}, got {choice}")
    write_mask = _WRITERS.get(name, _write_gray)
    rng = np.random.default_rng(0)
    for split, files in layout.splits.items():
        for key in layout.examples.get(split, ()):
            pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
            _write_image(below / _path(files.images, images, key), pixels)
            if files.masks:
                mask_path = below / _path(files.masks, masks, key)
                mask_path.parent.mkdir(parents=True, exist_ok=True)
                write_mask(mask_path, _all_ids(chosen, size), chosen)
        _write_listing(below, layout, split, files)
    for extra in _EXTRAS.get(name, ()):
        extra(below, chosen)
    return root


def _edition(name: str, edition: str | None) -> tuple[Edition, Layout]:
    dataset_class = DATASETS.get(name)
    if not (isinstance(dataset_class, type) and issubclass(dataset_class, OfficialDataset)):
        raise InvalidArgumentError(f"dataset {name!r} has no official layout, so there is nothing to fake")
    editions = dataset_class.editions or {"": dataset_class.edition}
    if edition is None:
        edition = next(iter(editions))
    if edition not in editions:
        raise InvalidArgumentError(
            f"{name} has no edition {edition!r}.{nearest(edition, editions)} Allowed: {', '.join(editions)}"
        )
    return editions[edition], editions[edition].layout


def _path(patterns: tuple[str, ...], choice: int, key: str) -> str:
    path = patterns[min(choice, len(patterns) - 1)]  # some splits have fewer patterns than others
    stars = path.count("*")
    names = key.split("/")
    # a pattern with fewer stars skips the first elements of the key, which are folders
    for name in names[len(names) - stars :]:
        path = path.replace("*", name, 1)
    return path


def _all_ids(edition: Edition, size: tuple[int, int]) -> Ids:
    """Returns a mask (H, W) that repeats the raw ids of the label map in ascending order."""
    ids = np.array(sorted(edition.label_map.mapping))
    return np.resize(ids, size)


def _write_image(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def _write_listing(below: Path, layout: Layout, split: str, files: SplitFiles) -> None:
    if files.listing is None or split not in layout.examples:
        return
    path = below / files.listing
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{key.rsplit('/', 1)[-1]}\n" for key in layout.examples[split]), encoding="utf-8")


def _write_gray(path: Path, ids: Ids, edition: Edition) -> None:  # noqa: ARG001 - all writers have this argument
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
