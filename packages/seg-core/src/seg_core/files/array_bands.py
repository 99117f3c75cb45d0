"""The bands of arrays: `.npy` files, zarr arrays (the extra `zarr`) and arrays in memory."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_core.errors import CorruptFileError, ImageTooLargeError, MissingDependencyError
from seg_core.files.bands import Bands, BandsRead, Window
from seg_core.files.storage import MAX_TILE_BYTES

__all__ = ["ARRAY_SUFFIXES", "bands_of_array", "map_npy", "open_zarr"]

ARRAY_SUFFIXES = (".npy", ".zarr")


def map_npy(path: Path) -> npt.NDArray[Any]:
    """Returns the array of a `.npy` file, mapped into memory.

    Raises:
        CorruptFileError: if it holds none.
    """
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    # what a damaged header raises is that of Python's parser, of the type that it names, or of its numbers
    except Exception as error:
        raise CorruptFileError(
            f"{path} cannot be read as an array: {str(error).splitlines()[0] if str(error) else type(error).__name__}; "
            "replace it"
        ) from error
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "biufc":
        what = f"values of type {found.dtype}" if isinstance(found, np.ndarray) else "several arrays (.npz)"
        raise CorruptFileError(
            f"{path} holds {what}, not an array of numbers; save that of the image alone: np.save('OUT.npy', array)"
        )
    array: npt.NDArray[Any] = found
    return array


def open_zarr(path: Path) -> Any:
    """Returns a zarr array that is read by slices.

    Raises:
        CorruptFileError: if it holds none.
        ImageTooLargeError: if one of its chunks is too large for memory.
        MissingDependencyError: if zarr is not installed.
    """
    try:
        import zarr
    except ImportError as error:
        raise MissingDependencyError("zarr arrays need zarr: pip install 'seg-core[zarr]'") from error
    try:
        array = zarr.open_array(str(path), mode="r")
        count = math.prod(array.chunks) * array.dtype.itemsize
    # what zarr raises differs between its versions, and shares no base class
    except Exception as error:
        raise CorruptFileError(f"{path} cannot be read as a zarr array: {error}; replace it") from error
    if array.dtype.kind not in "biufc":
        raise CorruptFileError(f"{path} holds values of type {array.dtype}, not numbers; save the image alone")
    if count > MAX_TILE_BYTES:
        raise ImageTooLargeError(
            f"{path} has chunks of {array.chunks}, which take {count} bytes each, more than {MAX_TILE_BYTES}, and are "
            "decoded at once; copy it with smaller chunks, such as 512 x 512"
        )
    return _GuardedZarr(array, path)


class _GuardedZarr:
    """A zarr array whose damaged chunks are our errors."""

    def __init__(self, array: Any, path: Path) -> None:
        self._array, self._path = array, path
        self.shape, self.dtype, self.chunks = tuple(array.shape), array.dtype, array.chunks

    def __getitem__(self, place: Any) -> Any:
        try:
            return self._array[place]
        except MemoryError:
            raise
        except Exception as error:
            raise CorruptFileError(f"{self._path} cannot be read as a zarr array: {error}; replace it") from error


def bands_of_array(
    array: Any,
    name: str,
    expected: int | None,
    *,
    reopen: Callable[[], Any] | None = None,
    has_windows: bool = True,
) -> Bands:
    """Returns the bands of an array (H, W), (H, W, C) or (C, H, W).

    The axis of the channels is the last if it is `expected` long, else the first if that is; if neither is, the
    shorter one, the last if both are equal.

    Args:
        array: of numpy or zarr.
        name: its name in messages.
        expected: number of bands; None if it is not known.
        reopen: returns the array again for each read.
        may_lack_data: whether the file may mark pixels that hold no data.
        has_windows: whether reading a part costs less than reading all.

    Raises:
        CorruptFileError: if it has other axes.
    """
    shape = tuple(array.shape)
    if len(shape) not in (2, 3) or 0 in shape:
        raise CorruptFileError(
            f"image {name} is an array of shape {shape}; an image is (H, W), (H, W, C) or (C, H, W): save it so"
        )
    is_last = len(shape) == 2 or shape[2] == expected or (shape[0] != expected and shape[2] <= shape[0])
    count = 1 if len(shape) == 2 else shape[2 if is_last else 0]
    height, width = shape[:2] if is_last else shape[1:]

    def read(indices: Sequence[int], window: Window | None) -> BandsRead:
        values = array if reopen is None else reopen()
        top, left, h, w = window or (0, 0, height, width)
        rows, columns = slice(top, top + h), slice(left, left + w)
        if len(shape) == 2:
            return np.array(values[rows, columns])[None], None
        part = np.asarray(values[rows, columns]).transpose(2, 0, 1) if is_last else np.asarray(values[:, rows, columns])
        return np.array(part if list(indices) == [*range(count)] else part[list(indices)]), None

    return Bands(
        name,
        height,
        width,
        (np.dtype(array.dtype),) * count,
        read,
        ("",) * count,
        has_windows=has_windows,
        may_lack_data=False,
    )
