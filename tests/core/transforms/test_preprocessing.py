import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as TF

from seg_core.errors import InvalidArgumentError
from seg_core.labels.channels import ImageChannels
from seg_core.transforms.crop import SegmentationTransform
from seg_core.transforms.preprocessing import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Preprocessing,
    as_image_tensor,
    as_rgb_tensor,
    normalize,
    resize_image,
)


def make_image(height=40, width=60, seed=0):
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("options", [{}, {"scale": 0.5}, {"scale": 1.7}, {"shorter_side": 24}, {"shorter_side": 75}])
def test_call_equals_torchvision_resize_and_normalize(options):
    array = make_image()
    tensor = torch.from_numpy(array).permute(2, 0, 1).contiguous()
    result = Preprocessing(**options)(array)
    resized = tensor
    if "scale" in options:
        resized = TF.resize(tensor, [round(40 * options["scale"]), round(60 * options["scale"])], antialias=True)
    if "shorter_side" in options:
        resized = TF.resize(tensor, [options["shorter_side"]], antialias=True)
    expected = TF.normalize(TF.to_dtype(resized, torch.float32, scale=True), list(IMAGENET_MEAN), list(IMAGENET_STD))
    assert result.dtype == torch.float32
    assert result.shape == (1, *expected.shape)
    # torch rounds differently by one level where a result lies half way, depending on its memory format
    assert (result[0] - expected).abs().max() <= 1.01 / 255 / min(IMAGENET_STD)
    assert (result[0] - expected).abs().mean() < 1e-3


def test_call_resize_is_antialiased():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    result = Preprocessing(mean=(0, 0, 0), std=(1, 1, 1), scale=0.25)(stripes)
    assert torch.allclose(result[..., 2:-2], torch.tensor(100 / 255), atol=0.04)


def test_call_any_kind_of_input_gives_the_same_result():
    array = make_image()
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    preprocessing = Preprocessing(shorter_side=30)
    expected = preprocessing(Image.fromarray(array))
    for image in (array, tensor, tensor.contiguous(), tensor[None].contiguous()):
        assert torch.equal(preprocessing(image), expected)
    for image in (array / 255, array.astype(np.float32) / 255, tensor.float() / 255, tensor.double() / 255):
        # the integer kernel rounds after each of its two passes
        assert torch.allclose(preprocessing(image), expected, atol=1.01 / 255 / min(IMAGENET_STD))
    batch = torch.stack([tensor, tensor.flip(-1)])
    assert torch.equal(preprocessing(batch)[:1], expected)
    assert preprocessing(batch).shape == (2, 3, 30, 45)


def test_call_input_is_not_changed_and_not_shared():
    image = torch.rand(3, 8, 8)
    before = image.clone()
    Preprocessing()(image).zero_()
    assert torch.equal(image, before)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK", "YCbCr"])
def test_as_rgb_tensor_pil_of_any_8_bit_mode_becomes_rgb(mode):
    rgb = Image.fromarray(make_image())
    image = rgb.convert(mode)
    tensor = as_rgb_tensor(image)
    assert tensor.shape == (3, 40, 60)
    assert tensor.dtype == torch.uint8
    assert np.array_equal(tensor.permute(1, 2, 0).numpy(), np.array(image.convert("RGB")))


def test_as_rgb_tensor_transparent_palette_gives_the_palettes_colors():
    image = Image.new("P", (4, 2), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.info["transparency"] = b"\x00\xff"
    assert as_rgb_tensor(image)[:, 0, 0].tolist() == [10, 20, 30]


def test_as_rgb_tensor_grayscale_arrays_become_rgb():
    array = make_image()
    gray = array[..., 0]
    for image in (gray, gray[:, :, None], torch.from_numpy(gray.copy())[None]):
        assert torch.equal(as_rgb_tensor(image), torch.from_numpy(np.stack([gray] * 3)))


def test_as_rgb_tensor_fourth_channel_is_refused_and_the_advice_works():
    array = np.concatenate([make_image(), make_image()[..., :1]], axis=-1)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    with pytest.raises(InvalidArgumentError, match=r"got 4 in shape .* pass image\[\.\.\., :3\] if .* channels = "):
        as_rgb_tensor(array)
    for image in (tensor, tensor[None]):
        with pytest.raises(InvalidArgumentError, match=r"pass image\[\.\.\., :3, :, :\] if the fourth is alpha"):
            as_rgb_tensor(image)
        assert as_rgb_tensor(image[..., :3, :, :]).shape[-3] == 3
    assert torch.equal(as_rgb_tensor(array[..., :3]), as_rgb_tensor(make_image()))
    channels = ImageChannels.from_dict({"names": ["red", "green", "blue", "nir"]})
    assert torch.equal(as_image_tensor(array, channels), tensor)
    # the alpha of a PIL image is declared by its mode
    assert torch.equal(as_rgb_tensor(Image.fromarray(array, "RGBA")), as_rgb_tensor(make_image()))


@pytest.mark.parametrize("mode", ["P", "RGBA", "LA", "1", "RGB", "CMYK"])
def test_as_image_tensor_pil_image_of_other_values_is_refused(mode):
    channels = ImageChannels({"RGBA": ("a", "b", "c", "d"), "CMYK": ("a", "b", "c", "d")}.get(mode, ("a",)), nodata=0)
    with pytest.raises(InvalidArgumentError, match=f"got a PIL image of mode '{mode}'; convert it to an array"):
        as_image_tensor(Image.new(mode, (4, 3)), channels)


def test_as_image_tensor_pil_images_of_their_own_values():
    gray = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
    channels = ImageChannels(("a",), range=(0, 65535))
    assert torch.equal(as_image_tensor(Image.fromarray(gray), channels), torch.from_numpy(gray)[None])
    colors = ImageChannels(("red", "green", "blue"), nodata=0)
    image = make_image()
    assert torch.equal(as_image_tensor(Image.fromarray(image), colors), torch.from_numpy(image).permute(2, 0, 1))


def test_as_rgb_tensor_read_only_and_flipped_arrays_work():
    array = make_image()
    array.setflags(write=False)
    assert torch.equal(as_rgb_tensor(array[:, ::-1]), as_rgb_tensor(array).flip(-1))


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("image.png", "image must be a PIL image, a numpy array or a tensor, got str"),
        (np.zeros((3, 8, 8), np.uint8), r"image array must be .* got shape \(3, 8, 8\)"),
        (np.zeros((2, 8, 8, 3), np.uint8), "a batch is a tensor"),
        (torch.zeros(8, 8), r"image tensor must be .* got shape \(8, 8\)"),
        (torch.zeros(2, 8, 8), r"got shape \(2, 8, 8\)"),
        (torch.zeros(3, 8, 8, dtype=torch.int64), "uint8 in 0 to 255 or float in 0 to 1, got torch.int64"),
        (np.zeros((8, 8, 3), np.int32), "uint8 in 0 to 255 or float in 0 to 1, got int32"),
        (torch.full((3, 8, 8), 200.0), "float images must be in 0 to 1, got values from 200 to 200"),
        (torch.full((3, 8, 8), -2.0), "before they are normalized"),
        (torch.zeros(3, 0, 8), "no pixels: height 0, width 8"),
        (Image.new("I", (4, 4)), "PIL mode 'I' .* reduce it to 8 bits"),
        (Image.new("F", (4, 4)), "PIL mode 'F'"),
    ],
)
def test_call_wrong_image_raises(image, words):
    with pytest.raises(InvalidArgumentError, match=words):
        Preprocessing()(image)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mean": (0.5, 0.5)}, r"mean must be three numbers, one per channel, got \(0.5, 0.5\)"),
        ({"mean": 0.5}, "mean must be three numbers"),
        ({"std": (0.5, 0.0, 0.5)}, "std must be three numbers above 0"),
        ({"scale": 0}, "scale must be a factor above 0 or None, got 0"),
        ({"scale": float("inf")}, "scale must be a factor"),
        ({"shorter_side": 0}, "shorter_side must be pixels, an integer >= 1, or None, got 0"),
        ({"shorter_side": 1.5}, "got 1.5"),
        ({"scale": 0.5, "shorter_side": 3}, "exclude each other, got scale=0.5, shorter_side=3"),
    ],
)
def test_init_wrong_argument_raises(options, words):
    with pytest.raises(InvalidArgumentError, match=words):
        Preprocessing(**options)


@pytest.mark.parametrize(
    "options", [{}, {"mean": (0, 0.1, 0.2), "std": (1, 2, 3)}, {"scale": 0.5}, {"shorter_side": 520}]
)
def test_to_dict_through_json_gives_an_equal_object(options):
    preprocessing = Preprocessing(**options)
    assert Preprocessing.from_dict(json.loads(json.dumps(preprocessing.to_dict()))) == preprocessing


def test_from_dict_unknown_key_names_the_nearest():
    with pytest.raises(InvalidArgumentError, match="unknown key 'shorter_sid' .* Did you mean 'shorter_side'"):
        Preprocessing.from_dict({"shorter_sid": 3})


def test_size_of_follows_torchvision_for_every_size():
    for height, width in ((360, 480), (481, 333), (7, 1000), (1, 1), (520, 521)):
        for side in (1, 29, 180, 520):
            expected = TF.resize(torch.empty(1, height, width, dtype=torch.uint8), [side]).shape[-2:]
            assert Preprocessing(shorter_side=side).size_of(height, width) == tuple(expected)


def test_size_of_tiny_scale_leaves_a_pixel():
    assert Preprocessing(scale=0.01).size_of(10, 20) == (1, 1)


@pytest.mark.parametrize("channels_last", [False, True])
def test_normalize_uint8_equals_float_in_every_memory_format(channels_last):
    images = torch.randint(0, 256, (2, 3, 5, 7), dtype=torch.uint8)
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    mean, std = (torch.tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
    expected = (images.double() / 255 - mean) / std
    for given in (images, images.float() / 255):
        before = given.clone()
        result = normalize(given, IMAGENET_MEAN, IMAGENET_STD)
        assert torch.allclose(result.double(), expected, atol=1e-6)
        assert result.stride() == images.stride()
        assert torch.equal(given, before)


def test_resize_image_same_size_is_the_image():
    image = torch.zeros(3, 4, 5, dtype=torch.uint8)
    assert resize_image(image, (4, 5)) is image
    assert resize_image(image, (2, 3)).shape == (3, 2, 3)


@pytest.mark.parametrize(
    ("resize", "size"),
    [
        ({}, (45, 61)),
        ({"scale": 0.5}, (22, 30)),
        ({"shorter_side": 90}, (90, 122)),
        ({"longer_side": 30}, (22, 30)),
        ({"longer_side": 1}, (1, 1)),
        ({"size": [7, 9]}, (7, 9)),
    ],
)
def test_every_form_of_resize_gives_its_size_and_survives_a_dict(resize, size):
    preprocessing = Preprocessing(scale=2.0).with_resize(resize)
    assert preprocessing.size_of(45, 61) == size
    assert preprocessing.resize == resize
    assert Preprocessing.from_dict(preprocessing.to_dict()) == preprocessing
    assert preprocessing(torch.zeros(3, 45, 61, dtype=torch.uint8)).shape[-2:] == size


def test_factor_of_one_is_no_resize():
    assert Preprocessing(scale=1.0).resize == {}


@pytest.mark.parametrize(
    ("resize", "message"),
    [
        ({"scael": 0.5}, r"got \{'scael': 0.5\}. Did you mean 'scale'"),
        ({"scale": 0.5, "size": [1, 2]}, "resize must be one of"),
        ({"size": 5}, r"size must be \(height, width\) in pixels"),
        ({"size": [5, 0]}, r"size must be \(height, width\) in pixels"),
        ({"longer_side": 0}, "longer_side must be pixels, an integer >= 1"),
        ({"scale": 0}, "scale must be a factor above 0"),
    ],
)
def test_wrong_resize_is_refused(resize, message):
    with pytest.raises(InvalidArgumentError, match=message):
        Preprocessing().with_resize(resize)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_float_image_with_a_value_that_is_not_finite_is_refused_and_located(value):
    image = np.full((4, 5, 3), 0.5, np.float32)
    image[3, 4, 0] = image[2, 1, 2] = value
    words = (
        rf"must be finite, in 0 to 1, got {value} at row {{}}, column {{}}, channel 2{{}} \(2 such pixels\); replace"
    )
    with pytest.raises(InvalidArgumentError, match=words.format(2, 1, "")):
        as_rgb_tensor(image)
    with pytest.raises(InvalidArgumentError, match=words.format(12, 21, "")):
        as_rgb_tensor(image, origin=(10, 20))
    batch = torch.stack([torch.zeros(3, 4, 5), torch.from_numpy(image).permute(2, 0, 1)])
    with pytest.raises(InvalidArgumentError, match=words.format(2, 1, " of image 1")):
        Preprocessing()(batch)


def test_training_crop_of_a_float_image_locates_nan_in_the_whole_image():
    image = np.full((40, 50, 3), 0.5, np.float32)
    image[:, 30] = np.nan
    transform = SegmentationTransform((16, 16))
    found = set()
    for seed in range(30):
        try:
            transform(image, generator=torch.Generator().manual_seed(seed))
        except InvalidArgumentError as error:
            found.add(re.search(r"column (\d+),", str(error))[1])
    assert found == {"30"}


def test_image_of_another_type_is_a_type_error():
    with pytest.raises(TypeError, match="image must be a PIL image, a numpy array or a tensor, got list"):
        as_rgb_tensor([[1]])


@pytest.mark.parametrize("dtype", ["<f2", ">f2", ">f4", ">f8", "longdouble"])
def test_floats_of_every_precision_and_byte_order_become_float32(dtype):
    image = (np.arange(24).reshape(2, 4, 3) / 24).astype(dtype)
    tensor = as_rgb_tensor(image)
    assert tensor.dtype == torch.float32
    np.testing.assert_allclose(tensor.permute(1, 2, 0), image.astype(np.float32))
    with pytest.raises(InvalidArgumentError, match="got >u2; convert it first, in the range that suits the data"):
        as_rgb_tensor(np.zeros((2, 2), ">u2"))


def test_mean_and_std_of_the_channels_are_taken_where_none_are_given():
    channels = ImageChannels(("red", "green", "blue"), range=(0, 10000), mean=(0.11, 0.12, 0.12), std=(0.05,) * 3)
    assert Preprocessing(channels=channels).mean == (0.11, 0.12, 0.12)
    assert Preprocessing(IMAGENET_MEAN, IMAGENET_STD, channels=channels).mean == IMAGENET_MEAN
    assert Preprocessing().mean == IMAGENET_MEAN
    assert Preprocessing(channels=ImageChannels(("nir", "red", "green"))).mean == IMAGENET_MEAN
    with pytest.raises(InvalidArgumentError, match="mean is not known for the 3 channels .* 0 to 10000: give mean"):
        Preprocessing(channels=ImageChannels(("red", "green", "blue"), range=(0, 10000)))


def test_integers_that_float32_does_not_hold_are_refused():
    channels = ImageChannels(("a",), range=(0, 1e9))
    exact = np.full((4, 4), 2**24 + 2, np.int64)
    assert int(as_image_tensor(exact, channels).max()) == 2**24 + 2
    with pytest.raises(InvalidArgumentError, match="float32, as which it is read, does not hold exactly"):
        as_image_tensor(exact + 1, channels)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((3, 4, 4), np.uint8), "images must be a tensor, got ndarray; SegmentationTransform and Predictor"),
        (torch.zeros(4, 4, 4), r"images must be \(3, H, W\) or \(N, 3, H, W\), got shape \(4, 4, 4\)"),
        (torch.zeros(4), r"got shape \(4,\)"),
        # which was taken for values in 0 to 1
        (
            torch.zeros(3, 4, 4, dtype=torch.int64),
            "images must be uint8 in 0 to 255 or float in 0 to 1, got torch.int64",
        ),
        (torch.zeros(3, 4, 4, dtype=torch.uint16), "got torch.uint16"),
        (torch.zeros(3, 4, 4, dtype=torch.complex64), "got torch.complex64"),
    ],
)
def test_normalize_refuses_what_has_no_range(images, words):
    with pytest.raises(InvalidArgumentError, match=words):
        Preprocessing().normalize(images)
