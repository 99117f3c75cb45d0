"""Opens the splits of a dataset or of a folder, as the actions of the doctor name them."""

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seg_core.catalog import DatasetEntry
from seg_core.checks import check_integer
from seg_core.errors import DatasetNotFoundError, InvalidArgumentError, UserError, nearest
from seg_core.files.scan import OnProgress
from seg_core.labels.metadata import DatasetMetadata, resolve_metadata
from seg_core.registry import DATASETS
from seg_core.spec import takes
from seg_datasets.factory import get_dataset
from seg_datasets.folder import FolderDataset
from seg_datasets.reading.base import OfficialDataset
from seg_datasets.reading.class_files import Metadata, find_classes, resolve_classes
from seg_datasets.reading.splits import SPLITS

__all__ = ["Opened", "Target", "open_splits"]

Target = str | os.PathLike[str]


@dataclass(frozen=True)
class Opened:
    """Splits of a dataset.

    Attributes:
        name: name of the dataset.
        root: its folder; None if it has no files.
        datasets: split -> dataset.
    """

    name: str
    root: Path | None
    datasets: Mapping[str, Any]

    @property
    def metadata(self) -> DatasetMetadata:
        """The classes."""
        found: DatasetMetadata = next(iter(self.datasets.values())).metadata
        return found


def open_splits(
    target: Target,
    root: str | os.PathLike[str] | None = None,
    splits: Sequence[str] | None = None,
    classes: Metadata | None = None,
    num_classes: int | None = None,
    ignore_index: int = 255,
    options: Mapping[str, Any] | None = None,
    progress: OnProgress | None = None,
) -> Opened:
    """Opens the splits of a dataset.

    Args:
        target: a name from `list_datasets()`, or a folder: one that `FolderDataset` reads, or a dataset in its official
            layout.
        root: folder of a dataset that is given by name.
        splits: the splits; None for those of train, val and test that are there.
        classes: the classes of a folder: as `metadata` of `FolderDataset`.
        num_classes: number of classes of a folder, if they have no names.
        ignore_index: value of pixels without a class in a folder whose classes do not tell it.
        options: other options of the dataset.
        progress: called with the number of masks that were read to find out how a folder is read, and their total.

    Raises:
        InvalidArgumentError: if an argument is not allowed, or the folder fits several datasets.
        DatasetNotFoundError: if the files are not found.
    """
    options = dict(options or {})
    metadata = _metadata(classes, num_classes, ignore_index)
    if isinstance(splits, str) or (splits is not None and not splits):
        raise InvalidArgumentError(f"splits must be a list of names, such as ['train'], got {splits!r}")
    if isinstance(target, str) and target in DATASETS:
        if metadata is not None:
            options["metadata"] = metadata
        if (metadata is not None or ignore_index != 255) and not takes(DATASETS.get(target), "metadata"):
            raise InvalidArgumentError(
                f"dataset {target!r} has its own classes; remove classes, num_classes and ignore_index"
            )
        if metadata is None and ignore_index != 255:
            raise InvalidArgumentError(f"ignore_index = {ignore_index} needs the classes: give classes or num_classes")
        return _open_named(target, root, splits, options)
    folder = _folder(target, root)
    if metadata is None and ignore_index != 255:
        if find_classes(folder) is None:
            raise InvalidArgumentError(f"ignore_index = {ignore_index} needs the classes: give classes or num_classes")
        metadata = replace(resolve_classes(folder, None), ignore_index=ignore_index)
    if metadata is None and not options and find_classes(folder) is None:
        names = [name for name in DATASETS.names() if _has_layout_of(name, folder)]
        if len(names) > 1:
            raise InvalidArgumentError(
                f"{folder} has the layout of several datasets: {', '.join(names)}; name one and give the folder as "
                f"root: {names[0]} --root {folder}"
            )
        if names:
            return _open_named(names[0], folder, splits, options)
    if metadata is not None:
        options["metadata"] = metadata
    report = FolderDataset.inspect(folder, progress, **options)
    if not report.fits or report.metadata is None:
        reasons = ". ".join(sentence.rstrip(". ") for sentence in report.oddities)
        raise DatasetNotFoundError(f"{folder} cannot be read by FolderDataset: {reasons}")
    found = {**report.options, "metadata": report.metadata}
    if guessed := {key: found[key] for key in ("label_map", "colors") if key in found and key not in options}:
        given = " and ".join(f"{key} = {_shown(value)}" for key, value in guessed.items())
        warnings.warn(
            f"the masks in {folder} are read with {given}, as that fits their values; if it is wrong, set another or "
            "correct the classes",
            stacklevel=3,
        )
    wanted = splits or [split for split in SPLITS if split in report.counts]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what is odd is told by a check
        datasets = {split: FolderDataset(folder, split=split, **found) for split in wanted}
    return Opened("FolderDataset", folder, datasets)


def _shown(value: Any) -> str:
    """Returns the value of an option as it stands in a config."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_shown(inner)}" for key, inner in value.items()) + " }"
    return json.dumps(value)


def _metadata(classes: Metadata | None, num_classes: int | None, ignore_index: int) -> DatasetMetadata | None:
    check_integer("ignore_index", ignore_index, 0)
    if classes is None and num_classes is None:
        return None
    if classes is None:
        labels = tuple(f"class {index}" for index in range(check_integer("num_classes", num_classes)))
        return DatasetMetadata("custom", labels, ignore_index=ignore_index)
    metadata = resolve_metadata(classes)
    if num_classes not in (None, metadata.num_classes):
        raise InvalidArgumentError(
            f"num_classes is {num_classes}, but classes names {metadata.num_classes}; remove one of the two"
        )
    return metadata if ignore_index == 255 else replace(metadata, ignore_index=ignore_index)


def _folder(target: Target, root: str | os.PathLike[str] | None) -> Path:
    if not isinstance(target, str | os.PathLike):
        raise InvalidArgumentError(f"target must be a dataset's name or a folder, got {target!r}")
    folder = Path(target).expanduser()
    if not folder.is_dir():
        if folder.exists():
            raise DatasetNotFoundError(f"{folder} is a file; give the folder that holds the images and masks")
        hint = nearest(str(target), DATASETS.names())
        raise DatasetNotFoundError(
            f"{target} is neither a folder (current folder: {Path.cwd()}) nor the name of a dataset.{hint} `seg "
            "datasets` lists the names"
        )
    if root is not None:
        raise InvalidArgumentError(
            f"root belongs to a dataset that is given by name, and {target} is a folder; remove root = {root}"
        )
    return folder


def _open_named(
    name: str, root: str | os.PathLike[str] | None, splits: Sequence[str] | None, options: Mapping[str, Any]
) -> Opened:
    entry = DATASETS.entry(name)
    datasets: dict[str, Any] = {}
    if splits is not None:
        datasets = {split: get_dataset(name, root, split, **options) for split in splits}
    else:
        own = entry.splits if isinstance(entry, DatasetEntry) else SPLITS
        names = [split for split in SPLITS if split in own] or list(own)
        missing: list[DatasetNotFoundError] = []
        for split in names:
            try:
                datasets[split] = get_dataset(name, root, split, **options)
            except DatasetNotFoundError as error:
                if _is_there(name, root, split):
                    raise
                missing.append(error)
        if not datasets:
            raise missing[0]
    return Opened(name, None if root is None else Path(root).expanduser(), datasets)


def _is_there(name: str, root: str | os.PathLike[str] | None, split: str) -> bool:
    """Returns whether an official layout has files of a split; of another dataset that its train and val are there."""
    dataset_class = DATASETS.get(name)
    if not (isinstance(dataset_class, type) and issubclass(dataset_class, OfficialDataset)):
        return split != "test"
    return root is not None and _has_split(dataset_class, Path(root).expanduser(), split)


def _has_layout_of(name: str, folder: Path) -> bool:
    dataset_class = DATASETS.get(name)
    return (
        isinstance(dataset_class, type)
        and issubclass(dataset_class, OfficialDataset)
        and any(_has_split(dataset_class, folder, split) for split in ("train", "val"))
    )


def _has_split(dataset_class: type[OfficialDataset], folder: Path, split: str) -> bool:
    editions = dataset_class.editions.values() or (dataset_class.edition,)
    for layout in (edition.layout for edition in editions):
        if split not in layout.splits:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                if layout.find(folder, split, "skip"):
                    return True
        except UserError:
            continue
    return False
