"""Reads images of any number of channels and any bit depth, as `ImageChannels` describes them.

A file that does not fit the description is an error that says how it differs: nothing is dropped, repeated, scaled or
cut to fewer bits. Images of three 8-bit channels are read by `seg_core.files.images`.

- **Channels** are the bands of the file, or of several files in their order, without alpha; or those that
  `ImageChannels.bands` names. The bands of an array (`.npy`, zarr) are its last or its first axis.
- **Types.** An image is uint8, uint16 or float32: the smallest that holds all bands. Other types become float32; an
  integer beyond 2**24 that float32 cannot hold is an error.
- **Samples** are those of the file: fewer than 8 bits are not scaled, white as zero is not inverted.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_core.errors import CorruptFileError, InvalidArgumentError
from seg_core.files.array_bands import bands_of_array
from seg_core.files.band_choice import Choice, choose_bands
from seg_core.files.band_files import open_bands
from seg_core.files.bands import Bands, Window, check_window, differs
from seg_core.files.images import MAX_PIXELS, check_max_pixels, check_orientation, read_header
from seg_core.files.open_files import OpenFiles, file_state
from seg_core.files.opening import check_pixels
from seg_core.files.windows import can_read_image_windows
from seg_core.labels.channels import ImageChannels

__all__ = [
    "ChannelImage",
    "ChannelSource",
    "can_read_windows",
    "channels_size",
    "may_lack_data",
    "open_channels",
    "paths_of",
    "read_channels",
]

ChannelSource = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""Path of a file, or the paths of several whose bands are stacked in that order."""

_Read = tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]
_EXACT = 2**24
"""Integers up to this are exact in float32."""
_OPEN_FILES = OpenFiles()


def read_channels(
    source: ChannelSource,
    channels: ImageChannels,
    *,
    max_pixels: int = MAX_PIXELS,
    orientation: str = "apply",
    window: tuple[int, int, int, int] | None = None,
    allow_vrt: bool = False,
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
    """Returns an image with the channels that are described, and which of its pixels hold data.

    Args:
        source: path of a PNG, TIFF or other image file, of a `.npy` file or of a zarr array; or the paths of several
            files of one image, whose bands are stacked in that order.
        channels: the channels of the images.
        max_pixels: largest width times height that is read.
        orientation: `"apply"` applies the orientation tag, `"stored"` keeps the pixels as stored.
        window: top, left, height and width of the part to read; None for all. Of a file with
            `can_read_windows` only that part is read, and the file stays open for the next part.
        allow_vrt: whether a `.vrt` file may be read: a mosaic, which leads to other image files of this machine.

    Returns:
        The image (H, W, C), uint8, uint16 or float32, a new array: the values of the file. Pixels without data have the
        low end of the range in all channels. Then bool (H, W), whether a pixel holds data; None if all do.

    Raises:
        ImageNotFoundError: if there is no such file.
        ImageTooLargeError: if it has more pixels than `max_pixels`.
        CorruptFileError: if it cannot be read, or does not fit the description.
        InvalidArgumentError: if an argument is not allowed, such as a window that is not inside of the image.
        MissingDependencyError: if the library for this format is not installed.
    """
    check_max_pixels(max_pixels)
    check_orientation(orientation)
    paths = paths_of(source)
    if window is None:
        with open_channels(paths, channels, orientation=orientation, allow_vrt=allow_vrt) as image:
            return image.read(None, max_pixels)
    with _OPEN_FILES.use(
        (channels, orientation, allow_vrt, *map(file_state, paths)),
        lambda: open_channels(paths, channels, orientation=orientation, allow_vrt=allow_vrt),
    ) as image:
        return image.read(window, max_pixels)


def channels_size(
    source: ChannelSource,
    channels: ImageChannels | None = None,
    *,
    orientation: str = "apply",
    allow_vrt: bool = False,
) -> tuple[int, int]:
    """Returns height and width of an image as `read_channels` reads it; nothing is decoded.

    Args:
        source: as for `read_channels`.
        channels: the channels of the images, against which the file is checked; with None it is not.
        orientation: `"apply"` or `"stored"`.
        allow_vrt: as for `read_channels`.

    Raises:
        As `read_channels`, as far as the header tells.
    """
    paths = paths_of(source)
    check_orientation(orientation)
    if channels is not None and channels.is_rgb8 and len(paths) == 1:
        header = read_header(paths[0])
        is_turned = orientation == "apply" and header.orientation >= 5
        return (header.width, header.height) if is_turned else (header.height, header.width)
    with _opened_bands(paths, channels, orientation, allow_vrt) as bands:
        image = bands[0] if channels is None else ChannelImage(bands, channels)
        _check_sizes(bands)
        return image.height, image.width


def can_read_windows(source: ChannelSource, channels: ImageChannels | None = None) -> bool:
    """Returns whether reading a part of an image costs less than reading all, by its header.

    It does for `.npy` files, for zarr arrays of several chunks, and, if rasterio is installed, for TIFFs of many strips
    or tiles and other formats of GDAL.

    Args:
        source: as for `read_channels`.
        channels: the channels of the images; None for any. For three of 8 bits the answer is that for
            `seg_core.files.windows.read_window`.

    Raises:
        As `read_channels`, as far as the header tells.
    """
    paths = paths_of(source)
    if channels is not None and channels.is_rgb8 and len(paths) == 1:
        return can_read_image_windows(paths[0])
    with _opened_bands(paths, channels, "apply") as bands:
        return all(file.has_windows for file in bands)


def may_lack_data(source: ChannelSource, channels: ImageChannels) -> bool:
    """Returns whether pixels of an image may hold no data, by the description and the header.

    Raises:
        As `read_channels`, as far as the header tells.
    """
    if channels.nodata is not None:
        return True
    with open_channels(paths_of(source), channels) as image:
        return image.may_lack_data


def paths_of(source: ChannelSource) -> list[Path]:
    """Returns the paths of the files of an image.

    Raises:
        InvalidArgumentError: if there are none.
    """
    paths = [Path(source)] if isinstance(source, str | os.PathLike) else [Path(path) for path in source]
    if not paths:
        raise InvalidArgumentError("an image must have at least one file, got an empty list of paths")
    return paths


class ChannelImage:
    """An opened image, whose channels are read at once or one rectangle at a time.

    Attributes:
        height: height in pixels, upright.
        width: width in pixels, upright.
        has_windows: whether reading a part costs less than reading all.
        may_lack_data: whether some pixels may hold no data.
    """

    def __init__(self, bands: Sequence[Bands], channels: ImageChannels) -> None:
        self._channels = channels
        _check_sizes(bands)
        self.height, self.width = bands[0].height, bands[0].width
        self._choice: Choice = choose_bands(bands, channels)
        self._parts = self._choice.parts
        self.has_windows = all(part.bands.has_windows for part in self._parts)
        self.may_lack_data = channels.nodata is not None or any(part.bands.may_lack_data for part in self._parts)
        self._name = self._choice.name
        self._dtype = _common_type([part.bands.dtypes[index] for part in self._parts for index in part.indices])
        try:
            channels.check_type(self._stored_type, self._name, self._bits)
        except InvalidArgumentError as error:
            raise CorruptFileError(str(error)) from error

    def read(self, window: Window | None, max_pixels: int) -> _Read:
        """Returns a part of the image, or all of it, and its pixels with data, as `read_channels`."""
        if window is not None:
            check_window(window, (self.height, self.width), self._name)
        self._check_size(window, max_pixels)
        image: npt.NDArray[Any] | None = None
        valid: npt.NDArray[np.bool_] | None = None
        with_data: npt.NDArray[np.bool_] | None = None
        nodata = self._channels.nodata
        is_nan = nodata is not None and nodata != nodata
        for part in self._parts:
            values, marked = part.bands.read(part.indices, window)
            valid = marked if valid is None else valid if marked is None else valid & marked
            if nodata is not None and not is_nan:
                found = differs(values, [nodata] * len(values))
                with_data = found if with_data is None else with_data | found
            if image is None and len(self._parts) == 1 and part.places == [*range(len(values))]:
                image = values
                break
            if image is None:
                image = np.empty((self._channels.count, *values.shape[1:]), self._stacked_type)
            image[part.places] = values
        assert image is not None
        if with_data is not None:
            valid = with_data if valid is None else valid & with_data
        is_float = image.dtype.kind == "f"
        image = self._converted(image, valid)
        if is_float:
            valid = self._check_finite(image, valid, window, is_nan=is_nan)
        if valid is not None and valid.all():
            valid = None
        if valid is not None:
            if not image.flags.writeable:
                image = image.copy()
            for band, low in zip(image, self._channels.lows_in(self._dtype), strict=True):
                band[~valid] = low
        return image.transpose(1, 2, 0), valid

    @property
    def _stored_type(self) -> np.dtype[Any]:
        """The type of the bands if all have the same, else that of the image."""
        stacked = {part.bands.dtypes[index] for part in self._parts for index in part.indices}
        return stacked.pop() if len(stacked) == 1 and np.dtype(bool) not in stacked else self._dtype

    @property
    def _bits(self) -> int | None:
        bits = [part.bands.bits for part in self._parts]
        known = [bit for bit in bits if bit is not None]
        return max(known) if len(known) == len(bits) else None

    @property
    def _stacked_type(self) -> np.dtype[Any]:
        return np.result_type(*(part.bands.dtypes[index] for part in self._parts for index in part.indices))

    def _converted(self, image: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None) -> npt.NDArray[Any]:
        if image.dtype == self._dtype:
            return image
        with np.errstate(over="ignore"):  # beyond float32 is infinite, which is refused where there is data
            converted = image.astype(self._dtype)
        if image.dtype.kind in "iu" and image.dtype.itemsize > 2:
            is_lost = np.abs(image.astype(np.float64)) > _EXACT
            is_lost &= converted.astype(np.float64) != image.astype(np.float64)
            if valid is not None:
                is_lost &= valid
            if is_lost.any():
                raise CorruptFileError(
                    f"{self._name} holds {image[is_lost][0]}, of type {image.dtype}; images are read as float32, which "
                    f"holds integers up to {_EXACT} exactly: divide the values, or subtract an offset, and save them "
                    "as uint16 or float32; if it marks pixels without data: channels = { nodata = "
                    f"{image[is_lost][0]} }}"
                )
        return converted

    def _check_finite(
        self,
        image: npt.NDArray[Any],
        valid: npt.NDArray[np.bool_] | None,
        window: Window | None,
        *,
        is_nan: bool,
    ) -> npt.NDArray[np.bool_] | None:
        """Returns which pixels hold data, without those of NaN if these have none; raises if others are not finite."""
        with np.errstate(invalid="ignore"):
            if np.isfinite(image.sum(dtype=np.float64)):  # faster than a look at each
                return valid
        if is_nan:
            # a pixel of which a part is unknown could only be refused
            numbers = ~np.isnan(image).any(0)
            valid = numbers if valid is None else valid & numbers
        wrong = ~np.isfinite(image)
        if valid is not None:
            wrong &= valid
        if wrong.any():
            channel, row, column = (int(axis) for axis in np.argwhere(wrong)[0])
            value = image[channel, row, column]
            top, left = window[:2] if window is not None else (0, 0)
            advice = (
                "if it marks pixels without data: channels = { nodata = nan }; else replace the file"
                if np.isnan(value)
                else "replace the value, by NaN or another that marks pixels without data"
            )
            raise CorruptFileError(
                f"{self._name} holds {value} at row {top + row}, column {left + column} in channel "
                f"{self._channels.names[channel]!r} ({int(wrong.any(0).sum())} such pixels); {advice}"
            )
        return valid

    def _check_size(self, window: Window | None, max_pixels: int) -> None:
        rows, columns = (self.height, self.width) if window is None or not self.has_windows else window[2:]
        check_pixels(columns, rows, self._name, max_pixels)


@contextlib.contextmanager
def open_channels(
    source: Any, channels: ImageChannels, *, orientation: str = "apply", allow_vrt: bool = False
) -> Iterator[ChannelImage]:
    """Opens an image for reading its channels.

    Args:
        source: a list of paths, or an array (H, W), (H, W, C) or (C, H, W), which is in memory already and has no limit
            of pixels.
        channels: the channels of the images.
        orientation: `"apply"` or `"stored"`.
        allow_vrt: as for `read_channels`.

    Raises:
        As `read_channels`.
    """
    if not isinstance(source, list):
        yield ChannelImage([bands_of_array(source, type(source).__name__, _expected(channels, 1))], channels)
        return
    with _opened_bands(source, channels, orientation, allow_vrt) as bands:
        yield ChannelImage(bands, channels)


@contextlib.contextmanager
def _opened_bands(
    paths: list[Path], channels: ImageChannels | None, orientation: str, allow_vrt: bool = False
) -> Iterator[list[Bands]]:
    expected = None if channels is None else _expected(channels, len(paths))
    pages = channels is not None and channels.pages
    with contextlib.ExitStack() as stack:
        yield [
            page
            for path in paths
            for page in stack.enter_context(
                open_bands(path, expected, pages=pages, orientation=orientation, allow_vrt=allow_vrt)
            )
        ]


def _check_sizes(bands: Sequence[Bands]) -> None:
    first = bands[0]
    for other in bands[1:]:
        if (other.height, other.width) != (first.height, first.width):
            what = "pages of" if other.name == first.name else "files"
            names = first.name if other.name == first.name else f"{first.name} and {other.name}"
            raise CorruptFileError(
                f"the {what} {names} have different sizes, {first.width}x{first.height} and "
                f"{other.width}x{other.height} (width x height); those of one image must have the same: resample "
                "one of them (gdalwarp -ts WIDTH HEIGHT IN OUT)"
            )


def _expected(channels: ImageChannels, num_files: int) -> int | None:
    return channels.count if num_files == 1 and not channels.bands else None


def _common_type(dtypes: Sequence[np.dtype[Any]]) -> np.dtype[Any]:
    names = {dtype.name for dtype in dtypes}
    if names <= {"uint8", "bool"}:
        return np.dtype(np.uint8)
    return np.dtype(np.uint16 if names <= {"uint8", "bool", "uint16"} else np.float32)
