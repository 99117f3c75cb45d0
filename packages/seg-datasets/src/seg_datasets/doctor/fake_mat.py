"""Fake masks in MATLAB files, in the formats of SBD and PASCAL-Context."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg_core.errors import MissingDependencyError
from seg_core.files.image_writing import save_image
from seg_datasets.official.pascal_context import RAW_LABELS
from seg_datasets.reading.base import Edition

__all__ = ["write_pascal_context", "write_sbd"]

Ids = npt.NDArray[np.integer[Any]]

_NUM_OBJECTS = 20
_OTHER = 1  # one of the 459 labels that are not a class


def write_sbd(path: Path, ids: Ids, edition: Edition) -> None:  # noqa: ARG001 - all writers have this argument
    """Writes a mask in the format of SBD's folder `cls`: ids, and the boundaries of each class.

    Raises:
        MissingDependencyError: if scipy is not installed.
    """
    savemat, sparse = _scipy()
    boundaries = np.empty((_NUM_OBJECTS, 1), dtype=object)
    for index in range(_NUM_OBJECTS):
        boundaries[index, 0] = sparse.csc_matrix(_boundary(ids == index + 1))
    present = np.unique(ids[ids > 0]).astype(np.uint8)
    struct = {
        "Segmentation": ids.astype(np.uint8),
        "Boundaries": boundaries,
        "CategoriesPresent": present.reshape(1, -1),
    }
    savemat(path, {"GTcls": struct}, do_compression=True)


def write_pascal_context(path: Path, ids: Ids, edition: Edition) -> None:  # noqa: ARG001 - all writers have this argument
    """Writes a mask of ids 0 to 59: a label map with the 459 labels if the name ends in .mat, else an index PNG.

    Raises:
        MissingDependencyError: if the name ends in .mat and scipy is not installed.
    """
    if path.suffix != ".mat":
        save_image(path, Image.fromarray(ids.astype(np.uint8)))
        return
    savemat, _ = _scipy()
    raw = np.array((_OTHER, *RAW_LABELS), np.uint16)
    savemat(path, {"LabelMap": raw[ids]}, do_compression=True)


def _boundary(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Returns the pixels whose right or lower neighbor is on the other side."""
    edge = np.zeros_like(inside)
    edge[:, :-1] |= inside[:, :-1] != inside[:, 1:]
    edge[:-1] |= inside[:-1] != inside[1:]
    return edge


def _scipy() -> tuple[Any, Any]:
    try:
        from scipy import sparse
        from scipy.io import savemat
    except ImportError as error:
        raise MissingDependencyError("MATLAB files need scipy: pip install 'seg-datasets[mat]'") from error
    return savemat, sparse
