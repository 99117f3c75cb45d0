"""The pages of a TIFF, for GDAL, which opens each as a file of its own."""

import sys
from dataclasses import dataclass
from pathlib import Path

from seg_core.files.opening import opened
from seg_core.files.orientation import orientation_tag
from seg_core.files.page_numbers import page_numbers
from seg_core.files.storage import page_marks

__all__ = ["TiffPage", "pages_of_tiff"]


@dataclass(frozen=True)
class TiffPage:
    """A page of a TIFF.

    Attributes:
        number: its number in the file, from 0, by which `open_gdal_file` opens it.
        orientation: its orientation tag, 1 to 8.
        may_be_marked: whether something may tell which of its pixels hold data.
    """

    number: int
    orientation: int
    may_be_marked: bool


def pages_of_tiff(path: Path) -> list[TiffPage]:
    """Returns the pages of a TIFF, as `seg_core.files.images.read_pages` counts them; none for another format.

    Raises:
        CorruptFileError: if the file cannot be read.
    """
    pages = []
    with opened(path, "image", None, sys.maxsize) as (image, _):
        if image.format != "TIFF":
            return []
        numbers = page_numbers(image)
        has_others = getattr(image, "n_frames", 1) > len(numbers)  # masks among them
        for number in numbers:
            image.seek(number)
            tags = image.tag_v2  # type: ignore[attr-defined]  # only TIFFs have it
            pages.append(TiffPage(number, orientation_tag(image), has_others or bool(page_marks(tags))))
    return pages
