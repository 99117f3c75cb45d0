"""`seg export`: the command line, and files that other commands take."""

import json

import numpy as np
import pytest
from PIL import Image

import seg_core
import seg_models
from seg_core.command import main
from seg_core.registry import LOADERS

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")


@pytest.fixture
def model_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network = seg_models.get_model("fast_scnn", num_classes=11)
    metadata = seg_core.resolve_metadata("CamVid")
    seg_core.save_model(network, "run/model.pt", metadata=metadata, preprocessing=seg_core.Preprocessing())
    return "run/model.pt"


def seg(*arguments):
    return main([str(each) for each in arguments])


def test_exported_file_is_shown_and_predicts_as_the_model(model_file, tmp_path, capsys):
    assert LOADERS.names()[:3] == [".onnx", ".pt2", ".xml"]
    assert seg("export", "run", "--format", "pt2", "--with-argmax") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("file      run/model.pt2 (")
    assert "100.000% of the labels are equal" in printed
    written = json.loads((tmp_path / "run/model.pt2.json").read_text())
    assert written["dynamic"] is True
    assert seg("models", "show", "run/model.pt2") == 0
    shown = capsys.readouterr().out
    assert "images of any size from" in shown
    assert "outputs logits, labels" in shown
    assert "11 of CamVid" in shown
    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("street.png")
    for name, model in (("a", "run/model.pt"), ("b", "run/model.pt2")):
        assert seg("predict", "street.png", "--model", model, "--out", name) == 0
    first, second = (np.asarray(Image.open(f"{name}/street.png")) for name in "ab")
    assert np.mean(first == second) > 0.999


def test_report_as_json(model_file, capsys):
    assert seg("export", model_file, "--static", "--size", "64x80", "--out", "small.onnx", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["size"] == [64, 80]
    assert printed["file"] == "small.onnx"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--static"], "--static is for one size; add --size HxW"),
        (["--size", "64y"], "--size 64y must be pixels, such as 512, or height x width, such as 512x1024"),
        (["--masks", "masks"], "--masks are those of the images of --verify; add --verify IMAGES"),
        (["--ort-web", "ort"], "--ort-web is for --with-example web"),
        (["--out", "net.pb"], "--out net.pb must be a file with the suffix .onnx, .pt2, .xml, such as net.onnx"),
        (["--out", "net.onnx", "--format", "pt2"], "--out net.onnx must be a file with the suffix .pt2, such as net.p"),
        (["--format", "pt2", "--with-example", "python"], "--with-example runs ONNX files"),
        (["--dynamic", "--static"], "not allowed with argument"),
        (["--opset", "3"], "--opset must be an integer from 18 to"),
        (["--max-error", "-1"], "--max-error must be a fraction above 0"),
        (["--int8", "run", "--fp16"], "--fp16: not allowed with argument --int8"),
        (["--int8", "nowhere/"], "--int8 nowhere/: there is no such folder or image"),
    ],
)
def test_wrong_command_lines_start_nothing(model_file, tmp_path, capsys, words, message):
    before = sorted(tmp_path.rglob("*"))
    try:
        code = seg("export", model_file, *words)
    except SystemExit as error:
        code = error.code
    assert code == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert sorted(tmp_path.rglob("*")) == before
