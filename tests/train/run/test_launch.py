"""The launch lines of `seg train --help`, and environments of launchers in which no run can be trained together."""

import re
import shlex
import socket
import subprocess
import sys

import pytest
import tomli_w
import torch
from accelerate.commands.launch import launch_command_parser
from torch.distributed.run import get_args_parser

from seg_core.command import main
from seg_core.errors import UsageError
from seg_train import Trainer, load_config
from seg_train.commands.train import TRAIN
from seg_train.run.checkpoint import load_checkpoint
from seg_train.run.launch import check_environment, check_joined, launch_warning

TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


def launch_lines():
    """The words of each launch line in the help, by launcher and number of machines."""
    joined = TRAIN.epilog.replace(" \\\n   ", "")
    lines = [shlex.split(re.split(" {2,}", line.strip())[0]) for line in joined.splitlines()]
    return {(w[0], 2 if "HOST" in " ".join(w) else 1): w for w in lines if w and w[0] in ("torchrun", "accelerate")}


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def on_cpus(words, machine, port, config):
    """A launch line for two processes on the CPUs of this machine, which is both machines if there are two."""
    text = shlex.join(words).replace("CONFIG", shlex.quote(str(config))).replace("HOST", "127.0.0.1")
    processes = 1 if "--nnodes" in words else 2
    text = re.sub(r"(--nproc_per_node|--num_processes) \d", rf"\1 {processes}", text)
    text = text.replace("29500", str(port)).replace("--machine_rank 0", f"--machine_rank {machine}")
    launchers = {"torchrun": "torch.distributed.run", "accelerate": "accelerate.commands.accelerate_cli"}
    first, *rest = shlex.split(text)
    return [sys.executable, "-m", launchers[first], *rest, "--progress", "plain"]


@pytest.fixture
def config(tables, tmp_path):
    """A config whose names are registered by installed packages."""
    tables["model"] = {"name": "enet"}
    tables["data"]["dataset"] = {"name": "Shapes", "params": {"length": 8, "size": [32, 48]}}
    tables["data"]["transform"] = {"train": {"size": [32, 48]}}
    tables["trainer"] |= {"epochs": 1, "snapshots": 0}
    path = tmp_path / "run.toml"
    path.write_text(tomli_w.dumps(tables))
    return path


def test_help_names_one_and_two_machines_with_both_launchers():
    assert set(launch_lines()) == {(name, machines) for name in ("torchrun", "accelerate") for machines in (1, 2)}


@pytest.mark.parametrize("case", [(name, machines) for name in ("torchrun", "accelerate") for machines in (1, 2)])
def test_launchers_know_every_word_of_their_lines(case):
    words = launch_lines()[case]
    if case[0] == "torchrun":
        found = get_args_parser().parse_args(words[1:])
        processes = int(found.nproc_per_node) * int(found.nnodes.split(":")[0])
    else:
        found = launch_command_parser().parse_args(words[2:])
        processes = found.num_processes
        assert found.multi_gpu, "without it, a machine with one GPU starts a run of its own"
    assert processes == 4 * case[1]
    assert found.module
    assert (found.training_script, found.training_script_args) == ("seg_core.command", ["train", "CONFIG"])


# a start takes seconds; `test_two_processes_train_one_run_and_show_it_once` starts torchrun on one machine too
@pytest.mark.parametrize(
    "case",
    [
        ("torchrun", 2),
        pytest.param(("torchrun", 1), marks=pytest.mark.full),
        pytest.param(("accelerate", 1), marks=pytest.mark.full),
        pytest.param(("accelerate", 2), marks=pytest.mark.full),
    ],
    ids=["torchrun-2", "torchrun-1", "accelerate-1", "accelerate-2"],
)
def test_launch_lines_of_the_help_train_one_run_on_two_processes(case, config, tmp_path):
    words, port = launch_lines()[case], free_port()
    started = [
        subprocess.Popen(
            on_cpus(words, machine, port, config), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for machine in range(case[1])
    ]
    outputs = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [0] * case[1], outputs
    assert sum(out.count("IoU per class on val") for out, _ in outputs) == 1
    last = load_checkpoint(tmp_path / "runs" / "run" / "checkpoints" / "last.pt")
    assert last["position"]["step"] == 2
    assert len(last["random"]) == 2, "the number of processes that trained the run"


@pytest.mark.full
def test_process_that_fails_on_one_machine_ends_the_other(config, tmp_path):
    """The second machine has no config; its launcher alone would leave the first waiting for many minutes."""
    words, port = launch_lines()["torchrun", 2], free_port()
    first = subprocess.Popen(on_cpus(words, 0, port, config), stderr=subprocess.PIPE, text=True)
    second = subprocess.Popen(on_cpus(words, 1, port, tmp_path / "no.toml"), stderr=subprocess.PIPE, text=True)
    errors = [process.communicate(timeout=200)[1] for process in (first, second)]
    assert first.returncode == second.returncode == 1
    assert any("seg: error: there is no config file" in error for error in errors)
    assert any("could not start: there is no config file" in error for error in errors), errors


@pytest.mark.full
@pytest.mark.parametrize("options", [["--cpu"], []], ids=["cpu", "without multi_gpu"])
def test_accelerate_says_by_its_environment_that_it_starts_one_process_in_place_of_two(options, tmp_path):
    if torch.cuda.device_count() > 1 and not options:
        pytest.skip("with several GPUs it starts several processes")
    script = tmp_path / "script.py"
    script.write_text(
        "import os\nfrom seg_train.run.launch import launch_warning\nprint(launch_warning(os.environ, 1))\n"
    )
    for number, words in ((2, "accelerate launch was asked for several processes but started one"), (1, "None")):
        launcher = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", *options]
        done = subprocess.run([*launcher, "--num_processes", str(number), script], capture_output=True, text=True)
        assert done.stdout.startswith(words), done.stderr


ACCELERATE = {"ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
SRUN = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1", "SLURM_NTASKS": "2"}


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        (ACCELERATE, "start with accelerate launch --multi_gpu"),
        (SRUN, r"srun started this process as number 1 of 2, and each trains a run of its own; .*-s paths.run=NAME"),
        ({"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3"}, "an MPI launcher started .* as number 3 of 4"),
        ({"PMI_SIZE": "4"}, "an MPI launcher started this process of 4"),
    ],
)
def test_launchers_of_separate_processes_are_warned_about(environ, words):
    assert re.search(words, launch_warning(environ, 1))
    assert launch_warning(environ, 2) is None


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"ACCELERATE_USE_CPU": "True", "ACCELERATE_MIXED_PRECISION": "no"},
        # sbatch alone, which starts its script once
        {"SLURM_NTASKS": "2", "SLURM_PROCID": "0"},
        {**TORCHRUN, "RANK": "0", "WORLD_SIZE": "1"},
    ],
)
def test_one_process_that_was_asked_for_is_no_warning(environ):
    assert launch_warning(environ, 1) is None


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE = 2, but no RANK, MASTER_ADDR, MASTER_PORT; unset it to train"),
        ({"LOCAL_RANK": "0"}, "LOCAL_RANK = 0, but no RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT; unset it"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "RANK = 0, WORLD_SIZE = 2, but no MASTER_ADDR, MASTER_PORT; unset them"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE = 'two' must be an integer"),
        ({**TORCHRUN, "RANK": "2"}, "RANK = 2 must be 0 to 1, as WORLD_SIZE is 2"),
    ],
)
def test_incomplete_environment_of_a_launcher_is_an_error_before_anything_waits(
    environ, words, config, monkeypatch, capsys
):
    with pytest.raises(UsageError, match=re.escape(words)):
        check_environment(environ)
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert main(["train", str(config)]) == 2
    assert words in capsys.readouterr().err
    with pytest.raises(UsageError, match=re.escape(words)):
        Trainer(load_config(config))


@pytest.mark.parametrize(
    "environ",
    [
        {},
        TORCHRUN,
        {"WORLD_SIZE": "1"},
        {"RANK": "0", "WORLD_SIZE": "1"},
        # accelerate takes the rest from these
        {"OMPI_COMM_WORLD_SIZE": "2", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"},
    ],
)
def test_complete_environments_are_accepted(environ):
    check_environment(environ)
    check_joined(environ, 2, "cpu")


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        (TORCHRUN, "number 1 of 2, but it would train a run of its own: processes on mps cannot share a run"),
        ({k: v for k, v in TORCHRUN.items() if k != "LOCAL_RANK"}, "its own: LOCAL_RANK, the number of the process"),
    ],
)
def test_processes_of_a_launcher_that_cannot_join_are_an_error(environ, words):
    with pytest.raises(UsageError, match=words):
        check_joined(environ, 1, "mps")
