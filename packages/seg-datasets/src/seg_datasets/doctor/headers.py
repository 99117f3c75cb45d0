"""Reads the headers of images and what tells their files apart, for a check before training; decodes nothing.

What a header tells is remembered, as what a mask holds is (`seg_core.files.scan`), so that the next run starts at once.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from PIL import Image, PngImagePlugin

from seg_core.errors import UserError
from seg_core.files.mask_sources import ScanSource
from seg_core.files.opening import opened
from seg_core.files.orientation import orientation_tag, without_pixels
from seg_core.files.remembered import RememberedFiles
from seg_core.files.scan_cache import HEADERS, HeaderSummary
from seg_core.files.storage import HEIGHT, WIDTH
from seg_datasets.doctor.examine import ENDS, content_of, image_fault, unnamed

__all__ = ["Headers", "read_header"]


class Headers(ScanSource[HeaderSummary]):
    """The headers of images; those that the cache knows are not read.

    Args:
        paths: the images.
        max_pixels: maximum width times height.
    """

    def __init__(self, paths: Sequence[str], max_pixels: int) -> None:
        super().__init__()
        self._paths = paths
        self._max_pixels = max_pixels
        self._remembered = RememberedFiles(HEADERS, [(Path(path), f"header {max_pixels}") for path in paths])
        self.known |= self._remembered.known

    def _read(self, indices: Sequence[int]) -> Iterator[HeaderSummary]:
        return self._remembered.read(indices, lambda index: read_header(self._paths[index], self._max_pixels))


def read_header(path: str, max_pixels: int) -> HeaderSummary:
    """Returns what the header of an image tells; of one that cannot be read, why."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - faster than a path's own
            length = file.seek(0, os.SEEK_END)
            file.seek(0)
            start = file.read(ENDS)
            file.seek(max(length - ENDS, 0))
            content = content_of(length, start, file.read(ENDS))
            if not length:
                return HeaderSummary(0, 0, 1, content, "empty-file")
            file.seek(0)
            with opened(file, "image", path, max_pixels) as (image, _):
                if fault := image_fault(image):
                    return HeaderSummary(0, 0, 1, content, *fault)
                tags = getattr(image, "tag_v2", None)
                width, height = image.size if tags is None else (tags[WIDTH], tags[HEIGHT])
                return HeaderSummary(height, width, _tag(image, file), content)
    except OSError as error:
        return HeaderSummary(0, 0, 1, 0, "unreadable-image", f"cannot be read: {error.strerror or error}")
    except UserError as error:
        return HeaderSummary(0, 0, 1, 0, "unreadable-image", unnamed(str(error), "image", path))


def _tag(image: Image.Image, file: IO[bytes]) -> int:
    if image.format != "PNG":
        return orientation_tag(image)
    try:
        return orientation_tag(PngImagePlugin.PngImageFile(without_pixels(file)))  # it may come after the pixels
    except Exception:  # damaged chunks, which are found when the image is decoded
        return orientation_tag(image)
