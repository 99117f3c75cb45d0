"""Reads the headers of images and what tells their files apart, for a check before training; decodes nothing.

What a header tells is remembered, as what a mask holds is (`seg_core.files.scan`), so that the next run starts at once.
"""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from PIL import Image

from seg_core.errors import UserError
from seg_core.files.mask_sources import ScanSource
from seg_core.files.opening import opened
from seg_core.files.orientation import orientation_tag, png_orientation
from seg_core.files.remembered import RememberedFiles
from seg_core.files.scan_cache import HEADERS, HeaderSummary
from seg_core.files.storage import HEIGHT, WIDTH
from seg_datasets.doctor.examine import ENDS, content_of, image_fault, unnamed
from seg_datasets.doctor.examine_channels import header_of
from seg_datasets.reading.samples import Reading

__all__ = ["Headers", "read_header"]


class Headers(ScanSource[HeaderSummary]):
    """The headers of images; those that the cache knows are not read.

    Args:
        images: the files of each image.
        reading: the channels of the images, and the maximum of width times height.
    """

    def __init__(self, images: Sequence[Sequence[str]], reading: Reading) -> None:
        super().__init__()
        self._images = images
        self._reading = reading
        reader = f"header {reading.max_pixels}"
        if not reading.channels.is_rgb8:
            reader += f" {json.dumps(reading.channels.to_dict(), sort_keys=True)}"
        # whether a further file of an image changed is not known
        files = [(Path(first), None if more else reader) for first, *more in images]
        self._remembered = RememberedFiles(HEADERS, files)
        self.known |= self._remembered.known

    def _read(self, indices: Sequence[int]) -> Iterator[HeaderSummary]:
        return self._remembered.read(indices, self._header)

    def _header(self, index: int) -> HeaderSummary:
        if self._reading.channels.is_rgb8:
            return read_header(self._images[index][0], self._reading.max_pixels)
        return header_of(self._images[index], self._reading)


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
        return png_orientation(image, file)
    except Exception:  # damaged chunks, which are found when the image is decoded
        return orientation_tag(image)
