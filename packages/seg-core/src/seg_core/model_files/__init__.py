"""Weights entries, model files, and the reader of checkpoints that other projects wrote."""
