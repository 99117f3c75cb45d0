"""The version of seg-hub; edited by `hatch version`."""

__version__ = "0.1.0"
