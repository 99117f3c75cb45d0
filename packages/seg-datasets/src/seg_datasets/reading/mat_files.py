"""Masks in MATLAB 5 files, as SBD and PASCAL-Context publish them; read with scipy, an optional dependency."""

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
_HEADER = 128  # bytes; the last two give the byte order
_BYTE_ORDERS = {b"IM": "<", b"MI": ">"}
_COMPRESSED = 15  # type of a compressed element


def read_mat(path: Path, variable: str, field: str | None = None) -> npt.NDArray[Any]:
    """Returns the ids (H, W), uint8 or uint16, in a variable of a .mat file.

    Args:
        path: the file.
        variable: name of the variable in it.
        field: name of the field, if the variable is a 1x1 struct.

    Raises:
        MissingDependencyError: if scipy is not installed.
        CorruptFileError: if the file cannot be read, or contains no mask of that name.
        DatasetNotFoundError: if the file no longer exists.
    """
    loadmat = _loadmat(path)
    try:
        contents = path.read_bytes()
        _check(contents)
        value = loadmat(io.BytesIO(contents), variable_names=(variable,))[variable]
        ids = np.asarray(value if field is None else value[field].item())
    except FileNotFoundError:
        raise DatasetNotFoundError(f"mask {path} no longer exists; was it moved after the folder was listed?") from None
    except Exception as error:
        # scipy raises many exception types for damaged files, among them zlib.error, TypeError and MemoryError (for a
        # nonsensical size); a name that is not in the file gives KeyError or ValueError
        name = variable if field is None else f"{variable}.{field}"
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise CorruptFileError(_unreadable(path, f"no {name} in it ({reason or type(error).__name__})")) from error
    return _as_ids(path, ids)


def _check(contents: bytes) -> None:
    """Checks that a file is complete and its checksums are right.

    scipy does not check this, and some damaged sizes crash the process with a segmentation fault that does not name
    the file.

    Raises:
        ValueError: if the file is not a MATLAB 5 file, or is truncated.
        zlib.error: if compressed data are damaged.
    """
    order = _BYTE_ORDERS.get(contents[_HEADER - 2 : _HEADER])
    if order is None:
        raise ValueError("it is not a MATLAB 5 file")
    offset = _HEADER
    while offset < len(contents):
        kind, size = struct.unpack_from(f"{order}II", contents, offset)
        offset += 8
        if size > len(contents) - offset:
            raise ValueError("it is truncated")
        if kind == _COMPRESSED:
            zlib.decompress(contents[offset : offset + size])
        offset += size


def _as_ids(path: Path, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Returns ids as unsigned integers; MATLAB stores numbers as floats by default."""
    if values.dtype.kind not in "uif" or values.ndim != 2 or values.size == 0:
        what = f"{values.dtype} of shape {values.shape}"
        raise CorruptFileError(_unreadable(path, f"it contains {what}, expected ids (H, W)"))
    if values.dtype in (np.uint8, np.uint16):
        return values
    if not ((values >= 0) & (values <= _MAX_ID) & (values == np.floor(values))).all():
        what = f"values from {values.min()} to {values.max()}"
        raise CorruptFileError(_unreadable(path, f"it contains {what}; ids are integers from 0 to {_MAX_ID}"))
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
    return loadmat
