"""One run on two processes: the same as on one, and what happens where one of them dies."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from seg_core import load_model
from seg_train import Trainer, load_config
from seg_train.run.checkpoint import load_checkpoint

SCRIPT = Path(__file__).parents[1] / "tiny_runs.py"
TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.fixture
def even(tables, tiny_runs):
    """A run that is the same however its batches are split: nothing random but the order and the augmentation."""
    tables["model"] = {"name": "plain_net", "aux_loss": True}
    tables["data"]["dataset"]["name"] = "Uneven"
    tables["criterion"] = {"class_weights": [1.0, 5.0, 2.0]}
    tables["optimizer"] = {"name": "SGD", "params": {"lr": 0.5, "momentum": 0.9}}
    tables["trainer"] |= {"epochs": 3, "max_grad_norm": 0.5, "ema_decay": 0.9, "log_every_steps": 1}
    return tables


def start(tables, tmp_path, name, *overrides, two=False, dies_at=0, resume=False):
    config = tmp_path / f"{name}.json"
    config.write_text(json.dumps(tables))
    env = {**os.environ, "OMP_NUM_THREADS": "1", "TEST_DIES_AT": str(dies_at), "TEST_RESUMES": "1" if resume else ""}
    arguments = [sys.executable, *(TWO if two else ()), SCRIPT, "train", config, f"paths.run={name}", *overrides]
    return subprocess.run(list(map(str, arguments)), capture_output=True, text=True, env=env, timeout=300)


def run(tables, tmp_path, name, *overrides, two=False):
    if two:
        done = start(tables, tmp_path, name, *overrides, two=True)
        assert done.returncode == 0, done.stderr
    else:
        Trainer(load_config(tables, [f"paths.run={name}", *overrides])).run()
    run_dir = tmp_path / "runs" / name
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return load_checkpoint(run_dir / "checkpoints" / "last.pt"), rows


def assert_close(first, second):
    for which in ("model", "average"):
        one, other = first[which], second[which]
        one, other = one.get("tensors", one), other.get("tensors", other)
        for key, value in one.items():
            torch.testing.assert_close(value, other[key], rtol=1e-4, atol=1e-6, msg=f"{which} {key}")


@pytest.mark.smoke
def test_parts_of_a_batch_give_the_weights_of_the_whole_one(even, tmp_path):
    whole, whole_rows = run(even, tmp_path, "whole")
    parts, rows = run(even, tmp_path, "parts", "trainer.accumulation_steps=4")
    assert_close(whole, parts)
    losses = [[row["loss"] for row in found if row["kind"] == "step"] for found in (whole_rows, rows)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_two_processes_give_the_weights_and_the_scores_of_one(even, tmp_path):
    whole, whole_rows = run(even, tmp_path, "whole")
    two, rows = run(even, tmp_path, "two", "trainer.accumulation_steps=2", two=True)
    assert_close(whole, two)
    losses = [[row["loss"] for row in found if row["kind"] == "step"] for found in (whole_rows, rows)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_region_losses_are_averaged_over_processes(even, tmp_path):
    """As documented: the areas are those of each part, so the weights are not those of one process."""
    even["criterion"] = {"name": "DiceLoss"}
    parts, _ = run(even, tmp_path, "parts", "trainer.accumulation_steps=2")
    two, _ = run(even, tmp_path, "two", two=True)
    assert_close(parts, two)  # the parts are the same samples


def test_matrix_of_two_processes_is_that_of_one(even, tmp_path):
    """The weights do not move, so that they are the same to the last bit; 13 samples do not halve."""
    del even["model"]["aux_loss"]
    even["trainer"] |= {"epochs": 1}
    even["optimizer"]["params"] = {"lr": 1e-30}
    even["data"]["dataset"]["params"] = {"length": 13}
    even["evaluation"]["batch_size"] = 1
    _, one = run(even, tmp_path, "one")
    _, two = run(even, tmp_path, "two", two=True)
    for prefix in ("", "ema_"):
        keys = [prefix + key for key in ("miou", "acc", "macc", "fwiou", "dice", "iou_per_class")]
        assert {k: one[-1][k] for k in keys} == {k: two[-1][k] for k in keys}
        assert 0 < one[-1][f"{prefix}acc"] < 1
        assert one[-1][f"{prefix}val_loss"] == pytest.approx(two[-1][f"{prefix}val_loss"], rel=1e-6)


def test_process_that_dies_ends_the_run_which_can_be_resumed(even, tmp_path):
    options = ("trainer.checkpoint_every_steps=1",)
    done = start(even, tmp_path, "run", *options, two=True, dies_at=5)
    assert done.returncode != 0
    assert re.search(r"told: another process of this run died", done.stderr), done.stderr
    last = load_checkpoint(tmp_path / "runs" / "run" / "checkpoints" / "last.pt")
    assert 0 < last["position"]["step"] <= 5

    with pytest.warns(UserWarning, match="the run had 2 processes and has 1 now"):
        trainer = Trainer(load_config(even, ["paths.run=run", *options]), resume=True)
    assert trainer.run().scores["step"] == 9


def test_fsdp_trains_evaluates_saves_and_resumes(even, tmp_path):
    """Two processes that share weights and optimizer learn what one does."""
    whole, whole_rows = run(even, tmp_path, "whole")
    options = ("trainer.strategy=fsdp", "trainer.checkpoint_every_steps=4")
    sharded, rows = run(even, tmp_path, "sharded", *options, two=True)
    assert_close(whole, sharded)
    assert rows[-1]["ema_miou"] == pytest.approx(whole_rows[-1]["ema_miou"], abs=0.02)
    # killed after step 7, it goes on from step 4 or 6 and gets to the same weights
    assert start(even, tmp_path, "killed", *options, two=True, dies_at=7).returncode != 0
    again = start(even, tmp_path, "killed", *options, two=True, resume=True)
    assert again.returncode == 0, again.stderr
    resumed = load_checkpoint(tmp_path / "runs" / "killed" / "checkpoints" / "last.pt")
    assert_close(sharded, resumed)
    model = load_model(tmp_path / "runs" / "killed" / "model_ema.pt")
    assert {k: v.shape for k, v in model.state_dict().items()} == {k: v.shape for k, v in whole["model"].items()}
