"""Losses, one idea per file. All take `(logits, target)`; see `seg_core.registry.LOSSES` for the names."""
