"""Looks at an image of described channels: what `examine` keeps of it, and of what kind one is that does not fit."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg_core.errors import InvalidArgumentError, MissingDependencyError, UserError
from seg_core.files.channel_files import channels_size, read_channels
from seg_core.files.scan_cache import HeaderSummary
from seg_core.labels.channels import ImageChannels
from seg_datasets.reading.channel_advice import bands_of
from seg_datasets.reading.samples import Reading, orientation_tag

__all__ = ["header_of", "kind_unlike_rgb", "look_at", "stretched"]

_ENDS = 4096  # bytes at the start and the end of a file
_FLAT = 8  # levels


def look_at(record: Any, paths: Sequence[str], reading: Reading) -> tuple[str, str] | None:
    """Fills in what is kept of an image.

    Args:
        record: the row, see `seg_datasets.doctor.examine.RECORD`.
        paths: the files of the image.
        reading: has its channels.

    Returns:
        The state of an image that does not fit the description, and why; None if it fits.

    Raises:
        MissingDependencyError: if the library for this format is not installed.
    """
    if fault := _look_at_header(record, paths, reading):
        return fault
    files, channels = [Path(path) for path in paths], reading.channels
    try:
        image, _ = read_channels(files, channels, max_pixels=reading.max_pixels, orientation="stored")
    except UserError as error:
        return _kind(files, channels), str(error).removeprefix(f"image {paths[0]} ")
    record["color"] = True  # all images have the channels that are described
    if channels.count == 1:
        record["levels"] = min(len(np.unique(image)), 65535)
    values = np.asarray(Image.fromarray(stretched(image, channels)).resize((9, 8), Image.Resampling.BOX).convert("L"))
    record["flat"] = int(values.max()) - int(values.min()) < _FLAT
    record["look"] = int.from_bytes(np.packbits(values[:, 1:] > values[:, :-1]).tobytes(), "big")
    return None


def header_of(paths: Sequence[str], reading: Reading) -> HeaderSummary:
    """Returns what the headers of the files of an image tell.

    Raises:
        MissingDependencyError: if the library for this format is not installed.
    """
    record: dict[str, Any] = {"content": 0, "image_size": (0, 0), "tag": 1}
    state, note = _look_at_header(record, paths, reading) or ("ok", "")
    height, width = record["image_size"]
    return HeaderSummary(height, width, record["tag"], record["content"], state, note)


def _look_at_header(record: Any, paths: Sequence[str], reading: Reading) -> tuple[str, str] | None:
    """Fills in what the headers of the files tell; returns as `look_at`."""
    try:
        if not all(os.path.isdir(path) or os.path.getsize(path) for path in paths):  # noqa: PTH112, PTH202 - faster
            return "empty-file", ""
        record["content"] = _content(paths)
    except OSError as error:
        return "unreadable-image", f"cannot be read: {error.strerror or error}"
    files = [Path(path) for path in paths]
    try:
        record["image_size"] = channels_size(files, reading.channels, orientation="stored")
        record["tag"] = orientation_tag(files[0])
    except MissingDependencyError:
        raise
    except UserError as error:
        return _kind(files, reading.channels), str(error).removeprefix(f"image {paths[0]} ")
    return None


def kind_unlike_rgb(path: str) -> str:
    """Returns the kind of an image that is not read as one of 8 bits because of its channels; "" of another fault."""
    try:
        bands = bands_of([Path(path)])
    except UserError:
        return ""
    if bands.dtype not in (np.uint8, np.bool_):
        return "wrong-bit-depth"
    return "" if len(bands.channels) in (1, 3) else "mixed-channels"


def stretched(image: npt.NDArray[Any], channels: ImageChannels) -> npt.NDArray[np.uint8]:
    """Returns the shown channels of an image (H, W, C), uint8 (H, W, 3), each from its own smallest to largest value.

    Images whose values fill a small part of the range can be compared so; as they are shown to people, colors of
    different images are not comparable.
    """
    shown = []
    for channel in channels.shown:
        plane = image[..., channel].astype(np.float32)
        low, high = float(plane.min()), float(plane.max())
        shown.append(((plane - low) * (255 / max(high - low, 1e-9))).astype(np.uint8))
    return np.ascontiguousarray(np.stack(shown, -1))


def _content(paths: Sequence[str]) -> int:
    """Returns a hash of the lengths of files, their starts and their ends."""
    digest = hashlib.blake2b(digest_size=8)
    for path in paths:
        folder = Path(path)
        parts = sorted(part for part in folder.rglob("*") if part.is_file()) if folder.is_dir() else [folder]
        for part in parts:  # of a zarr array the chunks
            with part.open("rb") as file:
                length = file.seek(0, os.SEEK_END)
                file.seek(0)
                start = file.read(_ENDS)
                file.seek(max(length - _ENDS, 0))
                digest.update(b"%d %b %b" % (length, start, file.read(_ENDS)))
    return int.from_bytes(digest.digest(), "little")


def _kind(paths: Sequence[Path], channels: ImageChannels) -> str:
    """Returns the kind of a fault: other channels, a channel marked as alpha, another type, or an unreadable file."""
    try:
        bands = bands_of(paths)
    except UserError:
        return "unreadable-image"
    if bands.alpha and len(bands.names) == channels.count:
        return "alpha"
    if len(bands.channels) != channels.count and not channels.bands:
        return "mixed-channels"
    if channels.bands and max((band for band in channels.bands if isinstance(band, int)), default=0) > len(bands.names):
        return "mixed-channels"
    if any(isinstance(band, str) and bands.names.count(band) != 1 for band in channels.bands):
        return "mixed-channels"
    try:
        channels.check_type(bands.dtype, "image")
    except InvalidArgumentError:
        return "wrong-bit-depth"
    return "unreadable-image"
