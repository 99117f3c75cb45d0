"""Writes tiny fake datasets with the official names, to try code and configs before the real files are available."""

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg_core.checks import check_integer
from seg_core.errors import InvalidArgumentError, UserError, WrongTargetError
from seg_core.files.atomic import check_folder, write_error
from seg_core.files.image_writing import save_image
from seg_core.labels.metadata import resolve_metadata
from seg_core.labels.tasks import MULTICLASS
from seg_datasets.doctor.fake_channels import FakeChannels, write_noise
from seg_datasets.doctor.fake_folder import write_classes
from seg_datasets.doctor.fake_mapillary import write_config
from seg_datasets.doctor.fake_masks import all_ids, mask_writer
from seg_datasets.doctor.fake_names import keys_of_splits
from seg_datasets.doctor.fake_tasks import FakeTask
from seg_datasets.doctor.faults import Planted, check_faults, images_needed, plant_all
from seg_datasets.doctor.tree import FREE, Form, find_edition, find_tree
from seg_datasets.reading.layout import Layout

__all__ = ["Fake", "fake", "write_fake"]


@dataclass(frozen=True)
class Fake:
    """A fake dataset.

    Attributes:
        folder: its folder.
        planted: what was done to it, in the order in which it was done.
    """

    folder: Path
    planted: Sequence[Planted]


def fake(
    name: str,
    folder: str | os.PathLike[str],
    *,
    edition: str | None = None,
    prefix: str | None = None,
    images: int = 0,
    masks: int = 0,
    size: tuple[int, int] = (24, 32),
    images_per_split: int | None = None,
    faults: Sequence[str] = (),
    channels: int = 3,
    bits: int = 8,
    task: str = MULTICLASS,
) -> Path:
    """Writes a fake dataset of a few images in the official layout and returns the folder.

    Names, folders, file formats and lists are the official ones; `FolderDataset` gets a folder per split and
    `classes.toml`. Images are noise. Masks have areas with sharp edges; every mask contains all raw ids that the
    official masks may contain. Without faults there is nothing to find for `seg datasets check`.

    Args:
        name: a dataset with a layout on disk, so not `Shapes` or `Unified`.
        folder: folder to write to; it must be empty or not exist yet.
        edition: the version of the dataset, such as `"v1.2"`; None for the first.
        prefix: folder below `folder` for the tree, one of the layout's `prefixes`; None for the one that the official
            archive creates.
        images: index of the known folder layout of the images, from 0.
        masks: index of the known folder layout of the masks, from 0.
        size: (height, width) of the images, in pixels.
        images_per_split: number of images of each split; None for the few with official names, or as many as the
            faults need.
        faults: kinds of faults to plant, such as `"off-by-one"`; `seg_datasets.doctor.kinds.KINDS` lists them. Each is
            planted in files of its own, and every split keeps an image and a mask without a fault, except from
            faults of all masks.
        channels: number of channels of the images of a `FolderDataset`. With others than three of 8 bits the three
            classes differ in the last channel alone, so that a network learns them from it or not at all; the images
            are PNG or GeoTIFF, and `classes.toml` describes the channels.
        bits: of a sample: 8, 16 (reflectances, 0 to 10000), or 32 for floating-point numbers from 0 to 1.
        task: of a `FolderDataset`: `"binary"` draws thin vessels, about 5 % of the pixels, `"multilabel"` three discs
            that overlap. A network learns both from the colors.

    Raises:
        UnknownNameError: if there is no such dataset.
        InvalidArgumentError: if the dataset has no layout on disk, or no such edition, prefix or folder layout, if
            the size is not one of an image, if there is no such fault or the dataset's files cannot have it, or if two
            faults exclude each other.
        WrongTargetError: if `folder` is not empty, or is a file.
        WriteError: if it cannot be written to; what was written is removed.
    """
    return write_fake(
        name,
        folder,
        edition=edition,
        prefix=prefix,
        images=images,
        masks=masks,
        size=size,
        images_per_split=images_per_split,
        faults=faults,
        channels=channels,
        bits=bits,
        task=task,
    ).folder


def write_fake(
    name: str,
    folder: str | os.PathLike[str],
    *,
    edition: str | None = None,
    prefix: str | None = None,
    images: int = 0,
    masks: int = 0,
    size: tuple[int, int] = (24, 32),
    images_per_split: int | None = None,
    faults: Sequence[str] = (),
    channels: int = 3,
    bits: int = 8,
    task: str = MULTICLASS,
) -> Fake:
    """Does what `fake` does, and returns what was planted too."""
    own: FakeChannels | FakeTask | None = None
    if task != MULTICLASS:
        own = FakeTask(task)
        if name != FREE or faults or (channels, bits) != (3, 8):
            what = f"faults ({', '.join(faults)})" if faults else f"channels = {channels} and bits = {bits}"
            raise InvalidArgumentError(
                f"task = {task!r} is of a {FREE} without faults, of three channels of 8 bits; leave it out for "
                f"{what if name == FREE else name}"
            )
    elif (channels, bits) != (3, 8):
        own = FakeChannels(channels, bits)
        if name != FREE or faults:
            what = f"faults ({', '.join(faults)})" if faults else name
            raise InvalidArgumentError(
                f"channels = {channels} and bits = {bits} are of a {FREE} without faults; leave them out for {what}"
            )
    try:
        return _write(name, folder, edition, prefix, images, masks, size, images_per_split, faults, own)
    except UserError:
        raise
    except OSError as error:
        raise write_error(f"write a fake {name} to {os.fspath(folder)}", error) from error


def _write(
    name: str,
    folder: str | os.PathLike[str],
    edition: str | None,
    prefix: str | None,
    images: int,
    masks: int,
    size: tuple[int, int],
    images_per_split: int | None,
    faults: Sequence[str],
    own: FakeChannels | FakeTask | None,
) -> Fake:
    for length in size:
        check_integer("size", length)
    if images_per_split is not None:
        check_integer("images_per_split", images_per_split)
    chosen = find_edition(name, edition) if own is None else own.edition
    layout = chosen.layout
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
    train = layout.splits["train"]
    check_faults(
        faults, Form(name, chosen, *(_pattern(p, c) for p, c in ((train.images, images), (train.masks, masks))))
    )
    keys = _keys(layout, images_per_split, faults)
    write_mask = mask_writer(name)
    described = resolve_metadata(chosen.classes).channels
    rng = np.random.default_rng(0)
    with _all_or_nothing(root):
        for split, files in layout.splits.items():
            for key in keys.get(split, ()):
                if isinstance(own, FakeTask):
                    own.write(below / _path(files.images, 0, key), below / _path(files.masks, 0, key), size, key)
                    continue
                ids = all_ids(chosen, size, key) if files.masks else None
                image_path = below / _path(files.images, images, key)
                if own is not None and ids is not None:
                    own.write(image_path, own.pixels(ids, rng))
                elif not described.is_rgb8:
                    paths = [image_path, *(below / _path((pattern,), 0, key) for pattern in files.more_images)]
                    write_noise(paths, described, size, rng)
                else:
                    _write_image(image_path, rng.integers(0, 256, (*size, 3), dtype=np.uint8))
                if ids is not None:
                    mask_path = below / _path(files.masks, masks, key)
                    mask_path.parent.mkdir(parents=True, exist_ok=True)
                    write_mask(mask_path, ids, chosen)
            if files.listing is not None and split in keys:
                _write_listing(below / files.listing, keys[split])
        if name == "MapillaryVistas":
            write_config(below, chosen)
        if name == "FolderDataset":
            write_classes(below, chosen)
        planted = plant_all(find_tree(name, root, chosen), faults) if faults else ()
    return Fake(root, planted)


@contextlib.contextmanager
def _all_or_nothing(folder: Path) -> Iterator[None]:
    """Removes all that was written into a folder, which is empty or new, if it could not be written as a whole."""
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    except BaseException:
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        for path in created:
            with contextlib.suppress(OSError):
                path.rmdir()
        raise


def _keys(layout: Layout, images_per_split: int | None, faults: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """Returns the keys of each split, as many as the faults need."""
    needed = images_needed(faults)
    keys = keys_of_splits(layout, images_per_split)
    fewest = min(
        (len(keys[split]) for split, files in layout.splits.items() if split in keys and files.masks), default=0
    )
    if not faults or fewest >= needed:
        return keys
    if images_per_split is not None:
        raise InvalidArgumentError(
            f"images_per_split (--images) must be at least {needed} for these faults, each in files of its own, got "
            f"{images_per_split}"
        )
    return keys_of_splits(layout, needed)


def _pattern(patterns: tuple[str, ...], choice: int) -> str:
    return patterns[min(choice, len(patterns) - 1)]  # some splits have fewer patterns than others


def _path(patterns: tuple[str, ...], choice: int, key: str) -> str:
    path = _pattern(patterns, choice)
    stars = path.count("*")
    names = key.split("/")
    # a pattern with fewer stars skips the first elements of the key, which are folders
    for name in names[len(names) - stars :]:
        path = path.replace("*", name, 1)
    return path


def _write_image(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_image(path, Image.fromarray(pixels))


def _write_listing(path: Path, keys: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{key.rsplit('/', 1)[-1]}\n" for key in keys), encoding="utf-8")
