"""Temporary files that a killed process left are removed by the next one; those of a process that lives stay."""

import os
import signal
import subprocess
import sys

import pytest

from seg_core.files import temporaries
from seg_core.files.atomic import atomic_path, write_text
from seg_core.files.temporaries import sweep, temporary_folder

pytest.importorskip("fcntl")

HOLD = """
import sys, time
from pathlib import Path
from seg_core.files.atomic import atomic_path
from seg_core.files.temporaries import temporary_folder
folder = Path(sys.argv[1])
with atomic_path(folder / "a.png") as temporary, temporary_folder(folder, "b") as inner:
    temporary.write_bytes(b"half")
    (inner / "c.bin").write_bytes(b"half")
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def nothing_swept():
    temporaries._swept.clear()


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_those_of_a_killed_process_are_removed_by_the_next(holder, tmp_path):
    write_text(tmp_path / "x.json", "{}")
    assert len(list(tmp_path.glob(".*"))) == 2, "the process lives"
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert len(list(tmp_path.glob(".*"))) == 2
    write_text(tmp_path / "y.json", "{}")  # the folder was swept by this process already
    assert len(list(tmp_path.glob(".*"))) == 2
    temporaries._swept.clear()
    write_text(tmp_path / "y.json", "{}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.json", "y.json"]


def test_files_of_others_links_and_own_ones_stay(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("kept")
    out = tmp_path / "out"
    out.mkdir()
    names = [".settings-database.yml", ".a~seg-abcd1234.txt.bak", "a~seg-abcd1234.png", ".a~seg-ABCD1234.png"]
    for name in names:
        (out / name).write_text("mine")
    (out / ".link~seg-abcd1234").symlink_to(elsewhere)
    (out / ".left~seg-abcd1234.png").write_text("half")
    os.mkfifo(out / ".pipe~seg-abcd1234")
    with atomic_path(out / "b.png") as temporary:
        temporaries._swept.clear()
        sweep(out)
        assert temporary.exists()
        temporary.write_text("b")
    left = {path.name for path in out.iterdir()}
    assert left == {*names, ".link~seg-abcd1234", ".pipe~seg-abcd1234", "b.png"}
    assert (elsewhere / "kept").exists()


def test_a_name_as_long_as_the_system_allows(tmp_path):
    name = "x" * 251 + ".txt"
    write_text(tmp_path / name, "text")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_folder_is_removed_at_the_end_and_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), temporary_folder(tmp_path, "a") as folder:
        (folder / "x").write_text("x")
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())
