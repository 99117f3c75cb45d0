"""How an image file stores its samples, from its header: bit depth, channels and unusual encodings."""

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import IO, Any, cast

from PIL import Image, TiffImagePlugin

from seg_core.files.jp2_boxes import HEAD_BYTES, REORDERED, stored_bits, unlike_rgb

__all__ = [
    "COMPRESSION",
    "HEIGHT",
    "MAX_ID",
    "MAX_TILE_BYTES",
    "ORIENTATION",
    "OVERVIEW",
    "PHOTOMETRIC",
    "SPARSE",
    "SUBFILE",
    "TRANSPARENCY",
    "WIDTH",
    "XMP",
    "Storage",
    "page_marks",
    "storage_of",
    "tiff_alpha",
    "tiff_marks",
    "tiff_nodata",
    "tiff_size",
    "tiff_storage",
    "tiff_tags",
    "tile_bytes",
]

MAX_ID = 65535
"""Largest id that a mask may hold."""

MAX_TILE_BYTES = 2**29
"""Bytes of a tile, strip or chunk, which is decoded at once even if a part of it is read."""

_MASK_FORMATS = ("PNG", "TIFF", "BMP", "GIF", "PPM")
_JPEG_COLORS = "JPEG's YCbCr colors, which decoders turn into slightly different RGB"
_LOSSY_COMPRESSIONS = ("jpeg", "tiff_jpeg", "webp")  # of TIFF, as Pillow names them
_IMAGE_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")

# tags of TIFF; ORIENTATION is EXIF's as well
ORIENTATION = 274
WIDTH, HEIGHT, _BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
_SAMPLES, _PLANAR, _EXTRA, _SAMPLE_FORMAT, XMP = 277, 284, 338, 339, 700
_ROWS_PER_STRIP, _TILE_WIDTH, _TILE_HEIGHT = 278, 322, 323
_OFFSETS, _BYTE_COUNTS = (273, 324), (279, 325)  # of strips, of tiles
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_COLOR_SPACES = {8: "CIELAB", 9: "ICCLab", 10: "ITULab", 32803: "raw sensor", 32844: "LogL", 32845: "LogLuv"}
_OLD_JPEG, _JPEG = 6, 7
_PLANES = 2
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_OTHER_SAMPLES = {4: "samples of undefined type", 5: "complex samples", 6: "complex samples"}
_PREMULTIPLIED = 1
_ALPHA = (1, 2)  # kinds of extra samples: multiplied with the colors, or not
SUBFILE, _NODATA = 254, 42113
OVERVIEW, TRANSPARENCY = 1, 4  # bits of the subfile tag: pages that belong to another one
SPARSE = "parts that were never written (a sparse file)"
_TO_IDS = (
    "gdal_translate -ot Byte IN OUT.png (-ot UInt16 for ids above 255), or in Python "
    "Image.fromarray(ids.astype('uint8')).save('OUT.png')"
)


@dataclass(frozen=True)
class Storage:
    """How a file stores its samples.

    Attributes:
        format: file format.
        bits: bits of a sample.
        channels: channels of a pixel.
        flaw: why the kind is not supported, such as "CIELAB colors"; empty if it is.
        unlike: see `seg_core.files.images.Header`.
        inverted: whether Pillow returns the complement of gray samples.
        is_float: whether samples are floats.
        is_signed: whether samples have a sign.
        is_scaled: whether Pillow rescales the values in a way that cannot be undone.
        is_lossy: whether the compression changes values, so that ids would be lost.
    """

    format: str
    bits: int = 8
    channels: int = 1
    flaw: str = ""
    unlike: str = ""
    inverted: bool = False
    is_float: bool = False
    is_signed: bool = False
    is_scaled: bool = False
    is_lossy: bool = False

    def image_problem(self, mode: str) -> str:
        """Returns why the image cannot be read and what to do, or "" if it can."""
        if self.flaw == SPARSE:
            return f"has {self.flaw}, which Pillow does not read; fill them by gdal_translate IN OUT.tif"
        if self.flaw == REORDERED:
            return (
                f"has {self.flaw}, by its header; write it in that order, by gdal_translate -b 3 -b 2 -b 1 IN OUT.tif "
                "with the numbers of its red, green and blue bands as gdalinfo tells them"
            )
        if self.flaw and self.channels > 4:
            return (
                f"has {self.flaw}; an image has 1 to 4: reduce it to those of red, green and blue, by "
                "gdal_translate -b 1 -b 2 -b 3 -co PHOTOMETRIC=RGB IN OUT.tif, or describe them in the metadata of the "
                "dataset: channels = { names = [...], range = [LOW, HIGH] }"
            )
        if self.flaw:
            return f"has {self.flaw}, which is not supported; convert it to 8-bit RGB first, as gdal_translate does"
        if self.bits > 8 or self.is_float:
            kind = "floating-point samples of " if self.is_float else ""
            signed = ", signed" if self.is_signed else ""
            return (
                f"has {kind}{self.bits} bits per channel{signed}; 8-bit gray or color is needed: reduce it to 8 bits "
                "first, in the range that suits the data (gdal_translate -ot Byte -scale LOW HIGH 0 255 IN OUT), or "
                "describe the channels in the dataset's metadata: channels = { names = [...], range = [LOW, HIGH] }"
            )
        if self.is_signed:
            return "has signed samples; 8-bit gray or color of 0 to 255 is needed: convert the file first"
        if mode not in _IMAGE_MODES:
            return f"has pixels of mode {mode!r}; 8-bit gray or color is needed: convert it to RGB first"
        return ""

    def mask_problem(self) -> str:
        """Returns why the mask cannot be read and what to do, or "" if it can."""
        if self.flaw == SPARSE:
            return f"has {self.flaw}, which Pillow does not read; fill them by gdal_translate IN OUT.tif"
        if self.flaw:
            return (
                f"has {self.flaw}, which is not supported; a mask holds one class id per pixel: save it as a gray PNG"
            )
        if self.is_float:
            return (
                f"has floating-point samples of {self.bits} bits; ids are integers from 0 to {MAX_ID}. If the values "
                f"are whole ids, convert the file: {_TO_IDS}. If they are scores or heights, they are no mask yet: "
                "derive ids from them first, by a threshold or an argmax"
            )
        if self.bits > 32:
            return (
                f"has integers of {self.bits} bits; ids are integers from 0 to {MAX_ID} in at most 32 bits: convert "
                f"the file: {_TO_IDS}"
            )
        if self.bits > 8 and self.channels > 1:
            return (
                f"has {self.channels} channels of {self.bits} bits; a mask holds one class id per pixel: save its ids "
                "as a gray PNG with 8 or 16 bits"
            )
        if self.is_signed and self.bits == 8:
            return f"has signed samples; ids are integers from 0 to {MAX_ID}: convert the file: {_TO_IDS}"
        if self.is_lossy:
            return (
                f"has lossy compression ({self.format}), which changes ids; write masks as PNG, TIFF or BMP "
                "from the original ids"
            )
        if self.is_scaled:
            return "has a largest value that is neither 255 nor 65535, so that ids would be rescaled; save it as PNG"
        return ""


def storage_of(image: Image.Image) -> Storage:
    """Returns how the file of an image stores it; for an image in memory, by its mode."""
    kind = image.format or ""
    if kind == "TIFF" and hasattr(image, "tag_v2"):
        return tiff_storage(image.tag_v2)
    rawmode, argument = _decoder_arguments(image)
    channels = len(image.getbands())
    if kind == "PNG":  # of most masks, and of many small images, whose reading takes little time otherwise
        return _png_storage(image.mode, rawmode, channels)
    bits = _sample_bits(image.mode, rawmode)
    unlike, flaw, is_scaled = "", "", False
    if kind == "PPM" and isinstance(argument, int) and argument not in (0, 1):
        bits = 8 if argument <= 255 else 16
        is_scaled = argument not in (255, MAX_ID)
        unlike = "" if argument == 255 else f"a largest value of {argument}"
    elif kind == "JPEG2000":
        head = _head(image, HEAD_BYTES)
        bits, unlike = stored_bits(head), unlike_rgb(head)
        flaw = unlike if unlike == REORDERED else ""
    elif kind == "BMP":
        stored = _bmp_bits(image)
        if image.mode in ("1", "L") and stored not in (bits, None):
            # with a gray palette Pillow assumes 1 or 8 bits per pixel, whatever the file has
            flaw = f"{stored} bits per pixel with a gray palette of fewer colors"
        if rawmode.startswith("BGR;"):
            bits, unlike = 5, "5 bits per channel"
    if image.mode in ("P", "PA") or (kind in ("BMP", "GIF") and image.mode in ("1", "L")):
        unlike = "a palette"
    elif image.mode in ("CMYK", "YCbCr", "LAB"):
        unlike = f"{image.mode} colors"
    elif kind in ("JPEG", "MPO") and channels == 3:  # MPO: a JPEG with others behind it, as phones write it
        unlike = _JPEG_COLORS
    elif kind == "WEBP" and getattr(image, "is_animated", False):
        unlike = "several frames"
    elif bits != 8 and not unlike:
        unlike = _per_channel(bits)
    return Storage(
        format=kind,
        bits=bits,
        channels=channels,
        flaw=flaw,
        unlike=unlike,
        inverted=rawmode == "1;I",
        is_float=image.mode == "F",
        is_scaled=is_scaled,
        is_lossy=bool(kind) and kind not in _MASK_FORMATS,
    )


@cache
def _png_storage(mode: str, rawmode: str, channels: int) -> Storage:
    bits = _sample_bits(mode, rawmode)
    unlike = "a palette" if mode in ("P", "PA") else "" if bits == 8 else _per_channel(bits)
    return Storage("PNG", bits, channels, unlike=unlike, inverted=rawmode == "1;I", is_float=mode == "F")


def _sample_bits(mode: str, rawmode: str) -> int:
    if found := re.search(r";(\d+)", rawmode):
        return int(found[1])
    if rawmode == "1":
        return 1
    return {"1": 1, "I": 32, "F": 32}.get(mode, 16 if mode.startswith("I;") else 8)


def _decoder_arguments(image: Image.Image) -> tuple[str, Any]:
    """Returns the raw mode that Pillow decodes a file from, and the argument after it; "" and None once decoded."""
    tiles = getattr(image, "tile", None)
    arguments = tiles[0][3] if tiles else None
    if isinstance(arguments, str):
        return arguments, None
    if isinstance(arguments, tuple | list) and arguments and isinstance(arguments[0], str):
        return arguments[0], arguments[1] if len(arguments) > 1 else None
    return "", None


def tiff_tags(file: IO[bytes]) -> TiffImagePlugin.ImageFileDirectory_v2:
    """Returns the tags of the first image of a TIFF."""
    file.seek(0)
    head = file.read(8)
    if 43 in head[2:4]:  # BigTIFF
        head += file.read(8)
    tags = TiffImagePlugin.ImageFileDirectory_v2(head)
    file.seek(tags.next)
    tags.load(file)
    return tags


def tiff_storage(tags: Mapping[int, Any]) -> Storage:
    """Returns how a TIFF stores its image, by its tags."""
    # without a photometric interpretation, Pillow's default counts
    photometric, compression = tags.get(PHOTOMETRIC, _WHITE_IS_ZERO), tags.get(COMPRESSION, 1)
    depths, formats = _several(tags.get(_BITS, 1)), _several(tags.get(_SAMPLE_FORMAT, _UNSIGNED))
    bits, channels = max(depths), tags.get(_SAMPLES, 1)
    flaw = unlike = ""
    if compression == _OLD_JPEG:
        flaw = "JPEG compression of the old style"
    elif photometric == _YCBCR and (compression != _JPEG or tags.get(_PLANAR, 1) == _PLANES):
        flaw = "YCbCr colors without JPEG compression"
    elif photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR):
        flaw = f"{_COLOR_SPACES.get(photometric, f'photometric interpretation {photometric}')} colors"
    elif channels > 4:
        flaw = f"{channels} channels"
    elif others := [_OTHER_SAMPLES[kind] for kind in formats if kind in _OTHER_SAMPLES]:
        flaw = others[0]
    elif len(set(depths)) > 1:
        flaw = f"channels of {', '.join(map(str, depths))} bits"
    if flaw:
        unlike = flaw
    elif bits != 8:
        unlike = _per_channel(bits)
    elif photometric == _YCBCR:
        unlike = _JPEG_COLORS
    elif photometric in (_WHITE_IS_ZERO, _PALETTE, _CMYK):
        unlike = {_WHITE_IS_ZERO: "white as zero", _PALETTE: "a palette", _CMYK: "CMYK colors"}[photometric]
    elif _PREMULTIPLIED in _several(tags.get(_EXTRA, ())):
        unlike = "colors that are multiplied by alpha"
    if (
        not flaw
        and tags.get(_PLANAR, 1) == _PLANES
        and compression == 1
        and channels in (2, 4)
        and photometric != _CMYK
    ):
        flaw = f"{channels} channels in planes without compression"  # which Pillow cannot read without libtiff
    if not flaw and _is_sparse(tags):
        flaw = SPARSE  # which Pillow would take from the start of the file
    return Storage(
        format="TIFF",
        bits=bits,
        channels=channels,
        flaw=flaw,
        unlike=unlike,
        inverted=photometric == _WHITE_IS_ZERO and bits <= 8,
        is_float=_FLOAT in formats,
        is_signed=_SIGNED in formats,
        is_lossy=TiffImagePlugin.COMPRESSION_INFO.get(compression) in _LOSSY_COMPRESSIONS,
    )


def tiff_size(tags: Mapping[int, Any]) -> tuple[int, int]:
    """Returns width and height of a TIFF's image.

    Raises:
        OSError: if its tags hold none.
    """
    size = tags.get(WIDTH), tags.get(HEIGHT)
    if None in size:
        raise OSError("it is cut off, or has no size")
    if not all(isinstance(length, int) and length > 0 for length in size):
        raise OSError(f"its width is {size[0]!r:.40} and its height {size[1]!r:.40}")
    return cast("tuple[int, int]", size)


def tile_bytes(tags: Mapping[int, Any]) -> int:
    """Returns the bytes of a decoded tile or strip of a TIFF, by its tags."""
    depth = max(_several(tags.get(_BITS, 1))) * (tags.get(_SAMPLES, 1) if tags.get(_PLANAR, 1) != _PLANES else 1)
    if _TILE_WIDTH in tags and _TILE_HEIGHT in tags:
        pixels = tags[_TILE_WIDTH] * tags[_TILE_HEIGHT]
    else:
        pixels = tags.get(WIDTH, 0) * min(tags.get(_ROWS_PER_STRIP, 2**32), tags.get(HEIGHT, 0))
    return int(pixels * depth) // 8


def _is_sparse(tags: Mapping[int, Any]) -> bool:
    """Returns whether strips or tiles of a TIFF have no place in the file, which GDAL reads as nodata or 0."""
    if _num_places(tags) < _num_parts(tags):
        return True
    if any(0 in _several(tags.get(tag, ())) for tag in _OFFSETS):
        return True
    counts = [_several(tags.get(tag, ())) for tag in _BYTE_COUNTS]
    # old programs do not count the bytes of a single strip
    return any(0 in found and len(found) > 1 for found in counts)


def _num_places(tags: Mapping[int, Any]) -> int:
    return max(len(_several(tags.get(tag, ()))) for tag in _OFFSETS)


def _num_parts(tags: Mapping[int, Any]) -> int:
    """Returns the number of strips or tiles of a TIFF, by its size and theirs; 0 if they are not known."""
    width, height = tiff_size(tags) if WIDTH in tags and HEIGHT in tags else (0, 0)
    if _TILE_WIDTH in tags and _TILE_HEIGHT in tags:
        part = (tags[_TILE_WIDTH], tags[_TILE_HEIGHT])
    else:
        part = (width, tags.get(_ROWS_PER_STRIP, height))
    if not all(isinstance(length, int) and length > 0 for length in part):
        return 0
    count = -(-width // part[0]) * -(-height // part[1])
    return int(count * (tags.get(_SAMPLES, 1) if tags.get(_PLANAR, 1) == _PLANES else 1))


def tiff_marks(file: IO[bytes]) -> str:
    """Returns what in a TIFF tells which of its pixels hold data, such as "a nodata value", or "" if nothing does."""
    tags = tiff_tags(file)
    if marks := page_marks(tags):
        return marks
    seen = {0}
    while tags.next not in seen:  # a damaged file may lead back to an earlier page
        seen.add(tags.next)
        file.seek(tags.next)
        tags.load(file)
        if tags.get(SUBFILE, 0) & TRANSPARENCY:
            return "a mask"
    return ""


def tiff_alpha(tags: Mapping[int, Any]) -> frozenset[int]:
    """Returns the indices of the samples of a pixel that the tags of a TIFF call alpha."""
    kinds = _several(tags.get(_EXTRA, ()))
    first = tags.get(_SAMPLES, 1) - len(kinds)
    return frozenset(first + place for place, kind in enumerate(kinds) if kind in _ALPHA)


def tiff_nodata(tags: Mapping[int, Any]) -> float | None:
    """Returns the nodata value that GDAL wrote into the tags of a TIFF, or None."""
    try:
        return float(str(tags[_NODATA]).strip("\0 "))
    except (KeyError, ValueError):
        return None


def page_marks(tags: Mapping[int, Any]) -> str:
    """Returns what `tiff_marks` does, by the tags of a page alone."""
    if _NODATA in tags:
        return "a nodata value"
    return "an alpha channel" if any(kind in _ALPHA for kind in _several(tags.get(_EXTRA, ()))) else ""


def _per_channel(bits: int) -> str:
    return f"{bits} bit{'' if bits == 1 else 's'} per channel"


def _several(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def _bmp_bits(image: Image.Image) -> int | None:
    head = _head(image, 30)
    if len(head) < 30:
        return None
    return int(struct.unpack_from("<H", head, 24 if head[14] == 12 else 28)[0])


def _head(image: Image.Image, length: int) -> bytes:
    """Returns the first bytes of an image's file, or b"" if it is closed."""
    file = getattr(image, "fp", None)
    if file is None:
        return b""
    place = file.tell()
    file.seek(0)
    head: bytes = file.read(length)
    file.seek(place)
    return head
