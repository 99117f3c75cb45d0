"""Splits the files of a folder into train and val: by fraction, by folds, by groups, or by lists of names."""

import hashlib
import re
import warnings
from array import array
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from seg_core.checks import is_integer, is_number
from seg_core.errors import CorruptFileError, DatasetNotFoundError, InvalidArgumentError, nearest
from seg_datasets.reading.pairs import IMAGE_SUFFIXES, first_few
from seg_datasets.reading.text import read_lines, same_name

__all__ = [
    "NAMES_OF",
    "SPLITS",
    "SplitFile",
    "SplitRule",
    "check_split_file",
    "list_path",
    "listed_keys",
    "names_in_list",
    "resolve_list",
]

SPLITS = ("train", "val", "test")
_DEFAULT_FRACTION = 0.2
_SHOWN = 200  # characters of a line in messages
# other names of the folders and lists of a split
NAMES_OF = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}


@dataclass(frozen=True)
class SplitRule:
    """Decides which files are val if neither folders nor lists do.

    Files, or groups of files, are ranked by a hash of seed and name: independent of the random generators of numpy and
    Python, and stable if files are added.

    Attributes:
        val_fraction: fraction of the files for val; above 0 and below 1; None is 0.2.
        seed: of the hash; None is 0.
        groups: regular expression whose first group names the group of a key; None puts each file in its own group.
        folds: number of folds for cross-validation; None uses `val_fraction`.
        fold: the fold that is val, from 0.

    Raises:
        InvalidArgumentError: if a value is not allowed.
    """

    val_fraction: float | None = None
    seed: int | None = None
    groups: str | None = None
    folds: int | None = None
    fold: int = 0

    def __post_init__(self) -> None:
        if self.val_fraction is not None and not (is_number(self.val_fraction) and 0.0 < self.val_fraction < 1.0):
            raise InvalidArgumentError(
                f"val_fraction must be between 0 and 1, got {self.val_fraction!r}; 0.2 is common"
            )
        if self.seed is not None and not is_integer(self.seed):
            raise InvalidArgumentError(f"seed must be an integer, got {self.seed!r}")
        if self.folds is not None and not is_integer(self.folds, 2):
            raise InvalidArgumentError(f"folds must be an integer >= 2, got {self.folds!r}; 5 is common")
        if not is_integer(self.fold, 0) or self.fold >= (self.folds or 1):
            allowed = "set folds too" if self.folds is None else f"it must be from 0 to {self.folds - 1}"
            raise InvalidArgumentError(f"fold = {self.fold!r} with folds = {self.folds!r}: {allowed}")
        if self.folds is not None and self.val_fraction not in (None, _DEFAULT_FRACTION):
            raise InvalidArgumentError(
                f"val_fraction = {self.val_fraction} and folds = {self.folds} both decide which files are val; remove "
                "one of them"
            )
        if self.groups is not None:
            _compiled(self.groups)

    @property
    def given(self) -> list[str]:
        """The arguments that only make sense for files that are split by this rule, if they were set."""
        options = {
            "groups": self.groups is not None,
            "folds": self.folds is not None,
            "val_fraction": self.val_fraction is not None,
            "seed": self.seed is not None,
        }
        return [name for name, is_set in options.items() if is_set]

    def val_rows(self, keys: Collection[str], names: Iterable[str], where: str) -> npt.NDArray[np.bool_]:
        """Returns which files are val, as bool (n,).

        Args:
            keys: of the files.
            names: of the files; without `groups` these are hashed, and differ.
            where: the folder, for messages.

        Raises:
            InvalidArgumentError: if `groups` does not match a key.
            DatasetNotFoundError: if there are fewer files or groups than parts.
        """
        groups, group_of_row = self._groups(keys, where)
        noun, count = ("images", len(keys)) if self.groups is None else ("groups", len(groups))
        parts = self.folds or 2
        if count < parts:
            what = "one image" if len(keys) == 1 else f"{count} {noun if count > 1 else noun[:-1]}"
            into = "train and val" if self.folds is None else f"{self.folds} folds"
            remedy = "add more" if self.groups is None else f"groups = {self.groups!r} must name more"
            raise DatasetNotFoundError(f"{where} has {what}, which cannot be split into {into}; {remedy}")
        ranked = self._ranked(names if self.groups is None else groups)
        sizes = np.bincount(group_of_row).tolist()
        chosen = np.zeros(count, bool)
        chosen[self._fold(ranked, sizes) if self.folds else self._fraction(ranked, sizes)] = True
        return chosen if self.groups is None else chosen[group_of_row]

    def _groups(self, keys: Collection[str], where: str) -> tuple[Collection[str], npt.NDArray[np.int64]]:
        """Returns the names of the groups, and the number of the group of each file; nothing if there are none."""
        numbers: dict[str, int] = {}
        of_row, unmatched = array("q"), list[str]()
        group_of = None if self.groups is None else _compiled(self.groups)
        for key in keys if group_of is not None else ():
            match = group_of.search(key) if group_of is not None else None
            if match is None or match[1] is None:
                unmatched.append(key)
            else:
                of_row.append(numbers.setdefault(match[1], len(numbers)))
        if unmatched:
            raise InvalidArgumentError(
                f"groups = {self.groups!r} does not match {len(unmatched)} of {len(keys)} files in {where}: "
                f"{first_few(unmatched)}; it is searched in the path below the images folder, without suffix"
            )
        return numbers, np.frombuffer(of_row, np.int64)

    def _ranked(self, names: Iterable[str]) -> npt.NDArray[np.intp]:
        """Returns the places of names in the order of their hashes."""
        hashes = bytearray()
        for name in names:
            hashes += _hash(f"{self.seed or 0}/{name}")
        return np.lexsort(np.frombuffer(hashes, ">u8").reshape(-1, 4).T[::-1])

    def _fraction(self, ranked: npt.NDArray[np.intp], sizes: Sequence[int]) -> Sequence[int] | npt.NDArray[np.intp]:
        fraction = _DEFAULT_FRACTION if self.val_fraction is None else self.val_fraction
        if self.groups is None:
            return ranked[: min(max(round(fraction * len(ranked)), 1), len(ranked) - 1)]
        wanted, taken, count = fraction * sum(sizes), list[int](), 0
        for group in ranked.tolist():  # a group that brings the number of files closer to what is wanted
            if abs(count + sizes[group] - wanted) < abs(count - wanted):
                taken.append(group)
                count += sizes[group]
        if not taken:
            taken = [min(ranked.tolist(), key=lambda group: abs(sizes[group] - wanted))]
        return taken[:-1] if len(taken) == len(ranked) else taken

    def _fold(self, ranked: npt.NDArray[np.intp], sizes: Sequence[int]) -> Sequence[int] | npt.NDArray[np.intp]:
        assert self.folds is not None
        if self.groups is None:
            bounds = [len(ranked) * part // self.folds for part in (self.fold, self.fold + 1)]
            return ranked[bounds[0] : bounds[1]]
        folds: list[list[int]] = [[] for _ in range(self.folds)]
        totals = [0] * self.folds
        # the largest first, each to the smallest fold
        for group in sorted(ranked.tolist(), key=lambda group: -sizes[group]):
            smallest = totals.index(min(totals))
            folds[smallest].append(group)
            totals[smallest] += sizes[group]
        return folds[self.fold]


def _hash(text: str) -> bytes:
    # names of files may hold bytes that are not UTF-8, which Python keeps as surrogates
    return hashlib.sha256(text.encode(errors="surrogateescape")).digest()


def _compiled(groups: object) -> re.Pattern[str]:
    if not isinstance(groups, str):
        raise InvalidArgumentError(f"groups must be a regular expression as a string, got {groups!r}")
    try:
        pattern = re.compile(groups)
    except re.error as error:
        raise InvalidArgumentError(f"groups = {groups!r} is not a regular expression: {error}") from None
    if not pattern.groups:
        raise InvalidArgumentError(
            f"groups = {groups!r} has no group: put the part that names the sequence into parentheses, as in "
            "'^(.*)_[0-9]+$'"
        )
    return pattern


# ---- lists of names --------------------------------------------------------------------------------------------------

SplitFile = str | Mapping[str, str]


def check_split_file(split_file: object) -> None:
    """Checks the argument `split_file`.

    Raises:
        InvalidArgumentError: if it is neither a path with `{split}` nor a table of paths.
    """
    if isinstance(split_file, str):
        if "{split}" not in split_file:
            raise InvalidArgumentError(
                f"split_file = {split_file!r} must contain {{split}}, as in 'splits/{{split}}.txt', or be a table such "
                "as { train = 'train.txt', val = 'val.txt' }"
            )
        return
    if not isinstance(split_file, Mapping) or not split_file:
        raise InvalidArgumentError(
            "split_file must be a path such as 'splits/{split}.txt', or a table such as { train = 'train.txt', val = "
            f"'val.txt' }}, got {split_file!r}"
        )
    for split, path in split_file.items():
        if split not in SPLITS:
            hint = nearest(str(split), SPLITS)
            raise InvalidArgumentError(f"split_file has the key {split!r}.{hint} Allowed: {', '.join(SPLITS)}")
        if not isinstance(path, str):
            raise InvalidArgumentError(f"split_file.{split} must be the path of a text file, got {path!r}")


def list_path(root: Path, split_file: SplitFile, split: str) -> Path | None:
    """Returns the path of the list of a split, which need not exist, or None if the split has no list."""
    if isinstance(split_file, str):
        paths = [root / split_file.replace("{split}", name) for name in NAMES_OF.get(split, (split,))]
        return next((path for path in paths if path.is_file()), paths[0])
    return root / split_file[split] if split in split_file else None


def listed_keys(
    root: Path, split_file: SplitFile, split: str, keys: Collection[str], mask_suffix: str, missing: str
) -> list[str]:
    """Returns the keys that the list of a split names, sorted.

    A line is a name, or paths of an image and its mask; folders above the images and suffixes may be there or not.

    Args:
        root: folder that the paths of lists are relative to.
        split_file: see `check_split_file`.
        split: whose list.
        keys: of all files.
        mask_suffix: a list may hold the names of masks.
        missing: `"skip"` leaves out names without a file, with a warning.

    Raises:
        DatasetNotFoundError: if there is no such list, a name has no file or several, or train shares a file with
            another split.
        CorruptFileError: if the list is empty.
    """
    path = list_path(root, split_file, split)
    if path is None:
        assert isinstance(split_file, Mapping)
        raise DatasetNotFoundError(
            f"FolderDataset has no {split} split: split_file has lists of {', '.join(split_file)}; add {split}"
        )
    if not path.is_file():
        raise DatasetNotFoundError(f"FolderDataset has no {split} split: split_file names {path}, which does not exist")
    names = _Names(keys, mask_suffix)
    found, absent = names.resolve(path)
    if absent:
        some = sorted(keys)[:3]
        message = (
            f"{path} lists {len(found) + len(absent)} names, {len(absent)} of which are no image: {first_few(absent)}; "
            f"the images are named {', '.join(some)}"
        )
        if missing == "error" or not found:
            remedy = "; correct the list" + (", or leave them out with missing='skip'" if found else "")
            raise DatasetNotFoundError(message + remedy)
        warnings.warn(f"{message}; they are left out", stacklevel=5)
    for other in SPLITS:
        beside = list_path(root, split_file, other)
        if other == split or "train" not in (split, other) or beside is None or not beside.is_file():
            continue
        if both := sorted(set(found) & set(names.resolve(beside)[0])):
            raise DatasetNotFoundError(
                f"{len(both)} files are listed in both {path} and {beside}: {first_few(both)}; remove them from one"
            )
    return sorted(found)


def names_in_list(path: Path, keys: Iterable[str]) -> list[str]:
    """Returns the keys of the images that a list names, other lines left out.

    Raises:
        DatasetNotFoundError: if a name is that of several images.
        CorruptFileError: if the list is empty or no text.
    """
    return resolve_list(path, keys)[0]


def resolve_list(path: Path, keys: Iterable[str], mask_suffix: str = "") -> tuple[list[str], list[str]]:
    """Returns the keys of the images that a list names, each once, and its names that no image has.

    Args:
        path: the list.
        keys: of all images.
        mask_suffix: a list may hold the names of masks.

    Raises:
        DatasetNotFoundError: if there is no such list, or a name is that of several images.
        CorruptFileError: if the list is empty or no text.
    """
    return _Names(keys, mask_suffix).resolve(path)


class _Names:
    """Finds the keys of names in lists."""

    def __init__(self, keys: Iterable[str], mask_suffix: str) -> None:
        self._by_last: dict[str, list[str]] = defaultdict(list)
        for key in keys:
            self._by_last[key.rsplit("/", 1)[-1]].append(key)
        self._mask_suffix = mask_suffix

    def resolve(self, path: Path) -> tuple[list[str], list[str]]:
        """Returns the keys of the listed files, each once, and the names without a file."""
        lines = read_lines(path)
        if not lines:
            raise CorruptFileError(f"{path} lists no files; write one name per line")
        found: dict[str, None] = {}
        absent = []
        for line in lines:
            matches = next(filter(None, map(self._keys_of, _readings(line))), [])
            if len(matches) > 1:
                raise DatasetNotFoundError(
                    f"{path} lists {line[:_SHOWN]!r}, which is the name of {len(matches)} images: "
                    f"{first_few(matches)}; write their folders too"
                )
            if matches:
                found[matches[0]] = None
            else:
                absent.append(line)
        return list(found), absent

    def _keys_of(self, name: str) -> Sequence[str]:
        endings = [name]
        if self._mask_suffix and name.lower().endswith(self._mask_suffix.lower()):
            endings.append(name[: -len(self._mask_suffix)])
        for ending in endings:
            last = ending.rsplit("/", 1)[-1]
            fitting = [
                key
                for key in self._by_last.get(last, ())
                if f"/{key}".endswith(f"/{ending}") or f"/{ending}".endswith(f"/{key}")
            ]
            if fitting:
                longest = max(map(len, fitting))
                exact = [key for key in fitting if len(key) == longest and f"/{ending}".endswith(f"/{key}")]
                return exact or fitting
        return ()


def _readings(line: str) -> list[str]:
    """Returns the names that a line may hold: the whole line, or the first of several paths; without suffix."""
    first = re.split(r"[\s,;]", line, maxsplit=1)[0]
    names = [same_name(text).replace("\\", "/").removeprefix("./") for text in dict.fromkeys((line, first)) if text]
    without = [name[: -len(suffix)] for name in names for suffix in IMAGE_SUFFIXES if name.lower().endswith(suffix)]
    return list(dict.fromkeys([*names, *without]))
