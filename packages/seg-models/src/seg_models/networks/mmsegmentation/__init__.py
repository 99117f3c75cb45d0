"""Variants of networks behind the public checkpoints of mmsegmentation."""
