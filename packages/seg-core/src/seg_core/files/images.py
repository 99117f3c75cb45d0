"""Images and masks from files: the one place where a file becomes pixels or ids, for datasets, prediction, commands.

Formats: PNG, JPEG, TIFF, BMP, WebP, GIF, PPM (and its kin), JPEG 2000; of several frames the first.

- **Size.** The number of pixels is read from the header and compared with `max_pixels` before anything is decoded.
  Pillow's own limit is a variable of the whole process: it is never set here, and it does not decide.
- **Orientation.** An EXIF, XMP or TIFF tag says how an image is to be turned; `"apply"` does, `"stored"` leaves the
  pixels as they lie in the file, whatever the format (Pillow turns TIFFs by itself and nothing else). A mask with such
  a tag is an error: nobody knows whether its partner was turned too. A tag that cannot be parsed, or whose value is
  none of 1 to 8, counts as none, as in every viewer.
- **Depth.** Images have at most 8 bits per channel; Pillow would take the high byte of 16-bit RGB without a word. Masks
  of one channel keep their ids at 1, 2, 4, 8 and 16 bits, 32-bit ones if they hold no other ids.
- **Kinds that Pillow reads wrong**, or otherwise than GDAL, are errors: TIFFs of CIELAB, of YCbCr without JPEG, of
  signed samples, of more than four channels; BMPs whose gray palette hides that they have fewer bits.
"""

import contextlib
import io
import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
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

from seg_core.checks import is_integer
from seg_core.errors import (
    CorruptFileError,
    ImageNotFoundError,
    ImageTooLargeError,
    InvalidArgumentError,
    UserError,
)
from seg_core.files.storage import (
    COMPRESSION,
    HEIGHT,
    MAX_ID,
    ORIENTATION,
    PHOTOMETRIC,
    WIDTH,
    XMP,
    storage_of,
    tiff_storage,
    tiff_tags,
)

__all__ = [
    "MAX_PIXELS",
    "ORIENTATIONS",
    "Header",
    "Once",
    "Source",
    "StoredMask",
    "check_max_pixels",
    "check_orientation",
    "ids_of",
    "load_image",
    "load_mask",
    "read_header",
    "read_image",
    "read_mask",
    "to_rgb",
]

Source = str | os.PathLike[str] | bytes | IO[bytes] | Image.Image
"""A path, the contents of a file, a file object at its start, or an image of PIL."""

MAX_PIXELS = 178_000_000
"""Pixels that a file may have unless told otherwise; aerial images of iSAID reach 13000x13000."""

ORIENTATIONS = ("apply", "stored")
"""What may be done about an orientation tag."""

# PIL imports a plugin when a file needs it; these are looked up directly
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
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "PPM", "JPEG2000")
_PREFIX = 16  # bytes that Pillow tells formats by

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
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


class Once:
    """Gives each warning once: a dataset has one of its own, and each process that loads data a copy of that."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def warn(self, key: str, text: str) -> None:
        """Warns, unless there was a warning of that `key` before."""
        if key not in self._told:
            self._told.add(key)
            warnings.warn(text, stacklevel=3)


_ONCE_PER_PROCESS = Once()


@dataclass(frozen=True)
class Header:
    """What a file says of its image before it is decoded.

    Attributes:
        format: `"PNG"`, `"TIFF"`, ... as Pillow names them.
        width: in pixels, as stored.
        height: in pixels, as stored.
        orientation: 1 to 8; 1 where no tag says otherwise.
        unlike: how the stored samples differ from the pixels that `read_image` returns, such as `"CMYK colors"`; empty
            where they are 8-bit gray or RGB, with or without alpha, so that a program that reads parts of the file
            gets the same pixels.
    """

    format: str
    width: int
    height: int
    orientation: int
    unlike: str

    @property
    def is_plain(self) -> bool:
        """Whether what is stored are the pixels, upright."""
        return self.orientation == 1 and not self.unlike


@dataclass(frozen=True)
class StoredMask:
    """A decoded mask whose values are not settled yet, for readers of colors.

    Attributes:
        image: as Pillow decodes it. Of RGB, RGBA, palette and 8-bit gray images the values are those of the file; the
            ids of other gray images come from `ids_of`.
        name: for messages.
        bits: of a stored sample.
        inverted: whether Pillow returns the complement of the stored samples.
    """

    image: Image.Image
    name: str
    bits: int
    inverted: bool


def check_max_pixels(max_pixels: int) -> int:
    """Returns `max_pixels` if it is an integer of at least 1.

    Raises:
        InvalidArgumentError: if it is not.
    """
    if not is_integer(max_pixels, 1):
        raise InvalidArgumentError(
            f"max_pixels must be an integer of at least 1 (width times height of an image), got {max_pixels!r}; "
            f"{MAX_PIXELS} is usual"
        )
    return max_pixels


def check_orientation(orientation: str) -> str:
    """Returns `orientation` if it is one of `ORIENTATIONS`.

    Raises:
        InvalidArgumentError: if it is not.
    """
    if orientation not in ORIENTATIONS:
        raise InvalidArgumentError(
            "orientation must be 'apply' (turn an image as its EXIF, XMP or TIFF tag says) or 'stored' (take the "
            f"pixels as they lie in the file), got {orientation!r}"
        )
    return orientation


def read_image(
    source: Source, *, max_pixels: int = MAX_PIXELS, orientation: str = "apply", name: str | None = None
) -> npt.NDArray[np.uint8]:
    """Returns an image as RGB.

    Gray is repeated, a palette is looked up, CMYK and YCbCr are converted, alpha is dropped.

    Args:
        source: path, contents of a file, file object or PIL image. The limit does not hold for a PIL image, which is
            in memory already.
        max_pixels: largest width times height.
        orientation: `"apply"` turns the image as its tag says, `"stored"` takes the pixels as they lie in the file.
        name: what messages call it; by default its path.

    Returns:
        uint8 (H, W, 3), 0 to 255, in memory of its own.

    Raises:
        ImageNotFoundError: if there is no such file.
        ImageTooLargeError: if it has more pixels than `max_pixels`; nothing was decoded then.
        CorruptFileError: if it cannot be read, has more than 8 bits per channel, or is of a kind that is not read.
        InvalidArgumentError: if an argument is not allowed, or a PIL image has more than 8 bits per channel.
    """
    return load_image(source, max_pixels=max_pixels, orientation=orientation, name=name)[0]


def load_image(
    source: Source, *, max_pixels: int = MAX_PIXELS, orientation: str = "apply", name: str | None = None
) -> tuple[npt.NDArray[np.uint8], int]:
    """Returns an image as `read_image` does, and its orientation tag, 1 to 8.

    With `orientation="stored"` the tag is not looked for, unless the file is a TIFF, and 1 may stand for any.
    """
    check_max_pixels(max_pixels)
    check_orientation(orientation)
    with _opened(source, "image", name, max_pixels) as (image, called):
        storage = storage_of(image)
        if problem := storage.image_problem(image.mode):
            text = f"image {called} {problem}"
            raise InvalidArgumentError(text) if isinstance(source, Image.Image) else CorruptFileError(text)
        decoded, tag = _decode(image, orientation)
        return np.array(to_rgb(decoded)), tag


def read_mask(
    source: Source, *, max_pixels: int = MAX_PIXELS, name: str | None = None, once: Once | None = None
) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    """Returns the ids that a mask holds, as its samples are stored.

    These are gray values of 1, 2, 4, 8, 12 or 16 bits (not scaled, and not inverted where a TIFF says that white is
    zero), 32-bit values up to 65535, and palette indices. An RGB mask whose three channels are equal everywhere holds
    the ids three times, which is told by a warning. An alpha channel that is opaque everywhere is dropped.

    Args:
        source: path, contents of a file, or file object.
        max_pixels: largest width times height.
        name: what messages call it; by default its path.
        once: what was told before; None counts per process.

    Returns:
        uint8 (H, W), or uint16 where a sample has more than 8 bits; in memory of its own.

    Raises:
        ImageNotFoundError: if there is no such file.
        ImageTooLargeError: if it has more pixels than `max_pixels`; nothing was decoded then.
        CorruptFileError: if it cannot be read, is a color image, has transparent pixels, an orientation tag other than
            1, lossy compression, or values that are no ids.
        InvalidArgumentError: if `max_pixels` is not allowed.
    """
    return ids_of(load_mask(source, max_pixels=max_pixels, name=name), once)


def load_mask(source: Source, *, max_pixels: int = MAX_PIXELS, name: str | None = None) -> StoredMask:
    """Returns a mask decoded, its tags and its depth checked, for readers that look at its colors.

    Raises:
        As `read_mask`, except for what `ids_of` raises.
    """
    check_max_pixels(max_pixels)
    with _opened(source, "mask", name, max_pixels) as (image, called):
        storage = storage_of(image)
        if problem := storage.mask_problem():
            raise CorruptFileError(f"mask {called} {problem}")
        decoded, tag = _decode(image, "check")
        if tag != 1:
            raise CorruptFileError(
                f"mask {called} has orientation tag {tag}; a mask must have none, or 1, since nothing says whether its "
                "image was turned too: save the mask upright, without the tag"
            )
        return StoredMask(decoded, called, storage.bits, storage.inverted)


def ids_of(mask: StoredMask, once: Once | None = None) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    """Returns the ids of a decoded mask, as `read_mask` does.

    Raises:
        CorruptFileError: if it is a color image, or its values are no ids.
    """
    mode = mask.image.mode
    values = np.array(mask.image)
    if mode in ("I", "I;16", "I;16L", "I;16B", "I;16N"):
        if mode == "I" and values.size and not 0 <= int(values.min()) <= int(values.max()) <= MAX_ID:
            raise CorruptFileError(
                f"mask {mask.name} holds {mask.bits}-bit values from {values.min()} to {values.max()}; ids lie in 0 to "
                f"{MAX_ID}: convert the file"
            )
        return values.astype(np.uint16, copy=False)
    if mode in ("LA", "PA", "RGBA"):
        _check_opaque(mask, values[..., -1])
        values = values[..., :-1]
    if values.ndim == 3 and values.shape[-1] > 1:
        if mode not in ("RGB", "RGBA") or not _equal_channels(values):
            raise CorruptFileError(
                f"mask {mask.name} is a color image (mode {mode!r}); a mask holds one class id per pixel: an index PNG "
                "with 8 or 16 bits (gray or palette). Convert the colors to ids first"
            )
        (once or _ONCE_PER_PROCESS).warn(
            "RGB mask",
            f"mask {mask.name} is an RGB image whose three channels are equal everywhere: its gray values are read as "
            "ids, and so are those of others like it; save masks as gray or palette PNGs, which are smaller and read "
            "faster",
        )
    if values.ndim == 3:
        values = np.ascontiguousarray(values[..., 0])
    ids = values.astype(np.uint8, copy=False)
    if mode in ("1", "L", "LA"):
        if mask.inverted:
            np.subtract(1 if mode == "1" else 255, ids, out=ids)
        if mode != "1" and mask.bits < 8:
            ids //= 255 // (2**mask.bits - 1)  # Pillow has stretched them to 0 to 255
    return ids


def read_header(source: str | os.PathLike[str]) -> Header:
    """Returns what a file says of its image; nothing is decoded, and there is no limit of the size.

    A TIFF needs no more than readable tags: what Pillow cannot decode has a header too.

    Raises:
        ImageNotFoundError: if there is no such file.
        CorruptFileError: if it is none of the formats that are read here.
    """
    path = Path(source)
    with _file_errors(str(path), "image"), path.open("rb") as file:
        if file.read(_PREFIX).startswith(tuple(TiffImagePlugin.PREFIXES)):
            tags = tiff_tags(file)
            storage, tag = tiff_storage(tags), tags.get(ORIENTATION)
            if tag is None:
                tag = _xmp_orientation(tags.get(XMP))
            return Header("TIFF", tags[WIDTH], tags[HEIGHT], tag if tag in _TURNS else 1, storage.unlike)
        file.seek(0)
        image = _identify(file, os.fspath(path), "image")
        unlike = storage_of(image).unlike
        if image.format == "PNG":  # a tag may stand behind the pixels
            tag = _orientation_tag(PngImagePlugin.PngImageFile(_without_pixels(file)))
        else:
            tag = _orientation_tag(image)
        return Header(image.format or "", image.width, image.height, tag, unlike)


def to_rgb(image: Image.Image) -> Image.Image:
    """Returns an 8-bit image of PIL in mode RGB: gray is repeated, alpha is dropped, a palette is looked up."""
    if image.mode == "RGB":
        return image
    if image.mode == "La":  # premultiplied alpha; this way alone is open
        image = image.convert("LA")
    elif image.mode in ("P", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow wants this step before a palette with transparency becomes RGB
    return image.convert("RGB")


# ---- opening ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _opened(source: Source, noun: str, name: str | None, max_pixels: int) -> Iterator[tuple[Image.Image, str]]:
    """Gives an image of which the header was read, and its name for messages; what goes wrong becomes our errors."""
    if isinstance(source, Image.Image):
        called = name or getattr(source, "filename", "") or "(in memory)"
        with _file_errors(called, noun):
            yield source, called
        return
    with contextlib.ExitStack() as stack:
        if isinstance(source, str | os.PathLike):
            path = os.fspath(source)
            called = name or path
            stack.enter_context(_file_errors(called, noun))
            file: IO[bytes] = stack.enter_context(open(path, "rb"))  # noqa: PTH123 - faster than a path's own
        else:
            path = ""
            called = name or getattr(source, "name", None) or "(in memory)"
            stack.enter_context(_file_errors(called, noun))
            file = io.BytesIO(source) if isinstance(source, bytes) else source
        image = _identify(file, path, noun)
        if image.width * image.height > max_pixels:
            pixels = image.width * image.height
            raise ImageTooLargeError(
                f"{noun} {called} has {image.width}x{image.height} = {pixels} pixels (width x height), more than "
                f"max_pixels={max_pixels}; if the file is what you expect, raise the limit: max_pixels={pixels} of the "
                f"dataset or the Predictor, --max-pixels {pixels} of seg predict"
            )
        yield image, called


@contextlib.contextmanager
def _file_errors(name: str, noun: str) -> Iterator[None]:
    try:
        yield
    except (UserError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise ImageNotFoundError(f"there is no {noun} {name}; check the path") from error
    except Image.DecompressionBombError as error:  # a plugin of Pillow asks by itself
        raise ImageTooLargeError(
            f"{noun} {name} has more pixels than Pillow's own limit in this process allows, "
            f"PIL.Image.MAX_IMAGE_PIXELS = {Image.MAX_IMAGE_PIXELS}, which some code has lowered; set it higher, or to "
            "None"
        ) from error
    except _UnreadKind as error:
        raise CorruptFileError(f"{noun} {name} {error}") from error
    except Exception as error:
        # Pillow's decoders raise a dozen types for damaged files, struct.error, zlib.error and SyntaxError among them
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise CorruptFileError(
            f"{noun} {name} cannot be read: {reason or type(error).__name__}; replace the file or leave it out"
        ) from error


class _UnreadKind(Exception):  # noqa: N818 - its text lacks the name of the file
    pass


def _identify(file: IO[bytes], filename: str, noun: str) -> ImageFile.ImageFile:
    """Returns an image of which no more than the header is read.

    `PIL.Image.open` does the same, and compares the size with a variable that all threads and users of Pillow share:
    raising it for a moment, as others do, lets a bomb in elsewhere or fails beside another reader.
    """
    prefix = file.read(_PREFIX)
    if not prefix:
        raise OSError("it is empty")
    for name in _FORMATS:
        factory, accepts = Image.OPEN.get(name, (None, None))  # none where Pillow was built without it
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
    raise UnidentifiedImageError(f"it is none of {', '.join(_FORMATS)}")


def _tiff_problem(file: IO[bytes], noun: str) -> str:
    """Returns what is special about a TIFF that Pillow does not know; empty where its tags do not tell."""
    tags = tiff_tags(file)
    storage = tiff_storage(tags)
    problem = storage.mask_problem() if noun == "mask" else storage.image_problem("RGB")
    if problem or WIDTH not in tags:
        return problem
    return (
        f"cannot be read: Pillow knows no TIFF of {storage.channels} channels of {storage.bits} bits with photometric "
        f"interpretation {tags.get(PHOTOMETRIC)} and compression {tags.get(COMPRESSION, 1)}; convert it to 8-bit "
        "RGB, or a mask to a gray PNG, by gdal_translate or ImageMagick"
    )


# ---- orientation -----------------------------------------------------------------------------------------------------


def _decode(image: Image.Image, orientation: str) -> tuple[Image.Image, int]:
    """Decodes an image; returns it turned as `orientation` says (`"check"`: in any way), and its tag.

    Pillow turns TIFFs while it decodes them, and takes the tag away; of other formats it leaves that to others.
    """
    is_tiff = image.format == "TIFF" and getattr(image, "tile", None)
    tag, seen = 1, None
    if is_tiff:
        tag, seen = _orientation_tag(image), image.getexif().get(ORIENTATION)
        _allow_size(image)
        if tag >= 5:  # Pillow would map the file with height and width exchanged, and turn what that makes
            image.filename = ""  # type: ignore[attr-defined]
    image.load()
    turned = is_tiff and seen in _TURNS and ORIENTATION not in image.getexif()
    if not is_tiff and orientation != "stored":
        tag = _orientation_tag(image)  # of a PNG it may stand behind the pixels
    if tag != 1 and orientation == "apply" and not turned:
        return image.transpose(_TURNS[tag]), tag
    if tag != 1 and orientation == "stored" and turned:
        return image.transpose(_TURNS_BACK[tag]), tag
    return image, tag


def _orientation_tag(image: Image.Image) -> int:
    """Returns 1 to 8, from EXIF (of a TIFF its own tag) or XMP."""
    try:
        # a PNG would be decoded to look for EXIF behind the pixels; who needs that has done so
        tag = Image.Image.getexif(image).get(ORIENTATION)
    except Exception:
        tag = None  # as in viewers, what cannot be parsed says nothing
    if tag is None:
        tag = _xmp_orientation(image.info.get("xmp") or image.info.get("XML:com.adobe.xmp"))
    return tag if isinstance(tag, int) and tag in _TURNS else 1


def _xmp_orientation(text: Any) -> int | None:
    # older versions of Pillow look into the XMP of some formats only
    found = _XMP_ORIENTATION.search(text.encode() if isinstance(text, str) else text) if text else None
    return int(found[1]) if found else None


def _without_pixels(file: IO[bytes]) -> io.BytesIO:
    """Returns a PNG without its pixels: Pillow reads all that stands before them, and would decode for the rest."""
    file.seek(0)
    chunks = io.BytesIO()
    chunks.write(file.read(8))
    while len(head := file.read(8)) == 8:
        length = int.from_bytes(head[:4], "big") + 4  # with the checksum
        if head[4:] in (b"IDAT", b"fdAT"):
            file.seek(length, os.SEEK_CUR)
        else:
            chunks.write(head + file.read(length))
    chunks.seek(0)
    return chunks


def _allow_size(image: Image.Image) -> None:
    """Gives a TIFF its memory, where Pillow would first compare its size with the limit of the process."""
    width, height = image.tag_v2[WIDTH], image.tag_v2[HEIGHT]  # type: ignore[attr-defined]
    if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
        image.im = Image.new(image.mode, (width, height), None).im


# ---- masks -----------------------------------------------------------------------------------------------------------


def _check_opaque(mask: StoredMask, alpha: npt.NDArray[np.uint8]) -> None:
    if alpha.size and alpha.min() < 255:
        count = int((alpha < 255).sum())
        raise CorruptFileError(
            f"mask {mask.name} has an alpha channel with {count} of {alpha.size} pixels that are not opaque; which id "
            "these have is not known: save the mask without alpha"
        )


def _equal_channels(pixels: npt.NDArray[np.uint8]) -> bool:
    red, green, blue = (pixels[..., channel] for channel in range(3))
    return np.array_equal(red, green) and np.array_equal(red, blue)
