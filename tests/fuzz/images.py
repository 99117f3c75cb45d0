"""Images and masks: files of every kind that are damaged, and headers that declare what is not there."""

import io
import random
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg_core import ImageChannels, read_image, read_mask
from seg_core.errors import UserError
from seg_core.files.channel_files import channels_size, read_channels
from seg_core.files.images import Header, count_pages, read_header
from tests.fuzz.harness import Difference, Harness
from tests.fuzz.mutations import damaged
from tests.image_files import CASES, png

_MODES = ("RGB", "L", "P", "RGBA", "1", "LA", "CMYK", "I;16", "I", "F", "YCbCr")
_FORMATS = {"PNG": ".png", "JPEG": ".jpg", "TIFF": ".tif", "WEBP": ".webp", "BMP": ".bmp", "GIF": ".gif", "PPM": ".ppm"}
_FORMATS |= {"JPEG2000": ".jp2", "ICO": ".ico", "TGA": ".tga", "AVIF": ".avif", "DIB": ".dib", "PCX": ".pcx"}
_RGB = ImageChannels(("red", "green", "blue"))
_LARGE = 1 << 24  # pixels
_TIFF = ("raw", "tiff_lzw", "tiff_deflate", "packbits", "jpeg", "group4", "zstd", "lzma")


def _saved(rng: random.Random) -> bytes:
    """Returns a file as Pillow writes it."""
    shape = (rng.choice((1, 2, 7, 16, 33)), rng.choice((1, 3, 8, 40)), 4)
    values = np.random.default_rng(rng.randrange(2**32)).integers(0, rng.choice((2, 20, 256)), shape, dtype=np.uint8)
    while True:  # not every format has every mode
        mode, kind, buffer = rng.choice(_MODES), rng.choice(list(_FORMATS)), io.BytesIO()
        image = Image.fromarray(values).convert("L" if mode == "I;16" else mode)
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257) if mode == "I;16" else image
        options: dict[str, object] = {"compression": rng.choice(_TIFF)} if kind == "TIFF" else {}
        if rng.random() < 0.2:
            exif = Image.Exif()
            exif[274] = rng.randrange(10)
            options["exif"] = exif
        if kind in ("GIF", "TIFF", "WEBP", "PNG") and rng.random() < 0.2:
            options |= {"save_all": True, "append_images": [image, image.transpose(Image.Transpose.ROTATE_180)]}
        try:
            image.save(buffer, kind, **options)
        except (OSError, ValueError, KeyError, TypeError, SystemError, RuntimeError):
            continue
        return buffer.getvalue()


def _repaired(data: bytes) -> bytes:
    """Returns a damaged PNG with right checksums, so that what stands in it is read."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    found, at = bytearray(data[:8]), 8
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        part = data[at + 4 : at + 8 + size]
        found += data[at : at + 4] + part + zlib.crc32(part).to_bytes(4, "big")
        at += 12 + size
    return bytes(found)


def _make(rng: random.Random) -> bytes:
    data = _array(rng) if rng.random() < 0.05 else rng.choice(CASES).write() if rng.random() < 0.4 else _saved(rng)
    if rng.random() < 0.9:
        data = damaged(data, rng)
    return _repaired(data) if rng.random() < 0.7 else data


def _array(rng: random.Random) -> bytes:
    """Returns a .npy file, whose header is text."""
    buffer = io.BytesIO()
    kind = rng.choice(("u1", "<u2", ">u2", "<f4", ">f8", "?", "i8", "c8", "S3", "M8[s]"))
    np.save(buffer, np.zeros(rng.choice(((4, 5, 3), (4, 5), (0, 5, 3), (2,), ())), kind))
    return buffer.getvalue()


def _read(read: object, *sources: object) -> list[object]:
    """Returns what each way of reading gives: an array, or the class of its error."""
    found: list[object] = []
    for source in sources:
        try:
            found.append(read(source))  # type: ignore[operator]
        except UserError as error:
            found.append(error)
    return found


def _compare(what: str, results: list[object]) -> npt.NDArray[np.generic] | None:
    first = results[0]
    for other in results[1:]:
        same = type(other) is type(first)
        if same and isinstance(first, np.ndarray):
            same = first.dtype == other.dtype and np.array_equal(first, other)  # type: ignore[attr-defined,arg-type]
        if not same:
            raise Difference(f"{what}: {_shown(first)} by one way and {_shown(other)} by another")
    return first if isinstance(first, np.ndarray) else None


def _shown(result: object) -> str:
    return f"{result.dtype} {result.shape}" if isinstance(result, np.ndarray) else f"{type(result).__name__}: {result}"


def _attempt(data: bytes, folder: Path) -> None:
    path = folder / f"x{_suffix(data)}"
    path.write_bytes(data)
    if path.suffix == ".npy":
        read_channels(path, ImageChannels(("a", "b", "c")))
        return
    header = _read(read_header, path)[0]
    if isinstance(header, Header) and header.width * header.height > _LARGE:
        read_image(path)  # once, for its memory and time
        return
    image = _compare("read_image", _read(read_image, path, str(path), data, io.BytesIO(data)))
    mask = _compare("read_mask", _read(read_mask, path, str(path), data, io.BytesIO(data)))
    _read(count_pages, path)
    size = _read(channels_size, path)[0]
    channels = _read(lambda source: read_channels(source, _RGB), path)[0]
    if image is not None and isinstance(channels, tuple) and isinstance(header, Header):
        pixels, valid = channels
        valid = np.s_[:] if valid is None else valid
        if pixels.shape != image.shape:
            raise Difference(f"read_channels gives {pixels.shape} and read_image {image.shape}")
        # of other TIFFs the samples stay as they are, such as colors that are multiplied by alpha
        if (not header.unlike or path.suffix != ".tif") and not np.array_equal(pixels[valid], image[valid]):
            raise Difference("read_channels gives other pixels than read_image")
    if image is not None and isinstance(header, Header):  # what stands behind the pixels may be damaged
        if isinstance(size, tuple) and size != image.shape[:2]:
            raise Difference(f"channels_size says {size}, the image is {image.shape}")
        if sorted((header.height, header.width)) != sorted(image.shape[:2]):
            raise Difference(f"the header says {header}, the image is {image.shape}")
    if image is None and mask is None:
        read_image(path)


def _suffix(data: bytes) -> str:
    heads = {
        b"\x93NUMPY": ".npy",
        b"\x89PNG": ".png",
        b"\xff\xd8": ".jpg",
        b"II": ".tif",
        b"MM": ".tif",
        b"RIFF": ".webp",
    }
    heads |= {b"BM": ".bmp", b"GIF8": ".gif", b"P": ".ppm", b"\x00\x00\x00\x0cjP": ".jp2"}
    return next((suffix for head, suffix in heads.items() if data.startswith(head)), ".png")


def _bilevel_bomb() -> bytes:
    """Returns a PNG of 22 KB with 177 million pixels of one bit, which is less than the limit."""
    rows = zlib.compressobj(9)
    row = bytes(1 + (13_300 + 7) // 8)
    body = b"".join(rows.compress(row) for _ in range(13_300)) + rows.flush()
    small = png(np.zeros((1, 1), np.uint8), 1, 0)
    header = b"IHDR" + (13_300).to_bytes(4, "big") * 2 + b"\x01\x00\x00\x00\x00"
    data = small[:8] + (13).to_bytes(4, "big") + header + bytes(4)
    data += len(body).to_bytes(4, "big") + b"IDAT" + body + bytes(4) + bytes(4) + b"IEND" + bytes(4)
    return _repaired(data)


HARNESS = Harness(_make, _attempt, ".img", {"bilevel-bomb": _bilevel_bomb})
