import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tomli_w
import torch

from seg_core.command import main
from seg_core.model_files.model_file import load_model
from seg_core.registry import DATASETS
from seg_train import dry_run, load_config
from seg_train.losses.cross_entropy import CrossEntropyLoss
from seg_train.run.checkpoint import load_checkpoint
from seg_train.run.evaluate import evaluate

EXAMPLES = Path(__file__).parents[3] / "examples" / "configs"


@pytest.fixture
def config(tables, tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(tomli_w.dumps(tables))
    return str(path)


@pytest.fixture
def real_config(tables, tmp_path):
    """A config that another process can load: all names are registered by installed packages."""
    tables["model"] = {"name": "enet"}
    tables["data"]["dataset"] = {"name": "Shapes", "params": {"length": 16, "size": [32, 48]}}
    tables["data"]["transform"] = {"train": {"size": [32, 48]}}
    tables["trainer"] |= {"epochs": 6, "log_every_steps": 1, "checkpoint_every_steps": 3}
    path = tmp_path / "real.toml"
    path.write_text(tomli_w.dumps(tables))
    return str(path)


def command(*arguments):
    code = "import sys; from seg_core.command import main; sys.exit(main())"
    return [sys.executable, "-W", "error::UserWarning", "-c", code, *map(str, arguments)]


def start(*arguments):
    """A process in a group of its own, so that a signal can be sent to it and its workers."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command(*arguments), **pipes, text=True, start_new_session=True)


def wait_for_step(run_dir, step, process):
    path = run_dir / "metrics.jsonl"
    wait_until(lambda: path.exists() and f'"step": {step},' in path.read_text(), process)


def wait_until(happened, process):
    while process.poll() is None:
        if happened():
            return
        time.sleep(0.01)
    raise AssertionError(f"the run ended first: {process.communicate()}")


def without_times(path):
    found = [json.loads(line) for line in path.read_text().splitlines()]
    measured = ("seconds", "images_per_second", "data_wait", "memory_mib")
    return [{k: v for k, v in row.items() if k not in measured} for row in found]


@pytest.mark.smoke
def test_train_prints_table_folder_and_miou_last(config, tmp_path, capsys):
    assert main(["train", config, "-s", "trainer.epochs=8"]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert re.fullmatch(r"mIoU 0\.\d{3}|mIoU 1\.000", lines[-1])
    assert re.fullmatch(r"best miou \d\.\d{3} in epoch [1-8], step \d+: model_best\.pt", lines[-2])
    assert lines[-3] == f"run folder: {tmp_path / 'runs' / 'run'}"
    assert lines[0] == "IoU per class on val"
    assert lines[1].split() == ["class", "last", "weights"]
    assert [line.split()[0] for line in lines[2:5]] == ["dark", "bright", "never"]
    assert lines[4].split() == ["never", "absent"]
    assert "epoch 8/8  train loss" in captured.err
    assert "mIoU" in captured.err


def test_train_prints_the_ema_beside_the_last_weights(config, capsys):
    assert main(["train", config, "-s", "trainer.ema_decay=0.9", "--progress", "quiet"]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[1].split() == ["class", "last", "weights", "EMA"]
    assert re.fullmatch(r"dark +0\.\d{4} +0\.\d{4}", lines[2])
    assert re.fullmatch(r"best miou \d\.\d{3} in epoch [12], step [36]( \(EMA\))?: model_best\.pt", lines[-3])
    assert re.fullmatch(r"mIoU of the EMA \d\.\d{3}", lines[-2])
    assert re.fullmatch(r"mIoU \d\.\d{3}", lines[-1])
    assert captured.err == "", "quiet shows only warnings"


def test_start_says_what_runs_and_environment_keeps_it(config, tmp_path, capsys):
    assert main(["train", config, "-s", "trainer.epochs=1"]) == 0
    lines = capsys.readouterr().err.splitlines()
    run = tmp_path / "runs" / "run"
    threads = torch.get_num_threads()
    assert lines[0] == f"device  CPU with {threads} thread{'s' * (threads > 1)}, fp32, 1 process, 0 workers"
    assert lines[1] == "data    12 training samples, 12 val samples, 3 classes"
    assert lines[2] == "images  3 channels (red, green, blue) of 8 bits, mean and std of ImageNet"
    assert lines[3] == "model   tiny_net, 135 parameters"
    assert lines[4] == "length  3 steps of 4 samples in 1 epoch, 1 evaluation"
    assert re.fullmatch(rf"disk    about [\d.]+ KiB in {re.escape(str(run))}, [\d.]+ [GT]iB free", lines[5])
    first = json.loads((run / "environment.json").read_text())
    assert first["run"] | {"device_name": "", "disk_bytes": 0} == {
        "device": "cpu",
        "device_name": "",
        "precision": "fp32",
        "processes": 1,
        "workers": 0,
        "train_samples": 12,
        "val_samples": 12,
        "classes": 3,
        "crops_per_image": 1,
        "images": "3 channels (red, green, blue) of 8 bits, mean and std of ImageNet",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "model": "tiny_net",
        "parameters": 135,
        "trained_parameters": 135,
        "batch_size": 4,
        "steps": 3,
        "epochs": 1,
        "evaluations": 1,
        "disk_bytes": 0,
    }
    assert main(["train", "--resume", str(run), "--epochs", "2"]) == 0
    assert "length  6 steps" in capsys.readouterr().err
    both = json.loads((run / "environment.json").read_text())
    assert {key: both[key] for key in first} == first
    (resumed,) = both["resumed"]
    assert (resumed["step"], resumed["run"]["steps"]) == (3, 6)


def test_start_estimates_the_disk_that_a_run_needs(config, tmp_path):
    assert main(["train", config, "-s", "trainer.keep_checkpoints=3", "-s", "trainer.ema_decay=0.9"]) == 0
    run = tmp_path / "runs" / "run"
    needed = json.loads((run / "environment.json").read_text())["run"]["disk_bytes"]
    weights = sum(t.nbytes for t in load_model(run / "model.pt").state_dict().values())
    # three checkpoints, the best and one that is being written: weights, EMA, twice the parameters for Adam; 3 models
    assert needed == pytest.approx(5 * (2 * weights + 2 * 4 * 135) + 3 * weights, abs=100)


def test_start_warns_of_a_small_disk(config, monkeypatch, capsys):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 5000})())
    assert main(["train", config, "-s", "trainer.epochs=1"]) == 0
    warning = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: the run needs"))
    assert "4.9 KiB free; set another paths.output, or lower trainer.keep_checkpoints (now 2)" in warning


def test_start_warns_of_a_launcher_that_started_one_process(config, monkeypatch, capsys):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    assert main(["train", config, "-s", "trainer.epochs=1"]) == 0
    assert "asked for several processes but started one, which trains alone" in capsys.readouterr().err


@pytest.mark.parametrize("overrides", [[], ["trainer.ema_decay=0.9", "evaluation.every_steps=2"]])
def test_dry_run_measures_and_keeps_nothing(config, tmp_path, capsys, overrides):
    flags = [flag for override in overrides for flag in ("-s", override)]
    assert main(["train", config, "--dry-run", *flags]) == 0
    captured = capsys.readouterr()
    rows = dict(line.split("  ", 1) for line in captured.out.splitlines())
    assert list(rows) == [
        "dry run",
        "first step",
        "step",
        "evaluation",
        "checkpoint",
        "memory of this process",
        "disk of the whole run",
        "time of the whole run",
    ]
    assert re.fullmatch(r" *\d+:\d\d, estimated", rows["time of the whole run"])
    assert "length  6 steps" in captured.err
    assert not (tmp_path / "runs").exists()
    assert not list(tmp_path.glob(".dry-run*"))
    assert main(["train", config, "--dry-run", "--resume"]) == 2
    assert "remove one of them" in capsys.readouterr().err


def test_dry_run_finds_what_a_run_would(config, tmp_path, capsys):
    assert main(["train", config, "--dry-run", "-s", "data.dataset.params.broken=3"]) == 1
    assert "train/3.png is no image" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_dry_run_estimates_the_disk_as_the_start_does(tables):
    found = dry_run(load_config(tables))
    assert found.facts.steps == 6
    assert found.seconds > found.first_step_seconds
    # files have a directory and names beside their tensors
    assert found.disk_bytes > found.facts.disk_bytes > 0


def test_train_resume_folder_continues_and_finished_run_says_so(config, tmp_path, capsys):
    assert main(["train", config]) == 0
    first = capsys.readouterr().out
    assert main(["train", "--resume", str(tmp_path / "runs" / "run")]) == 0
    captured = capsys.readouterr()
    assert captured.out == first
    assert "is finished; there is nothing left to do" in captured.err
    assert main(["train", config, "--resume"]) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name a CONFIG to start a run, or a run folder with --resume RUN_DIR"),
        (["nowhere.toml"], "there is no config file nowhere.toml"),
        (["CONFIG", "-s", "trainer.epoch=1"], "Did you mean 'trainer.epochs'?"),
        (["CONFIG", "--resume", "somewhere"], "uses the config saved in that folder, so CONFIG"),
        (["--resume", "somewhere"], "somewhere is not a run folder (it has no config.toml): nothing to resume"),
        (["--resume", "CONFIG"], "it is a file, and --resume takes a run folder: nothing to resume"),
        (["CONFIG", "--resume"], "nothing to resume: "),
        (["CONFIG", "-s", "data.dataset.name=CamVid", "-s", "data.dataset.root=nowhere"], "nowhere"),
    ],
)
def test_wrong_usage_is_one_sentence_and_writes_nothing(arguments, words, config, tmp_path, capsys):
    code = main(["train", *(config if a == "CONFIG" else a for a in arguments)])
    captured = capsys.readouterr()
    assert code == 2
    assert captured.err.startswith("seg: error: ")
    assert words in captured.err
    assert captured.out == ""
    assert not (tmp_path / "runs").exists()


def test_help_explains_resume_and_overrides(capsys):
    assert main(["train", "--help"]) == 0
    text = capsys.readouterr().out
    assert "seg train --resume" in text
    assert "as in -s trainer.epochs=20" in " ".join(text.split())


def test_damaged_image_ends_the_run_with_exit_code_one_and_names_resume(config, tmp_path, capsys):
    assert main(["train", config, "-s", "data.dataset.params.broken=3"]) == 1
    err = capsys.readouterr().err
    assert "seg: error: train/3.png is no image; replace it" in err
    assert f"fix this, then resume with: seg train --resume {tmp_path / 'runs' / 'run'}" in err


def test_killed_run_resumed_equals_the_uninterrupted_one(real_config, tmp_path, capsys):
    runs = tmp_path / "runs"
    assert main(["train", real_config, "-s", "paths.run=whole"]) == 0
    process = start("train", real_config, "-s", "paths.run=killed")
    wait_for_step(runs / "killed", 8, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    step = load_checkpoint(runs / "killed" / "checkpoints" / "last.pt")["position"]["step"]
    assert 0 < step < 24
    assert main(["train", "--resume", str(runs / "killed")]) == 0
    whole, killed = (load_checkpoint(runs / n / "checkpoints" / "last.pt") for n in ("whole", "killed"))
    for name, value in whole["model"].items():
        assert torch.equal(value, killed["model"][name]), name
    assert without_times(runs / "whole" / "metrics.jsonl") == without_times(runs / "killed" / "metrics.jsonl")


def test_ctrl_c_saves_says_how_to_resume_and_exits_with_130(real_config, tmp_path):
    process = start("train", real_config, "-s", "data.loader.num_workers=1", "-s", "trainer.epochs=500")
    run_dir = tmp_path / "runs" / "run"
    wait_for_step(run_dir, 2, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopping after this step and saving a checkpoint; Ctrl-C again stops at once" in err
    assert re.search(
        rf"seg: stopped after step \d+ of 2000 .*; resume with: seg train --resume {re.escape(str(run_dir))}\n", err
    )
    assert "Traceback" not in err
    assert out == ""
    step = load_checkpoint(run_dir / "checkpoints" / "last.pt")["position"]["step"]
    assert step == max(row["step"] for row in without_times(run_dir / "metrics.jsonl"))


@pytest.mark.parametrize("step", [0, 5])
def test_sigterm_to_all_processes_saves_the_running_step(real_config, tmp_path, step):
    """As SLURM and `timeout` do: the workers get it too."""
    process = start("train", real_config, "-s", "data.loader.num_workers=2", "-s", "trainer.epochs=500")
    run_dir = tmp_path / "runs" / "run"
    if step:
        wait_for_step(run_dir, step, process)
    else:
        wait_until((run_dir / "checkpoints" / "last.pt").exists, process)
    os.killpg(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    found = re.search(r"seg: stopped after step (\d+) of 2000 .*; resume with: seg train --resume ", err)
    assert found, err
    assert int(found[1]) >= max(step, 1)
    assert load_checkpoint(run_dir / "checkpoints" / "last.pt")["position"]["step"] == int(found[1])


def test_second_ctrl_c_stops_at_once():
    from seg_train.run.interruption import Interruption

    former = signal.getsignal(signal.SIGINT)
    with Interruption() as interruption:
        os.kill(os.getpid(), signal.SIGINT)
        assert interruption.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is former


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda p: p.stem)
def test_example_configs_are_valid(path):
    from seg_train import load_config

    config = load_config(path)
    assert config.trainer.steps or config.trainer.epochs


def test_two_processes_train_one_run_and_show_it_once(real_config, tmp_path):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    options = ("trainer.epochs=1", "trainer.device=cpu", "evaluation.batch_size=1", "paths.run=two")
    overrides = [part for option in options for part in ("-s", option)]
    done = subprocess.run(
        [*launcher, "-m", "seg_core.command", "train", real_config, *overrides],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("IoU per class on val") == 1
    assert done.stderr.count("epoch 1/1  train loss") == 1
    epochs = [row for row in without_times(tmp_path / "runs" / "two" / "metrics.jsonl") if row["kind"] == "epoch"]
    assert len(epochs) == 1
    # both processes together scored the saved weights on the whole split
    dataset = DATASETS.get("Shapes")(None, split="val", length=16, size=(32, 48))
    model = load_model(tmp_path / "runs" / "two" / "model.pt")
    scores = evaluate(model, dataset, criterion=CrossEntropyLoss()).summarize()
    assert scores["loss"] == pytest.approx(epochs[0]["val_loss"], rel=1e-5)
    assert scores["acc"] == pytest.approx(epochs[0]["acc"], abs=1e-3)
