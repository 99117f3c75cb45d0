import random

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from seg_core.augment import SegmentationAugment
from seg_core.errors import InvalidArgumentError
from seg_core.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from seg_core.randomness import sample_generator

IDENTITY = {"mean": (0, 0, 0), "std": (1, 1, 1)}


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
def test_call_batch_equals_its_samples_with_the_same_generators(memory_format, floats):
    images, masks = batch()
    images = (images / 255 if floats else images).contiguous(memory_format=memory_format)
    augment = SegmentationAugment(hflip=0.5, vflip=0.5)
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
    for options in ({}, {"hflip": 0.5}, {"hflip": 1, "vflip": 0.3}):
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
def test_call_float_images_agree_with_uint8(dtype):
    images, _ = batch()
    augment = SegmentationAugment(hflip=0.5, vflip=0.5)
    expected, _ = augment(images, generator=generators(6))
    result, _ = augment((images.double() / 255).to(dtype), generator=generators(6))
    assert result.dtype == torch.float32
    assert torch.allclose(result, expected, atol=2 * torch.finfo(dtype).eps / min(IMAGENET_STD) + 1e-6)


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


@pytest.mark.parametrize("options", [{}, {"hflip": 0.5, "vflip": 0.5}, {"hflip": 1}])
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


@pytest.mark.parametrize("options", [{}, {"hflip": 0.5}, {"hflip": 1}])
def test_call_arguments_are_not_changed_nor_shared(options):
    images, masks = batch()
    images, masks = images / 255, masks.long()
    before = images.clone(), masks.clone()
    result, labels = SegmentationAugment(**IDENTITY, **options)(images, masks)
    result.zero_()
    labels.zero_()
    assert torch.equal(images, before[0])
    assert torch.equal(masks, before[1])


def test_call_result_needs_no_gradient():
    images = torch.rand(2, 3, 4, 4, requires_grad=True)
    assert not SegmentationAugment()(images)[0].requires_grad


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
    ],
)
def test_init_wrong_argument_is_told(options, words):
    with pytest.raises(InvalidArgumentError, match=words):
        SegmentationAugment(**options)


@pytest.mark.parametrize(
    ("images", "masks", "words"),
    [
        (np.zeros((3, 4, 4)), None, "images must be a tensor, got ndarray"),
        (torch.zeros(4, 4), None, r"images must be .* got shape \(4, 4\)"),
        (torch.zeros(2, 1, 4, 4), None, r"got shape \(2, 1, 4, 4\)"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), None, "uint8 in 0 to 255 or float in 0 to 1, got torch.int64"),
        (torch.full((3, 4, 4), 255.0), None, "float images must lie in 0 to 1, got values from 255 to 255"),
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
def test_call_wrong_sample_is_told(images, masks, words):
    with pytest.raises(InvalidArgumentError, match=words):
        SegmentationAugment()(images, masks)


def test_call_wrong_number_of_generators_is_told():
    with pytest.raises(InvalidArgumentError, match="one for all samples or one per sample, got 3 for 2"):
        SegmentationAugment()(torch.zeros(2, 3, 4, 4), generator=generators(3))


def test_call_generator_of_another_device_is_told():
    class OnDevice:
        device = torch.device("cuda")

    with pytest.raises(InvalidArgumentError, match="generator must be on the CPU, got one on cuda"):
        SegmentationAugment()(torch.zeros(3, 4, 4), generator=OnDevice())


def test_repr_names_every_setting():
    assert repr(SegmentationAugment(hflip=0.5, **IDENTITY)) == (
        "SegmentationAugment(hflip=0.5, vflip=0.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))"
    )
