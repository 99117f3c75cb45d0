"""What an image and its mask go through: the crop of a training sample."""
