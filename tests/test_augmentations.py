"""The contact sheet of a config's augmentation."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def draw(folder, config, *options):
    command = [sys.executable, EXAMPLES / "augmentations.py", config, *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_sheet_shows_each_image_above_its_mask_and_its_draws_beside_it(tmp_path):
    overrides = ["-s", "data.transform.train.size=[40, 50]", "-s", "data.augment={hflip=1, color_jitter=[0.3, 0, 0]}"]
    options = ["--images=2", "--draws=3", "--out=sheet.png"]
    done = draw(tmp_path, EXAMPLES / "configs" / "shapes-enet.toml", *overrides, *options)
    assert (done.returncode, done.stdout) == (0, "sheet.png\n")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB")).astype(int)
    assert sheet.shape == (4 * 44 - 4, 4 * 54 - 4, 3)
    for top in (0, 88):
        images = [sheet[top : top + 40, left : left + 50] for left in (0, 54, 108, 162)]
        masks = [sheet[top + 44 : top + 84, left : left + 50] for left in (0, 54, 108, 162)]
        assert all((mask == masks[0][:, ::-1]).all() for mask in masks[1:])
        brightness = [image.mean() / images[0].mean() for image in images[1:]]
        assert all(0.68 < factor < 1.32 for factor in brightness)
        assert len({round(factor, 3) for factor in brightness}) == 3


def test_sheet_without_a_size_is_an_error(tmp_path, monkeypatch, capsys):
    config = tmp_path / "run.toml"
    config.write_text(
        '[model]\nname = "enet"\n[data.dataset]\nname = "Shapes"\n[trainer]\nsteps = 1\n', encoding="utf-8"
    )
    spec = importlib.util.spec_from_file_location("augmentations", EXAMPLES / "augmentations.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", ["augmentations.py", str(config)])
    with pytest.raises(SystemExit) as end:
        module.main()
    assert end.value.code == 2
    assert "does not set data.transform.train.size; a sheet needs images of one size" in capsys.readouterr().err
