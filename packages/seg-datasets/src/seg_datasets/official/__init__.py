"""The official datasets, one per file."""
