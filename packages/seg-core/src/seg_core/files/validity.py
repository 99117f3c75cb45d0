"""Which pixels of an image file hold data: those that its nodata value, mask or alpha channel does not exclude.

These marks count in TIFF, JPEG 2000 and the formats that only GDAL reads, which hold maps. In PNG, WebP and GIF
transparency is meant for display: the pixels below it are data. A mask in a file beside the image (`x.tif.msk`) counts
for every format.
"""

import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import TiffImagePlugin

from seg_core.errors import MissingDependencyError
from seg_core.files.gdal import open_gdal_file
from seg_core.files.geo_reference import orientation_of
from seg_core.files.images import Once
from seg_core.files.opening import PREFIX_BYTES, opened
from seg_core.files.orientation import upright
from seg_core.files.pages import TiffPage
from seg_core.files.storage import tiff_marks

__all__ = ["FOR_DISPLAY", "ReadValid", "is_tiff", "marks_of", "may_mark_pixels", "valid_of", "valid_pixels"]

ReadValid = Callable[[Any], npt.NDArray[np.bool_]]
"""A window of rasterio, or None for the whole file -> whether its pixels (h, w), as stored, hold data."""

_JPEG2000_PREFIXES = (b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  ")
FOR_DISPLAY = ("PNG", "WEBP", "GIF", "BMP")  # drivers of GDAL
_ONCE = Once()


def valid_pixels(source: Any, shape: tuple[int, ...], page: TiffPage | None = None) -> npt.NDArray[np.bool_] | None:
    """Returns which pixels of an image file hold data.

    Without rasterio none are excluded, with a warning if the file excludes some.

    Args:
        source: path of the image; of a URL or an image in memory all pixels hold data.
        shape: (H, W) of the image as read, upright.
        page: the page of a TIFF of several; None for the first.

    Returns:
        bool (H, W), upright; None if all pixels hold data.

    Raises:
        CorruptFileError: if GDAL cannot read them.
    """
    if not isinstance(source, str | os.PathLike) or not Path(source).is_file():
        return None
    path = Path(source)
    if page is None or not page.number:
        marks = marks_of(path)
    else:
        marks = "pixels that are marked in its pages" if page.may_be_marked else ""
    if not marks:
        return None
    try:
        with open_gdal_file(path, 0 if page is None else page.number) as file:
            read = valid_of(file)
            orientation = orientation_of(path) if page is None else page.orientation
            valid = None if read is None else upright(read(None), orientation)
    except MissingDependencyError:
        _ONCE.warn(
            "rasterio",
            f"{path} has {marks}, and rasterio, which reads where it has no data, is not installed: labels are "
            "predicted there too, for this image and others; pip install 'seg-core[geo]'",
        )
        return None
    # another size: not the image that was read
    return None if valid is None or valid.shape != tuple(shape) or valid.all() else valid


def marks_of(path: Path) -> str:
    """Returns what in or beside an image that Pillow reads tells which pixels hold data, or "" if nothing does."""
    if Path(f"{path}.msk").exists():
        return f"a mask beside it, {path.name}.msk"
    with path.open("rb") as file:
        prefix = file.read(PREFIX_BYTES)
        is_tiff = prefix.startswith(tuple(TiffImagePlugin.PREFIXES))
        if not is_tiff and not prefix.startswith(_JPEG2000_PREFIXES):
            return ""
        if _has_nodata_beside(path):
            return f"a nodata value beside it, in {path.name}.aux.xml"
        if is_tiff:
            # what follows the first page may be damaged, which nobody saw while that one was read
            with contextlib.suppress(Exception):
                return tiff_marks(file)
            return ""
    with opened(path, "image", None, sys.maxsize) as (image, _):
        return "an alpha channel" if image.getbands()[-1] == "A" else ""


def is_tiff(path: Path) -> bool:
    """Returns whether a file begins as a TIFF does."""
    with path.open("rb") as file:
        return file.read(PREFIX_BYTES).startswith(tuple(TiffImagePlugin.PREFIXES))


def may_mark_pixels(content: bytes) -> bool:
    """Returns whether the contents of an image file are of a format that can tell which pixels hold data."""
    return content.startswith((*TiffImagePlugin.PREFIXES, *_JPEG2000_PREFIXES))


def _has_nodata_beside(path: Path) -> bool:
    """Returns whether GDAL's file of metadata beside an image has a nodata value."""
    try:
        return "<NoDataValue" in Path(f"{path}.aux.xml").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def valid_of(file: Any) -> ReadValid | None:
    """Returns a function that reads which pixels of an opened file of rasterio hold data; None if all do.

    A pixel has no data if all its colors equal the nodata value, if a mask excludes it, or if its alpha is 0.
    """
    kinds = [color.name for color in file.colorinterp]
    colors = [band for band, kind in enumerate(kinds, start=1) if kind != "alpha"]
    alpha = kinds.index("alpha") + 1 if "alpha" in kinds and file.driver not in FOR_DISPLAY else None
    flags = {flag.name for band in colors for flag in file.mask_flag_enums[band - 1]}
    if flags == {"all_valid"} and alpha is None:
        return None

    def read(window: Any) -> npt.NDArray[np.bool_]:
        valid = (file.read_masks(colors, window=window) != 0).any(0)
        if alpha is not None:  # which GDAL leaves out if there is a nodata value too
            valid &= file.read(alpha, window=window) != 0
        return valid

    return read
