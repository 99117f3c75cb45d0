"""Reads parts of an image and its mask, of files that are stored so that the rest need not be decoded.

These are images of described channels as `seg_core.files.channel_files` reads them, and TIFFs of many tiles or strips:
RGB images of 8 bits, and masks of ids in one channel of 8 or 16 bits or of class colors. Whatever else a file may hold
(a palette, an orientation tag, marks of pixels without data, ...) is left to the readers of whole files.
"""

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import from_numpy
from torchvision import tv_tensors

from seg_core.errors import InvalidArgumentError, UserError
from seg_core.files import channel_files
from seg_core.files.band_files import open_bands
from seg_core.files.images import read_header
from seg_core.files.opening import opened
from seg_core.files.storage import storage_of
from seg_core.labels.channels import RGB_CHANNELS, ImageChannels
from seg_core.labels.label_map import LabelMap
from seg_datasets.reading.color_masks import ColorReader
from seg_datasets.reading.pairs import Pair
from seg_datasets.reading.samples import MaskReader, Reading, gone, orientation_tag, size_message, to_sample

__all__ = ["check_window", "image_size", "read_window", "window_channels"]

Window = tuple[int, int, int, int]
"""Top, left, height and width of a part."""

_IDS = {"uint8": ImageChannels(("id",)), "uint16": ImageChannels(("id",), range=(0, 65535))}
_MODES = ("L", "RGB", "I;16", "I;16B", "I;16L")


def image_size(pair: Pair, reading: Reading) -> tuple[int, int]:
    """Returns height and width of an image as it is read, by its header.

    Raises:
        CorruptFileError: if it cannot be read.
        DatasetNotFoundError: if the file no longer exists.
    """
    with gone(pair.images, "image"):
        if not reading.channels.is_rgb8:
            return channel_files.channels_size(pair.images, reading.channels, orientation=reading.orientation)
        header = read_header(pair.image)
    is_turned = header.orientation >= 5 and reading.orientation == "apply"
    return (header.width, header.height) if is_turned else (header.height, header.width)


def window_channels(
    pair: Pair, reading: Reading, mask_reader: MaskReader | None
) -> tuple[ImageChannels, ImageChannels | None] | None:
    """Returns the channels by which parts of an image and of its mask are read, None for no mask.

    None if one of the two is not stored so that a part can be read without the rest, or a file cannot be read.
    """
    try:
        if not reading.channels.is_rgb8:
            has_windows = channel_files.can_read_windows(pair.images, reading.channels)
            image = reading.channels if has_windows and orientation_tag(pair.image) == 1 else None
        else:
            image = _stored_channels(pair.image, "image")
            image = image if image == RGB_CHANNELS else None
        if image is None or pair.mask is None:
            return None if image is None else (image, None)
        if pair.planes:
            return None
        mask = _stored_channels(pair.mask, "mask")
    except UserError:  # reading the whole sample tells what is wrong
        return None
    is_colors = isinstance(mask_reader, ColorReader)
    if mask is None or (mask == RGB_CHANNELS) != is_colors or not (is_colors or mask_reader is None):
        return None
    return image, mask


def read_window(
    pair: Pair,
    channels: tuple[ImageChannels, ImageChannels | None],
    window: Window,
    label_map: LabelMap,
    remedy: str,
    mask_reader: MaskReader | None,
    reading: Reading,
) -> tuple[tv_tensors.Image, tv_tensors.Mask | None]:
    """Returns a part of an image and of its mask, as `seg_datasets.reading.samples.read_pair` returns the whole.

    Args:
        pair: the two files.
        channels: what `window_channels` returns.
        window: the part.
        label_map: as for `read_pair`.
        remedy: as for `read_pair`.
        mask_reader: as for `read_pair`.
        reading: as for `read_pair`.

    Raises:
        As `read_pair`; and InvalidArgumentError if the part is not inside of the image.
    """
    image, mask = channels
    size = image_size(pair, reading)
    check_window(window, size, str(pair.image))
    with gone(pair.images, "image"):
        pixels, valid = channel_files.read_channels(
            pair.images, image, max_pixels=reading.max_pixels, orientation=reading.orientation, window=window
        )
    whole = tv_tensors.Image(from_numpy(pixels).permute(2, 0, 1))
    if pair.mask is None or mask is None:
        return whole, None
    with gone((pair.mask,), "mask"):
        own = channel_files.channels_size(pair.mask, mask, orientation="stored")
        if own != size:
            raise size_message(pair, own, size, reading.orientation)
        raw, _ = channel_files.read_channels(
            pair.mask, mask, max_pixels=reading.max_pixels, orientation="stored", window=window
        )
    ids: npt.NDArray[np.integer] = (
        mask_reader.of_pixels(raw, pair.mask, reading) if isinstance(mask_reader, ColorReader) else raw[..., 0]
    )
    return whole, to_sample(ids, valid, pair.mask, label_map, remedy)


def check_window(window: Window, size: tuple[int, int], name: str) -> None:
    """Checks that a part lies in an image.

    Raises:
        InvalidArgumentError: if it does not.
    """
    top, left, height, width = window
    if min(top, left) < 0 or min(height, width) < 1 or top + height > size[0] or left + width > size[1]:
        raise InvalidArgumentError(
            f"a window must lie in the image: {name} has {size[0]} rows and {size[1]} columns, got top {top}, left "
            f"{left}, height {height}, width {width}"
        )


def _stored_channels(path: Path, noun: str) -> ImageChannels | None:
    """Returns the channels of a TIFF by which parts of it equal those of the whole file; None of others."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        return None
    with opened(str(path), noun, None, sys.maxsize) as (image, _):
        storage = storage_of(image)
        problem = storage.mask_problem() if noun == "mask" else storage.image_problem(image.mode)
        if problem or storage.inverted or storage.unlike not in ("", "16 bits per channel"):
            return None
        if image.mode not in _MODES or storage.channels not in (1, 3):
            return None
    if orientation_tag(path) != 1:
        return None
    with open_bands(path, None, pages=False, orientation="stored") as pages:
        bands = pages[0]
        if not bands.has_windows or bands.may_lack_data or bands.alpha or bands.bits or bands.num_pages > 1:
            return None
        kinds = {dtype.name for dtype in bands.dtypes}
        if len(bands.dtypes) == 3 and kinds == {"uint8"}:
            return RGB_CHANNELS
        return _IDS.get(kinds.pop()) if len(bands.dtypes) == 1 else None
