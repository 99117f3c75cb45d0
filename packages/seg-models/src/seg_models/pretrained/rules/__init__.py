"""The tables of names, one module per project."""

from seg_models.pretrained.key_table import KeyTable
from seg_models.pretrained.rules import mmsegmentation, pixseg

__all__ = ["TABLES"]

TABLES: tuple[KeyTable, ...] = (*mmsegmentation.TABLES, *pixseg.TABLES)
