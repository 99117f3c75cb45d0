import random

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torchvision import tv_tensors
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as TF

from seg_core.errors import InvalidArgumentError
from seg_core.transforms.crop import SegmentationTransform


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def sample(height=48, width=64, seed=0):
    values = np.random.default_rng(seed)
    image = Image.fromarray(values.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8))
    mask = values.integers(0, 5, (height, width), dtype=np.uint8)
    return np.array(image.resize((width, height), Image.Resampling.BICUBIC)), mask


def test_call_without_size_sets_the_type_only():
    array, mask = sample()
    state = torch.get_rng_state()
    image, labels = SegmentationTransform()(Image.fromarray(array), Image.fromarray(mask))
    assert isinstance(image, tv_tensors.Image)
    assert isinstance(labels, tv_tensors.Mask)
    assert image.dtype == torch.uint8
    assert np.array_equal(image.permute(1, 2, 0).numpy(), array)
    assert np.array_equal(labels.numpy(), mask)
    assert torch.equal(torch.get_rng_state(), state)


def test_call_without_mask_gives_none():
    image, mask = SegmentationTransform(16)(sample()[0])
    assert image.shape == (3, 16, 16)
    assert mask is None


def test_call_half_scale_is_exactly_the_half_size_image():
    array, mask = sample(360, 480)
    transform = SegmentationTransform(size=(180, 240), scale_range=(0.5, 0.5))
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    for seed in range(3):
        image, labels = transform(array, mask, generator=generator(seed))
        expected = TF.resize(tensor[None].contiguous(memory_format=torch.channels_last), [180, 240], antialias=True)[0]
        assert torch.equal(image, expected)
        nearest = TF.resize(torch.from_numpy(mask)[None], [180, 240], interpolation=InterpolationMode.NEAREST_EXACT)
        assert torch.equal(labels, nearest[0])


def test_call_unit_scale_is_a_crop_of_the_image():
    array, mask = sample()
    seen = set()
    for seed in range(60):
        image, labels = SegmentationTransform((8, 12))(array, mask, generator=generator(seed))
        places = [
            (y, x)
            for y in range(48 - 8 + 1)
            for x in range(64 - 12 + 1)
            if np.array_equal(mask[y : y + 8, x : x + 12], labels.numpy())
        ]
        assert len(places) == 1
        y, x = places[0]
        assert np.array_equal(array[y : y + 8, x : x + 12], image.permute(1, 2, 0).numpy())
        seen.add(places[0])
    ys, xs = zip(*seen, strict=True)
    assert min(ys) < 5 and max(ys) > 35 and min(xs) < 6 and max(xs) > 46


@pytest.mark.smoke
@pytest.mark.parametrize("scale", [(0.3, 0.3), (0.5, 2.0), (1.0, 1.0), (2.7, 2.7)])
@pytest.mark.parametrize("size", [(40, 56), (97, 31), (120, 130)])
def test_call_mask_drawn_as_image_lands_at_the_same_place(scale, size):
    drawn = Image.new("L", (111, 83), 0)
    draw = ImageDraw.Draw(drawn)
    draw.ellipse((20, 10, 70, 60), fill=1)
    draw.rectangle((60, 50, 100, 75), fill=1)
    mask = np.array(drawn)
    image = np.repeat((40 + 175 * mask)[:, :, None], 3, axis=2).astype(np.uint8)
    transform = SegmentationTransform(size, scale_range=scale, image_fill=(1, 2, 3))
    for seed in range(12):
        result, labels = transform(image, mask, generator=generator(seed))
        assert result.shape == (3, *size)
        assert labels.shape == size
        filled = labels == 255
        assert torch.equal(filled, (result == torch.tensor([1, 2, 3])[:, None, None]).all(0))
        inside = result[0] > 127
        wrong = (inside != (labels == 1)) & ~filled
        around = torch.nn.functional.unfold((labels == 1)[None, None].float(), 3, padding=1).view(9, *size)
        edge = (around.amax(0) > 0) & (around.amin(0) == 0)
        assert not (wrong & ~edge).any()


@pytest.mark.parametrize("scale", [0.37, 0.5, 0.8, 1.0, 1.3, 2.0])
def test_call_coordinates_agree_between_image_and_mask(scale):
    x = np.broadcast_to(np.arange(200, dtype=np.uint8), (150, 200))
    y = np.broadcast_to(np.arange(150, dtype=np.uint8)[:, None], (150, 200))
    image = np.stack([x, y, x], axis=-1)
    transform = SegmentationTransform((37, 41), scale_range=(scale, scale))
    for seed in range(10):
        for channel, coordinate in ((0, x), (1, y)):
            result, labels = transform(image, coordinate, generator=generator(seed))
            assert (result[channel].int() - labels.int()).abs().max() <= 1
            steps = labels.int().diff(dim=1 - channel).float()
            assert steps.mean() == pytest.approx(1 / scale, abs=0.06)


def test_call_small_image_is_padded_at_a_random_offset():
    array, mask = sample(8, 8)
    transform = SegmentationTransform((20, 30), mask_fill=77, image_fill=(9, 8, 7))
    places = set()
    for seed in range(80):
        image, labels = transform(array, mask, generator=generator(seed))
        rows, columns = (labels != 77).nonzero(as_tuple=True)
        y, x = int(rows.min()), int(columns.min())
        assert np.array_equal(labels[y : y + 8, x : x + 8], mask)
        assert np.array_equal(image[:, y : y + 8, x : x + 8].permute(1, 2, 0), array)
        assert int((labels != 77).sum()) == 64
        outside = image.permute(1, 2, 0)[labels == 77]
        assert (outside == torch.tensor([9, 8, 7])).all()
        places.add((y, x))
    ys, xs = zip(*places, strict=True)
    assert (min(ys), max(ys)) == (0, 12)
    assert min(xs) <= 1 and max(xs) >= 21


def test_call_factor_is_uniform_over_the_range():
    mask = np.zeros((100, 100), np.uint8)
    transform = SegmentationTransform(300, scale_range=(0.5, 2.0))
    image = np.zeros((100, 100, 3), np.uint8)
    g = generator()
    factors = [int((transform(image, mask, generator=g)[1] == 0).sum()) ** 0.5 / 100 for _ in range(300)]
    assert min(factors) >= 0.5 and max(factors) <= 2.0
    counts = np.histogram(factors, bins=5, range=(0.5, 2.0))[0]
    assert counts.min() > 35 and counts.max() < 90  # 60 expected, deviation 7


def test_call_generator_alone_decides():
    array, mask = sample()
    transform = SegmentationTransform(24, scale_range=(0.5, 2.0))
    first = transform(array, mask, generator=generator(3))
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tobytes()
    torch.rand(5)
    np.random.rand(3)
    random.random()
    second = transform(array, mask, generator=generator(3))
    other = transform(array, mask, generator=generator(4))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[1], other[1])
    torch.set_rng_state(states[0])
    random.setstate(states[1])
    transform(array, mask, generator=generator(3))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]


def test_call_without_generator_uses_torchs_default_one():
    array, mask = sample()
    transform = SegmentationTransform(24, scale_range=(0.5, 2.0))
    results = []
    for _ in range(2):
        torch.manual_seed(11)
        results.append(transform(array, mask)[1])
    assert torch.equal(*results)
    assert not torch.equal(results[0], transform(array, mask)[1])


def test_call_draws_the_same_number_whatever_the_settings():
    states = []
    for size, scale, shape in ((8, None, (48, 64)), ((30, 90), (0.5, 2.0), (48, 64)), (500, (1, 1), (16, 8))):
        g = generator(5)
        array, mask = sample(*shape)
        SegmentationTransform(size, scale_range=scale)(array, mask if size == 8 else None, generator=g)
        states.append(g.get_state())
    assert torch.equal(states[0], states[1])
    assert torch.equal(states[0], states[2])
    assert not torch.equal(states[0], generator(5).get_state())


@pytest.mark.smoke
def test_call_every_kind_of_input_gives_the_same_sample():
    array, mask = sample()
    transform = SegmentationTransform((40, 30), scale_range=(0.4, 1.5))
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    read_only = array.copy()
    read_only.setflags(write=False)
    images = [Image.fromarray(array), array, read_only, tensor, tensor.contiguous(), tv_tensors.Image(tensor)]
    masks = [Image.fromarray(mask), mask, torch.from_numpy(mask)[None], tv_tensors.Mask(torch.from_numpy(mask))]
    masks += [mask[None], np.asarray(Image.fromarray(mask))]
    for seed in range(4):
        expected = transform(images[0], masks[0], generator=generator(seed))
        for image, labels in zip(images, masks, strict=True):
            result = transform(image, labels, generator=generator(seed))
            assert torch.equal(result[0], expected[0])
            assert torch.equal(result[1], expected[1])
        from_float, _ = transform(array / 255, generator=generator(seed))
        assert (from_float.int() - expected[0].int()).abs().max() <= 1


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1"])
def test_call_pil_image_of_any_mode_becomes_rgb(mode):
    rgb = Image.fromarray(sample()[0])
    converted = rgb.convert(mode)
    expected = np.array(converted.convert("RGB"))
    image, _ = SegmentationTransform()(converted)
    assert np.array_equal(image.permute(1, 2, 0), expected)
    crop, _ = SegmentationTransform(20)(converted, generator=generator())
    same, _ = SegmentationTransform(20)(expected, generator=generator())
    assert torch.equal(crop, same)


def test_call_palette_mask_keeps_its_indices():
    mask = sample()[1]
    palette = Image.fromarray(mask)
    palette.putpalette([v for i in range(256) for v in (255 - i, i, 7)])
    assert palette.mode == "P"
    _, labels = SegmentationTransform()(sample()[0], palette)
    assert np.array_equal(labels, mask)


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int8, np.int16, np.uint16, np.dtype(">u2"), np.int32, np.uint32, np.int64, bool]
)
def test_call_mask_keeps_its_integer_type(dtype):
    array, mask = sample()
    mask = (mask > 2 if dtype is bool else mask).astype(dtype)
    expected = torch.uint8 if dtype is bool else torch.from_numpy(mask.astype(mask.dtype.newbyteorder("="))).dtype
    for size in (None, 20, (100, 120)):
        _, labels = SegmentationTransform(size, mask_fill=100, scale_range=size and (0.6, 0.6))(array, mask)
        assert labels.dtype == expected
        if size is None:
            assert np.array_equal(labels.numpy(), mask)
        if size == (100, 120):
            assert int((labels.long() == 100).sum()) == 100 * 120 - round(48 * 0.6) * round(64 * 0.6)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.dtype(">u2"), np.int32])
def test_call_pil_mask_of_any_mode_gives_the_same_crop_as_its_array(dtype):
    array, mask = sample()
    mask = (mask > 2 if dtype is bool else mask).astype(dtype)
    image = Image.fromarray(mask)
    transform = SegmentationTransform((20, 30), scale_range=(0.7, 1.4))
    for seed in range(4):
        _, expected = transform(array, mask, generator=generator(seed))
        _, labels = transform(array, image, generator=generator(seed))
        assert torch.equal(labels.long(), expected.long())


def test_call_16_bit_pil_mask_keeps_large_ids():
    mask = np.full((48, 64), 40000, np.uint16)
    _, labels = SegmentationTransform((60, 70), mask_fill=65535)(sample()[0], Image.fromarray(mask))
    assert labels.dtype == torch.uint16
    assert sorted(labels.long().unique().tolist()) == [40000, 65535]


@pytest.mark.parametrize("size", [20, (48, 64), (60, 70)])
def test_call_arguments_are_not_changed_nor_kept(size):
    array, mask = sample()
    image, labels = torch.from_numpy(array.copy()).permute(2, 0, 1).contiguous(), torch.from_numpy(mask.copy())
    result, ids = SegmentationTransform(size)(image, labels)
    result.fill_(0)
    ids.fill_(0)
    assert np.array_equal(image.permute(1, 2, 0), array)
    assert np.array_equal(labels, mask)


def test_call_tiny_images_and_scales_work():
    array = np.full((1, 1, 3), 50, np.uint8)
    image, labels = SegmentationTransform((3, 4), scale_range=(0.01, 0.01))(array, np.ones((1, 1), np.uint8))
    assert int((labels == 1).sum()) == 1
    assert image[:, labels == 1].flatten().tolist() == [50, 50, 50]
    image, labels = SegmentationTransform((3, 4), scale_range=(50, 50))(array, np.ones((1, 1), np.uint8))
    assert (labels == 1).all() and (image == 50).all()


@pytest.mark.parametrize("size", [(10, 12), [10, 12]])
def test_init_size_as_pair_is_height_and_width(size):
    image, _ = SegmentationTransform(size)(sample()[0])
    assert image.shape == (3, 10, 12)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 0}, r"size must be an integer >= 1 or \(height, width\) of such, in pixels, got 0"),
        ({"size": (3,)}, r"got \(3,\)"),
        ({"size": (3, 4, 5)}, r"got \(3, 4, 5\)"),
        ({"size": 2.5}, "got 2.5"),
        ({"size": True}, "got True"),
        ({"size": (8, -1)}, r"got \(8, -1\)"),
        ({"size": "8"}, "got '8'"),
        ({"size": 8, "scale_range": 2.0}, r"scale_range must be \(smallest, largest\) factor .* got 2.0"),
        ({"size": 8, "scale_range": (2.0, 0.5)}, "0 < smallest <= largest"),
        ({"size": 8, "scale_range": (0, 1)}, "0 < smallest"),
        ({"size": 8, "scale_range": (1, float("inf"))}, "scale_range must be"),
        ({"scale_range": (0.5, 1)}, r"scale_range needs size, got scale_range=\(0.5, 1.0\) with size=None"),
        ({"mask_fill": -1}, "mask_fill must be an integer >= 0, got -1"),
        ({"mask_fill": 2.0}, "mask_fill must be"),
        ({"image_fill": (1, 2)}, r"image_fill must be three integers in 0 to 255, got \(1, 2\)"),
        ({"image_fill": (1, 2, 256)}, "image_fill must be"),
        ({"image_fill": 3}, "image_fill must be"),
        ({"resize": {"shorter": 8}}, r"resize must be one of \{scale = 0.5\}, .* got \{'shorter': 8\}"),
        ({"resize": {"shorter_side": 8, "scale": 2}}, "resize must be one of"),
        ({"resize": 8}, "resize must be one of .* got 8"),
        ({"resize": {"shorter_side": 0}}, "shorter_side must be pixels, an integer >= 1, or None, got 0"),
        ({"resize": {"size": 8}}, r"size must be \(height, width\) in pixels"),
        ({"size": 8, "cat_max_ratio": 0}, "cat_max_ratio must be a fraction above 0 and at most 1 .* got 0"),
        ({"size": 8, "cat_max_ratio": 1.5}, "got 1.5"),
        ({"size": 8, "cat_max_ratio": True}, "got True"),
        ({"size": 8, "cat_max_ratio": float("nan")}, "got nan"),
        ({"cat_max_ratio": 0.75}, "cat_max_ratio needs size, got cat_max_ratio=0.75 with size=None"),
    ],
)
def test_init_wrong_argument_raises(options, words):
    with pytest.raises(InvalidArgumentError, match=words):
        SegmentationTransform(**options)


@pytest.mark.parametrize(
    ("image", "mask", "words"),
    [
        (np.zeros((8, 9, 3), np.uint8), np.zeros((9, 8), np.uint8), "got image 8x9 and mask 9x8"),
        (np.zeros((8, 9, 3), np.uint8), np.zeros((8, 9)), "mask must have an integer type, got float64"),
        (np.zeros((8, 9, 3), np.uint8), torch.zeros(8, 9), "mask must have an integer type, got torch.float32"),
        (
            np.zeros((8, 9, 3), np.uint8),
            Image.new("RGB", (9, 8)),
            "one class id per pixel, got a PIL image of mode 'RGB'",
        ),
        (np.zeros((8, 9, 3), np.uint8), np.zeros((8, 9, 3), np.uint8), r"mask must be \(height, width\), got shape"),
        (np.zeros((8, 9, 3), np.uint8), "mask.png", "mask must be a PIL image, an array or a tensor, got str"),
        (torch.zeros(2, 3, 8, 9, dtype=torch.uint8), None, r"one image \(3, H, W\), got a tensor of shape"),
        ("image.png", None, "image must be a PIL image, a numpy array or a tensor, got str"),
        (np.zeros((8, 9, 3), np.int64), None, "uint8 in 0 to 255"),
        (np.zeros((8, 9, 3), np.uint8), np.zeros((8, 9), np.int8), "mask_fill=255 does not fit .* choose at most 127"),
    ],
)
def test_call_wrong_sample_raises(image, mask, words):
    with pytest.raises(InvalidArgumentError, match=words):
        SegmentationTransform(8)(image, mask)


def test_call_generator_of_another_device_raises():
    class OnDevice:
        device = torch.device("cuda")

    with pytest.raises(InvalidArgumentError, match="generator must be on the CPU, got one on cuda"):
        SegmentationTransform(8)(sample()[0], generator=OnDevice())


def test_repr_names_every_setting():
    assert repr(SegmentationTransform(8, scale_range=(0.5, 2))) == (
        "SegmentationTransform(size=(8, 8), mask_fill=255, scale_range=(0.5, 2.0), image_fill=(124, 116, 104), "
        "resize=None, cat_max_ratio=1.0)"
    )
    assert repr(SegmentationTransform(8, resize={"size": (4, 6)}, cat_max_ratio=0.75)).endswith(
        "resize={'size': [4, 6]}, cat_max_ratio=0.75)"
    )


@pytest.mark.parametrize("size", [None, 16, (20, 100), (80, 40)])
@pytest.mark.parametrize("kind", [Image.fromarray, np.asarray, torch.from_numpy], ids=["pil", "array", "tensor"])
def test_transform_mask_gives_the_mask_of_a_call(size, kind):
    array, mask = sample()
    transform = SegmentationTransform(size, scale_range=None if size is None else (0.4, 2.5))
    for seed in range(10):
        expected = transform(array, kind(mask), generator=generator(seed))[1]
        found = transform.transform_mask(kind(mask), generator=generator(seed))
        assert isinstance(found, tv_tensors.Mask)
        assert torch.equal(found, expected)


def test_transform_mask_of_another_kind_is_an_error():
    with pytest.raises(InvalidArgumentError, match=r"mask must have an integer type, got torch.float32"):
        SegmentationTransform(16).transform_mask(torch.zeros(4, 4))
