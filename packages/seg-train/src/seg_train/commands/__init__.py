"""The commands `seg train`, `seg eval` and `seg config`."""
