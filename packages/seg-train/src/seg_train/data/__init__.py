"""Batches of samples, and sampling by class."""
