"""Statistics of a dataset: classes, sizes, colors, which classes occur together, and the class weights from these."""

import functools
import os
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seg_core.errors import InvalidArgumentError, counted
from seg_core.files.image_sums import ChannelTotals, ImageFile, ImageSummary, scan_images, summarize_image
from seg_core.files.scan import DatasetScan, OnProgress, scan_dataset
from seg_core.labels.channels import ImageChannels
from seg_core.labels.metadata import DatasetMetadata
from seg_core.labels.tasks import MULTICLASS
from seg_core.metrics.class_weights import PixelCounts, class_weights, describe_schemes
from seg_datasets.doctor.channel_stats import ChannelStats, described_stats
from seg_datasets.doctor.opening import Opened, open_splits
from seg_datasets.doctor.targets import Target
from seg_datasets.reading.class_files import Metadata
from seg_datasets.reading.image_sizes import spread

__all__ = ["DataStats", "SplitStats", "pooled", "stats", "stats_of"]


@dataclass(frozen=True, eq=False)
class SplitStats:
    """What the files of a split hold, for K classes.

    Attributes:
        num_images: number of images.
        sizes: (height, width) in pixels -> number of images.
        colors: sums over the pixels of all images.
        has_masks: whether there are masks; without, all that follows is 0.
        pixels: int64 (K,), pixels of each class.
        images: int64 (K,), images that contain the class.
        image_pixels: int64 (K,), all pixels, including ignored ones, of these images.
        together: int64 (K, K), images that contain both classes; on the diagonal, as `images`.
        ignored: pixels without a class.
        ignored_images: images that have such pixels.
        channels: statistics of the channels of images that are not three colors of 8 bits; else None.
        background: int64 (K,), of a binary or multilabel task the pixels that are not of each class and not ignored;
            else None.
    """

    num_images: int
    sizes: Mapping[tuple[int, int], int]
    colors: ChannelTotals
    has_masks: bool
    pixels: npt.NDArray[np.int64]
    images: npt.NDArray[np.int64]
    image_pixels: npt.NDArray[np.int64]
    together: npt.NDArray[np.int64]
    ignored: int
    ignored_images: int
    channels: ChannelStats | None = None
    background: npt.NDArray[np.int64] | None = None

    @property
    def mean(self) -> npt.NDArray[np.float64]:
        """Mean of red, green and blue over all pixels of the images, 0 to 1: float64 (3,).

        Of other channels the mean of each, of values scaled from the range to 0 to 1, over the pixels that hold data.
        """
        return self.colors.mean if self.channels is None else self.channels.mean

    @property
    def std(self) -> npt.NDArray[np.float64]:
        """Their standard deviation: float64 (3,), or one per channel."""
        return self.colors.std if self.channels is None else self.channels.std

    @property
    def shares(self) -> npt.NDArray[np.float64]:
        """The fraction of each class among all pixels of the masks, including ignored ones: float64 (K,)."""
        if self.background is not None:
            # each plane has as many pixels, of which some may be ignored
            return self.pixels / max(self._total / len(self.pixels), 1)
        return self.pixels / max(self._total, 1)

    @property
    def ignored_share(self) -> float:
        """The fraction of pixels without a class; of a multilabel task of the pixels of all planes."""
        return self.ignored / max(self._total, 1)

    @property
    def spread(self) -> tuple[tuple[int, int], ...]:
        """Smallest, median and largest (height, width), each of height and width alone."""
        return spread(list(Counter(self.sizes).elements()))

    @property
    def _total(self) -> int:
        background = 0 if self.background is None else int(self.background.sum())
        return int(self.pixels.sum()) + background + self.ignored

    def counts(self) -> PixelCounts:
        """Returns the counts that `class_weights` takes."""
        return PixelCounts(
            torch.from_numpy(self.pixels), torch.from_numpy(self.image_pixels), self.ignored, self.num_images
        )


@dataclass(frozen=True, eq=False)
class DataStats:
    """The statistics of a dataset.

    Attributes:
        name: name of the dataset.
        root: its folder; None if it has no files.
        metadata: the classes.
        splits: split -> its statistics.
        is_guessed: whether nobody has described the channels of the images, and they are as the files suggest.
    """

    name: str
    root: Path | None
    metadata: DatasetMetadata
    splits: Mapping[str, SplitStats]
    is_guessed: bool = False

    @property
    def channels(self) -> ImageChannels | None:
        """The channels of the images with mean and standard deviation, by train or else the first split.

        If nobody has described them, with a range that fits the values. None if they are three colors of 8 bits.
        """
        found = self.splits.get("train", next(iter(self.splits.values()))).channels
        return None if found is None else found.proposed(fits_range=self.is_guessed)

    @property
    def weights_split(self) -> str | None:
        """The split that class weights are computed from by default: train, else the first with masks; None if none."""
        names = [name for name, split in self.splits.items() if split.has_masks]
        return "train" if "train" in names else next(iter(names), None)

    def class_weights(self, scheme: str = "median_frequency", split: str | None = None, **options: Any) -> Tensor:
        """Returns one weight per class for a loss, float32 (K,): `seg_core.class_weights` of the counts of a split.

        Args:
            scheme: name of the scheme.
            split: the split; None for `weights_split`.
            **options: options of the scheme.

        Raises:
            InvalidArgumentError: if there is no such split, the task is not multiclass, or as `seg_core.class_weights`.
            UnknownNameError: if there is no such scheme.
        """
        if self.metadata.task != MULTICLASS:
            raise InvalidArgumentError(
                f"class weights compare the classes of a multiclass task, and {self.metadata.name} is of a "
                f"{self.metadata.task} task; give BinaryCrossEntropyLoss a pos_weight instead"
            )
        name = split or self.weights_split
        if name is None or name not in self.splits or not self.splits[name].has_masks:
            known = ", ".join(name for name, found in self.splits.items() if found.has_masks)
            raise InvalidArgumentError(f"split must be one with masks ({known or 'there is none'}), got {split!r}")
        return class_weights(self.splits[name].counts(), scheme, **options)

    def to_dict(self) -> dict[str, Any]:
        """Returns everything as plain containers, for JSON: see `seg datasets stats --help`."""
        return {
            "dataset": self.name,
            "root": None if self.root is None else str(self.root),
            "classes": list(self.metadata.labels),
            "ignore_index": self.metadata.ignore_index,
            **({} if self.metadata.task == MULTICLASS else {"task": self.metadata.task}),
            "splits": {name: _split_dict(split, self.metadata) for name, split in self.splits.items()},
            "class_weights": {"split": self.weights_split, **self.all_weights()},
            **({} if self.channels is None else {"channels": self.channels.to_dict()}),
        }

    def all_weights(self) -> dict[str, list[float]]:
        """Returns scheme -> the weights by it from `weights_split`; empty if no pixel there has a class."""
        name = self.weights_split
        if name is None or self.metadata.task != MULTICLASS or not self.splits[name].pixels.any():
            return {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # who asks for all sees which classes are absent
            return {scheme: self.class_weights(scheme).tolist() for scheme in describe_schemes()}


def stats(
    target: Target,
    root: str | os.PathLike[str] | None = None,
    splits: Sequence[str] | None = None,
    classes: Metadata | None = None,
    num_classes: int | None = None,
    ignore_index: int | None = None,
    progress: OnProgress | None = None,
    **options: Any,
) -> DataStats:
    """Returns the statistics of a dataset: pixels and images per class, sizes, colors, co-occurrence of classes.

    Images and masks are read in parallel; what a file holds is remembered per user, so that a file that has not changed
    is not read again (see `seg_core.files.scan`).

    Args:
        target: a name from `list_datasets()`, or a folder: one that `FolderDataset` reads, or a dataset in its official
            layout.
        root: folder of a dataset that is given by name.
        splits: the splits; None for those of train, val and test that are there.
        classes: the classes of a folder, as `metadata` of `FolderDataset`; None for those of its `classes.toml`, or
            else numbers.
        num_classes: number of classes of a folder, instead of `classes`.
        ignore_index: value of the pixels without a class in a folder; None for that of the classes, or 255.
        progress: called with the number of files read and their total; for a folder first with those of the masks
            that are read to find out how.
        **options: options of the dataset, as in `get_dataset`.

    Warns:
        UserWarning: if masks differ in size from their images.

    Raises:
        UsageError: if the folder has the layout of several datasets.
        InvalidArgumentError: if an argument is not allowed.
        DatasetNotFoundError: if the files are not found.
        CorruptFileError: if a file cannot be read.
        LabelOutOfRangeError: if a mask contains an id that is neither a class nor ignored.
    """
    return stats_of(open_splits(target, root, splits, classes, num_classes, ignore_index, options, progress), progress)


def stats_of(opened: Opened, progress: OnProgress | None = None) -> DataStats:
    """Returns the statistics of datasets that are open, see `stats`."""
    total = 2 * sum(map(len, opened.datasets.values()))
    found: dict[str, SplitStats] = {}
    done = 0
    for name, dataset in opened.datasets.items():
        found[name] = _stats_of_split(dataset, f"{opened.name} {name}", _shifted(progress, done, total))
        done += 2 * len(dataset)
        _tell(progress, done, total)
    return DataStats(opened.name, opened.root, opened.metadata, found, opened.is_guessed)


def pooled(parts: Sequence[SplitStats]) -> SplitStats:
    """Returns the statistics of several splits with the same classes as one."""
    channels = [part.channels for part in parts if part.channels is not None]
    backgrounds = [part.background for part in parts if part.background is not None]
    return SplitStats(
        num_images=sum(part.num_images for part in parts),
        sizes=dict(sum((Counter(part.sizes) for part in parts), Counter())),
        colors=ChannelTotals.of(part.colors for part in parts),
        has_masks=any(part.has_masks for part in parts),
        pixels=np.sum([part.pixels for part in parts], 0),
        images=np.sum([part.images for part in parts], 0),
        image_pixels=np.sum([part.image_pixels for part in parts], 0),
        together=np.sum([part.together for part in parts], 0),
        ignored=sum(part.ignored for part in parts),
        ignored_images=sum(part.ignored_images for part in parts),
        channels=functools.reduce(ChannelStats.joined, channels) if channels else None,
        background=np.sum(backgrounds, 0) if backgrounds else None,
    )


# ---- scan ------------------------------------------------------------------------------------------------------------


def _stats_of_split(dataset: Any, name: str, progress: OnProgress | None) -> SplitStats:
    count = len(dataset)
    files = _image_files(dataset)
    # asked of the files where there are any, so that nothing is read that is remembered
    has_masks = _has_masks(dataset)
    scan: DatasetScan | None = None
    channels: ChannelStats | None = None
    own_sizes: list[tuple[int, int]] = []
    sums: list[ImageSummary] = []
    if not dataset.metadata.channels.is_rgb8:
        channels, own_sizes = described_stats(dataset, lambda done: _tell(progress, done, 2 * count))
        if has_masks:
            scan = scan_dataset(dataset, progress=_shifted(progress, count, 2 * count))
    elif files is not None:
        sums = scan_images(files, progress)
        _tell(progress, count, 2 * count)
        if has_masks:
            scan = scan_dataset(dataset, progress=_shifted(progress, count, 2 * count))
    else:
        seen = _Seen(dataset)
        if has_masks:
            scan = scan_dataset(
                seen, progress=None if progress is None else lambda done, _: progress(2 * done, 2 * count)
            )
        else:
            for index in range(count):
                _ = seen[index]
                _tell(progress, 2 * index + 2, 2 * count)
        sums = [seen.sums[index] for index in range(count)]
    colors = ChannelTotals.of(sums)
    own_sizes = own_sizes or [(summary.height, summary.width) for summary in sums]
    sizes = Counter(own_sizes)
    num_classes = dataset.metadata.num_classes
    if scan is None:
        none = np.zeros(num_classes, np.int64)
        together = np.zeros((num_classes, num_classes), np.int64)
        return SplitStats(count, dict(sizes), colors, False, none, none, none, together, 0, 0, channels)
    scan.check_ids()
    _warn_of_sizes(scan, own_sizes, name)
    occurs = scan.pixels > 0
    return SplitStats(
        num_images=count,
        sizes=dict(sizes),
        colors=colors,
        has_masks=True,
        pixels=scan.pixels.sum(0),
        images=occurs.sum(0),
        image_pixels=(scan.sizes.prod(1, keepdims=True) * occurs).sum(0),
        together=_together(occurs),
        ignored=int(scan.ignored.sum()),
        ignored_images=int((scan.ignored > 0).sum()),
        channels=channels,
        background=None if scan.background is None else scan.background.sum(0),
    )


def _has_masks(dataset: Any) -> bool:
    find = getattr(type(dataset), "mask_file", None)
    return (find is not None and find(dataset, 0) is not None) or dataset[0][1] is not None


def _together(occurs: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    # in float64, which is exact up to 2**53 images: numpy multiplies matrices of integers without BLAS
    values = occurs.astype(np.float64)
    return np.rint(values.T @ values).astype(np.int64)


def _image_files(dataset: Any) -> list[ImageFile] | None:
    # asked of the class: an object that hands on the attributes of another dataset may return other images than that
    if not hasattr(type(dataset), "image_file"):
        return None
    files = [dataset.image_file(index) for index in range(len(dataset))]
    return None if None in files else files


class _Seen:
    """A dataset whose samples are not files, and the sums of the images that were read: a scan reads each once."""

    def __init__(self, dataset: Any) -> None:
        self.metadata = dataset.metadata
        self.sums: dict[int, ImageSummary] = {}
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Any:
        image, mask = self._dataset[index]
        self.sums[index] = summarize_image(np.asarray(image).transpose(1, 2, 0))
        return image, mask


def _warn_of_sizes(scan: DatasetScan, sizes: Sequence[tuple[int, int]], name: str) -> None:
    own = np.array(sizes)
    unlike = np.flatnonzero((own != scan.sizes).any(1)).tolist()
    if unlike:
        first = unlike[0]
        (height, width), (mask_height, mask_width) = own[first].tolist(), scan.sizes[first].tolist()
        masks = f"{counted(len(unlike), 'mask')} of {len(sizes)} ha{'s' if len(unlike) == 1 else 've'}"
        warnings.warn(
            f"{name}: {masks} another size than the image: {scan.names[first]} {mask_width}x{mask_height} pixels, its "
            f"image {width}x{height}; `seg datasets check` says what to do",
            stacklevel=4,
        )


def _shifted(progress: OnProgress | None, before: int, total: int) -> OnProgress | None:
    """Returns the progress of a part of the work, of which `before` is done when it starts."""
    return None if progress is None else lambda done, _: progress(before + done, total)


def _tell(progress: Callable[[int, int], object] | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)


# ---- JSON ------------------------------------------------------------------------------------------------------------


def _split_dict(split: SplitStats, metadata: DatasetMetadata) -> dict[str, Any]:
    smallest, median, largest = (list(size) for size in split.spread)
    values: dict[str, Any] = {
        "images": split.num_images,
        "sizes": {"smallest": smallest, "median": median, "largest": largest, "different": len(split.sizes)},
        "mean": split.mean.tolist(),
        "std": split.std.tolist(),
    }
    if split.channels is not None:
        values["channels"] = split.channels.rows()
    if split.has_masks:
        rows = zip(metadata.labels, split.pixels.tolist(), split.shares.tolist(), split.images.tolist(), strict=True)
        values["classes"] = [
            {"name": label, "pixels": pixels, "share": share, "images": images} for label, pixels, share, images in rows
        ]
        values["ignored"] = {"pixels": split.ignored, "share": split.ignored_share, "images": split.ignored_images}
        values["together"] = split.together.tolist()
    return values
