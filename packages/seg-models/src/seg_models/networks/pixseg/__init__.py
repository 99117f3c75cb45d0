"""Networks for pixseg's checkpoints: https://github.com/CyrusCKF/PixSeg, formerly semantic_segmentation_toolkit."""
