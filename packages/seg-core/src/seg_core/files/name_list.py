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
    """An immutable sequence of strings, such as paths, in one buffer without what all begin and end with.

    It equals any list, tuple or `NameList` of the same strings.

    Args:
        names: the strings; of an iterator no more than one is in memory at a time. Paths are stored as the strings
            that `os.fspath` gives.
    """

    __slots__ = ("_buffer", "_ends", "_prefix", "_suffix")

    def __init__(self, names: Iterable[str | os.PathLike[str]] = ()) -> None:
        parts = _Parts()
        for name in names:
            parts.add(os.fspath(name))
        self._set(parts.prefix, parts.suffix, *parts.stored())

    def _set(self, prefix: str, suffix: str, buffer: bytes, ends: "array[int]") -> None:
        self._prefix, self._suffix, self._buffer, self._ends = prefix, suffix, buffer, ends

    @classmethod
    def pair(cls, rows: Iterable[tuple[str, str]]) -> "tuple[NameList, NameList]":
        """Returns the first and the second strings of some pairs, in the same memory where they allow it.

        Args:
            rows: the pairs; of an iterator no more than one is in memory at a time.
        """
        parts = _Parts(), _Parts()
        add_first, add_second = (part.add for part in parts)
        for first, second in rows:
            add_first(first)
            add_second(second)
        lists = cls(), cls()
        for names, part in zip(lists, parts, strict=True):
            names._set(part.prefix, part.suffix, *part.stored())
        return lists[0], lists[1].sharing(lists[0])

    @property
    def prefix(self) -> str:
        """What all names begin with, the longest such string; the name itself if there is one."""
        return self._prefix

    def sharing(self, other: "NameList") -> "NameList":
        """Returns these names, in the memory of another list if its names differ by what all begin and end with alone.

        So paths of images and masks of the same names take the memory of one of them.
        """
        if self._buffer != other._buffer or self._ends != other._ends:
            return self
        shared = NameList()
        shared._set(self._prefix, self._suffix, other._buffer, other._ends)
        return shared

    def where(self, keep: Iterable[Any]) -> "NameList":
        """Returns the names for which `keep`, one value per name, is true."""
        return NameList(itertools.compress(self, keep))

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
            return NameList(self[place] for place in range(len(self))[index])
        place = operator.index(index)
        place += len(self._ends) if place < 0 else 0
        if not 0 <= place < len(self._ends):
            raise IndexError(f"index {index} is out of range for {len(self._ends)} names")
        start = self._ends[place - 1] if place else 0
        return self._prefix + self._buffer[start : self._ends[place]].decode(*_ENCODING) + self._suffix

    def __iter__(self) -> Iterator[str]:
        start = 0
        for end in self._ends:
            yield self._prefix + self._buffer[start:end].decode(*_ENCODING) + self._suffix
            start = end

    def __eq__(self, other: Any) -> bool:
        if not isinstance(other, NameList | list | tuple):
            return NotImplemented
        if isinstance(other, NameList) and (self._prefix, self._suffix) == (other._prefix, other._suffix):
            return self._buffer == other._buffer and self._ends == other._ends
        return len(self) == len(other) and all(map(operator.eq, self, other))

    __hash__ = None  # type: ignore[assignment]  # as a list, which it may equal

    def __repr__(self) -> str:
        return f"NameList({list(self)!r})"


class _Parts:
    """What is stored of strings that come one after the other.

    Of each string is stored what stands between the prefix and the suffix of all so far. They become shorter with a
    string that has others; what was stored before gets the rest of them at the end, in one pass.

    Attributes:
        prefix, suffix: what all strings begin and end with.
    """

    def __init__(self) -> None:
        self.prefix = self.suffix = ""
        self._buffer = bytearray()
        self._ends = array("q")
        self._changes: list[tuple[int, str, str]] = []  # number of strings before a change, prefix and suffix until it

    def add(self, text: str) -> None:
        """Adds a string."""
        if not self._ends:
            self.prefix = text
        start, end = len(self.prefix), len(text) - len(self.suffix)
        fits = start <= end and text.startswith(self.prefix) and text.endswith(self.suffix)
        if not (fits if self._changes else text == self.prefix):
            self._shorten(text)
            start, end = len(self.prefix), len(text) - len(self.suffix)
        self._buffer += text[start:end].encode(*_ENCODING)
        self._ends.append(len(self._buffer))

    def _shorten(self, text: str) -> None:
        count, before = len(self._ends), self.prefix
        self._changes.append((count, before, self.suffix))
        self.prefix = os.path.commonprefix([before, text])  # noqa: RUF071 - of characters, not of folders
        # before the first change all strings were equal
        known = self.suffix if len(self._changes) > 1 else before[len(self.prefix) :]
        rest = text[len(self.prefix) :]
        self.suffix = os.path.commonprefix([known[::-1], rest[::-1]])[::-1]  # noqa: RUF071 - as above

    def stored(self) -> tuple[bytes, "array[int]"]:
        """Returns what is stored of all strings, and where each ends."""
        if not self._changes:
            return bytes(self._buffer), self._ends
        buffer, ends, start, row = bytearray(), array("q"), 0, 0
        for count, prefix, suffix in self._changes:
            while row < count:
                end = self._ends[row]
                text = prefix + self._buffer[start:end].decode(*_ENCODING) + suffix
                buffer += text[len(self.prefix) : len(text) - len(self.suffix)].encode(*_ENCODING)
                ends.append(len(buffer))
                start, row = end, row + 1
        moved = len(buffer) - start
        buffer += self._buffer[start:]
        ends.extend(end + moved for end in self._ends[row:])
        return bytes(buffer), ends
