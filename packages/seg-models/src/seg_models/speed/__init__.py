"""Speed: optimizing a network for this machine, and measuring it."""
