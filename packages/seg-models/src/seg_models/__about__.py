"""The version of seg-models; `hatch version` edits it."""

__version__ = "0.1.0"
