"""Tells when the values of an image can hardly be those of the range that is described."""

from typing import Any

import numpy as np
import numpy.typing as npt

from seg_core.files.images import Once
from seg_core.labels.channels import ImageChannels

__all__ = ["doubt_about_values", "warn_of_values"]

_LOOKED_AT = 64  # rows and columns
_FAR = 5.0  # times the range
_UNIT = 1.5  # reflectances as fractions are at most about 1
_WIDE = 100.0
_ONCE = Once()


def doubt_about_values(image: npt.NDArray[Any], channels: ImageChannels) -> str:
    """Returns why the values of an image can hardly be those of the range, or "" if they can.

    Args:
        image: (H, W, C), of the values of a file.
        channels: the channels of the images.
    """
    rows, columns = (max(1, length // _LOOKED_AT) for length in image.shape[:2])
    some = image[::rows, ::columns].reshape(-1, channels.count)
    for values, name, (low, high) in zip(some.T, channels.names, channels.ranges, strict=True):
        width, middle = high - low, float(np.median(values))
        if not low - _FAR * width <= middle <= high + _FAR * width:
            return f"half of the values of channel {name!r} are beyond {middle:g}, and its range is {low:g} to {high:g}"
        is_float = values.dtype.kind == "f"
        if is_float and width >= _WIDE and 0 < float(values.max()) <= _UNIT and float(values.min()) >= 0:
            return f"the values of channel {name!r} are at most {values.max():g}, and its range is {low:g} to {high:g}"
    return ""


def warn_of_values(image: npt.NDArray[Any], channels: ImageChannels, name: str, once: Once | None = None) -> None:
    """Warns of an image whose values can hardly be those of the range.

    Args:
        image: (H, W, C), of the values of a file.
        channels: the channels of the images.
        name: name of the image.
        once: remembers warnings given before; None warns once per description and process.

    Warns:
        UserWarning: if the values can hardly be those of the range.
    """
    once = _ONCE if once is None else once
    if not once.has(f"values {channels}") and (doubt := doubt_about_values(image, channels)):
        once.warn(
            f"values {channels}",
            f"image {name}: {doubt}; if the range is that of other values, a network sees nothing it knows: correct "
            "the range, or scale the values (`seg datasets stats` measures them)",
        )
