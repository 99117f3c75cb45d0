"""Looks at the areas of masks, to tell classes from smoothed edges, from photos, and from numbers of objects."""

import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_core.errors import id_ranges

__all__ = [
    "Regions",
    "describe_smoothed_ids",
    "is_between",
    "middle",
    "object_channel",
    "object_numbers",
    "smoothed",
    "smoothed_edges",
]

_SOLID_SHARE = 0.1  # a value with this share of the pixels is no edge
_SOLID_INNER = 0.2  # nor one whose pixels are to this share surrounded by the same value
_MOST_SOFT = 0.25  # share of the pixels that edges may have
_MANY = 32  # values in one mask; scenes of 150 classes show fewer
_TOLERANCE = 4  # of a blended color, for rounding and compression
_LARGEST_SIDE = 1024  # pixels
_MOST_PIXELS = 10_000  # whose neighbors are looked at
_MOST_SLOPE = 0.7  # share of the pixels that slopes between areas may have in a small mask
_RAMP = 0.9  # share of the pixels of smoothed edges that lie between their neighbors
_NEAR = 32  # levels within which compression changes a value


@dataclass
class Regions:
    """Pixels of each value of some masks, and how many of them lie inside an area of that value.

    Attributes:
        counts: value -> pixels.
        inner: value -> pixels whose eight neighbors have the same value.
        numbers: number of values of each mask.
    """

    counts: Counter[int] = field(default_factory=Counter)
    inner: Counter[int] = field(default_factory=Counter)
    numbers: list[int] = field(default_factory=list)

    def add(self, values: npt.NDArray[np.integer]) -> None:
        """Adds a mask, integers (H, W)."""
        found, counts = np.unique(values, return_counts=True)
        self.numbers.append(len(found))
        self.counts.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
        if min(values.shape) < 3:
            return
        same = values[1:-1, 1:-1] == values[:-2, :-2]
        for top in range(3):
            for left in range(3):
                height, width = values.shape[0] - 2, values.shape[1] - 2
                same &= values[1:-1, 1:-1] == values[top : top + height, left : left + width]
        found, counts = np.unique(values[1:-1, 1:-1][same], return_counts=True)
        self.inner.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))

    @property
    def solid(self) -> list[int]:
        """The values that form areas, the most frequent first."""
        total = self.counts.total()
        return [
            value
            for value, count in self.counts.most_common()
            if count >= _SOLID_SHARE * total or self.inner[value] >= _SOLID_INNER * count
        ]

    @property
    def are_images(self) -> bool:
        """Whether these are photos or other images: many values in most masks, and hardly any areas.

        The most frequent value is left out: images of medicine are black around the body.
        """
        if not self.numbers or statistics.median(self.numbers) < _MANY:
            return False
        first = self.counts.most_common(1)[0][0]
        others = self.counts.total() - self.counts[first]
        return self.inner.total() - self.inner[first] < _SOLID_INNER * others


def smoothed(regions: Regions, channels: int = 1) -> tuple[list[int], list[int]] | None:
    """Returns the values of classes and those of smoothed edges between them, or None if edges are sharp.

    Values of edges form no area, are rare, and lie between those of two classes. Ids from 0 without large gaps are
    classes: one of them may be as thin as an edge.

    Args:
        regions: of the masks.
        channels: 1 for ids; 3 for colors, red * 65536 + green * 256 + blue.
    """
    solid = regions.solid
    soft = sorted(regions.counts.keys() - set(solid))
    if len(solid) < 2 or len(soft) < 2 or 2 * len(soft) < len(solid):
        return None
    if channels == 1 and len(regions.counts) > 0.6 * (max(regions.counts) + 1):
        return None
    pixels = sum(regions.counts[value] for value in soft)
    between = sum(regions.counts[value] for value in soft if is_between(value, solid[:20], channels))
    if pixels > _MOST_SOFT * regions.counts.total() or between < 0.8 * pixels:
        return None
    return solid, soft


def smoothed_edges(ids: npt.NDArray[np.integer]) -> bool:
    """Returns whether the edges of one mask, ids (H, W), are smoothed, even if all its ids are class ids.

    Values that form no area are then at least three, and almost each of their pixels lies between a smaller and a
    larger value beside it. Pixels of thin classes do so only now and then.
    """
    if min(ids.shape) < 5:
        return False
    step = max(ids.size // _MOST_PIXELS, 1)  # rows spread over the mask tell as much as all
    center = ids[2:-2:step, 2:-2]
    rows = len(ids)

    def beside(top: int, left: int) -> npt.NDArray[np.integer]:
        return ids[top : rows - 4 + top : step, left : left + center.shape[1]]

    near = [beside(top, left) for top, left in ((1, 2), (2, 1), (3, 2), (2, 3))]
    is_edge = near[0] != center
    for others in near[1:]:
        is_edge |= others != center
    counts = np.bincount(center.ravel())
    values = center[is_edge]
    solid = (counts - np.bincount(values, minlength=len(counts)) >= _SOLID_INNER * counts) & (counts > 0)
    soft = (counts > 0) & ~solid
    pixels = counts[soft].sum()
    if soft.sum() < 3 or solid.sum() < 2 or pixels > _MOST_SLOPE * center.size:
        return False  # as for most masks
    # two pixels each way, as rounding gives two neighbors on a slope the same id
    low, high = values.copy(), values.copy()
    for others in (*near, *(beside(top, left) for top, left in ((0, 2), (2, 0), (4, 2), (2, 4)))):
        np.minimum(low, others[is_edge], out=low)
        np.maximum(high, others[is_edge], out=high)
    between = np.bincount(values[(low < values) & (values < high)], minlength=len(counts))
    return bool(between[soft].sum() >= _RAMP * pixels)


def middle(values: Any, side: int = _LARGEST_SIDE) -> Any:
    """Returns the middle of an array (H, W, ...), of at most `side` pixels each way."""
    height, width = values.shape[:2]
    top, left = max(height - side, 0) // 2, max(width - side, 0) // 2
    return values[top : top + side, left : left + side]


def describe_smoothed_ids(solid: Sequence[int], soft: Sequence[int]) -> str:
    """Returns the sentence about ids of smoothed edges, with what to do."""
    first, second = sorted(solid[:2])
    text = (
        f"masks contain the ids {id_ranges({*solid, *soft}, 10)}, of which {id_ranges(soft, 10)} are found only at "
        "edges, between others: the edges are smoothed, since the masks were resized, drawn with soft edges, or saved "
        "as JPEG. Save them without smoothing, and resize with Image.Resampling.NEAREST"
    )
    if second > 255 or any(min(abs(value - first), abs(value - second)) > _NEAR for value in solid):
        return text
    threshold = (first + second + 1) // 2
    return (
        f"{text}. For two classes a threshold mends them: Image.fromarray((np.asarray(Image.open(IN).convert('L')) >= "
        f"{threshold}).astype(np.uint8)).save(OUT), with a PNG as OUT"
    )


def object_numbers(masks: Sequence[Collection[int]], ignored: int = 255) -> str:
    """Returns a sentence if the ids of masks look like numbers of objects, else "".

    Args:
        masks: ids of each mask.
        ignored: id that counts as none.
    """
    ids = {raw for found in masks for raw in found}
    large = {raw for raw in ids if raw >= 1000}
    per_class = Counter(raw // 1000 for raw in large)
    if large and len(large) >= 3 * len(per_class) and len(per_class) < 100 and len(large) > len(ids - large):
        first = min(large)
        return (
            f"the ids {id_ranges(large, 5)} look like class * 1000 + number of the object, as {first} = class "
            f"{first // 1000}, object {first % 1000}. Save the classes alone: ids = np.where(ids >= 1000, ids // 1000, "
            "ids), and correct the classes"
        )
    numbers = [sorted(set(found) - {0, ignored}) for found in masks]
    several = [found for found in numbers if found]
    counts = Counter(raw for found in several for raw in found)
    remedy = "this trains classes, not objects: save masks in which all objects of a class have the id of the class"
    if len(several) >= 5 and len(counts) > 100 and sum(n == 1 for n in counts.values()) > 0.9 * len(counts):
        return f"the ids {id_ranges(counts, 5)} look like numbers of objects, as most are in one mask alone; {remedy}"
    runs = [found for found in several if found == list(range(1, len(found) + 1))]
    top = max(map(len, several), default=0)
    if len(several) >= 5 and top >= 5 and len(runs) >= 0.9 * len(several) and len({len(found) for found in runs}) >= 4:
        return f"the ids 1 to n, with another n in each mask (up to {top}), look like numbers of objects; {remedy}"
    return ""


def object_channel(colors: Iterable[tuple[int, int, int]]) -> str:
    """Returns a sentence if one channel of color masks holds few ids and the others many, else ""."""
    columns = [sorted(set(column)) for column in zip(*colors, strict=True)]
    many = max(map(len, columns), default=0)
    for name, values in zip("RGB", columns, strict=False):
        if 1 < len(values) <= many / 3 and values[-1] < 2 * len(values):
            return (
                f"channel {name} alone has the values {id_ranges(values)}, the others up to {many}: if it holds the "
                f"class, and another channel numbers the objects, save it alone: Image.open(IN).getchannel('{name}')"
                ".save(OUT)"
            )
    return ""


def is_between(value: int, ends: Sequence[int], channels: int) -> bool:
    """Returns whether a value lies between two others: of 3 channels on the line between two of the colors."""
    if channels == 1:
        return min(ends) < value < max(ends)
    point = _split(value)
    for place, one in enumerate(ends):
        for other in ends[place + 1 :]:
            start, step = _split(one), _split(other) - _split(one)
            share = float(np.clip((point - start) @ step / (step @ step), 0, 1))
            if np.abs(start + share * step - point).max() <= _TOLERANCE:
                return True
    return False


def _split(value: int) -> npt.NDArray[np.float64]:
    return np.array([value >> 16, value >> 8 & 255, value & 255], np.float64)
