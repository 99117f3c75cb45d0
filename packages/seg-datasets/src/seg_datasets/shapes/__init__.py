"""Shapes, a synthetic dataset that is drawn on the fly."""
