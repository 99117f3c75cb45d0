"""Findings about images that are in two splits: the same file, or nearly the same image."""

import filecmp
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_core.errors import counted
from seg_datasets.doctor.checked import CheckedSplit, finding
from seg_datasets.doctor.kinds import ERROR, WARNING
from seg_datasets.doctor.report import DataFinding
from seg_datasets.doctor.second_look import MOST_LOOKED_AT, are_alike, is_constant, reduced
from seg_datasets.doctor.sources import Source

__all__ = ["MOST_BITS", "duplicate_findings", "near_pairs", "split_findings"]

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
    rows, owner = _places(splits)
    flat = _column(splits, rows, "flat")
    max_pixels = source.dataset.reading.max_pixels
    found, told = _duplicates(source, splits, rows, owner, flat)
    keep = ~told & ~flat
    owner, row, look = owner[keep], np.concatenate(rows)[keep], _column(splits, rows, "look")[keep]
    del rows, flat, told, keep

    def path(place: int) -> str:
        return splits[int(owner[place])].image(int(row[place]))

    pairs = near_pairs(look, owner, _MOST_CANDIDATES)
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
            one, other = ((int(owner[p]), int(row[p])) for p in (first, second))
            found += _near(source, splits, one, other, bits)
    if unseen := unseen - confirmed:
        notes.append(
            f"{counted(len(unseen), 'image')} may be nearly equal to one of another split, by the difference hash "
            f"alone: only {len(looked_at)} such images were compared. Check fewer splits at once to compare more"
        )
    return found


def duplicate_findings(source: Source, splits: Sequence[CheckedSplit]) -> list[DataFinding]:
    """Returns the images whose files are the same in two splits.

    Args:
        source: the dataset.
        splits: with the hash of the content of each image.
    """
    return _duplicates(source, splits, *_places(splits), None)[0]


def _duplicates(
    source: Source,
    splits: Sequence[CheckedSplit],
    rows: Sequence[npt.NDArray[np.uint32]],
    owner: npt.NDArray[np.int16],
    flat: npt.NDArray[np.bool_] | None,
) -> tuple[list[DataFinding], npt.NDArray[np.bool_]]:
    """Returns the findings, and which places they are about.

    Args:
        source: the dataset.
        splits: the splits.
        rows: as `_places` returns them.
        owner: as `_places` returns them.
        flat: (n,), which places may show one color alone; None if any may.
    """
    row = np.concatenate(rows)
    found: list[DataFinding] = []
    told = np.zeros(len(row), bool)
    for first, second in _same(_column(splits, rows, "content"), owner):
        one, other = ((int(owner[place]), int(row[place])) for place in (first, second))
        path = splits[other[0]].image(other[1])
        if not _are_equal(splits[one[0]].image(one[1]), path):
            continue
        told[second] = True
        is_plain = (flat is None or bool(flat[second])) and is_constant(path, source.dataset.reading.max_pixels)
        found += _duplicate(source, splits, one, other, is_plain)
    return found, told


def _places(splits: Sequence[CheckedSplit]) -> tuple[list[npt.NDArray[np.uint32]], npt.NDArray[np.int16]]:
    """Returns the rows of each split whose image was read, and the split of each place in all of these.

    Numbers are small, and no array is longer than it is needed: these are the most memory of a check.
    """
    rows = [split.rows("image", "ok").astype(np.uint32) for split in splits]
    return rows, np.repeat(np.arange(len(splits), dtype=np.int16), [len(found) for found in rows])


def _column(splits: Sequence[CheckedSplit], rows: Sequence[npt.NDArray[np.uint32]], name: str) -> npt.NDArray[Any]:
    """Returns a column of the records of some rows of all splits."""
    return np.concatenate([split.examined.rows[name][own] for split, own in zip(splits, rows, strict=True)])


def _same(content: npt.NDArray[np.uint64], owner: npt.NDArray[np.int16]) -> Iterator[tuple[int, int]]:
    """Yields the places of two files of the same content in two splits; the second of each pair once."""
    order = np.lexsort((owner, content)).astype(np.uint32)
    content = content[order]
    first = -1
    # files of the same content are rare
    for late in (np.flatnonzero(content[1:] == content[:-1]) + 1).tolist():
        if first < 0 or content[first] != content[late]:
            first = late - 1
        if owner[order[late]] != owner[order[first]]:
            yield int(order[first]), int(order[late])


def _are_equal(one: str, other: str) -> bool:
    """Returns whether two files have the same content; the hashes say so of their ends only."""
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False


def near_pairs(look: npt.NDArray[np.uint64], owner: npt.NDArray[Any], most: int = 1) -> list[tuple[int, int, int]]:
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
    order = np.lexsort((look, owner)).astype(np.uint32)
    is_first = np.ones(len(order), bool)
    hashes, owners = look[order], owner[order]
    is_first[1:] = (hashes[1:] != hashes[:-1]) | (owners[1:] != owners[:-1])
    group = np.cumsum(is_first, dtype=np.int32) - 1
    hashes, owners = hashes[is_first], owners[is_first]
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
    for place in np.flatnonzero(np.isin(group, list(members))).tolist() if members else ():
        members[int(group[place])].append(int(order[place]))
    found = []
    for late, nearest in best.items():
        near = [(early, count) for count, number in nearest for early in members[number][:most]][:most]
        found += [(early, place, count) for place in members[late] for early, count in near]
    return sorted(found, key=lambda pair: (pair[1], pair[2], pair[0]))


def _key(hashes: npt.NDArray[np.uint64], bands: Sequence[tuple[int, int]]) -> npt.NDArray[np.uint64]:
    key = np.zeros_like(hashes)
    for start, length in bands:
        band = hashes >> np.uint64(start)
        band &= np.uint64((1 << length) - 1)
        key <<= np.uint64(length)
        key |= band
    return key


def _candidates(key: npt.NDArray[np.uint64]) -> Iterator[tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]]:
    """Yields the places of all pairs with equal keys."""
    order = np.argsort(key, kind="stable").astype(np.uint32)
    key = key[order]
    starts = np.arange(max(len(key) - 1, 0), dtype=np.uint32)
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
    is_learned = any(name.startswith("train") for name in names)
    yield finding(
        source,
        "duplicate-across-splits",
        [paths[1], paths[0]],
        f"{what}: it is in {names[0]} and {names[1]}, so scores on {names[1]} are too good",
        "remove it, and its mask, from one of the splits",
        severity=ERROR if is_learned else WARNING,
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
