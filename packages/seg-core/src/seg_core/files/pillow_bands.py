"""The bands of files that Pillow reads, or torchvision: PNGs of 16-bit colors, of which Pillow takes the high byte."""

import contextlib
import io
import re
import struct
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg_core.errors import CorruptFileError, MissingDependencyError
from seg_core.files.bands import Bands, BandsRead, Window, differs, part_of
from seg_core.files.images import StoredMask, ids_of, read_header
from seg_core.files.jp2_boxes import YCBCR
from seg_core.files.opening import file_errors, opened
from seg_core.files.orientation import decode, is_turned, turned, xmp_orientation
from seg_core.files.page_numbers import tiff_page_tags
from seg_core.files.storage import (
    ORIENTATION,
    SPARSE,
    XMP,
    Storage,
    storage_of,
    tiff_alpha,
    tiff_nodata,
    tiff_size,
    tiff_storage,
)
from seg_core.files.validity import is_tiff, marks_of, valid_pixels

__all__ = ["Page", "bands_of_deep_png", "bands_of_pillow", "check_kind", "read_page_headers"]

_READ_BY_GDAL = re.compile(r"\d+ channels|channels of ")  # flaws for Pillow alone
_EXTRA_SAMPLES = 338


_MARKS = ("TIFF", "JPEG2000")  # formats in which alpha and nodata say where there is no data


@dataclass(frozen=True)
class Page:
    """What the header of a page tells.

    Attributes:
        format: as Pillow names it.
        number: number of the page, from 0.
        size: height and width, as stored.
        storage: how its samples are stored.
        mode: Pillow's mode; empty for TIFF.
        orientation: its orientation tag.
        alpha: indices of the samples that are alpha.
        nodata: value of the pixels without data, or None.
    """

    format: str
    number: int
    size: tuple[int, int]
    storage: Storage
    mode: str
    orientation: int
    alpha: frozenset[int]
    nodata: float | None = None

    @property
    def is_read_by_gdal(self) -> bool:
        """Whether GDAL reads it, if it is there."""
        if self.format == "JPEG2000" and self.storage.unlike == YCBCR:
            return False
        return self.format in ("TIFF", "JPEG2000") or not self.is_read_by_pillow

    @property
    def is_read_by_pillow(self) -> bool:
        """Whether Pillow returns the stored samples."""
        storage = self.storage
        if storage.flaw or storage.is_scaled or storage.is_signed or storage.unlike.startswith("colors that"):
            return False
        if storage.is_float:
            return storage.bits == 32 and storage.channels == 1
        # of several channels of 16 bits Pillow takes the high byte, and it scales JPEG 2000 of 9 to 15 bits
        return storage.bits <= 8 or (storage.bits == 16 and storage.channels == 1)


def read_page_headers(path: Path) -> list[Page]:
    """Returns what the headers of a file's pages tell; of other formats than TIFF, of the first frame.

    Raises:
        CorruptFileError: if Pillow does not know the format.
    """
    if is_tiff(path):
        with file_errors(str(path), "image"), path.open("rb") as file:
            found = []
            for number, tags in tiff_page_tags(file):
                width, height = tiff_size(tags)
                tag = tags.get(ORIENTATION, None)
                tag = xmp_orientation(tags.get(XMP)) if tag is None else tag
                found.append(
                    Page(
                        "TIFF",
                        number,
                        (height, width),
                        tiff_storage(tags),
                        "",
                        tag if is_turned(tag) else 1,
                        tiff_alpha(tags),
                        tiff_nodata(tags),
                    )
                )
            return found
    with opened(path, "image", None, sys.maxsize) as (image, _):
        storage, names = storage_of(image), image.getbands()
        tiles = getattr(image, "tile", None)
        if image.format == "PNG" and tiles and tiles[0][3] == "LA;16B":  # which Pillow would decode as RGBA
            storage, names = replace(storage, channels=2), ("L", "A")
        alpha = frozenset([len(names) - 1]) if names[-1] in "Aa" and len(names) > 1 else frozenset[int]()
        header = read_header(path)
        size = (header.height, header.width)
        return [Page(image.format or "", 0, size, storage, image.mode, header.orientation, alpha)]


def check_kind(path: Path, page: Page) -> None:
    """Raises CorruptFileError if the values of a file are not those of channels."""
    storage = page.storage
    is_gray_palette = page.format in ("BMP", "GIF") and page.mode == "L" and storage.bits == 8
    if (storage.unlike == "a palette" and not is_gray_palette) or storage.unlike == "CMYK colors":
        raise CorruptFileError(
            f"image {path} has {storage.unlike} instead of channels; convert it to red, green and blue: in "
            "Python Image.open('IN').convert('RGB').save('OUT.png')"
        )
    if storage.unlike == YCBCR and not page.is_read_by_pillow:
        raise CorruptFileError(
            f"image {path} has {storage.unlike}, of {storage.bits} bits; convert it to red, green and blue, by the "
            "program that wrote it"
        )
    if storage.flaw and storage.flaw != SPARSE and not _READ_BY_GDAL.match(storage.flaw):
        raise CorruptFileError(
            f"image {path} has {storage.flaw}, which are not read as channels; convert it to a TIFF whose samples are "
            "the values of its channels"
        )


def bands_of_pillow(path: Path, page: Page, orientation: str) -> Bands:
    """Returns the bands of a file that Pillow reads right; it is decoded at each read."""
    storage = page.storage
    height, width = page.size[::-1] if orientation == "apply" and page.orientation >= 5 else page.size
    dtype = np.dtype(np.float32 if storage.is_float else np.uint8 if storage.bits <= 8 else np.uint16)

    def read(indices: Sequence[int], window: Window | None) -> BandsRead:
        bands = _decoded(path, page, orientation).astype(dtype, copy=False)
        # all of them without a copy
        values = bands if list(indices) == [*range(len(bands))] else bands[list(indices)]
        valid = None
        if page.format in _MARKS:
            if page.alpha and not page.alpha & set(indices):
                valid = (bands[list(page.alpha)] != 0).all(0)
            if page.nodata is not None:
                with_data = differs(values, [page.nodata] * len(values))
                valid = with_data if valid is None else valid & with_data
        if valid is None and page.nodata is None and page.number == 0 and not page.alpha:
            back = page.orientation if orientation == "stored" else 1
            valid = valid_pixels(path, (width, height) if back >= 5 else (height, width))
            if valid is not None and back != 1:
                valid = turned(valid, {6: 8, 8: 6}.get(back, back))
        return part_of(values, window), None if valid is None else part_of(valid, window)

    return Bands(
        str(path),
        height,
        width,
        (dtype,) * storage.channels,
        read,
        ("",) * storage.channels,
        page.alpha,
        storage.bits,
        may_lack_data=bool(page.nodata is not None or (page.alpha and page.format in _MARKS) or marks_of(path)),
    )


def _decoded(path: Path, page: Page, orientation: str) -> npt.NDArray[Any]:
    """Returns the bands (C, H, W) of a page that Pillow reads right, as stored."""
    storage = page.storage
    with opened(path, "image", None, sys.maxsize) as (first, called), contextlib.ExitStack() as stack:
        image: Image.Image = first
        if storage.format == "TIFF" and storage.channels in (2, 4):
            # Pillow drops a channel of unknown meaning, and keeps alpha
            content = io.BytesIO(_with_alpha(path.read_bytes()))
            image = stack.enter_context(opened(content, "image", called, sys.maxsize))[0]
        if page.number:
            image.seek(page.number)
        decoded, _ = decode(image, orientation)
        if decoded.mode in ("1", "L"):
            # of fewer bits Pillow scales the values, and inverts them if white is zero
            values: npt.NDArray[Any] = ids_of(StoredMask(decoded, called, storage.bits, storage.inverted))
        else:
            values = np.array(decoded)
            if storage.inverted and values.dtype == np.uint8:
                values[..., 0] = 255 - values[..., 0]
    bands = values[None] if values.ndim == 2 else values.transpose(2, 0, 1)
    if len(bands) != storage.channels:
        raise CorruptFileError(
            f"image {path} has {storage.channels} channels, of which Pillow reads {len(bands)}; install rasterio, "
            "which reads all: pip install 'seg-core[geo]'"
        )
    return bands


def _decoded_by_torchvision(path: Path) -> npt.NDArray[Any] | None:
    """Returns an image (C, H, W) as stored, uint16 if it has 16 bits, or None if this torchvision decodes none."""
    import torch  # here, since nothing else of this module needs it

    try:
        from torchvision.io import ImageReadMode, decode_image
    except ImportError:  # later versions leave decoding to torchcodec
        return None
    content = torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
    with file_errors(str(path), "image"), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        values: npt.NDArray[Any] = decode_image(content, mode=ImageReadMode.UNCHANGED).numpy()
    return values


def _with_alpha(content: bytes) -> bytes:
    """Returns a TIFF whose last channel of unknown meaning is marked as alpha, which Pillow keeps."""
    order = "<" if content[:2] == b"II" else ">"
    is_big = content[2:4] in (b"+\0", b"\0+")
    place = struct.unpack_from(order + ("Q" if is_big else "I"), content, 8 if is_big else 4)[0]
    count = struct.unpack_from(order + ("Q" if is_big else "H"), content, place)[0]
    place += 8 if is_big else 2
    size, value = (20, 12) if is_big else (12, 8)
    patched = bytearray(content)
    for entry in range(place, place + count * size, size):
        if struct.unpack_from(order + "H", content, entry)[0] == _EXTRA_SAMPLES:
            struct.pack_into(order + "H", patched, entry + value, 2)
    return bytes(patched)


def bands_of_deep_png(path: Path, page: Page, tag: int) -> Bands:
    """Returns the bands of a PNG of 16-bit colors, without rasterio."""
    height, width = page.size[::-1] if tag >= 5 else page.size

    def read(indices: Sequence[int], window: Window | None) -> BandsRead:
        values = _decoded_by_torchvision(path)
        if values is None or values.dtype != np.uint16 or len(values) != page.storage.channels:
            raise MissingDependencyError(
                f"image {path} is a PNG of 16-bit colors, which this torchvision does not read; rasterio does: pip "
                "install 'seg-core[geo]'"
            )
        return part_of(turned(values, tag)[list(indices)], window), None

    count = page.storage.channels
    return Bands(
        str(path),
        height,
        width,
        (np.dtype(np.uint16),) * count,
        read,
        ("",) * count,
        page.alpha,
        page.storage.bits,
        may_lack_data=False,
    )
