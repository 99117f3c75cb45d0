"""Counts of the pairs of values (truth, prediction) in label maps: what a confusion matrix is cut out of.

Bytes on the CPU have a quick way; `PairTable` is for all else. Both count pixels that are ignored or wrong in the same
pass as all others and tell them apart when the counts are read.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["PairTable", "as_bytes", "count_bytes"]

# Elements that an operation handles in the calling thread, and that stay in its cache. Larger operations wait for a
# pool of threads each, which on a busy machine takes up to a hundred times longer than the counting.
_STRIP = 32768
# Neighboring pixels mostly have the same values, and to add to one number time and again means to wait for it each
# time. So neighbors are counted in copies of the table, one after the other, which are added up at the end.
_COPIES = 8


def as_bytes(values: Tensor) -> Tensor | None:
    """Returns flat integers on the CPU as uint8, `values` themselves where they are; None if one does not fit."""
    if values.dtype == torch.uint8:
        return values
    array = values.numpy()
    narrow = np.empty(array.shape, np.uint8)
    for start in range(0, len(array), _STRIP):
        strip = array[start : start + _STRIP]
        # all bits that any value has; those of a negative one reach up to the sign
        if not 0 <= int(np.bitwise_or.reduce(strip)) < 256:
            return None
        np.copyto(narrow[start : start + _STRIP], strip, casting="unsafe")
    return torch.from_numpy(narrow)


def count_bytes(truth: Tensor, pred: Tensor, num_classes: int) -> tuple[Tensor, int]:
    """Counts flat uint8 label maps on the CPU, where 255 is ignored in the truth.

    Args:
        truth: class ids or 255.
        pred: class ids.
        num_classes: at most 254.

    Returns:
        The confusion matrix, int64 (K, K), and the number of pixels that are ignored and have a prediction within the
        classes. All other pixels are wrong.
    """
    # rows: 255, the classes, all else; columns: the classes, all else
    columns = num_classes + 1
    num_bins = (num_classes + 2) * columns
    copies = _COPIES if _COPIES * num_bins <= _STRIP else 1  # large ones would take longer to add up
    length = min(max(_STRIP, num_bins), len(truth))
    dtype = torch.int16 if copies * num_bins <= torch.iinfo(torch.int16).max else torch.int32
    first_bins = torch.arange(copies, dtype=dtype).mul_(num_bins).repeat(length // copies + 1)[:length]
    # each strip uses this memory again: to ask for it anew would take a third of the time
    limited, row, place = (torch.empty(length, dtype=d) for d in (torch.uint8, dtype, dtype))
    counts = torch.zeros(copies * num_bins, dtype=torch.int64)
    for start in range(0, len(truth), length):
        truths, preds = truth[start : start + length], pred[start : start + length]
        if len(truths) < length:
            limited, row, place, first_bins = (b[: len(truths)] for b in (limited, row, place, first_bins))
        row.copy_(torch.add(truths, 1, out=limited).clamp_(max=num_classes + 1))  # 255 wraps around to 0
        place.copy_(torch.clamp(preds, max=num_classes, out=limited))
        place.add_(row, alpha=columns).add_(first_bins)
        counts += torch.bincount(place, minlength=len(counts))
    table = counts.view(copies, -1, columns).sum(0)
    return table[1:-1, :-1], int(table[0, :-1].sum())


@dataclass(frozen=True)
class PairTable:
    """A table with a row for each value of the truth and a column for each value of the prediction.

    It reaches beyond the class ids. The first and the last row and column also take all values further out; an ignored
    value out there has a row of its own.

    Attributes:
        num_classes: number of classes K, whose ids are 0 to K - 1.
        ignore_index: value of the truth that is not counted, not a class id.
    """

    num_classes: int
    ignore_index: int

    @property
    def low(self) -> int:
        """Value of the first row and column; the next is told apart."""
        return -2

    @property
    def high(self) -> int:
        """Value of the last row and column; a wrong byte is told from another."""
        return max(self.num_classes, 255) + 2

    @property
    def size(self) -> int:
        """Number of columns; there is one row more, for an ignored value that lies further out."""
        return self.high - self.low + 1

    @property
    def ignored_row(self) -> int:
        """Row of the ignored pixels."""
        inside = self.low < self.ignore_index < self.high
        return self.ignore_index - self.low if inside else self.size

    def zeros(self, device: torch.device) -> Tensor:
        """Returns an empty table on `device`: int64 (rows, columns)."""
        return torch.zeros(self.size + 1, self.size, dtype=torch.int64, device=device)

    def add_to(self, counts: Tensor, truth: Tensor, pred: Tensor) -> None:
        """Adds flat label maps of any integer type to `counts`, all on one device; nothing waits for it."""
        # a CPU keeps a strip in its cache; another device is given all at once
        length = _STRIP if counts.device.type == "cpu" else max(1, truth.numel())
        one = torch.ones((), dtype=torch.int64, device=counts.device)
        for truths, preds in zip(torch.split(truth, length), torch.split(pred, length), strict=True):
            row = truths.long().clamp(self.low, self.high).sub_(self.low)
            if self.ignored_row == self.size:
                row.masked_fill_(truths.long() == self.ignore_index, self.size)
            place = preds.long().clamp(self.low, self.high).sub_(self.low).add_(row, alpha=self.size)
            # unlike bincount, this does not ask the device for the largest place first
            counts.view(-1).scatter_add_(0, place, one.expand_as(place))

    def matrix(self, counts: Tensor) -> Tensor:
        """Returns the confusion matrix within `counts`: (K, K)."""
        classes = slice(-self.low, self.num_classes - self.low)
        return counts[classes, classes]

    def wrong_values(self, counts: Tensor) -> dict[str, dict[str, int]]:
        """Returns for `"truths"` and `"preds"` the values that are not allowed, as texts, with their pixels.

        Args:
            counts: int64 (rows, columns), on the CPU.
        """
        found: dict[str, dict[str, int]] = {}
        for side, totals, allowed in (("truths", counts.sum(1), self.ignored_row), ("preds", counts.sum(0), None)):
            found[side] = {
                self._name(place): int(totals[place])
                for place in totals.nonzero().flatten().tolist()
                if not 0 <= place + self.low < self.num_classes and place != allowed
            }
        return found

    def _name(self, place: int) -> str:
        end = {0: " or less", self.size - 1: " or more"}.get(place, "")
        return f"{place + self.low}{end}"
