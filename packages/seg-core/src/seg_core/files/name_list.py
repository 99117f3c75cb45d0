"""Many names in little memory, which worker processes share.

A list of strings has one Python object per name. Reading an object writes to it, as Python counts the references to
each, so a forked worker process gets its own copy of the memory of all names that it reads: for the 118,287 images and
masks of COCO more than 100 MiB per worker. A `NameList` has two objects of memory that reading does not write to.
"""

import itertools
import operator
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

__all__ = ["NameList"]

# every string has a form in it, names of files that are not Unicode included (Python reads their bytes as surrogates)
_ENCODING = ("utf-8", "surrogatepass")


class NameList(Sequence[str]):
    """An immutable sequence of strings, such as paths, in one buffer without what all begin with.

    It equals any list, tuple or `NameList` of the same strings.

    Args:
        names: the strings. Paths are stored as the strings that `os.fspath` gives.
    """

    __slots__ = ("_buffer", "_ends", "_prefix")

    def __init__(self, names: Iterable[str | os.PathLike[str]] = ()) -> None:
        texts = [os.fspath(name) for name in names]
        # what the first and the last in order have in common, all between them have too; characters, not folders
        self._prefix = os.path.commonprefix([min(texts), max(texts)]) if texts else ""  # noqa: RUF071
        start = len(self._prefix)
        encoded = [text[start:].encode(*_ENCODING) for text in texts]
        self._buffer = b"".join(encoded)
        self._ends = array("q", itertools.accumulate(map(len, encoded)))

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "NameList": ...

    def __getitem__(self, index: int | slice) -> "str | NameList":
        """Returns name `index`, or a `NameList` of a slice.

        Raises:
            IndexError: if there is no such name.
        """
        if isinstance(index, slice):
            return NameList([self[place] for place in range(len(self))[index]])
        place = operator.index(index)
        place += len(self._ends) if place < 0 else 0
        if not 0 <= place < len(self._ends):
            raise IndexError(f"index {index} is out of range for {len(self._ends)} names")
        start = self._ends[place - 1] if place else 0
        return self._prefix + self._buffer[start : self._ends[place]].decode(*_ENCODING)

    def __iter__(self) -> Iterator[str]:
        start = 0
        for end in self._ends:
            yield self._prefix + self._buffer[start:end].decode(*_ENCODING)
            start = end

    def __eq__(self, other: Any) -> bool:
        if not isinstance(other, NameList | list | tuple):
            return NotImplemented
        return len(self) == len(other) and all(map(operator.eq, self, other))

    __hash__ = None  # type: ignore[assignment]  # as a list, which it may equal

    def __repr__(self) -> str:
        return f"NameList({list(self)!r})"
