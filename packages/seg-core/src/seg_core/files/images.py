"""Reads images and masks from files; datasets, prediction and all commands use these functions.

- **Formats and size** are checked by `seg_core.files.opening`, before anything is decoded.
- **Orientation.** `"apply"` applies the orientation tag to the image, `"stored"` keeps the pixels as stored, whatever
  the format. A mask with such a tag is an error: it is unknown whether the tag was applied to its image too.
- **Depth.** Images have at most 8 bits per channel; Pillow would take the high byte of 16-bit RGB without a warning.
  Masks of one channel keep their ids at 1, 2, 4, 8 and 16 bits, and at 32 bits if all values are valid ids.
- **Several pages.** Of an image the first frame or page is read, and by `read_pages` all of them; a mask of several is
  an error, except for overviews.
- **Kinds that Pillow reads wrong**, or not as GDAL does, are errors: TIFFs of CIELAB, of YCbCr without JPEG, of signed
  or complex samples, of more than four channels; BMPs whose gray palette hides that they have fewer bits.
"""

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, TiffImagePlugin

from seg_core.checks import is_integer
from seg_core.errors import CorruptFileError, InvalidArgumentError
from seg_core.files.opening import PREFIX_BYTES, Source, check_size, file_errors, identify, opened
from seg_core.files.orientation import decode, is_turned, orientation_tag, png_orientation, xmp_orientation
from seg_core.files.page_numbers import num_pages, page_numbers
from seg_core.files.rgb import rgb_array
from seg_core.files.storage import (
    MAX_ID,
    ORIENTATION,
    XMP,
    storage_of,
    tiff_size,
    tiff_storage,
    tiff_tags,
)

__all__ = [
    "MAX_PIXELS",
    "ORIENTATIONS",
    "WHOLE_PIXELS",
    "Header",
    "Once",
    "Source",
    "StoredMask",
    "check_image",
    "check_max_pixels",
    "check_orientation",
    "count_pages",
    "ids_of",
    "load_image",
    "load_mask",
    "read_header",
    "read_image",
    "read_mask",
    "read_pages",
]

MAX_PIXELS = 178_000_000
"""Default limit of width times height; aerial images of iSAID reach 13000x13000."""

WHOLE_PIXELS = 2**26
"""Default limit of width times height of an image that a network gets at once: larger ones are predicted in tiles."""

ORIENTATIONS = ("apply", "stored")
"""How an orientation tag is handled, see `read_image`."""


class Once:
    """Issues each warning once. Each dataset has its own instance, and each process that loads data has a copy."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def has(self, key: str) -> bool:
        """Returns whether there was a warning with that `key`."""
        return key in self._given

    def warn(self, key: str, text: str) -> None:
        """Warns, unless there was a warning with that `key` before."""
        if key not in self._given:
            self._given.add(key)
            warnings.warn(text, stacklevel=3)


_ONCE_PER_PROCESS = Once()


@dataclass(frozen=True)
class Header:
    """Properties of an image, read from the header of its file.

    Attributes:
        format: `"PNG"`, `"TIFF"`, ... as Pillow names them.
        width: width in pixels, as stored.
        height: height in pixels, as stored.
        orientation: 1 to 8; 1 is upright, also if there is no tag.
        unlike: how the stored samples differ from the pixels that `read_image` returns, such as `"CMYK colors"`; empty
            for 8-bit gray or RGB, with or without alpha: then a program that reads the file by tiles gets the same
            pixels.
    """

    format: str
    width: int
    height: int
    orientation: int
    unlike: str

    @property
    def is_plain(self) -> bool:
        """Whether the stored samples are the pixels, upright."""
        return self.orientation == 1 and not self.unlike


@dataclass(frozen=True)
class StoredMask:
    """A decoded mask before its values are converted to ids, for readers of colors.

    Attributes:
        image: as Pillow decodes it. Of RGB, RGBA, palette and 8-bit gray images the values are those of the file; the
            ids of other gray images come from `ids_of`.
        name: name in messages.
        bits: number of bits of a stored sample.
        inverted: whether Pillow returns the complement of the stored samples.
    """

    image: Image.Image
    name: str
    bits: int
    inverted: bool


def check_max_pixels(max_pixels: int) -> int:
    """Returns `max_pixels` if it is an integer of at least 1.

    Raises:
        InvalidArgumentError: if it is not.
    """
    if not is_integer(max_pixels, 1):
        raise InvalidArgumentError(
            f"max_pixels must be an integer >= 1 (width times height of an image), got {max_pixels!r}; the default is "
            f"{MAX_PIXELS}"
        )
    return max_pixels


def check_orientation(orientation: str) -> str:
    """Returns `orientation` if it is one of `ORIENTATIONS`.

    Raises:
        InvalidArgumentError: if it is not.
    """
    if orientation not in ORIENTATIONS:
        raise InvalidArgumentError(
            "orientation must be 'apply' (apply the EXIF, XMP or TIFF orientation tag) or 'stored' (keep the pixels as "
            f"stored), got {orientation!r}"
        )
    return orientation


def read_image(
    source: Source, *, max_pixels: int = MAX_PIXELS, orientation: str = "apply", name: str | None = None
) -> npt.NDArray[np.uint8]:
    """Returns an image as RGB.

    Gray is repeated, a palette is looked up, CMYK and YCbCr are converted, alpha is dropped.

    Args:
        source: path, contents of a file, file object or PIL image. The limit does not apply to a PIL image, which is
            in memory already.
        max_pixels: largest width times height.
        orientation: `"apply"` applies the orientation tag, `"stored"` keeps the pixels as stored.
        name: name in messages; by default the path.

    Returns:
        uint8 (H, W, 3), 0 to 255; a new array.

    Raises:
        ImageNotFoundError: if there is no such file.
        ImageTooLargeError: if it has more pixels than `max_pixels`; nothing is decoded then.
        CorruptFileError: if it cannot be read, has more than 8 bits per channel, or is of a kind that is not supported.
        InvalidArgumentError: if an argument is not allowed, or a PIL image has more than 8 bits per channel.
    """
    return load_image(source, max_pixels=max_pixels, orientation=orientation, name=name)[0]


def load_image(
    source: Source, *, max_pixels: int = MAX_PIXELS, orientation: str = "apply", name: str | None = None
) -> tuple[npt.NDArray[np.uint8], int]:
    """Returns an image as `read_image` does, and its orientation tag, 1 to 8.

    With `orientation="stored"` only the tag of a TIFF is read; for other formats the tag returned is 1.
    """
    check_max_pixels(max_pixels)
    check_orientation(orientation)
    with opened(source, "image", name, max_pixels) as (image, called):
        _check_kind(image, called, source)
        decoded, tag = decode(image, orientation)
        return rgb_array(decoded), tag


def count_pages(source: Source, *, max_pixels: int = MAX_PIXELS, name: str | None = None) -> tuple[int, str]:
    """Returns the number of frames or pages of an image, and `"frame"` or `"page"`; nothing is decoded.

    Smaller versions of an image in a TIFF and previews of cameras do not count.

    Raises:
        As `read_image`, as far as the header tells.
    """
    with opened(source, "image", name, check_max_pixels(max_pixels)) as (image, _):
        return len(page_numbers(image)), "page" if image.format == "TIFF" else "frame"


def read_pages(
    source: Source, *, max_pixels: int = MAX_PIXELS, name: str | None = None
) -> Iterator[npt.NDArray[np.uint8]]:
    """Yields all frames or pages of an image, each as `read_image` returns the first.

    The frames of an animation are composed: each is the whole image as it is shown.

    Args:
        source: as for `read_image`. A PIL image must come from a file that is still open.
        max_pixels: largest width times height.
        name: name in messages; by default the path.

    Raises:
        As `read_image`.
    """
    with opened(source, "image", name, check_max_pixels(max_pixels)) as (image, called):
        place = image.tell()
        for number in page_numbers(image):
            image.seek(number)
            if not isinstance(source, Image.Image):
                check_size(image, called, "image", max_pixels)
            _check_kind(image, called, source)
            decoded, _ = decode(image, "apply")
            yield rgb_array(decoded)
        if isinstance(source, Image.Image):
            image.seek(place)


def check_image(source: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> None:
    """Checks that `read_image` reads a file, as far as its header tells; nothing is decoded.

    Raises:
        ImageNotFoundError, ImageTooLargeError, CorruptFileError: as `read_image`.
    """
    with opened(source, "image", None, check_max_pixels(max_pixels)) as (image, called):
        _check_kind(image, called, source)


def read_mask(
    source: Source, *, max_pixels: int = MAX_PIXELS, name: str | None = None, once: Once | None = None
) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    """Returns the ids of a mask: the values of its samples as stored.

    These are gray values of 1, 2, 4, 8, 12 or 16 bits (not scaled, and not inverted if white is zero in a TIFF),
    32-bit values up to 65535, and palette indices. An RGB mask whose three channels are equal everywhere holds the ids
    three times: it is read with a warning. An alpha channel that is opaque everywhere is dropped.

    Args:
        source: path, contents of a file, or file object.
        max_pixels: largest width times height.
        name: name in messages; by default the path.
        once: remembers warnings given before; None warns once per process.

    Returns:
        uint8 (H, W), or uint16 if a sample has more than 8 bits; a new array.

    Raises:
        ImageNotFoundError: if there is no such file.
        ImageTooLargeError: if it has more pixels than `max_pixels`; nothing is decoded then.
        CorruptFileError: if it cannot be read, is a color image, has transparent pixels, several channels or pages, an
            orientation tag other than 1, lossy compression, or values that are not ids.
        InvalidArgumentError: if `max_pixels` is not allowed.
    """
    return ids_of(load_mask(source, max_pixels=max_pixels, name=name), once)


def load_mask(
    source: Source, *, max_pixels: int = MAX_PIXELS, name: str | None = None, may_be_lossy: bool = False
) -> StoredMask:
    """Returns a decoded mask after its tags and its depth were checked, for readers of colors.

    Args:
        source: as of `read_mask`.
        max_pixels: as of `read_mask`.
        name: as of `read_mask`.
        may_be_lossy: whether lossy compression is allowed, for readers to which small changes of values do not matter.

    Raises:
        As `read_mask`, except for the errors of `ids_of`.
    """
    check_max_pixels(max_pixels)
    with opened(source, "mask", name, max_pixels) as (image, called):
        storage = storage_of(image)
        if may_be_lossy:
            storage = replace(storage, is_lossy=False)
        if problem := storage.mask_problem():
            raise CorruptFileError(f"mask {called} {problem}")
        if not isinstance(source, Image.Image) and (pages := num_pages(image)) > 1:
            what, by_page = "frames", ""
            if image.format == "TIFF":
                what = "pages"
                by_page = (
                    "; if each page is one class and classes may overlap, write the labels in the order of the pages, "
                    'labels = [...], and task = "multilabel" into classes.toml of your folder, and keep the file'
                )
            raise CorruptFileError(
                f"mask {called} has {pages} {what}; a mask holds one class id per pixel: save the one that belongs to "
                f"the image alone, or, if each holds one class, combine them{by_page}"
            )
        decoded, tag = decode(image, "check")
        if tag != 1:
            raise CorruptFileError(
                f"mask {called} has orientation tag {tag}; a mask must have none, or 1, since it is unknown whether "
                "the tag was applied to its image too: save the mask upright, without the tag"
            )
        if storage.channels > 1 and len(decoded.getbands()) == 1:  # Pillow drops a channel of unknown meaning
            raise CorruptFileError(
                f"mask {called} has {storage.channels} channels; a mask holds one class id per pixel: save the channel "
                "of the ids alone, by gdal_translate -b 1 IN OUT.png (-b 2 for the second)"
            )
        return StoredMask(decoded, called, storage.bits, storage.inverted)


def ids_of(mask: StoredMask, once: Once | None = None) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    """Returns the ids of a decoded mask, as `read_mask` does.

    Raises:
        CorruptFileError: if it is a color image, or its values are not ids.
    """
    mode = mask.image.mode
    values = np.array(mask.image)
    if mode in ("I", "I;16", "I;16L", "I;16B", "I;16N"):
        if mode == "I" and values.size and not 0 <= int(values.min()) <= int(values.max()) <= MAX_ID:
            raise CorruptFileError(
                f"mask {mask.name} holds {mask.bits}-bit values from {values.min()} to {values.max()}; ids must be 0 "
                f"to {MAX_ID}: give other values, such as -1 for no class, the ignore value (255 by default), and save "
                "the mask as a gray PNG"
            )
        return values.astype(np.uint16, copy=False)
    if mode in ("LA", "PA", "RGBA"):
        _check_opaque(mask, values[..., -1])
        values = values[..., :-1]
    if values.ndim == 3 and values.shape[-1] > 1:
        if mode not in ("RGB", "RGBA") or not _equal_channels(values):
            raise CorruptFileError(
                f"mask {mask.name} is a color image (mode {mode!r}); a mask holds one class id per pixel: an index PNG "
                "with 8 or 16 bits (gray or palette). Convert the colors to ids first; FolderDataset reads colors with "
                "colors = true. If this file is an image, the folders of images and masks are swapped"
            )
        (once or _ONCE_PER_PROCESS).warn(
            "RGB mask",
            f"mask {mask.name} is an RGB image whose three channels are equal everywhere: its gray values are read as "
            "ids, and so are those of other such masks; save masks as gray or palette PNGs, which are smaller and load "
            "faster",
        )
    if values.ndim == 3:
        values = np.ascontiguousarray(values[..., 0])
    ids = values.astype(np.uint8, copy=False)
    if mode in ("1", "L", "LA"):
        if mask.inverted:
            np.subtract(1 if mode == "1" else 255, ids, out=ids)
        if mode != "1" and mask.bits < 8:
            ids //= 255 // (2**mask.bits - 1)  # Pillow scales them to 0 to 255
    return ids


def read_header(source: str | os.PathLike[str]) -> Header:
    """Returns the header of an image file; nothing is decoded, and any size is allowed.

    A TIFF only needs readable tags: one that Pillow cannot decode has a header too.

    Raises:
        ImageNotFoundError: if there is no such file.
        CorruptFileError: if it has none of the supported formats.
    """
    path = Path(source)
    with file_errors(str(path), "image"), path.open("rb") as file:
        if file.read(PREFIX_BYTES).startswith(tuple(TiffImagePlugin.PREFIXES)):
            tags = tiff_tags(file)
            width, height = tiff_size(tags)
            storage, tag = tiff_storage(tags), tags.get(ORIENTATION)
            if tag is None:
                tag = xmp_orientation(tags.get(XMP))
            return Header("TIFF", width, height, tag if is_turned(tag) else 1, storage.unlike)
        file.seek(0)
        image = identify(file, os.fspath(path), "image")
        unlike = storage_of(image).unlike
        tag = png_orientation(image, file) if image.format == "PNG" else orientation_tag(image)
        return Header(image.format or "", image.width, image.height, tag, unlike)


def _check_kind(image: Image.Image, called: str, source: Source) -> None:
    """Raises an error if an image is of a kind that is not read, such as one of 16 bits."""
    if problem := storage_of(image).image_problem(image.mode):
        text = f"image {called} {problem}"
        raise InvalidArgumentError(text) if isinstance(source, Image.Image) else CorruptFileError(text)


# ---- masks -----------------------------------------------------------------------------------------------------------


def _check_opaque(mask: StoredMask, alpha: npt.NDArray[np.uint8]) -> None:
    if alpha.size and alpha.min() < 255:
        count = int((alpha < 255).sum())
        raise CorruptFileError(
            f"mask {mask.name} has an alpha channel with {count} of {alpha.size} pixels that are not opaque; their ids "
            "are unknown: save the mask without alpha"
        )


def _equal_channels(pixels: npt.NDArray[np.uint8]) -> bool:
    red, green, blue = (pixels[..., channel] for channel in range(3))
    return np.array_equal(red, green) and np.array_equal(red, blue)
