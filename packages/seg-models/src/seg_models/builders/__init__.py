"""Builders: create a network from options, with or without weights."""
