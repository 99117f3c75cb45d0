"""The classes that labels keep, for `Predictor(only=...)`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_core.errors import InvalidArgumentError
from seg_core.labels.metadata import DatasetMetadata

__all__ = ["id_dtype", "kept_classes", "kept_ids"]


def kept_ids(
    only: Sequence[str | int], metadata: DatasetMetadata, dtype: type[np.uint8] | type[np.uint16]
) -> npt.NDArray[Any]:
    """Returns a table from the ids of classes, and `ignore_index`, to the id that labels get.

    Args:
        only: names or ids of the classes that keep their ids; the others get the `ignore_index`.
        metadata: names of the classes.
        dtype: dtype of the ids.

    Raises:
        InvalidArgumentError: if `only` is no list, or holds no class.
        UnknownNameError: if there is no class of one of the names.
    """
    kept = kept_classes(only, metadata)
    table = np.full(max(metadata.num_classes, metadata.ignore_index + 1), metadata.ignore_index, dtype)
    table[kept] = kept
    return table


def kept_classes(only: Sequence[str | int], metadata: DatasetMetadata) -> list[int]:
    """Returns the indices of the classes that `only` names, in their order in the metadata.

    Raises:
        InvalidArgumentError: if `only` is no list, or holds no class.
        UnknownNameError: if there is no class of one of the names.
    """
    if isinstance(only, str) or not isinstance(only, Sequence) or not only:
        hint = f"; pass [{only!r}]" if isinstance(only, str) else ""
        raise InvalidArgumentError(f"only must be a list of at least one class name or id, got {only!r}{hint}")
    return sorted({metadata.class_id(name) for name in only})


def id_dtype(metadata: DatasetMetadata, *, ignores: bool) -> type[np.uint8] | type[np.uint16]:
    """Returns the type of label maps: uint8, or uint16 if a class, or the ignored value, if it is set, needs it."""
    max_id = max(metadata.num_ids - 1, metadata.ignore_index if ignores else 0)
    return np.uint8 if max_id < 256 else np.uint16
