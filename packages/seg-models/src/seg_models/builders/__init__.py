"""Builders: from a name and options to a network, with or without weights."""
