"""TOML files; what is read of them is in `seg_core.parsing`."""

from seg_core.parsing import parse_toml, read_toml

__all__ = ["parse_toml", "read_toml"]
