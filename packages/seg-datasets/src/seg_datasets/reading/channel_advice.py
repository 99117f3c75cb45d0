"""Describes channels from the files themselves, as far as these say what they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_core.errors import CorruptFileError, UserError
from seg_core.files.band_files import open_bands
from seg_core.labels.channels import ImageChannels

__all__ = ["FileBands", "bands_of", "describe_files", "fitting_range", "suggest_channels"]

_MOST_FILES = 20  # whose values are looked at
_MOST_VALUES = 1_000_000  # of a file
_ENDS = (0.1, 99.9)  # percentiles
_TOPS = (255, 1023, 4095, 10000, 16383, 65535)  # what integers of 8, 10, 12, 14, 16 bits and reflectances end at
_APART = 8.0  # times another's range, from which channels have ranges of their own
_COLORS = ("red", "green", "blue")


@dataclass(frozen=True)
class FileBands:
    """The bands of the file of an image, or of its files.

    Attributes:
        names: the description of each band, or "".
        dtype: type that holds the values of all.
        alpha: places of the bands that are alpha, from 0.
        dtypes: type of each band.
    """

    names: tuple[str, ...]
    dtype: np.dtype[Any]
    alpha: frozenset[int]
    dtypes: tuple[np.dtype[Any], ...]

    @property
    def channels(self) -> list[int]:
        """Places of the bands that are no alpha."""
        return [place for place in range(len(self.names)) if place not in self.alpha]

    def __str__(self) -> str:
        kinds = {"uint8": "8 bits", "uint16": "16 bits", "float32": "32 bits (floating point)"}
        count = len(self.names)
        listed = f" ({', '.join(self.names)})" if all(self.names) else ""
        alpha = ", one of which is alpha" if self.alpha else ""
        kind = kinds.get(self.dtype.name, f"type {self.dtype.name}")
        return f"{count} channel{'s' if count > 1 else ''} of {kind}{listed}{alpha}"


def bands_of(paths: Sequence[Path]) -> FileBands:
    """Returns the bands of the files of an image, by their headers.

    Raises:
        UserError: if one cannot be read.
    """
    names: list[str] = []
    dtypes: list[np.dtype[Any]] = []
    alpha: set[int] = set()
    for path in paths:
        with open_bands(path, None, pages=False, orientation="stored") as pages:
            found = pages[0]
            alpha |= {len(names) + place for place in found.alpha}
            names += found.descriptions
            dtypes += found.dtypes
    return FileBands(tuple(names), np.result_type(*dtypes), frozenset(alpha), tuple(dtypes))


def describe_files(images: Sequence[Sequence[Path]]) -> ImageChannels:
    """Returns a description of the channels of images: what their files say, and a range that fits their values.

    Args:
        images: the files of each image; the first decides about the bands, a few of them about the range.

    Raises:
        UserError: if a file cannot be read.
    """
    first = bands_of(images[0])
    used = first.channels
    step = max(len(images) // _MOST_FILES, 1)
    ends = []
    for paths in images[::step][:_MOST_FILES]:
        try:
            values = [band for path in paths for band in _values(path)]
        except UserError:
            continue  # the other files are enough
        if len(values) == len(first.names):
            ends.append([_ends_of(values[place]) for place in used])
    lows, highs = np.array(ends).min(0)[:, 0], np.array(ends).max(0)[:, 1]
    return ImageChannels(
        _names([first.names[place] for place in used]),
        range=fitting_range([first.dtypes[place] for place in used], lows.tolist(), highs.tolist()),
        bands=tuple(place + 1 for place in used) if first.alpha else (),
    )


def suggest_channels(images: Sequence[Sequence[Path]]) -> ImageChannels | None:
    """Returns a description of images that are not gray or color of 8 bits; None of those that are, or of unlike ones.

    Args:
        images: the files of each image; of many a few are looked at.

    Raises:
        CorruptFileError: if some of them have other numbers of channels, with their names.
    """
    step = max(len(images) // _MOST_FILES, 1)
    kinds: dict[tuple[int, str], str] = {}
    for paths in images[::step]:
        try:
            bands = bands_of(paths)
        except UserError:
            return None  # such as a palette; whoever reads the file says what is wrong
        kinds.setdefault((len(bands.channels), bands.dtype.name), paths[0].name)
    if not kinds or all(count in (1, 3) and kind in ("uint8", "bool") for count, kind in kinds):
        return None
    if len(kinds) > 1:
        listed = ", ".join(f"{count} of {kind} in {name}" for (count, kind), name in kinds.items())
        raise CorruptFileError(
            f"images have different channels: {listed}; leave out those of one kind, or convert them to the other"
        )
    return describe_files(images)


def fitting_range(
    dtypes: Sequence[np.dtype[Any]], lows: Sequence[float], highs: Sequence[float]
) -> tuple[float, float] | tuple[tuple[float, float], ...] | None:
    """Returns a range for channels: one pair if it fits all, else one per channel; None for 8 bits.

    Args:
        dtypes: type of the values of each channel.
        lows: what hardly any value of a channel is below.
        highs: what hardly any is above.
    """
    pairs = [_pair(*one) for one in zip(dtypes, lows, highs, strict=True)]
    if all(dtype == np.uint8 for dtype in dtypes):
        return None
    widths = [high - low for low, high in pairs]
    is_one_type = len({dtype.kind for dtype in dtypes}) == 1 and (np.uint8 not in dtypes or len(set(dtypes)) == 1)
    if is_one_type and max(widths) <= _APART * min(widths):
        return min(low for low, _ in pairs), max(high for _, high in pairs)
    return tuple(pairs)


def _pair(dtype: np.dtype[Any], low: float, high: float) -> tuple[float, float]:
    if dtype == np.uint8:
        return 0.0, 255.0
    if dtype.kind in "ub" and low >= 0:
        return 0.0, float(next((top for top in _TOPS if high <= top), 2.0 ** (8 * dtype.itemsize) - 1))
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    if high <= low:
        return float(low), float(low) + 1
    step = 10.0 ** (np.floor(np.log10(high - low)) - 1)  # two digits of the width
    return _plain(np.floor(low / step) * step), _plain(np.ceil(high / step) * step)


def _plain(value: float) -> float:
    return float(f"{value:.6g}")


def _names(described: Sequence[str]) -> tuple[str, ...]:
    if all(described) and len(set(described)) == len(described):
        return tuple(described)
    if len(described) == 1:
        return ("gray",)
    return tuple(_COLORS[i] if i < 3 <= len(described) else f"band_{i + 1}" for i in range(len(described)))


def _values(path: Path) -> list[npt.NDArray[Any]]:
    """Returns values of each band of a file, of a part in the middle of a large one, without those of no data."""
    with open_bands(path, None, pages=False, orientation="stored") as pages:
        found = pages[0]
        side = int(_MOST_VALUES**0.5)
        height, width = min(found.height, side), min(found.width, side)
        window = None
        if found.has_windows and (height, width) != (found.height, found.width):
            window = (found.height - height) // 2, (found.width - width) // 2, height, width
        values, valid = found.read(range(len(found.dtypes)), window)
        return [band if valid is None else band[valid] for band in values]


def _ends_of(values: npt.NDArray[Any]) -> tuple[float, float]:
    flat = values.ravel()
    flat = flat[:: max(flat.size // _MOST_VALUES, 1)]
    flat = flat[np.isfinite(flat)] if flat.dtype.kind == "f" else flat
    if not flat.size:
        return 0.0, 1.0
    low, high = np.percentile(flat, _ENDS)
    return float(low), float(high)
