"""Networks as pixseg built them, for its published checkpoints: https://github.com/CyrusCKF/PixSeg."""
