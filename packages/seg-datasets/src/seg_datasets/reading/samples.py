"""Reads the image and the mask of a pair; errors name the file and a remedy."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torchvision import tv_tensors

from seg_core.errors import (
    CorruptFileError,
    DatasetNotFoundError,
    ImageNotFoundError,
    LabelOutOfRangeError,
    UserError,
)
from seg_core.files import images
from seg_core.files.channel_files import read_channels
from seg_core.files.images import MAX_PIXELS, Once, StoredMask
from seg_core.files.mask_sources import wrong_ids_message
from seg_core.labels.channels import RGB_CHANNELS, ImageChannels
from seg_core.labels.label_map import LabelMap
from seg_datasets.reading.pairs import Pair
from seg_datasets.reading.palettes import PaletteCheck

__all__ = [
    "MaskReader",
    "Reading",
    "gone",
    "load_image",
    "load_mask",
    "orientation_tag",
    "read_image",
    "read_mask",
    "read_pair",
    "read_planes",
    "size_message",
    "to_sample",
]


@dataclass(frozen=True)
class Reading:
    """How the files of a dataset are read.

    Attributes:
        orientation: `"apply"` rotates and flips images according to their EXIF, XMP or TIFF orientation tag;
            `"stored"` ignores the tag.
        max_pixels: maximum width times height of an image or a mask.
        channels: the channels of the images.
        palette: warns about palette masks whose indices are in another order than the ids; None does not look.
        once: the warnings emitted so far; each worker process has its own copy.

    Raises:
        InvalidArgumentError: if `orientation` or `max_pixels` has a value that is not allowed.
    """

    orientation: str = "stored"
    max_pixels: int = MAX_PIXELS
    channels: ImageChannels = RGB_CHANNELS
    palette: PaletteCheck | None = field(default=None, compare=False, repr=False)
    once: Once = field(default_factory=Once, compare=False, repr=False)

    def __post_init__(self) -> None:
        images.check_orientation(self.orientation)
        images.check_max_pixels(self.max_pixels)


MaskReader = Callable[[Path, Reading], npt.NDArray[Any]]
"""Reads a mask file and returns its raw ids (H, W), of a multilabel task (K, H, W)."""


def read_image(path: Path | Sequence[Path], reading: Reading | None = None) -> tv_tensors.Image:
    """Returns an image as uint8 (3, H, W), RGB, or of the channels of `reading`: (C, H, W), uint8, uint16 or float32.

    Args:
        path: the file, or the files of an image whose channels are in several.
        reading: how files are read; None uses the defaults.

    Raises:
        CorruptFileError: if the file is not a readable image of these channels, or has more pixels than allowed.
        DatasetNotFoundError: if the file no longer exists.
    """
    return load_image((path,) if isinstance(path, Path) else tuple(path), reading or Reading())[0]


def read_mask(path: Path, reading: Reading | None = None) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    """Returns the ids (H, W) stored in a mask file; see `seg_core.files.images.read_mask`.

    Warns:
        UserWarning: if `reading` has a check for palettes, and the palette of the mask is in another order.

    Raises:
        CorruptFileError: if the file is not a readable mask, or has more pixels than allowed.
        DatasetNotFoundError: if the file no longer exists.
    """
    reading = reading or Reading()
    with gone((path,), "mask"):
        mask = images.load_mask(path, max_pixels=reading.max_pixels)
        if reading.palette is not None:
            reading.palette.check(mask, reading.once)
        return images.ids_of(mask, reading.once)


def load_mask(path: Path, reading: Reading | None = None) -> StoredMask:
    """Returns the decoded mask file, for masks that store colors; see `seg_core.files.images.load_mask`.

    Raises:
        CorruptFileError: if the file cannot be read, or has more pixels than allowed.
        DatasetNotFoundError: if the file no longer exists.
    """
    with gone((path,), "mask"):
        return images.load_mask(path, max_pixels=(reading or Reading()).max_pixels)


def read_pair(
    pair: Pair,
    label_map: LabelMap,
    remedy: str,
    mask_reader: MaskReader | None = None,
    reading: Reading | None = None,
) -> tuple[tv_tensors.Image, tv_tensors.Mask | None]:
    """Returns image uint8 (3, H, W) and mask (H, W) or (K, H, W) of train ids, uint8 where they fit, else int32.

    Of other channels the image is (C, H, W), uint8, uint16 or float32, with the values of the file. Pixels without data
    are ignored in the mask.

    If an image with a mask was rotated or flipped because of its orientation tag, a warning says so, once per file: the
    mask has no such tag, and may have been drawn on the image as stored.

    Args:
        pair: the two files.
        label_map: raw ids of the mask -> train ids.
        remedy: advice about an id that `label_map` does not list, for the message.
        mask_reader: returns the raw ids of a mask file; None uses `read_mask`.
        reading: how files are read; None uses the defaults.

    Raises:
        CorruptFileError: if a file cannot be read or the two differ in size.
        LabelOutOfRangeError: if the mask contains an id that `label_map` does not list.
        DatasetNotFoundError: if a file no longer exists.
    """
    reading = reading or Reading()
    image, valid, tag = load_image(pair.images, reading)
    if pair.mask is None:
        return image, None
    raw = read_planes(pair, reading) if pair.planes else (mask_reader or read_mask)(pair.mask, reading)
    if raw.shape[-2:] != image.shape[-2:]:
        raise size_message(pair, raw.shape[-2:], image.shape[-2:], reading.orientation)
    if tag != 1 and reading.orientation == "apply":
        reading.once.warn(
            f"orientation of {pair.image}",
            f"image {pair.image} was rotated or flipped because of its orientation tag {tag}; its mask "
            f"{pair.mask.name} has no tag. If the mask was drawn on the image as stored, set orientation='stored'; "
            "otherwise save the image upright, without the tag",
        )
    absent = [place for place, path in enumerate(pair.planes) if path is None]
    return image, to_sample(raw, valid, pair.mask, label_map, remedy, absent)


def read_planes(pair: Pair, reading: Reading | None = None) -> npt.NDArray[Any]:
    """Returns the raw ids (K, H, W) of a mask with a file per class; the plane of an absent class repeats another.

    Raises:
        CorruptFileError: if a file cannot be read, or they differ in size.
        DatasetNotFoundError: if a file no longer exists.
    """
    found = {path: read_mask(path, reading) for path in pair.planes if path is not None}
    first = found[next(iter(found))]
    for path, ids in found.items():
        if ids.shape != first.shape:
            sizes = [f"{one.shape[1]}x{one.shape[0]}" for one in (ids, first)]
            raise CorruptFileError(
                f"mask {path} has {sizes[0]} pixels (width x height), but {next(iter(found))} of the same image "
                f"{sizes[1]}; the masks of all classes have the size of the image: was one resized or replaced?"
            )
    return np.stack([first if path is None else found[path] for path in pair.planes])


def to_sample(
    raw: npt.NDArray[Any],
    valid: npt.NDArray[np.bool_] | None,
    path: Path,
    label_map: LabelMap,
    remedy: str,
    absent: Sequence[int] = (),
) -> tv_tensors.Mask:
    """Returns a mask (H, W) or (K, H, W) of train ids, uint8 where they fit, else int32.

    Args:
        raw: the ids of the mask, or of a part of it, (H, W) or (K, H, W).
        valid: bool (H, W), which pixels of the image hold data; the others are ignored. None if all do.
        path: the mask, for messages.
        label_map: raw ids -> train ids.
        remedy: as at `read_pair`.
        absent: planes of the mask that are 0 whatever `raw` holds there.

    Raises:
        LabelOutOfRangeError: if the mask contains an id that `label_map` does not list.
    """
    try:
        ids = label_map(raw)
    except LabelOutOfRangeError:
        raise LabelOutOfRangeError(_range_message(path, raw, label_map, remedy)) from None
    if ids.dtype != np.uint8:
        ids = ids.astype(np.int32)  # torch's uint16 lacks most operations
    if absent:
        ids[list(absent)] = 0
    if valid is not None:
        ids = np.where(valid, ids, ids.dtype.type(label_map.ignore_index))
    return tv_tensors.Mask(torch.from_numpy(ids))


def orientation_tag(path: Path) -> int:
    """Returns the orientation tag of an image file, 1 if it has none or is of a kind that has none."""
    try:
        return images.read_header(path).orientation
    except UserError:  # an array
        return 1


def load_image(paths: tuple[Path, ...], reading: Reading) -> tuple[tv_tensors.Image, npt.NDArray[np.bool_] | None, int]:
    """Returns an image, which of its pixels hold data (None if all do), and its orientation tag.

    Raises:
        CorruptFileError: if it cannot be read.
        DatasetNotFoundError: if a file no longer exists.
    """
    valid = None
    with gone(paths, "image"):
        if reading.channels.is_rgb8:
            pixels, tag = images.load_image(paths[0], max_pixels=reading.max_pixels, orientation=reading.orientation)
        else:
            pixels, valid = read_channels(
                paths, reading.channels, max_pixels=reading.max_pixels, orientation=reading.orientation
            )
            tag = orientation_tag(paths[0]) if reading.orientation == "apply" else 1
    # a (C, H, W) view of (H, W, C): no copy, and resizing is fastest on this memory layout
    return tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1)), valid, tag


@contextlib.contextmanager
def gone(paths: Sequence[Path], noun: str) -> Iterator[None]:
    """Says of a file that does not exist that it did when the dataset was opened.

    Raises:
        DatasetNotFoundError: if what is done raises that a file does not exist.
    """
    try:
        yield
    except ImageNotFoundError:
        path = next((path for path in paths if not path.exists()), paths[0])
        raise DatasetNotFoundError(
            f"{noun} {path} no longer exists; was it moved after the folder was listed?"
        ) from None


def _range_message(path: Path, raw: npt.NDArray[Any], label_map: LabelMap, remedy: str) -> str:
    ids, counts = np.unique(raw, return_counts=True)
    found = dict(zip(ids.tolist(), counts.tolist(), strict=True))
    return wrong_ids_message(str(path), found, label_map.mapping, remedy)


def size_message(pair: Pair, mask_size: Sequence[int], image_size: Sequence[int], orientation: str) -> CorruptFileError:
    """Returns the error that a mask has another size, (H, W), than its image."""
    return CorruptFileError(_size_message(pair, mask_size, image_size, orientation))


def _size_message(pair: Pair, mask_size: Sequence[int], image_size: Sequence[int], orientation: str) -> str:
    (mask_height, mask_width), (height, width) = mask_size, image_size
    message = (
        f"mask {pair.mask} has {mask_width}x{mask_height} pixels (width x height), its image {pair.image.name} "
        f"{width}x{height}"
    )
    tag = orientation_tag(pair.image)
    if tag == 1:
        return (
            f"{message}; both must have the same size: was one of them resized or replaced? Resize masks by the "
            "nearest neighbor, which keeps their ids"
        )
    done = "was applied" if orientation == "apply" else "was not applied"
    other = "stored" if orientation == "apply" else "apply"
    message += f"; the image has orientation tag {tag}, which {done} (orientation={orientation!r})"
    if tag >= 5 and (mask_height, mask_width) == (width, height):
        return message + f": set orientation={other!r}, or save the image upright, without the tag"
    return message + "; their sizes differ with and without it: was one of them resized or replaced?"
