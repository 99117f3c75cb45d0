"""Image and mask files of every kind, written sample by sample, with the pixels or the error that reading must give.

Pillow cannot write some of these, and would write others the way it reads them. `CASES` is the table.
"""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 6, 9
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
ALPHA = RNG.integers(0, 255, (HEIGHT, WIDTH, 1), dtype=np.uint8)
OPAQUE = np.full((HEIGHT, WIDTH, 1), 255, np.uint8)
PALETTE = RNG.integers(0, 256, (256, 3), dtype=np.uint8)
TURNED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}
"""How viewers turn an image by its orientation tag."""


def ids(bits: int) -> np.ndarray:
    """Returns ids (H, W) of `bits` bits, including the smallest and the largest; with 16 bits at most 299."""
    most = 299 if bits > 8 else 2**bits - 1
    values = np.random.default_rng(bits).integers(0, most + 1, (HEIGHT, WIDTH))
    values[0, :2] = 0, most
    return values.astype(np.uint16 if bits > 8 else np.uint8)


def gray(values: np.ndarray, factor: int = 1) -> np.ndarray:
    """Returns gray values as RGB."""
    return np.repeat((values * factor).astype(np.uint8)[..., None], 3, axis=2)


def packed(samples: np.ndarray, bits: int, order: str = ">") -> bytes:
    """Returns samples (rows, n) as TIFF and PNG store them: rows begin at a byte."""
    if bits < 8:
        digits = (samples[..., None] >> np.arange(bits - 1, -1, -1)) & 1
        return np.packbits(digits.reshape(len(samples), -1).astype(np.uint8), axis=1).tobytes()
    kind = samples.dtype.kind if samples.dtype.kind in "if" else "u"
    return samples.astype(f"{order}{kind}{bits // 8}").tobytes()


# ---- PNG -------------------------------------------------------------------------------------------------------------


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def exif(orientation: int) -> bytes:
    """Returns EXIF with nothing but an orientation."""
    return b"MM\x00*\x00\x00\x00\x08" + struct.pack(">HHHIHHI", 1, 274, 3, 1, orientation, 0, 0)


def png(
    samples: np.ndarray,
    bits: int,
    color_type: int,
    *,
    palette: np.ndarray | None = None,
    before: bytes = b"",
    after: bytes = b"",
) -> bytes:
    """Returns a PNG of samples (H, W) or (H, W, C); `before` and `after` are chunks around the pixels."""
    height, width = samples.shape[:2]
    rows = packed(samples.reshape(height, -1), bits)
    stride = len(rows) // height
    data = b"".join(b"\x00" + rows[start : start + stride] for start in range(0, len(rows), stride))
    chunks = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0))]
    if palette is not None:
        chunks.append(chunk(b"PLTE", palette[: 2**bits].tobytes()))
    chunks += [before, chunk(b"IDAT", zlib.compress(data)), after, chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


# ---- TIFF ------------------------------------------------------------------------------------------------------------


def tiff(
    samples: np.ndarray,
    bits: int,
    photometric: int,
    *,
    deflate: bool = False,
    planes: bool = False,
    tile: int | None = None,
    orientation: int | None = None,
    extra: int | None = None,
    sample_format: int = 1,
    palette: np.ndarray | None = None,
    order: str = "<",
    subsampling: tuple[int, int] | None = None,
) -> bytes:
    """Returns a TIFF of samples (H, W) or (H, W, C), in one strip, or in tiles of `tile` pixels a side."""
    samples = samples[..., None] if samples.ndim == 2 else samples
    height, width, channels = samples.shape
    parts = [samples[..., i : i + 1] for i in range(channels)] if planes else [samples]
    if tile is not None:
        padded = [np.pad(p, ((0, -height % tile), (0, -width % tile), (0, 0))) for p in parts]
        parts = [
            p[top : top + tile, left : left + tile]
            for p in padded
            for top in range(0, p.shape[0], tile)
            for left in range(0, p.shape[1], tile)
        ]
    blocks = [packed(p.reshape(len(p), -1), bits, order) for p in parts]
    blocks = [zlib.compress(block) for block in blocks] if deflate else blocks
    offsets, body = [], b""
    for block in blocks:
        offsets.append(8 + len(body))
        body += block + b"\x00" * (len(block) % 2)
    short, long = 3, 4
    tags: dict[int, tuple[int, Any]] = {
        256: (long, [width]),
        257: (long, [height]),
        258: (short, [bits] * channels),
        259: (short, [8 if deflate else 1]),
        262: (short, [photometric]),
        277: (short, [channels]),
        284: (short, [2 if planes else 1]),
        339: (short, [sample_format] * channels),
    }
    if tile is None:
        tags |= {273: (long, offsets), 278: (long, [height]), 279: (long, list(map(len, blocks)))}
    else:
        tags |= {322: (long, [tile]), 323: (long, [tile]), 324: (long, offsets), 325: (long, list(map(len, blocks)))}
    if orientation is not None:
        tags[274] = (short, [orientation])
    if extra is not None:
        tags[338] = (short, [extra])
    if palette is not None:
        tags[320] = (short, (palette[: 2**bits].T.astype(int) * 257).ravel().tolist())
    if subsampling is not None:
        tags[530] = (short, list(subsampling))
    start = 8 + len(body)
    end = start + 2 + 12 * len(tags) + 4
    entries, overflow = b"", b""
    for tag, (kind, values) in sorted(tags.items()):
        value = struct.pack(f"{order}{len(values)}{'H' if kind == short else 'I'}", *values)
        if len(value) > 4:
            place = struct.pack(f"{order}I", end + len(overflow))
            overflow += value + b"\x00" * (len(value) % 2)
        else:
            place = value.ljust(4, b"\x00")
        entries += struct.pack(f"{order}HHI", tag, kind, len(values)) + place
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, start)
    return head + body + struct.pack(f"{order}H", len(tags)) + entries + b"\x00" * 4 + overflow


# ---- other formats ---------------------------------------------------------------------------------------------------


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Returns what Pillow writes."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def jpeg(orientation: int = 1, mode: str = "RGB") -> bytes:
    options = {} if orientation == 1 else {"exif": b"Exif\x00\x00" + exif(orientation)}
    return saved(Image.fromarray(PIXELS).convert(mode), "JPEG", quality=95, **options)


def decoded(data: bytes) -> np.ndarray:
    """Returns what Pillow decodes, for lossy formats, where it is the reference."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def paletted(values: np.ndarray) -> Image.Image:
    image = Image.fromarray(values.astype(np.uint8)).convert("P")
    image.putpalette(PALETTE.tobytes())
    return image


def bmp_of_4_bits() -> bytes:
    """Returns a BMP of 4 bits with a palette of color; Pillow writes none."""
    rows = packed(np.pad(ids(4), ((0, 0), (0, -WIDTH % 8)))[::-1], 4)
    palette = b"".join(bytes([*color[::-1], 0]) for color in PALETTE[:16].tolist())
    head = struct.pack("<IiiHHIIiiII", 40, WIDTH, HEIGHT, 1, 4, 0, len(rows), 0, 0, 16, 0)
    start = 14 + len(head) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + head + palette + rows


# ---- the table -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A file and the expected result of reading it.

    Attributes:
        name: with the suffix.
        write: returns the contents.
        image: the pixels (H, W, 3) as stored, or a regular expression for the error message.
        mask: the ids (H, W), or a regular expression.
        orientation: tag of the file.
        by_tiles: whether GDAL reads the same pixels; otherwise the file is read at once.
    """

    name: str
    write: Callable[[], bytes]
    image: np.ndarray | str
    mask: np.ndarray | str
    orientation: int = 1
    by_tiles: bool = False

    def save(self, folder: Path) -> Path:
        path = folder / self.name
        path.write_bytes(self.write())
        return path


DEEP = "has 16 bits per channel; 8-bit gray or color is needed: reduce it to 8 bits first"
COLOR = "is a color image"
TAGGED = "has orientation tag {}; a mask must have none, or 1"
LOSSY = "has lossy compression"
SHORT = ids(16)
DEEP_PIXELS = (PIXELS.astype(np.uint16) << 8) + 7
DEEP_GRAY_ALPHA = np.stack([SHORT, SHORT], -1)
RGBA = np.concatenate([PIXELS, ALPHA], -1)
GRAY_ALPHA = np.concatenate([PIXELS[..., :1], ALPHA], -1)
EQUAL = gray(ids(4))
RGBA_IDS = np.concatenate([EQUAL, OPAQUE], -1)
FLOATS = np.linspace(0, 1, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)
CMYK = np.concatenate([PIXELS, np.zeros_like(ALPHA)], -1)
SIX = chunk(b"eXIf", exif(6))

CASES = (
    # PNG, bits and kinds
    Case("gray1.png", lambda: png(ids(1), 1, 0), gray(ids(1), 255), ids(1)),
    Case("gray2.png", lambda: png(ids(2), 2, 0), gray(ids(2), 85), ids(2)),
    Case("gray4.png", lambda: png(ids(4), 4, 0), gray(ids(4), 17), ids(4)),
    Case("gray8.png", lambda: png(ids(8), 8, 0), gray(ids(8)), ids(8), by_tiles=True),
    Case("gray16.png", lambda: png(SHORT, 16, 0), DEEP, SHORT),
    Case("gray_alpha8.png", lambda: png(GRAY_ALPHA, 8, 4), gray(PIXELS[..., 0]), "alpha channel with", by_tiles=True),
    Case("gray_alpha16.png", lambda: png(DEEP_GRAY_ALPHA, 16, 4), DEEP, "has 4 channels of 16 bits"),
    Case("rgb8.png", lambda: png(PIXELS, 8, 2), PIXELS, COLOR, by_tiles=True),
    Case("rgb_equal.png", lambda: png(EQUAL, 8, 2), EQUAL, ids(4), by_tiles=True),
    Case("rgb16.png", lambda: png(DEEP_PIXELS, 16, 2), DEEP, "has 3 channels of 16 bits"),
    Case("rgba8.png", lambda: png(RGBA, 8, 6), PIXELS, "alpha channel with", by_tiles=True),
    Case("rgba_opaque_equal.png", lambda: png(RGBA_IDS, 8, 6), EQUAL, ids(4), by_tiles=True),
    Case("rgba16.png", lambda: png(np.concatenate([DEEP_PIXELS, DEEP_PIXELS[..., :1]], -1), 16, 6), DEEP, "4 channels"),
    *(
        Case(
            f"palette{bits}.png",
            lambda bits=bits: png(ids(bits), bits, 3, palette=PALETTE),
            PALETTE[ids(bits)],
            ids(bits),
        )
        for bits in (1, 2, 4, 8)
    ),
    # PNG, orientation before and behind the pixels
    Case("tag6.png", lambda: png(PIXELS, 8, 2, before=SIX), PIXELS, TAGGED.format(6), 6),
    Case("tag6_behind.png", lambda: png(ids(8), 8, 0, after=SIX), gray(ids(8)), TAGGED.format(6), 6),
    # JPEG and WebP
    Case("rgb.jpg", jpeg, decoded(jpeg()), LOSSY),
    Case("gray.jpg", lambda: jpeg(mode="L"), decoded(jpeg(mode="L")), LOSSY, by_tiles=True),
    Case("cmyk.jpg", lambda: jpeg(mode="CMYK"), decoded(jpeg(mode="CMYK")), LOSSY),
    Case("tag8.jpg", lambda: jpeg(8), decoded(jpeg()), LOSSY, 8),
    Case("tag5.webp", lambda: saved(Image.fromarray(PIXELS), "WEBP", lossless=True, exif=exif(5)), PIXELS, LOSSY, 5),
    # TIFF, bits and kinds
    Case("gray1.tif", lambda: tiff(ids(1), 1, 1), gray(ids(1), 255), ids(1)),
    Case("gray2.tif", lambda: tiff(ids(2), 2, 1), gray(ids(2), 85), ids(2)),
    Case("gray4.tif", lambda: tiff(ids(4), 4, 1, deflate=True), gray(ids(4), 17), ids(4)),
    Case("gray8.tif", lambda: tiff(ids(8), 8, 1, order=">"), gray(ids(8)), ids(8), by_tiles=True),
    Case("gray16.tif", lambda: tiff(SHORT, 16, 1), DEEP, SHORT),
    Case("gray16_big_endian.tif", lambda: tiff(SHORT, 16, 1, order=">", deflate=True), DEEP, SHORT),
    Case("white_is_zero1.tif", lambda: tiff(ids(1), 1, 0), gray(1 - ids(1), 255), ids(1)),
    Case("white_is_zero4.tif", lambda: tiff(ids(4), 4, 0), gray(15 - ids(4), 17), ids(4)),
    Case("white_is_zero8.tif", lambda: tiff(ids(8), 8, 0, deflate=True), gray(255 - ids(8)), ids(8)),
    Case("palette8.tif", lambda: tiff(ids(8), 8, 3, palette=PALETTE), PALETTE[ids(8)], ids(8)),
    Case("palette4.tif", lambda: tiff(ids(4), 4, 3, palette=PALETTE), PALETTE[ids(4)], ids(4)),
    Case("rgb8.tif", lambda: tiff(PIXELS, 8, 2), PIXELS, COLOR, by_tiles=True),
    Case("rgb8_planes.tif", lambda: tiff(PIXELS, 8, 2, planes=True), PIXELS, COLOR, by_tiles=True),
    Case("rgb8_tiles.tif", lambda: tiff(PIXELS, 8, 2, tile=16, deflate=True), PIXELS, COLOR, by_tiles=True),
    Case("rgba8.tif", lambda: tiff(RGBA, 8, 2, extra=2), PIXELS, "alpha channel with", by_tiles=True),
    Case("rgb_premultiplied.tif", lambda: tiff(np.concatenate([PIXELS, OPAQUE], -1), 8, 2, extra=1), PIXELS, COLOR),
    Case("rgbx8.tif", lambda: tiff(RGBA, 8, 2, extra=0), PIXELS, COLOR, by_tiles=True),
    Case("rgb16.tif", lambda: tiff(DEEP_PIXELS, 16, 2), DEEP, "has 3 channels of 16 bits"),
    Case("gray_alpha16.tif", lambda: tiff(DEEP_GRAY_ALPHA, 16, 1, extra=2), DEEP, "has 2 channels of 16 bits"),
    Case("cmyk8.tif", lambda: tiff(CMYK, 8, 5), 255 - PIXELS, COLOR),
    Case("lab8.tif", lambda: tiff(PIXELS, 8, 8), "has CIELAB colors", "has CIELAB colors"),
    Case("ycbcr8.tif", lambda: tiff(PIXELS, 8, 6, subsampling=(1, 1)), "has YCbCr colors", "has YCbCr colors"),
    Case("float32.tif", lambda: tiff(FLOATS, 32, 1, sample_format=3), "floating-point", "floating-point"),
    Case("int32.tif", lambda: tiff(SHORT.astype(np.int32), 32, 1, sample_format=2), "has 32 bits", SHORT),
    Case("int8.tif", lambda: tiff(ids(4).astype(np.int8), 8, 1, sample_format=2), "signed", "signed"),
    # TIFF, orientation
    Case("tag3.tif", lambda: tiff(PIXELS, 8, 2, orientation=3, deflate=True), PIXELS, TAGGED.format(3), 3),
    Case("tag6.tif", lambda: tiff(ids(8), 8, 1, orientation=6), gray(ids(8)), TAGGED.format(6), 6),
    # others
    Case("rgb.bmp", lambda: saved(Image.fromarray(PIXELS), "BMP"), PIXELS, COLOR, by_tiles=True),
    Case("gray1.bmp", lambda: saved(Image.fromarray(ids(1) > 0), "BMP"), gray(ids(1), 255), ids(1)),
    Case("gray8.bmp", lambda: saved(Image.fromarray(ids(8)), "BMP"), gray(ids(8)), ids(8)),
    Case("palette4.bmp", bmp_of_4_bits, PALETTE[ids(4)], ids(4)),
    Case("palette8.bmp", lambda: saved(paletted(ids(8)), "BMP"), PALETTE[ids(8)], ids(8)),
    Case("palette.gif", lambda: saved(paletted(ids(8)), "GIF", optimize=False), PALETTE[ids(8)], ids(8)),
    Case("rgb.ppm", lambda: saved(Image.fromarray(PIXELS), "PPM"), PIXELS, COLOR),
    Case(
        "rgb16.ppm",
        lambda: b"P6 %d %d 65535\n" % (WIDTH, HEIGHT) + packed(DEEP_PIXELS.reshape(HEIGHT, -1), 16),
        DEEP,
        "has 3 channels of 16 bits",
    ),
    Case("rgb.jp2", lambda: saved(Image.fromarray(PIXELS), "JPEG2000"), PIXELS, LOSSY, by_tiles=True),
)
"""Kinds x depths x orientations x formats."""
