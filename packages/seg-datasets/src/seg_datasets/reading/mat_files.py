"""Masks in MATLAB 5 files, as SBD and PASCAL-Context publish them; scipy reads them, an optional dependency."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_core.errors import CorruptFileError, DatasetNotFoundError, MissingDependencyError

__all__ = ["read_mat"]

_MAX_ID = 65535
_HEADER = 128  # bytes; the last two tell the order of bytes
_BYTE_ORDERS = {b"IM": "<", b"MI": ">"}
_COMPRESSED = 15  # the type of a compressed element


def read_mat(path: Path, variable: str, field: str | None = None) -> npt.NDArray[Any]:
    """Returns the ids (H, W), uint8 or uint16, that a variable of a .mat file holds.

    Args:
        path: the file.
        variable: name of the variable in it.
        field: name of the field, where the variable is a struct (1, 1).

    Raises:
        MissingDependencyError: if scipy is not installed.
        CorruptFileError: if the file cannot be read, or holds no mask under that name.
        DatasetNotFoundError: if the file is gone.
    """
    loadmat = _loadmat(path)
    try:
        contents = path.read_bytes()
        _check(contents)
        value = loadmat(io.BytesIO(contents), variable_names=(variable,))[variable]
        ids = np.asarray(value if field is None else value[field].item())
    except FileNotFoundError:
        raise DatasetNotFoundError(f"mask {path} is gone since the folder was listed; was it moved?") from None
    except Exception as error:
        # scipy raises a dozen types for damaged files, zlib.error, TypeError and MemoryError (for a size of nonsense)
        # among them; KeyError and ValueError are also what a name that is not there gives
        name = variable if field is None else f"{variable}.{field}"
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise CorruptFileError(_unreadable(path, f"no {name} in it ({reason or type(error).__name__})")) from error
    return _as_ids(path, ids)


def _check(contents: bytes) -> None:
    """Raises an error if a file is cut off or its checksums are wrong.

    scipy does not look at them, and some damaged sizes end the process in a segmentation fault, without a word about
    the file.
    """
    order = _BYTE_ORDERS.get(contents[_HEADER - 2 : _HEADER])
    if order is None:
        raise ValueError("it is no MATLAB 5 file")
    place = _HEADER
    while place < len(contents):
        kind, size = struct.unpack_from(f"{order}II", contents, place)
        place += 8
        if size > len(contents) - place:
            raise ValueError("it is cut off")
        if kind == _COMPRESSED:
            zlib.decompress(contents[place : place + size])
        place += size


def _as_ids(path: Path, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Returns ids as unsigned integers; MATLAB's own numbers are floats."""
    if values.dtype.kind not in "uif" or values.ndim != 2 or values.size == 0:
        what = f"{values.dtype} of shape {values.shape}"
        raise CorruptFileError(_unreadable(path, f"it holds {what} where ids (H, W) should be"))
    if values.dtype in (np.uint8, np.uint16):
        return values
    if not ((values >= 0) & (values <= _MAX_ID) & (values == np.floor(values))).all():
        what = f"values from {values.min()} to {values.max()}"
        raise CorruptFileError(_unreadable(path, f"it holds {what}; ids are integers from 0 to {_MAX_ID}"))
    return values.astype(np.uint16)


def _unreadable(path: Path, reason: str) -> str:
    return f"mask {path} cannot be read: {reason}; replace the file, or remove it together with its partner"


def _loadmat(path: Path) -> Callable[..., dict[str, Any]]:
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise MissingDependencyError(
            f"mask {path} is a MATLAB file, which scipy reads: pip install 'seg-datasets[mat]'"
        ) from error
    reader: Callable[..., dict[str, Any]] = loadmat
    return reader
