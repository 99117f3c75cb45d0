"""What only pixseg's checkpoints need: https://github.com/CyrusCKF/PixSeg, semantic_segmentation_toolkit before."""
