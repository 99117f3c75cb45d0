"""Reads masks of a multilabel task from one file: a page or band per class, an array, or a bit per class."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from seg_core.errors import (
    CorruptFileError,
    ImageNotFoundError,
    ImageTooLargeError,
    LabelOutOfRangeError,
    counted,
    id_ranges,
)
from seg_core.files import images
from seg_core.files.array_bands import map_npy
from seg_core.files.channel_files import read_channels
from seg_core.files.images import Once
from seg_core.files.pillow_bands import Page, bands_of_pillow, check_kind, read_page_headers
from seg_core.labels.channels import ImageChannels
from seg_datasets.reading.samples import Reading, gone

__all__ = ["BitsReader", "PlanesReader"]

_OTHERS = (
    'Masks of a file per class are read with masks = "masks/{class}", masks of a bit per class with masks_as = "bits"'
)
_MARKED = (
    "marks pixels without data, which may be 0 or ignored; write the ignored value there, and remove the mark, as by "
    "gdal_edit.py -unsetnodata FILE"
)


@dataclass(frozen=True)
class PlanesReader:
    """Reads a mask of a page or band per class, or a `.npy` array (K, H, W).

    Attributes:
        count: number of classes K.
    """

    count: int

    @property
    def name(self) -> str:
        """Name of the reader in the cache of mask scans."""
        return f"planes {self.count}"

    def __call__(self, path: Path, reading: Reading) -> npt.NDArray[np.uint8]:
        """Returns the raw ids, uint8 (K, H, W).

        Raises:
            CorruptFileError: if the file cannot be read, or does not hold K planes of 8 bits.
            DatasetNotFoundError: if the file no longer exists.
        """
        with gone((path,), "mask"):
            return self._of_array(path, reading) if path.suffix.lower() == ".npy" else self._of_image(path, reading)

    def _of_array(self, path: Path, reading: Reading) -> npt.NDArray[np.uint8]:
        if not path.exists():
            raise ImageNotFoundError(f"mask {path} does not exist")
        array = map_npy(path)
        if array.ndim != 3 or len(array) != self.count or array.dtype.kind not in "bui":
            raise CorruptFileError(
                f"mask {path} is an array of shape {array.shape} of {array.dtype}; a mask of "
                f"{counted(self.count, 'class', 'classes')} is ({self.count}, height, width) "
                "of integers, a plane per class in the order of the labels"
            )
        height, width = array.shape[1:]
        if height * width > reading.max_pixels:
            raise ImageTooLargeError(_too_large(path, height, width, reading))
        if array.size and not 0 <= int(array.min()) <= int(array.max()) <= 255:
            raise CorruptFileError(
                f"mask {path} holds values from {array.min()} to {array.max()}; planes hold 0, 1 and the ignored "
                "value, all at most 255"
            )
        return np.array(array, np.uint8)

    def _of_image(self, path: Path, reading: Reading) -> npt.NDArray[np.uint8]:
        pages = read_page_headers(path)
        if pages[0].storage.is_lossy:
            raise CorruptFileError(f"mask {path} {pages[0].storage.mask_problem()}")
        if all(page.is_read_by_pillow and not page.alpha for page in pages):
            return self._of_pages(path, pages, reading)
        names = tuple(f"plane {place}" for place in range(self.count))
        channels = ImageChannels(names, pages=len(pages) > 1)
        try:
            values, valid = read_channels(
                path, channels, max_pixels=reading.max_pixels, orientation=reading.orientation
            )
        except ImageTooLargeError:
            raise
        except CorruptFileError as error:
            raise CorruptFileError(
                f"mask {path} does not hold {self.count} planes of 8 bits, a page or band per class: {error}. {_OTHERS}"
            ) from error
        if valid is not None:
            raise CorruptFileError(f"mask {path} {_MARKED}")
        return np.ascontiguousarray(values.transpose(2, 0, 1))

    def _of_pages(self, path: Path, pages: Sequence[Page], reading: Reading) -> npt.NDArray[np.uint8]:
        """Returns the bands of all pages, which Pillow decodes in threads, unlike GDAL without a word."""
        count, (height, width) = sum(page.storage.channels for page in pages), pages[0].size
        sizes = {page.size for page in pages}
        deep = max(page.storage.bits for page in pages)
        if count != self.count or len(sizes) > 1 or deep > 8:
            what = counted(count, "band") + (f" of {len(pages)} pages" if len(pages) > 1 else "")
            what += " of different sizes" if len(sizes) > 1 else f" of {deep} bits" if deep > 8 else ""
            raise CorruptFileError(f"mask {path} does not hold {self.count} planes of 8 bits, but {what}. {_OTHERS}")
        if height * width > reading.max_pixels:
            raise ImageTooLargeError(_too_large(path, height, width, reading))
        planes = np.empty((count, height, width), np.uint8)
        place = 0
        for page in pages:
            check_kind(path, page)
            values, valid = bands_of_pillow(path, page, "stored").read(range(page.storage.channels), None)
            if valid is not None and not valid.all():
                raise CorruptFileError(f"mask {path} {_MARKED}")
            planes[place : place + len(values)] = values
            place += len(values)
        return planes


def _too_large(path: Path, height: int, width: int, reading: Reading) -> str:
    return (
        f"mask {path} has {width}x{height} pixels (width x height), more than max_pixels={reading.max_pixels}; if the "
        f"file is what you expect, raise the limit: max_pixels={height * width}"
    )


@dataclass(frozen=True)
class BitsReader:
    """Reads a mask whose ids have a bit per class: bit i, of the value 2**i, is class i.

    Attributes:
        count: number of classes K, at most 16.
        ignore_index: value of pixels that are ignored in all classes, if it is no combination of classes: at least
            2**K.
    """

    count: int
    ignore_index: int

    @property
    def name(self) -> str:
        """Name of the reader in the cache of mask scans."""
        return f"bits {self.count} {self.ignore_index}"

    def __call__(self, path: Path, reading: Reading) -> npt.NDArray[np.uint8]:
        """Returns uint8 (K, H, W): 1 where the bit of the class is set, `ignore_index` where ignored, else 0.

        Raises:
            CorruptFileError: if the file cannot be read.
            LabelOutOfRangeError: if a bit is set that belongs to no class.
            DatasetNotFoundError: if the file no longer exists.
        """
        with gone((path,), "mask"):
            ids = images.ids_of(images.load_mask(path, max_pixels=reading.max_pixels), Once())
        beyond = ids >= 2**self.count
        planes = np.empty((self.count, *ids.shape), np.uint8)
        for place, plane in enumerate(planes):
            plane[...] = ids >> place & 1
        if beyond.any():
            wrong = np.unique(ids[beyond & (ids != self.ignore_index)])
            if len(wrong):
                ignored = f", and {self.ignore_index}" if self.ignore_index >= 2**self.count else ""
                raise LabelOutOfRangeError(
                    f"mask {path} holds {id_ranges(wrong.tolist(), 10)}, with bits of no class: "
                    f"{counted(self.count, 'class', 'classes')} have the values 0 to "
                    f"{2**self.count - 1}{ignored} for ignored pixels; correct the mask or the labels"
                )
            planes[:, beyond] = self.ignore_index
        return planes
