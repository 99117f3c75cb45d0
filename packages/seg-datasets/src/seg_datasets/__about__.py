"""The version of seg-datasets; `hatch version` edits it."""

__version__ = "0.1.0"
