"""A training run: its building, its loop, its evaluation, its checkpoints and its folder."""
