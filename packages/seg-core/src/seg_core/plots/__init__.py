"""Colored label maps, overlays and figures."""
