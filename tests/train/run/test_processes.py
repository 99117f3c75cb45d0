"""One run on two processes: the same as on one, and what happens if one of them dies."""

import json
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
EVERY_STEP = {"checkpoint_every_steps": 1}
AUTO = {"accumulation_steps": 2, "device": "cpu" if torch.accelerator.is_available() else "auto"}
FSDP = {"strategy": "fsdp", "checkpoint_every_steps": 4}


def even(tables):
    """Makes a run independent of how its batches are split: only order and augmentation are random."""
    tables["model"] = {"name": "plain_net", "aux_loss": True}
    tables["data"]["dataset"] = {"name": "Uneven"}
    tables["criterion"] = {"class_weights": [1.0, 5.0, 2.0]}
    tables["optimizer"] = {"name": "SGD", "params": {"lr": 0.5, "momentum": 0.9}}
    tables["trainer"] |= {"epochs": 3, "max_grad_norm": 0.5, "ema_decay": 0.9, "log_every_steps": 1}
    return tables


def dice(tables):
    tables["criterion"] = {"name": "DiceLoss"}
    return tables


def without_learning(tables):
    """The weights do not move, so that they are the same to the last bit; 13 samples do not halve."""
    del tables["model"]["aux_loss"]
    tables["trainer"] |= {"epochs": 1}
    tables["optimizer"]["params"] = {"lr": 1e-30}
    tables["data"]["dataset"]["params"] = {"length": 13}
    tables["evaluation"]["batch_size"] = 1
    return tables


def checked(tables):
    """The masks are checked; the class `never` occurs in none."""
    tables["data"]["check"] = "full"
    tables["trainer"] |= {"epochs": 1}
    return tables


def wrong(tables):
    tables["data"]["dataset"]["params"] = {"wrong": 0}
    return checked(tables)


def elsewhere(tables):
    tables["data"]["dataset"] = {"name": "Elsewhere"}
    return tables


def unchanged(tables):
    return tables


# name -> number of processes, change of the config, keys of [trainer], other options of `tiny_runs.train`
JOBS = {
    "whole": (1, unchanged, {}, {}),
    "micro_batches": (1, unchanged, {"accumulation_steps": 4}, {}),
    "two": (2, unchanged, AUTO, {}),
    "dice_micro_batches": (1, dice, {"accumulation_steps": 2}, {}),
    "dice_two": (2, dice, {}, {}),
    "scores_one": (1, without_learning, {}, {}),
    "scores_two": (2, without_learning, {}, {}),
    "checked": (2, checked, {}, {}),
    "wrong": (2, wrong, {}, {}),
    "elsewhere": (2, elsewhere, {}, {}),
    "second_try": (2, unchanged, {"epochs": 1}, {"fails_first": True}),
    "no_copy": (2, unchanged, AUTO, {"resume": True, "copy": ""}),
    "old_copy": (2, unchanged, AUTO, {"resume": True, "copy": "step_00000006.pt"}),
    "died": (2, unchanged, EVERY_STEP, {"dies_at": 5}),
    "sharded": (2, unchanged, FSDP, {}),
    "sharded_killed": (2, unchanged, FSDP, {"dies_at": 7}),
    "sharded_resumed": (2, unchanged, FSDP, {"resume": True}),
}
RESUMES = {"sharded_resumed": "sharded_killed", "no_copy": "two", "old_copy": "two"}


def config_of(name, output, tables_for):
    _, change, trainer, _ = JOBS[name]
    tables = change(even(tables_for(output)))
    tables["trainer"] |= trainer
    tables["paths"]["run"] = RESUMES.get(name, name)
    return tables


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tables_for):
    """All runs of this file, made by one process, which imports torch once; returns folder, exit codes and logs."""
    output = tmp_path_factory.mktemp("processes")
    jobs = [
        {
            "name": name,
            "processes": processes,
            "config": config_of(name, output, tables_for),
            "options": options,
        }
        for name, (processes, _, _, options) in JOBS.items()
    ]
    path = output / "jobs.json"
    path.write_text(json.dumps(jobs))
    done = subprocess.run(
        [sys.executable, SCRIPT, "run_jobs", path],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return output, json.loads(done.stdout)


@pytest.fixture
def result_of(finished):
    """Returns the last checkpoint and the rows of a run that ended well."""
    output, results = finished

    def read(name):
        assert set(results[name]["codes"]) == {0}, results[name]["log"]
        run_dir = output / RESUMES.get(name, name)
        rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
        return load_checkpoint(run_dir / "checkpoints" / "last.pt"), rows

    return read


def losses_of(rows):
    return [row["loss"] for row in rows if row["kind"] == "step"]


def assert_close(first, second):
    for which in ("model", "average"):
        one, other = first[which], second[which]
        one, other = one.get("tensors", one), other.get("tensors", other)
        for key, value in one.items():
            torch.testing.assert_close(value, other[key], rtol=1e-4, atol=1e-6, msg=f"{which} {key}")


@pytest.mark.parametrize("name", ["micro_batches", "two"])
def test_split_batch_gives_the_weights_of_the_whole_one(name, result_of):
    whole, whole_rows = result_of("whole")
    split, rows = result_of(name)
    assert_close(whole, split)
    assert losses_of(whole_rows) == pytest.approx(losses_of(rows), rel=1e-5)


def test_processes_of_a_machine_without_a_gpu_train_one_run(result_of):
    two, _ = result_of("two")
    assert len(two["random"]) == 2


def test_process_that_fails_at_the_start_ends_all_with_its_message(finished):
    output, results = finished
    assert results["elsewhere"]["codes"] == [1, 1]
    log = results["elsewhere"]["log"]
    message = "data.dataset.root = 'disk': there is no such folder"
    assert f"UsageError: {message}" in log
    reported = rf"process 1 of this run, on \S+, could not start: {message}; each machine needs config, data"
    assert re.search(reported, log), log
    assert not (output / "elsewhere").exists()


def test_processes_can_start_a_run_after_one_that_could_not_start(result_of):
    last, _ = result_of("second_try")
    assert (last["position"]["step"], len(last["random"])) == (3, 2)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_copy", r"process 1 of this run, on \S+, could not start: nothing to resume: .* contains no checkpoints"),
        ("old_copy", r"see different checkpoints of .*process 0: step 9 after .*; process 1: step 6 after "),
    ],
)
def test_machines_must_see_the_same_checkpoint(name, words, finished):
    _, results = finished
    assert results[name]["codes"] == [1, 1]
    assert re.search(words, results[name]["log"]), results[name]["log"]


def test_region_losses_are_averaged_over_processes(result_of):
    """As documented: the areas are those of each micro-batch, so the weights are not those of one process."""
    micro_batches, _ = result_of("dice_micro_batches")
    two, _ = result_of("dice_two")
    assert_close(micro_batches, two)  # the micro-batches have the same samples


def test_scores_of_two_processes_are_those_of_one(result_of):
    _, one = result_of("scores_one")
    _, two = result_of("scores_two")
    for prefix in ("", "ema_"):
        keys = [prefix + key for key in ("miou", "acc", "macc", "fwiou", "dice", "iou_per_class")]
        assert {k: one[-1][k] for k in keys} == {k: two[-1][k] for k in keys}
        assert 0 < one[-1][f"{prefix}acc"] < 1
        assert one[-1][f"{prefix}val_loss"] == pytest.approx(two[-1][f"{prefix}val_loss"], rel=1e-6)


def test_process_that_dies_ends_the_run_which_can_be_resumed(finished, tables_for, tiny_runs):
    output, results = finished
    assert results["died"]["codes"] == [1, 3]
    assert "reported: another process of this run died" in results["died"]["log"]
    last = load_checkpoint(output / "died" / "checkpoints" / "last.pt")
    assert 0 < last["position"]["step"] <= 5

    with pytest.warns(UserWarning, match="the run had 2 processes and has 1 now"):
        trainer = Trainer(load_config(config_of("died", output, tables_for)), resume=True)
    assert trainer.run().scores["step"] == 9


def test_fsdp_trains_evaluates_saves_and_resumes(finished, result_of, tiny_runs):
    """Two processes that shard weights and optimizer learn what one does."""
    whole, whole_rows = result_of("whole")
    sharded, rows = result_of("sharded")
    assert_close(whole, sharded)
    assert rows[-1]["ema_miou"] == pytest.approx(whole_rows[-1]["ema_miou"], abs=0.02)
    # killed after step 7, it continues from step 4 or 6 and gets the same weights
    output, results = finished
    assert results["sharded_killed"]["codes"][1] == 3
    resumed, _ = result_of("sharded_resumed")
    assert_close(sharded, resumed)
    model = load_model(output / "sharded_killed" / "model_ema.pt")
    assert {k: v.shape for k, v in model.state_dict().items()} == {k: v.shape for k, v in whole["model"].items()}


def test_masks_are_checked_by_one_process_and_warned_about_once(finished):
    _, results = finished
    assert results["checked"]["codes"] == [0, 0]
    assert results["checked"]["log"].count("class 2 (never) occurs in none of 12 masks") == 1


def test_wrong_id_in_a_mask_ends_every_process_before_the_run_folder_is_made(finished):
    output, results = finished
    assert results["wrong"]["codes"] == [1, 1]
    assert results["wrong"]["log"].count("LabelOutOfRangeError: train: mask of sample 0 (train/0.png) contains") == 2
    assert not (output / "wrong").exists()
