"""Tells when parts of one thing are in both splits: frames of a video, tiles of an image, copies of an image."""

import itertools
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass

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
_SEQUENCE_WORDS = re.compile(
    r"(?:^|[^a-z])(seq|sequence|video|vid|clip|scene|shot|cam|camera|take|frame)s?(?:[^a-z]|$)"
)


_TILE = re.compile(r"(.*[^0-9])([0-9]+)[_\-x]([0-9]+)", re.DOTALL)
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
    trained = set(train)
    beside = 0
    for key in val:
        match = re.fullmatch(r"(.*?)([0-9]+)", key, re.DOTALL)
        if match and match[1] in steps:
            number, step = int(match[2]), steps[match[1]]
            beside += any(numbers[match[1]].get(number + side) in trained for side in (-step, step))
    if 2 * beside < len(val):
        return None
    if is_single:
        return ""
    return "^(.*?)[0-9]+$" if all(key[-1:].isdecimal() for key in (*train, *val)) else "^(.*?)[0-9]*$"


def shared_sequences(train: Collection[str], val: Collection[str]) -> list[str]:
    """Returns what the names of sequences begin with of which both splits have many frames, neighbors or not."""
    found = _sequences(train, val)
    if found is None:
        return []
    numbers, steps, _ = found
    trained, held_out = set(train), set(val)
    return sorted(
        prefix
        for prefix in steps
        if all(len(side.intersection(numbers[prefix].values())) >= _MANY_FRAMES for side in (trained, held_out))
    )


def _sequences(
    train: Collection[str], val: Collection[str]
) -> tuple[dict[str, dict[int, str]], dict[str, int], bool] | None:
    """Returns prefix -> number -> key, prefix -> step of its numbers for sequences, and whether there is a single one.

    None if most files are in no sequence.
    """
    numbers: dict[str, dict[int, str]] = defaultdict(dict)
    for key in (*train, *val):
        if match := re.fullmatch(r"(.*?)([0-9]+)", key, re.DOTALL):
            numbers[match[1]].setdefault(int(match[2]), key)
    stepped = {prefix: step for prefix, found in numbers.items() if (step := _step(found))}
    lettered = _lettered(stepped)
    steps = {prefix: step for prefix, step in stepped.items() if _names_sequence(prefix) or prefix in lettered}
    # numbers that go on from folder to folder are those of photos that were put into folders
    by_folder = [prefix for prefix in steps if not _names_sequence(prefix.rpartition("/")[2])]
    runs = [number for prefix in by_folder for number in numbers[prefix]]
    if len(set(runs)) == len(runs):
        steps = {prefix: step for prefix, step in steps.items() if prefix not in by_folder}
    in_sequences = sum(len(numbers[prefix]) for prefix in steps)
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
    grids: dict[str, set[tuple[int, int]]] = defaultdict(set)
    for key in (*train, *val):
        if match := _TILE.fullmatch(key):
            grids[match[1]].add((int(match[2]), int(match[3])))
    full = {prefix: cells for prefix, cells in grids.items() if _is_grid(cells)}
    if len(full) < 2 or sum(map(len, full.values())) < 0.8 * (len(train) + len(val)):
        return None
    if not _both_sides(_TILE, train, val) & full.keys():
        return None
    return "^(.*?)[0-9]+[_x-][0-9]+$"


def _is_grid(cells: Collection[tuple[int, int]]) -> bool:
    rows, columns = ({cell[axis] for cell in cells} for axis in (0, 1))
    return len(rows) > 1 and len(columns) > 1 and len(cells) == len(rows) * len(columns) and min(*rows, *columns) <= 1


def _step(numbers: Collection[int]) -> int:
    """Returns the step between most of the numbers, or 0 if there is none, or they are few."""
    gaps = Counter(second - first for first, second in itertools.pairwise(sorted(numbers)))
    step, times = gaps.most_common(1)[0] if gaps else (0, 0)
    return step if len(numbers) >= _MIN_FRAMES and 2 * times >= sum(gaps.values()) else 0


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
