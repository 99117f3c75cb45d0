"""Compares two images whose difference hashes are alike: the same scene, or only the same framing.

Scans of different patients, or photos of one conveyor belt, have hashes that differ in few bits. Two images show the
same scene if, reduced to 32x32 gray values and brought to the same mean and contrast, their values hardly differ, and
if what stands out from its neighborhood is alike as well. Limits were measured: re-encoded, brighter, darker, resized
and noisy copies are within them, and of thousands of pairs of different scans none is.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg_core.errors import UserError
from seg_core.files.channel_files import read_channels
from seg_core.files.opening import opened
from seg_core.files.orientation import decode
from seg_core.files.rgb import to_rgb
from seg_core.labels.channels import RGB_CHANNELS, ImageChannels
from seg_datasets.doctor.examine_channels import stretched

__all__ = ["MOST_LOOKED_AT", "are_alike", "is_constant", "reduced"]

MOST_LOOKED_AT = 1000
"""Images that are decoded a second time, at most."""

_SIDE = 32
_DIFFERENCE = 0.2  # mean absolute difference, in standard deviations
_DETAIL = 0.8  # correlation of what is left without the mean of 5x5
_CLIPPED = 4  # levels from black and from white
_WINDOW = 5


def reduced(
    paths: Iterable[str], max_pixels: int, channels: ImageChannels = RGB_CHANNELS
) -> dict[str, npt.NDArray[np.uint8]]:
    """Returns uint8 (32, 32) of each image; those that cannot be read any more are left out."""
    paths = list(paths)
    with ThreadPoolExecutor() as pool:  # Pillow decodes without the lock of Python
        found = pool.map(lambda path: _reduced(path, max_pixels, channels), paths)
        return {path: values for path, values in zip(paths, found, strict=True) if values is not None}


def _reduced(path: str, max_pixels: int, channels: ImageChannels) -> npt.NDArray[np.uint8] | None:
    try:
        if not channels.is_rgb8:
            pixels, _ = read_channels(path, channels, max_pixels=max_pixels)
            shown = Image.fromarray(stretched(pixels, channels))
            return np.asarray(shown.resize((_SIDE, _SIDE), Image.Resampling.BOX).convert("L"))
        with opened(path, "image", None, max_pixels) as (image, _):
            image.draft("L", (4 * _SIDE, 4 * _SIDE))
            decoded, _ = decode(image, "check")
            plain = decoded if decoded.mode in ("L", "RGB") else to_rgb(decoded)
            return np.asarray(plain.resize((_SIDE, _SIDE), Image.Resampling.BOX, reducing_gap=2.0).convert("L"))
    except (UserError, OSError):
        return None


def are_alike(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> bool:
    """Returns whether two reduced images, uint8 (32, 32), show the same scene."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    # a brighter copy has lost what is white in it
    kept = (np.minimum(a, b) > _CLIPPED) & (np.maximum(a, b) < 255 - _CLIPPED)
    if 4 * kept.sum() < kept.size:
        kept[:] = True
    first, second = _scaled(a[kept]), _scaled(b[kept])
    if np.abs(first - second).mean() > _DIFFERENCE:
        return False
    first, second = _scaled(_detail(a)[kept]), _scaled(_detail(b)[kept])
    return bool((first * second).mean() >= _DETAIL)


def is_constant(path: str, max_pixels: int) -> bool:
    """Returns whether all pixels of an image are equal."""
    try:
        with opened(path, "image", None, max_pixels) as (image, _):
            low_high = image.convert("RGB").getextrema()
    except (UserError, OSError):
        return False
    return all(low == high for low, high in low_high)  # type: ignore[misc]


def _scaled(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Returns values of mean 0 and standard deviation 1; those without any contrast are 0."""
    values = values - values.mean()
    deviation = float(values.std())
    return values / deviation if deviation > 1e-6 else values


def _detail(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Returns the difference of each value to the mean around it."""
    padded = np.pad(values, _WINDOW // 2, "edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (_WINDOW, _WINDOW))
    difference: npt.NDArray[np.float64] = values - windows.mean((2, 3))
    return difference
