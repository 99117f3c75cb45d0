"""Writing label maps block by block, as tiled TIFF or `.npy`, so that they may be larger than memory.

TIFF needs rasterio, the extra `geo`.
"""

import contextlib
import math
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_core.errors import CorruptFileError, WriteError
from seg_core.files.atomic import atomic_path, is_full, write_error
from seg_core.files.gdal import CACHE_BYTES, gdal_errors, import_rasterio, open_gdal_file, quiet_gdal
from seg_core.files.geo_reference import GeoReference
from seg_core.labels.metadata import DatasetMetadata
from seg_core.labels.tasks import BINARY

__all__ = ["Write", "class_palette", "npy_writer", "remove_sidecars", "tiff_writer"]

Write = Callable[[int, int, npt.NDArray[Any]], None]
"""Writes a block of a label map: top, left, ids (h, w), or planes (K, h, w)."""

_PALETTE_SIZE = 256
# what GDAL keeps beside a file and reads with it: overviews, metadata, a mask and its overviews
_SIDECARS = (".ovr", ".aux.xml", ".msk", ".msk.ovr")
_WORLD_FILES = (".tfw", ".tifw", ".tiffw", ".wld")
_TIFF_BLOCK, _MIN_TIFF_BLOCK = 512, 16  # pixels; TIFF has blocks of multiples of 16


def class_palette(metadata: DatasetMetadata) -> list[tuple[int, int, int]]:
    """Returns the colors (red, green, blue) of the ids 0 to 255; in a binary task 0 is the background, black."""
    shown = [(0, 0, 0), *metadata.colors] if metadata.task == BINARY else [*metadata.colors]
    colors = [*shown, *[(0, 0, 0)] * (_PALETTE_SIZE - len(shown))]
    if metadata.ignore_index < _PALETTE_SIZE:
        colors[metadata.ignore_index] = metadata.ignore_color
    return colors[:_PALETTE_SIZE]


@contextlib.contextmanager
def tiff_writer(
    path: str | os.PathLike[str],
    shape: tuple[int, ...],
    dtype: npt.DTypeLike,
    metadata: DatasetMetadata,
    geo_reference: GeoReference | None = None,
) -> Iterator[Write]:
    """Creates a tiled, compressed TIFF atomically; yields a function that writes blocks of a label map into it.

    8-bit ids have the palette of the classes. Planes are bands, whose descriptions are the names of the classes. The
    metadata's `ignore_index` is the file's nodata value, which GIS programs do not show. Overviews, masks and metadata
    beside a file that is replaced are removed; a world file, which may be that of another image, is not, with a warning
    if it would give the label map a location.

    Args:
        path: path of the file; it is renamed to this path when the `with` block ends without an error.
        shape: (H, W), or (K, H, W) for a plane per class.
        dtype: uint8 or uint16.
        metadata: names and colors of the classes.
        geo_reference: geographic location of the label map.

    Raises:
        WriteError: if it cannot be written.
        MissingDependencyError: if rasterio is not installed.
    """
    rasterio = import_rasterio()
    id_dtype = np.dtype(dtype)
    height, width = shape[-2:]
    bands = [1] if len(shape) == 2 else list(range(1, shape[0] + 1))
    options: dict[str, Any] = {"driver": "GTiff", "count": len(bands), "tiled": True, "compress": "deflate"}
    block = _block_height(width * len(bands), id_dtype)
    options |= {"blockxsize": _TIFF_BLOCK, "blockysize": block, "bigtiff": "if_safer"}
    if len(bands) > 1:  # three or four bands would be colors and alpha otherwise
        options |= {"photometric": "minisblack", "alpha": "no", "interleave": "band"}
    if metadata.ignore_index <= np.iinfo(id_dtype).max:
        options["nodata"] = metadata.ignore_index
    if geo_reference is not None:
        options |= _geo_options(geo_reference)
    counts = np.zeros((len(bands), np.iinfo(id_dtype).max + 1), np.int64)
    with atomic_path(path) as temporary, quiet_gdal():
        with _as_write_error(path):
            file = rasterio.open(temporary, "w", height=height, width=width, dtype=id_dtype.name, **options)
            if len(shape) == 3:
                file.descriptions = metadata.labels
            elif id_dtype == np.uint8:
                file.write_colormap(1, dict(enumerate(class_palette(metadata))))

        def write(top: int, left: int, ids: npt.NDArray[Any]) -> None:
            planes = ids.reshape(-1, *ids.shape[-2:])
            for plane, count in zip(planes, counts, strict=True):
                count += np.bincount(plane.ravel(), minlength=len(count))
            with _as_write_error(path):
                file.write(planes, bands, window=rasterio.windows.Window(left, top, ids.shape[-1], ids.shape[-2]))

        try:
            yield write
        finally:
            with _as_write_error(path):
                file.close()
        with _as_write_error(path):
            complete = np.array_equal(_count_ids(temporary, counts.shape[1]), counts)
        if not complete:
            raise WriteError(f"cannot write {path}: it is incomplete on the disk; check its free space")
    remove_sidecars(path)
    if geo_reference is None or geo_reference.transform is None:
        _warn_of_world_file(Path(path))


def remove_sidecars(path: str | os.PathLike[str]) -> None:
    """Removes the files that GDAL kept beside a replaced label map, and would read with the new one.

    Raises:
        WriteError: if one cannot be removed.
    """
    for suffix in _SIDECARS:
        sidecar = Path(f"{os.fspath(path)}{suffix}")
        try:
            sidecar.unlink(missing_ok=True)
        except OSError as error:
            raise write_error(f"remove {sidecar}, which belongs to the file before {path}", error) from error


def _warn_of_world_file(path: Path) -> None:
    for suffix in _WORLD_FILES:
        world_file = path.with_suffix(suffix)
        if world_file.exists():
            warnings.warn(
                f"{path} has no geo reference, but GIS programs take that of {world_file} beside it; move one of them",
                stacklevel=4,
            )
            return


def _block_height(width: int, dtype: np.dtype[Any]) -> int:
    """Returns the height of blocks of which a row fits into GDAL's cache, beside the blocks of the image being read.

    Otherwise a block that is written in parts would be compressed and appended to the file for each of them.
    """
    height = _TIFF_BLOCK
    while height > _MIN_TIFF_BLOCK and height * width * dtype.itemsize > CACHE_BYTES // 2:
        height //= 2
    return height


def _geo_options(geo_reference: GeoReference) -> dict[str, Any]:
    """Returns the options by which rasterio writes a geo reference."""
    options = {"crs": geo_reference.crs, "transform": geo_reference.transform, "rpcs": geo_reference.rpcs}
    if geo_reference.gcps:
        # which rasterio writes together with a CRS only, though an empty one is enough
        options |= {"gcps": list(geo_reference.gcps), "crs": geo_reference.crs or import_rasterio().crs.CRS()}
    return {name: value for name, value in options.items() if value is not None}


@contextlib.contextmanager
def _as_write_error(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except CorruptFileError as error:  # of the file just written, which GDAL has not told
        reason = "no space left on its disk" if is_full(path) else "what was written cannot be read back"
        raise WriteError(f"cannot write {path}: {reason}; check the free space of its disk") from error
    except gdal_errors() as error:
        reason = "no space left on its disk" if is_full(path) else str(error).splitlines()[0]
        raise WriteError(f"cannot write {path}: {reason}; check the folder's permissions and free space") from error


def _count_ids(path: Path, length: int) -> npt.NDArray[np.int64]:
    """Returns how often each id occurs in each band of a TIFF, (bands, `length`).

    GDAL does not report a disk that was full when it closed a file. A missing block reads as one value, so the counts
    differ from those that were written; a block that is cut off cannot be read.
    """
    with open_gdal_file(path) as file:
        counts = np.zeros((file.count, length), np.int64)
        for top in range(0, file.height, _TIFF_BLOCK):
            height = min(_TIFF_BLOCK, file.height - top)
            strip = import_rasterio().windows.Window(0, top, file.width, height)
            for band, count in enumerate(counts, start=1):
                count += np.bincount(file.read(band, window=strip).ravel(), minlength=length)
    return counts


@contextlib.contextmanager
def npy_writer(path: str | os.PathLike[str], shape: tuple[int, ...], dtype: npt.DTypeLike) -> Iterator[Write]:
    """Creates a `.npy` file atomically; yields a function that writes blocks of a label map into it.

    The file is written, not memory-mapped: on a full disk a write to a memory map would kill the process.

    Args:
        path: path of the file; it is renamed to this path when the `with` block ends without an error.
        shape: (H, W), or (K, H, W) for a plane per class.
        dtype: dtype of the ids.

    Raises:
        WriteError: if it cannot be written.
    """
    id_dtype = np.dtype(dtype)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(id_dtype), "fortran_order": False, "shape": tuple(shape)}
        np.lib.format.write_array_header_2_0(file, header)
        start = file.tell()
        file.truncate(start + math.prod(shape) * id_dtype.itemsize)
        height, width = shape[-2:]

        def write(top: int, left: int, ids: npt.NDArray[Any]) -> None:
            for plane, part in enumerate(ids.reshape(-1, *ids.shape[-2:])):
                first = plane * height + top  # row of the file
                if part.shape[1] == width:  # full rows are contiguous in the file
                    file.seek(start + first * width * id_dtype.itemsize)
                    file.write(np.ascontiguousarray(part, id_dtype).data)
                    continue
                for number, row in enumerate(np.ascontiguousarray(part, id_dtype), start=first):
                    file.seek(start + (number * width + left) * id_dtype.itemsize)
                    file.write(row.data)

        yield write
