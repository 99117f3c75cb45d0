"""Fake images of any number of channels and 8, 16 or 32 bits, whose classes differ in the last channel alone."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg_core.checks import check_integer, is_integer
from seg_core.errors import InvalidArgumentError
from seg_core.files.image_writing import save_image
from seg_core.labels.channels import RGB_CHANNELS, ImageChannels
from seg_core.labels.label_map import LabelMap
from seg_core.labels.metadata import DatasetMetadata
from seg_datasets.doctor.fake_folder import FOLDER
from seg_datasets.reading.base import Edition
from seg_datasets.reading.layout import SplitFiles

__all__ = ["FakeChannels", "write_noise"]

_NAMES = ("red", "green", "blue", "nir")
_RANGES: dict[int, tuple[float, float] | None] = {8: None, 16: (0, 10000), 32: (0, 1)}  # of reflectances in 16 bits
_TYPES = {8: np.uint8, 16: np.uint16, 32: np.float32}
_NOISE = 0.04  # of the range
_LABELS, _COLORS = ("soil", "crop", "water"), ((150, 110, 70), (60, 160, 60), (40, 90, 200))
_MOST = 1000


@dataclass(frozen=True)
class FakeChannels:
    """The images of a fake folder of one's own.

    Attributes:
        count: number of channels.
        bits: of a sample: 8, 16, or 32 for floating-point numbers.

    Raises:
        InvalidArgumentError: if a value is not allowed.
    """

    count: int = 3
    bits: int = 8

    def __post_init__(self) -> None:
        check_integer("channels", self.count)
        if self.count > _MOST:
            raise InvalidArgumentError(f"channels must be an integer from 1 to {_MOST}, got {self.count}")
        if not is_integer(self.bits) or self.bits not in _RANGES:
            raise InvalidArgumentError(f"bits must be 8, 16 or 32 (floating-point numbers), got {self.bits!r}")

    @property
    def description(self) -> ImageChannels:
        """Their channels, as `classes.toml` describes them."""
        if self.count == 1:
            names: Sequence[str] = ("gray",)
        else:
            names = [_NAMES[i] if i < len(_NAMES) else f"band_{i + 1}" for i in range(self.count)]
            names = ("red", "nir") if self.count == 2 else names
        described = ImageChannels(tuple(names), range=_RANGES[self.bits])
        return RGB_CHANNELS if described.is_rgb8 else described

    @property
    def suffix(self) -> str:
        """Suffix of the files."""
        is_png = (self.count, self.bits) in ((1, 8), (1, 16), (3, 8))
        return ".png" if is_png else ".tif"

    @property
    def edition(self) -> Edition:
        """The folder with three classes."""
        splits = {
            split: SplitFiles((f"{split}/images/*{self.suffix}",), (f"{split}/masks/*.png",))
            for split in FOLDER.layout.splits
        }
        classes = DatasetMetadata("custom", _LABELS, _COLORS, channels=self.description)
        return Edition(replace(FOLDER.layout, splits=splits), classes, LabelMap.identity(len(_LABELS), 255))

    def pixels(self, ids: npt.NDArray[np.integer[Any]], rng: np.random.Generator) -> npt.NDArray[Any]:
        """Returns an image (H, W, C) for a mask (H, W) of class ids and 255: noise, and the class in the last channel.

        The classes have values at equal distances in the range of the last channel, with noise, in the other channels
        any value. Ignored pixels have any value in all.
        """
        values = rng.random((*ids.shape, self.count))
        levels = (np.minimum(ids, len(_LABELS) - 1) + 0.5) / len(_LABELS)
        known = ids < len(_LABELS)
        values[known, -1] = (levels + rng.normal(0, _NOISE, ids.shape))[known].clip(0, 1)
        low, high = self.description.ranges[-1]
        scaled = low + values * (high - low)
        return (scaled if self.bits == 32 else np.rint(scaled)).astype(_TYPES[self.bits])

    def write(self, path: Path, pixels: npt.NDArray[Any]) -> None:
        """Writes an image (H, W, C) as PNG, or as GeoTIFF with descriptions of its bands."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if self.suffix == ".png":
            save_image(path, Image.fromarray(pixels[..., 0] if self.count == 1 else pixels))
        else:
            path.write_bytes(_geotiff(pixels, self.description.names))


def write_noise(
    paths: Sequence[Path], channels: ImageChannels, size: tuple[int, int], rng: np.random.Generator
) -> None:
    """Writes an image of noise as TIFFs: the last channels in a file of float32 each, those before in the first.

    Args:
        paths: the files of the image.
        channels: its channels; those of the first file have 8 bits.
        size: (height, width) in pixels.
        rng: draws the values, from the range of each channel.
    """
    first = channels.count - len(paths) + 1
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    pixels = rng.integers(0, 256, (*size, first), dtype=np.uint8)
    paths[0].write_bytes(_geotiff(pixels, channels.names[:first]))
    for place, path in enumerate(paths[1:], start=first):
        values = rng.uniform(*channels.ranges[place], (*size, 1)).astype(np.float32)
        path.write_bytes(_geotiff(values, channels.names[place : place + 1]))


def _geotiff(pixels: npt.NDArray[Any], names: Sequence[str]) -> bytes:
    """Returns an uncompressed GeoTIFF of (H, W, C), interleaved by pixel, in UTM with pixels of 10 m."""
    height, width, count = pixels.shape
    item = pixels.dtype.itemsize
    data = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    items = "".join(
        f'<Item name="DESCRIPTION" sample="{i}" role="description">{name}</Item>' for i, name in enumerate(names)
    )
    keys = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32632)  # a projection, pixels are areas, UTM 32 north
    short, long, double = "H", "I", "d"
    tags: list[tuple[int, str, Sequence[float] | bytes]] = [
        (256, long, (width,)),
        (257, long, (height,)),
        (258, short, (8 * item,) * count),
        (259, short, (1,)),
        (262, short, (1,)),
        (273, long, (0,)),  # the place of the pixels, which is set below
        (277, short, (count,)),
        (278, long, (height,)),
        (279, long, (len(data),)),
        *([(338, short, (0,) * (count - 1))] if count > 1 else []),  # channels of no particular meaning, no alpha
        (339, short, (3 if pixels.dtype.kind == "f" else 1,) * count),
        (33550, double, (10.0, 10.0, 0.0)),
        (33922, double, (0.0, 0.0, 0.0, 600_000.0, 5_800_000.0, 0.0)),
        (34735, short, keys),
        (42112, "s", f"<GDALMetadata>{items}</GDALMetadata>\0".encode()),
    ]
    types = {"s": 2, short: 3, long: 4, double: 12}
    behind = 8 + 2 + 12 * len(tags) + 4
    directory, values = b"", b""
    for tag, kind, content in tags:
        packed = content if isinstance(content, bytes) else struct.pack(f"<{len(content)}{kind}", *content)
        if tag == 273:
            directory += b"%PIXELS%".ljust(12)
            continue
        if len(packed) <= 4:
            place = packed.ljust(4, b"\0")
        else:
            place = struct.pack("<I", behind + len(values))
            values += packed + bytes(len(packed) % 2)
        directory += struct.pack("<HHI", tag, types[kind], len(content)) + place
    pixel_tag = struct.pack("<HHII", 273, 4, 1, behind + len(values))
    directory = directory.replace(b"%PIXELS%".ljust(12), pixel_tag)
    return struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<H", len(tags)) + directory + bytes(4) + values + data
