"""Thumbnails of files that may be wrong: whatever can be decoded is shown, masks in the colors of their classes."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg_core.errors import ImageNotFoundError, ImageTooLargeError, UserError
from seg_core.files.band_files import open_bands
from seg_core.files.images import read_image, read_mask
from seg_core.files.opening import opened
from seg_core.labels.palette import default_palette
from seg_core.labels.tasks import MULTICLASS
from seg_datasets.doctor.report import Report

__all__ = ["NO_CLASS", "SIDE", "Thumbnails"]

SIDE = 160
"""Pixels of the longer side, at most."""
NO_CLASS = (255, 0, 200)
"""Color of ids that are no class."""

_BANDED = (".tif", ".tiff", ".npy")
_MOST_PIXELS = 60_000_000  # of a file; decoding a larger one for a thumbnail takes seconds
_STRIPES = ((138, 138, 138), (200, 200, 200))  # of ignored pixels, which no class is drawn in
_STRIPE = 4  # pixels
_IGNORED, _WRONG = -1, -2
_NO_ID = 1 << 16
_FEW = 100  # pixels of no class that are drawn larger, with an edge, so that they are seen
_EDGE = (255, 255, 255)


class Thumbnails:
    """Draws the files of a report.

    Args:
        report: its classes give the colors of masks; without any, ids have those of the default palette.
    """

    def __init__(self, report: Report) -> None:
        metadata = report.metadata
        count = 256 if metadata is None else metadata.num_classes
        self._colors = np.array(default_palette(256) if metadata is None else metadata.colors, np.uint8)
        # place in the colors by id; the last one is of values that are no id
        self._places = np.full(_NO_ID + 1, _WRONG, np.int32)
        self._places[:count] = np.arange(count)
        self._places[255 if metadata is None else metadata.ignore_index] = _IGNORED
        if metadata is not None and report.targets:
            self._places[:] = _WRONG
            for raw, target in report.targets.items():
                self._places[raw] = _IGNORED if target is None else target
        if metadata is not None and metadata.task != MULTICLASS:
            # 0 and 1 are background and object
            self._colors = np.array([metadata.ignore_color, metadata.colors[0]], np.uint8)
            if not report.targets:
                self._places[:2] = (0, 1)

    def image(self, path: Path) -> Image.Image | str:
        """Returns the thumbnail of an image, RGB, or in a few words why there is none."""
        return _drawn(path, _image_pixels)

    def mask(self, path: Path) -> Image.Image | str:
        """Returns the thumbnail of a mask, RGB, or in a few words why there is none.

        Ignored pixels are striped in gray; ids that are no class are magenta, and drawn larger where they are few.
        A mask of colors is shown as it is.
        """
        return _drawn(path, self._mask_pixels)

    def _mask_pixels(self, path: Path) -> npt.NDArray[np.uint8]:
        try:
            ids: npt.NDArray[Any] = read_mask(path, max_pixels=_MOST_PIXELS)
        except (ImageNotFoundError, ImageTooLargeError):
            raise
        except UserError:  # colors, floats, several channels
            ids = _decoded(path)
            if ids.ndim == 3 and not (ids[..., :1] == ids).all():
                return _nearest(ids)  # mixed colors would be those of no class
            ids = ids if ids.ndim == 2 else ids[..., 0]
        if ids.dtype not in (np.uint8, np.uint16):
            is_id = (ids >= 0) & (ids < _NO_ID) & (ids == np.floor(ids))  # not if it is not a number
            ids = np.where(is_id, ids, _NO_ID).astype(np.int32)
        return self._in_colors(ids)

    def _in_colors(self, ids: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        small = self._places[_nearest(ids)]
        pixels: npt.NDArray[np.uint8] = self._colors[np.maximum(small, 0)]
        down, across = np.indices(small.shape)
        stripes = np.array(_STRIPES, np.uint8)[(down + across) // _STRIPE % 2]
        pixels[small == _IGNORED] = stripes[small == _IGNORED]
        # single pixels get lost when a mask is reduced, or are not seen, and these are looked for
        is_wrong = (self._places == _WRONG)[ids]
        for axis, (side, parts) in enumerate(zip(ids.shape, small.shape, strict=True)):
            is_wrong = np.logical_or.reduceat(is_wrong, np.arange(parts) * side // parts, axis)
        wrong = np.argwhere(is_wrong)
        if len(wrong) <= _FEW:
            own = max(max(small.shape) // 50, 1)
            for color, reach in ((_EDGE, own + 1), (NO_CLASS, own)):
                for row, column in wrong.tolist():
                    around = np.s_[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1]
                    pixels[around] = color
        pixels[is_wrong] = NO_CLASS
        return pixels


def _drawn(path: Path, read: Any) -> Image.Image | str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the findings tell what is wrong
            pixels: npt.NDArray[np.uint8] = read(path)
    except ImageNotFoundError:
        return "not there"
    except ImageTooLargeError:
        return "too large for a thumbnail"
    except UserError:
        return "cannot be shown"
    image = Image.fromarray(pixels)
    image.thumbnail((SIDE, SIDE))
    return image


def _image_pixels(path: Path) -> npt.NDArray[np.uint8]:
    try:
        return read_image(path, max_pixels=_MOST_PIXELS)
    except (ImageNotFoundError, ImageTooLargeError):
        raise
    except UserError:  # of 16 bits or floats
        pixels = _decoded(path)
    if pixels.dtype != np.uint8:
        finite = np.nan_to_num(pixels.astype(np.float32), posinf=0, neginf=0)
        low, high = float(finite.min()), float(finite.max())
        pixels = ((finite - low) * (255 / max(high - low, 1e-9))).astype(np.uint8)
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, 2)


def _decoded(path: Path) -> npt.NDArray[Any]:
    """Returns whatever can be decoded: (H, W) of numbers, or (H, W, 3), the first three of more bands."""
    try:
        return _decoded_by_pillow(path)
    except UserError:
        if path.suffix.lower() not in _BANDED:  # what Pillow does not read of others is damaged
            raise
        with open_bands(path, None, pages=False, orientation="stored") as pages:
            count = len(pages[0].dtypes)
            if pages[0].height * pages[0].width > _MOST_PIXELS:
                raise ImageTooLargeError(f"{path} is too large for a thumbnail") from None
            values, _ = pages[0].read(range(3 if count >= 3 else 1), None)
        return values[0] if len(values) == 1 else values.transpose(1, 2, 0)


def _decoded_by_pillow(path: Path) -> npt.NDArray[Any]:
    with opened(path, "file", None, _MOST_PIXELS) as (image, _):
        is_gray = image.mode in ("1", "L", "P", "I", "F") or image.mode.startswith("I;16")
        return np.array(image if is_gray else image.convert("RGB"))


def _nearest(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Returns every so many values of (H, W) or (H, W, C), so that no side is longer than a thumbnail's."""
    height, width = values.shape[:2]
    times = max(max(height, width) / SIDE, 1)
    rows, columns = (_centers(side, max(round(side / times), 1)) for side in (height, width))
    return values[rows[:, None], columns]


def _centers(side: int, parts: int) -> npt.NDArray[np.intp]:
    """Returns the place in the middle of each of `parts` equal parts of a side."""
    return ((np.arange(parts) + 0.5) * side / parts).astype(np.intp)
