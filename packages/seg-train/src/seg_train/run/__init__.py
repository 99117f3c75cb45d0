"""One training run: what it is built of, its loop, and its folder."""
