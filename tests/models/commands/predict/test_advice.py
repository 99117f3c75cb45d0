"""What `seg predict` says about options of other tools, and options that take an image as their value."""

import pytest
from PIL import Image

from seg_models.inference.preparation import memory_advice
from tests.models.commands.predict_helpers import seg


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ("model=m.pt source=p", "for model=, write --model FILE; for source=, write the images without an option"),
        ("--source p --model m.pt", "for --source, write the images without an option: seg predict IMAGES"),
        ("p -m m.pt", "for -m, write --model FILE"),
        ("p --model m.pt --output x", "for --output, write --out DIR"),
        ("p --model m.pt --half", "for --half, write --dtype fp16"),
        ("p --model m.pt --save-json", "for --save-json, write --json FILE behind the images"),
        ("p --model m.pt --imgsz 640", "for --imgsz, write --scale F"),
        ("p --model m.pt --conf=0.5", "for --conf, write --threshold P"),
        ("0 --model m.pt", "cameras are not read; pass the path of a video"),
        ("p --modle m.pt", "there is no --modle. Did you mean '--model'?"),
        ("--json p --model m.pt", "--json took 'p' as its FILE; write --json behind the images, or --json=FILE"),
        ("--tta p --model m.pt", "--tta took 'p' as its LIST; write --tta behind the images, or --tta=LIST"),
        ("--csv p/a.png --model m.pt", "--csv took 'p/a.png' as its FILE"),
    ],
)
def test_command_line_that_cannot_be_parsed_is_told_what_to_write(words, advice, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert seg("predict", *words.split()) == 2
    assert advice in capsys.readouterr().err


def test_values_of_choices_are_read_in_any_case(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    choices = ["--format", "TIF", "--overlay-format", "JPEG", "--dtype", "FP32", "--tta", "HFLIP,1"]
    assert seg("predict", "p", "--model", "gone.pt", *choices) == 2
    assert "there is no image or folder p" in capsys.readouterr().err  # all were understood


def test_errors_of_the_model_name_the_options(model_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert seg("predict", "p", "--model", model_file, "--weights", "VOC") == 2
    assert "contains its own; remove --weights" in capsys.readouterr().err
    assert seg("predict", "p", "--model", "regseg") == 2
    assert "or --weights" in capsys.readouterr().err


def test_warnings_and_errors_name_the_options_too(images, model_file, tmp_path, monkeypatch, capsys):
    options = ["--model", model_file, "--out", tmp_path / "out"]
    assert seg("predict", images, *options, "--dtype", "fp16", "--device", "cpu") == 2
    assert "(--dtype auto)" in capsys.readouterr().err
    frames = [Image.new("RGB", (8, 8), (number, 0, 0)) for number in (9, 90)]
    frames[0].save(tmp_path / "x.tif", save_all=True, append_images=frames[1:])
    with pytest.warns(UserWarning, match="--all-frames of seg predict, predicts all of them"):
        assert seg("predict", tmp_path / "x.tif", *options) == 0

    def no_memory(*arguments, **keywords):
        raise MemoryError

    monkeypatch.setattr("seg_models.inference.predictor.Predictor.stream", memory_advised(no_memory))
    assert seg("predict", images, *options) == 1
    assert "such as tile=512 (--tile 512)" in capsys.readouterr().err


def memory_advised(function):
    def stream(self, *arguments, **keywords):
        with memory_advice(self):
            return function()

    return stream
