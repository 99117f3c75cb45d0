"""Which tensors of a network depend on the number of classes, and how.

That is not written down anywhere: the network is made twice without storage, for two numbers of classes, and the shapes
are compared.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["ClassAxis", "shapes_and_axes"]

_PROBES = (8, 12)  # multiples of 4: some widths are a quarter of the number of classes


@dataclass(frozen=True)
class ClassAxis:
    """How the shape of a tensor depends on the number of classes.

    Attributes:
        dimension: the only one that does, or -1 where several do.
        at_probe: its length for the number of classes that was probed.
        per_class: what each further class adds to it, on average.
    """

    dimension: int
    at_probe: int
    per_class: float

    def count(self, length: int) -> float:
        """Returns the number of classes for a length."""
        return _PROBES[0] + (length - self.at_probe) / self.per_class

    @property
    def rows(self) -> int | None:
        """The number of rows of each class where the whole axis is made of them, or None."""
        whole = self.dimension >= 0 and self.at_probe == self.per_class * _PROBES[0]
        return int(self.per_class) if whole and self.per_class >= 1 else None

    def positions(self, classes: Sequence[int]) -> Tensor:
        """Returns the positions of the rows of some classes, int64; there must be `rows`."""
        rows = self.rows or 0
        first = torch.tensor(classes, dtype=torch.int64).unsqueeze(1) * rows
        return (first + torch.arange(rows)).flatten()


def shapes_and_axes(make: Callable[[int], nn.Module]) -> tuple[dict[str, torch.Size], dict[str, ClassAxis]]:
    """Returns the shape of each tensor, and how it depends on the number of classes where it does."""
    with torch.device("meta"):
        one, other = ({name: t.shape for name, t in make(classes).state_dict().items()} for classes in _PROBES)
    axes = {}
    for name, shape in one.items():
        differing = [d for d, (a, b) in enumerate(zip(shape, other[name], strict=True)) if a != b]
        if differing:
            d = differing[0]
            per_class = (other[name][d] - shape[d]) / (_PROBES[1] - _PROBES[0])
            axes[name] = ClassAxis(d if len(differing) == 1 else -1, shape[d], per_class)
    return one, axes
