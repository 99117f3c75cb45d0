"""A small network that is exported in a second, and what describes it."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from seg_core import DatasetMetadata, Preprocessing


class Tiny(nn.Module):
    """Strided convolutions and a resize, as the networks of the catalog have them."""

    def __init__(self, num_classes, channels=3):
        super().__init__()
        self.first = nn.Conv2d(channels, 8, 3, 2, 1)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, num_classes, 3, 2, 1)

    def forward(self, images):
        logits = self.second(self.norm(self.first(images)).relu())
        return {"out": F.interpolate(logits, images.shape[-2:], mode="bilinear", align_corners=False)}


@pytest.fixture
def tiny():
    def make(num_classes=4, channels=3):
        torch.manual_seed(3)
        network = Tiny(num_classes, channels)
        with torch.no_grad():  # statistics of its own, so that train and eval mode differ
            for _ in range(3):
                network(torch.randn(2, channels, 40, 48))
        return network.eval()

    return make


@pytest.fixture
def described():
    """The arguments of `export` that describe the classes of a `Tiny` and the preprocessing."""
    return {
        "metadata": DatasetMetadata("four", ("road", "car", "tree", "sky")),
        "preprocessing": Preprocessing(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3)),
    }
