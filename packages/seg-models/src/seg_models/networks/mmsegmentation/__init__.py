"""What only mmsegmentation's checkpoints need: https://github.com/open-mmlab/mmsegmentation, version 1.2.2."""
