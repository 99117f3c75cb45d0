"""Images and label maps that are read and written window by window, so that they may be larger than the memory.

Tiled TIFF, and what GDAL reads besides, needs rasterio, the extra `geo`; so do polygons and the removal of small
regions. Arrays of zarr need the extra `zarr`.
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

from seg_core.errors import (
    CorruptFileError,
    ImageNotFoundError,
    InvalidArgumentError,
    MissingDependencyError,
    WriteError,
)
from seg_core.files.atomic import atomic_path
from seg_core.files.images import Header, read_header
from seg_core.labels.metadata import DatasetMetadata

__all__ = [
    "Place",
    "Raster",
    "Write",
    "import_rasterio",
    "npy_writer",
    "open_raster",
    "polygons",
    "read_place",
    "remove_small_regions",
    "tiff_writer",
]

Write = Callable[[int, int, npt.NDArray[Any]], None]
"""Writes a block of a label map: top, left, ids (h, w)."""

_TIFF_BLOCK = 512  # pixels
_CACHE_MIB = 64  # of GDAL, which would take a twentieth of the machine's memory
_CHANNELS = (1, 3, 4)
_FILE_CHANNELS = (1, 2, 3, 4)  # with two the second is alpha


@dataclass(frozen=True)
class Place:
    """Where an image lies on earth.

    Attributes:
        crs: rasterio's coordinate reference system.
        transform: affine map from pixels (x to the right, y down) to its coordinates.
    """

    crs: Any
    transform: Any


@dataclass(frozen=True)
class Raster:
    """An image that is read window by window.

    Attributes:
        height: in pixels.
        width: in pixels.
        read: top, left, height, width -> (h, w, C) with 1, 3 or 4 channels; uint8, or float in 0 to 1.
        place: of a GeoTIFF, else None.
    """

    height: int
    width: int
    read: Callable[[int, int, int, int], npt.NDArray[Any]]
    place: Place | None = None


@contextlib.contextmanager
def open_raster(source: Any) -> Iterator[Raster]:
    """Opens an image to be read window by window.

    Args:
        source: path of a TIFF (or of what else GDAL reads), of a `.npy` file or of a zarr array; or an array, in memory
            or mapped. Arrays are (H, W), (H, W, C) or (C, H, W) with 1, 3 or 4 channels.

    Raises:
        ImageNotFoundError: if there is no such file.
        CorruptFileError: if it cannot be read.
        InvalidArgumentError: if it has other channels or more than 8 bits, or windows of it would not be those of the
            image read at once: an orientation tag, a palette, CMYK, fewer bits, ...
        MissingDependencyError: if what reads it is not installed.
    """
    if not isinstance(source, str | os.PathLike):
        yield _raster_of_array(source, type(source).__name__)
        return
    path = Path(source)
    if not path.exists():
        raise ImageNotFoundError(f"there is no image {path}; check the path")
    if path.suffix.lower() == ".npy":
        yield _raster_of_npy(path)
    elif path.suffix.lower() == ".zarr":
        yield _raster_of_array(_open_zarr(path), str(path))
    else:
        with _opened(path) as file:
            yield _raster_of_file(file, path)


def read_place(source: str | None, shape: tuple[int, ...]) -> Place | None:
    """Returns where the image of a label map lies, or None where its file does not say.

    Args:
        source: path or address of the image.
        shape: (H, W) of the label map; of another size the place would be wrong.
    """
    if source is None or Path(source).suffix.lower() not in (".tif", ".tiff") or not Path(source).is_file():
        return None
    with _opened(Path(source)) as file:
        return _place_of(file) if (file.height, file.width) == shape else None


@contextlib.contextmanager
def tiff_writer(
    path: str | os.PathLike[str],
    shape: tuple[int, ...],
    dtype: npt.DTypeLike,
    metadata: DatasetMetadata,
    place: Place | None = None,
) -> Iterator[Write]:
    """Gives a function that writes blocks of a label map into a tiled, compressed TIFF, whole or not at all.

    Ids of 8 bits have the palette of the classes. The metadata's `ignore_index` is what GIS programs do not show.

    Args:
        path: of the file; it has its name once the block ends without an error.
        shape: (H, W).
        dtype: uint8 or uint16.
        metadata: of the classes.
        place: on earth.

    Raises:
        WriteError: if it cannot be written.
        MissingDependencyError: if rasterio is not installed.
    """
    from seg_models.inference.prediction import class_palette

    rasterio = import_rasterio()
    kind = np.dtype(dtype)
    options: dict[str, Any] = {"driver": "GTiff", "count": 1, "tiled": True, "compress": "deflate"}
    options |= {"blockxsize": _TIFF_BLOCK, "blockysize": _TIFF_BLOCK, "bigtiff": "if_safer"}
    if metadata.ignore_index <= np.iinfo(kind).max:
        options["nodata"] = metadata.ignore_index
    if place is not None:
        options |= {"crs": place.crs, "transform": place.transform}
    counts = np.zeros(np.iinfo(kind).max + 1, np.int64)
    with atomic_path(path) as temporary, _quiet(rasterio):
        with _write_errors(path, rasterio):
            file = rasterio.open(temporary, "w", height=shape[0], width=shape[1], dtype=kind.name, **options)
            if kind == np.uint8:
                file.write_colormap(1, dict(enumerate(class_palette(metadata))))

        def write(top: int, left: int, ids: npt.NDArray[Any]) -> None:
            nonlocal counts
            counts += np.bincount(ids.ravel(), minlength=len(counts))
            with _write_errors(path, rasterio):
                file.write(ids, 1, window=rasterio.windows.Window(left, top, ids.shape[1], ids.shape[0]))

        try:
            yield write
        finally:
            with _write_errors(path, rasterio):
                file.close()
        with _write_errors(path, rasterio):
            whole = np.array_equal(_count_ids(temporary, len(counts)), counts)
        if not whole:
            raise WriteError(f"cannot write {path}: not all of it reached the disk; check its free space")


@contextlib.contextmanager
def _write_errors(path: str | os.PathLike[str], rasterio: ModuleType) -> Iterator[None]:
    try:
        yield
    except (rasterio.errors.RasterioError, CorruptFileError) as error:
        raise WriteError(f"cannot write {path}: {error}; check the folder's permissions and free space") from error


def _count_ids(path: Path, length: int) -> npt.NDArray[np.int64]:
    """Returns how often each id occurs in a TIFF.

    GDAL tells nobody that a disk was full when it closed a file. A tile that is missing reads as one value, so that the
    counts tell; one that is cut off cannot be read.
    """
    counts = np.zeros(length, np.int64)
    with _opened(path) as file:
        for top in range(0, file.height, _TIFF_BLOCK):
            height = min(_TIFF_BLOCK, file.height - top)
            window = import_rasterio().windows.Window(0, top, file.width, height)
            counts += np.bincount(file.read(1, window=window).ravel(), minlength=length)
    return counts


@contextlib.contextmanager
def npy_writer(path: str | os.PathLike[str], shape: tuple[int, ...], dtype: npt.DTypeLike) -> Iterator[Write]:
    """Gives a function that writes blocks of a label map into a `.npy` file, which numpy maps into memory.

    It is written as a file, not as a map: on a full disk a map would end the process.

    Args:
        path: of the file; it has its name once the block ends without an error.
        shape: (H, W).
        dtype: of the ids.

    Raises:
        WriteError: if it cannot be written.
    """
    kind = np.dtype(dtype)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": tuple(shape)}
        np.lib.format.write_array_header_2_0(file, header)
        start = file.tell()
        file.truncate(start + shape[0] * shape[1] * kind.itemsize)

        def write(top: int, left: int, ids: npt.NDArray[Any]) -> None:
            if ids.shape[1] == shape[1]:  # whole rows lie side by side
                file.seek(start + top * shape[1] * kind.itemsize)
                file.write(np.ascontiguousarray(ids, kind).data)
                return
            for number, row in enumerate(np.ascontiguousarray(ids, kind), start=top):
                file.seek(start + (number * shape[1] + left) * kind.itemsize)
                file.write(row.data)

        yield write


def remove_small_regions(labels: npt.NDArray[Any], min_pixels: int) -> npt.NDArray[Any]:
    """Returns a label map whose small regions have the id of their largest neighbor (GDAL's sieve filter).

    A region is what hangs together by the sides of its pixels; one of ignored pixels counts as others do.

    Args:
        labels: uint8 or uint16 (H, W).
        min_pixels: regions with fewer pixels go.

    Raises:
        InvalidArgumentError: if `min_pixels` is below 1.
        MissingDependencyError: if rasterio is not installed.
    """
    if type(min_pixels) is not int or min_pixels < 1:
        raise InvalidArgumentError(f"min_pixels must be a number of pixels from 1 on, got {min_pixels!r}")
    if min_pixels == 1:
        return labels
    sieved: npt.NDArray[Any] = import_rasterio().features.sieve(labels, min_pixels, connectivity=4)
    return sieved


def polygons(
    labels: npt.NDArray[Any], metadata: DatasetMetadata, place: Place | None = None
) -> Iterator[dict[str, Any]]:
    """Yields a GeoJSON feature for each region of a class; ignored pixels have none.

    Args:
        labels: uint8 or uint16 (H, W).
        metadata: of the classes.
        place: makes the coordinates longitude and latitude (WGS 84); else they are pixels, x to the right and y down.

    Raises:
        MissingDependencyError: if rasterio is not installed.
    """
    rasterio = import_rasterio()
    shown = labels != metadata.ignore_index
    for geometry, value in rasterio.features.shapes(labels, mask=shown, connectivity=4):
        pixels = round(sum(map(_signed_area, geometry["coordinates"])))
        if place is not None:
            a, b, c, d, e, f = tuple(place.transform)[:6]
            moved = [[(a * x + b * y + c, d * x + e * y + f) for x, y in ring] for ring in geometry["coordinates"]]
            geometry = {"type": "Polygon", "coordinates": moved}
            geometry = rasterio.warp.transform_geom(place.crs, "EPSG:4326", geometry)
        properties = {"class_id": int(value), "class": metadata.labels[int(value)], "pixels": abs(pixels)}
        yield {"type": "Feature", "geometry": geometry, "properties": properties}


def _signed_area(ring: list[tuple[float, float]]) -> float:
    """Returns the area of a closed ring; that of a hole has the other sign, since it runs the other way."""
    x, y = np.asarray(ring).T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2)


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
    # mapped anew for each window: what was read would stay in the memory of the process as long as its map
    return Raster(
        outline.height, outline.width, lambda *window: _raster_of_array(mapped(), str(path)).read(*window).copy()
    )


def _raster_of_file(file: Any, path: Path) -> Raster:
    kinds = set(file.dtypes)
    if file.count not in _FILE_CHANNELS or kinds != {"uint8"}:
        raise InvalidArgumentError(
            f"{path} has {file.count} channels of {', '.join(sorted(kinds))}; an image has 1 to 4 channels of uint8: "
            "reduce it first, in the range that suits the data"
        )
    _check_like_whole(file, path)
    rasterio, bands = import_rasterio(), [1] if file.count < 3 else [1, 2, 3]  # without alpha

    def read(top: int, left: int, height: int, width: int) -> npt.NDArray[Any]:
        try:
            window = file.read(bands, window=rasterio.windows.Window(left, top, width, height))
        except rasterio.errors.RasterioError as error:
            raise CorruptFileError(f"{path} cannot be read at row {top}: {error}; replace it") from error
        pixels: npt.NDArray[Any] = window.transpose(1, 2, 0)
        return pixels

    return Raster(file.height, file.width, read, _place_of(file))


def _check_like_whole(file: Any, path: Path) -> None:
    """Raises InvalidArgumentError if GDAL's samples are not the pixels that an image read at once has.

    GDAL returns what is stored, or what it makes of it; `seg_core.files.images` what is meant.
    """
    try:
        header: Header | None = read_header(path)
    except CorruptFileError:
        header = None  # a format that only GDAL reads
    if header is not None and header.orientation != 1:
        raise InvalidArgumentError(
            f"{path} has orientation tag {header.orientation}; read window by window it is not turned: save it "
            "upright, without the tag, first"
        )
    unlike = header.unlike if header is not None else ""
    if file.colorinterp[0].name == "palette":
        unlike = "a palette"
    elif bits := file.tags(1, ns="IMAGE_STRUCTURE").get("NBITS"):
        unlike = unlike or f"{bits} bits per channel"
    if unlike:
        raise InvalidArgumentError(
            f"{path} has {unlike}; read window by window it would have other pixels than read at once: convert it to "
            "8-bit RGB, without JPEG, first"
        )


def _place_of(file: Any) -> Place | None:
    return None if file.crs is None else Place(file.crs, file.transform)


def _open_zarr(path: Path) -> Any:
    try:
        import zarr
    except ImportError as error:
        raise MissingDependencyError("zarr arrays need zarr: pip install 'seg-models[zarr]'") from error
    try:
        return zarr.open_array(str(path), mode="r")
    # what zarr raises differs between its versions, and shares no base class
    except Exception as error:
        raise CorruptFileError(f"{path} cannot be read as a zarr array: {error}; replace it") from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    rasterio = import_rasterio()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_quiet(rasterio))
        try:
            file = stack.enter_context(rasterio.open(path))
        except rasterio.errors.RasterioError as error:
            raise CorruptFileError(f"{path} cannot be read as an image: {error}; replace it") from error
        yield file


@contextlib.contextmanager
def _quiet(rasterio: ModuleType) -> Iterator[None]:
    """Keeps GDAL's cache small, and rasterio silent about images that lie nowhere on earth."""
    with rasterio.Env(GDAL_CACHEMAX=_CACHE_MIB), warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        yield


def import_rasterio() -> ModuleType:
    """Returns rasterio, with those of its modules that are used here.

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
            "TIFF by windows, GeoJSON and small regions need rasterio: pip install 'seg-models[geo]'"
        ) from error
    module: ModuleType = rasterio
    return module
