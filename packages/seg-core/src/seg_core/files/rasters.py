"""Reading parts of an image file, so that the image may be larger than memory.

TIFF and the other formats of GDAL need rasterio (the extra `geo`), arrays of zarr need zarr (the extra `zarr`); `.npy`
files need neither.
"""

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_core.errors import CorruptFileError, ImageNotFoundError, InvalidArgumentError, MissingDependencyError
from seg_core.files.images import Header, read_header

__all__ = [
    "GeoReference",
    "Raster",
    "import_rasterio",
    "open_gdal_file",
    "open_raster",
    "quiet_gdal",
    "read_geo_reference",
]

_CACHE_MIB = 64  # of GDAL, which would take a twentieth of the machine's memory
_CHANNELS = (1, 3, 4)
_FILE_CHANNELS = (1, 2, 3, 4)  # with two the second is alpha


@dataclass(frozen=True)
class GeoReference:
    """The geographic location of an image.

    Attributes:
        crs: rasterio's coordinate reference system.
        transform: affine map from pixels (x to the right, y down) to its coordinates.
    """

    crs: Any
    transform: Any


@dataclass(frozen=True)
class Raster:
    """An image that is read one rectangle at a time.

    Attributes:
        height: height in pixels.
        width: width in pixels.
        read: top, left, height, width -> (h, w, C) with 1, 3 or 4 channels; uint8, or float in 0 to 1.
        geo_reference: the geo reference of a GeoTIFF, else None.
    """

    height: int
    width: int
    read: Callable[[int, int, int, int], npt.NDArray[Any]]
    geo_reference: GeoReference | None = None


@contextlib.contextmanager
def open_raster(source: Any) -> Iterator[Raster]:
    """Opens an image that is then read one rectangle at a time.

    Args:
        source: path of a TIFF (or another format of GDAL), of a `.npy` file or of a zarr array; or an array, in memory
            or memory-mapped. Arrays are (H, W), (H, W, C) or (C, H, W) with 1, 3 or 4 channels.

    Raises:
        ImageNotFoundError: if there is no such file.
        CorruptFileError: if it cannot be read.
        InvalidArgumentError: if it has other channels or more than 8 bits, or if reading it in parts would give other
            pixels than reading it at once: an orientation tag, a palette, CMYK, fewer bits, ...
        MissingDependencyError: if the library for this format is not installed.
    """
    if not isinstance(source, str | os.PathLike):
        yield _raster_of_array(source, type(source).__name__)
        return
    path = Path(source)
    if not path.exists():
        if path.is_symlink():
            raise ImageNotFoundError(f"{path} is a link to {path.readlink()}, which does not exist; correct the link")
        raise ImageNotFoundError(f"there is no image {path}; check the path")
    if path.suffix.lower() == ".npy":
        yield _raster_of_npy(path)
    elif path.suffix.lower() == ".zarr":
        yield _raster_of_array(_open_zarr(path), str(path))
    else:
        with open_gdal_file(path) as file:
            yield _raster_of_gdal_file(file, path)


def read_geo_reference(source: str | None, shape: tuple[int, ...]) -> GeoReference | None:
    """Returns the geo reference of a GeoTIFF, or None if `source` is another file or has none.

    Args:
        source: path or URL of the image.
        shape: (H, W) of the label map that was predicted; for another size the geo reference would be wrong.
    """
    if source is None or Path(source).suffix.lower() not in (".tif", ".tiff") or not Path(source).is_file():
        return None
    with open_gdal_file(Path(source)) as file:
        return _geo_reference_of(file) if (file.height, file.width) == shape else None


def _raster_of_array(array: Any, name: str) -> Raster:
    shape = tuple(getattr(array, "shape", ()))
    if len(shape) == 2:
        height, width = shape
        return Raster(height, width, lambda t, le, h, w: np.asarray(array[t : t + h, le : le + w])[:, :, None])
    if len(shape) == 3 and shape[2] in _CHANNELS:
        return Raster(shape[0], shape[1], lambda t, le, h, w: np.asarray(array[t : t + h, le : le + w]))
    if len(shape) == 3 and shape[0] in _CHANNELS:
        return Raster(
            shape[1], shape[2], lambda t, le, h, w: np.asarray(array[:, t : t + h, le : le + w]).transpose(1, 2, 0)
        )
    raise InvalidArgumentError(
        f"an image must be an array (H, W), (H, W, C) or (C, H, W) with 1, 3 or 4 channels, got {name} of shape {shape}"
    )


def _raster_of_npy(path: Path) -> Raster:
    def mapped() -> npt.NDArray[Any]:
        try:
            array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise CorruptFileError(f"{path} cannot be read as an array: {error}; replace it") from error
        return array

    outline = _raster_of_array(mapped(), str(path))
    # mapped again for each read: pages that were read count as memory of the process as long as their map lives
    return Raster(outline.height, outline.width, lambda *part: _raster_of_array(mapped(), str(path)).read(*part).copy())


def _raster_of_gdal_file(file: Any, path: Path) -> Raster:
    dtypes = set(file.dtypes)
    if file.count not in _FILE_CHANNELS or dtypes != {"uint8"}:
        raise InvalidArgumentError(
            f"{path} has {file.count} channels of {', '.join(sorted(dtypes))}; an image has 1 to 4 channels of uint8: "
            "reduce it first, in the range that suits the data"
        )
    _check_same_as_whole(file, path)
    rasterio, bands = import_rasterio(), [1] if file.count < 3 else [1, 2, 3]  # without alpha

    def read(top: int, left: int, height: int, width: int) -> npt.NDArray[Any]:
        try:
            part = file.read(bands, window=rasterio.windows.Window(left, top, width, height))
        except rasterio.errors.RasterioError as error:
            raise CorruptFileError(f"{path} cannot be read at row {top}: {error}; replace it") from error
        return part.transpose(1, 2, 0)

    return Raster(file.height, file.width, read, _geo_reference_of(file))


def _check_same_as_whole(file: Any, path: Path) -> None:
    """Raises InvalidArgumentError if GDAL would give other pixels than `seg_core.files.images.read_image`.

    GDAL returns the stored samples, without turning them upright or converting their colors to RGB.
    """
    try:
        header: Header | None = read_header(path)
    except CorruptFileError:
        header = None  # a format that only GDAL reads
    if header is not None and header.orientation != 1:
        raise InvalidArgumentError(
            f"{path} has orientation tag {header.orientation}, which is not applied to an image read tile by tile; "
            "save it upright, without the tag, first"
        )
    unlike = header.unlike if header is not None else ""
    if file.colorinterp[0].name == "palette":
        unlike = "a palette"
    elif bits := file.tags(1, ns="IMAGE_STRUCTURE").get("NBITS"):
        unlike = unlike or f"{bits} bits per channel"
    if unlike:
        raise InvalidArgumentError(
            f"{path} has {unlike}; read tile by tile it would have other pixels than read at once: convert it to "
            "8-bit RGB, without JPEG, first"
        )


def _geo_reference_of(file: Any) -> GeoReference | None:
    return None if file.crs is None else GeoReference(file.crs, file.transform)


def _open_zarr(path: Path) -> Any:
    try:
        import zarr
    except ImportError as error:
        raise MissingDependencyError("zarr arrays need zarr: pip install 'seg-core[zarr]'") from error
    try:
        return zarr.open_array(str(path), mode="r")
    # what zarr raises differs between its versions, and shares no base class
    except Exception as error:
        raise CorruptFileError(f"{path} cannot be read as a zarr array: {error}; replace it") from error


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
        except rasterio.errors.RasterioError as error:
            raise CorruptFileError(f"{path} cannot be read as an image: {error}; replace it") from error
        yield file


@contextlib.contextmanager
def quiet_gdal() -> Iterator[None]:
    """Keeps GDAL's cache small, and silences rasterio's warning about images without a geo reference."""
    rasterio = import_rasterio()
    with rasterio.Env(GDAL_CACHEMAX=_CACHE_MIB), warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        yield


def import_rasterio() -> ModuleType:
    """Returns rasterio, with the submodules that this toolkit uses imported.

    Raises:
        MissingDependencyError: if it is not installed.
    """
    try:
        import rasterio
        import rasterio.errors
        import rasterio.features
        import rasterio.warp
        import rasterio.windows
    except ImportError as error:
        raise MissingDependencyError(
            "tiled TIFF, GeoJSON and the removal of small regions need rasterio: pip install 'seg-core[geo]'"
        ) from error
    return rasterio
