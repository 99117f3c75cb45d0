"""Runs on small data in separate processes: a script that tests start.

python tiny_runs.py train CONFIG.json             one run
python tiny_runs.py run_jobs JOBS.json            several runs, each on one or more processes
python tiny_runs.py kill CONFIG.json KILLS SEED   a run, and the same run killed KILLS times and resumed each time
"""

import importlib.util
import json
import os
import random
import shutil
import signal
import socket
import sys
import time
import traceback
from pathlib import Path

import torch
from torch import nn

from seg_core import BuildSpec
from seg_core.catalog import DatasetEntry
from seg_core.errors import UsageError, UserError
from seg_core.progress import QuietProgress
from seg_core.registry import DATASETS, MODELS
from seg_train import Trainer, load_config
from seg_train.run.failures import ProcessDiedError


def _conftest():
    spec = importlib.util.spec_from_file_location("tiny_conftest", Path(__file__).with_name("conftest.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class PlainNet(nn.Module):
    """Without batch norm and dropout, so that a batch gives the same gradient however it is split."""

    def __init__(self, num_classes, aux):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 128, 3, padding=1), nn.Tanh(), nn.Conv2d(128, 24, 3, padding=1))
        self.head = nn.Conv2d(24, num_classes, 1)
        self.aux = nn.Conv2d(24, num_classes, 1) if aux else None
        self.register_buffer("gain", torch.ones(()))  # a buffer, as batch norm has, but a constant one

    def forward(self, images):
        features = torch.tanh(self.body(images)) * self.gain
        outputs = {"out": self.head(features)}
        if self.aux is not None:
            outputs["aux"] = self.aux(features)
        return outputs


def plain_net(*, weights=None, progress=True, num_classes=2, aux_loss=None, weights_backbone=None, variant=None):
    model = PlainNet(num_classes, bool(aux_loss))
    model.build_spec = BuildSpec("plain_net", variant or "paper", {"num_classes": num_classes, "aux_loss": aux_loss})
    return model


def register():
    """Registers the networks and datasets of these tests, unless they are registered already."""
    tiny = _conftest()

    class Uneven(tiny.Stripes):
        """The share of valid pixels differs from sample to sample."""

        def __getitem__(self, index):
            image, mask = super().__getitem__(index)
            mask[: 2 * (index % 13)] = 255
            return image, mask

    class Elsewhere(tiny.Stripes):
        """The second process does not find it."""

        def __init__(self, root=None, split="train"):
            if os.environ.get("RANK") == "1":
                raise UsageError("data.dataset.root = 'disk': there is no such folder")
            super().__init__(root, split)

    for name, builder in (("tiny_net", tiny.tiny_net), ("plain_net", plain_net)):
        if name not in MODELS:
            MODELS.register(name, builder)
    for name, dataset in (("Stripes", tiny.Stripes), ("Uneven", Uneven), ("Elsewhere", Elsewhere)):
        if name in DATASETS:
            continue
        DATASETS.register(
            name, DatasetEntry(f"{__name__}:{name}", label_set=None, splits=("train", "val"), needs_root=False)
        )
        DATASETS._objects[name] = dataset


def train(config, *overrides, resume=False, dies_at=None, copy=None, fails_first=False):
    """One run; `dies_at` is the step at which the second process dies.

    With `fails_first` the same processes have tried another run before, that one of them could not start.
    `copy` is the checkpoint that the second process sees in place of the last one: it is on a machine of its own.
    """
    if copy is not None and os.environ["RANK"] == "1":
        former = Path(config["paths"]["output"])
        config["paths"]["output"] = str(former / "machine")
        folder = former / "machine" / config["paths"]["run"]
        shutil.rmtree(folder, ignore_errors=True)
        if copy:
            shutil.copytree(former / config["paths"]["run"], folder)
            shutil.copy(folder / "checkpoints" / copy, folder / "checkpoints" / "last.pt")
    if fails_first:
        try:
            Trainer(load_config(config, ["data.dataset.name=Elsewhere", "data.dataset.params={}"]))
        except UserError as error:
            print(f"first: {error}")
        else:
            sys.exit("a run without its dataset has started")
    trainer = Trainer(load_config(config, overrides), resume=resume, progress=QuietProgress())
    if dies_at and trainer.accelerator.process_index == 1:
        log_step = trainer._log_step

        def log_and_die(*arguments):
            log_step(*arguments)
            if trainer.position.step == dies_at:
                os._exit(3)

        trainer._log_step = log_and_die
    try:
        trainer.run()
    except ProcessDiedError as error:
        print(f"reported: {error}", file=sys.stderr)
        sys.exit(1)


def fork_processes(number, log, function, *arguments, **options):
    """Calls a function in forks of this process, set up as torchrun does it; returns their exit codes.

    A fork need not import torch again, which takes most of the time of such short runs.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pids = []
    for rank in range(number):
        pid = os.fork()
        if pid:
            pids.append(pid)
            continue
        status = 1
        try:
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(output, 1)
            os.dup2(output, 2)
            if number > 1:
                os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
                os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
                os.environ |= {"WORLD_SIZE": str(number), "LOCAL_WORLD_SIZE": str(number)}
            function(*arguments, **options)
            status = 0
        except SystemExit as stop:
            status = stop.code
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def run_jobs(path):
    """Makes runs one after the other: the file lists name, number of processes, config and options of each."""
    results = {}
    for job in json.loads(Path(path).read_text()):
        log = Path(path).with_name(f"{job['name']}.log")
        codes = fork_processes(job["processes"], log, train, job["config"], **job["options"])
        results[job["name"]] = {"codes": codes, "log": log.read_text()}
    print(json.dumps(results))


def kill(config, kills, seed):
    """Makes a run that is not killed, then the same run killed again and again; forks for each life."""
    tables, draw = json.loads(Path(config).read_text()), random.Random(int(seed))
    whole = {**tables, "paths": {**tables["paths"], "run": "whole"}}
    log = Path(config).with_name("whole.log")
    if fork_processes(1, log, train, whole) != [0]:
        sys.exit(log.read_text())
    in_write = 0
    for life in range(int(kills) + 1):
        last = life == int(kills)
        # kill it after this many writes to the disk, or after this many seconds
        writes = draw.randint(1, 12) if life % 2 else None
        seconds = None if last else draw.uniform(0.05, 0.4)
        pid = os.fork()
        if not pid:
            status = 1
            try:
                _live(tables, None if last else writes)
                status = 0
            finally:
                os._exit(status)
        begin = time.monotonic()
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                break
            limit = 20 if writes is not None else seconds
            if limit is not None and time.monotonic() - begin > limit:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                break
            time.sleep(0.005)
        if done and not last:
            if os.WIFSIGNALED(status):
                in_write += 1
            else:
                # it ended before it was killed
                print(json.dumps({"lives": life + 1, "in_write": in_write, "status": os.WEXITSTATUS(status)}))
                sys.exit(os.WEXITSTATUS(status))
    print(json.dumps({"lives": int(kills) + 1, "in_write": in_write, "status": os.WEXITSTATUS(status)}))
    sys.exit(os.WEXITSTATUS(status))


def _live(tables, writes):
    if writes is not None:
        import seg_core.files.atomic

        left, sync = [writes], os.fsync

        def sync_or_die(descriptor):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)  # the file is written, but not renamed yet
            sync(descriptor)

        seg_core.files.atomic.os.fsync = sync_or_die
    config = load_config(tables)
    folder = Path(config.paths.output) / config.paths.run
    Trainer(config, resume=(folder / "config.toml").is_file(), progress=QuietProgress()).run()


if __name__ == "__main__":
    register()
    if sys.argv[1] == "train":
        train(json.loads(Path(sys.argv[2]).read_text()))
    else:
        {"run_jobs": run_jobs, "kill": kill}[sys.argv[1]](*sys.argv[2:])
