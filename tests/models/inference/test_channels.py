"""Prediction of images of described channels: more or fewer than three, of 16 bits, of floats, of several files."""

import dataclasses
import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import seg_models
from seg_core import DatasetMetadata, ImageChannels, Preprocessing, save_model
from seg_core.errors import CorruptFileError, InvalidArgumentError
from seg_core.plots.overlay import image_array
from seg_models import Predictor
from seg_models.inference import reading
from seg_models.inference.described import mark_nodata

NIR = ImageChannels(("blue", "green", "red", "nir"), range=(0, 10000))
CLASSES = DatasetMetadata("two", ("dark", "bright"), channels=NIR)
GRAY16 = ImageChannels(("gray",), range=(1000, 5000))


class LastBand(nn.Module):
    """Class 1 where the last channel is above its mean."""

    def __init__(self, count):
        super().__init__()
        self.first = nn.Identity()
        self.scale = nn.Parameter(torch.ones(count))

    def forward(self, images):
        last = self.first(images * self.scale[:, None, None])[:, -1:]
        return {"out": torch.cat([-last, last], 1)}


def predictor(channels=NIR, mean=None, std=None, **options):
    count = channels.count
    preprocessing = Preprocessing(mean or (0.5,) * count, std or (0.25,) * count, channels=channels)
    network = LastBand(count)
    result = Predictor(
        network,
        metadata=dataclasses.replace(CLASSES, channels=channels),
        preprocessing=preprocessing,
        device="cpu",
        **options,
    )
    result.seen = []
    network.first.register_forward_hook(lambda _module, inputs, _output: result.seen.append(inputs[0].clone()))
    return result


def reflectances(height=12, width=16, seed=0):
    """uint16 (H, W, 4): noise, the fourth band low at the left and high at the right; some values beyond the range."""
    image = np.random.default_rng(seed).integers(0, 12000, (height, width, 4), np.uint16)
    image[:, : width // 2, 3] = 2000
    image[:, width // 2 :, 3] = 12000
    return image


def expected_inputs(image, channels, mean=0.5, std=0.25):
    low, high = (np.array(ends, np.float64) for ends in zip(*channels.ranges, strict=True))
    return (((image.astype(np.float64) - low) / (high - low) - mean) / std).transpose(2, 0, 1)


def check(found, image, channels=NIR):
    np.testing.assert_allclose(found.numpy(), expected_inputs(image, channels)[None], rtol=1e-5, atol=1e-5)


def write_tif(path, image, **profile):
    rasterio = pytest.importorskip("rasterio")
    options = {"driver": "GTiff", "height": image.shape[0], "width": image.shape[1], "count": image.shape[2]}
    options |= {"photometric": "minisblack", "transform": rasterio.Affine(10, 0, 500000, 0, -10, 5000000)}
    with rasterio.open(path, "w", **options | profile, dtype=image.dtype) as file:
        file.write(image.transpose(2, 0, 1))
    return path


@pytest.mark.parametrize("kind", ["tif", "npy", "array", "tensor", "bytes", "file object"])
def test_values_that_reach_the_network_are_those_of_the_image_scaled(tmp_path, kind):
    image, found = reflectances(), predictor()
    if kind == "npy":
        np.save(tmp_path / "a.npy", image)
        source = tmp_path / "a.npy"
    elif kind == "array":
        source = image
    elif kind == "tensor":
        source = torch.from_numpy(image.transpose(2, 0, 1).copy())
    else:
        source = write_tif(tmp_path / "a.tif", image)
        if kind != "tif":
            source = source.read_bytes() if kind == "bytes" else io.BytesIO(source.read_bytes())
    prediction = found(source)
    check(found.seen[0], image)
    expected = np.zeros((12, 16), np.uint8)
    expected[:, 8:] = 1
    np.testing.assert_array_equal(prediction.labels, expected)


@pytest.mark.parametrize(
    ("channels", "image"),
    [
        (GRAY16, np.arange(0, 6000, 30, dtype=np.uint16).reshape(10, 20, 1)),
        (ImageChannels(("gray",)), np.arange(0, 200, dtype=np.uint8).reshape(10, 20, 1)),
        (ImageChannels(("height",), range=(-50, 50)), np.linspace(-80, 60, 200, dtype=np.float32).reshape(10, 20, 1)),
        (
            ImageChannels(("a", "b"), range=((0, 255), (-1, 1))),
            np.random.default_rng(0).normal(size=(10, 20, 2)).astype(np.float32),
        ),
        (
            ImageChannels(tuple(f"b{i}" for i in range(12)), range=(0, 10000)),
            np.random.default_rng(0).integers(0, 9000, (10, 20, 12), np.uint16),
        ),
    ],
)
def test_any_number_of_channels_of_any_type(tmp_path, channels, image):
    found = predictor(channels)
    on_disk = found(write_tif(tmp_path / "a.tif", image))
    check(found.seen[-1], image, channels)
    in_memory = found(image)
    check(found.seen[-1], image, channels)
    tiled = predictor(channels, tile=8)(image)
    np.testing.assert_array_equal(on_disk.labels, in_memory.labels)
    np.testing.assert_array_equal(tiled.labels, in_memory.labels)
    assert len(np.unique(in_memory.labels)) == 2
    if image.shape[2] == 1:
        np.testing.assert_array_equal(found(image[:, :, 0]).labels, in_memory.labels)


def test_gray_png_of_16_bits_and_pil_images():
    image = np.arange(0, 6000, 30, dtype=np.uint16).reshape(10, 20)
    found = predictor(GRAY16)
    found(Image.fromarray(image))
    check(found.seen[0], image[:, :, None], GRAY16)


def test_augmented_copies_and_batches(tmp_path):
    image = reflectances()
    alone = predictor()(image).labels
    np.testing.assert_array_equal(predictor(tta={"hflip": True, "vflip": True})(image).labels, alone)
    found = predictor(batch_size=2)
    both = found([image, torch.from_numpy(image.transpose(2, 0, 1).copy())])
    assert [len(inputs) for inputs in found.seen] == [2]
    for prediction in both:
        np.testing.assert_array_equal(prediction.labels, alone)


def test_a_tuple_of_paths_is_one_image_and_a_list_is_several(tmp_path):
    image = reflectances()
    colors = write_tif(tmp_path / "colors.tif", image[:, :, :3])
    nir = write_tif(tmp_path / "nir.tif", image[:, :, 3:])
    found = predictor()
    prediction = found((colors, str(nir)))
    check(found.seen[-1], image)
    assert (prediction.source, prediction.files) == (str(colors), (str(colors), str(nir)))
    two = found([(colors, nir), (colors, nir)])
    assert [p.files for p in two] == [(str(colors), str(nir))] * 2
    np.testing.assert_array_equal(two[1].labels, prediction.labels)
    streamed = list(found.stream(iter([(colors, nir)])))
    np.testing.assert_array_equal(streamed[0].labels, prediction.labels)
    for path in (colors, nir):
        with pytest.raises(InvalidArgumentError, match="is the image that is predicted"):
            prediction.save(path)
    with pytest.raises(InvalidArgumentError, match=r"a tuple of paths is one image .*not a file of one image; pass a"):
        found((tmp_path, nir))


@pytest.mark.parametrize("kind", ["in memory", "by tiles"])
def test_a_gray_file_is_repeated_for_a_network_of_colors_and_this_is_said_once(tmp_path, caplog, monkeypatch, kind):
    if kind == "by tiles":
        pytest.importorskip("rasterio")
    monkeypatch.setattr(reading, "_told_of_gray", [])
    gray = np.arange(0, 250, dtype=np.uint8).reshape(10, 25)
    colors = ImageChannels(("red", "green", "blue"))
    found = predictor(colors, tile=None if kind == "in memory" else 32)
    for name, image in (("color", gray[:, :, None].repeat(3, 2)), ("a", gray), ("b", gray)):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
        if kind == "in memory":
            found(tmp_path / f"{name}.png")
        else:
            found.predict_to_file(tmp_path / f"{name}.png", tmp_path / "labels.npy")
        check(found.seen[-1], gray[:, :, None].repeat(3, 2), colors)
    assert [record.message.split(" is gray")[0] for record in caplog.records] == [str(tmp_path / "a.png")]


def test_a_tuple_of_colors_stays_a_batch(tmp_path):
    found = predictor(dataclasses.replace(NIR, names=("red", "green", "blue"), range=None, rgb=None))
    Image.new("RGB", (6, 4), (9, 90, 200)).save(tmp_path / "a.png")
    assert len(found((tmp_path / "a.png", tmp_path / "a.png"))) == 2


def test_a_file_that_does_not_fit_is_named(tmp_path):
    path = write_tif(tmp_path / "a.tif", reflectances()[:, :, :3])
    with pytest.raises(CorruptFileError, match=r"a\.tif"):
        predictor()(path)
    with pytest.raises(InvalidArgumentError, match=r"\(12, 16, 4\), with the 4 channels|\(H, W, 4\)"):
        predictor()(reflectances()[:, :, :3])
    errors = []
    good = write_tif(tmp_path / "b.tif", reflectances())
    assert len(list(predictor().stream([path, good], on_error=lambda name, error: errors.append((name, error))))) == 1
    assert errors[0][0] == str(path)


@pytest.mark.parametrize("nodata", [0, math.nan])
@pytest.mark.parametrize("kind", ["array", "tensor", "masked"])
def test_pixels_without_data_in_memory_are_ignored(nodata, kind):
    channels = dataclasses.replace(NIR, nodata=nodata)
    image = reflectances().astype(np.float32)
    image[2:5, 3:6] = nodata
    image[0, 0, 0] = 0  # one channel alone
    before = image.copy()
    source = image
    if kind == "tensor":
        source = torch.from_numpy(image).permute(2, 0, 1)
    elif kind == "masked":
        channels = dataclasses.replace(channels, nodata=None)
        source = np.ma.masked_array(image, np.repeat(np.isin(np.indices((12, 16))[0], (2, 3, 4))[:, :, None], 4, 2))
    found = predictor(channels)
    prediction = found(source)
    rows = slice(2, 5), slice(0, 16) if kind == "masked" else slice(3, 6)
    ignored = np.zeros((12, 16), np.bool_)
    ignored[rows] = True
    np.testing.assert_array_equal(prediction.labels == 255, ignored)
    filled = np.where(ignored[:, :, None], np.float32(0), before)
    check(found.seen[0], filled, channels)
    np.testing.assert_array_equal(image, before)  # the caller's array


def test_a_value_that_is_not_finite_is_an_error():
    image = reflectances().astype(np.float32)
    image[3, 4, 1] = np.nan
    with pytest.raises(InvalidArgumentError, match="got nan at row 3, column 4, channel 1"):
        predictor()(image)
    labels = predictor(dataclasses.replace(NIR, nodata=math.nan))(image).labels
    assert [tuple(place) for place in np.argwhere(labels == 255)] == [(3, 4)]  # as in files, of which one is enough


@pytest.mark.parametrize("as_input", [np.asarray, lambda image: torch.from_numpy(image).permute(2, 0, 1)])
def test_a_low_end_that_the_type_of_the_image_does_not_have_is_its_nearest_value(as_input):
    channels = ImageChannels(("height",), range=(-100, 3000), nodata=0)
    image = np.full((40, 40, 1), 500, np.uint16)
    image[:5] = 0
    found = predictor(channels)
    labels = found(as_input(image)).labels
    check(found.seen[0], image, channels)  # 0, where it was -100 as if it were 65436
    assert (labels[:5] == 255).all() and (labels[5:] != 255).all()


def test_arrays_of_the_caller_are_not_changed_nor_kept():
    image = reflectances()
    found = predictor()

    def frames():
        for value in (1000, 9000):
            image[...] = value
            yield image

    assert [int(prediction.labels[0, 0]) for prediction in found.stream(frames())] == [0, 1]


def test_the_shown_image_has_the_colors_that_are_described():
    image = np.zeros((2, 2, 4), np.uint16)
    image[0, 0] = (10000, 5000, 20000, 1)
    prediction = predictor()(image)
    np.testing.assert_array_equal(prediction.image[0, 0], (255, 128, 255))
    assert prediction.overlay().shape == (2, 2, 3)
    gray = image_array(torch.tensor([[[3000.0]]]), GRAY16)
    np.testing.assert_array_equal(gray, [[[128] * 3]])


def test_mark_nodata_returns_what_holds_data_unchanged():
    image = reflectances()
    assert mark_nodata(image, NIR) == (image, None) or mark_nodata(image, NIR)[0] is image
    assert mark_nodata(image, dataclasses.replace(NIR, nodata=65535))[1] is None


# ---- where the channels are described --------------------------------------------------------------------------------


@pytest.fixture
def enet4():
    return seg_models.get_model("enet", num_classes=2, in_channels=4)


PREPROCESSING = Preprocessing((0.1, 0.2, 0.3, 0.4), (0.5,) * 4, channels=NIR)


def test_a_model_file_describes_its_images(tmp_path, enet4):
    save_model(enet4, tmp_path / "x.pt", metadata=CLASSES, preprocessing=PREPROCESSING)
    found = Predictor(tmp_path / "x.pt", device="cpu")
    assert found.preprocessing == PREPROCESSING
    assert found.metadata.channels == found.channels == NIR
    assert found(reflectances(48, 48)).labels.shape == (48, 48)


def test_channels_of_a_network_that_says_nothing_are_given(enet4):
    classes = ["dark", "bright"]
    with pytest.raises(InvalidArgumentError, match=r"the model takes 4 channels, but .*3 channels .*channels=seg_core"):
        Predictor(enet4, metadata=classes, preprocessing=Preprocessing())
    channels = dataclasses.replace(NIR, mean=(0.1,) * 4, std=(0.2,) * 4)
    given = Predictor(enet4, metadata=classes, channels=channels, device="cpu")
    assert (given.preprocessing, given.metadata.channels) == (
        Preprocessing((0.1,) * 4, (0.2,) * 4, channels=channels),
        channels,
    )
    by_preprocessing = Predictor(enet4, metadata=classes, preprocessing=PREPROCESSING, device="cpu")
    assert by_preprocessing.metadata.channels == NIR
    by_metadata = Predictor(
        enet4,
        metadata=CLASSES,
        preprocessing=dataclasses.replace(PREPROCESSING, channels=ImageChannels(("a", "b", "c", "d"))),
        channels=NIR,
        device="cpu",
    )
    assert by_metadata.preprocessing == PREPROCESSING
    with pytest.raises(InvalidArgumentError, match="channels must be a seg_core.ImageChannels, got dict"):
        Predictor(enet4, metadata=classes, channels={"names": ["a"]})


def test_mean_and_std_of_a_model_of_other_channels_are_asked_for(tmp_path, enet4):
    save_model(enet4, tmp_path / "x.pt", metadata=CLASSES, preprocessing=PREPROCESSING)
    one = ImageChannels(("gray",))
    with pytest.raises(InvalidArgumentError, match=r"mean must be 1 number.* give the channels a mean and std"):
        Predictor(tmp_path / "x.pt", channels=one)
    with pytest.raises(InvalidArgumentError, match="the model takes 4 channels, but the images are described as 1 ch"):
        Predictor(tmp_path / "x.pt", channels=dataclasses.replace(one, mean=(0.1,), std=(0.1,)))


def test_channels_of_a_model_file_are_replaced(tmp_path, enet4):
    save_model(enet4, tmp_path / "x.pt", metadata=CLASSES, preprocessing=PREPROCESSING)
    eight = dataclasses.replace(NIR, range=(0, 255))
    told = r"the model has 4 channels .* from 0 to 10000, but this description has 4 channels .* from 0 to 255"
    with pytest.warns(UserWarning, match=told) as warned:
        found = Predictor(tmp_path / "x.pt", channels=eight, device="cpu")
    assert len(warned) == 1
    assert warned[0].filename == __file__
    assert found.preprocessing == dataclasses.replace(PREPROCESSING, channels=eight)
    with pytest.warns(UserWarning, match="the range of 'blue' is 0 to 10000 in the model and 0 to 255 in this"):
        by_metadata = Predictor(tmp_path / "x.pt", metadata=dataclasses.replace(CLASSES, channels=eight), device="cpu")
    assert by_metadata.preprocessing == found.preprocessing
    # a list of names says nothing of the channels
    assert Predictor(tmp_path / "x.pt", metadata=["a", "b"], device="cpu").channels == NIR


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("options", [{}, {"tile": 16}, {"tta": True}])
def test_a_network_of_another_library_for_another_number_of_channels(tmp_path, count, options):
    network = nn.Sequential(nn.Conv2d(count, 5, 3, padding=1), nn.Conv2d(5, 2, 1))
    found = Predictor(network, metadata=CLASSES, preprocessing=PREPROCESSING, device="cpu", **options)
    told = rf"the network takes {count} channels?, but the images are described as 4 channels \(blue, .*describe the"
    with pytest.raises(InvalidArgumentError, match=told):
        found(reflectances(32, 32))
    if "tile" in options:
        with pytest.raises(InvalidArgumentError, match=told):
            found.predict_to_file(reflectances(32, 32), tmp_path / "labels.npy")
    # what the message says works
    names = tuple("abc"[:count])
    channels = ImageChannels(names, range=(0, 10000), mean=(0.5,) * count, std=(0.5,) * count)
    described = Predictor(network, metadata=["a", "b"], channels=channels, device="cpu", **options)
    assert described(reflectances(32, 32)[:, :, :count]).labels.shape == (32, 32)


def test_other_errors_of_a_network_stay_its_own():
    network = nn.Sequential(nn.Conv2d(4, 5, 3, padding=1), nn.Conv2d(6, 2, 1))
    with pytest.raises(RuntimeError, match="to have 6 channels, but got 5"):
        Predictor(network, metadata=CLASSES, preprocessing=PREPROCESSING, device="cpu")(reflectances(32, 32))


@pytest.mark.parametrize(
    ("own", "given", "told"),
    [
        (
            NIR,
            dataclasses.replace(NIR, names=("red", "green", "blue", "nir")),
            "channel 0 is 'blue' in the model and 'r",
        ),
        (ImageChannels(("red", "green", "blue")), ImageChannels(("red", "green", "blue"), range=(0, 1)), "0 to 255 in"),
    ],
)
def test_other_channels_than_those_of_a_model_file_are_told(tmp_path, own, given, told):
    network = seg_models.get_model("enet", num_classes=2, in_channels=own.count)
    preprocessing = Preprocessing((0.5,) * own.count, (0.5,) * own.count, channels=own)
    save_model(
        network, tmp_path / "x.pt", metadata=dataclasses.replace(CLASSES, channels=own), preprocessing=preprocessing
    )
    with pytest.warns(UserWarning, match=told) as warned:
        found = Predictor(tmp_path / "x.pt", channels=given, device="cpu")
    assert len(warned) == 1
    assert found.channels == given
    # what does not change the values that the network gets is not told
    Predictor(tmp_path / "x.pt", channels=dataclasses.replace(own, nodata=0), device="cpu")


def test_bands_choose_from_files_alone(tmp_path, enet4):
    save_model(enet4, tmp_path / "x.pt", metadata=CLASSES, preprocessing=PREPROCESSING)
    found = Predictor(tmp_path / "x.pt", bands=[4, 3, 2, "nir"], device="cpu")
    assert found.channels.bands == (4, 3, 2, "nir")
    assert found.metadata.channels == NIR
    image = reflectances(48, 48)
    np.save(tmp_path / "x.npy", image)
    told = r"is in memory, and bands=\[4, 3, 2, 1\] choose from the bands of files; order its channels"
    numbered = Predictor(tmp_path / "x.pt", bands=[4, 3, 2, 1], device="cpu", tile=48)
    for given in (image, torch.from_numpy(image.astype(np.float32)).movedim(-1, 0), [image]):
        with pytest.raises(InvalidArgumentError, match=told):
            numbered(given)
    with pytest.raises(InvalidArgumentError, match=told):
        numbered.predict_to_file(image, tmp_path / "labels.npy")
    errors = []
    (one,) = numbered.stream([image, tmp_path / "x.npy"], on_error=lambda name, error: errors.append(str(error)))
    assert errors[0].startswith("image 0 of the source is in memory")
    assert np.array_equal(one.labels, Predictor(tmp_path / "x.pt", device="cpu", tile=48)(image[:, :, ::-1]).labels)
    with pytest.raises(InvalidArgumentError, match=r"bands must be a list .*got '4,3,2'"):
        Predictor(tmp_path / "x.pt", bands="4,3,2")
    with pytest.raises(InvalidArgumentError, match="bands"):
        Predictor(tmp_path / "x.pt", bands=[4, 3])


def test_options_of_colors_are_refused():
    with pytest.raises(InvalidArgumentError, match='channel_order="bgr" is for three 8-bit colors'):
        predictor(channel_order="bgr")
    with pytest.raises(InvalidArgumentError, match="all_frames .* is for three 8-bit colors"):
        predictor(all_frames=True)


def test_a_frame_of_a_video_is_refused():
    class Frame:
        width = height = 4

        def to_ndarray(self, **_options):
            raise AssertionError("not decoded")

    with pytest.raises(InvalidArgumentError, match="frames of videos have three 8-bit channels, and the model takes"):
        predictor()(Frame())
