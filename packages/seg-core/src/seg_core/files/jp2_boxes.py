"""The boxes of JPEG 2000 files (.jp2): what they say of the samples, and whether they are sound.

They are checked before GDAL reads them: one without a length leads it in a circle.
"""

import os
import struct
from pathlib import Path
from typing import IO

from seg_core.errors import CorruptFileError

__all__ = ["HEAD_BYTES", "REORDERED", "YCBCR", "check_boxes", "stored_bits", "unlike_rgb"]

YCBCR = "YCbCr colors"
"""Colors of which Pillow returns RGB, and GDAL the samples as they are."""

REORDERED = "channels in another order than red, green and blue"
"""What neither Pillow nor GDAL puts in order."""

HEAD_BYTES = 4096
"""First bytes of a file, in which its header is looked for."""

_YCC = (18, 24)  # numbers of color spaces

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


def stored_bits(head: bytes) -> int:
    """Returns the bits of a channel by the first bytes of a file; the maximum if they differ, 8 if nothing tells."""
    start = head.find(b"ihdr")
    if start >= 0 and len(head) > start + 14 and head[start + 14] != 0xFF:
        return (head[start + 14] & 0x7F) + 1
    start = head.find(b"bpcc")
    if start >= 4:
        length = int.from_bytes(head[start - 4 : start], "big") - 8
        return max(((depth & 0x7F) + 1 for depth in head[start + 4 : start + 4 + length]), default=8)
    if head.startswith(b"\xff\x4f\xff\x51"):  # a codestream alone
        channels = int.from_bytes(head[40:42], "big")
        return max(((head[42 + 3 * number] & 0x7F) + 1 for number in range(channels)), default=8)
    return 8


def unlike_rgb(head: bytes) -> str:
    """Returns how the samples of a file differ from the colors that a decoder makes of them; "" if they do not.

    Args:
        head: the first bytes of the file.
    """
    head = head[: max(head.find(b"jp2c"), 0)]  # what is in the codestream is no box
    if b"pclr" in head:
        return "a palette"
    start = head.find(b"colr")
    if (
        start >= 0
        and head[start + 4 : start + 5] == b"\1"
        and int.from_bytes(head[start + 7 : start + 11], "big") in _YCC
    ):
        return YCBCR
    start = head.find(b"cdef")
    if start >= 0:
        fields = head[start + 6 :][: 6 * int.from_bytes(head[start + 4 : start + 6], "big")]
        found = struct.iter_unpack(">HHH", fields[: len(fields) // 6 * 6])
        if any(kind == 0 and place not in (0, channel + 1, 0xFFFF) for channel, kind, place in found):
            return REORDERED
    return ""
