"""Opens the splits of a dataset or of a folder, as the actions of the doctor name them."""

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seg_core.catalog import DatasetEntry
from seg_core.errors import DatasetNotFoundError, InvalidArgumentError, UserError
from seg_core.files.scan import OnProgress
from seg_core.labels.metadata import DatasetMetadata
from seg_core.registry import DATASETS
from seg_datasets.doctor.targets import OWN, Target, find_target
from seg_datasets.factory import get_dataset
from seg_datasets.folder import FolderDataset
from seg_datasets.reading.base import OfficialDataset
from seg_datasets.reading.class_files import Metadata
from seg_datasets.reading.splits import SPLITS

__all__ = ["Opened", "open_splits", "shown_option"]

_GUESSED = ("masks", "masks_as", "threshold", "label_map", "colors")
"""Options about which a folder is not asked without a word."""


@dataclass(frozen=True)
class Opened:
    """Splits of a dataset.

    Attributes:
        name: name of the dataset.
        root: its folder; None if it has no files.
        datasets: split -> dataset.
        is_guessed: whether nobody has described the channels of the images, and they are as the files suggest.
    """

    name: str
    root: Path | None
    datasets: Mapping[str, Any]
    is_guessed: bool = False

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
    ignore_index: int | None = None,
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
        num_classes: number of classes of a folder, instead of `classes`.
        ignore_index: value of the pixels without a class in a folder; None for that of the classes, or 255.
        options: other options of the dataset.
        progress: called with the number of masks that were read to find out how a folder is read, and their total.

    Raises:
        UsageError: if the folder has the layout of several datasets.
        InvalidArgumentError: if an argument is not allowed.
        DatasetNotFoundError: if the files are not found.
    """
    options = dict(options or {})
    wanted = find_target(target, root, splits, classes, num_classes, ignore_index, options)
    metadata, folder = wanted.metadata, wanted.root
    if metadata is not None:
        options["metadata"] = metadata
    elif ignore_index is not None:
        raise InvalidArgumentError(f"ignore_index = {ignore_index} needs the classes: give classes or num_classes")
    if wanted.name != OWN or folder is None or (metadata is not None and not wanted.is_found):  # nothing to find out
        return _open_named(wanted.name, folder, splits, options)
    report = FolderDataset.inspect(folder, progress, **options)
    if not report.fits or report.metadata is None:
        reasons = ". ".join(sentence.rstrip(". ") for sentence in report.oddities)
        raise DatasetNotFoundError(f"{folder} cannot be read by FolderDataset: {reasons}")
    found = {**report.options, "metadata": report.metadata}
    new = [key for key in _GUESSED if key in found and key not in options]
    if guessed := {key: found[key] for key in new if key != "masks" or "{class}" in found[key]}:
        given = " and ".join(f"{key} = {shown_option(value)}" for key, value in guessed.items())
        warnings.warn(
            f"the masks in {folder} are read with {given}, as that fits their values; if it is wrong, set another or "
            "correct the classes",
            stacklevel=3,
        )
    is_guessed = "channels" in found and "channels" not in options
    if is_guessed:
        warnings.warn(
            f"the images in {folder} are read with channels = {shown_option(found['channels'])}, as their files "
            "suggest; describe them in classes.toml, as [channels], or by the option channels",
            stacklevel=3,
        )
    chosen = splits or [split for split in SPLITS if split in report.counts]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what is odd is told by a check
        datasets = {split: FolderDataset(folder, split=split, **found) for split in chosen}
    return Opened("FolderDataset", folder, datasets, is_guessed)


def shown_option(value: Any) -> str:
    """Returns the value of an option as it stands in a config."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {shown_option(inner)}" for key, inner in value.items()) + " }"
    return json.dumps(value)


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
