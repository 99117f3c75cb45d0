"""Foreign names of parameters into ours: the machinery; the tables themselves stand in `rules`.

Key rules say whose parameter names a checkpoint holds. `"seg"` are our own, which are also torchvision's where a
variant is named after it. Networks know nothing of other names: tensors are renamed before they are loaded.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch

from torch import Tensor

from seg_core.catalog import ModelEntry
from seg_core.registry import MODELS

__all__ = ["OWN", "KeyTable", "table_of", "tables_for"]

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class KeyTable:
    """How the checkpoints of one project name the parameters of one network.

    Attributes:
        key_rules: the project whose names they are.
        family: of the models that the table is for, as in the catalog.
        variants: those that files with these names hold.
        rules: pattern and replacement of `re.sub`, applied to every name in this order. A name that becomes empty is
            left out.
        prepare: what else changes, before the names do: splits and reshapes tensors.
        models: shell patterns of the names of those of the family that the table is for.
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
        """Returns our name for one of the project's, or nothing where the tensor is left out."""
        for pattern, replacement in self.rules:
            name = re.sub(pattern, replacement, name)
        return name


OWN = KeyTable("seg", "*", ("*",))


def tables_for(model: str, variant: str) -> list[KeyTable]:
    """Returns the tables whose files may hold a model's variant, our own names first."""
    from seg_models.pretrained.rules import TABLES

    entry = MODELS.entry(model)
    family = entry.family if isinstance(entry, ModelEntry) else ""
    return [
        OWN,
        *(
            table
            for table in TABLES
            if table.family == family
            and variant in table.variants
            and any(fnmatch(model, each) for each in table.models)
        ),
    ]


def table_of(key_rules: str, model: str, variant: str) -> KeyTable:
    """Returns the key table of a project for a model's variant.

    Raises:
        LookupError: if there is none, which is a mistake in the catalog.
    """
    if key_rules in ("seg", "torchvision"):  # the variants of that name bear torchvision's own names
        return OWN
    for table in tables_for(model, variant):
        if table.key_rules == key_rules:
            return table
    raise LookupError(f"no key rules {key_rules!r} are known for variant {variant!r} of {model!r}")
