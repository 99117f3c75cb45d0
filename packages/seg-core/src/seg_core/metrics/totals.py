"""What a `MetricStore` adds up."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from seg_core.errors import InvalidArgumentError

__all__ = ["PlaneCounts", "Totals"]


@dataclass
class Totals:
    """The sums: the matrix, for each measure its weighted sum and the sum of the weights, and scores."""

    matrix: Tensor  # int64 (K, K) or (K, 2, 2), on the CPU
    sums: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, int] = field(default_factory=dict)
    histogram: Tensor | None = None  # int64 (K, 2, BINS), on the CPU, if scores were stored

    def add(self, other: "Totals") -> None:
        """Adds other sums, which are not changed."""
        self.matrix += other.matrix
        if other.histogram is not None:
            self.histogram = other.histogram.clone() if self.histogram is None else self.histogram + other.histogram
        for name, value in other.sums.items():
            self.add_measure(name, value, other.weights[name])

    def add_measure(self, name: str, weighted: float | Tensor, weight: int) -> None:
        """Adds a weighted value of a measure, and its weight."""
        self.sums[name] = self.sums.get(name, 0.0) + weighted
        self.weights[name] = self.weights.get(name, 0) + weight

    def checked_histogram(self) -> Tensor | None:
        """Returns the histogram of scores, or None if none were stored.

        Raises:
            InvalidArgumentError: if scores were stored with some batches only.
        """
        if self.histogram is None:
            return None
        known, total = int(self.histogram.sum()), int(self.matrix.sum())
        if known != total:
            raise InvalidArgumentError(
                f"scores were stored for {known} of {total} answers; pass scores with every batch, or none"
            )
        return self.histogram


@dataclass
class PlaneCounts:
    """Counts of a binary or multilabel task on one device."""

    matrix: Tensor  # int64 (K, 2, 2)
    wrong: Tensor  # int64 (2,), values of truth and prediction that are not allowed
    histogram: Tensor | None  # int64 (K, 2, BINS)

    def add(self, other: "PlaneCounts") -> None:
        """Adds other counts, without waiting for the device."""
        self.matrix += other.matrix
        self.wrong += other.wrong
        if other.histogram is not None:
            self.histogram = other.histogram if self.histogram is None else self.histogram + other.histogram

    def totals(self) -> Totals:
        """Returns the counts on the CPU."""
        return Totals(self.matrix.cpu(), histogram=None if self.histogram is None else self.histogram.cpu())
