"""Opens image files: finds the format, checks the size before anything is decoded, and converts failures to our errors.

Formats: PNG, JPEG, TIFF, BMP, WebP, GIF, PPM (also PBM, PGM, PAM), JPEG 2000; the first of several frames. The number
of pixels is read from the header and compared with `max_pixels`. Pillow's own limit is a variable of the whole process;
it is neither changed nor used.
"""

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from seg_core.errors import CorruptFileError, ImageNotFoundError, ImageTooLargeError, UserError
from seg_core.files.bounded import bounded
from seg_core.files.storage import (
    COMPRESSION,
    MAX_TILE_BYTES,
    PHOTOMETRIC,
    WIDTH,
    tiff_storage,
    tiff_tags,
    tile_bytes,
)
from seg_core.files.suffixes import FORMAT_SUFFIXES

__all__ = [
    "PREFIX_BYTES",
    "Source",
    "check_pixels",
    "check_size",
    "counted_pixels",
    "file_errors",
    "identify",
    "is_recognized",
    "opened",
]

Source = str | os.PathLike[str] | bytes | IO[bytes] | Image.Image
"""A path, the contents of a file, a file object at its start, or an image of PIL."""

# Pillow imports a plugin when a file needs it; this module calls the plugins directly
_PLUGINS = (
    PngImagePlugin,
    JpegImagePlugin,
    TiffImagePlugin,
    BmpImagePlugin,
    WebPImagePlugin,
    GifImagePlugin,
    PpmImagePlugin,
    Jpeg2KImagePlugin,
)
_FORMATS = tuple(FORMAT_SUFFIXES)
PREFIX_BYTES = 16  # bytes by which Pillow identifies formats

_KIND_BYTES = 64
_LONG_SIDE, _SHORT_SIDE = 65535, 64  # pixels, see `counted_pixels`
# first bytes, in lower case where they are text -> what other files are that people have among their images
_OTHER_KINDS = {
    b"\x93NUMPY": "an array of NumPy (.npy): save it as PNG, by Image.fromarray(array).save('OUT.png')",
    b"PK\x03\x04": "a zip archive or an array of NumPy (.npz): unpack it, or save the array as PNG",
    b"version https:/": "a pointer of Git LFS: get the file itself by `git lfs pull`",
    b"<!doctype html": "a web page, as a failed download leaves it; replace the file",
    b"<html": "a web page, as a failed download leaves it; replace the file",
    b"<svg": "a drawing (SVG): draw it into a PNG",
    b"<?xml": "XML, such as annotations of boxes or a drawing: convert it to PNG",
    b"{": "JSON, such as annotations of polygons: draw the polygons into a mask, by the program that wrote them",
    b"\x1a\x45\xdf\xa3": "a video (WebM or Matroska): pass the path of a file named .webm or .mkv, or its frames",
    b"%pdf": "a PDF: convert it to PNG",
    b"\x76\x2f\x31\x01": "OpenEXR, which holds floats: convert it to 8 bits first",
    b"\x89HDF": "HDF5 (.h5, .mat of MATLAB 7.3): save the array in it as PNG",
    b"MATLAB 5.0": "a file of MATLAB (.mat): save the array in it as PNG",
}
_OTHER_BRANDS = dict.fromkeys((b"heic", b"heix", b"mif1"), "HEIF, as phones write it: convert it to JPEG or PNG") | {
    b"avif": "AVIF: convert it to JPEG or PNG"
}
_VIDEO_BRANDS = (*b"isom iso2 iso4 iso5 iso6 mp41 mp42 avc1 3gp4 3gp5".split(), b"M4V ", b"qt  ")
_OTHER_BRANDS |= dict.fromkeys(_VIDEO_BRANDS, "a video: pass the path of a file with the suffix .mp4, or its frames")


@contextlib.contextmanager
def opened(source: Source, noun: str, name: str | None, max_pixels: int) -> Iterator[tuple[Image.Image, str]]:
    """Yields an image whose header was read, and its name for messages; failures become our errors."""
    if isinstance(source, Image.Image):
        called = name or getattr(source, "filename", "") or "(in memory)"
        with file_errors(called, noun):
            yield source, called
        return
    if isinstance(source, str | os.PathLike):
        path = os.fspath(source)
        called = name or path
        with file_errors(called, noun), open(path, "rb") as file:  # noqa: PTH123 - faster than a path's own
            yield _identified(file, path, called, noun, max_pixels), called
        return
    called = name or getattr(source, "name", None) or "(in memory)"
    with file_errors(called, noun):
        contents = io.BytesIO(source) if isinstance(source, bytes) else source
        yield _identified(contents, "", called, noun, max_pixels), called


def _identified(file: IO[bytes], path: str, called: str, noun: str, max_pixels: int) -> Image.Image:
    image = identify(file, path, noun)
    check_size(image, called, noun, max_pixels)
    return image


def check_size(image: Image.Image, called: str, noun: str, max_pixels: int) -> None:
    """Raises ImageTooLargeError if an image that is not decoded yet has more than `max_pixels`."""
    check_pixels(image.width, image.height, f"{noun} {called}", max_pixels)
    tags = getattr(image, "tag_v2", None)
    if tags is not None and (count := tile_bytes(tags)) > MAX_TILE_BYTES:
        raise ImageTooLargeError(
            f"{noun} {called} has tiles or strips of {count} bytes, more than {MAX_TILE_BYTES}, which are decoded at "
            "once; rewrite it in smaller ones: gdal_translate -co TILED=YES IN OUT.tif"
        )


def check_pixels(width: int, height: int, called: str, max_pixels: int) -> None:
    """Raises ImageTooLargeError if an image has more than `max_pixels`.

    Args:
        width: width in pixels.
        height: height in pixels.
        called: the image, for the message, such as "image a.png".
        max_pixels: the limit.
    """
    pixels, counted = width * height, counted_pixels(width, height)
    if counted > max_pixels:
        as_more = f" and counts as {counted}, being so narrow" if counted > pixels else ""
        raise ImageTooLargeError(
            f"{called} has {width}x{height} = {pixels} pixels (width x height){as_more}, more than max_pixels="
            f"{max_pixels}; if the file is what you expect, raise the limit: max_pixels={counted} of the "
            f"dataset or the Predictor, --max-pixels {counted} of seg predict"
        )


def counted_pixels(width: int, height: int) -> int:
    """Returns width times height, as limits of pixels count it.

    Of an image with more than 65535 pixels a side the shorter one counts as at least 64: it takes as much time, and
    parts of it as much memory.
    """
    if max(width, height) > _LONG_SIDE:
        return max(width, _SHORT_SIDE) * max(height, _SHORT_SIDE)
    return width * height


@contextlib.contextmanager
def file_errors(name: str, noun: str) -> Iterator[None]:
    """Converts exceptions of Pillow and the system in the block to our errors.

    Args:
        name: name of the file, for messages.
        noun: `"image"` or `"mask"`, for messages.
    """
    try:
        yield
    except (UserError, MemoryError):
        raise
    except FileNotFoundError as error:
        path = Path(name)
        if path.is_symlink():
            raise ImageNotFoundError(
                f"the {noun} {name} is a link to {path.readlink()}, which does not exist; correct or remove the link"
            ) from error
        raise ImageNotFoundError(f"there is no {noun} {name}; check the path") from error
    except Image.DecompressionBombError as error:  # some plugins check the limit themselves
        raise ImageTooLargeError(
            f"{noun} {name} has more pixels than Pillow's own limit in this process allows, "
            f"PIL.Image.MAX_IMAGE_PIXELS = {Image.MAX_IMAGE_PIXELS}, which some code has lowered; raise it, or set "
            "it to None"
        ) from error
    except _UnreadKind as error:
        raise CorruptFileError(f"{noun} {name} {error}") from error
    except Exception as error:
        # Pillow's decoders raise a dozen types for damaged files, struct.error, zlib.error and SyntaxError among them
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise CorruptFileError(
            f"{noun} {name} cannot be read: {reason or type(error).__name__}; replace the file or remove it"
        ) from error


class _UnreadKind(Exception):  # noqa: N818 - its text lacks the name of the file
    pass


def identify(file: IO[bytes], filename: str, noun: str) -> ImageFile.ImageFile:
    """Returns an image of which only the header is read; `noun` as for `file_errors`.

    `PIL.Image.open` does the same, and compares the size with a variable that all threads and users of Pillow share:
    raising it for a moment, as others do, would let a decompression bomb through in another thread, or fail there.
    """
    file = bounded(file)
    prefix = file.read(PREFIX_BYTES)
    if not prefix:
        raise OSError("it is empty")
    for name in _FORMATS:
        factory, accepts = Image.OPEN.get(name, (None, None))  # None if Pillow was built without it
        answer = accepts(prefix) if factory and accepts else False
        if isinstance(answer, str):
            raise OSError(answer)
        if not answer:
            continue
        assert factory is not None
        file.seek(0)
        try:
            return factory(file, filename)
        except (SyntaxError, KeyError) as error:
            if name == "TIFF" and (problem := _tiff_problem(file, noun)):
                raise _UnreadKind(problem) from error
            raise
    file.seek(0)
    known = ", ".join(_FORMATS)
    if kind := _other_kind(file.read(_KIND_BYTES)):
        raise _UnreadKind(f"cannot be read: it is none of {known} but {kind}")
    raise UnidentifiedImageError(f"it is none of {known}")


def is_recognized(path: str | os.PathLike[str]) -> bool:
    """Returns whether a file begins as one of the supported formats does, or is empty."""
    with Path(path).open("rb") as file:
        prefix = file.read(PREFIX_BYTES)
    acceptors = [Image.OPEN.get(name, (None, None))[1] for name in _FORMATS]
    return not prefix or any(accepts(prefix) for accepts in acceptors if accepts)


def _other_kind(head: bytes) -> str:
    """Returns what a file that is no supported image is, with advice, or "" if its first bytes do not tell."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:16].lower()
    for prefix, kind in _OTHER_KINDS.items():
        if head.startswith(prefix) or start.startswith(prefix):
            return kind
    brand = head[8:12] if head[4:8] == b"ftyp" else b""
    return _OTHER_BRANDS.get(brand, "")


def _tiff_problem(file: IO[bytes], noun: str) -> str:
    """Returns why Pillow cannot open a TIFF, or "" if its tags do not show it."""
    tags = tiff_tags(file)
    storage = tiff_storage(tags)
    problem = storage.mask_problem() if noun == "mask" else storage.image_problem("RGB")
    if problem or WIDTH not in tags:
        return problem
    if noun == "mask" and storage.channels > 1:
        return (
            f"has {storage.channels} channels; a mask holds one class id per pixel: save the channel of the ids alone, "
            "by gdal_translate -b 1 IN OUT.png, or, if each channel holds one class, combine them"
        )
    channels = f"{storage.channels} channel{'' if storage.channels == 1 else 's'}"
    return (
        f"cannot be read: Pillow knows no TIFF of {channels} of {storage.bits} bits with photometric "
        f"interpretation {tags.get(PHOTOMETRIC)} and compression {tags.get(COMPRESSION, 1)}; convert it to 8-bit "
        "RGB, or a mask to a gray PNG, by gdal_translate or ImageMagick"
    )
