"""The classes of a dataset of the user's own, before it is opened."""

from collections.abc import Mapping
from typing import Any

from seg_core.labels.metadata import DatasetMetadata

__all__ = ["classes_in_root"]


def classes_in_root(dataset: Any, root: str | None, params: Mapping[str, Any]) -> DatasetMetadata | None:
    """Returns the classes that a dataset finds in its root; None if `params` give them, or the dataset finds none.

    Args:
        dataset: a dataset class; one with a class method `find_metadata(root)` finds its classes in the root, as
            `FolderDataset` does.
        root: root of the dataset, or None.
        params: its other options.

    Raises:
        UserError: if the root has no classes, or they are not valid; the message starts with `metadata`.
    """
    find = getattr(dataset, "find_metadata", None)
    if find is None or params.get("metadata") is not None:
        return None
    found: DatasetMetadata | None = find(root)
    return found
