"""`seg eval RUN` takes dataset, classes and root from the run, from any working directory."""

import json

import numpy as np
import pytest
from PIL import Image

from seg_core.command import main
from seg_train import Trainer, load_config
from seg_train.run.folder import RunFolder
from seg_train.run.relative_paths import dataset_from_here, folders_of_run
from tests.datasets import class_folders as folders

CLASSES = 'labels = ["ground", "thing"]\ncolors = [[80, 60, 40], [255, 200, 0]]\nname = "Yard"\n'
ARGUMENTS = ["-s", "num_workers=0", "-s", "device=cpu"]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with images, masks and a file of classes, which is the current one."""
    folder = tmp_path / "project"
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (folder / "data" / "yard" / split / kind).mkdir(parents=True)
        for index in range(4):
            mask = np.zeros((32, 24), np.uint8)
            mask[: 8 * (index + 1) % 32 + 4] = 1
            image = (mask[..., None] * 150 + rng.integers(0, 90, (32, 24, 3))).astype(np.uint8)
            Image.fromarray(image).save(folder / "data" / "yard" / split / "images" / f"{index}.png")
            Image.fromarray(mask).save(folder / "data" / "yard" / split / "masks" / f"{index}.png")
    (folder / "classes.toml").write_text(CLASSES)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def run(project, tables):
    """A run whose config has relative paths only."""
    tables["data"]["dataset"] = {
        "name": "FolderDataset",
        "root": "data/yard",
        "params": {"metadata": "classes.toml"},
    }
    tables["paths"] = {"output": "results/runs", "run": "first"}
    tables["trainer"]["epochs"] = 1
    return Trainer(load_config(tables)).run().run_dir.resolve()


def scores(capsys, *arguments):
    code = main(["eval", *arguments, *ARGUMENTS, "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)


def test_run_is_evaluated_from_any_folder_as_from_its_own(run, project, tmp_path, monkeypatch, capsys):
    here = scores(capsys, str(run))
    assert here["settings"]["root"] == "data/yard"
    assert here["dataset"] == "FolderDataset"
    assert here["protocol"]["classes"] == ["ground", "thing"]
    for folder in (tmp_path, run, project / "data"):
        monkeypatch.chdir(folder)
        there = scores(capsys, str(run))
        assert there["settings"]["root"] == str(project / "data" / "yard")
        assert there["settings"]["params"] == {"metadata": str(project / "classes.toml")}
        for key in ("protocol", "scores", "per_class", "confusion_matrix", "split"):
            assert there[key] == here[key], key
    monkeypatch.chdir(run.parent)
    assert scores(capsys, "first")["scores"] == here["scores"]


def test_data_of_the_run_comes_before_data_of_the_current_folder(run, project, tmp_path, monkeypatch, capsys):
    (tmp_path / "data" / "yard").mkdir(parents=True)
    (tmp_path / "classes.toml").write_text(CLASSES.replace("thing", "other"))
    monkeypatch.chdir(tmp_path)
    found = scores(capsys, str(run))
    assert found["settings"]["root"] == str(project / "data" / "yard")
    assert found["protocol"]["classes"] == ["ground", "thing"]


def test_project_that_was_moved_still_has_its_data(run, project, tmp_path, monkeypatch, capsys):
    here = scores(capsys, str(run))
    moved = tmp_path / "moved"
    monkeypatch.chdir(tmp_path)
    project.rename(moved)
    there = scores(capsys, str(moved / "results" / "runs" / "first"))
    assert there["scores"] == here["scores"]
    assert there["settings"]["root"] == str(moved / "data" / "yard")


def test_run_that_was_moved_alone_finds_its_data_where_it_was_started(run, project, tmp_path, monkeypatch, capsys):
    here = scores(capsys, str(run))
    monkeypatch.chdir(tmp_path)
    run.rename(tmp_path / "copy")
    assert scores(capsys, "copy")["scores"] == here["scores"]
    environment = tmp_path / "copy" / "environment.json"
    environment.write_text("{}")  # of an earlier version
    assert main(["eval", "copy", *ARGUMENTS]) != 0
    assert "metadata file classes.toml does not exist" in capsys.readouterr().err
    own = ["-s", f"root={project / 'data' / 'yard'}", "-s", f"params.metadata={project / 'classes.toml'}"]
    assert scores(capsys, "copy", *own)["scores"] == here["scores"]
    monkeypatch.chdir(project)
    assert scores(capsys, str(tmp_path / "copy"))["settings"]["root"] == "data/yard"


def test_options_override_those_of_the_run(run, project, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    root = str(project / "data" / "yard")
    found = scores(capsys, str(run), "-s", f"root={root}", "-s", "split=train")
    assert (found["settings"]["root"], found["split"]) == (root, "train")


@pytest.mark.parametrize(("how", "values"), [("binary", (255, 255, 255)), ("files", (255, 255, 255))])
def test_masks_of_0_and_255_are_an_error_whose_line_keeps_the_other_options(tables, tmp_path, how, values, capsys):
    data, other = folders.write(tmp_path / "a", how=how), folders.write(tmp_path / "b", how=how, values=values)
    options = folders.OPTIONS if how == "files" else {"images": "{split}/images", "masks": "{split}/masks"}
    tables["data"]["dataset"] = {"name": "FolderDataset", "root": str(data), "params": options}
    tables["paths"] = {"output": str(tmp_path), "run": "run"}
    tables["trainer"]["epochs"] = 1
    tables["data"]["loader"]["batch_size"] = 2
    tables.pop("criterion", None)
    Trainer(load_config(tables)).run()
    run = str(tmp_path / "run")
    before = scores(capsys, run)
    capsys.readouterr()
    assert main(["eval", run, "-s", f"root={other}", *ARGUMENTS]) == 2
    said = capsys.readouterr()
    assert "1 occurs in none of 2 masks: 0, 255 are the only values" in said.err
    assert not said.out
    line = said.err.partition("set -s '")[2].partition("'")[0]
    assert line == "params.label_map = { 0 = 0, 255 = 1 }"
    after = scores(capsys, run, "-s", f"root={other}", "-s", line)
    assert after["scores"] == before["scores"]
    assert after["settings"]["params"] == {**options, "label_map": {"0": 0, "255": 1}}


def test_stored_config_keeps_its_paths_and_resumes_in_its_folder(run, project):
    config = RunFolder(run).load_config()
    assert config.data.dataset.root == "data/yard"
    assert config.data.dataset.params == {"metadata": "classes.toml"}
    assert Trainer(config, run, resume=True).position.finished


def test_folders_of_a_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "a" / "runs" / "one"
    run.mkdir(parents=True)
    assert folders_of_run(run, "runs") == [tmp_path / "a", tmp_path]
    assert folders_of_run(run, str(run.parent)) == [tmp_path]
    assert folders_of_run(run, "other/runs") == [tmp_path]
    assert folders_of_run(run, ".") == [run.parent, tmp_path]
    (run / "environment.json").write_text(json.dumps({"working_directory": "/somewhere"}))
    assert [str(folder) for folder in folders_of_run(run, "runs")] == [str(tmp_path / "a"), "/somewhere", str(tmp_path)]
    for damaged in ("[]", "{", '{"working_directory": 3}'):
        (run / "environment.json").write_text(damaged)
        assert folders_of_run(run, "runs") == [tmp_path / "a", tmp_path]


def test_only_paths_of_what_exists_change(tmp_path, monkeypatch):
    base, here = tmp_path / "base", tmp_path / "here"
    for folder in (base / "data", base / "val", here):
        folder.mkdir(parents=True)
    (base / "c.toml").write_text("")
    monkeypatch.chdir(here)
    section = {
        "name": "data",
        "root": "data",
        "val_split": "val",
        "params": {"metadata": "c.toml", "mode": "val", "n": 3, "members": [{"root": "data"}, {"root": "no"}]},
    }
    found = dataset_from_here(section, [base, here])
    assert found == {
        "name": "data",
        "root": str(base / "data"),
        "val_split": "val",
        "params": {
            "metadata": str(base / "c.toml"),
            "mode": "val",
            "n": 3,
            "members": [{"root": str(base / "data")}, {"root": "no"}],
        },
    }
    absolute = {"root": str(base / "data"), "params": {}}
    assert dataset_from_here(absolute, [base]) == absolute
    monkeypatch.chdir(base)
    assert dataset_from_here(section, [base]) == section
