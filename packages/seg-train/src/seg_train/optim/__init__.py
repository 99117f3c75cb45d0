"""Optimizers and learning-rate schedulers, built from names and plain arguments."""
