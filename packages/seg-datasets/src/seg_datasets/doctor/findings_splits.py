"""Findings about images that are in two splits: the same file, or nearly the same image."""

import filecmp
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from seg_datasets.doctor.checked import CheckedSplit, finding
from seg_datasets.doctor.kinds import ERROR, WARNING
from seg_datasets.doctor.report import DataFinding
from seg_datasets.doctor.sources import Source

__all__ = ["MOST_BITS", "near_pairs", "split_findings"]

MOST_BITS = 4
"""Images whose difference hashes differ in at most so many of the 64 bits are nearly the same."""

_BANDS = ((0, 11), (11, 11), (22, 11), (33, 11), (44, 10), (54, 10))  # first bit and number of bits
_BITS = np.array([bin(value).count("1") for value in range(1 << 16)], np.uint8)
_Place = tuple[int, int]
"""Number of a split and row in it."""


def split_findings(source: Source, splits: Sequence[CheckedSplit]) -> list[DataFinding]:
    """Returns the images that two splits share, the same file or nearly the same image."""
    if len(splits) < 2:
        return []
    rows = [split.rows("image", "ok") for split in splits]
    owner = np.repeat(np.arange(len(splits)), [len(found) for found in rows])
    row = np.concatenate(rows)
    content = np.concatenate([s.examined.rows["content"][found] for s, found in zip(splits, rows, strict=True)])
    look = np.concatenate([s.examined.rows["look"][found] for s, found in zip(splits, rows, strict=True)])
    flat = np.concatenate([s.examined.rows["flat"][found] for s, found in zip(splits, rows, strict=True)])
    found: list[DataFinding] = []
    told = np.zeros(len(row), bool)
    for first, second in _same(content, owner):
        one, other = ((int(owner[place]), int(row[place])) for place in (first, second))
        if not _are_equal(*(splits[split].image(place) for split, place in (one, other))):
            continue
        told[second] = True
        found += _duplicate(source, splits, one, other)
    keep = np.flatnonzero(~told & ~flat)
    for first, second, bits in near_pairs(look[keep], owner[keep]):
        one, other = ((int(owner[keep[p]]), int(row[keep[p]])) for p in (first, second))
        found += _near(source, splits, one, other, bits)
    return found


def _same(content: npt.NDArray[np.uint64], owner: npt.NDArray[np.intp]) -> Iterator[tuple[int, int]]:
    """Yields the places of two files of the same content in two splits; the second of each pair once."""
    order = np.lexsort((owner, content))
    ends = np.flatnonzero(np.diff(content[order])) + 1
    # groups of several files are rare
    starts = np.concatenate([[0], ends])
    sizes = np.diff(np.concatenate([starts, [len(order)]]))
    for start, size in zip(starts[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True):
        first = int(order[start])
        for place in order[start + 1 : start + size].tolist():
            if owner[place] != owner[first]:
                yield first, place


def _are_equal(one: str, other: str) -> bool:
    """Returns whether two files have the same content; the hashes say so of their ends only."""
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False


def near_pairs(look: npt.NDArray[np.uint64], owner: npt.NDArray[np.intp]) -> list[tuple[int, int, int]]:
    """Returns the images that nearly equal one of a split before.

    Hashes that differ in four bits are equal in at least two of six bands of bits, so that only hashes with two equal
    bands are compared: sorting finds these.

    Args:
        look: uint64 (n,), difference hashes.
        owner: (n,), the split of each.

    Returns:
        (place of the other image, place of the image, differing bits), ascending; each image once, with the nearest.
    """
    # of equal hashes in one split one is compared
    order = np.lexsort((look, owner))
    is_first = np.ones(len(order), bool)
    is_first[1:] = (np.diff(look[order]) != 0) | (np.diff(owner[order]) != 0)
    kept, group = order[is_first], np.cumsum(is_first) - 1
    hashes, owners = look[kept], owner[kept]
    best: dict[int, tuple[int, int]] = {}
    for bands in itertools.combinations(_BANDS, 2):
        for first, second in _candidates(_key(hashes, bands)):
            apart = owners[first] != owners[second]
            first, second = first[apart], second[apart]
            bits = _differing(hashes[first], hashes[second])
            close = bits <= MOST_BITS
            for one, other, count in zip(
                first[close].tolist(), second[close].tolist(), bits[close].tolist(), strict=True
            ):
                early, late = (one, other) if owners[one] < owners[other] else (other, one)
                best[late] = min(best.get(late, (65, 0)), (count, early))
    members: dict[int, list[int]] = {late: [] for late in best}
    for place, number in zip(order.tolist(), group.tolist(), strict=True):
        if number in members:
            members[number].append(place)
    return sorted((int(kept[early]), place, count) for late, (count, early) in best.items() for place in members[late])


def _key(hashes: npt.NDArray[np.uint64], bands: Sequence[tuple[int, int]]) -> npt.NDArray[np.uint64]:
    key = np.zeros_like(hashes)
    for start, length in bands:
        key = (key << np.uint64(length)) | (hashes >> np.uint64(start)) & np.uint64((1 << length) - 1)
    return key


def _candidates(key: npt.NDArray[np.uint64]) -> Iterator[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """Yields the places of all pairs with equal keys."""
    order = np.argsort(key, kind="stable")
    key = key[order]
    starts = np.arange(max(len(key) - 1, 0))
    step = 1
    while len(starts := starts[starts + step < len(key)]):
        starts = starts[key[starts] == key[starts + step]]
        yield order[starts], order[starts + step]
        step += 1


def _differing(one: npt.NDArray[np.uint64], other: npt.NDArray[np.uint64]) -> npt.NDArray[np.intp]:
    words = np.ascontiguousarray(one ^ other).view(np.uint16).reshape(-1, 4)
    counts: npt.NDArray[np.intp] = _BITS[words].sum(1, dtype=np.intp)
    return counts


def _duplicate(source: Source, splits: Sequence[CheckedSplit], one: _Place, other: _Place) -> Iterator[DataFinding]:
    (first, first_row), (second, second_row) = one, other
    paths = splits[first].image(first_row), splits[second].image(second_row)
    names = splits[first].name, splits[second].name
    if paths[0] == paths[1] and source.is_official:
        return  # official splits may share images, as trainval does with train
    what = f"the file is the same as {source.shown(paths[0])}"
    if paths[0] == paths[1]:
        what = "the image is listed twice"
    yield finding(
        source,
        "duplicate-across-splits",
        [paths[1], paths[0]],
        f"{what}: it is in {names[0]} and {names[1]}, so scores on {names[1]} are too good",
        "remove it, and its mask, from one of the splits",
        severity=ERROR if "train" in names else WARNING,
    )


def _near(
    source: Source, splits: Sequence[CheckedSplit], one: _Place, other: _Place, bits: int
) -> Iterator[DataFinding]:
    (first, first_row), (second, second_row) = one, other
    paths = splits[first].image(first_row), splits[second].image(second_row)
    names = splits[first].name, splits[second].name
    if paths[0] == paths[1]:
        return
    yield finding(
        source,
        "near-duplicate-across-splits",
        [paths[1], paths[0]],
        f"the image of {names[1]} looks like {source.shown(paths[0])} of {names[0]} (their difference hashes differ in "
        f"{bits} of 64 bits), so scores on {names[1]} may be too good",
        "look at both; if they show the same scene, keep both in one split, or remove one",
    )
