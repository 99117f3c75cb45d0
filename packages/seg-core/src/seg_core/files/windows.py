"""Parts of 8-bit RGB images and of masks, equal to those of the whole as `seg_core.files.images` reads it.

Of a TIFF of many strips or tiles only the part is decoded, by GDAL (the extra `geo`), if GDAL returns what Pillow does.
Every other file is read at once. Images of other channels: `seg_core.files.channel_files`.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_core.errors import CorruptFileError, ImageTooLargeError, MissingDependencyError
from seg_core.files.band_files import check_exists
from seg_core.files.bands import Window, check_window, gains
from seg_core.files.gdal import gdal_errors, import_rasterio, keep_gdal_file
from seg_core.files.gdal_bands import unlike_whole
from seg_core.files.images import (
    MAX_PIXELS,
    Once,
    check_image,
    check_max_pixels,
    check_orientation,
    read_header,
    read_image,
    read_mask,
)
from seg_core.files.open_files import OpenFiles, file_state
from seg_core.files.opening import opened
from seg_core.files.orientation import stored_window, turned
from seg_core.files.page_numbers import num_pages
from seg_core.files.storage import storage_of
from seg_core.files.validity import is_tiff

__all__ = ["can_read_image_windows", "can_read_mask_windows", "read_mask_window", "read_window"]

_COLORS = {1: [1], 2: [1], 3: [1, 2, 3], 4: [1, 2, 3]}
"""Number of bands of an image -> those without alpha."""
_ReadStored = Callable[[Window], npt.NDArray[Any]]
_OPEN_FILES = OpenFiles()


class _Opened:
    """A file whose parts GDAL returns as Pillow does."""

    def __init__(self, file: Any, name: str, orientation: int, bands: list[int]) -> None:
        self.file, self.name, self.bands, self.orientation = file, name, bands, orientation
        self.height, self.width = (file.width, file.height) if orientation >= 5 else (file.height, file.width)

    def read(self, window: Window) -> npt.NDArray[Any]:
        """Returns a part (C, h, w)."""
        check_window(window, (self.height, self.width), self.name)
        size = (self.file.height, self.file.width)
        top, left, height, width = stored_window(window, size, self.orientation)
        place = import_rasterio().windows.Window(left, top, width, height)
        try:
            return turned(self.file.read(self.bands, window=place), self.orientation)
        except gdal_errors() as error:
            raise CorruptFileError(f"{self.name} cannot be read: {error.__cause__ or error}; replace it") from error


def read_window(
    source: str | os.PathLike[str],
    top: int,
    left: int,
    height: int,
    width: int,
    *,
    max_pixels: int = MAX_PIXELS,
    orientation: str = "apply",
) -> npt.NDArray[np.uint8]:
    """Returns a part of an image as RGB, equal to that of `read_image`.

    Args:
        source: path of the image.
        top: first row of the part.
        left: first column.
        height: number of rows.
        width: number of columns.
        max_pixels: largest width times height that is decoded: of the part, or of the image if it is read at once.
        orientation: `"apply"` applies the orientation tag, `"stored"` keeps the pixels as stored.

    Returns:
        uint8 (h, w, 3), a new array.

    Raises:
        As `seg_core.files.images.read_image`; and InvalidArgumentError if the part is not inside of the image.
    """
    check_max_pixels(max_pixels)
    check_orientation(orientation)
    path, name, window = Path(source), f"image {os.fspath(source)}", (top, left, height, width)
    with _OPEN_FILES.use(("image", orientation, file_state(path)), lambda: _opened_image(path, orientation)) as file:
        if file is not None:
            _check_size(window, name, max_pixels)
            part = file.read(window)
            return np.array(np.broadcast_to(part, (3, *part.shape[1:])).transpose(1, 2, 0), order="C")
    image = read_image(path, max_pixels=max_pixels, orientation=orientation)
    return _crop(image, window, name)


def read_mask_window(
    source: str | os.PathLike[str],
    top: int,
    left: int,
    height: int,
    width: int,
    *,
    max_pixels: int = MAX_PIXELS,
    once: Once | None = None,
) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    """Returns the ids of a part of a mask, equal to those of `read_mask`.

    What the header tells is checked as by `read_mask`; the ids of the part alone.

    Args:
        source: path of the mask.
        top: first row of the part.
        left: first column.
        height: number of rows.
        width: number of columns.
        max_pixels: largest width times height that is decoded: of the part, or of the mask if it is read at once.
        once: remembers warnings given before; None warns once per process.

    Returns:
        uint8 (h, w), or uint16 if a sample has more than 8 bits; a new array.

    Raises:
        As `seg_core.files.images.read_mask`; and InvalidArgumentError if the part is not inside of the mask.
    """
    check_max_pixels(max_pixels)
    path, name, window = Path(source), f"mask {os.fspath(source)}", (top, left, height, width)
    with _OPEN_FILES.use(("mask", file_state(path)), lambda: _opened_mask(path)) as file:
        if file is not None:
            _check_size(window, name, max_pixels)
            ids: npt.NDArray[np.uint8] | npt.NDArray[np.uint16] = np.array(file.read(window)[0], order="C")
            return ids
    return _crop(read_mask(path, max_pixels=max_pixels, once=once), window, name)


def can_read_image_windows(source: str | os.PathLike[str]) -> bool:
    """Returns whether `read_window` decodes only a part of a file; False too if the image cannot be read."""
    with _opened_image(Path(source), "apply") as file:
        return file is not None


def can_read_mask_windows(source: str | os.PathLike[str]) -> bool:
    """Returns whether `read_mask_window` decodes only a part of a file; False too if the mask cannot be read."""
    with _opened_mask(Path(source)) as file:
        return file is not None


@contextlib.contextmanager
def _opened_image(path: Path, orientation: str) -> Iterator[_Opened | None]:
    """Yields an image whose parts GDAL returns as `read_image` does, or None if it must be read at once."""
    with _opened_tiff(path) as file:
        if file is None or file.count not in _COLORS or set(file.dtypes) != {"uint8"}:
            yield None
            return
        try:
            check_image(path, max_pixels=file.height * file.width)
            header = read_header(path)
        except CorruptFileError:
            yield None
            return
        if header.unlike or unlike_whole(file, None):
            yield None
        else:
            tag = header.orientation if orientation == "apply" else 1
            yield _Opened(file, f"image {path}", tag, _COLORS[file.count])


@contextlib.contextmanager
def _opened_mask(path: Path) -> Iterator[_Opened | None]:
    """Yields a mask whose parts GDAL returns as `read_mask` does, or None if it must be read at once."""
    with _opened_tiff(path) as file:
        if file is None or file.count != 1 or file.dtypes[0] not in ("uint8", "uint16"):
            yield None
            return
        try:
            with opened(path, "mask", None, file.height * file.width) as (image, _):
                storage = storage_of(image)
                fits = not storage.mask_problem() and num_pages(image) == 1 and read_header(path).orientation == 1
        except CorruptFileError:
            fits = False
        # of 9 to 15 bits Pillow reads some alone
        yield _Opened(file, f"mask {path}", 1, [1]) if fits and storage.bits in (1, 2, 4, 8, 16) else None


@contextlib.contextmanager
def _opened_tiff(path: Path) -> Iterator[Any]:
    """Yields a TIFF of many strips or tiles, opened by rasterio, or None."""
    check_exists(path)
    with contextlib.ExitStack() as stack:
        file = None
        if path.is_file() and is_tiff(path):
            with contextlib.suppress(CorruptFileError, MissingDependencyError):
                file = stack.enter_context(keep_gdal_file(path))
            if file is not None and not all(gains((file.height, file.width), shape) for shape in file.block_shapes):
                file = None
        yield file


def _check_size(window: Window, name: str, max_pixels: int) -> None:
    pixels = window[2] * window[3]
    if pixels > max_pixels:
        raise ImageTooLargeError(
            f"the part of {window[3]}x{window[2]} = {pixels} pixels (width x height) of {name} is more than max_pixels="
            f"{max_pixels}; read a smaller part, or raise the limit: max_pixels={pixels}"
        )


def _crop(image: npt.NDArray[Any], window: Window, name: str) -> npt.NDArray[Any]:
    check_window(window, image.shape[:2], name)
    top, left, height, width = window
    return image[top : top + height, left : left + width].copy()
