"""Findings about images that are in two splits: the same file, or nearly the same image."""

import filecmp
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from seg_core.errors import counted
from seg_datasets.doctor.checked import CheckedSplit, finding
from seg_datasets.doctor.kinds import ERROR, WARNING
from seg_datasets.doctor.report import DataFinding
from seg_datasets.doctor.second_look import MOST_LOOKED_AT, are_alike, is_constant, reduced
from seg_datasets.doctor.sources import Source

__all__ = ["MOST_BITS", "near_pairs", "split_findings"]

MOST_BITS = 4
"""Images whose difference hashes differ in at most so many of the 64 bits are nearly the same."""

_BANDS = ((0, 11), (11, 11), (22, 11), (33, 11), (44, 10), (54, 10))  # first bit and number of bits
_BITS = np.array([bin(value).count("1") for value in range(1 << 16)], np.uint8)
_MOST_CANDIDATES = 8  # images that one is compared with
_Place = tuple[int, int]
"""Number of a split and row in it."""


def split_findings(source: Source, splits: Sequence[CheckedSplit], notes: list[str]) -> list[DataFinding]:
    """Returns the images that two splits share, the same file or nearly the same image.

    Args:
        source: the dataset.
        splits: what was read of its files.
        notes: a sentence is added if there are more candidates than are compared.
    """
    if len(splits) < 2:
        return []
    rows = [split.rows("image", "ok") for split in splits]
    owner = np.repeat(np.arange(len(splits)), [len(found) for found in rows])
    row = np.concatenate(rows)
    content = np.concatenate([s.examined.rows["content"][found] for s, found in zip(splits, rows, strict=True)])
    look = np.concatenate([s.examined.rows["look"][found] for s, found in zip(splits, rows, strict=True)])
    flat = np.concatenate([s.examined.rows["flat"][found] for s, found in zip(splits, rows, strict=True)])
    found: list[DataFinding] = []
    max_pixels = source.dataset.reading.max_pixels
    told = np.zeros(len(row), bool)
    for first, second in _same(content, owner):
        one, other = ((int(owner[place]), int(row[place])) for place in (first, second))
        if not _are_equal(*(splits[split].image(place) for split, place in (one, other))):
            continue
        told[second] = True
        is_plain = bool(flat[second]) and is_constant(splits[other[0]].image(other[1]), max_pixels)
        found += _duplicate(source, splits, one, other, is_plain)
    keep = np.flatnonzero(~told & ~flat)

    def path(place: int) -> str:
        return splits[int(owner[keep[place]])].image(int(row[keep[place]]))

    pairs = near_pairs(look[keep], owner[keep], _MOST_CANDIDATES)
    looked_at: dict[str, None] = {}
    for first, second, _ in sorted(pairs, key=lambda pair: pair[2]):  # the nearest first
        if len(new := {path(first), path(second)} - looked_at.keys()) <= MOST_LOOKED_AT - len(looked_at):
            looked_at |= dict.fromkeys(new)
    small = reduced(looked_at, max_pixels, source.dataset.reading.channels)
    confirmed: set[int] = set()
    unseen: set[int] = set()
    for first, second, bits in pairs:
        if second in confirmed:
            continue
        names = path(first), path(second)
        if not looked_at.keys() >= set(names):
            unseen.add(second)
        elif small.keys() >= set(names) and are_alike(small[names[0]], small[names[1]]):
            confirmed.add(second)
            one, other = ((int(owner[keep[p]]), int(row[keep[p]])) for p in (first, second))
            found += _near(source, splits, one, other, bits)
    if unseen := unseen - confirmed:
        notes.append(
            f"{counted(len(unseen), 'image')} may be nearly equal to one of another split, by the difference hash "
            f"alone: only {len(looked_at)} such images were compared. Check fewer splits at once to compare more"
        )
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


def near_pairs(look: npt.NDArray[np.uint64], owner: npt.NDArray[np.intp], most: int = 1) -> list[tuple[int, int, int]]:
    """Returns the images that nearly equal one of a split before.

    Hashes that differ in four bits are equal in at least two of six bands of bits, so that only hashes with two equal
    bands are compared: sorting finds these.

    Args:
        look: uint64 (n,), difference hashes.
        owner: (n,), the split of each.
        most: other images of each, the nearest.

    Returns:
        (place of the other image, place of the image, differing bits), of each image the nearest first.
    """
    # of equal hashes in one split one is compared
    order = np.lexsort((look, owner))
    is_first = np.ones(len(order), bool)
    is_first[1:] = (np.diff(look[order]) != 0) | (np.diff(owner[order]) != 0)
    kept, group = order[is_first], np.cumsum(is_first) - 1
    hashes, owners = look[kept], owner[kept]
    best: dict[int, list[tuple[int, int]]] = {}
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
                nearest = best.setdefault(late, [])
                if (count, early) not in nearest:
                    nearest.append((count, early))
                    nearest.sort()
                    del nearest[most:]
    others = {early for nearest in best.values() for _, early in nearest}
    members: dict[int, list[int]] = {number: [] for number in best.keys() | others}
    for place, number in zip(order.tolist(), group.tolist(), strict=True):
        if number in members:
            members[number].append(place)
    found = []
    for late, nearest in best.items():
        near = [(early, count) for count, number in nearest for early in members[number][:most]][:most]
        found += [(early, place, count) for place in members[late] for early, count in near]
    return sorted(found, key=lambda pair: (pair[1], pair[2], pair[0]))


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


def _duplicate(
    source: Source, splits: Sequence[CheckedSplit], one: _Place, other: _Place, is_plain: bool
) -> Iterator[DataFinding]:
    (first, first_row), (second, second_row) = one, other
    paths = splits[first].image(first_row), splits[second].image(second_row)
    names = splits[first].name, splits[second].name
    if paths[0] == paths[1] and source.is_official:
        return  # official splits may share images, as trainval does with train
    what = f"the file is the same as {source.shown(paths[0])}"
    if paths[0] == paths[1]:
        what = "the image is listed twice"
    if is_plain:
        yield finding(
            source,
            "duplicate-across-splits",
            [paths[1], paths[0]],
            f"{what}, an image of one color: it is in {names[0]} and {names[1]}",
            "remove images that show nothing, and their masks, or leave them if they belong to the data",
            severity=WARNING,
        )
        return
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
