"""Statistics of the channels of images that are not three colors of 8 bits, in memory that does not grow with them."""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_core.labels.channels import ImageChannels
from seg_datasets.reading.channel_advice import fitting_range
from seg_datasets.reading.paired import PairedDataset

__all__ = ["ChannelStats", "described_stats"]

_BINS = 65536
_SIGN = np.uint32(0x80000000)
_ENDS = (0.001, 0.999)
_ROWS = 2**20  # pixels that are converted to float64 at once


@dataclass(frozen=True, eq=False)
class ChannelStats:
    """Values of each channel over all pixels that hold data, in the unit of the files.

    Attributes:
        channels: the channels.
        dtype: name of the type of the images: `"uint8"`, `"uint16"` or `"float32"`.
        pixels: number of pixels.
        means: float64 (C,).
        squares: sums of the squared differences to the mean, float64 (C,).
        smallest, largest: float64 (C,).
        counts: int64 (C, 65536), pixels by value; of floats by their upper 16 bits in the order of their values.
    """

    channels: ImageChannels
    dtype: str
    pixels: int
    means: npt.NDArray[np.float64]
    squares: npt.NDArray[np.float64]
    smallest: npt.NDArray[np.float64]
    largest: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]

    @classmethod
    def of(
        cls, channels: ImageChannels, image: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None = None
    ) -> "ChannelStats":
        """Returns the statistics of an image (H, W, C); `valid` (H, W) are the pixels that hold data, None for all."""
        values = image.reshape(-1, image.shape[-1]) if valid is None else image[valid]
        count = len(values)
        empty = not count
        means, squares = np.zeros(channels.count), np.zeros(channels.count)
        done = 0
        for start in range(0, count, _ROWS):
            part = values[start : start + _ROWS].astype(np.float64)
            mean = part.mean(0)
            own = np.square(part - mean).sum(0)
            means, squares = _joined(done, means, squares, len(part), mean, own)
            done += len(part)
        counts = np.stack([np.bincount(_bins(values[:, place]), minlength=_BINS) for place in range(channels.count)])
        return cls(
            channels,
            image.dtype.name,
            count,
            means,
            squares,
            np.full(channels.count, np.inf) if empty else values.min(0).astype(np.float64),
            np.full(channels.count, -np.inf) if empty else values.max(0).astype(np.float64),
            counts,
        )

    def joined(self, other: "ChannelStats") -> "ChannelStats":
        """Returns the statistics of the images of both."""
        if self.dtype != other.dtype:  # of bytes among larger integers the values are their bins too
            if "float32" in (self.dtype, other.dtype):
                return self._as_float().joined(other._as_float())
            return replace(self, dtype="uint16").joined(replace(other, dtype="uint16"))
        means, squares = _joined(self.pixels, self.means, self.squares, other.pixels, other.means, other.squares)
        return replace(
            self,
            pixels=self.pixels + other.pixels,
            means=means,
            squares=squares,
            smallest=np.minimum(self.smallest, other.smallest),
            largest=np.maximum(self.largest, other.largest),
            counts=self.counts + other.counts,
        )

    @property
    def deviations(self) -> npt.NDArray[np.float64]:
        """Standard deviation of each channel, float64 (C,)."""
        return np.sqrt(self.squares / max(self.pixels, 1))

    @property
    def mean(self) -> npt.NDArray[np.float64]:
        """Mean of each channel, of values scaled from the range to 0 to 1: float64 (C,)."""
        lows, widths = self._scale
        return (self.means - lows) / widths

    @property
    def std(self) -> npt.NDArray[np.float64]:
        """Standard deviation of each channel, of values scaled from the range to 0 to 1: float64 (C,)."""
        return self.deviations / self._scale[1]

    @property
    def ends(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """The values below which 0.1 % and 99.9 % of the pixels are, float64 (C,) each; of floats about these."""
        found = []
        for share in _ENDS:
            places = [int(np.searchsorted(np.cumsum(own), share * max(self.pixels, 1))) for own in self.counts]
            values = self._values(np.minimum(places, _BINS - 1))
            found.append(np.clip(values, self.smallest, self.largest))
        return found[0], found[1]

    def proposed(self, *, fits_range: bool) -> ImageChannels:
        """Returns the description of the channels with mean and standard deviation.

        Args:
            fits_range: whether to choose the range by the values, instead of the one that is described.
        """
        channels = self.channels
        if fits_range:
            low, high = self.ends
            kinds = [np.dtype(self.dtype)] * channels.count
            channels = replace(channels, range=fitting_range(kinds, low.tolist(), high.tolist()))
        scaled = replace(self, channels=channels)
        # a channel of one value has no deviation, and cannot be normalized
        is_known = self.pixels > 0 and bool((scaled.std > 0).all())
        return replace(
            channels,
            mean=tuple(map(_rounded, scaled.mean.tolist())) if is_known else None,
            std=tuple(map(_rounded, scaled.std.tolist())) if is_known else None,
        )

    def rows(self) -> list[dict[str, Any]]:
        """Returns one mapping per channel, for tables and JSON."""
        low, high = self.ends
        columns = {
            "name": self.channels.names,
            "range": [list(pair) for pair in self.channels.ranges],
            "min": self.smallest.tolist(),
            "low": low.tolist(),
            "high": high.tolist(),
            "max": self.largest.tolist(),
            "mean": self.means.tolist(),
            "std": self.deviations.tolist(),
        }
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    @property
    def _scale(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        ends = np.array(self.channels.ranges)
        return ends[:, 0], ends[:, 1] - ends[:, 0]

    def _values(self, places: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
        if self.dtype != "float32":
            return places.astype(np.float64)
        keys = (places.astype(np.uint32) << np.uint32(16)) | np.uint32(0x8000)  # the middle of the bin
        bits = np.where(keys & _SIGN, keys ^ _SIGN, ~keys)
        return bits.view(np.float32).astype(np.float64)

    def _as_float(self) -> "ChannelStats":
        if self.dtype == "float32":
            return self
        counts = np.zeros_like(self.counts)
        places = _bins(np.arange(_BINS, dtype=np.float32))
        for own, integers in zip(counts, self.counts, strict=True):
            np.add.at(own, places, integers)
        return replace(self, dtype="float32", counts=counts)


def described_stats(dataset: Any, progress: Callable[[int], object]) -> tuple[ChannelStats, list[tuple[int, int]]]:
    """Returns the statistics of the images of a dataset, and height and width of each.

    Args:
        dataset: has described channels.
        progress: called with the number of images done.

    Raises:
        CorruptFileError: if an image cannot be read, or does not fit the description.
    """
    channels: ImageChannels = dataset.metadata.channels
    total: ChannelStats | None = None
    sizes = []

    def read(index: int) -> tuple[ChannelStats, tuple[int, int]]:
        if isinstance(dataset, PairedDataset) and dataset.transforms is None:
            image, valid = dataset.read_pixels(index)
        else:
            image, valid = np.asarray(dataset[index][0]).transpose(1, 2, 0), None
        return ChannelStats.of(channels, image, valid), (image.shape[0], image.shape[1])

    for own, size in _in_parallel(read, range(len(dataset))):
        total = own if total is None else total.joined(own)
        sizes.append(size)
        progress(len(sizes))
    assert total is not None  # a dataset has an image
    return total, sizes


def _in_parallel(read: Callable[[int], Any], indices: Iterable[int]) -> Iterator[Any]:
    """Yields what is read of each index, in their order; few at once, as each may be large."""
    workers = os.cpu_count() or 1
    numbers = iter(indices)
    with ThreadPoolExecutor(workers) as pool:
        while some := list(itertools.islice(numbers, workers)):
            yield from pool.map(read, some)


def _bins(values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Returns the bin of each value of one channel, in the order of the values."""
    if values.dtype != np.float32:
        return values.astype(np.int64)
    bits = np.ascontiguousarray(values).view(np.uint32)
    keys = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    return (keys >> np.uint32(16)).astype(np.int64)


def _joined(
    count: int,
    mean: npt.NDArray[np.float64],
    squares: npt.NDArray[np.float64],
    other_count: int,
    other_mean: npt.NDArray[np.float64],
    other_squares: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Returns mean and sum of squared differences to it of two sets of values together.

    Source: T. F. Chan, G. H. Golub, R. J. LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample
    Variances", 1979, Stanford STAN-CS-79-773, equations 1.5.
    """
    total = count + other_count
    if not total:
        return mean, squares
    delta = other_mean - mean
    return (
        mean + delta * (other_count / total),
        squares + other_squares + np.square(delta) * (count * other_count / total),
    )


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
