"""How the files of a dataset are found, paired and read."""
