"""Runs that are killed, also while they write, and resumed; and damaged checkpoints."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tomli_w
import torch

from seg_core.errors import CorruptFileError, UsageError, WriteError
from seg_train import Trainer, load_config
from seg_train.run.checkpoint import Checkpoints, get_random_state, load_checkpoint, save_checkpoint, set_random_state

SCRIPT = Path(__file__).parents[1] / "tiny_runs.py"


def rows(run_dir):
    measured = ("seconds", "images_per_second", "data_wait", "memory_mib")
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in measured} for line in lines]


def same(first, second):
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second or (first != first and second != second)


def test_run_killed_at_twenty_random_moments_equals_an_uninterrupted_one(tables, tmp_path):
    tables["model"]["aux_loss"] = True
    tables["criterion"] = {"class_weights": [1.0, 2.0, 3.0]}
    tables["optimizer"] = {"name": "Padam", "params": {"lr": 0.1}}
    tables["trainer"] = {"epochs": 20, "device": "cpu", "ema_decay": 0.9, "checkpoint_every_steps": 1}
    tables["trainer"] |= {"accumulation_steps": 2, "log_every_steps": 2, "snapshots": 1}
    tables["evaluation"] = {"every_steps": 2, "monitor": "ema_acc"}
    tables["paths"] = {"output": str(tmp_path), "run": "killed"}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(tables))
    done = subprocess.run(
        [sys.executable, SCRIPT, "kill", path, "22", "5"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["lives"] - 1 >= 20, "the run was over before it had been killed often enough"
    assert report["in_write"] >= 5

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    found = [load_checkpoint(folder / "checkpoints" / "last.pt") for folder in (whole, killed)]
    for key in ("model", "average", "optimizer", "scheduler", "random"):
        assert same(found[0][key], found[1][key]), key
    assert rows(whole) == rows(killed)
    for name in ("model.pt", "model_ema.pt", "model_best.pt"):
        states = [torch.load(folder / name, weights_only=True) for folder in (whole, killed)]
        assert same(states[0]["state_dict"], states[1]["state_dict"]), name
        assert same(states[0]["metrics"], states[1]["metrics"]), name
    assert table(whole / "steps.csv") == table(killed / "steps.csv")
    assert files(whole) == files(killed)


def table(path):
    """Returns the rows of `steps.csv` without what is measured, its last four columns."""
    return [line.rsplit(",", 4)[0] for line in path.read_text().splitlines()]


def files(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def check_life(life):
    """No step is lost: SIGTERM saves the running step, SIGKILL leaves the checkpoint of the step before at least."""
    unsaved = life["logged"] - life["saved"]
    if life["kind"] != "term":
        assert life["code"] == -signal.SIGKILL
        assert unsaved in (0, 1)
        assert life["saved"] >= life["before"]
    elif life["code"] == 130:
        assert unsaved == 0
        assert life["saved"] >= life["before"]
    else:  # before it trained
        assert (life["code"], life["moment"]) == (-signal.SIGTERM, "start")
        assert life["saved"] == life["before"]


def curves(run_dir):
    """Returns what TensorBoard shows of loss and scores: tag -> step -> value."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run_dir / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    tags = [tag for tag in events.Tags()["scalars"] if tag.partition("/")[0] in ("train", "val", "val_ema")]
    return {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in tags}


@pytest.mark.parametrize(
    ("kills", "mode"),
    [(4, "fork"), pytest.param(int(os.environ.get("SEG_KILLS", "100")), "spawn", marks=pytest.mark.full)],
)
def test_chain_of_killed_and_terminated_lives_equals_an_uninterrupted_run(kills, mode, tables, tmp_path):
    """With workers, EMA, dropout, micro-batches, a scheduler and two loggers; SEG_KILLS=N sets the number of kills."""
    tables["model"] = {"name": "enet"}
    tables["criterion"] = {"class_weights": "inverse_log"}
    tables["data"]["dataset"] = {"name": "Shapes", "params": {"length": 16, "size": [32, 48]}}
    tables["data"]["transform"]["train"]["size"] = [32, 48]
    tables["data"]["loader"]["num_workers"] = 2
    tables["lr_scheduler"]["warmup_steps"] = 20
    tables["evaluation"] |= {"every_steps": 6, "monitor": "ema_miou"}
    tables["trainer"] |= {"accumulation_steps": 2, "ema_decay": 0.9, "log_every_steps": 1, "checkpoint_every_steps": 1}
    tables["trainer"] |= {"steps": 8 * kills, "snapshots": 1}
    del tables["trainer"]["epochs"]
    tables["log"]["tensorboard"] = {"images": False}
    tables["paths"] = {"output": str(tmp_path)}
    path = tmp_path / "config.toml"
    path.write_text(tomli_w.dumps(tables))
    done = subprocess.run(
        [sys.executable, SCRIPT.with_name("kill_chain.py"), path, tmp_path, str(kills), "5", mode],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    *killed_lives, last = map(json.loads, done.stdout.splitlines())
    log = (tmp_path / "killed.log").read_text()
    assert "Traceback" not in log
    assert (len(killed_lives), last["code"]) == (kills, 0), log[-3000:]
    for life in killed_lives:
        check_life(life)

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    found = [load_checkpoint(folder / "checkpoints" / "last.pt") for folder in (whole, killed)]
    for key in ("model", "average", "optimizer", "scheduler", "random", "running", "window"):
        assert same(found[0][key], found[1][key]), key
    positions = [{k: v for k, v in content["position"].items() if k != "seconds"} for content in found]
    assert positions[0] == positions[1]
    assert len(rows(whole)) >= 8 * kills
    assert rows(whole) == rows(killed)
    for name in ("model.pt", "model_ema.pt", "model_best.pt"):
        states = [torch.load(folder / name, weights_only=True) for folder in (whole, killed)]
        assert same(states[0]["state_dict"], states[1]["state_dict"]), name
        assert same(states[0]["metrics"], states[1]["metrics"]), name
    tables_of_rows = [table(folder / "steps.csv") for folder in (whole, killed)]
    assert tables_of_rows[0] == tables_of_rows[1]
    assert curves(whole) == curves(killed)
    names = [{name for name in files(folder) if not name.startswith("tensorboard/")} for folder in (whole, killed)]
    assert names[0] == names[1]


def test_run_killed_before_its_first_checkpoint_starts_over(tables, tmp_path):
    trainer = Trainer(load_config(tables))
    trainer.save = lambda: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    folder = tmp_path / "runs" / "run"
    assert not (folder / "checkpoints").exists()
    (folder / ".model-abcd1234.pt").write_bytes(b"half")
    result = Trainer(load_config(tables), resume=True).run()
    assert result.scores["epoch"] == 2
    assert not (folder / ".model-abcd1234.pt").exists(), "half-written files of a killed run are removed"


def test_temporary_files_alone_do_not_block_a_folder(tables, tmp_path):
    folder = tmp_path / "runs" / "run"
    folder.mkdir(parents=True)
    (folder / ".config-abcd1234.toml").write_text("half")
    assert Trainer(load_config(tables)).run().scores["epoch"] == 2


def checkpoints_of(folder, steps, keep=2, best=()):
    checkpoints = Checkpoints(folder)
    for step in steps:
        checkpoints.save({"step": step}, step, is_best=step in best, keep=keep)
    return checkpoints


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_last_checkpoints_are_kept_and_the_best(tmp_path):
    checkpoints = checkpoints_of(tmp_path, [0, 5, 10, 100_000_000, 100_000_001], keep=2, best=[5])
    assert names(tmp_path) == ["best.pt", "last.pt", "step_100000000.pt", "step_100000001.pt"]
    assert load_checkpoint(checkpoints.last)["step"] == 100_000_001
    assert load_checkpoint(checkpoints.best)["step"] == 5
    assert checkpoints.last.samefile(tmp_path / "step_100000001.pt"), "a link takes no space"


def test_file_systems_without_links_get_copies(tmp_path, monkeypatch):
    def link(*paths):
        raise PermissionError("no links here")

    monkeypatch.setattr("os.link", link)
    checkpoints = checkpoints_of(tmp_path, [5, 10], best=[10])
    assert {load_checkpoint(p)["step"] for p in (checkpoints.last, checkpoints.best)} == {10}


def test_intact_checkpoint_before_a_damaged_one_is_found(tmp_path):
    checkpoints = checkpoints_of(tmp_path, [5, 10, 15], keep=3)
    for step in (10, 15):
        path = tmp_path / f"step_{step:08}.pt"
        path.write_bytes(path.read_bytes()[:200])
    assert checkpoints.newest_intact(other_than=checkpoints.last) == tmp_path / "step_00000005.pt"
    (tmp_path / "step_00000005.pt").write_bytes(b"")
    assert checkpoints.newest_intact(other_than=checkpoints.last) is None


def test_run_resumes_from_the_checkpoint_before_a_damaged_one(tables, tmp_path):
    options = ["trainer.epochs=4", "trainer.log_every_steps=1", "trainer.keep_checkpoints=3"]
    whole = Trainer(load_config(tables, [*options, "paths.run=whole"])).run()
    run_dir = Trainer(load_config(tables, options)).run().run_dir
    last = run_dir / "checkpoints" / "last.pt"
    last.write_bytes(last.read_bytes()[:-2000])  # in place, as a bad disk would do
    with pytest.raises(CorruptFileError) as caught:
        Trainer(load_config(tables, options), resume=True)
    before = run_dir / "checkpoints" / "step_00000009.pt"
    assert str(last) in str(caught.value)
    assert f"{before} is intact; resume from it with: seg train --resume {before}" in str(caught.value)

    from seg_core.command import main

    assert main(["train", "--resume", str(before), "--progress", "quiet"]) == 0
    assert rows(run_dir) == rows(whole.run_dir)
    left = names(run_dir / "checkpoints")
    assert "step_00000012.pt.superseded" in left, "nothing is deleted that was not written by this run"
    assert load_checkpoint(last)["position"]["finished"]


def test_checkpoint_that_is_not_there_is_an_error(tables, tmp_path):
    with pytest.raises(UsageError, match=r"there is no checkpoint .*step_00000007.pt; name a file of"):
        Trainer(load_config(tables), resume=tmp_path / "step_00000007.pt")


def test_run_folder_as_checkpoint_says_how_to_pass_it(tables):
    run_dir = Trainer(load_config(tables)).run().run_dir
    with pytest.raises(UsageError, match=rf"{run_dir}' is a run folder, no checkpoint; pass it as run_dir='{run_dir}'"):
        Trainer(load_config(tables), resume=str(run_dir))
    assert Trainer(load_config(tables), run_dir=str(run_dir), resume=True).run().run_dir == run_dir


def test_every_random_state_is_kept():
    import random

    import numpy as np

    state = get_random_state()
    draws = [lambda: torch.rand(3).tolist(), lambda: random.random(), lambda: np.random.rand(3).tolist()]
    first = [draw() for draw in draws]
    set_random_state(state)
    assert [draw() for draw in draws] == first


def test_other_format_version_says_who_reads_it(tmp_path):
    path = tmp_path / "last.pt"
    torch.save({"format": "seg-checkpoint", "format_version": 1}, path)
    with pytest.raises(CorruptFileError, match="has format version 1, the installed seg-train reads 2"):
        load_checkpoint(path)


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("a file system can be mounted by root only")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_full_disk_ends_the_run_and_the_last_checkpoint_is_intact(tables, small_disk):
    tables["paths"]["output"] = str(small_disk)
    tables["trainer"]["epochs"] = 40
    # until the disk is full
    ballast = small_disk / "ballast"
    trainer = Trainer(load_config(tables, ["trainer.keep_checkpoints=1"]))
    save = trainer.save

    def save_on_a_full_disk():
        if trainer.position.epoch == 3:
            with ballast.open("wb", buffering=0) as file, pytest.raises(OSError):
                while True:
                    file.write(b"0" * 4096)
        save()

    trainer.save = save_on_a_full_disk
    with pytest.raises(WriteError, match=r"cannot write .*\.pt: (no space left on its disk|No space left on device)"):
        trainer.run()
    last = small_disk / "run" / "checkpoints" / "last.pt"
    step = load_checkpoint(last)["position"]["step"]
    assert step >= 6
    ballast.unlink()
    tables["trainer"]["epochs"] = 40
    resumed = Trainer(load_config(tables, ["trainer.keep_checkpoints=1"]), resume=True)
    assert resumed.position.step == step
    assert not list(last.parent.glob(".*")), "no half-written file takes space"


def test_write_error_names_the_file(tmp_path):
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(WriteError, match="folder/last.pt"):
        save_checkpoint(tmp_path / "folder" / "last.pt", {})
