"""`resize` and `cat_max_ratio` of the random crop, and what they leave unchanged."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from seg_core.errors import InvalidArgumentError
from seg_core.transforms.crop import SegmentationTransform


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def smooth(height, width):
    """Returns an image without detail that a resize could lose, uint8 (height, width, 3)."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    waves = np.stack([np.sin(5 * x + 2 * y), np.cos(4 * y), np.sin(3 * (x - y))], axis=-1)
    return (127 + 100 * waves).astype(np.uint8)


def coordinates(height, width):
    """Returns x and y of each pixel as channels and as masks, all uint8; sides up to 256."""
    x = np.broadcast_to(np.arange(width, dtype=np.uint8), (height, width))
    y = np.broadcast_to(np.arange(height, dtype=np.uint8)[:, None], (height, width))
    return np.stack([x, y, x], axis=-1), x, y


@pytest.mark.parametrize(
    ("resize", "image", "expected"),
    [
        ({"shorter_side": 32}, (64, 96), (32, 48)),
        ({"shorter_side": 32}, (96, 64), (48, 32)),
        ({"shorter_side": 128}, (64, 96), (128, 192)),
        ({"longer_side": 48}, (64, 96), (32, 48)),
        ({"longer_side": 48}, (96, 64), (48, 32)),
        ({"longer_side": 30}, (64, 96), (20, 30)),
        ({"size": (40, 50)}, (64, 96), (40, 50)),
        ({"size": [40, 50]}, (96, 64), (40, 50)),
        ({"scale": 0.25}, (64, 96), (16, 24)),
        ({"shorter_side": 64}, (64, 96), (64, 96)),
        ({}, (64, 96), (64, 96)),
        (None, (64, 96), (64, 96)),
    ],
)
def test_resize_without_size_resizes_the_whole_image_and_its_mask(resize, image, expected):
    array = smooth(*image)
    mask = (array[:, :, 0] > 127).astype(np.uint8)
    state = torch.get_rng_state()
    transform = SegmentationTransform(resize=resize)
    result, labels = transform(Image.fromarray(array), mask)
    assert result.shape == (3, *expected)
    assert labels.shape == expected
    assert torch.equal(torch.get_rng_state(), state)
    reference = F.interpolate(
        torch.from_numpy(array).permute(2, 0, 1)[None].float(), expected, mode="bilinear", antialias=True
    )[0]
    assert (result.float() - reference).abs().max() < 1.01  # rounded after each axis
    unsure = (reference[0] - 127).abs() < 8  # at the edge
    assert not ((reference[0] > 127) != (labels == 1))[~unsure].any()
    assert torch.equal(transform.transform_mask(mask), labels)


@pytest.mark.parametrize("image", [(48, 80), (80, 48), (200, 120), (120, 220)])
@pytest.mark.parametrize("resize", [{"shorter_side": 64}, {"longer_side": 100}, {"size": (70, 90)}, {"scale": 0.8}])
@pytest.mark.parametrize("factor", [0.5, 0.9, 1.0, 1.7])
def test_resize_and_rescale_in_one_resampling_equal_two_of_a_smooth_image(image, resize, factor):
    array = smooth(*image)
    source = torch.from_numpy(array).permute(2, 0, 1)[None].float()
    first = tuple(SegmentationTransform(resize=resize)(array)[0].shape[-2:])
    second = tuple(max(1, round(side * factor)) for side in first)
    two_steps = F.interpolate(
        F.interpolate(source, first, mode="bilinear", antialias=True), second, mode="bilinear", antialias=True
    )[0]
    result, _ = SegmentationTransform(second, scale_range=(factor, factor), resize=resize)(array)
    assert result.shape[-2:] == second
    difference = (result.float() - two_steps).abs()
    assert difference.mean() < 1
    assert difference[:, 2:-2, 2:-2].max() <= 3


@pytest.mark.parametrize(
    ("resize", "scales"),
    [
        ({"shorter_side": 75}, (0.5, 0.5)),
        ({"longer_side": 300}, (1.5, 1.5)),
        ({"size": (75, 300)}, (0.5, 1.5)),
        ({"scale": 0.8}, (0.8, 0.8)),
    ],
)
@pytest.mark.parametrize("factor", [0.6, 1.0, 1.9])
def test_resize_crops_image_and_mask_at_the_same_place_at_the_composed_scale(resize, scales, factor):
    image, x, y = coordinates(150, 200)
    transform = SegmentationTransform((31, 37), scale_range=(factor, factor), resize=resize)
    for seed in range(6):
        for channel, coordinate, scale in ((0, x, scales[1]), (1, y, scales[0])):
            result, labels = transform(image, coordinate, generator=generator(seed))
            assert result.shape == (3, 31, 37)
            assert (result[channel].int() - labels.int()).abs().max() <= 1
            steps = labels.int().diff(dim=1 - channel).float()
            assert steps.mean() == pytest.approx(1 / (scale * factor), abs=0.08)


@pytest.mark.parametrize("image", [(20, 30), (30, 20), (300, 200)])
def test_resize_edge_of_an_object_stays_aligned_with_its_mask(image):
    mask = np.zeros(image, np.uint8)
    mask[image[0] // 4 : image[0] // 2, image[1] // 3 : image[1] * 2 // 3] = 1
    array = np.repeat((30 + 200 * mask)[:, :, None], 3, axis=2).astype(np.uint8)
    transform = SegmentationTransform(64, scale_range=(0.5, 2.0), resize={"shorter_side": 48})
    for seed in range(10):
        result, labels = transform(array, mask, generator=generator(seed))
        assert result.shape == (3, 64, 64)
        inside = (result[0] > 130) & (labels != 255)
        wrong = inside != (labels == 1)
        around = F.max_pool2d((labels == 1)[None, None].float(), 3, 1, 1)[0, 0] - (labels == 1).float()
        within = -F.max_pool2d(-(labels == 1)[None, None].float(), 3, 1, 1)[0, 0] - (labels == 1).float()
        assert not (wrong & (around == 0) & (within == 0)).any()


def test_resize_that_halves_equals_a_rescale_by_half():
    array = smooth(96, 128)
    mask = np.random.default_rng(0).integers(0, 5, (96, 128), dtype=np.uint8)
    rescaled = SegmentationTransform((40, 30), scale_range=(0.5, 0.5))
    resized = SegmentationTransform((40, 30), resize={"shorter_side": 48})
    for seed in range(5):
        expected = rescaled(array, mask, generator=generator(seed))
        result = resized(array, mask, generator=generator(seed))
        assert torch.equal(result[0], expected[0])
        assert torch.equal(result[1], expected[1])


def test_resize_small_image_is_enlarged_before_it_is_padded():
    array, mask = smooth(12, 16), np.ones((12, 16), np.uint8)
    result, labels = SegmentationTransform(64, resize={"shorter_side": 24})(array, mask, generator=generator())
    assert result.shape == (3, 64, 64)
    assert int((labels == 1).sum()) == 24 * 32
    _, labels = SegmentationTransform(64, resize={"shorter_side": 64})(array, mask, generator=generator())
    assert (labels == 1).all()


def test_resize_too_large_for_a_whole_image_is_an_error():
    array = smooth(16, 64)
    with pytest.raises(InvalidArgumentError, match="would enlarge an image of 16x64 pixels .* to 9000x36000; choose"):
        SegmentationTransform(resize={"shorter_side": 9000})(array)
    assert SegmentationTransform(32, resize={"shorter_side": 9000})(array)[0].shape == (3, 32, 32)


@pytest.mark.parametrize("options", [{}, {"resize": None, "cat_max_ratio": 1.0}, {"resize": {}}, {"cat_max_ratio": 1}])
def test_crop_without_the_options_is_that_of_three_draws(options):
    image, x, y = coordinates(90, 120)
    transform = SegmentationTransform((32, 40), scale_range=(0.5, 2.0), **options)
    for seed in range(20):
        g = generator(seed)
        u, top, left = torch.rand(3, generator=g).tolist()
        factor = 0.5 + 1.5 * u
        height = min(90, max(1, round(32 * 90 / round(90 * factor))))
        width = min(120, max(1, round(40 * 120 / round(120 * factor))))
        rows = int(top * (90 - height + 1)) + (2 * np.arange(32) + 1) * height // 64
        columns = int(left * (120 - width + 1)) + (2 * np.arange(40) + 1) * width // 80
        own = generator(seed)
        assert np.array_equal(transform(image, y, generator=own)[1], np.repeat(rows[:, None], 40, axis=1))
        assert np.array_equal(transform.transform_mask(x, generator=generator(seed)), np.repeat(columns[None], 32, 0))
        assert torch.equal(own.get_state(), g.get_state())


# ---- cat_max_ratio ---------------------------------------------------------------------------------------------------


def share(labels, ignored=255):
    ids = labels.flatten().long()
    ids = ids[ids != ignored]
    return 1.0 if not len(ids) else int(ids.bincount().max()) / len(ids)


def ten_crops(mask, size, seed):
    """Returns the crops of unit scale that `cat_max_ratio` chooses from."""
    g = generator(seed)
    places = [torch.rand(3, generator=g).tolist()[1:], *torch.rand((9, 2), generator=g).tolist()]
    crops = []
    for y, x in places:
        top, left = (int(p * (side - size + 1)) for p, side in zip((y, x), mask.shape, strict=True))
        crops.append(mask[top : top + size, left : left + size])
    return crops


def half_and_half():
    """Returns a mask of class 7, but for its right fifth, where classes alternate."""
    mask = np.full((60, 100), 7, np.uint8)
    mask[:, 80:] = np.arange(20, dtype=np.uint8)[None] % 4
    return mask


def test_cat_max_ratio_takes_the_first_of_ten_crops_that_is_mixed_else_the_last():
    mask = half_and_half()
    transform = SegmentationTransform(30, cat_max_ratio=0.75)
    chosen = set()
    for seed in range(120):
        crops = ten_crops(mask, 30, seed)
        fits = [share(torch.from_numpy(crop)) <= 0.75 for crop in crops]
        expected = fits.index(True) if any(fits) else 9
        image, labels = transform(np.repeat(mask[:, :, None], 3, axis=2), mask, generator=generator(seed))
        assert np.array_equal(labels, crops[expected])
        assert torch.equal(image[0], labels)
        assert torch.equal(transform.transform_mask(mask, generator=generator(seed)), labels)
        chosen.add(expected if any(fits) else "none")
    assert {0, 1, 2, "none"} <= chosen


def test_cat_max_ratio_keeps_the_scale_and_the_first_crop():
    image, _, y = coordinates(90, 120)
    mask = (y // 3 % 4).astype(np.uint8)  # every crop is mixed
    without = SegmentationTransform(32, scale_range=(0.5, 2.0), resize={"shorter_side": 70})
    mixed = SegmentationTransform(32, scale_range=(0.5, 2.0), resize={"shorter_side": 70}, cat_max_ratio=0.75)
    for seed in range(10):
        expected = without(image, mask, generator=generator(seed))
        result = mixed(image, mask, generator=generator(seed))
        assert torch.equal(result[0], expected[0])
        assert torch.equal(result[1], expected[1])
        # without a mask there is nothing to choose by
        uniform = mixed(image, np.zeros_like(mask), generator=generator(seed))[0]
        assert torch.equal(mixed(image, generator=generator(seed))[0], expected[0])
        steps = [crop[0].int().diff(dim=1).float().mean() for crop in (uniform, expected[0])]
        assert steps[0] == pytest.approx(float(steps[1]), abs=0.05)


@pytest.mark.parametrize("fill", [0, 255])
def test_cat_max_ratio_of_a_mask_without_two_classes_ends_with_the_last_crop(fill):
    mask = np.full((50, 70), fill, np.uint8)
    transform = SegmentationTransform(20, cat_max_ratio=0.5)
    image = coordinates(50, 70)[0]
    for seed in range(5):
        result, labels = transform(image, mask, generator=generator(seed))
        assert np.array_equal(result[0], ten_crops(image[:, :, 0], 20, seed)[9])
        assert (labels == fill).all()


def test_cat_max_ratio_does_not_count_ignored_pixels_nor_padding():
    mask = np.full((20, 20), 9, np.uint8)
    mask[:8, :8] = np.arange(8, dtype=np.uint8) % 2  # two classes of half the valid pixels each
    transform = SegmentationTransform(40, mask_fill=9, cat_max_ratio=0.5)
    plain = SegmentationTransform(40, mask_fill=9)
    for seed in range(5):
        expected = plain.transform_mask(mask, generator=generator(seed))
        assert torch.equal(transform.transform_mask(mask, generator=generator(seed)), expected)
    counted = SegmentationTransform(40, mask_fill=255, cat_max_ratio=0.5)  # 9 is a class here
    plain = SegmentationTransform(40, mask_fill=255)
    assert not torch.equal(
        counted.transform_mask(mask, generator=generator(0)), plain.transform_mask(mask, generator=generator(0))
    )


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int32, np.int64])
@pytest.mark.parametrize("factor", [1, 1000])
def test_cat_max_ratio_chooses_alike_for_masks_of_any_type(dtype, factor):
    mask = half_and_half()
    if factor > 1 and dtype != np.int8:
        wide = mask.astype(dtype) * (factor if dtype == np.uint16 else 10**6)
    else:
        wide = mask.astype(dtype)
    narrow = SegmentationTransform(30, cat_max_ratio=0.75, mask_fill=100)
    for seed in range(12):
        expected = narrow.transform_mask(mask, generator=generator(seed))
        found = narrow.transform_mask(wide, generator=generator(seed))
        assert torch.equal(found.long() // max(1, int(wide.max()) // 7), expected.long())
        image = Image.fromarray(mask)
        assert torch.equal(narrow.transform_mask(image, generator=generator(seed)), expected)


def test_cat_max_ratio_draws_the_same_number_whatever_the_mask():
    image = coordinates(50, 70)[0]
    states = []
    for mask in (np.zeros((50, 70), np.uint8), (np.arange(3500) % 5).reshape(50, 70), None):
        g = generator(2)
        SegmentationTransform(20, scale_range=(0.5, 2.0), cat_max_ratio=0.75)(image, mask, generator=g)
        states.append(g.get_state())
    assert torch.equal(states[0], states[1])
    assert torch.equal(states[0], states[2])
    g = generator(2)
    torch.rand(3, generator=g), torch.rand((9, 2), generator=g)
    assert torch.equal(states[0], g.get_state())
