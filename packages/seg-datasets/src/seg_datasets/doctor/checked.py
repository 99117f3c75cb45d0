"""What the rules of the doctor look at: the splits with what was read of their files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from seg_datasets.doctor.examine import STATES, Examined, ids_in
from seg_datasets.doctor.kinds import KINDS
from seg_datasets.doctor.report import DataFinding
from seg_datasets.doctor.sources import Source
from seg_datasets.reading.pairs import PairList

__all__ = ["PARAMS", "WITH_FILE", "CheckedSplit", "finding", "state", "told_apart"]

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
        """Returns the path of a mask that is there."""
        return self.pairs.names(row)[-1]

    def rows(self, which: str, *states: str) -> npt.NDArray[np.intp]:
        """Returns the rows whose `"image"` or `"mask"` has one of these states."""
        return np.flatnonzero(np.isin(self.examined.rows[which], [state(name) for name in states]))

    @cached_property
    def id_sets(self) -> list[tuple[int, frozenset[int]]]:
        """The row and the raw ids of each mask that was read; masks of the same ids share one set."""
        examined, known = self.examined, dict[bytes, frozenset[int]]()
        found = []
        for row in self.rows("mask", "ok", "rgb-mask").tolist():
            bits = examined.rows["ids"][row].tobytes()
            if bits not in known:
                known[bits] = frozenset(ids_in(examined.rows["ids"][row]))
            found.append((row, known[bits] | examined.large[row] if row in examined.large else known[bits]))
        return found

    def notes(self, which: str) -> Iterator[tuple[int, str, str]]:
        """Yields the row, state and sentence of each file that cannot be read."""
        column = self.examined.rows[which]
        for row in np.flatnonzero((column != state("ok")) & (column != state("absent"))).tolist():
            yield row, STATES[column[row]], self.examined.notes.get((row, which), "")


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
