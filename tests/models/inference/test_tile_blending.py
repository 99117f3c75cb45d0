"""Positions and weights of overlapping tiles."""

import pytest
import torch

from seg_models.inference.tile_blending import TileAxis, tile_starts


@pytest.mark.parametrize(
    ("length", "size", "overlap", "starts"),
    [
        (10, 4, 0.0, [0, 4, 6]),
        (10, 4, 0.5, [0, 2, 4, 6]),
        (11, 4, 0.5, [0, 2, 4, 6, 7]),
        (4, 4, 0.5, [0]),
        (3, 4, 0.5, [0]),
        (10, 4, 0.99, [0, 1, 2, 3, 4, 5, 6]),
        (9, 3, 0.0, [0, 3, 6]),
    ],
)
def test_tiles_cover_the_axis_and_the_last_one_is_moved_inside(length, size, overlap, starts):
    assert tile_starts(length, size, overlap) == starts


@pytest.mark.parametrize("blend", ["hann", "constant"])
@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.5, 0.9])
@pytest.mark.parametrize(("length", "size"), [(50, 16), (16, 16), (7, 16), (17, 5)])
def test_weights_of_all_tiles_sum_to_one_at_each_pixel(length, size, overlap, blend):
    total = torch.zeros(length, dtype=torch.float64)
    added = torch.zeros(length, dtype=torch.bool)
    for spans in TileAxis.of(length, size, overlap, blend).spans:
        for span in spans:
            assert (span.weights > 0).all()
            assert (added[span.first : span.end] == span.added).all()
            total[span.first : span.end] += span.weights
            added[span.first : span.end] = True
    torch.testing.assert_close(total, torch.ones_like(total))
