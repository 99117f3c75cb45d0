"""Tells when parts of one thing are in both splits: frames of a video, tiles of an image, copies of an image."""

import re
import warnings
from array import array
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from seg_datasets.reading.pairs import first_few

__all__ = [
    "FramesWarning",
    "Leak",
    "copied",
    "copies_regex",
    "find_leak",
    "frames_regex",
    "shared_sequences",
    "tiles_regex",
    "warn_of_frames",
]

_FRAMES = "frames of numbered sequences"
_MIN_FRAMES = 3  # of a sequence
_MANY_FRAMES = 10  # of a sequence, in each of two splits
_LONG = 19  # digits of a number that is none of a frame or a tile
_SEQUENCE_WORDS = re.compile(
    r"(?:^|[^a-z])(seq|sequence|video|vid|clip|scene|shot|cam|camera|take|frame)s?(?:[^a-z]|$)"
)


_TILE = re.compile(r"(.*[^0-9])([0-9]+)[_\-x]([0-9]+)", re.DOTALL)
_Numbers = npt.NDArray[np.int64]
_COPY = re.compile(r"(.*)\.rf\.[^/]*", re.DOTALL)  # names that Roboflow gives to copies of an image


def _names_sequence(prefix: str) -> bool:
    return bool(re.search(r"[0-9]", prefix) or _SEQUENCE_WORDS.search(prefix.lower()))


def frames_regex(train: Collection[str], val: Collection[str]) -> str | None:
    """Returns the `groups` that keeps numbered frames of a sequence together, if such frames are in both splits.

    Numbered photos are no frames: 0001 to 0500, or cat_01 and dog_07, have neighbors that show other things, and so
    have photos that were numbered and then put into folders, without a number that two folders share. So a
    sequence is a run of numbers in constant steps after a prefix, and most files must be in one of several sequences
    whose prefixes are numbers themselves (seq01_000123, 3/0001) or say what they are (video_a/0001, clip-x_12), or in a
    single one that says so (frame_0001). Most files of val must have a neighbor of their sequence in train.

    Returns:
        The expression; "" if there is one sequence only, which groups cannot divide; None if there are no such frames.
    """
    found = _sequences(train, val)
    if found is None:
        return None
    numbers, steps, is_single = found
    beside = 0
    for prefix, step in steps.items():
        trained, held_out = numbers[prefix]
        beside += int((np.isin(held_out - step, trained) | np.isin(held_out + step, trained)).sum())
    if 2 * beside < len(val):
        return None
    if is_single:
        return ""
    return "^(.*?)[0-9]+$" if all(key[-1:].isdecimal() for key in chain(train, val)) else "^(.*?)[0-9]*$"


def shared_sequences(train: Collection[str], val: Collection[str]) -> list[str]:
    """Returns what the names of sequences begin with of which both splits have many frames, neighbors or not."""
    found = _sequences(train, val)
    if found is None:
        return []
    numbers, steps, _ = found
    return sorted(prefix for prefix in steps if all(len(np.unique(side)) >= _MANY_FRAMES for side in numbers[prefix]))


def _prefix(key: str) -> str:
    """Returns what stands before the number at the end of a key; the key if there is none."""
    return key.rstrip("0123456789")


def _numbers(train: Collection[str], val: Collection[str]) -> dict[str, tuple[_Numbers, _Numbers]]:
    """Returns prefix -> numbers behind it in train and in val, for prefixes with at least as many as a sequence has."""
    # of names that share no prefix, as those from hashes, no string is kept
    hashes = np.fromiter((hash(_prefix(key)) for key in chain(train, val)), np.int64, len(train) + len(val))
    values, counts = np.unique(hashes, return_counts=True)
    often = set(values[counts >= _MIN_FRAMES].tolist())
    del hashes, values, counts
    found: dict[str, tuple[array[int], array[int]]] = defaultdict(lambda: (array("q"), array("q")))
    for side, keys in enumerate((train, val)):
        for key in keys:
            prefix = _prefix(key)
            if 0 < len(key) - len(prefix) < _LONG and hash(prefix) in often:
                found[prefix][side].append(int(key[len(prefix) :]))
    return {prefix: (np.array(sides[0]), np.array(sides[1])) for prefix, sides in found.items()}


def _sequences(
    train: Collection[str], val: Collection[str]
) -> tuple[dict[str, tuple[_Numbers, _Numbers]], dict[str, int], bool] | None:
    """Returns the numbers behind prefixes, prefix -> step of its numbers for sequences, and whether one is alone.

    None if most files are in no sequence.
    """
    numbers = _numbers(train, val)
    every = {prefix: np.union1d(*sides) for prefix, sides in numbers.items()}
    stepped = {prefix: step for prefix, found in every.items() if (step := _step(found))}
    lettered = _lettered(stepped)
    steps = {prefix: step for prefix, step in stepped.items() if _names_sequence(prefix) or prefix in lettered}
    # numbers that go on from folder to folder are those of photos that were put into folders
    by_folder = [prefix for prefix in steps if not _names_sequence(prefix.rpartition("/")[2])]
    runs = np.concatenate([every[prefix] for prefix in by_folder] or [np.zeros(0, np.int64)])
    if len(np.unique(runs)) == len(runs):
        steps = {prefix: step for prefix, step in steps.items() if prefix not in by_folder}
    in_sequences = sum(len(every[prefix]) for prefix in steps)
    is_single = len(steps) == 1 and _SEQUENCE_WORDS.search(next(iter(steps)).lower())
    if (len(steps) < 2 and not is_single) or in_sequences < 0.8 * (len(train) + len(val)):
        return None
    return numbers, steps, bool(is_single)


def _lettered(prefixes: Collection[str]) -> set[str]:
    """Returns the prefixes that name a sequence by a letter, as vida_ and vidb_ do."""
    found: dict[str, list[str]] = defaultdict(list)
    for prefix in prefixes:
        match = re.fullmatch(r"(.*[a-z])[a-z]([^a-z0-9]*)", prefix, re.DOTALL | re.IGNORECASE)
        if match and _SEQUENCE_WORDS.search(match[1].lower()):
            found[match[1]].append(prefix)
    return {prefix for members in found.values() if len(members) > 1 for prefix in members}


def _both_sides(pattern: re.Pattern[str], train: Collection[str], val: Collection[str]) -> set[str]:
    """Returns the first groups of a pattern that files of both splits have."""
    sides = ({match[1] for key in keys if (match := pattern.fullmatch(key))} for keys in (train, val))
    return set.intersection(*sides)


def copied(train: Collection[str], val: Collection[str]) -> set[str]:
    """Returns the images of which both splits have copies, as Roboflow names them."""
    return _both_sides(_COPY, train, val)


def copies_regex(train: Collection[str], val: Collection[str]) -> str | None:
    """Returns the `groups` that keeps the copies of an image together, as Roboflow names them; None without copies."""
    if not copied(train, val):
        return None
    return r"^(.*?)(?:\.rf\.[^/]*)?$"


def tiles_regex(train: Collection[str], val: Collection[str]) -> str | None:
    """Returns the `groups` that keeps the tiles of an image together, if tiles of one image are in both splits.

    Tiles are named by row and column, as site_0_1; those of most images are a full grid.
    """
    grids: dict[str, tuple[array[int], array[int]]] = defaultdict(lambda: (array("q"), array("q")))
    for key in chain(train, val):
        if (match := _TILE.fullmatch(key)) and max(len(match[2]), len(match[3])) < _LONG:
            for place, number in zip(grids[match[1]], match.groups()[1:], strict=True):
                place.append(int(number))
    full = {prefix: len(cells) for prefix, places in grids.items() if _is_grid(cells := set(zip(*places, strict=True)))}
    if len(full) < 2 or sum(full.values()) < 0.8 * (len(train) + len(val)):
        return None
    if not _both_sides(_TILE, train, val) & full.keys():
        return None
    return "^(.*?)[0-9]+[_x-][0-9]+$"


def _is_grid(cells: Collection[tuple[int, int]]) -> bool:
    rows, columns = ({cell[axis] for cell in cells} for axis in (0, 1))
    return len(rows) > 1 and len(columns) > 1 and len(cells) == len(rows) * len(columns) and min(*rows, *columns) <= 1


def _step(numbers: _Numbers) -> int:
    """Returns the step between most of the sorted numbers, or 0 if there is none, or they are few."""
    if len(numbers) < _MIN_FRAMES:
        return 0
    gaps, firsts, counts = np.unique(np.diff(numbers), return_index=True, return_counts=True)
    most = np.lexsort((firsts, -counts))[0]  # of equally many the first
    return int(gaps[most]) if 2 * counts[most] >= len(numbers) - 1 else 0


class FramesWarning(UserWarning):
    """Frames of one sequence are in both splits; `groups` keeps them together, or is "" if nothing does."""

    def __init__(self, text: str, groups: str, what: str) -> None:
        super().__init__(text)
        self.groups = groups
        self.what = what


@dataclass(frozen=True)
class Leak:
    """Parts of one thing in train and val.

    Attributes:
        what: `"frames of numbered sequences"`, `"tiles of images"` or `"copies of images"`.
        groups: the expression that keeps them together; "" if all files are of one sequence, which nothing divides.
        remedy: sentence with what to do, without a full stop.
    """

    what: str
    groups: str
    remedy: str


def find_leak(train: Collection[str], val: Collection[str]) -> Leak | None:
    """Returns what train and val share by the names of their files: copies, tiles or frames; None if nothing."""
    regex = copies_regex(train, val)
    what, parts = "copies of images", "the copies of an image"
    if regex is None and (regex := tiles_regex(train, val)) is not None:
        what, parts = "tiles of images", "the tiles of an image"
    if regex is None and (regex := frames_regex(train, val)) is not None:
        what, parts = _FRAMES, "each sequence"
    if regex is None:
        return None
    if not regex:
        remedy = "All are of one sequence: split it in time, with lists of names (split_file) or folders"
    else:
        remedy = f"Keep {parts} on one side with groups='{regex}', whose first group names it"
    return Leak(what, regex, remedy)


def warn_of_frames(train: Collection[str], val: Collection[str], where: str) -> None:
    """Warns if frames of one sequence are in both splits; the text is that of both, so that Python shows it once."""
    leak = find_leak(train, val)
    if leak is None:
        return
    alike = f"{leak.what} in train ({first_few(sorted(val))})"
    if leak.what == _FRAMES:
        alike = f"neighbors of files of train in the same numbered sequence ({first_few(sorted(val))})"
    text = f"FolderDataset in {where}: files of val look like {alike}, so scores on val will be too good. {leak.remedy}"
    warnings.warn(FramesWarning(text, leak.groups, leak.what), stacklevel=6)
