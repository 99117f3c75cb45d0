"""The official datasets, one a file."""
