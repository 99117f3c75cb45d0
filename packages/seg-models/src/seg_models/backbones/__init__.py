"""Backbones: the features of an image, in order from fine to coarse."""
