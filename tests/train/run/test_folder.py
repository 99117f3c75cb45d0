"""Only one process at a time uses a run folder; a second one gets an error that names the first."""

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import tomli_w
import torch

from seg_core.command import main
from seg_core.errors import ConfigError, UsageError, WriteError
from seg_core.files import locks
from seg_core.model_files.model_file import load_model
from seg_train import Trainer, load_config
from seg_train.run import lock as run_lock
from seg_train.run.folder import RunFolder
from seg_train.run.lock import RunLockedError, check_unlocked, locked

SCRIPT = Path(__file__).parents[1] / "tiny_runs.py"
HOLD = """
import sys, time, pathlib
from seg_train.run.lock import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""

STAY = """
import json, pathlib, runpy, sys, time
names = runpy.run_path(sys.argv[1])
names["register"]()
def stay(self):
    print("evaluating", flush=True)
    time.sleep(600)
names["Trainer"]._evaluate = stay
names["train"](json.loads(pathlib.Path(sys.argv[2]).read_text()))
"""


@pytest.fixture
def run_elsewhere(tables, tmp_path):
    """A real run in another process, which waits in its first evaluation until it is stopped."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps(tables))
    process = subprocess.Popen(
        [sys.executable, "-c", STAY, str(SCRIPT), str(config)],
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"evaluating\n"
    yield process, tmp_path / "runs" / "run"
    process.kill()
    process.communicate()


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of a folder."""
    folder = tmp_path / "run"
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    yield process, folder
    process.kill()
    process.communicate()


@pytest.fixture
def no_patience(monkeypatch):
    monkeypatch.setattr(run_lock, "_PATIENCE", 0.3)


def rest(folder):
    return sorted(p.name for p in folder.iterdir())


def test_second_process_gets_an_error_that_names_the_first_until_that_is_killed(tables, run_elsewhere, capsys):
    process, folder = run_elsewhere
    leftover = folder / "checkpoints" / ".step_00000007-abcd1234.pt"
    leftover.write_bytes(b"half")  # the first one may be writing it
    words = (
        rf"the run folder {re.escape(str(folder))} is in use by process {process.pid} on {socket.gethostname()} since "
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\S* \(.*config.json\); wait until that run ends or stop it, then "
        r"resume with: seg train --resume .*paths.run=NAME"
    )
    for resume in (False, True):
        with pytest.raises(RunLockedError, match=words):
            Trainer(load_config(tables), resume=resume)
    assert main(["train", "--resume", str(folder), "--progress", "quiet"]) == 2
    assert f"in use by process {process.pid}" in capsys.readouterr().err
    assert leftover.exists(), "the temporary files of the first are left alone"
    assert process.poll() is None

    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (folder / ".lock.json").exists()
    assert Trainer(load_config(tables), resume=True).run().scores["epoch"] == 2
    assert not (folder / ".lock.json").exists()
    assert not leftover.exists()


def test_lock_ends_with_the_run_also_by_an_exception(tables, tmp_path):
    trainer = Trainer(load_config(tables))
    seen = []

    def fail(*_):
        seen.append(rest(trainer.folder.path))
        raise RuntimeError("a bug")

    trainer._batches, batches = fail, trainer._batches
    with pytest.raises(RuntimeError, match="a bug"):
        trainer.run()
    assert {".lock", ".lock.json"} <= set(seen[0])
    assert ".lock.json" not in rest(trainer.folder.path)
    resumed = Trainer(load_config(tables), resume=True)
    trainer._batches = batches
    assert trainer.run().scores["epoch"] == 2, "in a notebook the same trainer continues"
    with pytest.raises(UsageError, match="another process has continued the run in .* since its checkpoint was"):
        resumed.run()


@pytest.mark.parametrize("damage", [lambda text: text[: len(text) // 2], lambda text: "\0" * 40, None])
def test_run_whose_config_is_lost_is_resumed_with_the_one_it_was_started_with(tables, tmp_path, damage, capsys):
    file = tmp_path / "my run.toml"
    file.write_text(tomli_w.dumps(tables))
    run = Trainer(load_config(file)).run().run_dir
    config = run / "config.toml"
    former = config.read_text()
    if damage is None:
        config.unlink()
    else:
        config.write_text(damage(former))
    assert main(["train", "--resume", str(run), "--epochs", "3"]) != 0
    line = re.search(r"seg train CONFIG (--resume .*)", capsys.readouterr().err)[1]
    assert main(["train", str(file), *line.split(), "--epochs", "3"]) == 0
    expected = tomllib.loads(former)
    expected["trainer"]["epochs"] = 3
    assert tomllib.loads(config.read_text()) == expected


def test_lost_model_files_of_a_finished_run_are_written_again(tables):
    run = Trainer(load_config(tables, ["trainer.ema_decay=0.9"])).run().run_dir
    files = [run / "model.pt", run / "model_ema.pt"]
    before = [load_model(file).state_dict() for file in files]
    for file in (*files, run / "model_best.pt"):
        file.unlink()
    with pytest.warns(UserWarning) as told:
        Trainer(load_config(tables, ["trainer.ema_decay=0.9"]), resume=True).run()
    assert "written again" in str(told[0].message)
    assert "model_best.pt is missing" in str(told[1].message)
    for file, state in zip(files, before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in load_model(file).state_dict().items())


def test_nothing_is_written_before_the_run(tables, tmp_path):
    folder = tmp_path / "runs" / "run"
    Trainer(load_config(tables))
    assert not folder.exists()
    folder.mkdir(parents=True)
    (folder / "mine.txt").write_text("of a user")
    with pytest.raises(ConfigError, match="is not empty"):
        Trainer(load_config(tables))
    assert rest(folder) == ["mine.txt"]


def test_leftovers_of_a_killed_start_do_not_block_the_folder(tables, tmp_path):
    folder = tmp_path / "runs" / "run"
    folder.mkdir(parents=True)
    for name in (".lock", ".lock.json", ".config-abcd1234.toml"):
        (folder / name).write_text("")
    assert Trainer(load_config(tables)).run().scores["epoch"] == 2
    assert not (folder / ".config-abcd1234.toml").exists()


def test_second_run_that_was_prepared_beside_the_first_writes_nothing(tables):
    first, second = Trainer(load_config(tables)), Trainer(load_config(tables))
    result = first.run()
    before = (result.run_dir / "checkpoints" / "last.pt").read_bytes()
    with pytest.raises(ConfigError, match="is not empty; resume its run with"):
        second.run()
    assert (result.run_dir / "checkpoints" / "last.pt").read_bytes() == before


def test_run_that_failed_is_resumed_in_the_same_process(tables):
    trainer = Trainer(load_config(tables))
    trainer._evaluate = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        trainer.run()
    assert Trainer(load_config(tables), resume=True).run().scores["epoch"] == 2


def test_lock_of_this_process_says_so(tmp_path):
    with locked(tmp_path), pytest.raises(RunLockedError, match=rf"process {os.getpid()} on .*, which is this process"):
        check_unlocked(tmp_path)
    check_unlocked(tmp_path)


def test_process_without_a_note_is_another_one(holder, no_patience):
    _, folder = holder
    for content in ("", "{}", '{"pid": "x", "host": 1, "since": 2, "command": 3}', "[1]"):
        (folder / ".lock.json").write_text(content)
        with pytest.raises(RunLockedError, match="is in use by another process; wait until"), locked(folder):
            pass


def test_lock_that_outlives_the_process_of_its_note_is_waited_for(holder):
    process, folder = holder
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    note = json.loads((folder / ".lock.json").read_text())
    (folder / ".lock.json").write_text(json.dumps({**note, "pid": ended.pid}))
    subprocess.Popen([sys.executable, "-c", f"import time, os; time.sleep(0.5); os.kill({process.pid}, 9)"]).wait()
    begin = time.monotonic()
    with locked(folder):
        assert json.loads((folder / ".lock.json").read_text())["pid"] == os.getpid()
    assert time.monotonic() - begin < 10


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_workers_that_a_killed_process_leaves_do_not_keep_its_lock(tmp_path):
    forks = "    os.fork() and time.sleep(60)\n    time.sleep(3)\n    os._exit(0)\n"
    code = HOLD.replace("    time.sleep(60)\n", forks).replace("import sys", "import os, sys")
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    time.sleep(0.5)  # for the fork
    process.kill()
    process.wait()
    process.stdout.close()
    with locked(tmp_path):
        pass


def test_process_of_another_machine_counts_as_alive(holder):
    _, folder = holder
    note = json.loads((folder / ".lock.json").read_text())
    (folder / ".lock.json").write_text(json.dumps({**note, "pid": 2**22 + 1, "host": "elsewhere"}))
    with pytest.raises(RunLockedError, match="process 4194305 on elsewhere since"), locked(folder):
        pass


def raising(error):
    class Lock:
        def __init__(self, *arguments, **options):
            pass

        def acquire(self, timeout):
            raise error

    return Lock


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOLCK, "No locks available"), OSError(errno.ENOSYS, "Not implemented"), NotImplementedError()],
)
def test_file_system_without_locks_is_used_with_a_warning(tables, monkeypatch, error):
    monkeypatch.setattr(locks, "FileLock", raising(error))
    with pytest.warns(UserWarning, match="the file system of .*run has no locks: nothing prevents a second run from"):
        assert Trainer(load_config(tables)).run().scores["epoch"] == 2


def test_folder_that_cannot_be_written_is_a_write_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(WriteError, match="cannot lock the run folder .*file/run: Not a directory"),
        locked(tmp_path / "file" / "run"),
    ):
        pass
    monkeypatch.setattr(locks, "FileLock", raising(OSError(errno.EROFS, "Read-only file system")))
    with pytest.raises(WriteError, match="Read-only file system; check the folder's permissions"), locked(tmp_path):
        pass


def test_lock_of_an_older_filelock_takes_no_newer_options(tmp_path, monkeypatch):
    seen = {}

    class Old:
        def __init__(self, path, timeout=-1, thread_local=True):
            seen.update(vars())

    monkeypatch.setattr(locks, "FileLock", Old)
    locks.file_lock(tmp_path / ".lock")
    assert seen["thread_local"] is False


def test_check_free_of_a_file_is_an_error(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(ConfigError, match="is not empty"):
        RunFolder(tmp_path / "run").check_free()
