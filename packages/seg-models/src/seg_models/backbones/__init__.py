"""Backbones: the features of a picture, in order from fine to coarse."""
