"""The boxes of JPEG 2000 files (.jp2), checked before GDAL reads them: one without a length leads it in a circle."""

import os
from pathlib import Path
from typing import IO

from seg_core.errors import CorruptFileError

__all__ = ["check_boxes"]

_WITH_BOXES = (b"jp2h", b"res ", b"asoc", b"uinf")
_MAX_BOXES = 100_000
_MAX_DEPTH = 8


def check_boxes(path: Path) -> None:
    """Checks that the boxes of a JPEG 2000 file lie inside of the file, one behind the other.

    Raises:
        CorruptFileError: if they do not.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if not _are_valid(file, 0, size, 0, [0]):
            raise CorruptFileError(f"{path} cannot be read as an image: its boxes are damaged; replace it")


def _are_valid(file: IO[bytes], start: int, end: int, depth: int, count: list[int]) -> bool:
    place = start
    while place < end:
        count[0] += 1
        file.seek(place)
        head = file.read(16)
        if count[0] > _MAX_BOXES or depth > _MAX_DEPTH or len(head) < 8:
            return False
        length, content = int.from_bytes(head[:4], "big"), place + 8
        if length == 1 and len(head) == 16:
            length, content = int.from_bytes(head[8:], "big"), place + 16
        elif length == 0 and depth == 0:  # the last one
            length = end - place
        after = place + length
        # decoders tell of a codestream that is cut off themselves
        is_cut_off = depth == 0 and head[4:8] == b"jp2c"
        if after < content or (after > end and not is_cut_off):
            return False
        if head[4:8] in _WITH_BOXES and not _are_valid(file, content, after, depth + 1, count):
            return False
        place = after
    return True
