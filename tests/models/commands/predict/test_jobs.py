"""Which images `seg predict` finds, their output files, and `--resume`."""

import re

import numpy as np
from PIL import Image

from tests.models.commands.predict_helpers import ids, names, seg


def test_folder_and_file_give_one_png_per_image(two_images, model_file, tmp_path, capsys):
    Image.fromarray(np.zeros((11, 13, 3), np.uint8)).save(tmp_path / "single.png")
    out = tmp_path / "out"
    assert seg("predict", two_images, tmp_path / "single.png", "--model", model_file, "--out", out) == 0
    assert names(out) == ["a.png", "b.png", "single.png"]
    with Image.open(out / "single.png") as saved:
        assert saved.size == (13, 11)
        assert saved.mode == "P"
        assert set(np.unique(saved)) <= {0, 1}
    streams = capsys.readouterr()
    assert streams.out == f"3 images predicted: 3 label maps (class ids as PNG) in {out}\n"
    assert re.search(r"3/3 images, [\d.]+ images/s\n$", streams.err)


def test_image_named_twice_is_predicted_once(images, model_file, tmp_path, capsys):
    out = tmp_path / "out"
    assert seg("predict", images, str(images / "[12].png"), "--model", model_file, "--out", out) == 0
    assert names(out) == [f"{n}.png" for n in range(5)]
    assert "5/5 images" in capsys.readouterr().err


def test_default_output_folder_is_named(two_images, model_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert seg("predict", two_images / "b.png", "--model", model_file) == 0
    assert names(tmp_path / "predictions") == ["b.png"]
    assert "in predictions" in capsys.readouterr().out


def test_resume_skips_finished_images(images, model_file, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    for name in ("0.png", "1.png", "1_overlay.jpg"):
        (out / name).write_text("done before")
    arguments = ["predict", images, "--model", model_file, "--out", out, "--overlay", "--resume"]
    assert seg(*arguments) == 0
    assert "seg: 1 image done before" in capsys.readouterr().err
    assert (out / "1.png").read_text() == "done before"
    assert ids(out / "0.png").shape == (40, 60)  # its overlay was missing
    assert len(names(out)) == 10
    assert seg(*arguments) == 0
    assert "nothing left to predict" in capsys.readouterr().out
