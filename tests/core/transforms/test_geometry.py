import pytest
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as peer

from seg_core.transforms.geometry import flip_matrices, perspective_matrices, rotation_matrices, warp

BILINEAR = InterpolationMode.BILINEAR


def sample(height=31, width=41):
    image = torch.rand(1, 3, height, width)
    mask = torch.randint(1, 200, (1, height, width), dtype=torch.uint8)
    return image, mask


def rotation(degrees, zoom=1.0):
    return rotation_matrices(torch.tensor([degrees], dtype=torch.float64), torch.tensor([zoom], dtype=torch.float64))


def assert_close_inside(result, expected):
    """Other libraries treat the border differently, so pixels that are 0 in either result are left out."""
    both = (result != 0).all(1) & (expected != 0).all(1)
    assert both.float().mean() > 0.2
    assert torch.allclose(result[:, :, both[0]], expected[:, :, both[0]], atol=2e-3)


@pytest.mark.parametrize("degrees", [-160, -33.3, 10, 90, 180])
def test_warp_rotation_agrees_with_torchvision(degrees):
    image, mask = sample()
    moved, ids = warp(image, mask, rotation(degrees), mask_fill=0)
    assert_close_inside(moved, peer.rotate(image, degrees, BILINEAR))
    assert (ids == peer.rotate(mask, degrees)).float().mean() > 0.995


@pytest.mark.parametrize("zoom", [0.5, 0.83, 1.7])
def test_warp_zoom_agrees_with_torchvision(zoom):
    image, mask = sample()
    moved, ids = warp(image, mask, rotation(0, zoom), mask_fill=0)
    options = {"angle": 0, "translate": [0, 0], "scale": zoom, "shear": [0, 0]}
    assert_close_inside(moved, peer.affine(image, **options, interpolation=BILINEAR))
    assert (ids == peer.affine(mask, **options)).float().mean() > 0.95  # at 0.5, places lie between two pixels


def test_warp_perspective_agrees_with_torchvision():
    height, width = 30, 41
    image, mask = sample(height, width)
    shifts = torch.tensor([[[0.1, 0.3], [0.4, 0.2], [0.05, 0.5], [0.6, 0.0]]], dtype=torch.float64)
    moved, ids = warp(image, mask, perspective_matrices(shifts, height, width), mask_fill=0)
    middle = torch.tensor([width / 2, height / 2])
    corners = torch.tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * middle
    start, end = (corners + middle).tolist(), (corners * (1 - shifts[0]) + middle).tolist()
    assert_close_inside(moved, peer.perspective(image, start, end, interpolation=BILINEAR))
    expected = peer.perspective(mask, start, end, interpolation=InterpolationMode.NEAREST)
    assert (ids == expected).float().mean() > 0.98


def test_perspective_matrices_move_the_corners_to_where_they_are_told():
    shifts = torch.rand(5, 4, 2, dtype=torch.float64) * 0.8
    corners = torch.tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=torch.float64) * torch.tensor([20, 15])
    moved = torch.cat([corners, torch.ones(4, 1)], 1) @ perspective_matrices(shifts, 30, 40).mT
    assert torch.allclose(moved[..., :2] / moved[..., 2:], corners * (1 - shifts), atol=1e-9)
    nothing = perspective_matrices(torch.zeros(1, 4, 2, dtype=torch.float64), 30, 40)
    assert torch.allclose(nothing, torch.eye(3, dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize(("across", "down", "axes"), [(True, False, [-1]), (False, True, [-2]), (True, True, [-2, -1])])
def test_warp_flips_and_identity_give_the_same_pixels(across, down, axes):
    image, mask = sample()
    moved, ids = warp(image, mask, flip_matrices(torch.tensor([across]), torch.tensor([down])), mask_fill=0)
    assert torch.allclose(moved, image.flip(axes), atol=1e-5)
    assert torch.equal(ids, mask.flip(axes))
    moved, ids = warp(image, mask, rotation(0), mask_fill=0)
    assert torch.allclose(moved, image, atol=1e-5)
    assert torch.equal(ids, mask)


def test_warp_transforms_each_sample_of_a_batch_by_its_own_matrix():
    images, masks = torch.rand(3, 3, 20, 20), torch.randint(1, 9, (3, 20, 20), dtype=torch.uint8)
    matrices = torch.cat([rotation(0), rotation(30), perspective_matrices(torch.full((1, 4, 2), 0.2).double(), 20, 20)])
    together = warp(images, masks, matrices, mask_fill=0)
    for index in range(3):
        part = slice(index, index + 1)
        alone = warp(images[part], masks[part], matrices[part], mask_fill=0)
        assert torch.allclose(together[0][part], alone[0], atol=1e-5)
        assert torch.equal(together[1][part], alone[1])


def test_warp_beyond_the_horizon_is_outside():
    # the divisor falls to zero at x = 5 and below zero to the right of it
    to_result = torch.linalg.inv(torch.tensor([[[1, 0, 0], [0, 1, 0], [-0.2, 0, 1]]], dtype=torch.float64))
    moved, ids = warp(torch.ones(1, 3, 40, 40), torch.ones(1, 40, 40, dtype=torch.uint8), to_result, mask_fill=9)
    assert (moved[..., 25:] == 0).all()
    assert (ids[..., 25:] == 9).all()
    assert (moved[..., 18:21, 18:21] == 1).all()


def test_warp_does_not_change_its_arguments():
    image, mask = sample()
    before = image.clone(), mask.clone()
    moved, ids = warp(image, mask, rotation(0), mask_fill=0)
    moved.zero_(), ids.zero_()
    assert torch.equal(image, before[0])
    assert torch.equal(mask, before[1])
