"""The version of seg-hub; `hatch version` edits it."""

__version__ = "0.1.0"
