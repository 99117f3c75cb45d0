"""Faults of images: orientation tags, bit depth, channels, transparency, sizes."""

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg_core.files.image_writing import save_image
from seg_datasets.doctor.fault_masks import scale_to_16_bits
from seg_datasets.doctor.tree import Tree, mask_of

__all__ = ["LOSSLESS", "alpha", "mixed_channels", "orientation", "size_outlier", "wrong_bit_depth"]

LOSSLESS = (".png", ".tif", ".tiff")
"""Suffixes of images that can hold transparency and 16 bits."""

_ORIENTATION = 0x0112
_TURNED = 6  # the stored image is to be rotated by 90 degrees for display
_TIMES = 8  # as large is an outlier


def orientation(tree: Tree) -> str:
    """Gives an image the orientation tag of a turned camera, its mask being drawn as stored; and a mask another."""
    image = tree.take().image
    _tag(tree, image)
    if tree.form.stored == "mat":
        return f"gave the image {image.name} orientation tag {_TURNED}"
    mask = mask_of(tree.take())
    _tag(tree, mask)
    return f"gave the image {image.name} and the mask {mask.name} orientation tag {_TURNED}"


def wrong_bit_depth(tree: Tree) -> str:
    """Stores an image in 16 bits, and a mask with ids times 257; of these what the format can hold."""
    done = []
    if tree.form.image_suffix in LOSSLESS:
        image = tree.take().image
        pixels = _pixels(image).astype(np.uint16) * np.uint16(257)
        tree.put(image, _png_16(pixels) if tree.form.image_suffix == ".png" else _tiff_16(pixels))
        done.append(f"the image {image.name} in 16 bits")
    if tree.form.stored in ("ids", "palette"):
        mask = mask_of(tree.take())
        scale_to_16_bits(tree, mask)
        done.append(f"the mask {mask.name} in 16 bits with ids times 257")
    return f"stored {' and '.join(done)}"


def mixed_channels(tree: Tree) -> str:
    """Stores an image in gray."""
    image = tree.take().image
    _save(tree, image, Image.fromarray(_pixels(image)).convert("L"))
    return f"stored the image {image.name} in gray"


def alpha(tree: Tree) -> str:
    """Gives an image a fourth channel that makes its left half partly transparent."""
    image = tree.take().image
    pixels = _pixels(image)
    opacity = np.full(pixels.shape[:2], 255, np.uint8)
    opacity[:, : max(pixels.shape[1] // 2, 1)] = 100
    _save(tree, image, Image.fromarray(np.dstack([pixels, opacity])))
    return f"made half of the image {image.name} transparent"


def size_outlier(tree: Tree) -> str:
    """Enlarges an image and its mask."""
    pair = tree.take()
    mask = mask_of(pair)
    large = Image.fromarray(_pixels(pair.image))
    _save(tree, pair.image, large.resize((large.width * _TIMES, large.height * _TIMES), Image.Resampling.BICUBIC))
    tree.write_ids(mask, tree.read_ids(mask).repeat(_TIMES, axis=0).repeat(_TIMES, axis=1))
    return f"enlarged the image {pair.image.name} and its mask {_TIMES} times in each direction"


def _pixels(path: Path) -> npt.NDArray[np.uint8]:
    with Image.open(path) as opened:
        return np.array(opened.convert("RGB"))


def _save(tree: Tree, path: Path, image: Image.Image) -> None:
    tree.touch(path)
    save_image(path, image, quality=95)  # of JPEG; the others take no notice


def _tag(tree: Tree, path: Path) -> None:
    """Adds an orientation tag to a file; its pixels stay as they are."""
    exif = Image.Exif()
    exif[_ORIENTATION] = _TURNED
    if path.suffix.lower() in (".jpg", ".jpeg"):
        stored, segment = path.read_bytes(), exif.tobytes()
        # after the two bytes of the start, so that nothing is compressed again
        tree.put(path, stored[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + stored[2:])
        return
    content = BytesIO()
    with Image.open(path) as opened:
        if path.suffix.lower() == ".png":
            opened.save(content, "PNG", exif=exif)
        else:
            opened.save(content, "TIFF", tiffinfo={_ORIENTATION: _TURNED})
    tree.put(path, content.getvalue())


def _png_16(pixels: npt.NDArray[np.uint16]) -> bytes:
    """Returns a PNG of 16 bits per channel from (H, W, 3), which Pillow cannot write."""
    height, width, _ = pixels.shape

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = pixels.astype(">u2").view(np.uint8).reshape(height, width * 6)
    unfiltered = np.hstack([np.zeros((height, 1), np.uint8), rows])
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(unfiltered.tobytes()))
        + chunk(b"IEND", b"")
    )


def _tiff_16(pixels: npt.NDArray[np.uint16]) -> bytes:
    """Returns a TIFF of 16 bits per channel from (H, W, 3), in one strip without compression."""
    height, width, _ = pixels.shape
    short, long = 3, 4
    data = pixels.astype("<u2").tobytes()
    tags = (
        *((256, long, 1, width), (257, long, 1, height), (258, short, 3, 8), (259, short, 1, 1), (262, short, 1, 2)),
        *((273, long, 1, 14), (277, short, 1, 3), (278, long, 1, height), (279, long, 1, len(data))),
    )
    # the bits of the three channels are before the pixels, the table of tags is behind them
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    return struct.pack("<2sHIHHH", b"II", 42, 14 + len(data), 16, 16, 16) + data + directory
