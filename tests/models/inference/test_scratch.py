"""Resizing into reused memory."""

import pytest
import torch
from torch.nn import functional as F

from seg_models.inference.scratch import Scratch


@pytest.mark.parametrize("align_corners", [True, False])
def test_resize_reuses_its_memory(align_corners):
    scratch = Scratch()
    addresses = set()
    for size in ((24, 30), (6, 50), (1, 1)):
        logits = torch.randn(2, 3, 7, 9)
        found = scratch.resize(logits, size, align_corners, room=24 * 30)
        addresses.add(found.data_ptr())
        expected = F.interpolate(logits, size, mode="bilinear", align_corners=align_corners)
        assert torch.equal(found, expected)
    assert len(addresses) == 1
    half = scratch.resize(torch.randn(1, 2, 4, 4, dtype=torch.float64), (8, 8))
    assert (half.dtype, half.shape) == (torch.float64, (1, 2, 8, 8))
