"""The version of seg-core; `hatch version` edits it."""

__version__ = "0.1.0"
