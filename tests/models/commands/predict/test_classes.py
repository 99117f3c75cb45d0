"""`seg predict` with files that do not describe their network: classes, preprocessing, run folders."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import seg_models
from seg_core.labels.metadata import DatasetMetadata, resolve_metadata
from seg_core.transforms.preprocessing import Preprocessing
from seg_models import Predictor
from seg_models.commands.predict.classes import describe
from tests.models.commands.predict_helpers import ids, names, seg


@pytest.fixture
def weights(tmp_path):
    """A plain state dict of an ENet of 21 classes."""
    torch.manual_seed(0)
    torch.save(seg_models.enet(num_classes=21).state_dict(), tmp_path / "mine.pth")
    return tmp_path / "mine.pth"


def predict(weights, metadata, images, preprocessing=None):
    predictor = Predictor("enet", weights=weights, metadata=metadata, preprocessing=preprocessing or Preprocessing())
    return predictor(images / "0.png")


def palette(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_weights_without_classes_give_ids_in_generated_colors_and_say_so(images, weights, tmp_path, capsys):
    out = tmp_path / "out"
    assert seg("predict", images / "0.png", "--model", "enet", "--weights", weights, "--out", out, "--overlay") == 0
    said = capsys.readouterr().err
    assert (
        f"seg: enet with weights {weights} does not say its classes: writing ids 0 to 20, in generated colors" in said
    )
    assert "(--classes FILE or DATASET names them); nor its preprocessing: using ImageNet's mean and std" in said
    metadata = DatasetMetadata("ids", tuple(map(str, range(21))))
    np.testing.assert_array_equal(ids(out / "0.png"), predict(weights, metadata, images).labels)


def test_network_of_one_class_is_refused(images, tmp_path, capsys):
    torch.save(seg_models.enet(num_classes=1).state_dict(), tmp_path / "one.pth")
    options = ("--model", "enet", "--weights", tmp_path / "one.pth", "--out", tmp_path / "out")
    assert seg("predict", images / "0.png", *options) == 2
    assert "one class, '0': a prediction is one of the classes" in capsys.readouterr().err
    assert not list(tmp_path.glob("out/*"))


def test_classes_name_those_of_a_dataset_or_a_file(images, weights, tmp_path, capsys):
    pytest.importorskip("rasterio")
    own = tmp_path / "own.json"
    own.write_text(json.dumps({"labels": [f"thing {i}" for i in range(21)]}))
    for number, classes in enumerate(("VOC", own)):
        out = tmp_path / f"out{number}"
        options = ("--weights", weights, "--classes", classes, "--out", out, "--format", "geojson")
        assert seg("predict", images / "0.png", "--model", "enet", *options) == 0
        assert "--classes" not in capsys.readouterr().err
        features = json.loads((out / "0.geojson").read_text())["features"]
        labels = resolve_metadata(classes).labels
        assert features
        assert all(f["properties"]["class"] == labels[f["properties"]["class_id"]] for f in features)


def test_classes_replace_the_names_of_a_model_file(images, model_file, tmp_path):
    own = tmp_path / "own.toml"
    own.write_text('labels = ["day", "night"]\ncolors = [[1, 2, 3], [4, 5, 6]]')
    out = tmp_path / "out"
    assert seg("predict", images / "0.png", "--model", model_file, "--classes", own, "--out", out) == 0
    assert {tuple(color) for color in palette(out / "0.png").reshape(-1, 3)} == {(1, 2, 3), (4, 5, 6)}


def test_scale_is_that_of_weights_without_preprocessing(images, weights, tmp_path):
    out = tmp_path / "out"
    options = ("--weights", weights, "--classes", "VOC", "--out", out, "--scale", 0.5)
    assert seg("predict", images / "0.png", "--model", "enet", *options) == 0
    expected = predict(weights, resolve_metadata("VOC"), images, Preprocessing(scale=0.5))
    np.testing.assert_array_equal(ids(out / "0.png"), expected.labels)


def test_network_within_a_file_is_chosen_on_the_command_line(images, weights, tmp_path, capsys):
    state = torch.load(weights)
    torch.save({"ema": state, "model": {n: torch.zeros_like(t) for n, t in state.items()}}, tmp_path / "two.pth")
    two = tmp_path / "two.pth"
    common = (
        "predict",
        images / "0.png",
        "--model",
        "enet",
        "--classes",
        "VOC",
        "--out",
        tmp_path / "out",
        "--weights",
    )
    assert seg(*common, two) == 2
    assert f"choose one by its name after a #, as in {two}#ema" in capsys.readouterr().err
    assert seg(*common, f"{two}#ema") == 0
    np.testing.assert_array_equal(
        ids(tmp_path / "out" / "0.png"), predict(weights, resolve_metadata("VOC"), images).labels
    )


def test_run_folder_gives_its_best_weights_and_says_so(images, model_file, tmp_path, capsys):
    run, out = tmp_path / "run", tmp_path / "out"
    run.mkdir()
    model_file.rename(run / "model_best.pt")
    (run / "model.pt").write_bytes(b"never read")
    assert seg("predict", images / "0.png", "--model", run, "--out", out) == 0
    said = f"seg: taking the best weights of the run, {run / 'model_best.pt'}; it also has model.pt"
    assert said in capsys.readouterr().err
    assert names(out) == ["0.png"]
    assert Predictor(run).metadata == seg_models.load_model(run).model_info.metadata == Predictor(str(run)).metadata


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        ("CityscapesClass", "--classes: 'CityscapesClass' has 19 classes, but enet with weights"),
        ("voc", "--classes: unknown label set 'voc'. Did you mean 'VOC'"),
        ("gone.toml", "--classes: metadata file gone.toml does not exist"),
    ],
)
def test_classes_that_do_not_fit_are_refused(images, weights, tmp_path, classes, words, capsys):
    out = tmp_path / "out"
    options = ("--weights", weights, "--classes", classes, "--out", out)
    assert seg("predict", images, "--model", "enet", *options) == 2
    assert words in capsys.readouterr().err
    assert not out.exists()


def test_network_of_an_unknown_number_of_classes_needs_them(capsys):
    with pytest.raises(ValueError, match=r"net says neither its classes nor their number; name them with --classes"):
        describe(nn.Identity(), "net", None, None)
    assert describe(nn.Identity(), "net", resolve_metadata("VOC"), None)["metadata"].num_classes == 21
