"""Configs and model files of somebody else: what they name is never imported unless the user asks for it."""

import contextlib
import copy
import sys

import pytest
import torch
from PIL import Image
from torch import nn

from seg_core import BuildSpec
from seg_core.command import main
from seg_core.labels.metadata import DatasetMetadata
from seg_core.model_files.model_file import save_model
from seg_core.registry import MODELS
from seg_core.transforms.preprocessing import Preprocessing
from seg_train.config.load import check_untrusted

PLANTED = """
import pathlib
pathlib.Path(r"{marker}").write_text("imported")
def build(**options):
    raise AssertionError
"""

CONFIG = """
imports = ["planted"]
import_paths = ["."]
[model]
name = "planted:build"
params.backbone = "planted:build"
[data.dataset]
name = "planted:build"
[data.transform.train]
size = [32, 24]
custom = [{ name = "planted:build" }]
[criterion]
name = "CombinedLoss"
params.losses = [{ name = "planted:build" }]
[optimizer]
name = "planted:build"
[lr_scheduler]
name = "LambdaLR"
params.lr_lambda = ["planted:build", "planted:a.b"]
[evaluation]
predictor = "planted:build"
[trainer]
epochs = 2
[log."planted:build"]
"""


@pytest.fixture
def marker(tmp_path, monkeypatch):
    (tmp_path / "planted.py").write_text(PLANTED.format(marker=tmp_path / "marker"))
    (tmp_path / "theirs.toml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "planted", raising=False)
    yield tmp_path / "marker"
    sys.modules.pop("planted", None)


def test_untrusted_check_lists_each_place_that_names_code_and_imports_nothing(marker, capsys):
    assert main(["config", "check", "theirs.toml", "--untrusted"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("theirs.toml names code, which `seg train` imports and runs; read it before you do:\n")
    assert out.splitlines()[1:] == [
        '  imports[0] = "planted"',
        '  model.name = "planted:build"',
        '  model.params.backbone = "planted:build"',
        '  data.dataset.name = "planted:build"',
        '  data.transform.train.custom[0].name = "planted:build"',
        '  criterion.params.losses[0].name = "planted:build"',
        '  optimizer.name = "planted:build"',
        '  lr_scheduler.params.lr_lambda = "planted:build"',
        '  lr_scheduler.params.lr_lambda = "planted:a.b"',
        '  evaluation.predictor = "planted:build"',
        '  log.planted:build = "planted:build"',
    ]
    assert not marker.exists()
    with contextlib.suppress(AssertionError):  # of the code
        main(["config", "check", "theirs.toml"])  # a config that is trusted is imported
    assert marker.exists()


def test_untrusted_check_finds_mistakes_beside_code(marker):
    places, problems = check_untrusted("theirs.toml", ["trainer.epochs=0", "evaluation.predictor=whole", "x=1"])
    assert len(places) == 10
    assert len(problems) == 2
    assert "trainer.epochs = 0: must be greater than or equal to 1" in problems
    assert not marker.exists()


def test_untrusted_check_of_a_config_without_code(tmp_path, capsys):
    plain = '[model]\nname = "tiny_net"\n[data.dataset]\nname = "Stripes"\n[trainer]\nepochs = 1\n'
    (tmp_path / "plain.toml").write_text(plain)
    assert main(["config", "check", str(tmp_path / "plain.toml"), "--untrusted"]) == 0
    assert "names no code; no mistakes found" in capsys.readouterr().out
    assert main(["config", "check", str(tmp_path / "plain.toml"), "--untrusted", "--import", "os"]) == 2


class Net(nn.Module):
    def __init__(self, num_classes=2):
        super().__init__()
        self.head = nn.Conv2d(3, num_classes, 1)
        self.build_spec = BuildSpec("planted:build", "paper", {"num_classes": num_classes})

    def forward(self, images):
        return {"out": self.head(images)}


def _build(*, num_classes=2, **_):
    return Net(num_classes)


def _save(path):
    """Saves a model whose builder is known here, and to nobody who loads the file."""
    former = {name: copy.copy(value) for name, value in vars(MODELS).items()}
    MODELS.register("planted:build", _build)
    try:
        save_model(Net(), path, metadata=DatasetMetadata("Theirs", ("a", "b")), preprocessing=Preprocessing())
    finally:
        vars(MODELS).update(former)


def _model_file(folder):
    path = folder / "theirs.pt"
    _save(path)
    return str(path)


def _run_folder(folder):
    run = folder / "run"
    run.mkdir()
    (run / "config.toml").write_text(CONFIG)
    _save(run / "model.pt")
    return str(run)


def _file_in_run_folder(folder):
    return f"{_run_folder(folder)}/model.pt"


def _checkpoint(folder):
    path = folder / "checkpoint.pt"
    torch.save({"config": CONFIG, "imports": ["planted"], "state_dict": Net().state_dict()}, path)
    return str(path)


@pytest.mark.parametrize("make", [_model_file, _file_in_run_folder, _checkpoint])
def test_evaluation_of_a_file_imports_nothing_that_it_names(make, marker, tmp_path, capsys):
    assert main(["eval", make(tmp_path), "Shapes", "-s", "num_workers=0", "-s", "params.length=1"]) in (1, 2)
    error = capsys.readouterr().err
    assert error.startswith("seg: error: ") or "\nseg: error: " in error
    assert make is _checkpoint or "import it: with --import planted on the command line" in error
    assert not marker.exists()


@pytest.mark.parametrize("make", [_model_file, _run_folder, _file_in_run_folder, _checkpoint])
def test_prediction_imports_nothing_that_a_file_or_a_run_names(make, marker, tmp_path, capsys):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert main(["predict", "a.png", "--model", make(tmp_path), "--out", "out"]) in (1, 2)
    error = capsys.readouterr().err
    assert error.startswith("seg: error: ") or "\nseg: error: " in error
    assert make is _checkpoint or "import it: with --import planted on the command line" in error
    assert not marker.exists()
