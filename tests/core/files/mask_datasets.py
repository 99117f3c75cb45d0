"""Datasets of masks alone, in files and in memory, for the tests of the scan."""

import random

import numpy as np
import torch

from seg_core import DatasetMetadata

TWO = DatasetMetadata("two", ("ground", "thing"))
THREE = DatasetMetadata("three", ("ground", "leaf", "stone"))


class InFiles:
    """A dataset of mask files alone."""

    def __init__(self, files, metadata=THREE):
        self.files, self.metadata = files, metadata

    def __len__(self):
        return len(self.files)

    def mask_file(self, index):
        return self.files[index]


class InMemory:
    """A dataset of masks without files; it draws random numbers."""

    def __init__(self, *masks, metadata=THREE):
        self.masks, self.metadata = [np.asarray(mask, np.uint8) for mask in masks], metadata

    def __len__(self):
        return len(self.masks)

    def __getitem__(self, index):
        random.random(), torch.rand(1), np.random.rand()
        return None, torch.from_numpy(self.masks[index])


def masks(*rows):
    """Masks of one row each."""
    return [np.array([row], np.uint8) for row in rows]
