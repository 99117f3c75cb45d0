"""Keys by which the images and masks of a folder are paired."""

import itertools
from collections.abc import Sequence
from pathlib import Path

from seg_core.errors import DatasetNotFoundError
from seg_datasets.reading.file_table import FileTable, matched

__all__ = ["by_name", "class_planes", "may_share", "same_case", "stacked", "without_suffix"]


def class_planes(tables: Sequence[FileTable]) -> tuple[FileTable, dict[str, tuple[Path | None, ...]]]:
    """Returns a mask per image of masks with a file per class: the first that is there; and all files by this one.

    Args:
        tables: key -> mask of each class.
    """
    found = [dict(table.rows()) for table in tables]
    masks, planes = [], {}
    for key in sorted(set().union(*found)):
        paths = [table.get(key) for table in found]
        mask = next(path for path in paths if path is not None)
        masks.append((key, mask))
        planes[mask] = tuple(None if path is None else Path(path) for path in paths)
    return FileTable(masks), planes


def may_share(images: FileTable, masks: FileTable) -> bool:
    """Returns whether a file may be both an image and a mask, by what all their paths begin with."""
    first, second = images.paths.prefix, masks.paths.prefix
    return bool(images and masks) and (first.startswith(second) or second.startswith(first))


def stacked(
    images: FileTable, others: Sequence[FileTable], patterns: Sequence[str]
) -> tuple[FileTable, dict[str, tuple[Path, ...]], dict[str, tuple[Path, str]]]:
    """Returns the images of which all files are there, their other files, and the images that lack one."""
    if not others:
        return images, {}, {}
    tables = [dict(table.items()) for table in (images, *others)]
    partial: dict[str, tuple[Path, str]] = {}
    for key in sorted(set().union(*tables)):
        absent = next((pattern for table, pattern in zip(tables, patterns, strict=True) if key not in table), None)
        if absent is not None:
            partial[key] = next(table[key] for table in tables if key in table), absent
    complete = images.where(key not in partial for key in images)
    return complete, {key: tuple(table[key] for table in tables[1:]) for key in complete}, partial


def without_suffix(masks: FileTable, suffix: str, first: bool) -> FileTable:
    """Returns the masks whose keys end in a suffix, by their keys without it."""

    def same(short: str, one: str, other: str) -> DatasetNotFoundError:
        return DatasetNotFoundError(f"{one} and {other} are both masks of {short}; remove one of them")

    ending = suffix.casefold()
    found = ((key[: -len(suffix)], path) for key, path in masks.rows() if key.casefold().endswith(ending))
    return FileTable(found, None if first else same)


def by_name(files: FileTable, noun: str) -> FileTable:
    """Returns the files by their names alone.

    Raises:
        DatasetNotFoundError: if two have the same name.
    """

    def same(_: str, one: str, other: str) -> DatasetNotFoundError:
        return DatasetNotFoundError(
            f"pair_by='name' needs names that are unique, but {one} and {other} are {noun} of the same "
            "name; pair by path, with the same folders for images and masks"
        )

    return FileTable(((key.rsplit("/", 1)[-1], path) for key, path in files.rows()), same)


def same_case(images: FileTable, masks: FileTable) -> FileTable:
    """Returns the masks with the keys of the images from which they differ by upper and lower case only."""
    has_mask, has_image = matched(images, masks)
    alone: dict[str, list[str]] = {}
    others: dict[str, list[str]] = {}
    if has_mask.all() or has_image.all():
        return masks
    for table, rows, by_folded in ((images, has_mask, alone), (masks, has_image, others)):
        for key in itertools.compress(table, ~rows):
            by_folded.setdefault(key.casefold(), []).append(key)
    renamed = {
        keys[0]: alone[folded][0]
        for folded, keys in others.items()
        if len(keys) == 1 and len(alone.get(folded, ())) == 1
    }
    if not renamed:
        return masks
    return FileTable((renamed.get(key, key), path) for key, path in masks.rows())
