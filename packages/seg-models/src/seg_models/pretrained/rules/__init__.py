"""The key rules of other projects, one module each; `seg_models.pretrained.lookup` finds the one that fits."""
