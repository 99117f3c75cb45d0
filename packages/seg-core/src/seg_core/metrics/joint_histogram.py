"""Joint histogram of (ground truth, prediction) pairs of label maps, from which the confusion matrix is computed.

`count_bytes` is a fast path for bytes on the CPU, `PairTable` is for everything else. Both count ignored and invalid
pixels in the same pass as all others, in separate bins.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["PairTable", "as_bytes", "count_bytes"]

# Elements per operation: few enough to run in the calling thread and stay in its cache. Larger operations use torch's
# pool of threads, and waiting for it on a busy machine takes up to a hundred times longer than counting.
_STRIP = 32768
# Neighboring pixels mostly have the same values, and repeated additions to one number wait for each other. So neighbors
# are counted in different copies of the table, which are added up at the end.
_COPIES = 8


def as_bytes(values: Tensor) -> Tensor | None:
    """Returns flat integers on the CPU as uint8, without a copy if they are; None if one does not fit."""
    if values.dtype == torch.uint8:
        return values
    array = values.numpy()
    narrow = np.empty(array.shape, np.uint8)
    for start in range(0, len(array), _STRIP):
        strip = array[start : start + _STRIP]
        # the bits of all values; a negative value sets the sign
        if not 0 <= int(np.bitwise_or.reduce(strip)) < 256:
            return None
        np.copyto(narrow[start : start + _STRIP], strip, casting="unsafe")
    return torch.from_numpy(narrow)


def count_bytes(truth: Tensor, pred: Tensor, num_classes: int) -> tuple[Tensor, int]:
    """Counts flat uint8 label maps on the CPU, where 255 in the ground truth is ignored.

    Args:
        truth: ground truth, class ids or 255.
        pred: class ids.
        num_classes: at most 254.

    Returns:
        The confusion matrix, int64 (K, K), and the number of ignored pixels whose prediction is a class id. All other
        pixels hold invalid values.
    """
    # rows: 255, the classes, everything else; columns: the classes, everything else
    columns = num_classes + 1
    num_bins = (num_classes + 2) * columns
    copies = _COPIES if _COPIES * num_bins <= _STRIP else 1  # adding up large ones would take longer
    length = min(max(_STRIP, num_bins), len(truth))
    dtype = torch.int16 if copies * num_bins <= torch.iinfo(torch.int16).max else torch.int32
    first_bins = torch.arange(copies, dtype=dtype).mul_(num_bins).repeat(length // copies + 1)[:length]
    # each strip reuses this memory: allocating it would take a third of the time
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
    """A table with a row per value of the ground truth and a column per value of the prediction.

    It extends beyond the class ids. The first and the last row and column also count all values further out; an ignored
    value further out has its own row.

    Attributes:
        num_classes: number of classes K, whose ids are 0 to K - 1.
        ignore_index: value of the ground truth that is not counted, not a class id.
    """

    num_classes: int
    ignore_index: int

    @property
    def low(self) -> int:
        """Value of the first row and column, which also count all values below it; -1 has its own."""
        return -2

    @property
    def high(self) -> int:
        """Value of the last row and column; every byte below has its own."""
        return max(self.num_classes, 255) + 2

    @property
    def size(self) -> int:
        """Number of columns; there is one more row, for an ignored value further out."""
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
        """Adds flat label maps of any integer type to `counts`, all on one device, without waiting for it."""
        # on a CPU in strips that fit into the cache; on another device all at once
        length = _STRIP if counts.device.type == "cpu" else max(1, truth.numel())
        one = torch.ones((), dtype=torch.int64, device=counts.device)
        for truths, preds in zip(torch.split(truth, length), torch.split(pred, length), strict=True):
            row = truths.long().clamp(self.low, self.high).sub_(self.low)
            if self.ignored_row == self.size:
                row.masked_fill_(truths.long() == self.ignore_index, self.size)
            place = preds.long().clamp(self.low, self.high).sub_(self.low).add_(row, alpha=self.size)
            # unlike bincount, this does not wait for the largest index
            counts.view(-1).scatter_add_(0, place, one.expand_as(place))

    def matrix(self, counts: Tensor) -> Tensor:
        """Returns the confusion matrix, the part of `counts` for the class ids: (K, K)."""
        classes = slice(-self.low, self.num_classes - self.low)
        return counts[classes, classes]

    def wrong_values(self, counts: Tensor) -> dict[str, dict[str, int]]:
        """Returns for `"truths"` and `"preds"` the values that are not allowed, as strings, with their pixels.

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
