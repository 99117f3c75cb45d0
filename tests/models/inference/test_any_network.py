"""Networks of other libraries, of other types, compiled, or broken: labels, or an error, in every way of predicting."""

import warnings
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

import seg_models
from seg_core.errors import CorruptFileError, InvalidArgumentError
from seg_core.labels.metadata import DatasetMetadata
from seg_core.transforms.preprocessing import Preprocessing
from seg_models import Predictor, predict_labels, predict_tiled, predict_tta, predict_whole
from seg_models.networks.base import SegmentationNetwork

TWO = DatasetMetadata("two", ("sky", "ground"))
THREE = DatasetMetadata("three", ("dark", "middle", "bright"))
PLAIN = Preprocessing(mean=(0.0,) * 3, std=(1.0,) * 3)
WAYS = [{}, {"scores": True}, {"tile": 8}, {"tta": [1.0, 0.5]}, {"tile": 8, "tta": [1.0]}, {"logits": True}]


class Small(SegmentationNetwork):
    """A network of this package that ends with a bilinear resize."""

    upsampling: ClassVar = {"out": ("bilinear", False)}

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3, stride=4, padding=1)

    def forward_logits(self, images):
        return {"out": self.conv(images)}


class Bright(nn.Module):
    """Class 1 where a pixel is brighter than half, computed at a stride; its output is made by `wrap`."""

    def __init__(self, wrap=lambda logits: logits, stride=1):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([-2.0, 2.0]))
        self.wrap = wrap
        self.stride = stride

    def forward(self, images):
        value = images[..., :: self.stride, :: self.stride].mean(1, keepdim=True) - 0.5
        return self.wrap(value * self.weight[:, None, None])


def halves(height=18, width=20):
    """uint8 (H, W, 3): black, and almost white from the middle column."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, width // 2 :] = 250
    return image


def expected(height=18, width=20):
    labels = np.zeros((height, width), np.uint8)
    labels[:, width // 2 :] = 1
    return labels


@pytest.mark.parametrize("options", WAYS)
@pytest.mark.parametrize(
    "wrap",
    [
        lambda logits: logits,
        lambda logits: {"out": logits, "aux": logits * -1},
        lambda logits: {"loss": None, "logits": logits},
        lambda logits: {"pred": logits},
    ],
)
def test_tensors_and_dicts_are_taken(wrap, options):
    prediction = Predictor(Bright(wrap), metadata=TWO, preprocessing=PLAIN, **options)(halves())
    np.testing.assert_array_equal(prediction.labels, expected())


@pytest.mark.parametrize("options", WAYS)
def test_logits_of_low_resolution_are_resized_to_the_image(options):
    prediction = Predictor(Bright(stride=4), metadata=TWO, preprocessing=PLAIN, **options)(halves(90, 120))
    assert prediction.labels.shape == (90, 120)
    assert (prediction.labels[:, :54] == 0).all()
    assert (prediction.labels[:, 66:] == 1).all()


def test_functions_take_any_network_too():
    images = torch.from_numpy(halves(33, 41)).permute(2, 0, 1)[None] / 255
    model = Bright(stride=2)
    logits = nn.functional.interpolate(model(images), (33, 41), mode="bilinear", align_corners=False)
    torch.testing.assert_close(predict_whole(model, images), logits.detach())
    assert torch.equal(predict_labels(model, images), logits.argmax(1).byte())
    assert predict_tiled(model, images, 16).shape == logits.shape
    assert predict_tta(model, images, (1.0,)).shape == logits.shape


@pytest.mark.parametrize("options", WAYS)
def test_wrong_number_of_channels_is_an_error_at_the_first_prediction(options):
    predictor = Predictor(Bright(), metadata=THREE, preprocessing=PLAIN, **options)
    with pytest.raises(InvalidArgumentError, match="the network returns 2 channels, but the metadata names 3 classes"):
        predictor(halves())


@pytest.mark.parametrize(
    ("wrap", "seen"),
    [
        (lambda logits: (logits, logits), "a tuple"),
        (lambda logits: {"mask": logits, "edge": logits}, "a dict with 'mask', 'edge'"),
        (lambda logits: {}, "a dict with nothing"),
        (lambda logits: logits.argmax(1), r"torch.int64 \(1, 18, 20\)"),
        (lambda logits: logits[0], r"torch.float32 \(2, 18, 20\)"),
        (lambda logits: logits.repeat(2, 1, 1, 1), r"torch.float32 \(2, 2, 18, 20\)"),
        (lambda logits: None, "a NoneType"),
    ],
)
def test_other_outputs_are_an_error(wrap, seen):
    predictor = Predictor(Bright(wrap), metadata=TWO, preprocessing=PLAIN)
    with pytest.raises(
        InvalidArgumentError, match=rf"must return float logits \(1, K, h, w\) for 1 image, .*got {seen}"
    ):
        predictor(halves())


# ---- one class -------------------------------------------------------------------------------------------------------


def one_channel(images):
    return images.mean(1, keepdim=True)


@pytest.mark.parametrize(
    "predict",
    [
        predict_labels,
        lambda model, images: predict_whole(model, images, None, "both"),
        lambda model, images: predict_tiled(model, images, 8, output="labels"),
        lambda model, images: predict_tta(model, images),
    ],
)
def test_one_channel_has_no_labels(predict):
    images = torch.rand(1, 3, 12, 12)
    with pytest.raises(InvalidArgumentError, match=r"one channel, so every pixel would be class 0; .*thresholds=0\.5"):
        predict(one_channel, images)
    assert predict_whole(one_channel, images).shape == (1, 1, 12, 12)
    assert predict_tiled(one_channel, images, 8).shape == (1, 1, 12, 12)


def test_one_class_is_refused_by_predictor_and_in_model_files(tmp_path):
    model = seg_models.enet(num_classes=1)
    assert model(torch.rand(2, 3, 32, 32))["out"].shape == (2, 1, 32, 32)
    car = DatasetMetadata("cars", ("car",))
    words = r"""cars has one class, 'car'.*DatasetMetadata\(name, \[label\], task="binary"\).*; or train with two"""
    with pytest.raises(InvalidArgumentError, match=words):
        Predictor(model, metadata=car, preprocessing=PLAIN)
    with pytest.raises(InvalidArgumentError, match=words):
        seg_models.save_model(model, tmp_path / "model.pt", metadata=car, preprocessing=PLAIN)
    assert not list(tmp_path.iterdir())


# ---- types -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, torch.float16])
@pytest.mark.parametrize("options", WAYS)
def test_network_of_another_type_is_called_with_its_type(dtype, options):
    seen = []
    model = Bright().to(dtype)
    model.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].dtype))
    found = Predictor(model, metadata=TWO, preprocessing=PLAIN, **options)(halves())
    np.testing.assert_array_equal(found.labels, expected())
    assert set(seen) == {dtype}
    if found.logits is not None:
        assert found.logits.dtype == np.float32


def test_functions_convert_images_to_the_type_of_the_network():
    model = seg_models.enet(num_classes=2).eval().double()
    images = torch.rand(1, 3, 40, 32)
    with torch.no_grad():
        logits = model(images.double())["out"]
    torch.testing.assert_close(predict_whole(model, images), logits)
    assert predict_tiled(model, images, 64).dtype == torch.float64
    assert torch.equal(predict_labels(model, images), logits.argmax(1).byte())


def test_slow_bf16_is_told_and_auto_chooses(shades, monkeypatch):
    monkeypatch.setattr("seg_core.device.has_bf16", lambda device: False)
    with pytest.warns(UserWarning, match='does not compute in bf16, .*; use dtype="auto", or leave it out'):
        assert Predictor(shades, dtype="bf16").dtype == torch.bfloat16
    assert Predictor(shades, dtype="auto").dtype == torch.float32
    monkeypatch.setattr("seg_core.device.has_bf16", lambda device: True)
    assert Predictor(shades, dtype="bf16").dtype == torch.bfloat16  # without a warning, which would be an error
    assert Predictor(shades, dtype="auto").dtype == torch.bfloat16


# ---- what a call of the network runs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"tile": 32}, {"tta": [1.0, 0.5]}, {"scores": True, "dtype": torch.bfloat16}])
@pytest.mark.parametrize("in_place", [False, True])
def test_the_compiled_function_is_what_runs(options, in_place):
    calls = []

    def backend(graph, inputs):
        def run(*arguments):
            calls.append(len(arguments))
            return graph(*arguments)

        return run

    torch._dynamo.reset()
    model = Small()
    image = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
    plain = Predictor(model, metadata=TWO, preprocessing=PLAIN, **options)(image)
    if in_place:
        model.compile(backend=backend)
        compiled = model
    else:
        compiled = torch.compile(model, backend=backend)
    if in_place and "dtype" in options:  # a copy of such a network is not compiled
        with pytest.raises(InvalidArgumentError, match=r"model\.to\(torch\.bfloat16\)"):
            Predictor(compiled, metadata=TWO, preprocessing=PLAIN, **options)
        return
    prediction = Predictor(compiled, metadata=TWO, preprocessing=PLAIN, **options)(image)
    assert calls
    np.testing.assert_array_equal(prediction.labels, plain.labels)
    torch._dynamo.reset()


def test_own_forward_and_hooks_are_what_runs():
    class Inverted(Small):
        def forward(self, images):
            return {name: -logits for name, logits in super().forward(images).items()}

    model = Small()
    images = torch.rand(1, 3, 33, 40)
    labels = predict_labels(model, images)
    handle = model.register_forward_hook(lambda _module, _inputs, output: {k: -v for k, v in output.items()})
    assert torch.equal(predict_labels(model, images), 1 - labels)
    assert torch.equal(predict_tiled(model, images, 64, output="labels"), 1 - labels)
    handle.remove()
    assert torch.equal(predict_labels(model, images), labels)
    model.__class__ = Inverted
    assert torch.equal(predict_labels(model, images), 1 - labels)


def test_the_mode_of_the_network_stays_and_train_mode_is_told():
    model = seg_models.enet(num_classes=2)
    for predict in (predict_whole, predict_labels, predict_tiled, predict_tta):
        with pytest.warns(UserWarning, match="the network is in train mode: .*call model.eval"):
            predict(model, torch.rand(2, 3, 32, 32))
        assert model.training


def test_predictor_predicts_in_eval_mode_whatever_happens_to_its_network():
    model = seg_models.enet(num_classes=2)
    image = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
    predictor = Predictor(model, metadata=TWO, preprocessing=PLAIN)
    expected = predictor(image).labels
    model.train()
    np.testing.assert_array_equal(predictor(image).labels, expected)
    assert model.training
    model.double()
    assert (predictor(image).labels == expected).mean() > 0.99


def test_forward_of_an_instance_is_what_runs():
    model = Small()
    images = torch.rand(1, 3, 33, 40)
    labels = predict_labels(model, images)
    original = model.forward
    model.forward = lambda images: {name: -logits for name, logits in original(images).items()}
    assert torch.equal(predict_labels(model, images), 1 - labels)
    tiled = predict_tiled(original, images, 16, output="labels")
    assert torch.equal(predict_tiled(model, images, 16, output="labels"), 1 - tiled)


@pytest.mark.parametrize("options", [*WAYS, {"tile": 8, "batch_size": 3}])
def test_network_may_write_into_its_input(options):
    class Writes(Bright):
        def forward(self, images):
            return super().forward(images.mul_(-1).add_(1))

    prediction = Predictor(Writes(), metadata=TWO, preprocessing=PLAIN, **options)(halves())
    np.testing.assert_array_equal(prediction.labels, 1 - expected())
    images = torch.rand(1, 3, 12, 12)
    kept = images.clone()
    for predict in (predict_whole, predict_labels, predict_tiled, predict_tta):
        predict(Writes(), images)
        assert torch.equal(images, kept)


def test_exported_program_is_predicted_with(tmp_path):
    program = torch.export.export(Bright().eval(), (torch.rand(1, 3, 18, 20),))
    prediction = Predictor(program.module(), metadata=TWO, preprocessing=PLAIN)(halves())
    np.testing.assert_array_equal(prediction.labels, expected())
    with pytest.raises(InvalidArgumentError, match=r"got ExportedProgram; pass the program's module: program.module"):
        Predictor(program, metadata=TWO, preprocessing=PLAIN)


def test_files_of_torch_that_are_no_model_files_say_what_they_are(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls its own function deprecated
        torch.jit.trace(Bright(), torch.rand(1, 3, 8, 8)).save(tmp_path / "traced.pt")
    torch.save(seg_models.enet(num_classes=2), tmp_path / "whole.pt")
    torch.export.save(torch.export.export(Bright().eval(), (torch.rand(1, 3, 8, 8),)), tmp_path / "exported.pt")
    for name, words in (
        ("traced", "a TorchScript program; load it with torch.jit.load"),
        ("whole", "a pickled object that could run any code; if you trust it, load it with torch.load"),
        ("exported", "an exported program; load it with torch.export.load"),
    ):
        with pytest.raises(CorruptFileError, match=f"{name}.pt is no model file: it is {words}"):
            Predictor(tmp_path / f"{name}.pt", metadata=TWO, preprocessing=PLAIN)


def test_results_can_be_used_in_a_loss():
    student = nn.Conv2d(3, 2, 1)
    images = torch.rand(2, 3, 16, 16)
    teacher = Bright()
    for target in (
        predict_labels(teacher, images).long(),
        predict_tiled(teacher, images, 8, output="labels").long(),
        predict_tiled(teacher, images, 8).softmax(1),
        predict_tta(teacher, images).exp(),
        predict_whole(teacher, images).softmax(1),
    ):
        assert not target.is_inference()
        loss = nn.functional.cross_entropy(student(images) * target.amax(), target)
        loss.backward()
        assert not target.requires_grad


# ---- NaN -------------------------------------------------------------------------------------------------------------


class Broken(Bright):
    """Returns NaN, or another value, at one pixel of white images."""

    def __init__(self, value=torch.nan, stride=1):
        super().__init__(stride=stride)
        self.value = value

    def forward(self, images):
        logits = super().forward(images).clone()
        for image, result in zip(images, logits, strict=True):
            if image.min() > 0.999:
                result[0, 2, 1] = self.value
        return {"out": logits}


@pytest.mark.parametrize("options", [*WAYS, {"threshold": 0.6}, {"threshold": 0.6, "tile": 8}, {"batch_size": 3}])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_logits_that_are_not_finite_name_the_image(tmp_path, options, value):
    from PIL import Image

    white = np.full((18, 20, 3), 255, np.uint8)
    for name, image in (("a", halves()), ("b", white), ("c", halves())):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    predictor = Predictor(Broken(value), metadata=TWO, preprocessing=PLAIN, **options)
    assert predictor(halves()).labels.shape == (18, 20)
    for source in (tmp_path / "b.png", white):
        name = r".*b\.png: " if source is not white else ""
        with pytest.raises(InvalidArgumentError, match=f"^{name}the network returns NaN or infinity for this image"):
            predictor(source)
    with pytest.raises(InvalidArgumentError, match=r"b\.png: the network returns NaN"):
        list(predictor(tmp_path))


@pytest.mark.parametrize(
    "predict", [predict_labels, lambda model, images: predict_tiled(model, images, 8, output="labels")]
)
def test_functions_make_no_labels_of_nan(predict):
    with pytest.raises(InvalidArgumentError, match="the network returns NaN or infinity"):
        predict(Broken(), torch.ones(2, 3, 12, 12))


@pytest.mark.parametrize("options", WAYS)
@pytest.mark.parametrize("stride", [1, 4])
@pytest.mark.parametrize("scale", [None, 0.5])
def test_a_class_may_be_excluded_with_minus_infinity(options, stride, scale):
    def without_first(logits):
        return torch.cat([logits[:, :1] * 0 - torch.inf, logits[:, 1:]], 1)

    preprocessing = Preprocessing((0.0,) * 3, (1.0,) * 3, scale=scale)
    predictor = Predictor(Bright(without_first, stride), metadata=TWO, preprocessing=preprocessing, **options)
    assert (predictor(halves()).labels == 1).all()


# ---- small images ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (3, 40)])
@pytest.mark.parametrize("name", ["enet", "segformer_b0", "pspnet_resnet18", "fast_scnn", "pidnet_s"])
def test_images_and_tiles_below_the_minimum_size_are_padded(name, size):
    model = seg_models.create(name, num_classes=2).eval()
    images = torch.rand(1, 3, *size)
    assert predict_tiled(model, images).shape == (1, 2, *size)
    assert predict_tiled(model, images, output="labels").shape == (1, *size)
    assert predict_tiled(model, torch.rand(1, 3, 40, 40), 20, output="labels").shape == (1, 40, 40)


@pytest.mark.parametrize(("network", "backbone"), [("fpn", "mit_b0"), ("unet", "vgg16"), ("unet", "mit_b0")])
def test_images_below_the_minimum_size_of_the_backbone_are_padded(network, backbone):
    model = seg_models.create(network, backbone=backbone, num_classes=2).eval()
    assert predict_labels(model, torch.rand(1, 3, 5, 40)).shape == (1, 5, 40)
    assert predict_tiled(model, torch.rand(1, 3, 1, 1)).shape == (1, 2, 1, 1)


def test_bgr_images_give_the_labels_of_rgb(tmp_path):
    from PIL import Image

    class Red(nn.Module):
        def forward(self, images):
            return torch.cat([0.5 - images[:, :1], images[:, :1] - 0.5], 1)

    rgb = np.zeros((6, 8, 3), np.uint8)
    rgb[:, 4:, 0] = 255
    Image.fromarray(rgb).save(tmp_path / "red.png")
    right = expected(6, 8)
    predictor = Predictor(Red(), metadata=TWO, preprocessing=PLAIN, channel_order="bgr")
    bgr = np.ascontiguousarray(rgb[..., ::-1])
    for source in (
        bgr,
        torch.from_numpy(bgr).permute(2, 0, 1),
        Image.fromarray(rgb),
        tmp_path / "red.png",
        (tmp_path / "red.png").read_bytes(),
    ):
        prediction = predictor(source)
        np.testing.assert_array_equal(prediction.labels, right)
        np.testing.assert_array_equal(prediction.image, rgb)
    all_frames = Predictor(Red(), metadata=TWO, preprocessing=PLAIN, channel_order="bgr", all_frames=True)
    np.testing.assert_array_equal(all_frames((tmp_path / "red.png").read_bytes()).labels, right)
    tiles = Predictor(Red(), metadata=TWO, preprocessing=PLAIN, channel_order="bgr", tile=4)
    tiles.predict_to_file(bgr, tmp_path / "labels.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "labels.npy"), right)
    with pytest.raises(InvalidArgumentError, match='channel_order must be "rgb", or "bgr"'):
        Predictor(Red(), metadata=TWO, preprocessing=PLAIN, channel_order="RGB")
