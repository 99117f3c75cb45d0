"""Files by their keys in little memory: what a dataset lists before images and masks are paired."""

import bisect
import itertools
import operator
from array import array
from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping, ValuesView
from pathlib import Path

import numpy as np
import numpy.typing as npt

from seg_core.errors import UserError
from seg_core.files.name_list import NameList

__all__ = ["FileTable", "Rows", "Same", "matched"]

Rows = npt.NDArray[np.bool_]
"""Whether each file of a table has some property."""
Same = Callable[[str, str, str], UserError]
"""Returns the error about a key and the paths of two files that have it."""


class FileTable(Mapping[str, Path]):
    """An immutable mapping of keys to files, sorted by key, with no Python object per file; see `NameList`.

    A path is created on access. To look up a single key takes microseconds; whole tables are compared by `matched`.

    Args:
        found: (key, path) of each file, in any order; of an iterator one is in memory at a time. Keys hold no NUL.
        same: called if two files have the same key, for the error to raise; None takes the first of them.

    Raises:
        UserError: that of `same`.
    """

    __slots__ = ("_keys", "paths")

    def __init__(self, found: Iterable[tuple[str, str]] = (), same: Same | None = None) -> None:
        self._keys, self.paths = NameList.pair(found)
        if not all(map(operator.lt, self._keys, itertools.islice(self._keys, 1, None))):
            rows = self._sorted(same)
            self._keys, self.paths = NameList.pair((self._keys[row], self.paths[row]) for row in rows)

    def _sorted(self, same: Same | None) -> "array[int]":
        """Returns the rows in the order of their keys, the first row of each key."""
        # strings alone take less memory than keys with rows beside them
        texts = [f"{key}\0{row:012}" for row, key in enumerate(self._keys)]
        texts.sort()
        rows, last = array("q"), None
        twice: tuple[int, int] | None = None
        for text in texts:
            key, row = text[:-13], int(text[-12:])
            if key != last:
                rows.append(row)
                last = key
            elif same is not None and self.paths[row] != self.paths[rows[-1]] and (twice is None or row < twice[1]):
                twice = rows[-1], row
        if same is not None and twice is not None:
            raise same(self._keys[twice[0]], self.paths[twice[0]], self.paths[twice[1]])
        return rows

    @classmethod
    def of(cls, files: Mapping[str, Path]) -> "FileTable":
        """Returns a mapping as a table."""
        return files if isinstance(files, cls) else cls((key, str(path)) for key, path in files.items())

    def where(self, keep: Iterable[bool]) -> "FileTable":
        """Returns the files for which `keep`, one value per file in the order of the keys, is true."""
        rows: Rows = keep if isinstance(keep, np.ndarray) else np.fromiter(keep, bool, len(self))
        if rows.all():
            return self
        table = FileTable()
        table._keys, table.paths = NameList.pair(itertools.compress(self.rows(), rows))
        return table

    def _row(self, key: object) -> int:
        row = bisect.bisect_left(self._keys, key) if isinstance(key, str) else len(self)
        return row if row < len(self) and self._keys[row] == key else -1

    def __getitem__(self, key: str) -> Path:
        """Returns the file with a key.

        Raises:
            KeyError: if there is none.
        """
        if (row := self._row(key)) < 0:
            raise KeyError(key)
        return Path(self.paths[row])

    def __contains__(self, key: object) -> bool:
        return self._row(key) >= 0

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def rows(self) -> Iterator[tuple[str, str]]:
        """Yields the key and the path of each file, without creating paths."""
        return zip(self._keys, self.paths, strict=True)

    def items(self) -> ItemsView[str, Path]:
        """Returns the keys with their files, in the order of the keys."""
        return _Items(self)

    def values(self) -> ValuesView[Path]:
        """Returns the files, in the order of their keys."""
        return _Values(self)

    def __repr__(self) -> str:
        return f"FileTable({dict(self.items())!r})"


class _Items(ItemsView[str, Path]):
    _mapping: FileTable

    def __iter__(self) -> Iterator[tuple[str, Path]]:
        return zip(self._mapping, map(Path, self._mapping.paths), strict=True)


class _Values(ValuesView[Path]):
    _mapping: FileTable

    def __iter__(self) -> Iterator[Path]:
        return map(Path, self._mapping.paths)


def matched(one: FileTable, other: FileTable) -> tuple[Rows, Rows]:
    """Returns which files of two tables have a key that is in both.

    Returns:
        bool (n,) and (m,), the files of `one` and of `other` in the order of their keys.
    """
    in_one, in_other = np.zeros(len(one), bool), np.zeros(len(other), bool)
    if one._keys == other._keys:
        in_one[:] = in_other[:] = True
        return in_one, in_other
    firsts, seconds = enumerate(one), enumerate(other)
    first, second = next(firsts, None), next(seconds, None)
    while first is not None and second is not None:
        if first[1] < second[1]:
            first = next(firsts, None)
        elif second[1] < first[1]:
            second = next(seconds, None)
        else:
            in_one[first[0]] = in_other[second[0]] = True
            first, second = next(firsts, None), next(seconds, None)
    return in_one, in_other
