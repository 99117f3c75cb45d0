"""Exported files: they alone predict what the network predicts, in every format, task and kind of image."""

import copy
import json
import pickle
import shutil

import numpy as np
import pytest
import torch

from seg_core import DatasetMetadata, ImageChannels, Preprocessing
from seg_core.errors import InvalidArgumentError
from seg_core.metrics.argmax import argmax_labels
from seg_models import Predictor, export, load_exported
from seg_models.exporting.load import load_exported_network

pytest.importorskip("onnxscript")
ort = pytest.importorskip("onnxruntime")


def need(path):
    """Skips the test if the runtime of a file is not installed."""
    if path.endswith(".xml"):
        pytest.importorskip("openvino")


def image(height, width, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def assert_same(first, second):
    assert first.metadata == second.metadata
    assert np.mean(first.labels == second.labels) > 0.999  # the order of sums differs
    if first.logits is not None:
        np.testing.assert_allclose(first.logits, second.logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["model.onnx", "model.pt2", "model.xml"])
def test_file_alone_predicts_any_size(tiny, described, tmp_path, name):
    need(name)
    network = tiny()
    report = export(network, tmp_path / "first" / name, **described)
    assert report.verification.max_abs_error < 1e-4
    assert len({each.size for each in report.verification.comparisons}) == 3
    (tmp_path / "second").mkdir()
    for file in (tmp_path / "first").glob("model.*"):
        if file.suffix != ".json":
            shutil.move(file, tmp_path / "second" / file.name)
    loaded = load_exported(tmp_path / "second" / name, logits=True)
    assert loaded.metadata == described["metadata"]
    assert loaded.preprocessing == described["preprocessing"]
    eager = Predictor(network, logits=True, **described)
    for size in ((64, 96), (71, 99), (33, 40)):
        assert_same(eager(image(*size)), loaded(image(*size)))
    for size in ((20, 33), (1, 1)):
        with pytest.warns(UserWarning, match=f"{size[0]}x{size[1]} pixels .* exported for 33 at least: it is padded"):
            assert loaded(image(*size)).labels.shape == size
    batch = [image(66, 70, seed=seed) for seed in range(3)]
    batched = Predictor(loaded.model, logits=True, batch_size=3)
    for one, other in zip(eager(batch), batched(batch), strict=True):
        assert_same(one, other)


def test_report_says_what_was_compared_and_what_the_file_needs(tiny, described, tmp_path):
    report = export(tiny(), tmp_path / "net.onnx", with_argmax=True, **described)
    written = json.loads((tmp_path / "net.onnx.json").read_text())
    assert written == json.loads(json.dumps(report.to_dict()))
    assert written["max_abs_error"] < 1e-4
    assert written["label_agreement"] > 0.999
    assert written["miou_before"] is written["miou_after"] is None
    assert written["opset"] == 18
    assert written["versions"]["onnxruntime"] == ort.__version__
    assert written["metadata"]["labels"] == list(described["metadata"].labels)
    assert written["preprocessing"]["mean"] == [0.4, 0.5, 0.6]
    assert (written["task"], written["thresholds"]) == ("multiclass", None)
    assert written["tolerance"] == {"max_error": 1e-3, "min_agreement": 0.999}
    assert written["outputs"] == ["logits", "labels"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.onnx", "net.onnx.json"]
    assert "100.000% of the labels are equal" in str(report)


def test_raw_runtime_gets_logits_and_labels_of_the_values_of_an_image(tiny, described, tmp_path):
    network = tiny()
    export(network, tmp_path / "net.onnx", with_preprocessing=True, with_argmax=True, **described)
    session = ort.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    assert [value.name for value in (*session.get_inputs(), *session.get_outputs())] == ["images", "logits", "labels"]
    assert session.get_inputs()[0].shape == ["batch", 3, "height", "width"]
    pixels = image(65, 81)
    logits, labels = session.run(None, {"images": pixels.transpose(2, 0, 1)[None].astype(np.float32)})
    with torch.no_grad():
        expected = network(described["preprocessing"](pixels))["out"]
    np.testing.assert_allclose(logits, expected.numpy(), atol=1e-5)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, argmax_labels(torch.from_numpy(logits)).numpy())
    assert_same(Predictor(network, **described)(pixels), load_exported(tmp_path / "net.onnx")(pixels))


@pytest.mark.parametrize(
    ("task", "classes", "thresholds"), [("binary", ("vessel",), 0.3), ("multilabel", ("a", "b", "c"), (0.2, 0.5, 0.7))]
)
def test_tasks_keep_their_thresholds(tiny, tmp_path, task, classes, thresholds):
    metadata = DatasetMetadata("own", classes, task=task)
    network = tiny(len(classes))
    options = {"metadata": metadata, "preprocessing": Preprocessing(), "thresholds": thresholds}
    report = export(network, tmp_path / "net.onnx", with_argmax=True, **options)
    assert report.to_dict()["thresholds"] == list(np.atleast_1d(thresholds))
    loaded = load_exported(tmp_path / "net.onnx")
    assert loaded.thresholds == tuple(np.atleast_1d(thresholds))
    eager = Predictor(network, **options)
    assert_same(eager(image(70, 90)), loaded(image(70, 90)))
    _, labels = load_exported_network(tmp_path / "net.onnx").outputs(torch.randn(2, 3, 64, 64))
    assert labels.shape == (2, len(classes), 64, 64)


@pytest.mark.parametrize("with_preprocessing", [False, True])
def test_channels_of_16_bits(tiny, tmp_path, with_preprocessing):
    channels = ImageChannels(("red", "green", "blue", "nir"), range=(100, 10000), mean=(0.3,) * 4, std=(0.1,) * 4)
    metadata = DatasetMetadata("land", ("field", "water", "wood"), channels=channels)
    network = tiny(3, 4)
    report = export(network, tmp_path / "net.onnx", metadata=metadata, with_preprocessing=with_preprocessing)
    assert report.to_dict()["input"]["channels"] == ["red", "green", "blue", "nir"]
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 12000, (4, 70, 80)).astype(np.uint16))
    eager, loaded = Predictor(network, metadata=metadata), load_exported(tmp_path / "net.onnx")
    assert loaded.metadata.channels == channels
    assert_same(eager(pixels), loaded(pixels))


def test_file_of_one_size_says_which_and_predicts_by_tiles(tiny, described, tmp_path):
    network = tiny()
    report = export(network, tmp_path / "net.onnx", size=(40, 56), dynamic=False, **described)
    assert {each.size for each in report.verification.comparisons} == {(40, 56)}
    loaded = load_exported(tmp_path / "net.onnx", batch_size=2)
    assert_same(Predictor(network, **described)(image(40, 56)), loaded(image(40, 56)))
    with pytest.raises(
        InvalidArgumentError, match=r"exported for inputs of 40x56 .* got 40x57; .*tile=\(40, 56\) \(--tile 40x56\)"
    ):
        loaded(image(40, 57))
    tiled = load_exported(tmp_path / "net.onnx", tile=(40, 56), batch_size=3)
    assert_same(Predictor(network, tile=(40, 56), **described)(image(90, 100)), tiled(image(90, 100)))
    resized = described["preprocessing"].with_resize({"size": (40, 56)})
    assert load_exported(tmp_path / "net.onnx", preprocessing=resized)(image(90, 100)).labels.shape == (90, 100)
    with pytest.raises(InvalidArgumentError, match=r"a file for one size .* needs it: size="):
        export(network, tmp_path / "other.onnx", dynamic=False, **described)


@pytest.mark.parametrize("name", ["model.onnx", "model.pt2", "model.xml"])
def test_half_precision(tiny, described, tmp_path, name):
    need(name)
    network = tiny()
    report = export(network, tmp_path / name, fp16=True, **described)
    assert 0 < report.verification.max_abs_error < 0.05
    assert next(network.parameters()).dtype == torch.float32  # that of the user stays


def test_integers_are_calibrated_on_images(tiny, described, tmp_path):
    from PIL import Image

    (tmp_path / "images").mkdir()
    for seed in range(4):
        Image.fromarray(image(60, 70, seed=seed)).resize((70, 60)).save(tmp_path / "images" / f"{seed}.png")
    report = export(
        tiny(), tmp_path / "net.onnx", int8=tmp_path / "images", with_preprocessing=True, min_agreement=0.8, **described
    )
    assert [each.image for each in report.verification.comparisons] == [
        str(tmp_path / "images" / f"{seed}.png") for seed in range(4)
    ]
    assert report.verification.tolerance.max_error is None
    assert set(report.speed) == {"fp32_ms", "int8_ms"}
    assert load_exported(tmp_path / "net.onnx").model.description.precision == "int8"
    onnx = pytest.importorskip("onnx")
    kinds = {node.op_type for node in onnx.load(tmp_path / "net.onnx").graph.node}
    assert "DequantizeLinear" in kinds


def test_images_of_ones_own_with_masks_give_the_miou_before_and_after(tiny, described, tmp_path):
    from PIL import Image

    network = tiny()
    predictor = Predictor(network, **described)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for seed in range(2):
        pixels = image(50, 60, seed=seed)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{seed}.png")
        mask = predictor(pixels).labels.copy()
        mask[:10] = 255  # ignored
        mask[10:20] = (mask[10:20] + 1) % 4
        Image.fromarray(mask).save(tmp_path / "masks" / f"{seed}.png")
    found = export(
        network, tmp_path / "net.onnx", images=tmp_path / "images", masks=tmp_path / "masks", **described
    ).verification
    assert 0.3 < found.miou_before < 1
    assert found.miou_after == pytest.approx(found.miou_before, abs=1e-3)
    Image.fromarray(np.full((50, 60), 11, np.uint8)).save(tmp_path / "masks" / "1.png")
    with pytest.raises(InvalidArgumentError, match=r"1\.png holds other values than class ids and 255 .* by seg eval"):
        export(network, tmp_path / "b.onnx", images=tmp_path / "images", masks=tmp_path / "masks", **described)
    (tmp_path / "masks" / "1.png").unlink()
    with pytest.raises(InvalidArgumentError, match=r"1\.png has no mask in"):
        export(network, tmp_path / "b.onnx", images=tmp_path / "images", masks=tmp_path / "masks", **described)
    with pytest.raises(InvalidArgumentError, match="masks need the images"):
        export(network, tmp_path / "b.onnx", masks=tmp_path / "masks", **described)
    assert not list(tmp_path.glob("b.*"))


def test_network_is_not_changed(tiny, described, tmp_path):
    network = tiny().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    export(network, tmp_path / "net.pt2", **described)
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_files_are_models_wherever_a_model_is_named(tiny, described, tmp_path):
    network = tiny()
    report = export(network, tmp_path / "net.pt2", **described)
    assert report.to_dict()["metadata"]["name"] == "four"
    predictor = Predictor(tmp_path / "net.pt2")
    assert_same(Predictor(network, **described)(image(65, 70)), predictor(image(65, 70)))
    with pytest.raises(InvalidArgumentError, match="is exported already; export the model that it was made from"):
        export(tmp_path / "net.pt2", tmp_path / "again.onnx")
    for model in (tmp_path / "net.pt2", predictor.model):
        with pytest.raises(InvalidArgumentError, match=r"computes in fp32, and cannot be changed to torch\.float64"):
            Predictor(model, dtype="fp64")
        assert Predictor(model, dtype="auto").dtype is None  # the type of the file
    with pytest.raises(InvalidArgumentError, match="2 classes but the model was built with num_classes=4"):
        Predictor(tmp_path / "net.pt2", metadata=["a", "b"])


@pytest.mark.parametrize("name", ["model.onnx", "model.pt2", "model.xml"])
def test_exported_network_is_copied_and_pickled(tiny, described, tmp_path, name):
    need(name)
    export(tiny(), tmp_path / name, **described)
    network = load_exported_network(tmp_path / name)
    assert repr(network).endswith(f"{name}')")
    images = torch.rand(1, 3, 40, 48)
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert torch.equal(other(images)["out"], network(images)["out"])
