"""What the rules of the doctor look at: the splits with what was read of their files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import numpy as np
import numpy.typing as npt

from seg_datasets.doctor.examine import STATES, Examined, ids_in
from seg_datasets.doctor.kinds import KINDS
from seg_datasets.doctor.report import DataFinding
from seg_datasets.doctor.sources import Source
from seg_datasets.reading.pairs import PairList

__all__ = ["PARAMS", "WITH_FILE", "CheckedSplit", "IdSets", "finding", "state", "told_apart"]

PARAMS = "data.dataset.params"
"""Where the options of a dataset are set in a config."""
WITH_FILE = tuple(name for name in STATES if name != "absent")
"""States of files that are there."""

# kinds that the archive of an official dataset does not have
_RESTORED = (
    *("empty-file", "unreadable-image", "unreadable-mask", "size-mismatch", "orientation", "rgb-mask", "color-mask"),
    *("expanded-palette", "permuted-palette", "binary-0-255", "off-by-one", "id-out-of-range", "antialiased-mask"),
    *("jpeg-mask", "float-mask", "wrong-bit-depth", "mixed-channels", "alpha", "duplicate-across-splits"),
)


@dataclass(frozen=True)
class CheckedSplit:
    """A split after its files were read.

    Attributes:
        name: name of the split.
        pairs: every image, with its mask or None.
        examined: what was read of them, in the same order.
        has_masks: whether the split has masks at all.
    """

    name: str
    pairs: PairList
    examined: Examined
    has_masks: bool

    def image(self, row: int) -> str:
        """Returns the path of an image."""
        return self.pairs.names(row)[0]

    def mask(self, row: int) -> str:
        """Returns the path of a mask that is there; of one with a file per class, the first of these."""
        return self.masks(row)[0]

    def masks(self, row: int) -> tuple[str, ...]:
        """Returns the path of a mask that is there, or of its files."""
        if not self.pairs.has_planes:
            return self.pairs.names(row)[-1:]
        pair = self.pairs[row]
        return tuple(str(path) for path in pair.planes or (pair.mask,) if path is not None)

    def plane(self, row: int, place: int) -> str:
        """Returns the path of the mask of a class: its own file, or that of all classes."""
        pair = self.pairs[row]
        return str(pair.planes[place] if pair.planes else pair.mask)

    def mask_faults(self) -> Iterator[tuple[int, str, str, str]]:
        """Yields the row, path, state and sentence of each mask file that is there and not `"ok"`."""
        for row, name, text in self.notes("mask"):
            if row not in self.examined.plane_faults:
                yield row, self.mask(row), name, text
        for row, faults in self.examined.plane_faults.items():
            for place, name, text in faults:
                yield row, self.plane(row, place), name, text

    def rows(self, which: str, *states: str) -> npt.NDArray[np.intp]:
        """Returns the rows whose `"image"` or `"mask"` has one of these states."""
        return np.flatnonzero(self.is_in(which, *states))

    def is_in(self, which: str, *states: str) -> npt.NDArray[np.bool_]:
        """Returns for each row whether its `"image"` or `"mask"` has one of these states."""
        table = np.zeros(len(STATES), bool)
        table[[state(name) for name in states]] = True
        found: npt.NDArray[np.bool_] = table[self.examined.rows[which]]
        return found

    @cached_property
    def id_sets(self) -> "IdSets":
        """The row and the raw ids of each mask that was read; masks of the same ids share one set."""
        examined, known, numbers = self.examined, dict[bytes, frozenset[int]](), dict[frozenset[int], int]()
        rows = self.rows("mask", "ok", "rgb-mask").astype(np.uint32)
        of_row = np.empty(len(rows), np.uint32)
        for place, row in enumerate(rows.data):
            bits = examined.rows["ids"][row].tobytes()
            if bits not in known:
                known[bits] = frozenset(ids_in(examined.rows["ids"][row]))
            ids = known[bits] | examined.large[row] if row in examined.large else known[bits]
            of_row[place] = numbers.setdefault(ids, len(numbers))
        return IdSets(rows, of_row, tuple(numbers))

    def notes(self, which: str) -> Iterator[tuple[int, str, str]]:
        """Yields the row, state and sentence of each file that cannot be read."""
        column = self.examined.rows[which]
        for row in np.flatnonzero((column != state("ok")) & (column != state("absent"))).tolist():
            yield row, STATES[column[row]], self.examined.notes.get((row, which), "")


class IdSets(Sequence[tuple[int, frozenset[int]]]):
    """The rows of masks with their ids; a tuple is created on access.

    Args:
        rows: uint32 (n,).
        of_row: uint32 (n,), the number of the set of each row.
        sets: the sets of ids, all different.
    """

    def __init__(
        self, rows: npt.NDArray[np.uint32], of_row: npt.NDArray[np.uint32], sets: tuple[frozenset[int], ...]
    ) -> None:
        self._rows = rows
        self._of_row = of_row
        self.sets = sets

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> tuple[int, frozenset[int]]: ...
    @overload
    def __getitem__(self, index: slice) -> "IdSets": ...

    def __getitem__(self, index: int | slice) -> "tuple[int, frozenset[int]] | IdSets":
        """Returns row and ids number `index`, or a slice of these."""
        if isinstance(index, slice):
            return IdSets(self._rows[index], self._of_row[index], self.sets)
        return int(self._rows[index]), self.sets[self._of_row[index]]

    def __iter__(self) -> Iterator[tuple[int, frozenset[int]]]:
        return zip(self._rows.data, map(self.sets.__getitem__, self._of_row.data), strict=True)


def state(name: str) -> int:
    """Returns the number of a state in a record."""
    return STATES.index(name)


def told_apart(noun: str, kind: str, text: str, remedy: str) -> tuple[str, str]:
    """Returns what was found about a file that cannot be read, and what to do, from the sentence of its reader.

    Args:
        noun: `"image"` or `"mask"`.
        kind: name of the kind.
        text: the sentence, what to do behind a semicolon.
        remedy: what to do about files of this kind; that of the reader is better if a file is of a kind of its own.
    """
    if kind == "empty-file":
        return "the file has 0 bytes", remedy
    found, _, advice = text.partition("; ")
    is_own = kind.startswith("unreadable") and advice and not advice.startswith("replace the file")
    return f"the {noun} {found}", advice if is_own else remedy


def finding(
    source: Source,
    kind: str,
    paths: Sequence[str],
    detail: str,
    remedy: str,
    config: str = "",
    *,
    severity: str = "",
    place: str = "",
) -> DataFinding:
    """Returns a finding.

    Args:
        source: the dataset.
        kind: name of the kind.
        paths: the files concerned.
        detail: what was found.
        remedy: what to do about a dataset of one's own; files of an official one are restored from the archive.
        config: line of a config that does it instead.
        severity: by default that of the kind.
        place: the split, for what is wrong with it as a whole; by default the first of the files.
    """
    files = tuple(source.shown(path) for path in paths)
    if source.is_official and not place and not config and kind in _RESTORED:
        remedy = f"{source.again}, to restore the official file"
    return DataFinding(
        kind, severity or KINDS[kind].severity, place or files[0], detail, remedy[0].upper() + remedy[1:], config, files
    )
