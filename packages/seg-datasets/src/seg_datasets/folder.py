"""Your own data: images and index masks in folders."""

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from seg_core.errors import DatasetNotFoundError, InvalidArgumentError
from seg_core.files.images import MAX_PIXELS
from seg_core.labels.label_map import IGNORE, LabelMap
from seg_core.labels.metadata import DatasetMetadata, resolve_metadata
from seg_datasets.reading.arguments import check_missing, check_root, check_split
from seg_datasets.reading.paired import PairedDataset
from seg_datasets.reading.pairs import (
    IMAGE_SUFFIXES,
    MASK_SUFFIXES,
    Pair,
    describe_folder,
    files_by_stem,
    first_few,
    pair_by_key,
)
from seg_datasets.reading.samples import Reading

__all__ = ["FolderDataset"]

SPLITS = ("train", "val", "test")
LAYOUT = """\
either one folder per split         or one folder for all
root/                               root/
  train/images/a.jpg                  images/a.jpg
  train/masks/a.png                   masks/a.png
  val/images/, val/masks/           a seeded fraction of them is val, the rest train
  test/images/, test/masks/ (masks optional)
images: png jpg jpeg bmp webp tif tiff; masks: png bmp tif tiff of the same name, one class id per pixel
"""


_REMEDY = "correct the mask or the labels of metadata, or convert the ids with label_map"


class FolderDataset(PairedDataset):
    """Images and index masks from folders, paired by name.

    If there is a folder `root/train/images` (or `val`, `test`), every split is read from its own folders. Otherwise the
    files of `root/images` and `root/masks` are split: a fraction `val_fraction` is val, the rest train. The split
    depends only on `seed` and the names; adding files changes the split of few others.

    A sample is (image, mask): image uint8 (3, H, W), RGB; mask (H, W), uint8 if the ids fit, else int32. Masks contain
    one id per pixel, as gray values of 1 to 16 bits or palette indices: the class ids of `metadata`, its ignore value,
    or other ids that `label_map` converts. For test images without masks, the mask is None.

    Args:
        root: the folder.
        metadata: the classes: `DatasetMetadata`, the name of a known label set, a mapping with `labels`, or the path of
            a .toml or .json file.
        split: `"train"`, `"val"` or `"test"` (only if it has its own folder).
        transforms: called as `transforms(image, mask)`; its result is the sample.
        val_fraction: fraction of the files for val if the splits have no folders; above 0 and below 1. Train and val
            get at least one file each.
        seed: decides which files are val.
        label_map: raw ids of the masks -> train ids, for masks with other ids: a `LabelMap`, or a table as in a config,
            where `"ignore"` means the ignore value: `{0 = "ignore", 1 = 0, 2 = 1}`. Ids that it does not list
            are an error.
        missing: how to handle an image or mask without its partner: `"error"` raises, `"skip"` leaves it out with a
            warning.
        orientation: `"apply"` rotates and flips images according to their EXIF, XMP or TIFF orientation tag, as viewers
            do, with a warning if the image has a mask, since masks have no such tag; `"stored"` ignores the tag, for
            masks that were drawn on the images as stored. A mask with such a tag is an error.
        max_pixels: maximum width times height of an image or a mask; a larger file is an error before it is decoded.

    Attributes:
        metadata: names and colors of the classes.
        split: as given.

    Raises:
        InvalidArgumentError: if there is no such split, or an argument has a value that is not allowed.
        DatasetNotFoundError: if files are not found, or an image or mask has no partner.
        CorruptFileError: when a sample is read, if a file is damaged, too large or of an unsupported kind, or image and
            mask differ in size.
        LabelOutOfRangeError: when a sample is read, if its mask contains an id that is not allowed.
    """

    layout: ClassVar[str] = LAYOUT
    palette_remedy: ClassVar[str] = (
        "read the masks by their colors with colors=True, or save them with the palette in the order of the ids; if "
        "the indices are right, correct the colors of the metadata"
    )

    def __init__(
        self,
        root: str | os.PathLike[str],
        metadata: str | os.PathLike[str] | Mapping[str, Any] | DatasetMetadata,
        split: str = "train",
        transforms: Callable[..., Any] | None = None,
        *,
        val_fraction: float = 0.2,
        seed: int = 0,
        label_map: LabelMap | Mapping[Any, Any] | None = None,
        missing: str = "error",
        orientation: str = "apply",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        if not isinstance(val_fraction, int | float) or not 0.0 < val_fraction < 1.0:
            raise InvalidArgumentError(f"val_fraction must be between 0 and 1, got {val_fraction!r}; 0.2 is common")
        if not isinstance(seed, int):
            raise InvalidArgumentError(f"seed must be an integer, got {seed!r}")
        reading = Reading(orientation, max_pixels)
        check_split(split, SPLITS, "FolderDataset")
        classes = resolve_metadata(metadata)
        to_train_ids = _resolve_label_map(label_map, classes)
        self.root = check_root(root, "FolderDataset")
        pairs = _find_pairs(self.root, split, val_fraction, seed, check_missing(missing))
        super().__init__(pairs, classes, split, to_train_ids, _REMEDY, transforms, reading=reading)


def _find_pairs(root: Path, split: str, val_fraction: float, seed: int, missing: str) -> list[Pair]:
    has_split_folders = any((root / name / "images").is_dir() for name in SPLITS)
    folder = root / split if has_split_folders else root
    images = files_by_stem(folder / "images", IMAGE_SUFFIXES)
    masks = files_by_stem(folder / "masks", MASK_SUFFIXES)
    without_masks = split == "test" and has_split_folders and not masks
    if not images or not (masks or without_masks):
        raise DatasetNotFoundError(
            f"FolderDataset {split}: found {describe_folder(folder / 'images', IMAGE_SUFFIXES, 'images')}; "
            f"{describe_folder(folder / 'masks', MASK_SUFFIXES, 'masks')}. Expected {root}/{split}/images and "
            f"{root}/{split}/masks, or {root}/images and {root}/masks, with images ({_kinds(IMAGE_SUFFIXES)}) and "
            f"masks ({_kinds(MASK_SUFFIXES)}; lossy formats destroy ids) with the same names"
        )
    where = f"FolderDataset {split} in {folder}"
    pairs = pair_by_key(images, None if without_masks else masks, where, missing, "or set missing='skip'")
    return pairs if has_split_folders else _train_or_val(pairs, root, split, val_fraction, seed)


def _train_or_val(pairs: list[Pair], root: Path, split: str, val_fraction: float, seed: int) -> list[Pair]:
    if split == "test":
        raise DatasetNotFoundError(
            f"{root} has no test split: {root}/images is split into train and val; put test images into "
            f"{root}/test/images and the others into {root}/train and {root}/val"
        )
    if len(pairs) < 2:
        raise DatasetNotFoundError(f"{root}/images has one image, which cannot be split into train and val; add more")

    # ranked by a hash of the name: independent of numpy's and Python's generators, and stable if files are added
    def rank(pair: Pair) -> bytes:
        return hashlib.sha256(f"{seed}/{pair.image.stem}".encode()).digest()

    num_val = min(max(round(val_fraction * len(pairs)), 1), len(pairs) - 1)
    held_out = set(sorted(pairs, key=rank)[:num_val])
    return [pair for pair in pairs if (pair in held_out) == (split == "val")]


def _resolve_label_map(label_map: LabelMap | Mapping[Any, Any] | None, metadata: DatasetMetadata) -> LabelMap:
    ignore_index, count = metadata.ignore_index, metadata.num_classes
    if label_map is None:
        return LabelMap.identity(count, ignore_index, ignore_index=ignore_index)
    if not isinstance(label_map, LabelMap):
        if not isinstance(label_map, Mapping):
            raise InvalidArgumentError(f"label_map must be a LabelMap or a table of ids, got {label_map!r}")
        table = {_raw_id(raw): IGNORE if train == "ignore" else train for raw, train in label_map.items()}
        label_map = LabelMap(table, ignore_index=ignore_index)
    if label_map.ignore_index != ignore_index:
        raise InvalidArgumentError(
            f"label_map has ignore_index {label_map.ignore_index}, but the metadata {metadata.name!r} have "
            f"{ignore_index}; use the same ignore_index for both"
        )
    too_large = sorted({train for train in label_map.mapping.values() if isinstance(train, int) and train >= count})
    if too_large:
        raise InvalidArgumentError(
            f"label_map has the train ids {first_few(map(str, too_large))}, but the metadata {metadata.name!r} have "
            f"{count} classes, 0 to {count - 1}; map to these or to IGNORE"
        )
    return label_map


def _raw_id(key: Any) -> Any:
    # the keys of a TOML or JSON table are strings
    return int(key) if isinstance(key, str) and key.isdecimal() else key


def _kinds(suffixes: tuple[str, ...]) -> str:
    return " ".join(suffix[1:] for suffix in suffixes)
