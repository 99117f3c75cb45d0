"""Reads image files into memory: paths, URLs and contents, with the pixels that hold data."""

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_core.errors import CorruptFileError, ImageTooLargeError, MissingDependencyError, UserError, counted
from seg_core.files.geo_reference import read_geo_reference
from seg_core.files.images import Once, count_pages, read_header, read_image
from seg_core.files.rasters import open_raster
from seg_core.files.validity import is_tiff, may_mark_pixels, valid_pixels
from seg_models.inference.downloads import local_file
from seg_models.inference.input_paths import ARRAY_SUFFIXES, is_url

__all__ = ["ALL_FRAMES_ADVICE", "read_file", "warn_of_more_frames"]

ALL_FRAMES_ADVICE = "all_frames=True of the Predictor, or --all-frames of seg predict, predicts all of them"


def read_file(
    source: str | os.PathLike[str] | bytes, name: str, max_pixels: int, once: Once
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
    """Returns the image of a path, a URL or the contents of a file, decoded and upright.

    Returns:
        Image: uint8 (H, W, C), or float of an array.
        Valid: bool (H, W), the pixels that hold data; None if all do.
    """
    if isinstance(source, bytes):
        return _read_contents(source, name, max_pixels, once)
    try:
        with local_file(source, "image") as path:
            pixels = _read_first(path, name, max_pixels, once)
            if is_url(source):
                _warn_of_lost_place(path, pixels.shape[:2], name, once)
            return pixels, valid_pixels(path, pixels.shape[:2])
    except ImageTooLargeError as error:
        if is_url(source) or not read_header(source).is_plain:
            raise
        raise ImageTooLargeError(
            f"{error}; or predict it tile by tile: Predictor.predict_to_file, or seg predict with --tile and --format "
            "tiff"
        ) from error


def _read_contents(
    content: bytes, name: str, max_pixels: int, once: Once
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
    pixels = _read_first(content, name, max_pixels, once)
    if not may_mark_pixels(content):
        return pixels, None
    with tempfile.TemporaryDirectory() as folder:  # marks are read from files
        path = Path(folder) / "image"
        path.write_bytes(content)
        return pixels, valid_pixels(path, pixels.shape[:2])


def _warn_of_lost_place(path: Path, shape: tuple[int, ...], name: str, once: Once) -> None:
    """Warns, once, if a downloaded file has a geo reference, which results do not get: the file is removed."""
    with contextlib.suppress(MissingDependencyError):  # without rasterio no result has one
        if not once.has("place") and read_geo_reference(os.fspath(path), shape) is not None:
            once.warn("place", f"{name} has a geo reference, which results of a URL do not get; download it first")


def _read_as_raster(path: Path, max_pixels: int) -> npt.NDArray[Any] | None:
    """Returns an array of a file, or a TIFF that Pillow does not read, as `predict_to_file` reads them.

    None if that does not read it either, or it is too large. Other formats are left to Pillow alone: GDAL reads damaged
    files of them, with pixels of its own where some are missing.
    """
    try:
        if path.suffix.lower() not in ARRAY_SUFFIXES and not is_tiff(path):
            return None
        with open_raster(path, max_pixels) as raster:
            if raster.height * raster.width > max_pixels:
                return None
            return raster.read(0, 0, raster.height, raster.width)
    except (UserError, OSError):
        return None


def _read_first(file: Path | bytes, name: str, max_pixels: int, once: Once) -> npt.NDArray[Any]:
    try:
        pixels = read_image(file, max_pixels=max_pixels, name=name)
    except ImageTooLargeError:
        raise
    except CorruptFileError:
        found = None if isinstance(file, bytes) else _read_as_raster(file, max_pixels)
        if found is None:
            raise
        return found
    if not once.has(ALL_FRAMES_ADVICE):
        warn_of_more_frames(file, name, max_pixels, once)
    return pixels


def warn_of_more_frames(file: str | os.PathLike[str] | bytes, name: str, max_pixels: int, once: Once) -> None:
    """Warns, once, if an image file has several frames or pages, of which the first is predicted.

    Raises:
        CorruptFileError: if the file is no image, or has more than `max_pixels`.
    """
    count, noun = count_pages(file, max_pixels=max_pixels, name=name)
    if count > 1:
        text = f"{name} has {counted(count, noun)}; only the first is predicted (of other such files as well)"
        once.warn(ALL_FRAMES_ADVICE, f"{text}; {ALL_FRAMES_ADVICE}")
