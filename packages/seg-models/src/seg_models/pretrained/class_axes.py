"""Determines which tensors of a network depend on the number of classes, and how.

The network is built twice without storage, for two numbers of classes, and the shapes are compared.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["ClassAxis", "shapes_and_axes", "shapes_of"]

_PROBES = (8, 12)  # multiples of 4: some widths are a quarter of the number of classes


@dataclass(frozen=True)
class ClassAxis:
    """How the shape of a tensor depends on the number of classes.

    Attributes:
        dimension: the only dimension that does, or -1 if several do.
        at_probe: its length for the first number of classes of the comparison.
        per_class: average increase of the length per class.
    """

    dimension: int
    at_probe: int
    per_class: float

    def count(self, length: int) -> float:
        """Returns the number of classes for a length."""
        return _PROBES[0] + (length - self.at_probe) / self.per_class

    @property
    def rows(self) -> int | None:
        """The number of rows of each class if the axis consists of them, or None."""
        whole = self.dimension >= 0 and self.at_probe == self.per_class * _PROBES[0]
        return int(self.per_class) if whole and self.per_class >= 1 else None

    def positions(self, classes: Sequence[int]) -> Tensor:
        """Returns the positions of the rows of some classes, int64; `rows` must not be None."""
        rows = self.rows or 0
        first = torch.tensor(classes, dtype=torch.int64).unsqueeze(1) * rows
        return (first + torch.arange(rows)).flatten()


def shapes_of(build: Callable[[int], nn.Module], num_classes: int = _PROBES[0]) -> dict[str, torch.Size]:
    """Returns the shape of each tensor of a network, which is built without storage."""
    with torch.device("meta"):
        return {name: tensor.shape for name, tensor in build(num_classes).state_dict().items()}


def shapes_and_axes(build: Callable[[int], nn.Module]) -> tuple[dict[str, torch.Size], dict[str, ClassAxis]]:
    """Returns the shape of each tensor, and the class axis of those that depend on the number of classes."""
    one, other = (shapes_of(build, classes) for classes in _PROBES)
    axes = {}
    for name, shape in one.items():
        differing = [d for d, (a, b) in enumerate(zip(shape, other[name], strict=True)) if a != b]
        if differing:
            d = differing[0]
            per_class = (other[name][d] - shape[d]) / (_PROBES[1] - _PROBES[0])
            axes[name] = ClassAxis(d if len(differing) == 1 else -1, shape[d], per_class)
    return one, axes
