"""A run, and the same one killed again and again and resumed each time: a script that tests start.

python kill_chain.py CONFIG.toml OUTPUT KILLS SEED spawn    each life is a `seg train` command of its own
python kill_chain.py CONFIG.toml OUTPUT KILLS SEED fork     each life is a fork of this process: torch is imported once

One kill in five is SIGTERM to all processes of the run, as a cluster scheduler sends it; the others are SIGKILL, to the
main process alone or to its workers too. The moments are random: some while the run starts, most a random time after it
has logged a random number of steps. The runs are OUTPUT/whole and OUTPUT/killed. Prints one JSON object per life of the
killed one; the last is that of the life that ended the run.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

# these are what a run imports: once, for all forks
import torch.utils.tensorboard  # noqa: F401

import seg_models.inference.whole
import seg_models.networks.enet  # noqa: F401
import seg_train.commands.train
import seg_train.loggers.tensorboard
import seg_train.run.trainer  # noqa: F401
from seg_core.command import main
from seg_train.run.checkpoint import load_checkpoint

_PATIENCE = 240.0  # seconds until something that must happen has happened, also on a busy machine
_IN_START = 0.15  # share of the kills while a run starts
_START_SECONDS = {"spawn": 8.0, "fork": 0.5}
MOST_STEPS = 5  # logged steps after which a run is killed, at most
_MOST_DELAY = 0.15  # seconds after that, at most


class Spawned:
    """A `seg train` command in a process group of its own."""

    def __init__(self, arguments, log):
        command = [sys.executable, "-m", "seg_core.command", *arguments]
        self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        self.pid = self._process.pid

    def poll(self):
        return self._process.poll()


class Forked:
    """The same command in a fork of this process."""

    def __init__(self, arguments, log):
        self.pid = os.fork()
        self._code = None
        if not self.pid:
            code = 1
            try:
                os.setsid()
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
                code = main(list(arguments))
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        while os.getpgid(self.pid) != self.pid:  # until it has a group of its own
            time.sleep(0.001)

    def poll(self):
        if self._code is None:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code


def logged_step(run_dir):
    """Returns the last step in the rows, or 0; a row that is being written does not count."""
    path = run_dir / "metrics.jsonl"
    if not path.is_file():
        return 0
    lines = path.read_bytes().rpartition(b"\n")[0].splitlines()
    return max((json.loads(line)["step"] for line in lines[-3:]), default=0)


def saved_step(run_dir):
    """Returns the step of the last checkpoint, which must be intact, or 0 if there is none yet."""
    last = run_dir / "checkpoints" / "last.pt"
    return load_checkpoint(last)["position"]["step"] if last.exists() else 0


def wait_until(happened, process):
    """Returns whether it happened before the process ended."""
    end = time.monotonic() + _PATIENCE
    while process.poll() is None:
        if happened():
            return True
        if time.monotonic() > end:
            os.killpg(process.pid, signal.SIGKILL)
            raise TimeoutError(f"nothing happened in {_PATIENCE} s")
        time.sleep(0.003)
    return False


def live(arguments, run_dir, log, mode, kind=None, draw=None):
    """One life of the run; `kind` is how it is killed, None lets it finish."""
    before = saved_step(run_dir)
    begin = time.monotonic()
    process = (Spawned if mode == "spawn" else Forked)(arguments, log)
    report = {"kind": kind, "before": before}
    if kind is not None:
        if draw.random() < _IN_START:
            report["moment"] = "start"
            end = time.monotonic() + draw.uniform(0, _START_SECONDS[mode])
            wait_until(lambda: time.monotonic() > end, process)
        else:
            report["moment"] = "steps"
            # a killed life leaves one row more than its checkpoint knows
            target = before + draw.randint(2, MOST_STEPS)
            wait_until(lambda: logged_step(run_dir) >= target, process)
            time.sleep(draw.uniform(0, _MOST_DELAY))
        if process.poll() is None:
            if kind == "kill":
                os.kill(process.pid, signal.SIGKILL)
            else:
                os.killpg(process.pid, signal.SIGTERM if kind == "term" else signal.SIGKILL)
    while process.poll() is None:
        time.sleep(0.003)
    seconds = round(time.monotonic() - begin, 2)
    return {
        **report,
        "code": process.poll(),
        "logged": logged_step(run_dir),
        "saved": saved_step(run_dir),
        "seconds": seconds,
    }


def chain(config, run_dir, kills, seed, mode):
    """Kills a run `kills` times, then lets it finish; yields a report about each life."""
    draw = random.Random(seed)
    terms = -(-kills // 5)
    kinds = ["term"] * terms + ["kill"] * ((kills - terms) // 2) + ["kill all"] * ((kills - terms + 1) // 2)
    draw.shuffle(kinds)
    with Path(f"{run_dir}.log").open("ab") as log:
        for kind in [*kinds, None]:
            resumes = (run_dir / "config.toml").is_file()
            arguments = ["train", config, "-s", f"paths.run={run_dir.name}"]
            if resumes:
                arguments = ["train", "--resume", str(run_dir)]
            report = live([*arguments, "--progress", "plain"], run_dir, log, mode, kind, draw)
            yield report
            if report["code"] not in (None, 130, -signal.SIGKILL, -signal.SIGTERM):
                break  # it ended by itself: the end of the run, or a failure


if __name__ == "__main__":
    script, config, output, kills, seed, mode = sys.argv
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    (whole,) = chain(config, output / "whole", 0, 0, mode)
    if whole["code"]:
        sys.exit((output / "whole.log").read_text())
    for report in chain(config, output / "killed", int(kills), int(seed), mode):
        print(json.dumps(report), flush=True)
