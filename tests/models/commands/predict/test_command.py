"""`seg predict` as a whole: formats, overlays, exit codes, errors."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import seg_models
from seg_models import Predictor
from tests.models.commands.predict_helpers import ids, names, seg


@pytest.mark.smoke
def test_overlay_is_written_beside_the_label_map(two_images, model_file, tmp_path, capsys):
    out = tmp_path / "out"
    assert seg("predict", two_images / "b.png", "--model", model_file, "--out", out, "--overlay") == 0
    assert names(out) == ["b.png", "b_overlay.jpg"]
    assert (
        f"1 image predicted: 1 label map (class ids as PNG), 1 overlay (*_overlay.jpg) in {out}\n"
        in capsys.readouterr().out
    )


def test_formats_hold_the_same_labels(images, model_file, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    for kind, ending in (("tiff", ".tif"), ("geojson", ".geojson")):
        assert seg("predict", images / "0.png", "--model", model_file, "--out", tmp_path / kind, "--format", kind) == 0
        assert names(tmp_path / kind) == [f"0{ending}"]
    labels = Predictor(model_file)(images / "0.png").labels
    np.testing.assert_array_equal(ids(tmp_path / "tiff" / "0.tif"), labels)
    features = json.loads((tmp_path / "geojson" / "0.geojson").read_text())["features"]
    shapes = [(f["geometry"], f["properties"]["class_id"]) for f in features]
    np.testing.assert_array_equal(rasterio.features.rasterize(shapes, labels.shape), labels)


def test_bad_image_is_reported_and_skipped(two_images, model_file, tmp_path, capsys):
    (two_images / "aa.png").write_bytes(b"no image")
    out = tmp_path / "out"
    assert seg("predict", two_images, "--model", model_file, "--out", out) == 1
    assert names(out) == ["a.png", "b.png"]
    streams = capsys.readouterr()
    assert "2 images predicted" in streams.out
    assert re.search(r"seg: skipped: .*aa.png cannot be read", streams.err)
    assert "seg: 1 image of 3 could not be predicted, see above" in streams.err
    assert "Traceback" not in streams.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gone.png", "--model", "model.pt"], "there is no image or folder gone.png"),
        (["empty", "--model", "model.pt"], "folder empty has no images"),
        (
            ["images", "--model", "model.pt", "--out", "images"],
            "b.png is one of the images and would be overwritten",
        ),
        (["images", "images2", "--model", "model.pt"], "would both be written to"),
        (["images", "--model", "regseg"], "model 'regseg' has no published weights; give a model file"),
        (["images", "--model", "ennet"], "unknown model 'ennet'. Did you mean 'enet'"),
        (
            ["images", "--model", "model.pt", "--weights", "VOC"],
            "weights VOC cannot be used with model file model.pt",
        ),
        (["images", "--model", "fcn_resnet50", "--weights", "VOC"], "FCN_ResNet50_Weights has no member 'VOC'"),
        (["images"], "--model"),
    ],
)
def test_wrong_usage_is_one_sentence_and_writes_nothing(
    arguments, words, two_images, model_file, tmp_path, monkeypatch, capsys
):
    (tmp_path / "empty").mkdir()
    (tmp_path / "images2").mkdir()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "images2" / "b.png")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert seg("predict", *arguments) == 2
    assert words in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("option", "value", "code"),
    [("--model", "gone.pt", 2), ("--model", "cut.pt", 1), ("--device", "nonsense", 2), ("--device", "99", 2)],
)
def test_missing_model_or_device_exits_with_2_and_a_damaged_model_with_1(
    option, value, code, two_images, model_file, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cut.pt").write_bytes(model_file.read_bytes()[:-500])
    arguments = {"--model": "model.pt", option: value}
    assert seg("predict", two_images, *[text for pair in arguments.items() for text in pair]) == code
    streams = capsys.readouterr()
    assert streams.err.splitlines()[-1].startswith("seg: error: ")
    assert value in streams.err
    assert not (tmp_path / "predictions").exists()


def test_model_name_without_weights_takes_the_default_and_says_so(two_images, monkeypatch, capsys):
    def no_download(self, progress=True):
        raise KeyboardInterrupt

    monkeypatch.setattr(seg_models.FCN_ResNet50_Weights, "get_state_dict", no_download)
    assert seg("predict", two_images, "--model", "fcn_resnet50") == 130
    assert "no weights given, taking FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1" in capsys.readouterr().err


def test_folder_that_cannot_be_written_is_an_error_before_the_first_prediction(images, model_file, tmp_path, capsys):
    (tmp_path / "out").write_text("a file, no folder")
    for out in (tmp_path / "out", tmp_path / "out" / "deep" / "er"):
        assert seg("predict", images, "--model", model_file, "--out", out) == 2
        streams = capsys.readouterr()
        assert f"--out {out} cannot be written, since {tmp_path / 'out'} is a file" in streams.err
        assert "images/s" not in streams.err
    assert (tmp_path / "out").read_text() == "a file, no folder"
    if Path("/proc/self").is_dir():  # permissions do not stop an administrator, but no folder can be created there
        assert seg("predict", images, "--model", model_file, "--out", "/proc/out") == 1
        assert capsys.readouterr().err.startswith("seg: error: cannot write /proc/out/writable: ")


def test_format_without_its_library_is_an_error_before_any_output(images, model_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rasterio", None)
    assert seg("predict", images, "--model", model_file, "--out", tmp_path / "out", "--format", "tiff") == 1
    assert "pip install 'seg-core[geo]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_optimize_says_what_it_gained(images, model_file, tmp_path, capsys, monkeypatch):
    from seg_models.speed import ways

    # the other ways take seconds to build
    monkeypatch.setattr(ways, "_why_not", lambda method, *_: "" if method == "channels_last" else "not in this test")
    monkeypatch.setattr(ways, "has_bf16", lambda device: False)
    assert seg("predict", images / "0.png", "--model", model_file, "--out", tmp_path / "plain") == 0
    capsys.readouterr()
    assert seg("predict", images / "0.png", "--model", model_file, "--out", tmp_path / "out", "--optimize") == 0
    assert "seg: optimized for " in capsys.readouterr().err
    assert (ids(tmp_path / "out" / "0.png") == ids(tmp_path / "plain" / "0.png")).mean() > 0.99
