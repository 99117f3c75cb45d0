"""Masks over images, and figures."""
