"""Opening files with GDAL, by rasterio (the extra `geo`)."""

import contextlib
import os
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from seg_core.errors import CorruptFileError, MissingDependencyError

__all__ = ["CACHE_BYTES", "gdal_errors", "import_rasterio", "keep_gdal_file", "open_gdal_file", "quiet_gdal"]

# rasterio passes the number on as bytes, although GDAL reads its option of that name in MiB
CACHE_BYTES = 64 * 2**20
"""Size of GDAL's cache, which would be a twentieth of the machine's memory."""


@contextlib.contextmanager
def open_gdal_file(path: Path) -> Iterator[Any]:
    """Opens an image file with rasterio.

    Raises:
        CorruptFileError: if it cannot be read as an image.
        MissingDependencyError: if rasterio is not installed.
    """
    rasterio = import_rasterio()
    with contextlib.ExitStack() as stack:
        stack.enter_context(quiet_gdal())
        try:
            file = stack.enter_context(rasterio.open(path))
        except gdal_errors() as error:
            raise CorruptFileError(f"{path} cannot be read as an image: {error}; replace it") from error
        yield file


@contextlib.contextmanager
def keep_gdal_file(path: Path) -> Iterator[Any]:
    """Opens an image file as `open_gdal_file` does, for the time beyond a block of code.

    Rasterio's settings, which blocks set and restore one within the other, are not kept meanwhile.

    Raises:
        As `open_gdal_file`.
    """
    rasterio = import_rasterio()
    try:
        with quiet_gdal():
            file = rasterio.open(path)
    except gdal_errors() as error:
        raise CorruptFileError(f"{path} cannot be read as an image: {error}; replace it") from error
    try:
        yield file
    finally:
        file.close()


@contextlib.contextmanager
def quiet_gdal() -> Iterator[None]:
    """Keeps GDAL's cache small, and silences rasterio's warnings about geo references and nodata values."""
    with import_rasterio().Env(GDAL_CACHEMAX=CACHE_BYTES), _SILENCE:
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
