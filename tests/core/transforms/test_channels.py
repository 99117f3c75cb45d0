"""Images of any number of channels and of uint8, uint16 and float32: against brute force in float64."""

import colorsys
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from seg_core.errors import InvalidArgumentError
from seg_core.labels.channels import RGB_CHANNELS, ImageChannels
from seg_core.transforms import augment as augment_module
from seg_core.transforms.augment import SegmentationAugment
from seg_core.transforms.color import apply_affine_color, channel_means, channel_stretch
from seg_core.transforms.crop import SegmentationTransform
from seg_core.transforms.evaluation import EvaluationTransform
from seg_core.transforms.preprocessing import Preprocessing, resize_image

RANGES = {torch.uint8: (0, 255), torch.uint16: (1000, 41000), torch.float32: (-2.5, 7.5)}
RGB_OF = {1: None, 4: (2, 1, 0), 12: (3, 7, 0)}
LUMA = np.array([0.299, 0.587, 0.114])
FORMATS = [torch.contiguous_format, torch.channels_last]


def channels_of(count, dtype, **values):
    statistics = {"mean": [0.3 + 0.02 * i for i in range(count)], "std": [0.2 + 0.01 * i for i in range(count)]}
    names = tuple(f"band {i}" for i in range(count))
    return ImageChannels(names, **{"range": RANGES[dtype], "rgb": RGB_OF.get(count), **statistics, **values})


def make_images(count, dtype, num=2, height=13, width=11, seed=0):
    """Images whose values reach beyond both ends of the range, where the type has such values."""
    shape = (num, count, height, width)
    generator = np.random.default_rng(seed)
    if dtype == torch.float32:
        return torch.from_numpy(generator.uniform(-4, 9, shape).astype(np.float32))
    high = 256 if dtype == torch.uint8 else 65536
    return torch.from_numpy(generator.integers(0, high, shape).astype(str(dtype).removeprefix("torch.")))


def scaled(images, channels):
    """Values scaled from the range to 0 to 1, float64 (N, C, H, W)."""
    low, high = np.array(channels.ranges).T[:, :, None, None]
    return (images.numpy().astype(np.float64) - low) / (high - low)


def normalized(values, channels):
    mean, std = (np.array(v)[:, None, None] for v in (channels.mean, channels.std))
    return (values - mean) / std


def recolored(values, channels, stretch=False, shift=0.0, brightness=1.0, contrast=1.0, saturation=1.0, turns=0.0):
    """One operation after the other, of values in 0 to 1 (N, C, H, W) without clipping."""
    values = values.copy()
    if stretch:
        low, high = values.min((-2, -1), keepdims=True), values.max((-2, -1), keepdims=True)
        values = (values - low) / (high - low)
    values = brightness * (values + shift)
    rgb = [] if channels.rgb is None else list(channels.rgb)
    others = [i for i in range(channels.count) if i not in rgb]
    own = values[:, others].mean((-2, -1), keepdims=True)
    values[:, others] = own + contrast * (values[:, others] - own)
    if rgb:
        colors = values[:, rgb]
        gray = np.einsum("c,nchw->nhw", LUMA, colors)[:, None]
        middle = gray.mean((-2, -1), keepdims=True)
        gray, colors = (middle + contrast * (v - middle) for v in (gray, colors))
        chroma = saturation * (colors - gray)
        to_yiq = np.array([LUMA, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
        angle = 2 * math.pi * turns
        turn = np.array([[1, 0, 0], [0, math.cos(angle), math.sin(angle)], [0, -math.sin(angle), math.cos(angle)]])
        chroma = np.einsum("ij,njhw->nihw", np.linalg.inv(to_yiq) @ turn @ to_yiq, chroma)
        values[:, rgb] = gray + chroma
    return values


CASES = [(count, dtype) for count in (1, 4, 12) for dtype in RANGES]


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize(("count", "dtype"), CASES)
def test_augment_equals_brute_force_of_each_operation_and_clips_nothing(count, dtype, memory_format):
    channels = channels_of(count, dtype)
    images = make_images(count, dtype).contiguous(memory_format=memory_format)
    settings = {
        "nothing": ({}, {}),
        "brightness": ({"color_jitter": ((1.3, 1.3), 0, 0)}, {"brightness": 1.3}),
        "contrast": ({"color_jitter": (0, (0.6, 0.6), 0)}, {"contrast": 0.6}),
        "saturation": ({"color_jitter": (0, 0, (1.7, 1.7))}, {"saturation": 1.7}),
        "hue": ({"color_jitter": (0, 0, 0, (0.1, 0.1))}, {"turns": 0.1}),
        "shift": ({"brightness_shift": (0.2, 0.2)}, {"shift": 0.2}),
        "stretch": ({"auto_contrast": 1}, {"stretch": True}),
    }
    everything = (
        {
            "color_jitter": ((1.3, 1.3), (0.6, 0.6), (1.7, 1.7), (-0.2, -0.2)),
            "brightness_shift": (0.2, 0.2),
            "auto_contrast": 1,
        },
        {"brightness": 1.3, "contrast": 0.6, "saturation": 1.7, "turns": -0.2, "shift": 0.2, "stretch": True},
    )
    for options, operations in [*settings.values(), everything]:
        result, _ = SegmentationAugment(channels=channels, **options)(images)
        expected = normalized(recolored(scaled(images, channels), channels, **operations), channels)
        np.testing.assert_allclose(result.numpy(), expected, atol=2e-5)
        assert result.dtype == torch.float32
        assert result.is_contiguous(memory_format=memory_format)
    beyond = scaled(images, channels)
    assert dtype == torch.uint8 or (beyond.min() < 0 and beyond.max() > 1)


@pytest.mark.parametrize("dtype", list(RANGES))
def test_augment_hue_and_saturation_leave_channels_that_are_no_colors_alone(dtype):
    channels = channels_of(4, dtype)
    images = make_images(4, dtype)
    plain, _ = SegmentationAugment(channels=channels)(images)
    turned, _ = SegmentationAugment(channels=channels, color_jitter=(0, 0, (0.2, 0.2), (0.3, 0.3)))(images)
    np.testing.assert_allclose(turned[:, 3], plain[:, 3], atol=1e-6)
    assert (turned[:, :3] - plain[:, :3]).abs().max() > 0.1
    without = ImageChannels(channels.names, channels.range, channels.mean, channels.std)  # no colors at all
    same, _ = SegmentationAugment(channels=without, color_jitter=(0, 0, (0.2, 0.2), (0.3, 0.3)))(images)
    np.testing.assert_allclose(same, plain, atol=1e-6)


def test_augment_hue_follows_the_order_of_the_colors():
    channels = ImageChannels(("blue", "nir", "red", "green"), (0, 1), (0,) * 4, (1,) * 4)
    red = torch.zeros(4, 1, 1)
    red[2] = 1
    turned, _ = SegmentationAugment(channels=channels, color_jitter=(0, 0, 0, (1 / 3, 1 / 3)))(red)
    assert colorsys.rgb_to_hsv(0, 1, 0)[0] == pytest.approx(1 / 3)
    assert turned.flatten().argmax() == 3  # green


def test_augment_of_three_8_bit_channels_declared_otherwise_agrees_with_the_rgb_path_inside_of_the_range():
    images = torch.randint(90, 160, (3, 3, 20, 30), dtype=torch.uint8)
    general = ImageChannels(("red", "green", "blue"), range=(0, 255), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    colors = ImageChannels(("red", "green", "blue"), mean=general.mean, std=general.std)
    assert colors.is_rgb8 and not general.is_rgb8
    options = {"hflip": 0.5, "rotation_range": (-20, 20), "blur": 1.0, "color_jitter": (0.1, 0.1, 0.1, 0.02)}
    one, other = (
        SegmentationAugment(channels=c, **options)(images, generator=torch.Generator().manual_seed(3))[0]
        for c in (colors, general)
    )
    assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(("count", "dtype"), CASES)
def test_augment_geometry_and_blur_work_for_every_type(count, dtype):
    channels = channels_of(count, dtype)
    images = make_images(count, dtype, num=3, height=10, width=14)
    masks = torch.randint(0, 5, (3, 10, 14), dtype=torch.uint8)
    flipped, ids = SegmentationAugment(hflip=1, vflip=1, channels=channels)(images, masks)
    expected = normalized(scaled(images, channels), channels)[..., ::-1, ::-1]
    np.testing.assert_allclose(flipped, expected, atol=1e-5)
    assert torch.equal(ids, masks.flip(-1, -2).long())
    options = {
        "rotation_range": (-30, 30),
        "zoom_range": (0.5, 0.7),
        "perspective": 0.2,
        "blur": (0.5, 1.0),
        "hflip": 0.5,
        "channels": channels,
    }
    everything = SegmentationAugment(**options)
    result, ids = everything(images, masks, generator=torch.Generator().manual_seed(0))
    # the same as of the normalized values, one channel at a time
    plain = torch.from_numpy(normalized(scaled(images, channels), channels)).float()
    for i in range(count):
        alone = ImageChannels(("x",), (0, 1), (0,), (1,))
        augment = SegmentationAugment(**{**options, "channels": alone})
        one, same = augment(plain[:, i : i + 1], masks, generator=torch.Generator().manual_seed(0))
        assert torch.allclose(one[:, 0], result[:, i], atol=1e-4)
        assert torch.equal(same, ids)


@pytest.mark.parametrize("dtype", list(RANGES))
@pytest.mark.parametrize("memory_format", FORMATS)
def test_augment_batch_equals_its_samples_and_a_device_does_the_same_at_once(monkeypatch, dtype, memory_format):
    channels = channels_of(4, dtype)
    images = make_images(4, dtype, num=4).contiguous(memory_format=memory_format)
    augment = SegmentationAugment(
        hflip=0.5, color_jitter=(0.4, 0.4, 0.4, 0.1), auto_contrast=0.5, brightness_shift=0.1, channels=channels
    )
    generators = [torch.Generator().manual_seed(i) for i in range(4)]
    result, _ = augment(images, generator=generators)
    for i in range(4):
        one, _ = augment(images[i], generator=torch.Generator().manual_seed(i))
        assert torch.equal(one, result[i])
    monkeypatch.setattr(augment_module, "_parts", lambda whole: [slice(0, len(whole))])
    at_once, _ = augment(images, generator=[torch.Generator().manual_seed(i) for i in range(4)])
    assert torch.allclose(at_once, result, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", list(RANGES))
def test_augment_on_a_device_agrees_with_the_cpu(dtype):
    channels = channels_of(4, dtype)
    images = make_images(4, dtype, num=4, height=32, width=40)
    augment = SegmentationAugment(
        hflip=0.5, vflip=0.5, color_jitter=(0.4, 0.4, 0.4, 0.1), auto_contrast=0.5, blur=1.0, channels=channels
    )
    here, _ = augment(images, generator=torch.Generator().manual_seed(1))
    there, _ = augment(images.cuda(), generator=torch.Generator().manual_seed(1))
    assert torch.allclose(here, there.cpu(), atol=1e-3)
    resized = resize_image(images.cuda(), (20, 24)).cpu().double()
    assert (resized - resize_image(images, (20, 24)).double()).abs().max() <= (1e-3 if dtype == torch.float32 else 1)


def test_augment_mean_and_std_are_those_of_the_channels_or_an_error_that_says_what_to_give():
    colors = ImageChannels(("red", "green", "blue"), mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    assert SegmentationAugment(channels=colors).mean == (0.1, 0.2, 0.3)
    assert SegmentationAugment(channels=colors, mean=(0, 0, 0)).mean == (0, 0, 0)
    assert SegmentationAugment().std == (0.229, 0.224, 0.225)
    unknown = ImageChannels(("a", "b"), range=(0, 100))
    with pytest.raises(InvalidArgumentError, match=r"mean is not known for the 2 channels \(a, b\).*: give mean, one"):
        SegmentationAugment(channels=unknown)
    with pytest.raises(InvalidArgumentError, match="std is not known"):
        SegmentationAugment(channels=unknown, mean=(0, 0))
    assert SegmentationAugment(channels=unknown, mean=(0, 0), std=(1, 1)).std == (1, 1)
    with pytest.raises(InvalidArgumentError, match="mean must be 2 numbers, one per channel"):
        SegmentationAugment(channels=unknown, mean=(0, 0, 0), std=(1, 1))
    assert "channels=" in repr(SegmentationAugment(channels=unknown, mean=(0, 0), std=(1, 1)))


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (torch.zeros(3, 5, 5, dtype=torch.uint16), r"images must be \(4, H, W\) or \(N, 4, H, W\), of the 4 channels"),
        (torch.full((4, 5, 5), math.nan), "float images must be finite, 4 channels .* got nan at row 0, column 0"),
        (torch.zeros(4, 5, 5, dtype=torch.uint8), "has values of 8 bits, and the range of the channels ends at 41000"),
    ],
)
def test_augment_image_of_another_kind_is_refused(images, words):
    with pytest.raises(InvalidArgumentError, match=words):
        SegmentationAugment(channels=channels_of(4, torch.uint16))(images)


@pytest.mark.parametrize("memory_format", FORMATS)
def test_color_means_and_stretch_of_uint16_do_not_overflow(memory_format):
    channels = ImageChannels(("a", "b"), range=(0, 65535))
    images = torch.full((1, 2, 1, 1), 65535, dtype=torch.int32).to(torch.uint16).expand(-1, -1, 40000, 3)
    images = images.contiguous(memory_format=memory_format)
    assert torch.equal(channel_means(images, channels), torch.ones(1, 2))
    scale, offset = channel_stretch(images, channels)
    assert torch.equal(scale, torch.ones(1, 2)) and torch.equal(offset, torch.zeros(1, 2))


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("count", [1, 2, 5, 12, 13, 1000])
@pytest.mark.parametrize("size", [(1, 1), (64, 67)])
def test_apply_affine_color_of_any_number_of_channels_equals_brute_force(memory_format, count, size):
    images = make_images(count, torch.uint16, 2, *size).contiguous(memory_format=memory_format)
    matrix, offset = torch.randn(2, count, count) / 65535 / math.sqrt(count), torch.randn(2, count)
    expected = torch.einsum("nij,njhw->nihw", matrix.double(), images.double()) + offset.double()[..., None, None]
    out = torch.full_like(images, math.nan, dtype=torch.float32)
    apply_affine_color(images, matrix, offset, out)
    assert torch.allclose(out.double(), expected, atol=1e-4)


# ---- crops -----------------------------------------------------------------------------------------------------------


def antialiased(values, size):
    """Returns float64 (..., h, w): each pixel is a mean weighted by a triangle as wide as the larger of both pixels."""

    def weights(source, target):
        step = source / target
        reach = max(step, 1)
        centers = (np.arange(target) + 0.5) * step
        distance = np.abs(np.arange(source)[None] + 0.5 - centers[:, None])
        table = np.maximum(1 - distance / reach, 0)
        return table / table.sum(1, keepdims=True)

    down, across = weights(values.shape[-2], size[0]), weights(values.shape[-1], size[1])
    return np.einsum("yh,...hw,xw->...yx", down, values, across)


@pytest.mark.parametrize("size", [(7, 31), (40, 9), (33, 52), (20, 30)])
@pytest.mark.parametrize(("count", "dtype"), CASES)
def test_resize_image_equals_brute_force(count, dtype, size):
    images = make_images(count, dtype, 2, 20, 30)
    expected = antialiased(images.numpy().astype(np.float64), size)
    for memory_format in FORMATS:
        for given, wanted in ((images, expected), (images[0], expected[0])):
            if given.ndim == 4:
                given = given.contiguous(memory_format=memory_format)
            result = resize_image(given, size)
            assert result.dtype == dtype
            tolerance = {torch.uint8: 1.01, torch.uint16: 0.51, torch.float32: 1e-4}[dtype]
            assert np.abs(result.numpy() - wanted).max() <= tolerance


def test_resize_image_of_uint16_is_that_of_its_values_as_floats():
    images = make_images(3, torch.uint16, 1, 70, 90)
    assert images.numpy().max() > 60000
    for size in ((31, 40), (100, 41), (141, 180), (1, 1), (70, 1), (64, 32)):
        expected = F.interpolate(images.float(), size, mode="bilinear", antialias=True)
        assert (resize_image(images, size).float() - expected).abs().max() <= 1  # torch's weights are less exact


@pytest.mark.parametrize(("count", "dtype"), CASES)
def test_transform_keeps_all_channels_their_type_and_values(count, dtype):
    channels = channels_of(count, dtype)
    whole = make_images(count, dtype, 1, 20, 30)[0]
    array = np.ascontiguousarray(whole.permute(1, 2, 0).numpy())
    for image in (whole, array):
        result, mask = SegmentationTransform(channels=channels)(image, np.zeros((20, 30), np.uint8))
        assert result.dtype == dtype and torch.equal(result, whole) and mask.shape == (20, 30)
        crop, _ = SegmentationTransform((8, 12), channels=channels)(image, generator=torch.Generator().manual_seed(0))
        assert crop.dtype == dtype and crop.shape == (count, 8, 12)
        places = [(y, x) for y in range(13) for x in range(19) if torch.equal(whole[:, y : y + 8, x : x + 12], crop)]
        assert places
    if count == 1:
        assert torch.equal(SegmentationTransform(channels=channels)(array[..., 0])[0], whole)


@pytest.mark.parametrize(("count", "dtype"), CASES)
def test_transform_pads_with_the_mean_the_low_end_or_the_given_numbers(count, dtype):
    whole = make_images(count, dtype, 1, 6, 9)[0]
    low, high = RANGES[dtype]
    known, unknown = channels_of(count, dtype), channels_of(count, dtype, mean=None, std=None)
    own = [low + 3.7 + i for i in range(count)]
    for transform, fill in (
        (SegmentationTransform(16, channels=known), [low + (high - low) * m for m in known.mean]),
        (SegmentationTransform(16, channels=unknown), [low] * count),
        (SegmentationTransform(16, channels=unknown, image_fill=own), own),
    ):
        result, _ = transform(whole, generator=torch.Generator().manual_seed(0))
        if dtype != torch.float32:
            fill = [round(value) for value in fill]
        ours = result.double()
        outside = (ours - torch.tensor(fill, dtype=torch.float64)[:, None, None]).abs().amax(0) < 1e-5
        assert outside.sum() >= 16 * 16 - 6 * 9
        assert result.dtype == dtype
    normal, _ = SegmentationAugment(channels=known)(SegmentationTransform(16, channels=known)(whole)[0])
    assert (normal.abs().amax(0) < 0.02).sum() >= 16 * 16 - 6 * 9  # a padded pixel is 0, but for the rounding


def test_transform_fill_of_another_number_of_channels_or_type_is_refused():
    with pytest.raises(InvalidArgumentError, match="image_fill must be 4 numbers, one per channel"):
        SegmentationTransform(8, channels=channels_of(4, torch.uint16), image_fill=(1, 2, 3))
    with pytest.raises(InvalidArgumentError, match="image_fill must be three integers in 0 to 255"):
        SegmentationTransform(8, image_fill=(0.5, 1, 2))
    below = ImageChannels(("a",), range=(-10, 300))  # the nearest value that the type has
    padded, _ = SegmentationTransform(8, channels=below)(np.full((2, 2), 100, np.uint16))
    assert sorted(set(padded.flatten().tolist())) == [0, 100]


def test_transform_of_other_channels_than_described_is_refused():
    fourth = np.zeros((8, 8, 4), np.uint8)
    for image in (fourth, torch.zeros(4, 8, 8)):
        with pytest.raises(InvalidArgumentError, match=r"got 4 in shape .* pass image\[\.\.\., :3"):
            SegmentationTransform()(image)
    with pytest.raises(InvalidArgumentError, match=r"an image must be \(H, W, 4\), with the 4 channels"):
        SegmentationTransform(channels=channels_of(4, torch.uint8))(fourth[..., :3])
    with pytest.raises(InvalidArgumentError, match="values of type torch.uint16, and the channels have no range"):
        SegmentationTransform(channels=ImageChannels(("a", "b", "c", "d")))(fourth.astype(np.uint16))


def test_transform_locates_nan_in_the_whole_image():
    channels = channels_of(4, torch.float32)
    image = np.zeros((40, 40, 4), np.float32)
    image[:, 20] = math.nan
    with pytest.raises(InvalidArgumentError, match="got nan at row .*, column 20, channel 0"):
        SegmentationTransform(30, channels=channels)(image, generator=torch.Generator().manual_seed(0))


# ---- read_crop -------------------------------------------------------------------------------------------------------


class Reader:
    """Reads parts of an image and a mask, and remembers which."""

    def __init__(self, image, mask):
        self.image, self.mask, self.parts, self.mask_parts = image, mask, [], []

    def __call__(self, top, left, height, width):
        self.parts.append((top, left, height, width))
        if isinstance(self.image, Image.Image):
            image = self.image.crop((left, top, left + width, top + height))
        elif isinstance(self.image, torch.Tensor):
            image = self.image[:, top : top + height, left : left + width].clone()
        else:
            image = self.image[top : top + height, left : left + width].copy()
        return image, None if self.mask is None else self._of_mask(top, left, height, width).copy()

    def read_mask(self, top, left, height, width):
        self.mask_parts.append((top, left, height, width))
        return self._of_mask(top, left, height, width)

    def _of_mask(self, top, left, height, width):
        return self.mask[top : top + height, left : left + width]


def images_to_read():
    generator = np.random.default_rng(0)
    colors = generator.integers(0, 256, (60, 90, 3), dtype=np.uint8)
    yield RGB_CHANNELS, colors
    yield RGB_CHANNELS, (colors / 255).astype(np.float32)
    yield RGB_CHANNELS, colors[..., 0]
    yield RGB_CHANNELS, Image.fromarray(colors)
    yield RGB_CHANNELS, torch.from_numpy(colors).permute(2, 0, 1).contiguous()
    for count, dtype in ((1, torch.uint16), (4, torch.uint8), (12, torch.uint16), (5, torch.float32)):
        planes = make_images(count, dtype, 1, 60, 90)[0]
        yield channels_of(count, dtype), planes
        yield channels_of(count, dtype), np.ascontiguousarray(planes.permute(1, 2, 0).numpy())
        yield channels_of(count, dtype), planes.permute(1, 2, 0).numpy()  # planes in memory, as GDAL reads


OPTIONS = [
    {},
    {"resize": {"shorter_side": 31}},
    {"size": 24},
    {"size": (24, 40), "scale_range": (0.4, 3.0)},
    {"size": 24, "scale_range": (0.5, 2.0), "resize": {"scale": 0.7}, "cat_max_ratio": 0.4},
    {"size": 100, "scale_range": (0.5, 1.5)},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", range(17))
def test_read_crop_equals_a_call_bit_for_bit_and_reads_the_crop_alone(options, kind):
    channels, image = list(images_to_read())[kind]
    mask = np.random.default_rng(1).integers(0, 4, (60, 90), dtype=np.uint8)
    mask[:, 30:] = 2
    transform = SegmentationTransform(channels=channels, **options)
    for seed in range(4):
        reader, generators = Reader(image, mask), [torch.Generator().manual_seed(seed) for _ in range(2)]
        expected = transform(image, mask, generator=generators[0])
        read_mask = reader.read_mask if "cat_max_ratio" in options else None
        result = transform.read_crop(60, 90, reader, read_mask=read_mask, generator=generators[1])
        for one, other in zip(result, expected, strict=True):
            assert type(one) is type(other) and one.dtype == other.dtype and torch.equal(one, other)
        assert torch.equal(generators[0].get_state(), generators[1].get_state())
        assert len(reader.parts) == 1
        if options.get("size") == 24 and "scale_range" not in options:
            assert reader.parts[0][2:] == (24, 24)
        elif "size" not in options:
            assert reader.parts == [(0, 0, 60, 90)]
        assert len(reader.mask_parts) <= 10


def test_read_crop_without_mask_and_with_a_mask_of_its_own_reader():
    image, mask = np.random.default_rng(0).integers(0, 256, (2, 40, 50), dtype=np.uint8)
    transform = SegmentationTransform(16, scale_range=(0.5, 2))
    reader = Reader(image, None)
    alone = transform.read_crop(40, 50, reader, generator=torch.Generator().manual_seed(0))
    assert torch.equal(alone[0], transform(image, generator=torch.Generator().manual_seed(0))[0]) and alone[1] is None

    def of_mask(top, left, height, width):
        return mask[top : top + height, left : left + width]

    both = transform.read_crop(40, 50, reader, read_mask=of_mask, generator=torch.Generator().manual_seed(0))
    assert torch.equal(both[1], transform(image, mask, generator=torch.Generator().manual_seed(0))[1])


@pytest.mark.parametrize(
    ("options", "arguments", "words"),
    [
        ({}, {"height": 0}, "height must be an integer >= 1, got 0"),
        ({}, {"read": lambda *_: (np.zeros((3, 4), np.uint8), None)}, r"read\(top=.* part of the image, got 3x4"),
        (
            {},
            {"read": lambda *_: (np.zeros((8, 8), np.uint8), np.zeros((9, 8), np.uint8))},
            r"part of the mask, got 9x8 \(height x width\)",
        ),
        ({"cat_max_ratio": 0.5}, {}, "cat_max_ratio=0.5 chooses a crop by its mask: give read_mask"),
        (
            {"cat_max_ratio": 0.5},
            {"read_mask": lambda *_: np.zeros((1, 1), np.uint8)},
            r"read_mask\(top=.* must return this part of the mask, got 1x1",
        ),
    ],
)
def test_read_crop_wrong_argument_raises(options, arguments, words):
    image, mask = np.zeros((2, 20, 20), np.uint8)
    given = {"height": 20, "width": 20, "read": Reader(image, mask), **arguments}
    with pytest.raises(InvalidArgumentError, match=words):
        SegmentationTransform(8, **options).read_crop(**given)


# ---- evaluation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "dtype"), CASES)
def test_evaluation_keeps_the_values_and_normalizes_them_from_the_range(count, dtype):
    channels = channels_of(count, dtype)
    preprocessing = Preprocessing(channels.mean, channels.std, channels=channels)
    image = make_images(count, dtype, 1, 12, 18)[0]
    mask = torch.zeros(12, 18, dtype=torch.uint8)
    transform = EvaluationTransform(preprocessing)
    same, ids = transform(image, mask)
    assert same.dtype == dtype and torch.equal(same, image) and torch.equal(ids, mask)
    result = transform.normalize(same[None], torch.device("cpu"))
    np.testing.assert_allclose(result, normalized(scaled(image[None], channels), channels), atol=1e-5)
    assert result.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(result, preprocessing(image), atol=1e-6)
    smaller = EvaluationTransform(preprocessing.with_resize({"scale": 0.5}))(image, mask)[0]
    assert smaller.shape == (count, 6, 9) and smaller.dtype == dtype
    with pytest.raises(InvalidArgumentError, match=f"an image must be \\({count}, H, W\\), with the {count} channel"):
        transform(torch.cat([image, image]), mask)
