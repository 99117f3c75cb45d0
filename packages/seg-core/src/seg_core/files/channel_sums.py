"""Mean and standard deviation of the channels of images, scaled from their range to 0 to 1.

Image files are read in parallel, and what a file holds is remembered per user, as for `seg_core.files.image_sums`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_core.errors import InvalidArgumentError, counted
from seg_core.files.mask_sources import OnProgress, pair_of, sample_name
from seg_core.files.remembered import RememberedFiles
from seg_core.files.scan_cache import CHANNELS, ChannelMoments
from seg_core.labels.channels import ImageChannels
from seg_core.randomness import DATASET_STREAM, isolated_randomness, sample_seed

__all__ = ["MeasuredChannels", "combined_moments", "measure_channels", "moments_of"]

_STRIP = 2**20  # pixels that are converted to float64 at once
# of larger images, windows are read where the file allows it
_LARGEST_WHOLE = 2**22  # pixels
_WINDOW, _WINDOWS_PER_SIDE = 512, 4


@dataclass(frozen=True)
class MeasuredChannels:
    """Mean and standard deviation of each channel, of values scaled to 0 to 1.

    Attributes:
        mean: one number per channel.
        std: one number per channel, above 0.
        images: number of images that were read.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    images: int


def measure_channels(dataset: Any, limit: int = 200, progress: OnProgress | None = None) -> MeasuredChannels:
    """Returns mean and standard deviation of the channels of a dataset's images; pixels without data do not count.

    Of an image of more than 4 million pixels, 16 windows are read if the dataset can read windows of it.

    Args:
        dataset: has `metadata` with the channels, a length, and returns `(image, mask)` for each index. A method
            `image_file(index)` that returns an `ImageFile` says of which file the result is remembered, and
            `read_pixels(index)`, which returns the image (H, W, C) and which of its pixels hold data, saves the mask.
            In other samples the pixels without data are those that are ignored in the mask and at the low end of the
            range in all channels.
        limit: maximum number of images; they are spread evenly over the dataset.
        progress: called with the number of images done and their total.

    Raises:
        InvalidArgumentError: if a channel has the same value everywhere, so that it cannot be normalized.
        UserError: if an image cannot be read.
    """
    channels: ImageChannels = dataset.metadata.channels
    count = min(limit, len(dataset))
    indices = [place * len(dataset) // count for place in range(count)]
    found: dict[int, ChannelMoments] = {}
    files = {}
    for index in indices:
        file = dataset.image_file(index) if hasattr(dataset, "image_file") else None
        if file is not None and not _reads_windows(dataset, index):
            files[index] = file

    def add(index: int, moments: ChannelMoments) -> None:
        found[index] = moments
        if progress is not None:
            progress(len(found), count)

    listed = list(files.items())
    # what counts as a pixel without data is a part of what is remembered
    suffix = f" of {channels.count} channels without {channels.nodata} from {[low for low, _ in channels.ranges]}"
    source = RememberedFiles(
        CHANNELS, [(file.path, None if file.reader is None else file.reader + suffix) for _, file in listed]
    )
    for place, moments in source.known.items():
        add(listed[place][0], moments)
    missing = [place for place in range(len(listed)) if place not in source.known]

    def summarize(place: int) -> ChannelMoments:
        index, file = listed[place]
        if hasattr(dataset, "read_pixels"):
            pixels, valid = dataset.read_pixels(index)
            return moments_of(pixels, valid, channels)
        pixels = file.read(file.path)
        return moments_of(pixels, None if channels.nodata is None else ~_is_low(pixels, channels), channels)

    for place, moments in zip(missing, source.read(missing, summarize), strict=True):
        add(listed[place][0], moments)
    for index in indices:
        if index not in files:
            add(
                index,
                combined_moments(moments_of(pixels, valid, channels) for pixels, valid in _parts_of(dataset, index)),
            )
    return _measured(combined_moments(found[index] for index in indices), channels, count)


def moments_of(
    pixels: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None, channels: ImageChannels
) -> ChannelMoments:
    """Returns the moments of an image, in the unit of its values.

    Args:
        pixels: the image (H, W, C).
        valid: bool (H, W), which of its pixels hold data; None if all do.
        channels: the channels of the image.
    """
    height, width, count = pixels.shape
    lows = _lows(channels)
    rows = max(1, _STRIP // max(width, 1))
    parts = []
    for top in range(0, height, rows):
        strip = pixels[top : top + rows]
        values = strip.reshape(-1, count) if valid is None else strip[valid[top : top + rows]]
        if len(values):
            # shifted by the low end: sums of squares of large values would lose digits
            shifted = values.astype(np.float64) - lows
            mean = shifted.mean(0)
            squares = np.square(shifted - mean).sum(0)
            parts.append(ChannelMoments(height, width, len(values), tuple(mean + lows), tuple(squares)))
    if not parts:
        return ChannelMoments(height, width, 0, tuple(lows), (0.0,) * count)
    return combined_moments(parts)._replace(height=height, width=width)


def combined_moments(parts: Iterable[ChannelMoments]) -> ChannelMoments:
    """Returns the moments of the pixels of several images together; the size is that of the first.

    Source: T. F. Chan, G. H. Golub, R. J. LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample
    Variances", 1979, Stanford STAN-CS-79-773, equations 1.5.
    """
    first, *others = parts
    pixels, mean, squares = first.pixels, np.array(first.mean), np.array(first.squares)
    for part in others:
        if not part.pixels:
            continue
        total = pixels + part.pixels
        delta = np.array(part.mean) - mean
        mean = mean + delta * (part.pixels / total)
        squares = squares + np.array(part.squares) + np.square(delta) * (pixels * part.pixels / total)
        pixels = total
    return ChannelMoments(first.height, first.width, pixels, tuple(mean.tolist()), tuple(squares.tolist()))


def _measured(total: ChannelMoments, channels: ImageChannels, images: int) -> MeasuredChannels:
    if not total.pixels:
        raise InvalidArgumentError(
            f"the {counted(images, 'image')} that mean and std were measured on hold no data, only nodata = "
            f"{channels.nodata}; correct channels.nodata, or give channels.mean and channels.std"
        )
    mean, std = [], []
    for place, (low, high) in enumerate(channels.ranges):
        deviation = math.sqrt(total.squares[place] / total.pixels) / (high - low)
        if not deviation:
            raise InvalidArgumentError(
                f"channel {channels.names[place]!r} has the value {total.mean[place]:g} in all pixels of the "
                f"{counted(images, 'image')} that mean and std were measured on, so nothing can be learned from it; "
                "leave it out of the channels, or give channels.mean and channels.std"
            )
        # six digits, as they are written to files and shown
        mean.append(float(f"{(total.mean[place] - low) / (high - low):.6g}"))
        std.append(float(f"{deviation:.6g}"))
    return MeasuredChannels(tuple(mean), tuple(std), images)


def _reads_windows(dataset: Any, index: int) -> bool:
    """Returns whether windows of an image are read, as it is large."""
    if not hasattr(dataset, "read_window") or not dataset.can_read_windows(index):
        return False
    height, width = dataset.image_size(index)
    return bool(height * width > _LARGEST_WHOLE)


def _parts_of(dataset: Any, index: int) -> Sequence[tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]]:
    """Returns an image (H, W, C) of a dataset, or several windows of a large one, and which pixels hold data."""
    # as the trainer seeds a dataset that draws random numbers
    with isolated_randomness(sample_seed(0, 0, index, DATASET_STREAM)):
        if not _reads_windows(dataset, index):
            samples = [pair_of(dataset[index], sample_name(dataset, index))]
        else:
            height, width = dataset.image_size(index)
            size = (min(_WINDOW, height), min(_WINDOW, width))
            last = _WINDOWS_PER_SIDE - 1
            samples = [
                dataset.read_window(index, (height - size[0]) * y // last, (width - size[1]) * x // last, *size)
                for y in range(_WINDOWS_PER_SIDE)
                for x in range(_WINDOWS_PER_SIDE)
            ]
    channels, ignored = dataset.metadata.channels, dataset.metadata.ignore_index
    parts = []
    for image, mask in samples:
        pixels = np.asarray(image).transpose(1, 2, 0)
        without = _is_low(pixels, channels)
        if mask is not None:
            without &= np.asarray(mask) == ignored
        elif channels.nodata is None:
            without[:] = False
        parts.append((pixels, ~without))
    return parts


def _is_low(pixels: npt.NDArray[Any], channels: ImageChannels) -> npt.NDArray[np.bool_]:
    """Returns which pixels of an image (H, W, C) have the low end of the range in all channels."""
    return np.asarray((pixels == _lows(channels)).all(-1))


def _lows(channels: ImageChannels) -> npt.NDArray[np.float64]:
    return np.array([low for low, _ in channels.ranges])
