"""Boundaries and details from label maps, compared with their definitions pixel by pixel."""

import numpy as np
import pytest
import torch

from seg_core.errors import InvalidArgumentError
from seg_train import boundary_targets, detail_targets

IGNORED = 255


def blobs(seed=0, size=(37, 50), ignored=0.1):
    """Returns patches of classes 0 to 4, a tenth of them ignored."""
    generator = np.random.default_rng(seed)
    height, width = (-(-side // 6) for side in size)
    small = generator.integers(0, 5, (height, width))
    small[generator.random((height, width)) < ignored] = IGNORED
    return torch.from_numpy(np.kron(small, np.ones((6, 6), np.int64))[: size[0], : size[1]])


def boundary_by_definition(mask, width):
    mask, reach = mask.numpy(), width // 2
    found = np.zeros_like(mask)
    for i, j in np.ndindex(*mask.shape):
        nearby = mask[max(i - reach, 0) : i + reach + 1, max(j - reach, 0) : j + reach + 1]
        found[i, j] = len(set(nearby.flatten()) - {IGNORED}) > 1
    return np.where(mask == IGNORED, IGNORED, found)


def details_by_definition(mask):
    mask = mask.numpy()
    edges = {}
    for stride in (1, 2, 4):
        edges[stride] = np.zeros(mask.shape, bool)
        for i, j in np.ndindex(*mask.shape):
            y, x = i // stride * stride, j // stride * stride
            around = [
                mask[y + dy, x + dx]
                for dy in (-1, 0, 1)
                for dx in (-1, 0, 1)
                if (dy or dx) and 0 <= y + dy < mask.shape[0] and 0 <= x + dx < mask.shape[1]
            ]
            laplacian = sum(int(mask[y, x]) - int(other) for other in around if other != IGNORED)
            edges[stride][i, j] = mask[y, x] != IGNORED and laplacian > 0.1
    joined = 6 * edges[1] + 3 * edges[2] + 1 * edges[4] > 1
    return np.where(mask == IGNORED, IGNORED, joined)


@pytest.mark.parametrize("width", [2, 4, 6])
def test_boundaries_are_the_pixels_near_another_class(width):
    mask = blobs()
    assert np.array_equal(boundary_targets(mask, width).numpy(), boundary_by_definition(mask, width))


@pytest.mark.parametrize("size", [(37, 50), (40, 48), (3, 5)])
def test_details_are_those_of_the_laplacian_pyramid(size):
    mask = blobs(1, size)
    assert np.array_equal(detail_targets(mask).numpy(), details_by_definition(mask))


def test_straight_boundary_has_the_given_width():
    mask = torch.zeros(8, 20, dtype=torch.uint8)
    mask[:, 10:] = 3
    for width in (2, 4, 8):
        assert boundary_targets(mask, width).sum(1).tolist() == [width] * 8


@pytest.mark.parametrize("make", [boundary_targets, detail_targets])
class TestBoth:
    def test_one_class_next_to_ignored_pixels_and_edges_has_none(self, make):
        mask = torch.full((2, 12, 12), 7)
        mask[0, 3:6, 2:9] = IGNORED
        found = make(mask)
        assert torch.equal(found == IGNORED, mask == IGNORED)
        assert not found[mask != IGNORED].any()

    def test_other_ignore_index_gives_the_same(self, make):
        mask = blobs(2)
        other = mask.where(mask != IGNORED, -1)
        assert torch.equal(make(other, ignore_index=-1).where(mask != IGNORED, IGNORED), make(mask))

    def test_no_valid_pixel_gives_only_ignored_pixels(self, make):
        assert (make(torch.full((1, 5, 5), IGNORED)) == IGNORED).all()

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.uint16, torch.int32])
    def test_any_integer_type_and_batch_shape(self, make, dtype):
        mask = torch.stack([blobs(3), blobs(4)])
        before = mask.to(dtype)
        kept = before.clone()
        found = make(before)
        assert found.dtype == torch.int64
        assert torch.equal(before, kept)
        assert torch.equal(found, make(mask))
        assert torch.equal(found[1], make(mask[1]))
        assert torch.equal(make(mask[None])[0], found)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bool])
    def test_masks_without_integer_type_are_an_error(self, make, dtype):
        with pytest.raises(InvalidArgumentError, match=f"masks must hold class ids of an integer type, got {dtype}"):
            make(torch.zeros(1, 4, 4, dtype=dtype))

    def test_masks_without_height_and_width_are_an_error(self, make):
        with pytest.raises(InvalidArgumentError, match=r"masks must be \(\.\.\., H, W\), got \(4,\)"):
            make(torch.zeros(4, dtype=torch.int64))


@pytest.mark.parametrize("width", [0, 1, 3, -2, 4.0, True])
def test_width_must_be_even(width):
    with pytest.raises(InvalidArgumentError, match="width must be an even number of pixels, at least 2, got "):
        boundary_targets(torch.zeros(1, 4, 4, dtype=torch.int64), width)


@pytest.mark.parametrize("targets", [boundary_targets, detail_targets])
def test_masks_that_are_no_tensor_are_refused(targets):
    with pytest.raises(InvalidArgumentError, match="masks must be a tensor, got ndarray; pass a tensor"):
        targets(np.zeros((1, 4, 4), np.uint8))
