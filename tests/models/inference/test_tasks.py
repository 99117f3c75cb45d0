"""Predictions of binary and multilabel tasks, by a network whose logits are known."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from seg_core import BuildSpec, DatasetMetadata, Preprocessing, save_model
from seg_core.errors import InvalidArgumentError
from seg_core.registry import MODELS
from seg_models import Prediction, Predictor

VESSELS = DatasetMetadata("vessels", ("vessel",), ((250, 20, 30),), task="binary")
DISCS = DatasetMetadata("discs", ("low", "mid", "high"), ((200, 0, 0), (0, 200, 0), (0, 0, 200)), task="multilabel")
PLAIN = Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


class Point(nn.Module):
    """Logits of class k: 4 x the red channel, normalized, minus a constant of the class."""

    def __init__(self, num_classes):
        super().__init__()
        self.conv = nn.Conv2d(3, num_classes, 1)
        with torch.no_grad():
            self.conv.weight.zero_()
            self.conv.weight[:, 0] = 4.0
            self.conv.bias.copy_(torch.arange(num_classes) * -1.5)

    def forward(self, images):
        return {"out": self.conv(images)}


def point(*, weights=None, variant=None, num_classes=1):
    model = Point(num_classes)
    model.build_spec = BuildSpec("point", variant or "paper", {"num_classes": num_classes})
    return model


pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")


def predictor(metadata, **options):
    return Predictor(point(num_classes=metadata.num_classes), metadata=metadata, preprocessing=PLAIN, **options)


@pytest.fixture
def image():
    return np.random.default_rng(5).integers(0, 256, (40, 56, 3), np.uint8)


def probabilities(image, count):
    logits = 4 * (image[..., 0].astype(np.float32) / 255 - 0.5) / 0.5 - 1.5 * np.arange(count)[:, None, None]
    return (1 / (1 + np.exp(-logits))).astype(np.float32)


WAYS = [{}, {"tile": 16}, {"tile": 64}, {"scores": True}, {"tta": [1.0]}, {"tile": (24, 16), "scores": True}]


@pytest.mark.parametrize("options", WAYS)
@pytest.mark.parametrize("thresholds", [None, 0.8])
def test_binary(image, options, thresholds):
    expected = probabilities(image, 1)
    found = predictor(VESSELS, thresholds=thresholds, **options)(image)
    assert found.labels.dtype == np.uint8
    assert np.array_equal(found.labels, expected[0] > (thresholds or 0.5))
    assert np.array_equal(found.mask("vessel"), found.labels == 1)
    assert found.areas == {"vessel": int(found.labels.sum())}
    if options.get("scores"):
        assert found.scores.shape == (1, 40, 56)
        assert np.allclose(found.scores, expected, atol=1e-5)


@pytest.mark.parametrize("options", WAYS)
@pytest.mark.parametrize("thresholds", [None, (0.2, 0.5, 0.7)])
def test_multilabel(image, options, thresholds):
    expected = probabilities(image, 3)
    planes = expected > np.array(thresholds or (0.5,) * 3)[:, None, None]
    found = predictor(DISCS, thresholds=thresholds, **options)(image)
    assert found.labels.dtype == np.bool_
    assert np.array_equal(found.labels, planes)
    assert np.array_equal(found.mask("mid"), planes[1])
    assert found.areas == {name: int(planes[i].sum()) for i, name in enumerate(DISCS.labels)}
    if options.get("scores"):
        assert np.allclose(found.scores, expected, atol=1e-5)


@pytest.mark.parametrize("metadata", [VESSELS, DISCS])
@pytest.mark.parametrize("suffix", [".tif", ".npy"])
def test_a_file_written_by_windows_is_the_prediction_in_memory(tmp_path, metadata, suffix):
    rasterio = pytest.importorskip("rasterio")
    large = np.random.default_rng(1).integers(0, 256, (150, 170, 3), np.uint8)
    whole = predictor(metadata)(large)
    written = predictor(metadata, tile=64).predict_to_file(large, tmp_path / f"x{suffix}")
    if suffix == ".npy":
        labels = np.load(written.path)
    else:
        with rasterio.open(written.path) as file:
            labels = file.read()[0] if metadata.task == "binary" else file.read()
            if metadata.task == "multilabel":
                assert file.descriptions == metadata.labels
                assert file.count == 3
            assert file.nodata == 255
    assert labels.dtype == np.uint8
    assert np.array_equal(labels, whole.labels)
    assert written.areas == whole.areas
    assert written.size == (150, 170)


@pytest.mark.parametrize("metadata", [VESSELS, DISCS, DatasetMetadata("two", ("ground", "thing"))])
def test_an_image_without_marks_is_valid_everywhere(metadata):
    found = predictor(metadata)(np.zeros((48, 40, 3), np.uint8))
    assert found.valid.shape == (48, 40)
    assert found.valid.dtype == np.bool_
    assert found.valid.all()
    assert np.array_equal(Prediction(found.labels, metadata, found.image).valid, found.valid)


@pytest.mark.parametrize("metadata", [VESSELS, DISCS])
def test_pixels_without_data(tmp_path, metadata):
    rasterio = pytest.importorskip("rasterio")
    data = np.random.default_rng(2).integers(1, 256, (3, 48, 48), np.uint8)
    data[:, :10] = 0
    profile = {"driver": "GTiff", "count": 3, "height": 48, "width": 48, "dtype": "uint8", "nodata": 0}
    with rasterio.open(tmp_path / "x.tif", "w", photometric="rgb", **profile) as file:
        file.write(data)
    found = predictor(metadata, scores=True)(tmp_path / "x.tif")
    planes = found.labels.reshape(-1, 48, 48)
    if metadata.task == "binary":
        assert (planes[:, :10] == 255).all()
    else:
        assert not planes[:, :10].any()
    assert not found.valid[:10].any()
    assert found.valid[10:].all()
    for one in (found.plane(metadata.labels[0]), pickle.loads(pickle.dumps(found))):
        assert np.array_equal(one.valid, found.valid)
    assert (found.plane(metadata.labels[0]).labels[:10] == 255).all()
    assert not found.scores[:, :10].any()
    assert np.array_equal(found.overlay()[:10], found.image[:10])
    found.save(tmp_path / "labels.tif")
    predictor(metadata, tile=32).predict_to_file(tmp_path / "x.tif", tmp_path / "windows.tif")
    with rasterio.open(tmp_path / "labels.tif") as one, rasterio.open(tmp_path / "windows.tif") as other:
        assert np.array_equal(one.read(), other.read())
        assert (one.read()[:, :10] == 255).all()
    saved = found.plane(0)
    assert (saved.labels[:10] == 255).all()


def test_thresholds_come_from_the_argument_the_file_or_the_default(tmp_path, image):
    MODELS.register("point", point)
    save_model(point(num_classes=3), tmp_path / "m.pt", metadata=DISCS, preprocessing=PLAIN, thresholds=(0.2, 0.3, 0.4))
    expected = probabilities(image, 3)
    of_file = Predictor(tmp_path / "m.pt")
    assert of_file.thresholds == (0.2, 0.3, 0.4)
    assert np.array_equal(of_file(image).labels, expected > np.array([0.2, 0.3, 0.4])[:, None, None])
    assert Predictor(tmp_path / "m.pt", thresholds=0.9).thresholds == (0.9, 0.9, 0.9)
    # what the thresholds of other classes are good for is not known
    renamed = replace(DISCS, labels=("a", "b", "c"))
    assert Predictor(tmp_path / "m.pt", metadata=renamed).thresholds == (0.5, 0.5, 0.5)
    assert predictor(replace(DISCS, task="multiclass")).thresholds is None


@pytest.mark.parametrize(
    ("metadata", "options", "words"),
    [
        (VESSELS, {"threshold": 0.4}, "pass thresholds=0.4"),
        (DISCS, {"thresholds": (0.5, 0.5)}, "thresholds must be"),
        (DISCS, {"thresholds": 1}, "thresholds must be"),
        (replace(DISCS, task="multiclass"), {"thresholds": 0.5}, "a multiclass task has none"),
        (replace(VESSELS, task="multiclass"), {}, 'task="binary"'),
    ],
)
def test_arguments_of_another_task(metadata, options, words):
    with pytest.raises(InvalidArgumentError, match=words):
        predictor(metadata, **options)


def test_only_and_min_region(image):
    pytest.importorskip("rasterio")
    planes = predictor(DISCS)(image).labels
    found = predictor(DISCS, only=["mid"])(image)
    assert np.array_equal(found.labels[1], planes[1])
    assert set(found.areas) == {"mid"}
    assert np.array_equal(predictor(VESSELS, only=["vessel"])(image).labels, planes[0])
    dots = np.zeros((40, 40, 3), np.uint8)
    dots[5, 5] = dots[20:30, 20:30] = 255
    for metadata in (VESSELS, DISCS):
        sieved = predictor(metadata, min_region=5)(dots)
        assert set(sieved.areas.values()) == {100}


def test_methods_of_a_binary_prediction(tmp_path):
    square = np.zeros((20, 20, 3), np.uint8)
    square[4:10, 6:12] = 255
    found = predictor(VESSELS, logits=True)(square)
    assert (found.name_at(5, 7), found.name_at(0, 0)) == ("vessel", None)
    assert (found.names_at(5, 7), found.names_at(0, 0)) == (("vessel",), ())
    assert np.allclose(found.probability("vessel"), probabilities(square, 1)[0], atol=1e-6)
    colors = found.colorize()
    assert (colors[5, 7] == VESSELS.colors[0]).all()
    assert (colors[0, 0] == 0).all()
    shown = found.overlay(contours=True)
    assert np.array_equal(shown[0, 0], square[0, 0])
    assert (shown[4, 6] == VESSELS.colors[0]).all()
    assert found.overlay(legend=True).shape[0] > 20
    assert "vessel 9 %" in repr(found)
    assert "ignored" not in found._repr_html_()
    assert "no class occurs" in repr(predictor(VESSELS)(np.zeros_like(square)))
    assert pickle.loads(pickle.dumps(found)) == found
    found.save(tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as image:
        assert np.array_equal(np.asarray(image), found.labels)
        assert image.getpalette()[:6] == [0, 0, 0, 250, 20, 30]


def test_polygons_of_each_task(tmp_path):
    pytest.importorskip("rasterio")
    square = np.zeros((20, 20, 3), np.uint8)
    square[4:10, 6:12] = 255
    (feature,) = predictor(VESSELS)(square).polygons("vessel")
    assert feature["properties"] == {"class_id": 0, "class": "vessel", "pixels": 36}
    found = predictor(DISCS)(square)
    assert [f["properties"]["class"] for f in found.polygons()] == ["low", "mid", "high"]
    assert [f["properties"]["class_id"] for f in found.polygons("mid")] == [1]
    found.save(tmp_path / "x.geojson")
    assert (tmp_path / "x.geojson").read_text().count('"pixels": 36') == 3


def test_methods_of_a_multilabel_prediction(tmp_path, image):
    found = predictor(DISCS, logits=True)(image)
    y, x = np.argwhere(found.labels[2])[0]
    assert found.names_at(y, x) == ("low", "mid", "high")
    with pytest.raises(InvalidArgumentError, match=r"names_at\(y, x\)"):
        found.name_at(y, x)
    assert np.allclose(found.probability("high"), probabilities(image, 3)[2], atol=1e-6)
    assert tuple(found.colorize()[y, x]) == (66, 66, 66)
    nothing = ~found.labels.any(0)
    assert nothing.any()
    assert np.array_equal(found.overlay()[nothing], image[nothing])
    assert np.asarray(found).shape == (3, 40, 56)
    assert "40x56" in repr(found)
    assert "40x56" in found._repr_html_()
    with pytest.raises(InvalidArgumentError, match=r"prediction\.plane\(name\)\.save"):
        found.save(tmp_path / "x.png")
    assert not list(tmp_path.iterdir())
    found.plane("mid").save(tmp_path / "mid.png")
    with Image.open(tmp_path / "mid.png") as saved:
        assert np.array_equal(np.asarray(saved), found.labels[1])
        assert saved.getpalette()[3:6] == [0, 200, 0]
    found.save_overlay(tmp_path / "x.jpg", legend=True)


def test_plane_of_a_multiclass_prediction(image):
    metadata = replace(DISCS, task="multiclass")
    found = predictor(metadata)(image)
    plane = found.plane("low")
    assert plane.metadata.task == "binary"
    assert np.array_equal(plane.labels, found.labels == 0)


def test_lists_and_batches(image):
    for metadata in (VESSELS, DISCS):
        one = predictor(metadata)(image)
        assert all(each == one for each in predictor(metadata, batch_size=2)([image, image, image]))
