"""Losses, one idea per file, each called as `(logits, target)`; `seg_core.registry.LOSSES` lists their names."""
