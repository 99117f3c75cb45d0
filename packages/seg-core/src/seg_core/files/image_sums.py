"""Sums of the values of images, for the mean and the standard deviation of a dataset's channels.

Image files are read in parallel. What a file holds is remembered per user, as that of masks is (`seg_core.files.scan`).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg_core.files.mask_sources import OnProgress
from seg_core.files.remembered import RememberedFiles
from seg_core.files.scan_cache import IMAGES, ImageSummary

__all__ = ["ChannelTotals", "ImageFile", "ImageSummary", "scan_images", "summarize_image"]

_LEVELS = range(256)


@dataclass(frozen=True)
class ImageFile:
    """An image file of a dataset and how it is read.

    Attributes:
        path: the file.
        read: returns the image, uint8 (H, W, 3), RGB; threads call it.
        reader: name of `read` in the cache; None if what it returns must not be remembered.
    """

    path: Path
    read: Callable[[Path], npt.NDArray[np.uint8]]
    reader: str | None


def scan_images(files: Sequence[ImageFile], progress: OnProgress | None = None) -> list[ImageSummary]:
    """Returns size and sums of each image file.

    Args:
        files: the images.
        progress: called with the number of images done and their total, after each image that is not remembered.

    Raises:
        UserError: what the reader of a file raises; of several the first.
    """
    source = RememberedFiles(IMAGES, [(file.path, file.reader) for file in files])
    missing = [index for index in range(len(files)) if index not in source.known]
    found = dict(source.known)

    def summarize(index: int) -> ImageSummary:
        return summarize_image(files[index].read(files[index].path))

    for index, summary in zip(missing, source.read(missing, summarize), strict=True):
        found[index] = summary
        if progress is not None:
            progress(len(found), len(files))
    return [found[index] for index in range(len(files))]


def summarize_image(pixels: npt.NDArray[Any]) -> ImageSummary:
    """Returns size and sums of an image, uint8 (H, W, 3)."""
    height, width = pixels.shape[:2]
    # counting the levels takes no copy in a wider type, and the sums over them are exact
    counts = Image.fromarray(np.ascontiguousarray(pixels)).histogram()
    channels = [counts[start : start + 256] for start in (0, 256, 512)]
    red, green, blue = (sum(map(int.__mul__, _LEVELS, channel)) for channel in channels)
    squares = [sum(level * level * number for level, number in enumerate(channel)) for channel in channels]
    return ImageSummary(height, width, (red, green, blue), (squares[0], squares[1], squares[2]))


@dataclass(frozen=True)
class ChannelTotals:
    """Sums over the pixels of several images, exact.

    Attributes:
        pixels: number of pixels.
        sums: of red, green and blue, 0 to 255.
        squares: of their squares.
    """

    pixels: int
    sums: tuple[int, ...]
    squares: tuple[int, ...]

    @classmethod
    def of(cls, images: "Iterable[ImageSummary | ChannelTotals]") -> "ChannelTotals":
        """Returns the totals of images, or of such totals."""
        pixels = 0
        sums: tuple[int, ...] = (0, 0, 0)
        squares: tuple[int, ...] = (0, 0, 0)
        for image in images:
            pixels += image.pixels
            sums = _added(sums, image.sums)
            squares = _added(squares, image.squares)
        return cls(pixels, sums, squares)

    @property
    def mean(self) -> npt.NDArray[np.float64]:
        """Mean of red, green and blue over all pixels, 0 to 1: float64 (3,); NaN without a pixel."""
        return np.array([total / (255 * self.pixels) if self.pixels else np.nan for total in self.sums])

    @property
    def std(self) -> npt.NDArray[np.float64]:
        """Their standard deviation, likewise."""
        # integers up to the root: the difference of two large floats would have few digits left
        pairs = zip(self.sums, self.squares, strict=True)
        variances = [self.pixels * square - total * total for total, square in pairs]
        return np.array([variance**0.5 / (255 * self.pixels) if self.pixels else np.nan for variance in variances])


def _added(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(int.__add__, one, other))
