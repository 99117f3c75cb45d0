"""Training's validation, `seg eval` and `seg predict` give the same label maps: equal confusion matrices."""

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seg_core import MetricStore, read_model_info
from seg_core.command import main
from seg_core.progress import QuietProgress
from seg_core.registry import LOGGERS
from seg_train import Logger, Trainer, load_config

# odd and different, one pair equal, and one image smaller than a tile
SIZES = ((65, 87), (65, 87), (71, 66), (97, 41), (41, 90))
LABELS = ("ground", "disk", "bar")


class MatrixFile(Logger):
    """Keeps the confusion matrix of the last evaluation."""

    def on_confusion_matrix(self, moment, matrix):
        (self.run_dir / "matrix.json").write_text(json.dumps(matrix.tolist()))


@pytest.fixture(autouse=True)
def _matrix_file():
    LOGGERS.register("matrix", MatrixFile)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images of different odd sizes with disks and bars."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("images", "masks"):
            (root / split / name).mkdir(parents=True)
        for number, (height, width) in enumerate(SIZES):
            y, x = np.mgrid[:height, :width]
            mask = np.zeros((height, width), np.uint8)
            mask[(y - rng.uniform(0, height)) ** 2 + (x - rng.uniform(0, width)) ** 2 < 300] = 1
            mask[:, abs(x[0] - rng.uniform(0, width)) < 5] = 2
            image = rng.integers(0, 70, (height, width, 3)) + np.array([[60, 30, 0], [10, 150, 60], [90, 0, 150]])[mask]
            mask[0, :3] = 255
            Image.fromarray(image.astype(np.uint8)).save(root / split / "images" / f"{number}.png")
            Image.fromarray(mask).save(root / split / "masks" / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def weights(folder, tmp_path_factory):
    """A network trained enough to predict every class."""
    tables = config_of(folder, tmp_path_factory.mktemp("weights"), {}, steps=20)
    del tables["log"]["matrix"]
    return train(tables) / "model.pt"


def config_of(folder, tmp_path, evaluation, weights=None, **trainer):
    return {
        "model": {"name": "segformer_b0"} | ({} if weights is None else {"weights": str(weights)}),
        "data": {
            "dataset": {
                "name": "FolderDataset",
                "root": str(folder),
                "params": {"metadata": {"name": "figures", "labels": list(LABELS)}},
            },
            "transform": {"train": {"size": 64}},
            "loader": {"batch_size": 2, "num_workers": 0},
        },
        "optimizer": {"name": "AdamW", "params": {"lr": 1e-3}},
        "trainer": {"steps": 1, "device": "cpu", "precision": "fp32", "snapshots": 1, **trainer},
        "evaluation": evaluation,
        "log": {"local": {"max_drawing_share": 0}, "matrix": {}},
        "paths": {"output": str(tmp_path), "run": "run"},
    }


def train(config):
    return Trainer(load_config(config), progress=QuietProgress()).run().run_dir


def matrix_of_the_trainer(run):
    return json.loads((run / "matrix.json").read_text())


def matrix_of_eval(run, capsys, *arguments):
    """Returns the confusion matrix of `seg eval RUN`, which repeats how the run evaluated."""
    assert main(["eval", str(run), "--json", "-s", "num_workers=0", "-s", "device=cpu", *arguments]) == 0
    return json.loads(capsys.readouterr().out)["confusion_matrix"]


def matrix_of_predict(run, folder, out, *arguments):
    """Returns the confusion matrix of the files that `seg predict` writes."""
    images = str(folder / "val" / "images")
    options = ["--model", str(run / "model.pt"), "--out", str(out), "--device", "cpu"]
    assert main(["predict", images, *options, *arguments]) == 0
    store = MetricStore(len(LABELS))
    for path in sorted(out.glob("*.png")):
        store.store_results(np.array(Image.open(folder / "val" / "masks" / path.name)), np.array(Image.open(path)))
    assert len(list(out.glob("*.png"))) == len(SIZES)
    return store.confusion_matrix.tolist()


WAYS = {
    "whole": ({}, []),
    "scale": ({"resize": {"scale": 0.7}}, []),
    "larger": ({"resize": {"scale": 1.3}}, []),
    "shorter side": ({"resize": {"shorter_side": 48}}, []),
    "longer side": ({"resize": {"longer_side": 64}}, []),
    "size": ({"resize": {"size": [56, 72]}}, []),
    "tiles": ({"tile": [48, 64], "overlap": 0.25}, ["--tile", "48x64", "--overlap", "0.25"]),
    "augmented": ({"scales": [0.75, 1.0], "hflip": True}, ["--tta", "0.75,1,hflip"]),
    "hflip": ({"hflip": True}, ["--tta", "hflip"]),
    "tiles, scale": ({"tile": 48, "resize": {"scale": 0.9}}, ["--tile", "48"]),
    "tiles, augmented": ({"tile": 48, "scales": [1.0, 1.25]}, ["--tile", "48", "--tta", "1,1.25"]),
    "scale, no loss": ({"resize": {"scale": 0.7}, "loss": False}, []),
    "tiles, no loss": ({"tile": 48, "loss": False}, ["--tile", "48"]),
}


BOTH = ("whole", "scale", "shorter side", "tiles", "augmented")


@pytest.mark.parametrize(("way", "batch_size"), [*((way, 4) for way in WAYS), *((way, 1) for way in BOTH)])
def test_trainer_eval_and_predict_count_the_same(way, batch_size, folder, weights, tmp_path, capsys):
    evaluation, arguments = WAYS[way]
    run = train(config_of(folder, tmp_path, {**evaluation, "batch_size": batch_size}, weights))
    expected = matrix_of_the_trainer(run)
    assert sum(map(sum, expected)) == sum(h * w - 3 for h, w in SIZES), "each pixel of the masks counts once"
    assert all(map(sum, zip(*expected, strict=True))), "each class is predicted"
    assert matrix_of_eval(run, capsys) == expected
    assert matrix_of_predict(run, folder, tmp_path / "out", "--batch-size", str(batch_size), *arguments) == expected


def test_two_processes_count_what_eval_and_predict_do(folder, weights, tmp_path, capsys):
    config = tmp_path / "config.json"
    config.write_text(json.dumps(config_of(folder, tmp_path, {"resize": {"scale": 0.7}, "batch_size": 2}, weights)))
    done = subprocess.run([sys.executable, __file__, config], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = matrix_of_the_trainer(tmp_path / "run")
    assert sum(map(sum, expected)) == sum(h * w - 3 for h, w in SIZES), "5 images do not halve; each counts once"
    assert matrix_of_eval(tmp_path / "run", capsys) == expected
    assert matrix_of_predict(tmp_path / "run", folder, tmp_path / "out") == expected


@pytest.mark.parametrize("way", ["scale", "tiles", "augmented"])
def test_half_precision_differs_in_few_pixels(way, folder, weights, tmp_path, capsys):
    evaluation, arguments = WAYS[way]
    run = train(config_of(folder, tmp_path, evaluation, weights, precision="bf16"))
    expected = torch.tensor(matrix_of_the_trainer(run))
    assert matrix_of_eval(run, capsys) == expected.tolist(), "a run is evaluated in its own precision"
    found = torch.tensor(matrix_of_predict(run, folder, tmp_path / "out", "--dtype", "bf16", *arguments))
    moved = (found - expected).clamp(min=0).sum()  # a pixel that differs leaves one entry and joins another
    assert moved <= 0.001 * expected.sum()


def test_moved_data_keeps_the_digest_and_other_files_change_it(folder, tmp_path):
    first = protocol_of(train(config_of(folder, tmp_path / "a", {})))
    moved = shutil.copytree(folder, tmp_path / "elsewhere" / "data")
    assert protocol_of(train(config_of(moved, tmp_path / "b", {}))) == first
    for name in ("images", "masks"):
        (moved / "val" / name / "4.png").rename(moved / "val" / name / "5.png")
    other = protocol_of(train(config_of(moved, tmp_path / "c", {})))
    assert other["digest"] != first["digest"]
    assert {**other, "digest": first["digest"]} == first


def protocol_of(run):
    return read_model_info(run / "model.pt").protocol


if __name__ == "__main__":
    config = Path(sys.argv[1])
    LOGGERS.register("matrix", MatrixFile)
    fork_processes = runpy.run_path(str(Path(__file__).parents[1] / "tiny_runs.py"))["fork_processes"]
    log = config.with_name("log")
    if fork_processes(2, log, train, json.loads(config.read_text())) != [0, 0]:
        sys.exit(log.read_text())
