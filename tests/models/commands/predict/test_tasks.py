"""seg predict with binary and multilabel models, whose logits are known."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from seg_core import BuildSpec, DatasetMetadata, Preprocessing, save_model
from seg_core.registry import MODELS
from seg_models.commands.predict.planes import folder_names
from tests.models.commands.predict_helpers import ids, names, seg

VESSELS = DatasetMetadata("vessels", ("vessel",), ((250, 20, 30),), task="binary")
DISCS = DatasetMetadata("discs", ("low", "mid/part", "high"), task="multilabel")


class Point(nn.Module):
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


@pytest.fixture(autouse=True)
def registered():
    MODELS.register("point", point)


def model_of(tmp_path, metadata, **options):
    path = tmp_path / "model.pt"
    plain = Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    save_model(point(num_classes=metadata.num_classes), path, metadata=metadata, preprocessing=plain, **options)
    return path


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    for name in ("a", "sub/b"):
        Image.fromarray(np.random.default_rng(7).integers(0, 256, (20, 30, 3), np.uint8)).save(folder / f"{name}.png")
    return folder


def planes_of(path, count, thresholds=0.5):
    logits = 8 * (ids(path)[..., 0] / 255 - 0.5) - 1.5 * np.arange(count)[:, None, None]
    return 1 / (1 + np.exp(-logits)) > np.reshape(thresholds, (-1, 1, 1))


@pytest.mark.parametrize(("option", "threshold"), [((), 0.3), (("--threshold", 0.9), 0.9)])
def test_binary(tmp_path, images, capsys, option, threshold):
    model = model_of(tmp_path, VESSELS, thresholds=0.3)
    assert seg("predict", images, "--model", model, "--out", tmp_path / "out", "--overlay", *option) == 0
    expected = planes_of(images / "a.png", 1, threshold)[0]
    assert np.array_equal(ids(tmp_path / "out" / "a.png"), expected)
    assert names(tmp_path / "out" / "sub") == ["b.png", "b_overlay.jpg"]
    assert "2 label maps (0 and 1 as PNG)" in capsys.readouterr().out


def test_multilabel_pngs_are_in_a_folder_per_class(tmp_path, images, capsys):
    model, out = model_of(tmp_path, DISCS), tmp_path / "out"
    assert seg("predict", images, "--model", model, "--out", out, "--json", tmp_path / "x.json") == 0
    assert "2 label maps (a PNG per class, in a folder of its name)" in capsys.readouterr().out
    assert names(out) == ["high", "low", "mid_part"]
    expected = planes_of(images / "a.png", 3)
    for plane, folder in zip(expected, ("low", "mid_part", "high"), strict=True):
        assert np.array_equal(ids(out / folder / "a.png"), plane)
        assert names(out / folder / "sub") == ["b.png"]
    entry = json.loads((tmp_path / "x.json").read_text())["images"][0]
    assert entry["labels"]["mid/part"] == str(out / "mid_part" / "a.png")
    assert {name: area["pixels"] for name, area in entry["areas"].items()} == {
        name: int(plane.sum()) for name, plane in zip(DISCS.labels, expected, strict=True)
    }


@pytest.mark.parametrize("form", ["png", "tiff"])
def test_resume_knows_the_planes(tmp_path, images, capsys, form):
    pytest.importorskip("rasterio")
    model, out = model_of(tmp_path, DISCS), tmp_path / "out"
    words = ("predict", images, "--model", model, "--out", out, "--format", form, "--csv", tmp_path / "x.csv")
    assert seg(*words) == 0
    first = (tmp_path / "x.csv").read_text()
    removed = out / "high" / "a.png" if form == "png" else out / "a.tif"
    removed.unlink()
    capsys.readouterr()
    assert seg(*words, "--resume") == 0
    assert "1 image predicted" in capsys.readouterr().out
    assert removed.is_file()
    assert (tmp_path / "x.csv").read_text() == first
    assert next(csv.reader(first.splitlines())) == ["source", *DISCS.labels]


def test_multilabel_tiff_and_geojson(tmp_path, images):
    rasterio = pytest.importorskip("rasterio")
    model, out = model_of(tmp_path, DISCS), tmp_path / "out"
    assert seg("predict", images, "--model", model, "--out", out, "--format", "tiff", "--threshold", "0.2,0.5,0.8") == 0
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning), rasterio.open(out / "a.tif") as file:
        assert np.array_equal(file.read(), planes_of(images / "a.png", 3, (0.2, 0.5, 0.8)))
        assert file.descriptions == DISCS.labels
    assert seg("predict", images, "--model", model, "--out", out, "--format", "geojson") == 0
    found = {f["properties"]["class"] for f in json.loads((out / "a.geojson").read_text())["features"]}
    assert found == set(DISCS.labels)


def test_only_some_classes(tmp_path, images):
    model, out = model_of(tmp_path, DISCS), tmp_path / "out"
    assert seg("predict", images, "--model", model, "--out", out, "--only", "high", "--only", "low") == 0
    assert names(out) == ["high", "low"]
    assert np.array_equal(ids(out / "high" / "a.png"), planes_of(images / "a.png", 3)[2])


@pytest.mark.parametrize(
    ("metadata", "value", "words"),
    [
        (VESSELS, "0", "--threshold 0: 0 is not a probability above 0 and below 1; give one number, such as 0.5"),
        (DISCS, "0.5,1,0.5", "--threshold 0.5,1,0.5: 1 is not a probability above 0 and below 1; give one number"),
        (
            DISCS,
            "0.5,0.5",
            "--threshold 0.5,0.5 has 2 numbers, but discs has 3 classes; give one number, such as",
        ),
        (DISCS, "half", "argument --threshold: 'half' is not a number; write a probability, such as 0.5"),
        (DatasetMetadata("two", ("a", "b")), "0.5,0.5", "the model is multiclass"),
    ],
)
def test_thresholds_that_are_not_allowed(tmp_path, images, capsys, metadata, value, words):
    model = model_of(tmp_path, metadata)
    assert seg("predict", images, "--model", model, "--out", tmp_path / "out", "--threshold", value) == 2
    assert words in capsys.readouterr().err
    assert not list((tmp_path / "out").rglob("*.png"))


def test_an_image_is_not_overwritten_by_a_plane(tmp_path, capsys):
    model, out = model_of(tmp_path, DISCS), tmp_path / "out"
    (out / "low").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(out / "low" / "a.png")
    assert seg("predict", out / "low" / "a.png", "--model", model, "--out", out) == 2
    assert "would be overwritten" in capsys.readouterr().err


def test_a_checkpoint_of_one_channel_is_named_by_classes(tmp_path, images, capsys):
    torch.save(point().state_dict(), tmp_path / "mine.pth")
    words = ("predict", images, "--model", "point", "--weights", tmp_path / "mine.pth", "--out", tmp_path / "out")
    (tmp_path / "classes.toml").write_text('labels = ["vessel"]\ntask = "binary"\n')
    assert seg(*words, "--classes", tmp_path / "classes.toml") == 0
    assert set(np.unique(ids(tmp_path / "out" / "a.png"))) == {0, 1}


def test_videos(tmp_path):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        for value in (20, 220):
            frame = av.VideoFrame.from_ndarray(np.full((16, 32, 3), value, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    model, out = model_of(tmp_path, DISCS), tmp_path / "out"
    words = ("predict", tmp_path / "v.mp4", "--model", model, "--out", out)
    assert seg(*words, "--legend") == 0
    assert names(out / "low" / "v") == ["000000.png", "000001.png"]
    assert not ids(out / "low" / "v" / "000000.png").any()
    assert ids(out / "low" / "v" / "000001.png").all()
    assert (out / "v_overlay.mp4").is_file()
    (out / "high" / "v" / "000001.png").unlink()
    assert seg(*words, "--resume") == 0
    assert (out / "high" / "v" / "000001.png").is_file()


def test_names_of_folders():
    assert folder_names(["a", "A", "b:c", " . ", "x"]) == ["a", "A_1", "b_c", "class", "x"]
