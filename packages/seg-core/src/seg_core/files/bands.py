"""The bands of an image file, of any number and type, as stored: `channel_files` takes the channels from them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_core.errors import InvalidArgumentError

__all__ = ["Bands", "BandsRead", "Window", "check_window", "differs", "gains", "part_of"]

Window = tuple[int, int, int, int]
"""Top, left, height and width of a part of an image."""

BandsRead = tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]
"""Values (C, h, w), and bool (h, w), which pixels hold data; None if all do."""

_GAIN = 8  # blocks of a file


@dataclass(frozen=True)
class Bands:
    """The bands of a file, or of a page of one.

    Attributes:
        name: the file, for messages.
        height: height in pixels, upright.
        width: width in pixels, upright.
        dtypes: type of each band.
        read: indices of bands, from 0, and the window or None for all -> their values (C, h, w) as stored, and which
            pixels (h, w) hold data; None if all do.
        descriptions: description of each band, or "".
        alpha: indices of the bands that are alpha.
        bits: bits of a sample, which may be fewer than those of the type.
        may_lack_data: whether the file may mark pixels that hold no data.
        has_windows: whether reading a part costs less than reading all.
        num_pages: pages of the file.
    """

    name: str
    height: int
    width: int
    dtypes: tuple[np.dtype[Any], ...]
    read: Callable[[Sequence[int], Window | None], BandsRead]
    descriptions: tuple[str, ...]
    alpha: frozenset[int] = frozenset()
    bits: int | None = None
    may_lack_data: bool = True
    has_windows: bool = False
    num_pages: int = 1


def differs(values: npt.NDArray[Any], nodata: Sequence[float | None]) -> npt.NDArray[np.bool_]:
    """Returns bool (H, W), whether a band of values (C, H, W) differs from its nodata value."""
    valid = np.zeros(values.shape[1:], bool)
    for band, value in zip(values, nodata, strict=True):
        if value is None:
            valid[...] = True
        elif value != value:  # NaN
            valid |= ~np.isnan(band)
        else:
            # rounded as the band is: -3.4e38 is not exact in float32
            valid |= band != (band.dtype.type(value) if band.dtype.kind == "f" else value)
    return valid


def part_of(values: npt.NDArray[Any], window: Window | None) -> npt.NDArray[Any]:
    """Returns the window of an array (..., H, W), or all of it."""
    if window is None:
        return values
    top, left, height, width = window
    return values[..., top : top + height, left : left + width]


def gains(shape: Sequence[int], block: Sequence[int]) -> bool:
    """Returns whether an array has so many blocks that reading a part costs less than reading all."""
    return bool(np.prod(shape) >= _GAIN * np.prod(block))


def check_window(window: Window, size: Sequence[int], name: str) -> None:
    """Checks that a window lies inside of an image.

    Args:
        window: top, left, height and width.
        size: height and width of the image.
        name: the image, for messages.

    Raises:
        InvalidArgumentError: if it does not.
    """
    top, left, height, width = window
    are_integers = all(
        isinstance(value, int | np.integer) and value >= least
        for value, least in zip(window, (0, 0, 1, 1), strict=True)
    )
    if not are_integers or top + height > size[0] or left + width > size[1]:
        raise InvalidArgumentError(
            f"a part must be (top, left, height, width) inside of {name} with {size[0]} rows and {size[1]} columns, "
            f"got {tuple(window)!r}"
        )
