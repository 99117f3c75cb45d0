"""Shapes, a dataset that is drawn on the fly."""
