"""Reads image files into memory: paths, URLs and contents, with the pixels that hold data."""

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_core.errors import (
    CorruptFileError,
    ImageTooLargeError,
    InvalidArgumentError,
    MissingDependencyError,
    UserError,
    counted,
)
from seg_core.files.gdal_formats import is_vrt
from seg_core.files.geo_reference import read_geo_reference
from seg_core.files.images import WHOLE_PIXELS, Once, count_pages, read_header, read_image, read_pages
from seg_core.files.opening import is_recognized, opened
from seg_core.files.pages import pages_of_tiff
from seg_core.files.rasters import open_raster
from seg_core.files.validity import may_mark_pixels, valid_pixels
from seg_models.inference.downloads import local_file
from seg_models.inference.input_paths import ARRAY_SUFFIXES, is_url

__all__ = ["ALL_FRAMES_ADVICE", "read_file", "read_frames_of_file", "tell_of_gray", "warn_of_more_frames"]

logger = logging.getLogger(__name__)

_GRAY_MODES = ("1", "L", "LA")  # of Pillow
_told_of_gray: list[str] = []  # once per process

ALL_FRAMES_ADVICE = "all_frames=True of the Predictor, or --all-frames of seg predict, predicts all of them"


def read_file(
    source: str | os.PathLike[str] | bytes, name: str, max_pixels: int, once: Once, *, allow_vrt: bool = False
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
    """Returns the image of a path, a URL or the contents of a file, decoded and upright.

    Args:
        source: the path, URL or contents.
        name: name in messages.
        max_pixels: largest width times height.
        once: remembers the warnings given before.
        allow_vrt: whether a `.vrt` file may be read.

    Returns:
        Image: uint8 (H, W, C), or float of an array.
        Valid: bool (H, W), the pixels that hold data; None if all do.
    """
    try:
        if isinstance(source, bytes):
            return _read_contents(source, name, max_pixels, once)
        with local_file(source, "image") as path:
            pixels, valid = _read_first(path, name, max_pixels, once, allow_vrt)
            if is_url(source):
                _warn_of_lost_place(path, pixels.shape[:2], name, once)
            return pixels, valid
    except ImageTooLargeError as error:
        if (
            max_pixels == WHOLE_PIXELS
            or isinstance(source, bytes)
            or is_url(source)
            or (is_recognized(source) and not read_header(source).is_plain)
        ):
            raise
        raise ImageTooLargeError(
            f"{error}; or predict it tile by tile: Predictor.predict_to_file, or seg predict with --tile and --format "
            "tiff"
        ) from error


def read_frames_of_file(
    content: Any, name: str, max_pixels: int
) -> Iterator[npt.NDArray[np.uint8] | np.ma.MaskedArray[Any, Any]]:
    """Yields all frames or pages of an image file as RGB; of a TIFF masked where a page has pixels without data.

    Args:
        content: path, contents of a file, or PIL image.
        name: name in messages.
        max_pixels: largest width times height.

    Raises:
        CorruptFileError: if one cannot be read, or has more than `max_pixels`.
    """
    if isinstance(content, bytes) and may_mark_pixels(content):
        with _as_file(content) as path:
            yield from read_frames_of_file(path, name, max_pixels)
        return
    pages = pages_of_tiff(Path(content)) if isinstance(content, str | os.PathLike) else []
    for number, pixels in enumerate(read_pages(content, max_pixels=max_pixels, name=name)):
        valid = valid_pixels(content, pixels.shape[:2], pages[number]) if pages else None
        if valid is None:
            yield pixels
        else:
            yield np.ma.MaskedArray(pixels, np.repeat(~valid[:, :, None], pixels.shape[2], axis=2))


def _read_contents(
    content: bytes, name: str, max_pixels: int, once: Once
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
    if not may_mark_pixels(content):
        return _read_first(content, name, max_pixels, once)
    with _as_file(content) as path:  # marks are read from files
        return _read_first(path, name, max_pixels, once)


@contextlib.contextmanager
def _as_file(content: bytes) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image"
        path.write_bytes(content)
        yield path


def _warn_of_lost_place(path: Path, shape: tuple[int, ...], name: str, once: Once) -> None:
    """Warns, once, if a downloaded file has a geo reference, which results do not get: the file is removed."""
    with contextlib.suppress(MissingDependencyError):  # without rasterio no result has one
        if not once.has("place") and read_geo_reference(os.fspath(path), shape) is not None:
            once.warn("place", f"{name} has a geo reference, which results of a URL do not get; download it first")


def _read_as_raster(
    path: Path, name: str, max_pixels: int, allow_vrt: bool
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None] | None:
    """Returns an array of a file, or an image that Pillow does not read, as `predict_to_file` reads them.

    These are TIFF, JPEG 2000, and the formats that Pillow does not know, such as VRT. Other formats are left to Pillow
    alone: GDAL reads damaged files of them, with pixels of its own where some are missing.

    Returns:
        Image and pixels with data as `read_file`; None if the file cannot be read so either.

    Raises:
        CorruptFileError: if a format that only GDAL reads holds no 8-bit image.
        ImageTooLargeError: if an image of such a format has more than `max_pixels`.
    """
    try:
        is_known = is_recognized(path) if path.is_file() else path.suffix.lower() in ARRAY_SUFFIXES
        is_array = path.suffix.lower() in ARRAY_SUFFIXES
        if is_known and not is_array and read_header(path).format not in ("TIFF", "JPEG2000"):
            return None
        with open_raster(path, max_pixels, allow_vrt=allow_vrt) as raster:
            whole = (0, 0, raster.height, raster.width)
            count = raster.height * raster.width
            if count <= max_pixels:
                valid = None if raster.valid is None else raster.valid(*whole)
                return raster.read(*whole), None if valid is None or valid.all() else valid
    except InvalidArgumentError as error:
        if is_known or is_array:  # Pillow's reason is the one to tell
            return None
        raise CorruptFileError(str(error).replace(str(path), name)) from error
    except (UserError, OSError) as error:
        if isinstance(error, CorruptFileError) and is_vrt(path):
            raise  # which says what is wrong with it; Pillow only knows that it is no image
        return None
    if is_known:
        return None
    raise ImageTooLargeError(
        f"image {name} has {raster.width}x{raster.height} = {count} pixels (width x height), more than "
        f"max_pixels={max_pixels}; raise the limit: max_pixels={count} of the Predictor"
    )


def _read_first(
    file: Path | bytes, name: str, max_pixels: int, once: Once, allow_vrt: bool = False
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
    try:
        pixels = read_image(file, max_pixels=max_pixels, name=name)
    except ImageTooLargeError:
        raise
    except CorruptFileError:
        found = None if isinstance(file, bytes) else _read_as_raster(file, name, max_pixels, allow_vrt)
        if found is None:
            raise
        return found
    if not once.has(ALL_FRAMES_ADVICE):
        warn_of_more_frames(file, name, max_pixels, once)
    # most files need no second look at their header
    if np.array_equal(pixels[0, :, 0], pixels[0, :, 1]):
        tell_of_gray(file, name)
    return pixels, valid_pixels(file, pixels.shape[:2])


def tell_of_gray(file: str | os.PathLike[str] | bytes, name: str) -> None:
    """Logs, once per process, that the gray values of a file are repeated for a network that takes colors."""
    if _told_of_gray:
        return
    with opened(file, "image", name, sys.maxsize) as (image, _):
        is_gray = image.mode in _GRAY_MODES
    if is_gray:
        _told_of_gray.append(name)
        logger.warning(
            "%s is gray, and the model takes red, green and blue: the gray values are repeated, for this image and "
            "others",
            name,
        )


def warn_of_more_frames(file: str | os.PathLike[str] | bytes, name: str, max_pixels: int, once: Once) -> None:
    """Warns, once, if an image file has several frames or pages, of which the first is predicted.

    Raises:
        CorruptFileError: if the file is no image, or has more than `max_pixels`.
    """
    count, noun = count_pages(file, max_pixels=max_pixels, name=name)
    if count > 1:
        text = f"{name} has {counted(count, noun)}; only the first is predicted (of other such files as well)"
        once.warn(ALL_FRAMES_ADVICE, f"{text}; {ALL_FRAMES_ADVICE}")
