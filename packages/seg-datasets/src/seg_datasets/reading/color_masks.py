"""Masks that store a color per pixel, decoded to ids by exact match."""

import hashlib
import math
import warnings
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg_core.errors import CorruptFileError, InvalidArgumentError
from seg_core.files.images import ids_of
from seg_datasets.__about__ import __version__
from seg_datasets.reading.palettes import PaletteOrder
from seg_datasets.reading.samples import Reading, load_mask

__all__ = ["UNKNOWN", "ColorReader"]

UNKNOWN = 254
"""The id of pixels with a color that is not a class; a label map maps it to the ignore value."""

ON_UNKNOWN = ("warn", "error")

_WITH_COLORS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
_BAND_HEIGHT = 256  # rows per step, so that intermediate results stay in the cache; masks reach 13000x13000 pixels
_MOST_NAMED = 5


class ColorReader:
    """Reads masks with a color per class, and index masks with the same ids.

    Called with the path of a mask it returns ids uint8 (H, W). A color must match a class in all three channels: the
    blended colors that resizing and lossy formats leave at edges match no class.

    Gray images contain ids. So do palette images, unless all colors that they use are class colors, or their palette is
    one of these in another order (see `seg_datasets.reading.palettes`): programs that compress PNG files convert images
    of few colors to a palette, in any order. With `only_colors` gray and palette images contain colors too.

    Args:
        colors: id -> (red, green, blue); ids up to 253, all colors different.
        unknown: how to handle other colors: `"warn"` sets their pixels to the id `UNKNOWN`, with a warning that names
            the file, the colors and their pixel counts; `"error"` raises.
        only_colors: whether gray and palette images contain colors as well, so that no file is read as ids.
        remedy: advice about an unknown color, for the error message.

    Raises:
        InvalidArgumentError: if `unknown` has another value.
    """

    def __init__(
        self,
        colors: Mapping[int, tuple[int, int, int]],
        unknown: str = "warn",
        *,
        only_colors: bool = False,
        remedy: str = "restore the file, or ignore such pixels with unknown_colors='warn'",
    ) -> None:
        if unknown not in ON_UNKNOWN:
            raise InvalidArgumentError(
                f"unknown_colors must be 'warn' (ignore their pixels, with a warning) or 'error', got {unknown!r}"
            )
        assert all(0 <= index < UNKNOWN for index in colors), "ids from 254 up are reserved"
        assert len(set(colors.values())) == len(colors), "two ids with the same color cannot be distinguished"
        self.colors = dict(colors)
        self.unknown = unknown
        self.only_colors = only_colors
        self.remedy = remedy
        self._order = PaletteOrder(self.colors)

    @property
    def name(self) -> str:
        """Name of this reader in the cache of mask scans: readers of the same name read the same ids."""
        colors = ";".join(f"{index}={red},{green},{blue}" for index, (red, green, blue) in sorted(self.colors.items()))
        kind = "only colors" if self.only_colors else "colors"
        return f"{kind} {hashlib.sha256(colors.encode()).hexdigest()[:16]} {self.unknown} {__version__}"

    def __call__(self, path: Path, reading: Reading | None = None) -> npt.NDArray[Any]:
        """Returns the ids of a mask, uint8 (H, W); uint16 if an index mask has more than 8 bits.

        Raises:
            CorruptFileError: if the file is not a readable mask, or contains an unknown color and `unknown` is
                `"error"`.
            DatasetNotFoundError: if the file no longer exists.
        """
        mask = load_mask(path, reading)
        image = mask.image
        if self.only_colors:
            if image.mode not in _WITH_COLORS:
                raise CorruptFileError(
                    f"mask {path} has mode {image.mode!r}, so it contains numbers and not colors; save it as an RGB or "
                    "palette PNG, or read ids with colors=False"
                )
            if image.mode in ("LA", "PA", "RGBA") and np.asarray(image.getchannel("A")).min(initial=255) < 255:
                raise CorruptFileError(
                    f"mask {path} has transparent pixels, whose class is unknown; save it without alpha"
                )
        elif image.mode not in ("RGB", "RGBA", "P") or (image.mode == "P" and not self._has_colors(image)):
            return ids_of(mask)
        if image.mode != "RGB":
            image = image.convert("RGBA").convert("RGB")  # also right for palettes with transparency
        ids = self._decode(image)
        if ids.max(initial=0) == UNKNOWN:
            self._report_unknown(path, np.asarray(image)[ids == UNKNOWN], ids.size)
        return ids

    def of_pixels(self, pixels: npt.NDArray[np.uint8], path: Path, reading: Reading) -> npt.NDArray[np.uint8]:
        """Returns the ids uint8 (H, W) of a part of an RGB mask, uint8 (H, W, 3); a file is warned of once.

        Raises:
            CorruptFileError: as when called.
        """
        ids = self._decode(Image.fromarray(pixels))
        if ids.max(initial=0) == UNKNOWN and not (self.unknown == "warn" and reading.once.has(f"colors of {path}")):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                self._report_unknown(path, pixels[ids == UNKNOWN], ids.size)
            for warning in caught:
                reading.once.warn(f"colors of {path}", f"of a part of {ids.shape[1]}x{ids.shape[0]} {warning.message}")
        return ids

    def _has_colors(self, image: Image.Image) -> bool:
        """Returns whether a palette image is to be read by its colors."""
        return self._has_class_palette(image) or self._order.first_misplaced(image) is not None

    def _has_class_palette(self, image: Image.Image) -> bool:
        """Returns whether the palette entries that an image uses are colors of classes, all different."""
        values = image.getpalette() or []
        entries = list(zip(values[::3], values[1::3], values[2::3], strict=True))
        used = [index for index, count in enumerate(image.histogram()) if count]
        if used[-1] >= len(entries) or (len(entries) > 1 and len(set(entries)) == 1):
            return False  # not a real palette: all entries equal, as when indices were written without one
        colors = {entries[index] for index in used}
        return len(colors) == len(used) and colors <= set(self.colors.values())

    def _decode(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """Returns the ids (H, W) of an RGB image.

        A table per channel maps each value to a number so that the sum over the channels, which fits into a byte,
        differs between all class colors. Pillow's lookup tables and sums are several times faster than numpy indexing.
        The sums of many classes do not fit into a byte; these are looked up by numpy.
        """
        ids = np.empty((image.height, image.width), np.uint8)
        for top in range(0, image.height, _BAND_HEIGHT):
            bottom = min(top + _BAND_HEIGHT, image.height)
            if len(self._ids) > 256:
                pixels = np.asarray(image.crop((0, top, image.width, bottom)))
                sums = sum(self._summands[channel][pixels[..., channel]] for channel in range(3))
                ids[top:bottom] = self._id_table[sums]
                continue
            summands = image.crop((0, top, image.width, bottom)).point(self._channel_tables)
            codes = summands.convert("L", (1, 1, 1, 0))  # red + green + blue
            ids[top:bottom] = np.asarray(codes.point(self._ids))
        return ids

    @cached_property
    def _channel_tables(self) -> list[int]:
        """Returns the summand of each channel value in a pixel's code; 0 if no class has the value."""
        tables, weight = [], 1
        for channel in range(3):
            values = sorted({color[channel] for color in self.colors.values()})
            table = [0] * 256
            for rank, value in enumerate(values, start=1):
                table[value] = rank * weight
            tables += table
            weight *= len(values) + 1
        return tables

    @cached_property
    def _ids(self) -> list[int]:
        """Returns the id of each code; 256 codes, or more if a byte does not hold them."""
        sizes = [len({color[channel] for color in self.colors.values()}) + 1 for channel in range(3)]
        table = [UNKNOWN] * max(256, math.prod(sizes))
        for index, color in self.colors.items():
            table[sum(self._channel_tables[256 * channel + value] for channel, value in enumerate(color))] = index
        return table

    @cached_property
    def _summands(self) -> npt.NDArray[np.uint32]:
        """Returns the table of each channel, (3, 256)."""
        return np.array(self._channel_tables, np.uint32).reshape(3, 256)

    @cached_property
    def _id_table(self) -> npt.NDArray[np.uint8]:
        """Returns the id of each code, for codes that do not fit into a byte."""
        return np.array(self._ids, np.uint8)

    def _report_unknown(self, path: Path, pixels: npt.NDArray[np.uint8], size: int) -> None:
        """Warns or raises an error about the unknown colors `pixels` (N, 3) of a mask with `size` pixels."""
        packed = pixels.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
        found, counts = np.unique(packed, return_counts=True)
        order = np.argsort(-counts, kind="stable")[:_MOST_NAMED]
        named = ", ".join(
            f"rgb {color >> 16},{color >> 8 & 255},{color & 255} ({count} pixel{'s' if count > 1 else ''})"
            for color, count in zip(found[order].tolist(), counts[order].tolist(), strict=True)
        )
        more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
        message = f"mask {path} has colors that are not a class, in {len(pixels)} of {size} pixels: {named}{more}"
        if self.unknown == "error":
            raise CorruptFileError(f"{message}; {self.remedy}")
        warnings.warn(f"{message}; they are ignored", stacklevel=4)
