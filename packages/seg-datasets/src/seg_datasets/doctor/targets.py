"""Which dataset is meant: a name or a folder, its splits and its classes, as all actions of the doctor take them."""

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seg_core.checks import MAX_CLASSES, check_integer
from seg_core.errors import DatasetNotFoundError, InvalidArgumentError, UnknownNameError, UsageError, UserError, nearest
from seg_core.labels.metadata import DatasetMetadata
from seg_core.registry import DATASETS
from seg_core.spec import takes
from seg_datasets.reading.arguments import check_root
from seg_datasets.reading.base import OfficialDataset
from seg_datasets.reading.class_files import Metadata, find_classes, resolve_classes
from seg_datasets.reading.file_table import matched
from seg_datasets.reading.folder_layouts import find_layout
from seg_datasets.reading.layout import Layout
from seg_datasets.reading.paired import PairedDataset
from seg_datasets.reading.splits import SPLITS

__all__ = ["OWN", "Target", "Wanted", "find_target", "is_own"]

Target = str | os.PathLike[str]

OWN = "FolderDataset"
"""The dataset that reads a folder of one's own."""
_IGNORED = 255
_LARGE_IGNORED = 65535  # beside more classes than 255
_MOST_NEARBY = 50  # folders below one without a dataset that are looked at


@dataclass(frozen=True)
class Wanted:
    """A dataset that an action is about.

    Attributes:
        name: registered name.
        root: its folder; None if it was not given.
        metadata: the classes of a folder, if they were given or it has a file with them; else None.
        ignore_index: value of pixels without a class as it was given, or None.
        is_found: whether the folder was given alone, and the name found by its layout.
    """

    name: str
    root: Path | None
    metadata: DatasetMetadata | None
    ignore_index: int | None
    is_found: bool


def find_target(
    target: Target,
    root: str | os.PathLike[str] | None,
    splits: Sequence[str] | None,
    classes: Metadata | None,
    num_classes: int | None,
    ignore_index: int | None,
    options: Mapping[str, Any],
) -> Wanted:
    """Returns the dataset that is meant.

    Args:
        target: a name from `list_datasets()`, or a folder: one that `FolderDataset` reads, or a dataset in its official
            layout. A folder that has the name of a dataset is meant if no root is given.
        root: folder of a dataset that is given by name.
        splits: the splits; None for all.
        classes: the classes of a folder, as `metadata` of `FolderDataset`.
        num_classes: number of classes of a folder, instead of `classes`.
        ignore_index: value of the pixels without a class in a folder; None for that of the classes, or 255.
        options: other options of the dataset; with any, a folder is read by `FolderDataset`.

    Raises:
        UsageError: if the folder has the layout of several datasets.
        UnknownNameError: if a root is given and no dataset has this name.
        InvalidArgumentError: if an argument is not allowed, or the dataset has classes of its own.
        DatasetNotFoundError: if there is neither a dataset nor a folder of this name.
    """
    if isinstance(splits, str) or (splits is not None and not splits):
        raise InvalidArgumentError(f"splits must be a list of names, such as ['train'], got {splits!r}")
    given = _classes(classes, num_classes, ignore_index)
    name, folder = _named(target, root)
    is_found = name is None
    if name is None:
        assert folder is not None
        own = given is not None or bool(options) or find_classes(folder) is not None
        name = OWN if own else _name_of(folder)
    if not takes(DATASETS.get(name), "metadata") and (given is not None or ignore_index is not None):
        raise InvalidArgumentError(
            f"{name} has classes of its own, with an ignored value; leave out classes, num_classes and ignore_index, "
            f"or read the folder as {OWN}, if its masks have other ids"
        )
    if name == OWN and given is None and folder is not None and find_classes(folder) is not None:
        given = resolve_classes(folder, None)
        if ignore_index is not None:
            given = replace(given, ignore_index=ignore_index)
    return Wanted(name, folder, given, ignore_index, is_found)


def _classes(classes: Metadata | None, num_classes: int | None, ignore_index: int | None) -> DatasetMetadata | None:
    if ignore_index is not None:
        check_integer("ignore_index", ignore_index, 0)
    if num_classes is not None:
        check_integer("num_classes", num_classes, maximum=MAX_CLASSES)
        if classes is not None:
            raise InvalidArgumentError("classes and num_classes both say which classes there are; give one of them")
        labels = tuple(f"class_{index}" for index in range(num_classes))
        default = _IGNORED if num_classes <= _IGNORED else _LARGE_IGNORED
        return DatasetMetadata("custom", labels, ignore_index=default if ignore_index is None else ignore_index)
    if classes is None:
        return None
    metadata = resolve_classes(None, classes)
    return metadata if ignore_index is None else replace(metadata, ignore_index=ignore_index)


def _named(target: Target, root: str | os.PathLike[str] | None) -> tuple[str | None, Path | None]:
    """Returns the name of the dataset, if it is given, and the folder, if it is given."""
    if not isinstance(target, str | os.PathLike):
        raise InvalidArgumentError(f"target must be a dataset's name or a folder, got {target!r}")
    folder = Path(target).expanduser()
    is_name = isinstance(target, str) and target in DATASETS
    if root is not None:
        if is_name:
            return str(target), check_root(root, str(target)) if _has_files(str(target)) else Path(root).expanduser()
        if folder.is_dir():
            raise InvalidArgumentError(
                f"root belongs to a dataset that is given by name, and {target} is a folder; remove root = {root}"
            )
        raise UnknownNameError(
            f"root is given, so the target must be the name of a dataset, got {os.fspath(target)!r}."
            f"{nearest(str(target), DATASETS.names())} `seg datasets` lists the names; a folder alone is read without "
            "root"
        )
    if is_name and not (folder.is_dir() and _has_files(str(target))):
        return str(target), None
    if folder.is_dir():
        return None, folder
    if folder.exists():
        raise DatasetNotFoundError(f"{folder} is a file, not a folder; give the folder that holds the images and masks")
    raise DatasetNotFoundError(
        f"{target} is neither a folder (current folder: {Path.cwd()}) nor the name of a dataset."
        f"{nearest(str(target), DATASETS.names())} `seg datasets` lists the names"
    )


def _has_files(name: str) -> bool:
    dataset_class = DATASETS.get(name)
    return isinstance(dataset_class, type) and issubclass(dataset_class, PairedDataset)


# ---- by the layout of a folder ---------------------------------------------------------------------------------------


def _name_of(folder: Path) -> str:
    """Returns the name of the dataset whose layout a folder has; `FolderDataset` if none fits."""
    fitting = _fitting(folder)
    if len(fitting) > 1:
        ways = ", or ".join(f"{name} --root {folder}" for name in fitting)
        raise UsageError(
            f"{folder} has the layout of several datasets: {', '.join(fitting)}. Name one, with the folder as root: "
            f"{ways}"
        )
    if not fitting:
        for other in _nearby(folder):
            if names := _fitting(other):
                raise DatasetNotFoundError(
                    f"{folder} holds no dataset, but {other} does ({', '.join(names)}): give that folder instead"
                )
    return (fitting or [OWN])[0]


def _fitting(folder: Path) -> list[str]:
    """Returns the names of the datasets whose layout is that of a folder."""
    found = []
    for name in DATASETS.names():
        dataset_class = DATASETS.get(name) if DATASETS.origin(name) == "seg-datasets" else None
        if isinstance(dataset_class, type) and issubclass(dataset_class, OfficialDataset):
            editions = dataset_class.editions.values() or (dataset_class.edition,)
            if any(_has_pairs(edition.layout, folder) for edition in editions):
                found.append(name)
    if is_own(folder):
        found.append(OWN)
    return found


def _has_pairs(layout: Layout, folder: Path) -> bool:
    for split in layout.splits:
        try:
            found = layout.look(folder, split, first=True)
        except UserError:
            continue
        if found.is_split and found.masks is not None and matched(found.images, found.masks)[0].any():
            return True
    return False


def is_own(folder: Path) -> bool:
    """Returns whether `FolderDataset` finds images with masks in a folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            layout = find_layout(folder)
            every = (layout.files(folder, split, first=True) for split in SPLITS)
            return any(matched(files.images, files.masks)[0].any() for files in every)
        except UserError:
            return False


def _nearby(folder: Path) -> list[Path]:
    folder = folder.absolute()
    below = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    return [folder.parent.parent, folder.parent, *below[:_MOST_NEARBY]]
