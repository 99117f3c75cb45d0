"""Transforms of images and masks: crop, augmentation, preprocessing."""
