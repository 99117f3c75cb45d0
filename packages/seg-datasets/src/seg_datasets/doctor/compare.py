"""Compares the classes, sizes and colors of two datasets, or of two splits of one."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_core.errors import InvalidArgumentError
from seg_core.files.scan import OnProgress
from seg_core.labels.metadata import DatasetMetadata
from seg_core.labels.tasks import MULTICLASS
from seg_datasets.doctor.opening import Opened, open_splits
from seg_datasets.doctor.stats import SplitStats, pooled, stats_of
from seg_datasets.doctor.targets import Target
from seg_datasets.reading.class_files import Metadata

__all__ = ["ClassComparison", "Comparison", "Side", "compare", "jensen_shannon"]

_QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
_MOST_NAMED = 8


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two that are compared.

    Attributes:
        name: name for tables, such as `"train"` or `"CamVid"`; the two differ.
        metadata: the classes.
        stats: statistics of all its splits together.
    """

    name: str
    metadata: DatasetMetadata
    stats: SplitStats

    def quantiles(self) -> dict[str, list[int]]:
        """Returns smallest, lower quartile, median, upper quartile and largest of `"height"` and of `"width"`."""
        sizes = np.array(list(self.stats.sizes))
        counts = np.array(list(self.stats.sizes.values()))
        return {
            side: [
                int(value)
                for value in np.quantile(np.repeat(sizes[:, axis], counts), _QUANTILES, method="inverted_cdf")
            ]
            for axis, side in enumerate(("height", "width"))
        }


@dataclass(frozen=True)
class ClassComparison:
    """A class on both sides.

    Attributes:
        label: name of the class.
        shares: fractions of the pixels that have a class; of a binary or multilabel task of those that are not ignored
            for this class. None where there is no class of this name.
        images: fractions of the images that contain the class; None likewise.
        distance: unless both sides are multiclass, the Jensen-Shannon distance of the shares of pixels with and without
            the class, 0 to 1. None if both are, or a side has no such class or no pixel that is not ignored for it.
    """

    label: str
    shares: tuple[float | None, float | None]
    images: tuple[float | None, float | None]
    distance: float | None = None

    @property
    def difference(self) -> float | None:
        """The second share less the first; None if a side has no such class."""
        first, second = self.shares
        return None if first is None or second is None else second - first


@dataclass(frozen=True, eq=False)
class Comparison:
    """How two datasets or splits differ.

    Attributes:
        sides: the two.
        classes: those of the first, in the order of their ids, then those that only the second has.
        distance: Jensen-Shannon distance of the class shares, see `jensen_shannon`; NaN if a side has no labeled pixel.
            If a side is of a binary or multilabel task, whose classes do not share out the pixels, the largest
            `distance` of a class; NaN if none has one.
        warnings: sentences about what should not be: other classes or tasks, or a class that is absent on one side.
    """

    sides: tuple[Side, Side]
    classes: Sequence[ClassComparison]
    distance: float
    warnings: Sequence[str]

    @property
    def is_per_class(self) -> bool:
        """Whether each class has a distance of its own: unless both sides are multiclass."""
        return any(side.metadata.task != MULTICLASS for side in self.sides)

    @property
    def most_different(self) -> str | None:
        """The class with the largest distance of its own; None if none has one."""
        known = [(row.distance, row.label) for row in self.classes if row.distance is not None]
        return max(known, key=lambda pair: pair[0])[1] if known else None

    def to_dict(self) -> dict[str, Any]:
        """Returns everything as plain containers, for JSON: see `seg datasets compare --help`."""
        return {
            "sides": [
                {
                    "name": side.name,
                    "images": side.stats.num_images,
                    **side.quantiles(),
                    "different_sizes": len(side.stats.sizes),
                    "mean": side.stats.mean.tolist(),
                    "std": side.stats.std.tolist(),
                    "ignored_share": side.stats.ignored_share,
                    **({"task": side.metadata.task} if self.is_per_class else {}),
                }
                for side in self.sides
            ],
            "classes": [
                {
                    "name": found.label,
                    "shares": list(found.shares),
                    "difference": found.difference,
                    "images": list(found.images),
                    **({"distance": found.distance} if self.is_per_class else {}),
                }
                for found in self.classes
            ],
            "jensen_shannon_distance": self.distance,
            "warnings": list(self.warnings),
        }


def compare(
    a: Target,
    b: Target | None = None,
    root: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    splits: Sequence[str] | None = None,
    classes: Metadata | None = None,
    num_classes: int | None = None,
    ignore_index: int | None = None,
    progress: OnProgress | None = None,
    **options: Any,
) -> Comparison:
    """Compares two datasets, or two splits of one: class shares, sizes, colors.

    Classes are compared by their names. Shares are of the pixels that have a class, so that they add up to 1 on both
    sides, however much is ignored. Of a binary or multilabel task the share of a class is that of the pixels that are
    not ignored for it, and the distance is the largest of those of one class alone, see `Comparison`.

    Args:
        a: a name from `list_datasets()`, or a folder; see `stats`.
        b: the other one; None compares two splits of `a`.
        root: folder of a dataset that is given by name; if both are, a pair of folders.
        splits: without `b` the two splits, by default train and val. With `b` those that are counted, all together, on
            both sides; None for those of train, val and test that are there and have masks.
        classes: the classes of folders, see `stats`.
        num_classes: number of classes of folders, if they have no names.
        ignore_index: value of pixels without a class in folders whose classes do not tell it.
        progress: as for `stats`.
        **options: options of both datasets, as in `get_dataset`.

    Raises:
        InvalidArgumentError: if an argument is not allowed, or a side has no masks.
        DatasetNotFoundError, CorruptFileError, LabelOutOfRangeError: as `stats`.
    """

    def opened(target: Target, own_root: Any, own_splits: Sequence[str] | None) -> Opened:
        return open_splits(target, own_root, own_splits, classes, num_classes, ignore_index, options, progress)

    if b is None:
        own = tuple(splits or ("train", "val"))
        if len(own) != 2 or own[0] == own[1]:
            raise InvalidArgumentError(
                f"splits must be two different ones to compare within {os.fspath(a)}, such as train and val, got "
                f"{', '.join(own)}; or give a second dataset"
            )
        found = stats_of(opened(a, _single(root), own), progress)
        first, second = (Side(split, found.metadata, found.splits[split]) for split in own)
        return _compare(first, second)
    roots = _roots(a, b, root)
    both = [opened(target, own_root, splits) for target, own_root in zip((a, b), roots, strict=True)]
    total = 2 * sum(len(dataset) for one in both for dataset in one.datasets.values())
    sides, done = [], 0
    for name, one in zip(_names(both), both, strict=True):
        before = done
        found = stats_of(one, None if progress is None else lambda part, _, at=before: progress(at + part, total))  # type: ignore[misc]
        done += 2 * sum(map(len, one.datasets.values()))
        with_masks = [split for split in found.splits.values() if split.has_masks]
        sides.append(Side(name, found.metadata, pooled(with_masks or list(found.splits.values()))))
    return _compare(sides[0], sides[1])


def jensen_shannon(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Returns the Jensen-Shannon distance of two distributions: 0 if they are the same, 1 if they share nothing.

    It is the square root of the Jensen-Shannon divergence to base 2 (J. Lin, 1991; D. M. Endres, J. E. Schindelin,
    2003), a metric: (KL(p, m) + KL(q, m)) / 2 with m the mean of both.

    Args:
        first: (K,) numbers >= 0; they are divided by their sum.
        second: (K,), likewise.

    Returns:
        0 to 1; NaN if a sum is 0.
    """
    p, q = (np.asarray(values, np.float64) for values in (first, second))
    if not p.sum() or not q.sum():
        return math.nan
    p, q = p / p.sum(), q / q.sum()
    mean = (p + q) / 2
    divergence = sum(float((own[own > 0] * np.log2(own[own > 0] / mean[own > 0])).sum()) / 2 for own in (p, q))
    return math.sqrt(min(max(divergence, 0.0), 1.0))  # rounding may leave the range by the last digit


# ---- sides -----------------------------------------------------------------------------------------------------------


def _single(root: Any) -> Any:
    if isinstance(root, str | os.PathLike) or root is None:
        return root
    if len(root) != 1:
        raise InvalidArgumentError(f"root must be one folder for one dataset, got {len(root)}")
    return root[0]


def _roots(a: Target, b: Target, root: Any) -> list[Any]:
    """Returns the root of each of two targets; a folder has none."""
    roots = [] if root is None else [root] if isinstance(root, str | os.PathLike) else list(root)
    named = [not Path(target).expanduser().is_dir() for target in (a, b)]
    if len(roots) > sum(named):
        raise InvalidArgumentError(
            f"root must be given once for each dataset that is given by name, {sum(named)} here, got {len(roots)}"
        )
    if len(roots) == 1 and all(named):  # one may have no files, as Shapes
        return roots * 2 if os.fspath(a) == os.fspath(b) else [*roots, None]
    left = iter(roots)
    return [next(left, None) if is_named else None for is_named in named]


def _names(both: Sequence[Opened]) -> list[str]:
    """Returns names that tell two datasets apart."""
    folders = [one.root.resolve().name if one.root is not None else one.name for one in both]
    own = [folder if one.name == "FolderDataset" else one.name for one, folder in zip(both, folders, strict=True)]
    for names in (own, folders, [str(one.root) for one in both]):
        if names[0] != names[1]:
            return names
    return [f"{own[0]} (A)", f"{own[1]} (B)"]


# ---- comparison ------------------------------------------------------------------------------------------------------


def _compare(first: Side, second: Side) -> Comparison:
    for side in (first, second):
        if not side.stats.has_masks:
            raise InvalidArgumentError(f"{side.name} has no masks, so its classes cannot be compared; choose another")
    tables = [_by_label(side) for side in (first, second)]
    labels = list(dict.fromkeys((*first.metadata.labels, *second.metadata.labels)))
    is_per_class = any(side.metadata.task != MULTICLASS for side in (first, second))
    valid = [dict(zip(side.metadata.labels, _valid(side).tolist(), strict=True)) for side in (first, second)]
    rows = []
    for label in labels:
        shares = _part(tables[0], label, 0), _part(tables[1], label, 0)
        images = _part(tables[0], label, 1), _part(tables[1], label, 1)
        are_known = is_per_class and all(one.get(label) for one in valid)
        own = jensen_shannon(*((share or 0.0, 1 - (share or 0.0)) for share in shares)) if are_known else None
        rows.append(ClassComparison(label, shares, images, own))
    if is_per_class:
        distance = max((row.distance for row in rows if row.distance is not None), default=math.nan)
    else:
        distance = jensen_shannon(*([row.shares[place] or 0.0 for row in rows] for place in (0, 1)))
    return Comparison((first, second), rows, distance, _warnings(first, second))


def _valid(side: Side) -> npt.NDArray[np.int64]:
    """Returns the pixels that may be of each class: (K,).

    Of a multiclass task these are the pixels of all classes; of others the pixels that are of the class or are not.
    """
    pixels, background = side.stats.pixels, side.stats.background
    return np.full_like(pixels, pixels.sum()) if background is None else pixels + background


def _by_label(side: Side) -> dict[str, tuple[float, float]]:
    images = side.stats.images
    shares = side.stats.pixels / np.maximum(_valid(side), 1)
    fractions = images / max(side.stats.num_images, 1)
    return dict(zip(side.metadata.labels, zip(shares.tolist(), fractions.tolist(), strict=True), strict=True))


def _part(table: Mapping[str, tuple[float, float]], label: str, place: int) -> float | None:
    return table[label][place] if label in table else None


def _warnings(first: Side, second: Side) -> list[str]:
    found = []
    one, other = first.metadata.labels, second.metadata.labels
    if set(one) != set(other):
        parts = [
            f"only {side.name} has {_some(label for label in labels if label not in others)}"
            for side, labels, others in ((first, one, other), (second, other, one))
            if set(labels) - set(others)
        ]
        found.append(
            f"the classes differ ({len(one)} and {len(other)}): {'; '.join(parts)}; they are compared by their names"
        )
    elif one != other:
        found.append(
            "the classes have the same names in another order, so that their ids differ; they are compared by their "
            "names, and a network of one does not fit the other"
        )
    if first.metadata.task != second.metadata.task:
        found.append(
            f"the tasks differ: {first.name} is {first.metadata.task}, {second.name} {second.metadata.task}; a network "
            "of one does not fit the other"
        )
    for side, others in ((first, second), (second, first)):
        counted = dict(zip(others.metadata.labels, others.stats.pixels.tolist(), strict=True))
        absent = [
            label
            for label, pixels in zip(side.metadata.labels, side.stats.pixels.tolist(), strict=True)
            if not pixels and counted.get(label)
        ]
        if absent:
            found.append(f"{_some(absent)}: in no mask of {side.name}, but in masks of {others.name}")
    return found


def _some(labels: Iterable[str]) -> str:
    names = list(labels)
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
