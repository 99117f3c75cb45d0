"""The alignment of SFNet on flows with known results."""

import pytest
import torch
from torch.nn import functional as F

from seg_models.networks.sfnet import warp


@pytest.mark.parametrize("size", [(8, 12), (7, 5), (1, 9)])
def test_warp_without_flow_is_the_resize_that_aligns_corners(size):
    features = torch.randn(2, 3, 4, 6, dtype=torch.float64)
    expected = F.interpolate(features, size=size, mode="bilinear", align_corners=True)
    torch.testing.assert_close(warp(features, torch.zeros(2, 2, *size, dtype=torch.float64)), expected)


def test_warp_follows_a_constant_flow_in_x_and_in_y():
    height, width = 5, 9
    rows, columns = torch.meshgrid(torch.arange(5.0), torch.arange(9.0), indexing="ij")
    features = torch.stack([columns, rows])[None].double()  # each feature tells its place
    flow = torch.zeros(1, 2, height, width, dtype=torch.float64)
    # a flow of 1 is 1 / W of the grid's range of 2, which spans W - 1 features
    flow[:, 0], flow[:, 1] = 2 * width / (width - 1), 4 * height / (height - 1)
    found = warp(features, flow)
    torch.testing.assert_close(found[0, 0, :, :-1][:-2], (columns[:, :-1] + 1)[:-2].double())
    torch.testing.assert_close(found[0, 1, :-2, :-1], (rows[:-2, :-1] + 2).double())
    assert not found[:, :, -1].any()  # zero outside


def test_warp_of_half_precision_keeps_its_type_and_its_places():
    features = torch.randn(1, 2, 16, 512)
    flow = torch.zeros(1, 2, 64, 2048)
    found = warp(features.bfloat16(), flow.bfloat16())
    assert found.dtype == torch.bfloat16
    expected = warp(features.bfloat16().float(), flow)
    assert (found.float() - expected).abs().max() < 0.05
