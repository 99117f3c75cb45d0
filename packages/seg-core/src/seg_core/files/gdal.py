"""Opening files with GDAL, by rasterio (the extra `geo`): files of this machine, each by one driver."""

import contextlib
import math
import os
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from seg_core.errors import CorruptFileError, ImageTooLargeError, MissingDependencyError
from seg_core.files.gdal_formats import FORMATS, absolute, check_sidecars, driver_of, is_codestream
from seg_core.files.jp2_boxes import check_boxes
from seg_core.files.mosaics import check_mosaic, refused_mosaic
from seg_core.files.storage import MAX_TILE_BYTES

__all__ = ["CACHE_BYTES", "gdal_errors", "import_rasterio", "keep_gdal_file", "open_gdal_file", "quiet_gdal"]

# rasterio passes the number on as bytes, although GDAL reads its option of that name in MiB
CACHE_BYTES = 64 * 2**20
"""Size of GDAL's cache, which would be a twentieth of the machine's memory."""


# what no driver that is used here needs; should one reach for the network nevertheless, it finds none
_WITHOUT_NETWORK = {
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none",
    "GDAL_HTTP_PROXY": "http://127.0.0.1:9",
    "GDAL_HTTP_MAX_RETRY": "0",
    "GDAL_VRT_ENABLE_PYTHON": "NO",
    "GDAL_VRT_ENABLE_RAWRASTERBAND": "NO",
}


@contextlib.contextmanager
def open_gdal_file(path: Path, page: int = 0, *, allow_vrt: bool = False) -> Iterator[Any]:
    """Opens an image file with rasterio.

    Args:
        path: the file.
        page: number of the page of a TIFF, from 0.
        allow_vrt: whether a VRT may be opened, if it is a plain mosaic of image files.

    Raises:
        CorruptFileError: if it cannot be read as an image, or would lead GDAL to another place than the file.
        ImageTooLargeError: if one tile of it is too large for memory.
        InvalidArgumentError: if it is a VRT and `allow_vrt` is False.
        MissingDependencyError: if rasterio is not installed.
    """
    with quiet_gdal(), _opened(path, page, allow_vrt) as file:
        yield file


@contextlib.contextmanager
def keep_gdal_file(path: Path, page: int = 0, *, allow_vrt: bool = False) -> Iterator[Any]:
    """Opens an image file as `open_gdal_file` does, for the time beyond a block of code.

    Rasterio's settings, which blocks set and restore one within the other, are not kept meanwhile.

    Raises:
        As `open_gdal_file`.
    """
    with contextlib.ExitStack() as stack:
        with quiet_gdal():
            file = stack.enter_context(_opened(path, page, allow_vrt))
        yield file


@contextlib.contextmanager
def _opened(path: Path, page: int, allow_vrt: bool) -> Iterator[Any]:
    rasterio = import_rasterio()
    name = absolute(path)
    driver = driver_of(path)
    if driver is None:
        raise CorruptFileError(
            f"{path} cannot be read as an image: it is of none of the formats that GDAL reads here ({FORMATS}); "
            "convert it: gdal_translate IN OUT.tif"
        )
    if driver == "VRT":
        if not allow_vrt:
            raise refused_mosaic(path)
        check_mosaic(path)
    if driver == "JP2OpenJPEG" and not is_codestream(path):
        check_boxes(path)
    check_sidecars(path)
    try:
        # a Path, of which rasterio does not look for a scheme; of several drivers it takes one
        with rasterio.open(Path(f"GTIFF_DIR:{page + 1}:{name}" if page else name), driver=driver) as file:
            _check_content(file, path)
            yield file
    except gdal_errors() as error:  # of metadata too, which are read when they are asked for
        raise CorruptFileError(f"{path} cannot be read as an image: {error}; replace it") from error


def _check_content(file: Any, path: Path) -> None:
    if "OVERVIEW_FILE" in file.tags(ns="OVERVIEWS"):
        raise CorruptFileError(
            f"{path} names another file as its overviews, which is not read; convert it: gdal_translate -co "
            "COPY_SRC_OVERVIEWS=NO IN OUT.tif"
        )
    is_by_pixel = str(file.profile.get("interleave", "")).lower() == "pixel"
    for dtype, shape in zip(file.dtypes, file.block_shapes, strict=True):
        size = 16 if dtype.startswith("complex") else np.dtype(dtype).itemsize
        count = math.prod(shape) * size * (file.count if is_by_pixel else 1)
        if count > MAX_TILE_BYTES:
            raise ImageTooLargeError(
                f"{path} has tiles of {shape[1]}x{shape[0]} pixels (width x height), which take {count} bytes each, "
                f"more than {MAX_TILE_BYTES}; rewrite it in smaller ones: gdal_translate -co TILED=YES IN OUT.tif"
            )


@contextlib.contextmanager
def quiet_gdal() -> Iterator[None]:
    """Keeps GDAL's cache small and GDAL off the network, and silences rasterio's warnings about what files lack."""
    with import_rasterio().Env(GDAL_CACHEMAX=CACHE_BYTES, **_WITHOUT_NETWORK), _SILENCE:
        yield


class _Silence:
    """Silences warnings of rasterio while any thread is in its block.

    Filters belong to the process: a thread that restored its own would end the silence of the others.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entered = 0
        self._former = warnings.catch_warnings()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()  # a thread that is not in this process may hold the former

    def __enter__(self) -> None:
        with self._lock:
            if not self._entered:
                errors = import_rasterio().errors
                self._former = warnings.catch_warnings()
                self._former.__enter__()
                warnings.simplefilter("ignore", errors.NotGeoreferencedWarning)
                warnings.simplefilter("ignore", errors.NodataShadowWarning)  # `validity` reads alpha itself
            self._entered += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._entered -= 1
            if not self._entered:
                self._former.__exit__(None, None, None)


_SILENCE = _Silence()


def gdal_errors() -> tuple[type[Exception], ...]:
    """Returns the classes of the errors that rasterio raises: its own, and those of GDAL that it passes on.

    Raises:
        MissingDependencyError: if rasterio is not installed.
    """
    rasterio = import_rasterio()
    return (rasterio.errors.RasterioError, rasterio._err.CPLE_BaseError)


def import_rasterio() -> ModuleType:
    """Returns rasterio, with the submodules that this toolkit uses imported.

    Raises:
        MissingDependencyError: if it is not installed.
    """
    try:
        import rasterio
        import rasterio._err
        import rasterio.control
        import rasterio.crs
        import rasterio.errors
        import rasterio.features
        import rasterio.io
        import rasterio.transform
        import rasterio.warp
        import rasterio.windows
    except ImportError as error:
        raise MissingDependencyError(
            "tiled TIFF, GeoJSON and the removal of small regions need rasterio: pip install 'seg-core[geo]'"
        ) from error
    return rasterio
