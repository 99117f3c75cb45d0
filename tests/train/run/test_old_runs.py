"""Run folders and model files of an earlier version, see tests/fixtures/old_runs/README.md."""

import json
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seg_core.command import main
from seg_core.errors import ConfigError
from seg_core.model_files.model_file import load_model, read_model_info
from seg_core.progress import Progress
from seg_train import Trainer, load_config
from seg_train.run.checkpoint import load_checkpoint, save_checkpoint
from seg_train.run.folder import RunFolder

# warned about once per process
pytestmark = pytest.mark.filterwarnings("ignore:.*has no digest:UserWarning")

OLD_RUNS = Path(__file__).parents[2] / "fixtures" / "old_runs"
NAMES = ("same_size", "scaled", "padded", "cropped", "plain", "val_loss", "finished")
MODEL_FILES = sorted(path.relative_to(OLD_RUNS).as_posix() for path in OLD_RUNS.glob("*/model*.pt"))


@pytest.fixture
def old_run(tmp_path):
    def copy(name):
        shutil.copytree(OLD_RUNS / name, tmp_path / name)
        return tmp_path / name

    return copy


def rows(run_dir):
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def epochs(run_dir):
    return [row for row in rows(run_dir) if row["kind"] == "epoch"]


def test_every_old_run_is_a_test():
    assert sorted(NAMES) == sorted(path.name for path in OLD_RUNS.iterdir() if path.is_dir())
    assert len(MODEL_FILES) == 15
    files = [path for path in OLD_RUNS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 600_000


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("cropped", "finished")])
def test_old_run_resumes_and_learns_the_same(name, old_run, capsys):
    folder = old_run(name)
    assert main(["train", "--resume", str(folder)]) == 0
    expected = json.loads((OLD_RUNS / "train_losses.json").read_text())[name]
    found = epochs(folder)
    assert [row["epoch"] for row in found] == [1, 2, 3, 4]
    # other machines round differently
    assert [row["train_loss"] for row in found] == pytest.approx(expected, rel=1e-3)
    content = load_checkpoint(folder / "checkpoints" / "last.pt")
    assert content["format_version"] == 4
    assert content["train_files"]["count"] == 8
    assert load_config(folder / "config.toml") == RunFolder(folder).load_config(), "a plain config in today's keys"
    assert main(["train", "--resume", str(folder)]) == 0
    assert "is finished; there is nothing left to do" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("same_size", None),
        ("plain", None),
        ("scaled", "validation resized masks together with the images, now it does not"),
        ("padded", "validation padded images, now it does not"),
        ("val_loss", "val_loss was the mean over batches, now it is the mean over the whole split"),
    ],
)
def test_best_score_is_reset_only_if_the_rule_changed(name, reason, old_run, capsys):
    folder = old_run(name)
    former = load_checkpoint(folder / "checkpoints" / "last.pt")["position"]["best"]
    said = []

    class Said(Progress):
        def message(self, text):
            said.append(text)

    trainer = Trainer(RunFolder(folder).load_config(), folder, resume=True, progress=Said())
    messages = [line for line in said if "best score" in line]
    assert messages == ([] if reason is None else [f"the best score is reset, the next evaluation sets it: {reason}"])
    assert trainer.position.best == (former if reason is None else None)
    looked = [line for line in said if line.startswith("checking the size of 8 val images")]
    assert len(looked) == (name in ("same_size", "scaled", "padded"))
    # today's checkpoint stores the protocol: no sizes are checked again, and the best score stays
    trainer.run()
    said.clear()
    trainer = Trainer(RunFolder(folder).load_config(epochs=5), folder, resume=True, progress=Said())
    assert trainer.position.best is not None
    assert not [line for line in said if "best score" in line or "checking" in line]


def test_count_of_evaluations_without_a_better_score_is_reset_too(old_run):
    folder = old_run("scaled")
    path = folder / "checkpoints" / "last.pt"
    content = load_checkpoint(path)
    content["position"]["stale"] = 2
    save_checkpoint(path, content)
    assert load_checkpoint(path)["format_version"] == 2
    assert Trainer(RunFolder(folder).load_config(), folder, resume=True).position.stale == 0


@pytest.mark.parametrize(
    ("name", "monitor", "resets"), [("scaled", "acc", True), ("plain", "loss", True), ("plain", "acc", False)]
)
def test_scheduler_that_watches_a_score_resets_the_former_best(name, monitor, resets, old_run):
    """The fixtures have no such scheduler, so their checkpoints get one."""
    folder = old_run(name)
    text = (folder / "config.toml").read_text()
    head, _, tail = text.partition("[lr_scheduler]")
    tail = tail[tail.index("[trainer]") :]
    section = f'[lr_scheduler]\nname = "ReduceLROnPlateau"\nparams = {{ monitor = "{monitor}" }}\n\n'
    (folder / "config.toml").write_text(head + section + tail)
    path = folder / "checkpoints" / "last.pt"
    config = RunFolder(folder).load_config()
    content = load_checkpoint(path)
    kept = {k: v for k, v in content["config"].items() if not k.startswith("lr_scheduler.")}
    new = {k: v for k, v in config.influences().items() if k.startswith("lr_scheduler.")}
    scheduler = Trainer(config, folder.with_name("unused")).scheduler
    scheduler.scheduler.best, scheduler.scheduler.num_bad_epochs = 0.4, 3
    save_checkpoint(path, content | {"config": kept | new, "scheduler": scheduler.state_dict()})
    said = []

    class Said(Progress):
        def message(self, text):
            said.append(text)

    plateau = Trainer(config, folder, resume=True, progress=Said()).scheduler.scheduler
    if resets:
        assert (plateau.best, plateau.num_bad_epochs) == (float("inf") if monitor == "loss" else float("-inf"), 0)
        assert said[-1] == "ReduceLROnPlateau resets its best score too; the learning rate stays"
    else:
        assert (plateau.best, plateau.num_bad_epochs) == (0.4, 3)
        assert not [line for line in said if "Plateau" in line]


def test_run_whose_validation_cropped_is_refused_with_advice(old_run, capsys):
    folder = old_run("cropped")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert main(["train", "--resume", str(folder)]) == 2
    err = capsys.readouterr().err
    assert f"the run in {folder} was validated on crops: data.transform.val.size was 24x32 pixels, and val" in err
    assert " has 32x48. Validation no longer crops, so its scores would not be comparable" in err
    assert (
        f"Start a new run from its weights: seg train CONFIG --weights {folder}, where CONFIG has no "
        "data.transform.val but tile = [24, 32] in [evaluation], to predict in tiles of that size, or nothing, to "
        "predict whole images. Its model files can still be used" in err
    )
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_crop_of_scaled_images_is_refused_too(old_run):
    folder = old_run("scaled")
    path = folder / "checkpoints" / "last.pt"
    content = load_checkpoint(path)
    save_checkpoint(path, content | {"config": content["config"] | {"data.transform.val.size": [16, 20]}})
    words = (
        r"size was 16x20 pixels, and val image .* has 16x24 \(resized by 0\.5\)\. .* no data\.transform\.val but "
        r"resize = \{ scale = 0\.5 \} and tile = \[16, 20\] in .* or only that resize, to predict whole images"
    )
    with pytest.raises(ConfigError, match=words):
        Trainer(RunFolder(folder).load_config(), folder, resume=True)


def test_finished_old_run_is_finished_and_can_be_extended(old_run, capsys):
    folder = old_run("finished")
    before = (folder / "metrics.jsonl").read_bytes()
    assert main(["train", "--resume", str(folder)]) == 0
    assert "is finished; there is nothing left to do" in capsys.readouterr().err
    assert (folder / "metrics.jsonl").read_bytes() == before
    assert main(["train", "--resume", str(folder), "--epochs", "6"]) == 0
    err = capsys.readouterr().err
    assert "the run now ends after 12 steps (6 epochs), before it was 8 steps (4 epochs)\n" in err
    assert "the learning rate now follows OneCycleLR over 6 epochs: " in err
    assert [row["epoch"] for row in epochs(folder)] == [1, 2, 3, 4, 5, 6]
    config = tomllib.loads((folder / "config.toml").read_text())
    assert config["trainer"]["epochs"] == 6
    assert config["format"] == 3
    assert "val" not in config["data"]["transform"]


def test_old_run_with_another_setting_is_refused(old_run, capsys):
    folder = old_run("scaled")
    assert main(["train", "--resume", str(folder), "-s", "evaluation.resize={scale = 0.25}"]) == 2
    assert "settings: evaluation.resize.scale (run: 0.5, now: 0.25); resume it" in capsys.readouterr().err
    assert main(["train", "--resume", str(folder), "-s", "data.loader.eval_batch_size=3"]) == 2
    assert "write evaluation.batch_size = 3" in capsys.readouterr().err


def test_old_config_as_the_config_of_a_new_run_says_what_to_write(old_run, capsys):
    folder = old_run("scaled")
    assert main(["train", str(folder / "config.toml")]) == 2
    assert "write evaluation.resize = { scale = 0.5 }" in capsys.readouterr().err


# ---- model files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODEL_FILES)
def test_old_model_file_loads(name):
    model = load_model(OLD_RUNS / name)
    info = read_model_info(OLD_RUNS / name)
    assert info.preprocessing.scale == (0.5 if name.startswith("scaled/") else None)
    assert 0 <= info.metrics["miou"] <= 1
    with torch.inference_mode():
        assert model(torch.rand(1, 3, 32, 48))["out"].shape == (1, info.metadata.num_classes, 32, 48)


@pytest.mark.parametrize("name", NAMES)
def test_old_model_file_evaluates_and_predicts(name, tmp_path, capsys):
    file = str(OLD_RUNS / name / "model.pt")
    options = ["-s", "params={size = [32, 48], length = 8}", "-s", "precision=fp32"]
    assert main(["eval", file, "Shapes", "--json", str(tmp_path / "scores.json"), *options]) == 0, (
        capsys.readouterr().err
    )
    scores = json.loads((tmp_path / "scores.json").read_text())["scores"]
    assert 0 <= scores["miou"] <= 1
    if name in ("same_size", "plain", "val_loss", "finished"):  # whole images, scored in the same way then
        former = read_model_info(file).metrics["miou"]
        assert scores["miou"] == pytest.approx(former, abs=1e-3)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    assert main(["predict", str(tmp_path / "image.png"), "--model", file, "--out", str(tmp_path / "out")]) == 0
    (found,) = (tmp_path / "out").rglob("*.png")
    with Image.open(found) as labels:
        assert labels.size == (56, 40)


@pytest.mark.parametrize("name", ["scaled", "cropped", "plain"])
def test_old_run_folder_evaluates(name, old_run, tmp_path, capsys):
    assert main(["eval", str(old_run(name)), "--json", str(tmp_path / "scores.json")]) == 0, capsys.readouterr().err
    assert 0 <= json.loads((tmp_path / "scores.json").read_text())["scores"]["miou"] <= 1
