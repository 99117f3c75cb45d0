"""The classes that labels keep, for `Predictor(only=...)`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_core.errors import InvalidArgumentError, UnknownNameError, nearest
from seg_core.labels.metadata import DatasetMetadata

__all__ = ["kept_ids"]


def kept_ids(
    only: Sequence[str], metadata: DatasetMetadata, dtype: type[np.uint8] | type[np.uint16]
) -> npt.NDArray[Any]:
    """Returns a table from the ids of classes, and `ignore_index`, to the id that labels get.

    Args:
        only: names of the classes that keep their ids; the others get the `ignore_index`.
        metadata: names of the classes.
        dtype: dtype of the ids.

    Raises:
        InvalidArgumentError: if `only` is a string.
        UnknownNameError: if there is no class of one of the names.
    """
    if isinstance(only, str):
        raise InvalidArgumentError(f"only must be a list of class names, got the string {only!r}; pass [{only!r}]")
    table = np.full(max(metadata.num_classes, metadata.ignore_index + 1), metadata.ignore_index, dtype)
    for name in only:
        if name not in metadata.labels:
            raise UnknownNameError(
                f"only has {name!r}, which is no class of {metadata.name}.{nearest(str(name), metadata.labels)} "
                f"Classes: {', '.join(metadata.labels)}"
            )
        table[metadata.labels.index(name)] = metadata.labels.index(name)
    return table
