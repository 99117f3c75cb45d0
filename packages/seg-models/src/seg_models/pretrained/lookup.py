"""Finds the key tables for a variant of a model."""

from fnmatch import fnmatch

from seg_core.catalog import ModelEntry
from seg_core.registry import MODELS
from seg_models.pretrained.key_table import OWN, KeyTable
from seg_models.pretrained.rules import mmsegmentation, pixseg

__all__ = ["table_of", "tables_for"]

TABLES: tuple[KeyTable, ...] = (*mmsegmentation.TABLES, *pixseg.TABLES)


def tables_for(model: str, variant: str) -> list[KeyTable]:
    """Returns the tables of files that may contain a model's variant, our own names first."""
    entry = MODELS.entry(model)
    family = entry.family if isinstance(entry, ModelEntry) else ""
    return [
        OWN,
        *(
            table
            for table in TABLES
            if table.family == family
            and variant in table.variants
            and any(fnmatch(model, pattern) for pattern in table.models)
        ),
    ]


def table_of(key_rules: str, model: str, variant: str) -> KeyTable:
    """Returns the key table of a project for a model's variant.

    Raises:
        LookupError: if there is none, which is a mistake in the catalog.
    """
    if key_rules in ("seg", "torchvision"):  # the variants of that name have torchvision's own names
        return OWN
    for table in tables_for(model, variant):
        if table.key_rules == key_rules:
            return table
    raise LookupError(f"there are no key rules {key_rules!r} for variant {variant!r} of {model!r}")
