"""The version of seg-train; `hatch version` edits it."""

__version__ = "0.1.0"
