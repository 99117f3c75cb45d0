import itertools

import pytest
import torch
from torchvision.transforms.v2 import functional as peer

from seg_core.transforms.color import (
    _apply_at_once,
    apply_affine_color,
    channel_means,
    channel_stretch,
    jitter_matrices,
)

OFF = (1.0, 1.0, 1.0, 0.0)
BOUNDS = {"low": [-10.0] * 3, "high": [10.0] * 3}
FORMATS = [torch.contiguous_format, torch.channels_last]


def make_images(count=3, height=9, width=11):
    """Values that stay in 0 to 1 under moderate changes."""
    return 0.3 + 0.3 * torch.rand(count, 3, height, width, dtype=torch.float64)


def jittered(images, factors):
    p, q = jitter_matrices(torch.tensor(factors, dtype=torch.float64).expand(len(images), 4))
    return (p @ images.flatten(2) + q @ images.mean((-2, -1))[..., None]).view_as(images)


@pytest.mark.parametrize(
    ("place", "factor", "operation"),
    [
        (0, 1.3, peer.adjust_brightness),
        (1, 0.7, peer.adjust_contrast),
        (1, 1.2, peer.adjust_contrast),
        (2, 0.0, peer.adjust_saturation),
        (2, 1.3, peer.adjust_saturation),
    ],
)
def test_jitter_matrices_each_operation_agrees_with_torchvision(place, factor, operation):
    images = make_images()
    factors = [factor if i == place else off for i, off in enumerate(OFF)]
    # torchvision writes the weight of red as 0.2989
    assert torch.allclose(jittered(images, factors), operation(images, factor), atol=2e-4)


def test_jitter_matrices_all_at_once_equal_one_after_the_other_in_any_order():
    images = make_images(1)
    factors = (1.1, 0.8, 1.2, 0.05)
    result = jittered(images, factors)
    for order in itertools.permutations(range(4)):
        step = images
        for operation in order:
            step = jittered(step, [f if i == operation else OFF[i] for i, f in enumerate(factors)])
        assert torch.allclose(result, step, atol=1e-12)


def test_jitter_matrices_hue_turns_red_to_green_to_blue_and_keeps_luma_and_gray():
    red = torch.tensor([0.6, 0.3, 0.3], dtype=torch.float64).view(1, 3, 1, 1)
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
    for turns, largest in ((0, 0), (1 / 3, 1), (-1 / 3, 2), (1 / 6, None), (0.5, None)):
        turned = jittered(red, (1, 1, 1, turns)).flatten()
        assert torch.isclose(turned @ weights, red.flatten() @ weights)
        assert largest is None or int(turned.argmax()) == largest
        # the way of torchvision's turn in HSV, though not its length
        expected = peer.adjust_hue(red.float(), turns).flatten()
        chroma = [(color - color @ weights.to(color)).to(torch.float64) for color in (turned, expected)]
        assert torch.cosine_similarity(*chroma, dim=0) > 0.9
    gray = torch.full((1, 3, 1, 1), 0.4, dtype=torch.float64)
    assert torch.allclose(jittered(gray, (1, 1, 1, 0.3)), gray, atol=1e-12)
    there_and_back = jittered(jittered(red, (1, 1, 1, 0.2)), (1, 1, 1, -0.2))
    assert torch.allclose(there_and_back, red, atol=1e-12)


def test_jitter_matrices_samples_of_a_batch_are_their_own():
    images = make_images(2)
    factors = torch.tensor([[1.2, 0.9, 0.5, 0.1], OFF], dtype=torch.float64)
    p, q = jitter_matrices(factors)
    result = (p @ images.flatten(2) + q @ images.mean((-2, -1))[..., None]).view_as(images)
    assert torch.allclose(result[:1], jittered(images[:1], factors[0].tolist()), atol=1e-12)
    assert torch.allclose(result[1], images[1], atol=1e-12)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("height", [1, 5, 300])
def test_channel_means_equal_brute_force(memory_format, height):
    images = torch.randint(0, 256, (2, 3, height, 7), dtype=torch.uint8).contiguous(memory_format=memory_format)
    expected = (images.double() / 255).mean((-2, -1)).float()
    assert torch.allclose(channel_means(images), expected, atol=1e-6)
    assert torch.allclose(channel_means(images / 255), expected, atol=1e-6)


def test_channel_means_of_a_large_white_image_do_not_overflow():
    white = torch.full((1, 3, 1, 1), 255, dtype=torch.uint8).expand(-1, -1, 3000, 3000)
    assert torch.equal(channel_means(white.contiguous(memory_format=torch.channels_last)), torch.ones(1, 3))


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("floats", [False, True])
def test_channel_stretch_agrees_with_torchvision(memory_format, floats):
    images = torch.randint(30, 200, (2, 3, 6, 7), dtype=torch.uint8)
    images[0, 1] = 90  # one value: stays as it is
    floating = images / 255
    scale, offset = channel_stretch((floating if floats else images).contiguous(memory_format=memory_format))
    result = floating * scale[..., None, None] + offset[..., None, None]
    assert torch.allclose(result, peer.autocontrast(floating), atol=1e-5)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (64, 67), (130, 251)])
def test_apply_affine_color_equals_brute_force(memory_format, dtype, size):
    images = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    images = (images if dtype == torch.uint8 else images / 255).contiguous(memory_format=memory_format)
    matrix, offset = torch.randn(2, 3, 3), torch.randn(2, 3)
    matrix = matrix / 255 if dtype == torch.uint8 else matrix
    bounds = {"low": [-0.5, -1.0, -0.7], "high": [0.5, 0.8, 1.0]}
    expected = torch.einsum("nij,njhw->nihw", matrix.double(), images.double()) + offset.double()[..., None, None]
    low, high = (torch.tensor(v, dtype=torch.float64)[:, None, None] for v in bounds.values())
    expected = expected.clamp(low, high)
    assert size == (1, 1) or ((expected == low).any() and (expected == high).any())
    out = torch.full_like(images, float("nan"), dtype=torch.float32)
    apply_affine_color(images, matrix, offset, **bounds, out=out)
    assert torch.allclose(out.double(), expected, atol=1e-5)
    # what other devices do
    at_once = torch.full_like(out, float("nan"))
    _apply_at_once(images, matrix, offset, torch.tensor(list(bounds.values())), at_once)
    assert torch.allclose(at_once.double(), expected, atol=1e-5)
