"""Converts parameter names of other projects' checkpoints to ours; the rules of each project are in `rules`.

Key rules are named after the project. `"seg"` are our own names, which are also torchvision's in the variants named
after it. Networks only use these: tensors are renamed before they are loaded.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

__all__ = ["OWN", "KeyTable"]

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class KeyTable:
    """The parameter names of one network in one project's checkpoints.

    Attributes:
        key_rules: name of the project.
        family: family of the models that the table is for, as in the catalog.
        variants: the variants of files with these names.
        rules: pattern and replacement of `re.sub`, applied to every name in this order. A tensor whose name becomes
            empty is dropped.
        prepare: splits or reshapes tensors before they are renamed.
        models: glob patterns of the models of the family that the table is for.
    """

    key_rules: str
    family: str
    variants: tuple[str, ...]
    rules: Sequence[tuple[str, str]] = ()
    prepare: Callable[[Tensors], Tensors] | None = None
    models: tuple[str, ...] = ("*",)

    def convert(self, tensors: Tensors) -> dict[str, Tensor]:
        """Returns the tensors under our names.

        Args:
            tensors: the project's name -> tensor.
        """
        if self.prepare is not None:
            tensors = self.prepare(tensors)
        converted = {self.rename(name): tensor for name, tensor in tensors.items()}
        converted.pop("", None)
        return converted

    def rename(self, name: str) -> str:
        """Returns our name for one of the project's names, or an empty string if the tensor is dropped."""
        for pattern, replacement in self.rules:
            name = re.sub(pattern, replacement, name)
        return name


OWN = KeyTable("seg", "*", ("*",))
