"""The orientation tag of an image file, and decoding of images upright or as stored.

An EXIF, XMP or TIFF tag specifies how to rotate or mirror an image for display. Pillow applies it automatically only to
TIFFs. A tag that cannot be parsed, or with a value other than 1 to 8, is ignored, as in every viewer.
"""

import io
import os
import re
import zlib
from typing import IO, Any, TypeGuard

import numpy as np
import numpy.typing as npt
from PIL import Image, PngImagePlugin

from seg_core.files.storage import HEIGHT, ORIENTATION, WIDTH

__all__ = [
    "decode",
    "is_turned",
    "orientation_tag",
    "png_orientation",
    "stored_window",
    "turned",
    "upright",
    "xmp_orientation",
]

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TURNS_BACK = {**_TURNS, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
_CHUNK = re.compile(rb"\w{4}")  # names of chunks of a PNG, as Pillow checks them
_TAGGED = (b"eXIf", b"iTXt", b"tEXt", b"zTXt")  # chunks in which Pillow finds a tag
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


def is_turned(tag: object) -> TypeGuard[int]:
    """Returns whether the value of an orientation tag means that the image is stored rotated or mirrored."""
    return tag in _TURNS


def decode(image: Image.Image, orientation: str) -> tuple[Image.Image, int]:
    """Decodes an image and returns it with its tag.

    Pillow applies the tag of a TIFF while decoding, and removes it; it ignores the tag of other formats.

    Args:
        image: an opened image that is not decoded yet.
        orientation: `"apply"` applies the tag, `"stored"` does not; with `"check"` either may happen, for callers that
            reject any tag but 1.
    """
    is_tiff = image.format == "TIFF" and getattr(image, "tile", None)
    tag, seen = 1, None
    if is_tiff:
        tag, seen = orientation_tag(image), image.getexif().get(ORIENTATION)
        _allow_size(image)
        if tag >= 5:  # Pillow would map the file with height and width exchanged, then rotate it
            image.filename = ""  # type: ignore[attr-defined]  # only images from files have it
    image.load()
    turned = is_tiff and seen in _TURNS and ORIENTATION not in image.getexif()
    if not is_tiff and orientation != "stored":
        tag = orientation_tag(image)  # in a PNG it may come after the pixels
    if tag != 1 and orientation == "apply" and not turned:
        return image.transpose(_TURNS[tag]), tag
    if tag != 1 and orientation == "stored" and turned:
        return image.transpose(_TURNS_BACK[tag]), tag
    return image, tag


def orientation_tag(image: Image.Image) -> int:
    """Returns 1 to 8, from EXIF (of a TIFF its own tag) or XMP."""
    try:
        # the PNG plugin's own method would decode the image to find EXIF after the pixels
        tag = Image.Image.getexif(image).get(ORIENTATION)
    except Exception:
        tag = None  # as in viewers, a tag that cannot be parsed is ignored
    if tag is None:
        tag = xmp_orientation(image.info.get("xmp") or image.info.get("XML:com.adobe.xmp"))
    return tag if isinstance(tag, int) and tag in _TURNS else 1


def upright(values: npt.NDArray[Any], tag: int) -> npt.NDArray[Any]:
    """Returns an array (H, W), bool or uint8, of an image as stored, turned upright by its orientation tag."""
    return values if tag == 1 else np.array(Image.fromarray(values).transpose(_TURNS[tag]))


def turned(bands: npt.NDArray[Any], tag: int) -> npt.NDArray[Any]:
    """Returns an array (..., H, W) of any type, of an image as stored, turned upright; a view."""
    rows, columns = (slice(None, None, -1 if tag in flipped else 1) for flipped in ((3, 4, 6, 7), (2, 3, 7, 8)))
    flipped = bands[..., rows, columns]
    return flipped.swapaxes(-1, -2) if tag >= 5 else flipped


def stored_window(window: tuple[int, int, int, int], size: tuple[int, int], tag: int) -> tuple[int, int, int, int]:
    """Returns where a window of an upright image lies in the image as stored; `turned` turns it upright.

    Args:
        window: top, left, height and width.
        size: height and width of the image as stored.
        tag: orientation tag.
    """
    top, left, height, width = window
    if tag >= 5:
        top, left, height, width = left, top, width, height
    if tag in (3, 4, 6, 7):
        top = size[0] - top - height
    if tag in (2, 3, 7, 8):
        left = size[1] - left - width
    return top, left, height, width


def xmp_orientation(text: Any) -> int | None:
    """Returns the orientation that XMP metadata hold, or None."""
    # older versions of Pillow read the XMP of some formats only
    found = _XMP_ORIENTATION.search(text.encode() if isinstance(text, str) else text) if text else None
    return int(found[1]) if found else None


def png_orientation(image: Image.Image, file: IO[bytes]) -> int:
    """Returns the orientation tag of a PNG, 1 to 8, as `decode` finds it; nothing is decoded.

    The tag may stand behind the pixels. There Pillow reads up to the first damage, and ignores checksums.

    Args:
        image: the PNG, of which the header was read.
        file: its file.

    Raises:
        OSError, SyntaxError, ValueError: if decoding would fail at a chunk behind the pixels.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    chunks, has_pixels = [file.read(8)], False
    while len(head := file.read(8)) == 8:
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        is_next_frame = kind == b"fcTL" and has_pixels and getattr(image, "is_animated", False)
        if kind == b"IEND" or is_next_frame or not _CHUNK.fullmatch(kind):
            break
        if length > size - file.tell():
            if kind in (b"IDAT", b"fdAT"):  # whose pixels may be whole nevertheless
                break
            raise OSError("it is cut off")
        has_pixels |= kind == b"IDAT"
        if kind in (b"IDAT", b"fdAT") or (has_pixels and kind not in _TAGGED):
            file.seek(length + 4, os.SEEK_CUR)  # with the checksum
        else:
            chunks.append(_chunk(kind, file.read(length)))
            file.seek(4, os.SEEK_CUR)
    chunks.append(_chunk(b"IDAT", b""))  # where Pillow stops
    return orientation_tag(PngImagePlugin.PngImageFile(io.BytesIO(b"".join(chunks))))


def _chunk(kind: bytes, content: bytes) -> bytes:
    """Returns a chunk of a PNG with its checksum."""
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(content, zlib.crc32(kind)).to_bytes(4, "big")


def _allow_size(image: Image.Image) -> None:
    """Allocates a TIFF's pixels, since Pillow would first compare its size with the limit of the process."""
    width, height = image.tag_v2[WIDTH], image.tag_v2[HEIGHT]  # type: ignore[attr-defined]  # only TIFFs
    if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
        image.im = Image.new(image.mode, (width, height), None).im
