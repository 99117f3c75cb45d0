"""Exported files that name code: nothing of it is imported, neither by the commands nor by what reads the file."""

import importlib
import json
import sys

import numpy as np
import pytest
from PIL import Image

from seg_core.command import main
from seg_models import export
from seg_models.exporting.description import ExportDescription

NEEDED = {".onnx": ("onnx", "onnxscript", "onnxruntime"), ".pt2": (), ".xml": ("onnx", "onnxscript", "openvino")}
NAME = "planted_by_an_export"


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """A module that can be imported, and the file that it writes when it is."""
    folder, proof = tmp_path / "modules", tmp_path / "imported"
    folder.mkdir()
    code = f"from pathlib import Path\nPath({str(proof)!r}).touch()\ndef network(**_): raise SystemExit(9)\n"
    (folder / f"{NAME}.py").write_text(code)
    monkeypatch.syspath_prepend(folder)
    yield proof
    sys.modules.pop(NAME, None)


@pytest.fixture
def names_it(monkeypatch):
    """Lets exports write descriptions that name the module wherever a name may stand."""
    target = f"{NAME}:network"

    def named(description):
        content = description.to_dict()
        content |= {"builder": target, "variant": target, "imports": [NAME], "loader": target, "model": target}
        content["arguments"] = {"num_classes": 4, "backbone": target}
        content["versions"] = {NAME: "1"}
        content["metadata"]["name"] = target
        return json.dumps(content)

    monkeypatch.setattr(ExportDescription, "to_json", named)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", NEEDED)
def test_module_that_an_export_names_is_never_imported(
    tmp_path, tiny, described, planted, names_it, capsys, suffix, monkeypatch
):
    for name in NEEDED[suffix]:
        pytest.importorskip(name)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"net{suffix}"
    export(tiny(), path, **described)
    for kind, shape in (("images", (40, 48, 3)), ("masks", (40, 48))):
        (tmp_path / "data" / kind).mkdir(parents=True)
        Image.fromarray(np.ones(shape, np.uint8)).save(tmp_path / "data" / kind / "a.png")
    (tmp_path / "data" / "classes.json").write_text('{"labels": ["road", "car", "tree", "sky"]}')

    commands = {
        "predict": ["data/images", "--model", str(path), "--out", "out", "--device", "cpu"],
        "eval": [str(path), "data", "-s", "device=cpu", "-s", "num_workers=0"],
        "models": [str(path)],
    }
    for command, words in commands.items():
        code = main([command, *words])
        told = capsys.readouterr()
        assert code in (0, 1, 2), told.err
        assert code == 0 or "error: " in told.err, told
        assert not planted.exists(), command
        assert NAME not in sys.modules, command
    assert list((tmp_path / "out").glob("**/*.png"))
    importlib.import_module(NAME)  # it could have been
    assert planted.exists()
