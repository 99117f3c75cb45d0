"""Creates datasets by name, from every installed package."""

import os
from typing import Any

from seg_core.catalog import DatasetEntry
from seg_core.errors import InvalidArgumentError
from seg_core.registry import DATASETS
from seg_core.spec import check_params
from seg_datasets import catalog

__all__ = ["get_dataset", "list_datasets"]

DATASETS.names()  # installed packages come first; without installed metadata (a source tree) the table is added here
DATASETS.add_table("seg-datasets", catalog.DATASETS)


def list_datasets() -> list[str]:
    """Returns the names of all datasets of the installed packages, sorted, without importing them."""
    return DATASETS.names()


def get_dataset(
    name: str,
    root: str | os.PathLike[str] | None = None,
    split: str = "train",
    transforms: Any = None,
    **options: Any,
) -> Any:
    """Returns the dataset `name`: a torch `Dataset` of (image, mask) pairs with `.metadata` and `.split`.

    Args:
        name: a name from `list_datasets()`.
        root: root folder of the dataset; None for datasets without files.
        split: `"train"`, `"val"`, `"test"` or another split of the dataset.
        transforms: called as `transforms(image, mask)`, with image uint8 (3, H, W) and mask (H, W); its result is the
            sample.
        **options: options of the dataset, as in `get_dataset("FolderDataset", root, metadata="mine.toml")`.

    Raises:
        UnknownNameError: if there is no such dataset; the message suggests similar names.
        InvalidArgumentError: if a required root is missing, or the dataset has no such split or option.
        DatasetNotFoundError: if the files are not found.
    """
    entry = DATASETS.entry(name)
    if root is None and isinstance(entry, DatasetEntry) and entry.needs_root:
        raise InvalidArgumentError(
            f"dataset {name!r} needs a root folder: root must be its path, got None; `seg datasets show {name}` prints "
            "the expected layout"
        )
    dataset_class = DATASETS.get(name)
    check_params(f"dataset {name!r}", dataset_class, options, ("root", "split", "transforms"))
    return dataset_class(root=root, split=split, transforms=transforms, **options)
