import colorsys
import math
import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from seg_core.errors import InvalidArgumentError
from seg_core.randomness import sample_generator
from seg_core.transforms import augment as augment_module
from seg_core.transforms.augment import SegmentationAugment
from seg_core.transforms.preprocessing import IMAGENET_MEAN, IMAGENET_STD

IDENTITY = {"mean": (0, 0, 0), "std": (1, 1, 1)}
EVERYTHING = {
    "hflip": 0.5,
    "vflip": 0.5,
    "rotation_range": (-30, 30),
    "zoom_range": (0.7, 1.4),
    "perspective": 0.4,
    "blur": (0.1, 1.5),
    "color_jitter": (0.4, 0.4, 0.4, 0.1),
    "auto_contrast": 0.5,
    "left_right_pairs": [(3, 4)],
}


def batch(num_samples=6, height=5, width=7):
    images = torch.randint(0, 256, (num_samples, 3, height, width), dtype=torch.uint8)
    masks = torch.randint(0, 20, (num_samples, height, width), dtype=torch.uint8)
    return images, masks


def generators(num_samples, start=0):
    return [torch.Generator().manual_seed(start + i) for i in range(num_samples)]


def test_call_with_defaults_only_normalizes():
    images, masks = batch()
    result, labels = SegmentationAugment()(images, masks)
    mean, std = (torch.tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
    assert torch.allclose(result, (images / 255 - mean) / std, atol=1e-6)
    assert result.dtype == torch.float32
    assert torch.equal(labels, masks.long())
    assert labels.dtype == torch.int64


@pytest.mark.parametrize(
    ("options", "axes"),
    [({"hflip": 1}, [-1]), ({"vflip": 1}, [-2]), ({"hflip": 1, "vflip": 1}, [-1, -2]), ({"hflip": 0, "vflip": 0}, [])],
)
def test_call_probability_zero_or_one_is_never_or_always_and_exact(options, axes):
    images, masks = batch(40)
    result, labels = SegmentationAugment(**options)(images, masks)
    expected, _ = SegmentationAugment()(images)
    assert torch.equal(result, expected.flip(axes))
    assert torch.equal(labels, masks.long().flip(axes))


@pytest.mark.smoke
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("floats", [False, True])
@pytest.mark.parametrize("options", [{"hflip": 0.5, "vflip": 0.5}, EVERYTHING], ids=["flips", "everything"])
def test_call_batch_equals_its_samples_with_the_same_generators(memory_format, floats, options):
    images, masks = batch()
    images = (images / 255 if floats else images).contiguous(memory_format=memory_format)
    augment = SegmentationAugment(**options)
    result, labels = augment(images, masks, generator=generators(6))
    for i, generator in enumerate(generators(6)):
        image, mask = augment(images[i], masks[i], generator=generator)
        assert torch.equal(image, result[i])
        assert torch.equal(mask, labels[i])
    one = torch.Generator().manual_seed(4)
    result, labels = augment(images, masks, generator=one)
    again = torch.Generator().manual_seed(4)
    for i in range(6):
        image, mask = augment(images[i], masks[i], generator=again)
        assert torch.equal(image, result[i])
        assert torch.equal(mask, labels[i])


def test_call_flips_are_evenly_distributed_and_independent():
    num_samples = 4000
    corners = torch.zeros(num_samples, 3, 2, 2, dtype=torch.uint8)
    corners[:, :, 0, 0] = 255
    generator = torch.Generator().manual_seed(0)
    result, _ = SegmentationAugment(hflip=0.5, vflip=0.5, **IDENTITY)(corners, generator=generator)
    where = result[:, 0].flatten(1).argmax(1).bincount(minlength=4)  # none, h, v, both
    assert where.sum() == num_samples
    assert (where - num_samples / 4).abs().max() < 110  # four deviations of sqrt(4000 * 3/16)
    rare, _ = SegmentationAugment(hflip=0.1, **IDENTITY)(corners, generator=generator)
    assert 320 < int(rare[:, 0, 0, 1].sum()) < 480


def test_call_of_the_trainers_generators_is_evenly_distributed():
    corners = torch.zeros(2000, 3, 1, 2, dtype=torch.uint8)
    corners[..., 0] = 255
    seeds = [sample_generator(0, epoch, index, stream=1) for epoch in range(20) for index in range(100)]
    flipped = SegmentationAugment(hflip=0.5, **IDENTITY)(corners, generator=seeds)[0][:, 0, 0, 1]
    assert 900 < int(flipped.sum()) < 1100
    by_epoch = flipped.view(20, 100).sum(1)
    assert by_epoch.min() > 25 and by_epoch.max() < 75


def test_call_generator_alone_decides_and_draws_are_as_many_whatever_the_settings():
    images, masks = batch()
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tobytes()
    ends = []
    for options in ({}, {"hflip": 0.5}, EVERYTHING):
        augment = SegmentationAugment(**options)
        generator = torch.Generator().manual_seed(1)
        first = augment(images, masks, generator=generator)
        second = augment(images, masks, generator=torch.Generator().manual_seed(1))
        assert torch.equal(first[0], second[0])
        assert torch.equal(first[1], second[1])
        ends.append(generator.get_state())
    assert torch.equal(ends[0], ends[1])
    assert torch.equal(ends[0], ends[2])
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.random.get_state()[1].tobytes() == states[2]


def test_call_without_generator_uses_torchs_default_one():
    images, _ = batch(30)
    augment = SegmentationAugment(hflip=0.5)
    results = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        results.append(augment(images)[0])
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_call_image_and_mask_are_flipped_together():
    masks = torch.randint(0, 256, (50, 4, 6), dtype=torch.uint8)
    images = masks[:, None].expand(-1, 3, -1, -1)
    result, labels = SegmentationAugment(hflip=0.5, vflip=0.5, **IDENTITY)(images, masks)
    assert torch.equal((result[:, 1] * 255).round().long(), labels)
    assert not torch.equal(labels, masks.long())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("options", [{"hflip": 0.5, "vflip": 0.5}, EVERYTHING], ids=["flips", "everything"])
def test_call_float_images_agree_with_uint8(dtype, options):
    images, _ = batch()
    augment = SegmentationAugment(**options)
    expected, _ = augment(images, generator=generators(6))
    result, _ = augment((images.double() / 255).to(dtype), generator=generators(6))
    assert result.dtype == torch.float32
    # saturation and hue subtract channels from each other, automatic contrast stretches them
    spread = 2 if options is not EVERYTHING else 10
    assert torch.allclose(result, expected, atol=spread * torch.finfo(dtype).eps / min(IMAGENET_STD) + 5e-6)


@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.uint32, torch.int64, torch.bool]
)
def test_call_masks_of_any_integer_type_come_out_int64(dtype):
    images, masks = batch()
    masks = masks.to(dtype)
    _, labels = SegmentationAugment(hflip=1)(images, masks)
    assert labels.dtype == torch.int64
    assert torch.equal(labels, masks.long().flip(-1))


def test_call_masks_with_a_channel_axis_lose_it():
    images, masks = batch()
    augment = SegmentationAugment(vflip=1)
    _, expected = augment(images, masks)
    assert torch.equal(augment(images, masks[:, None])[1], expected)
    _, single = augment(images[0], masks[:1])
    assert torch.equal(single, expected[0])
    assert augment(images[:1], masks[:1])[1].shape == (1, 5, 7)


@pytest.mark.parametrize("options", [{}, {"hflip": 0.5, "vflip": 0.5}, {"hflip": 1}, EVERYTHING])
@pytest.mark.parametrize("floats", [False, True])
def test_call_memory_format_is_kept(options, floats):
    images, _ = batch()
    images = images / 255 if floats else images
    for given in (images, images.contiguous(memory_format=torch.channels_last)):
        result, _ = SegmentationAugment(**options)(given)
        assert result.stride() == given.stride()
        single, _ = SegmentationAugment(**options)(given[0])
        assert single.stride() == given[0].stride()


def test_call_tv_tensors_come_out_plain():
    images, masks = batch()
    result, labels = SegmentationAugment(hflip=0.5)(tv_tensors.Image(images), tv_tensors.Mask(masks))
    assert type(result) is torch.Tensor
    assert type(labels) is torch.Tensor


@pytest.mark.parametrize("options", [{}, {"hflip": 0.5}, {"hflip": 1}, EVERYTHING])
def test_call_arguments_are_not_changed_nor_shared(options):
    images, masks = batch()
    images, masks = images / 255, masks.long()
    before = images.clone(), masks.clone()
    result, labels = SegmentationAugment(**IDENTITY, **options)(images, masks)
    result.zero_()
    labels.zero_()
    assert torch.equal(images, before[0])
    assert torch.equal(masks, before[1])


@pytest.mark.parametrize("options", [{}, EVERYTHING])
def test_call_result_needs_no_gradient(options):
    images = torch.rand(2, 3, 4, 4, requires_grad=True)
    assert not SegmentationAugment(**options)(images)[0].requires_grad


def test_call_empty_batch_stays_empty():
    images, masks = batch(0)
    result, labels = SegmentationAugment(hflip=0.5)(images, masks)
    assert result.shape == (0, 3, 5, 7)
    assert labels.shape == (0, 5, 7)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"hflip": 1.5}, "hflip must be a probability in 0 to 1, got 1.5"),
        ({"vflip": -0.1}, "vflip must be a probability in 0 to 1, got -0.1"),
        ({"hflip": True}, "hflip must be a probability in 0 to 1, got True"),
        ({"vflip": float("nan")}, "vflip must be a probability"),
        ({"mean": (0.5,)}, "mean must be three numbers"),
        ({"std": (1, 1, 0)}, "std must be three numbers above 0"),
        ({"auto_contrast": 2}, "auto_contrast must be a probability in 0 to 1, got 2"),
        ({"perspective": -0.5}, "perspective must be a distortion in 0 to 1, got -0.5"),
        ({"rotation_range": 10}, r"rotation_range must be \(minimum, maximum\) in degrees, got 10"),
        ({"rotation_range": (10, -10)}, r"rotation_range must be .* got \(10, -10\)"),
        ({"rotation_range": (0, math.inf)}, "rotation_range must be"),
        ({"zoom_range": (0, 1)}, r"zoom_range must be \(minimum, maximum\) in factors from 0.01 to 100, got \(0, 1\)"),
        ({"zoom_range": "ab"}, "zoom_range must be"),
        ({"blur": -1}, r"blur must be \(minimum, maximum\) in pixels, or one number of at least 0, got -1"),
        ({"blur": (1, 2, 3)}, r"blur must be .* got \(1, 2, 3\)"),
        ({"color_jitter": 0.4}, "color_jitter must be three or four items, .* got 0.4"),
        ({"color_jitter": (0.1, 0.1)}, "color_jitter must be three or four items"),
        ({"color_jitter": (-0.1, 0, 0)}, "color_jitter: brightness must be .* got -0.1"),
        ({"color_jitter": (0, (1.2, 0.8), 0)}, r"color_jitter: contrast must be .* got \(1.2, 0.8\)"),
        ({"color_jitter": (0, 0, None)}, "color_jitter: saturation must be .* got None"),
        ({"color_jitter": (0, 0, 0, 0.6)}, "color_jitter: hue must be .* turns from -0.5 to 0.5, .* got 0.6"),
        ({"color_jitter": (0, 0, 0, (-0.6, 0))}, "color_jitter: hue must be"),
        ({"mask_fill": -1}, "mask_fill must be an integer >= 0, got -1"),
        ({"left_right_pairs": [(1, 2), (2, 3)]}, "left_right_pairs must be pairs .* each id in only one pair"),
        ({"left_right_pairs": (14, 15)}, r"left_right_pairs must be pairs of class ids .* got \(14, 15\)"),
    ],
)
def test_init_wrong_argument_raises(options, words):
    with pytest.raises(InvalidArgumentError, match=words):
        SegmentationAugment(**options)


@pytest.mark.parametrize(
    ("images", "masks", "words"),
    [
        (np.zeros((3, 4, 4)), None, "images must be a tensor, got ndarray"),
        (torch.zeros(4, 4), None, r"images must be .* got shape \(4, 4\)"),
        (torch.zeros(2, 1, 4, 4), None, r"got shape \(2, 1, 4, 4\)"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), None, "uint8 in 0 to 255 or float in 0 to 1, got torch.int64"),
        (torch.full((3, 4, 4), 255.0), None, "float images must be in 0 to 1, got values from 255 to 255"),
        (torch.zeros(3, 4, 4), [[0]], "masks must be a tensor, got list"),
        (torch.zeros(3, 4, 4), torch.zeros(4, 4), "masks must have an integer type, got torch.float32"),
        (torch.zeros(3, 4, 4), torch.zeros(4, 5, dtype=torch.uint8), r"masks must be \(4, 4\) .* got \(4, 5\)"),
        (
            torch.zeros(2, 3, 4, 4),
            torch.zeros(3, 4, 4, dtype=torch.uint8),
            r"masks must be \(2, 4, 4\) for images of shape \(2, 3, 4, 4\), got \(3, 4, 4\)",
        ),
    ],
)
def test_call_wrong_sample_raises(images, masks, words):
    with pytest.raises(InvalidArgumentError, match=words):
        SegmentationAugment()(images, masks)


def test_call_wrong_number_of_generators_raises():
    with pytest.raises(InvalidArgumentError, match="one for all samples or one per sample, got 3 for 2"):
        SegmentationAugment()(torch.zeros(2, 3, 4, 4), generator=generators(3))


def test_call_generator_of_another_device_raises():
    class OnDevice:
        device = torch.device("cuda")

    with pytest.raises(InvalidArgumentError, match="generator must be on the CPU, got one on cuda"):
        SegmentationAugment()(torch.zeros(3, 4, 4), generator=OnDevice())


class _Indices(Dataset):
    def __init__(self, augment):
        self.augment = augment

    def __len__(self):
        return 8

    def __getitem__(self, index):
        image = torch.randint(0, 256, (3, 20, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(index))
        return self.augment(image, image[0], generator=sample_generator(0, 3, index, stream=1))


def test_call_in_workers_equals_call_in_this_process():
    dataset = _Indices(SegmentationAugment(**EVERYTHING))
    for here, there in zip(DataLoader(dataset, 4), DataLoader(dataset, 4, num_workers=2), strict=True):
        assert torch.equal(here[0], there[0])
        assert torch.equal(here[1], there[1])


def test_call_all_samples_at_once_as_on_a_device_equals_one_by_one(monkeypatch):
    images, masks = batch(6, 20, 24)
    for floats in (False, True):
        images = images / 255 if floats else images
        for memory_format in (torch.contiguous_format, torch.channels_last):
            given = images.contiguous(memory_format=memory_format)
            augment = SegmentationAugment(**EVERYTHING)
            expected = augment(given, masks, generator=generators(6))
            with monkeypatch.context() as patch:
                patch.setattr(augment_module, "_parts", lambda whole: [slice(0, len(whole))])
                result = augment(given, masks, generator=generators(6))
            assert torch.allclose(result[0], expected[0], atol=1e-5)
            assert torch.equal(result[1], expected[1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_call_on_a_device_agrees_with_the_cpu(memory_format):
    images, masks = batch(6, 40, 48)
    augment = SegmentationAugment(**EVERYTHING)
    expected = augment(images, masks, generator=generators(6))
    there = images.cuda().contiguous(memory_format=memory_format)
    result = augment(there, masks.cuda(), generator=generators(6))
    assert result[0].device.type == result[1].device.type == "cuda"
    assert result[0].stride() == there.stride()
    assert torch.allclose(result[0].cpu(), expected[0], atol=1e-3)
    assert (result[1].cpu() == expected[1]).float().mean() > 0.999


def test_call_draws_are_independent_within_a_batch():
    images, masks = batch(1, 24, 24)
    images, masks = images.expand(12, -1, -1, -1), masks.expand(12, -1, -1)
    for options in ({"rotation_range": (-30, 30)}, {"color_jitter": (0.3, 0.3, 0.3)}, {"blur": 2.0}, EVERYTHING):
        result, _ = SegmentationAugment(**options)(images, masks, generator=torch.Generator().manual_seed(0))
        assert len({sample.numpy().tobytes() for sample in result}) == 12


def coordinate_sample(height, width):
    """An image whose red is x and green is y, and a mask with a different id per pixel."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    image = torch.stack([x / width, y / height, torch.zeros_like(x)])
    return image, y * width + x + 1


@pytest.mark.parametrize(
    "options",
    [
        {"rotation_range": (-180, 180)},
        {"zoom_range": (0.5, 2)},
        {"perspective": 0.5},
        {"hflip": 0.5, "vflip": 0.5},
        {"hflip": 0.5, "vflip": 0.5, "rotation_range": (-40, 40), "zoom_range": (0.6, 1.5), "perspective": 0.5},
    ],
    ids=["rotation", "zoom", "perspective", "flips", "all"],
)
def test_call_image_and_mask_come_from_the_same_places(options):
    height, width = 37, 52
    image, mask = coordinate_sample(height, width)
    augment = SegmentationAugment(**options, mask_fill=0, **IDENTITY)
    seen = 0
    for seed in range(8):
        result, ids = augment(image, mask, generator=torch.Generator().manual_seed(seed))
        x, y = (ids - 1) % width, (ids - 1) // width
        # at the image's edge the image fades into the mean color
        inner = (ids > 0) & (x > 0) & (x < width - 1) & (y > 0) & (y < height - 1)
        seen += int(inner.sum())
        assert ((result[0] * width - x)[inner].abs() < 0.5 + 1e-3).all()
        assert ((result[1] * height - y)[inner].abs() < 0.5 + 1e-3).all()
        # where the mask is from outside, so is more than half of the image
        assert (result[:2].flatten(1)[:, (ids == 0).flatten()] <= 0.5).all()
    assert seen > 8 * 300


def test_call_mask_drawn_as_image_warps_alike():
    y, x = torch.meshgrid(torch.arange(60), torch.arange(80), indexing="ij")
    mask = (((x - 30) ** 2 + (y - 25) ** 2) < 300).to(torch.uint8)
    mask[35:50, 50:75] = 1
    augment = SegmentationAugment(**{**EVERYTHING, "blur": 0, "color_jitter": (0, 0, 0), **IDENTITY}, mask_fill=0)
    for seed in range(10):
        drawn = mask[None].expand(3, -1, -1) * 255
        result, warped = augment(drawn, mask, generator=torch.Generator().manual_seed(seed))
        sure = (result[0] < 1e-4) | (result[0] > 1 - 1e-4)  # all four pixels around are of one kind
        assert sure.float().mean() > 0.8
        assert torch.equal(result[0][sure].round().long(), warped[sure])
        # a border pixel goes where more than half of the way is; corners of four pixels may differ
        assert ((result[0] > 0.5).long() == warped).float().mean() > 0.985


def test_call_outside_of_the_image_is_the_mean_color_and_the_fill():
    images = torch.full((4, 3, 30, 40), 255, dtype=torch.uint8)
    masks = torch.zeros(4, 30, 40, dtype=torch.uint8)
    for fill in (255, 7, 300):
        augment = SegmentationAugment(zoom_range=(0.5, 0.5), mask_fill=fill, color_jitter=((0.5, 0.5), 0, 0))
        result, ids = augment(images, masks)
        assert (result[:, :, :5] == 0).all() and (result[:, :, :, -8:] == 0).all()
        assert (ids[:, :5] == fill).all() and (ids[:, :, -8:] == fill).all()
        assert ids.unique().tolist() == [0, fill]
        inside = (0.5 - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
        assert torch.allclose(result[:, :, 15, 20], inside.expand(4, 3), atol=1e-5)
        assert (ids[:, 8:22, 10:30] == 0).all()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.uint16, torch.int64])
def test_call_warped_masks_keep_their_ids(dtype):
    mask = torch.tensor([0, 100, 200, 255]).repeat_interleave(10).repeat(40, 1)
    if dtype not in (torch.uint8, torch.int16):
        mask = mask * 257  # up to 65535
    mask = mask.to(dtype)
    _, ids = SegmentationAugment(rotation_range=(20, 20), mask_fill=11)(torch.zeros(3, 40, 40), mask)
    assert ids.dtype == torch.int64
    assert set(ids.unique().tolist()) == {11, *mask.long().unique().tolist()}


def test_call_quarter_turn_is_exact_and_counter_clockwise():
    image, mask = batch(1, 9, 9)[0][0], batch(1, 9, 9)[1][0]
    for turns in (1, 2, 3):
        augment = SegmentationAugment(rotation_range=(90 * turns, 90 * turns), **IDENTITY)
        result, ids = augment(image, mask)
        assert torch.allclose(result, image.rot90(turns, (1, 2)) / 255, atol=1e-4)
        assert torch.equal(ids, mask.rot90(turns, (0, 1)).long())


@pytest.mark.parametrize("perspective", [0.5, 1.0])
def test_call_strong_perspective_and_tiny_images_stay_finite(perspective):
    augment = SegmentationAugment(**{**EVERYTHING, "perspective": perspective, "blur": 3})
    for height, width in ((1, 1), (1, 7), (2, 3), (30, 30)):
        images = torch.randint(0, 256, (60, 3, height, width), dtype=torch.uint8)
        masks = torch.zeros(60, height, width, dtype=torch.uint8)
        result, ids = augment(images, masks, generator=torch.Generator().manual_seed(0))
        assert result.isfinite().all()
        assert set(ids.unique().tolist()) <= {0, 255}


@pytest.mark.parametrize("warped", [False, True])
def test_call_left_and_right_are_exchanged_where_a_image_is_mirrored(warped):
    masks = torch.tensor([0, 14, 15, 16, 17, 255], dtype=torch.uint8).repeat(6, 1)[None]
    images = torch.zeros(1, 3, 6, 6)
    swapped = torch.tensor([0, 15, 14, 17, 16, 255]).repeat(6, 1)
    options = {"left_right_pairs": [(14, 15), (16, 17)], "zoom_range": (1.001, 1.001) if warped else (1, 1)}
    before = masks.clone()

    def ids(**flips):
        return SegmentationAugment(**options, **flips)(images, masks)[1][0]

    assert torch.equal(ids(), masks[0].long())
    assert torch.equal(ids(hflip=1), swapped.flip(-1))
    assert torch.equal(ids(vflip=1), swapped)  # upside down is a mirror image too
    assert torch.equal(ids(hflip=1, vflip=1), masks[0].long().flip(-1))  # half a turn is none
    assert torch.equal(masks, before)


def test_call_only_mirrored_samples_of_a_batch_exchange_left_and_right(monkeypatch):
    masks = torch.tensor([[1, 2, 0]], dtype=torch.uint8).repeat(40, 1, 1)
    augment = SegmentationAugment(hflip=0.5, left_right_pairs=[(1, 2)])
    for parts in (augment_module._parts, lambda whole: [slice(0, len(whole))]):
        monkeypatch.setattr(augment_module, "_parts", parts)
        _, ids = augment(torch.zeros(40, 3, 1, 3), masks, generator=torch.Generator().manual_seed(0))
        kept, mirrored = torch.tensor([[1, 2, 0]]), torch.tensor([[0, 1, 2]])
        as_is = (ids == kept).all(-1).all(-1)
        assert ((ids == mirrored).all(-1).all(-1) | as_is).all()
        assert 8 < int(as_is.sum()) < 32


def largest_gap(ours, theirs):
    """Kolmogorov and Smirnov's statistic of two samples: the largest distance between their distribution functions."""
    ours, theirs = torch.as_tensor(ours).sort().values, torch.as_tensor(theirs).sort().values
    both = torch.cat([ours, theirs])
    shares = [torch.searchsorted(sample, both, right=True) / len(sample) for sample in (ours, theirs)]
    return (shares[0] - shares[1]).abs().max()


def some_image(height=16, width=20):
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    return torch.stack([0.2 + 0.5 * x, 0.3 + 0.4 * y, 0.25 + 0.3 * (x + y) / 2])  # no operation clips it


@pytest.mark.parametrize(
    ("options", "peer"),
    [
        ({"color_jitter": (0.3, 0, 0)}, v2.ColorJitter(brightness=0.3)),
        ({"color_jitter": (0, 0.4, 0)}, v2.ColorJitter(contrast=0.4)),
        ({"color_jitter": (0, 0, 0.5)}, v2.ColorJitter(saturation=0.5)),
        ({"color_jitter": (0.2, 0.2, 0.2)}, v2.ColorJitter(0.2, 0.2, 0.2)),
        ({"color_jitter": ((0.5, 1), (0.7, 1.1), (0.2, 0.9))}, v2.ColorJitter((0.5, 1), (0.7, 1.1), (0.2, 0.9))),
        ({"rotation_range": (-20, 50)}, v2.RandomRotation((-20, 50), v2.InterpolationMode.BILINEAR)),
        ({"zoom_range": (0.6, 1.7)}, v2.RandomAffine(0, scale=(0.6, 1.7), interpolation=v2.InterpolationMode.BILINEAR)),
        ({"perspective": 0.8}, v2.RandomPerspective(0.8, p=1)),
        ({"hflip": 0.3, "vflip": 0.6}, v2.Compose([v2.RandomHorizontalFlip(0.3), v2.RandomVerticalFlip(0.6)])),
        ({"auto_contrast": 0.4}, v2.RandomAutocontrast(0.4)),
        ({"blur": (0.2, 2)}, v2.GaussianBlur(13, (0.2, 2))),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_call_distribution_is_that_of_torchvisions_operations(options, peer):
    torch.manual_seed(0)
    num_samples = 600
    # torchvision moves corners by whole pixels; a finer image makes little of that
    image = some_image(80, 100) if "perspective" in options else some_image()
    height, width = image.shape[-2:]
    places = [(height // 2, width // 2), (height // 4, width // 5), (height - 2, width - 3)]
    augment = SegmentationAugment(**options, **IDENTITY)
    ours = augment(image.expand(num_samples, -1, -1, -1))[0]
    theirs = torch.stack([peer(image) for _ in range(num_samples)])
    for y, x in places:
        for channel in range(3):
            samples = [r[:, channel, y, x].mul(2000).round() for r in (ours, theirs)]
            # one in a thousand samples of equal distributions lies further apart
            assert largest_gap(*samples) < 1.95 * math.sqrt(2 / num_samples)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # out of range on both sides, so that values are clipped
        ({"color_jitter": ((2, 2), 0, 0)}, lambda x: F.adjust_brightness(x, 2)),
        ({"color_jitter": (0, (4, 4), 0)}, lambda x: F.adjust_contrast(x, 4)),
        ({"auto_contrast": 1}, F.autocontrast),
        ({"auto_contrast": 1, "color_jitter": (0, (0.5, 0.5), 0)}, lambda x: F.adjust_contrast(F.autocontrast(x), 0.5)),
    ],
    ids=["brightness", "contrast", "auto_contrast", "auto_contrast first"],
)
@pytest.mark.parametrize("floats", [False, True])
def test_call_fixed_color_agrees_with_torchvision(options, expected, floats):
    image = (some_image() * 255).round().to(torch.uint8)
    given = image / 255 if floats else image
    result, _ = SegmentationAugment(**options)(given)
    mean, std = (torch.tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
    assert torch.allclose(result * std + mean, expected(image / 255), atol=1e-3)


def test_call_geometry_is_flips_then_perspective_then_zoom_and_rotation():
    image = some_image(60, 80)
    image[0, 10:20, 10:30] = 0.9
    mask = torch.arange(60 * 80).view(60, 80)
    steps = [{"hflip": 1}, {"perspective": 0.5}, {"rotation_range": (25, 25), "zoom_range": (0.8, 0.8)}]
    for seed in range(5):

        def run(options, image, mask, seed=seed):
            augment = SegmentationAugment(**options, **IDENTITY, mask_fill=60 * 80)
            return augment(image, mask, generator=torch.Generator().manual_seed(seed))

        at_once, ids = run(steps[0] | steps[1] | steps[2], image, mask)
        step_image, step_mask = image, mask
        for step in steps:
            step_image, step_mask = run(step, step_image, step_mask)
        # two roundings to pixels lie at most a pixel and a half from one
        inside = (ids < 60 * 80) & (step_mask < 60 * 80)
        assert inside.float().mean() > 0.2
        for stride in (lambda i: i % 80, lambda i: i // 80):
            assert ((stride(ids) - stride(step_mask))[inside].abs() <= 2).all()
        assert (at_once - step_image).abs()[:, inside].mean() < 0.02


def test_call_hue_turns_as_far_as_torchvisions():
    torch.manual_seed(0)
    num_samples = 600
    pixel = torch.tensor([0.7, 0.3, 0.3]).view(3, 1, 1)
    ours = SegmentationAugment(color_jitter=(0, 0, 0, 0.1), **IDENTITY)(pixel.expand(num_samples, 3, 1, 1))[0]
    theirs = [v2.ColorJitter(hue=0.1)(pixel).flatten().tolist() for _ in range(num_samples)]
    # each measured in the space that it turns in: the angle of chroma in YIQ, and the hue of HSV
    chroma = torch.tensor([[0.596, -0.274, -0.322], [0.211, -0.523, 0.312]]) @ ours.view(-1, 3, 1)
    start = torch.tensor([[0.596, -0.274, -0.322], [0.211, -0.523, 0.312]]) @ pixel.view(3, 1)
    turns = (torch.atan2(*start.flip(0)) - torch.atan2(chroma[:, 1], chroma[:, 0])).flatten() / (2 * math.pi)
    turned = torch.tensor([(colorsys.rgb_to_hsv(*color)[0] + 0.5) % 1 - 0.5 for color in theirs])
    assert turns.abs().max() <= 0.1 + 1e-5
    assert largest_gap(turns, turned) < 1.95 * math.sqrt(2 / num_samples)


def test_repr_names_every_setting():
    assert repr(SegmentationAugment(hflip=0.5, color_jitter=(0.5, (1, 2), 0, 0.1), **IDENTITY)) == (
        "SegmentationAugment(hflip=0.5, vflip=0.0, rotation_range=(0.0, 0.0), zoom_range=(1.0, 1.0), perspective=0.0, "
        "blur=(0.0, 0.0), color_jitter=((0.5, 1.5), (1.0, 2.0), (1.0, 1.0), (-0.1, 0.1)), auto_contrast=0.0, "
        "mask_fill=255, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), left_right_pairs=(), "
        "brightness_shift=(0.0, 0.0), color_jitter_probability=1.0)"
    )


# ---- brightness_shift and color_jitter_probability -------------------------------------------------------------------


def middle(num_samples=4, seed=0):
    """Returns images of values that no jitter below clips, float (num_samples, 3, 6, 8)."""
    return 0.4 + 0.2 * torch.rand(num_samples, 3, 6, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shift", [0.1, -0.25])
def test_brightness_shift_is_added_to_every_channel(shift):
    images = middle()
    result, _ = SegmentationAugment(brightness_shift=(shift, shift), **IDENTITY)(images)
    assert torch.allclose(result, images + shift, atol=1e-6)
    pixels = (images * 255).byte()
    result, _ = SegmentationAugment(brightness_shift=(shift, shift), **IDENTITY)(pixels)
    assert torch.allclose(result, pixels / 255 + shift, atol=1e-6)
    result, _ = SegmentationAugment(brightness_shift=(0.9, 0.9), **IDENTITY)(images)
    assert torch.equal(result, torch.ones_like(result))


def test_brightness_shift_comes_before_the_factors_of_the_jitter():
    images, shift, brightness, contrast = middle(), 0.08, 0.7, 1.3
    jitter = ((brightness, brightness), (contrast, contrast), 0)
    result, _ = SegmentationAugment(brightness_shift=(shift, shift), color_jitter=jitter, **IDENTITY)(images)
    shifted = images + shift
    weights = torch.tensor([0.299, 0.587, 0.114])
    mean = (shifted.mean((2, 3)) @ weights)[:, None, None, None]
    assert torch.allclose(result, brightness * (mean + contrast * (shifted - mean)), atol=1e-5)
    # the brightness and contrast of SSD's photometric distortion: an addition, then a factor
    ssd = SegmentationAugment(brightness_shift=(shift, shift), color_jitter=((0.7, 0.7), 0, 0), **IDENTITY)
    assert torch.allclose(ssd(images)[0], 0.7 * (images + shift), atol=1e-6)


def test_brightness_shift_keeps_saturation_and_hue_of_the_jitter():
    images = middle()
    jitter = {"color_jitter": (0, 0, (0.6, 0.6), (0.05, 0.05)), **IDENTITY}
    plain, _ = SegmentationAugment(**jitter)(images)
    shifted, _ = SegmentationAugment(brightness_shift=(0.1, 0.1), **jitter)(images)
    assert torch.allclose(shifted, plain + 0.1, atol=1e-5)


def test_brightness_shift_leaves_the_other_draws_of_a_sample_unchanged():
    images, masks = batch(8)
    plain, labels = SegmentationAugment(hflip=0.5, zoom_range=(0.5, 2))(images, masks, generator=generators(8))
    shifted = SegmentationAugment(hflip=0.5, zoom_range=(0.5, 2), brightness_shift=(1e-9, 1e-9))
    result, same = shifted(images, masks, generator=generators(8))
    assert torch.equal(labels, same)
    assert torch.allclose(result, plain, atol=1e-5)


def test_color_jitter_draws_of_the_defaults_are_those_of_eighteen_numbers():
    images = middle(5)
    one = torch.Generator().manual_seed(3)
    result, _ = SegmentationAugment(color_jitter=(0.4, 0, 0), **IDENTITY)(images, generator=one)
    again = torch.Generator().manual_seed(3)
    factors = torch.stack([torch.rand(18, generator=again)[14] for _ in range(5)]) * 0.8 + 0.6
    assert torch.allclose(result, factors[:, None, None, None] * images, atol=1e-6)
    assert torch.equal(one.get_state(), again.get_state())


def test_color_jitter_probability_one_changes_nothing_and_zero_switches_it_off():
    images, masks = batch()
    expected = SegmentationAugment(**EVERYTHING)(images, masks, generator=generators(6))
    always = SegmentationAugment(color_jitter_probability=1.0, **EVERYTHING)(images, masks, generator=generators(6))
    assert torch.equal(always[0], expected[0])
    assert torch.equal(always[1], expected[1])
    never = SegmentationAugment(
        color_jitter=(0.4, 0.4, 0.4, 0.1), brightness_shift=0.2, color_jitter_probability=0, **IDENTITY
    )(images)
    assert torch.allclose(never[0], images / 255, atol=1e-6)


def test_color_jitter_probability_applies_each_part_on_its_own_over_its_whole_range():
    num_samples = 4000
    # gray ramps: brightness is the factor of the mean, contrast that of the deviation; chroma has its own image
    ramp = torch.linspace(0.45, 0.55, 5).expand(num_samples, 3, 1, 5)
    augment = SegmentationAugment(
        color_jitter=(0.5, 0.5, 0), brightness_shift=0.1, color_jitter_probability=0.3, **IDENTITY
    )
    result, _ = augment(ramp, generator=torch.Generator().manual_seed(0))
    mean, slope = result[:, 0, 0].mean(1), result[:, 0, 0, -1] - result[:, 0, 0, 0]
    untouched = (mean - 0.5).abs() < 1e-5
    assert float(untouched.float().mean()) == pytest.approx(0.7**2, abs=0.04)  # neither shift nor factor
    same_slope = (slope - 0.1).abs() < 1e-5
    assert float(same_slope.float().mean()) == pytest.approx(0.7**2, abs=0.04)  # neither brightness nor contrast
    both = untouched & same_slope
    assert float(both.float().mean()) == pytest.approx(0.7**3, abs=0.04)
    only_contrast = slope[untouched & ~same_slope] / 0.1
    assert only_contrast.min() < 0.55 and only_contrast.max() > 1.45
    counts = torch.histc(only_contrast, 4, 0.5, 1.5)
    assert counts.min() > 0.18 * counts.sum() and counts.max() < 0.32 * counts.sum()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"brightness_shift": -0.1}, r"brightness_shift must be \(minimum, maximum\) in -1 to 1, .* got -0.1"),
        ({"brightness_shift": (0.2, -0.2)}, r"brightness_shift .* got \(0.2, -0.2\)"),
        ({"brightness_shift": 32}, "brightness_shift .* got 32"),
        ({"brightness_shift": "a"}, "brightness_shift .* got 'a'"),
        ({"color_jitter_probability": 1.5}, "color_jitter_probability must be a probability in 0 to 1, got 1.5"),
        ({"color_jitter_probability": None}, "color_jitter_probability must be"),
    ],
)
def test_init_wrong_shift_or_probability_raises(options, words):
    with pytest.raises(InvalidArgumentError, match=words):
        SegmentationAugment(**options)
