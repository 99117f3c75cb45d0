"""The tables of names, one module per project."""

from seg_models.pretrained.conversion import KeyTable
from seg_models.pretrained.dialects import mmsegmentation, pixseg

__all__ = ["TABLES"]

TABLES: tuple[KeyTable, ...] = (*mmsegmentation.TABLES, *pixseg.TABLES)
