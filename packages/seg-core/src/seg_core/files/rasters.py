"""Reading parts of an image file, so that the image may be larger than memory.

TIFF and the other formats of GDAL need rasterio (the extra `geo`), arrays of zarr need zarr (the extra `zarr`); `.npy`
files need neither.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_core.errors import (
    CorruptFileError,
    ImageTooLargeError,
    InvalidArgumentError,
    MissingDependencyError,
)
from seg_core.files.array_bands import ARRAY_SUFFIXES, map_npy, open_zarr
from seg_core.files.band_files import check_exists
from seg_core.files.bands import BandsRead
from seg_core.files.channel_files import open_channels, paths_of
from seg_core.files.emptiness import check_filled
from seg_core.files.gdal import gdal_errors, import_rasterio, open_gdal_file
from seg_core.files.gdal_bands import unlike_whole
from seg_core.files.gdal_formats import is_vrt
from seg_core.files.geo_reference import GeoReference, geo_reference_of, read_geo_reference
from seg_core.files.images import MAX_PIXELS, Header, check_image, read_header, read_image
from seg_core.files.validity import marks_of, valid_of, valid_pixels
from seg_core.labels.channels import RGB_CHANNELS, ImageChannels

__all__ = ["Raster", "open_raster"]

_CHANNELS = (1, 3, 4)
_FILE_CHANNELS = (1, 2, 3, 4)  # with two the second is alpha


@dataclass(frozen=True)
class Raster:
    """An image that is read one rectangle at a time.

    Attributes:
        height: height in pixels.
        width: width in pixels.
        read: top, left, height, width -> (h, w, C) with 1, 3 or 4 channels, uint8, or float in 0 to 1; or with the
            channels that are described, uint8, uint16 or float32, the values of the file.
        geo_reference: the geo reference of a file that has one, else None.
        valid: top, left, height, width -> bool (h, w), whether the pixels hold data; None if all do.
    """

    height: int
    width: int
    read: Callable[[int, int, int, int], npt.NDArray[Any]]
    geo_reference: GeoReference | None = None
    valid: Callable[[int, int, int, int], npt.NDArray[np.bool_]] | None = None


@contextlib.contextmanager
def open_raster(
    source: Any,
    max_pixels: int = MAX_PIXELS,
    *,
    channels: ImageChannels = RGB_CHANNELS,
    allow_vrt: bool = False,
) -> Iterator[Raster]:
    """Opens an image that is then read one rectangle at a time.

    GDAL returns the stored samples of a file. Where these are not the pixels that `read_image` returns (an orientation
    tag, a palette, CMYK, JPEG's colors, fewer than 8 bits, ...), or GDAL cannot read the file, it is read at once.

    Args:
        source: path of a TIFF (or another format of GDAL), of a `.npy` file or of a zarr array; or an array, in memory
            or memory-mapped. Arrays are (H, W), (H, W, C) or (C, H, W) with 1, 3 or 4 channels, or those that are
            described. If channels are described, also a list of the paths of several files, whose bands are stacked.
        max_pixels: largest width times height of a file that is read at once, or is nearly empty.
        channels: the channels of the image. If they are not three of 8 bits, `Raster.read` returns them as
            `seg_core.files.channel_files.read_channels` does.
        allow_vrt: whether a `.vrt` file may be read, which is a mosaic of other image files.

    Raises:
        ImageNotFoundError: if there is no such file.
        CorruptFileError: if it cannot be read, or does not fit the description of the channels.
        ImageTooLargeError: if it must be read at once and has more pixels than `max_pixels`; if it has more, and 1024
            for each byte of the file; or if one of its tiles is too large for memory.
        InvalidArgumentError: if it has other channels or more than 8 bits.
        MissingDependencyError: if the library for this format is not installed.
    """
    if not channels.is_rgb8:
        with _opened_channels(source, channels, max_pixels, allow_vrt) as raster:
            yield raster
        return
    if not isinstance(source, str | os.PathLike):
        yield _raster_of_array(source, type(source).__name__)
        return
    path = Path(source)
    check_exists(path)
    if path.suffix.lower() == ".npy":
        yield _raster_of_npy(path)
    elif path.suffix.lower() == ".zarr":
        raster = _raster_of_array(open_zarr(path), str(path))
        check_filled([path], (raster.height, raster.width), max_pixels)
        yield raster
    elif path.is_dir():
        raise CorruptFileError(f"{path} is a folder, not an image; give the path of a file in it")
    else:
        with _opened_file(path, max_pixels, allow_vrt) as raster:
            yield raster


@contextlib.contextmanager
def _opened_file(path: Path, max_pixels: int, allow_vrt: bool) -> Iterator[Raster]:
    header: Header | None = None
    unknown: CorruptFileError | None = None
    try:
        header = read_header(path)
    except CorruptFileError as error:
        unknown = error  # a format that only GDAL reads
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open_gdal_file(path, allow_vrt=allow_vrt))
        except CorruptFileError as error:
            if unknown is not None:
                raise (error if is_vrt(path) else unknown) from None
            yield _raster_read_at_once(path, "a format that GDAL does not read", None, max_pixels)
            return
        _check_samples(file, path)
        geo_reference = geo_reference_of(file, 1 if header is None else header.orientation)
        if reason := unlike_whole(file, header):
            yield _raster_read_at_once(path, reason, geo_reference, max_pixels)
        else:
            check_filled([path], (file.height, file.width), max_pixels)
            yield _raster_of_gdal_file(file, path, geo_reference, header is None)


@contextlib.contextmanager
def _opened_channels(source: Any, channels: ImageChannels, max_pixels: int, allow_vrt: bool) -> Iterator[Raster]:
    """Opens an image whose channels are described; what can only be read at once is kept in memory."""
    is_files = isinstance(source, str | os.PathLike | list | tuple)
    paths = paths_of(source) if is_files else []
    with open_channels(paths if is_files else source, channels, allow_vrt=allow_vrt) as image:
        if image.has_windows:
            check_filled(paths, (image.height, image.width), max_pixels)
        whole = None if image.has_windows else image.read(None, max_pixels)
        last: list[Any] = [None, None]  # the last part: its image and its valid pixels are asked for one after another

        def part(top: int, left: int, height: int, width: int) -> BandsRead:
            place = (top, left, height, width)
            if whole is not None:
                rows, columns = slice(top, top + height), slice(left, left + width)
                return whole[0][rows, columns], None if whole[1] is None else whole[1][rows, columns]
            if last[0] != place:
                last[:] = place, image.read(place, sys.maxsize)
            found: BandsRead = last[1]
            return found

        def valid(*place: int) -> npt.NDArray[np.bool_]:
            found = part(*place)[1]
            return np.ones(place[2:], bool) if found is None else found

        may_lack = image.may_lack_data if whole is None else whole[1] is not None
        yield Raster(
            image.height,
            image.width,
            lambda *place: part(*place)[0],
            _geo_reference(paths, (image.height, image.width)),
            valid if may_lack else None,
        )


def _geo_reference(paths: list[Path], size: tuple[int, int]) -> GeoReference | None:
    """Returns the geo reference of the first file that has one; none without rasterio."""
    for path in paths:
        if path.suffix.lower() in ARRAY_SUFFIXES:
            continue
        try:
            found = read_geo_reference(str(path), size)
        except MissingDependencyError:
            return None
        if found is not None:
            return found
    return None


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
    outline = _raster_of_array(map_npy(path), str(path))
    # mapped again for each read: pages that were read count as memory of the process as long as their map lives
    return Raster(
        outline.height, outline.width, lambda *part: _raster_of_array(map_npy(path), str(path)).read(*part).copy()
    )


def _check_samples(file: Any, path: Path) -> None:
    dtypes = set(file.dtypes)
    if file.count not in _FILE_CHANNELS or dtypes != {"uint8"}:
        raise InvalidArgumentError(
            f"{path} has {file.count} channels of {', '.join(sorted(dtypes))}; an image has 1 to 4 channels of uint8: "
            "reduce it first, in the range that suits the data (gdal_translate -ot Byte -scale LOW HIGH 0 255, with "
            "-b 1 -b 2 -b 3 for the bands of red, green and blue), or use a model of images with such channels"
        )


def _raster_read_at_once(path: Path, reason: str, geo_reference: GeoReference | None, max_pixels: int) -> Raster:
    check_image(path, max_pixels=sys.maxsize)  # a kind that cannot be read at any size
    try:
        image = read_image(path, max_pixels=max_pixels)
    except ImageTooLargeError as error:
        raise ImageTooLargeError(
            f"{path} has {reason}, so it can only be read at once, and more pixels than max_pixels={max_pixels} (width "
            "times height); raise max_pixels (seg predict --max-pixels) if it fits in memory, else convert it to 8-bit "
            "RGB, upright, without JPEG"
        ) from error
    valid = valid_pixels(path, image.shape[:2])
    return Raster(
        image.shape[0],
        image.shape[1],
        lambda top, left, height, width: image[top : top + height, left : left + width],
        geo_reference,
        None if valid is None else lambda t, le, h, w: valid[t : t + h, le : le + w],
    )


def _raster_of_gdal_file(file: Any, path: Path, geo_reference: GeoReference | None, is_gdal_only: bool) -> Raster:
    rasterio, bands = import_rasterio(), [1] if file.count < 3 else [1, 2, 3]  # without alpha
    read_valid = valid_of(file) if is_gdal_only or marks_of(path) else None

    def part(read: Callable[[Any], npt.NDArray[Any]], top: int, left: int, h: int, w: int) -> npt.NDArray[Any]:
        try:
            return read(rasterio.windows.Window(left, top, w, h))
        except gdal_errors() as error:
            # rasterio's own text only says that there is a cause
            raise CorruptFileError(
                f"{path} cannot be read at row {top}: {error.__cause__ or error}; replace it"
            ) from error

    def read_colors(window: Any) -> npt.NDArray[Any]:
        return file.read(bands, window=window).transpose(1, 2, 0)

    return Raster(
        file.height,
        file.width,
        lambda *place: part(read_colors, *place),
        geo_reference,
        None if read_valid is None else lambda *place: part(read_valid, *place),
    )
