"""Networks and layers for mmsegmentation's checkpoints: https://github.com/open-mmlab/mmsegmentation, version 1.2.2."""
