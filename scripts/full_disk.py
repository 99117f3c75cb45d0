"""Fills the disk at twenty points of a training run, a prediction, the saving of a model and an export.

    sudo python scripts/full_disk.py [train | predict | save_model | export ...]

Each action runs on a small file system in memory (tmpfs, so it needs Linux and root): once on a large one, which
measures how much it writes, then on twenty that are too small, each a twentieth larger. Wanted each time: an exit code
of 1 or 2, or 0 if it got along without what it could not write (a plot, a table); one sentence; no file under its final
name that cannot be read; no temporary file; and of a training run, that it resumes once there is room.

Prints a table and exits with 1 if anything else happened.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

POINTS = 20
TIME_LIMIT = 300  # seconds of one action
LARGE = 256 * 2**20
PAGE = os.sysconf("SC_PAGE_SIZE")

CONFIG = """
[model]
name = "enet"
[data]
check = "off"
[data.dataset]
name = "Shapes"
params = { length = 4, size = [32, 32] }
[data.transform.train]
size = [32, 32]
[data.loader]
batch_size = 2
num_workers = 0
[evaluation]
every_steps = 2
[trainer]
steps = 4
device = "cpu"
log_every_steps = 1
checkpoint_every_steps = 1
ema_decay = 0.9
"""


def train(disk: Path, work: Path) -> int:
    """Trains a tiny run."""
    from seg_core.command import main

    config = work / "run.toml"
    config.write_text(CONFIG)
    where = ["-s", f"paths.output={json.dumps(str(disk))}", "-s", "paths.run=run"]
    return main(["train", str(config), "--progress", "quiet", *where])


def resume(disk: Path, work: Path) -> int:
    """Resumes it, or starts it if it came to nothing."""
    from seg_core.command import main

    if not (disk / "run" / "config.toml").is_file():
        return train(disk, work)
    return main(["train", "--resume", str(disk / "run"), "--progress", "quiet"])


def predict(disk: Path, work: Path) -> int:
    """Predicts a folder of images, as masks, overlays and GeoJSON."""
    import numpy as np
    from PIL import Image

    from seg_core.command import main

    images = work / "images"
    images.mkdir(exist_ok=True)
    noise = np.random.default_rng(0)
    for number in range(4):
        Image.fromarray(noise.integers(0, 255, (96, 96, 3), dtype=np.uint8)).save(images / f"{number}.png")
    code = 0
    for what in (["--overlay", "--csv"], ["--format", "tiff"], ["--format", "geojson"]):
        out = disk / what[1].lstrip("-")
        code = code or main(["predict", str(images), "--model", str(_model(work)), "--out", str(out), *what])
    return code


def save_model(disk: Path, _: Path) -> int:
    """Saves a model file."""
    _save(disk / "model.pt")
    return 0


def export(disk: Path, work: Path) -> int:
    """Exports a model."""
    from seg_core.command import main

    return main(["export", str(_model(work)), "--out", str(disk / "model.pt2"), "--size", "64x64"])


ACTIONS: dict[str, Callable[[Path, Path], int]] = {
    "train": train,
    "predict": predict,
    "save_model": save_model,
    "export": export,
}


def _model(work: Path) -> Path:
    path = work / "model.pt"
    if not path.is_file():
        _save(path)
    return path


def _save(path: Path) -> None:
    from seg_core.labels.metadata import DatasetMetadata
    from seg_core.transforms.preprocessing import Preprocessing
    from seg_models import get_model, save_model

    model = get_model("enet", num_classes=3)
    metadata = DatasetMetadata("Three", ("a", "b", "c"))
    save_model(model, path, metadata=metadata, preprocessing=Preprocessing())


def in_child(action: Callable[[Path, Path], int], disk: Path, work: Path) -> tuple[int, str]:
    """Runs an action in a child process, which has all modules already; returns its exit code and what it wrote."""
    log = work / "log.txt"
    pid = os.fork()
    if pid == 0:
        sink = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        signal.alarm(TIME_LIMIT)
        code = 70
        try:
            code = action(disk, work)
        except BaseException as error:
            from seg_core.errors import UserError

            code = error.exit_code if isinstance(error, UserError) else 70
            print(f"seg: error: {error}" if isinstance(error, UserError) else traceback.format_exc(), file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), log.read_text(errors="replace")


class Disk:
    """A file system of a given size in memory, mounted during the block."""

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.size = path, size

    def __enter__(self) -> "Disk":
        self.path.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={self.size}", "tmpfs", self.path], check=True)
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", self.path], check=True)

    def grow(self) -> None:
        """Makes room."""
        subprocess.run(["mount", "-o", f"remount,size={LARGE}", self.path], check=True)

    def used(self) -> int:
        """Returns the bytes in use."""
        found = os.statvfs(self.path)
        return (found.f_blocks - found.f_bfree) * found.f_frsize


def unreadable(folder: Path) -> list[str]:
    """Returns the files that are half-written, or temporary."""
    import torch
    from PIL import Image

    from seg_core.files.atomic import is_leftover

    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = str(path.relative_to(folder))
        if is_leftover(path):
            found.append(f"{name} is temporary")
            continue
        try:
            if path.suffix == ".pt":
                torch.load(path, weights_only=True, map_location="cpu")
            elif path.suffix == ".pt2":
                torch.export.load(path)
            elif path.suffix in (".png", ".tif", ".jpg"):
                with Image.open(path) as image:
                    image.load()
            elif path.suffix == ".json" and path.name != ".lock.json":
                json.loads(path.read_text())
            elif path.suffix == ".jsonl":
                [json.loads(line) for line in path.read_text().splitlines()]
        except Exception as error:  # whatever it raises, the file cannot be read
            found.append(f"{name}: {type(error).__name__}")
    return found


def report(name: str, work: Path) -> tuple[list[tuple[str, ...]], bool]:
    """Runs an action at each point; returns rows of a table, and whether all is well."""
    disk_path = work / "disk"
    with Disk(disk_path, LARGE) as disk:
        code, log = in_child(ACTIONS[name], disk_path, work)
        if code:
            raise SystemExit(f"{name} fails on an empty disk: {log}")
        whole, expected = disk.used(), _weights(disk_path)
    rows, well = [], True
    for point in range(POINTS):
        size = max(PAGE, whole * point // POINTS // PAGE * PAGE)
        with Disk(disk_path, size) as disk:
            begin = time.monotonic()
            code, log = in_child(ACTIONS[name], disk_path, work)
            seconds = time.monotonic() - begin
            errors = [line for line in log.splitlines() if "error: " in line]
            message = (errors or [""])[-1]
            wrong = unreadable(disk_path)
            if "Traceback" in log or code not in (0, 1, 2) or (code and not errors):
                wrong.append("no sentence: " + log[-300:].replace("\n", " | "))
            after = ""
            if name == "train":
                disk.grow()
                code_after, log_after = in_child(resume, disk_path, work)
                same = code_after == 0 and _weights(disk_path) == expected
                after = "resumed, same weights" if same else f"exit {code_after}"
                if not same:
                    wrong.append("does not resume: " + log_after[-300:].replace("\n", " | "))
                wrong += unreadable(disk_path)
        well &= not wrong
        shown = re.sub(re.escape(str(disk_path)), "DISK", message)[:110]
        rows.append((name, f"{size / 1024:,.0f} KiB", str(code), f"{seconds:.1f} s", shown, after, "; ".join(wrong)))
        print(" | ".join(rows[-1]), flush=True)
    return rows, well


def _weights(disk: Path) -> str:
    """Returns a digest of the weights of a run, which does not depend on time; "" if there is no run."""
    import hashlib

    import torch

    path = disk / "run" / "checkpoints" / "last.pt"
    if not path.is_file():
        return ""
    digest = hashlib.sha256()
    content = torch.load(path, weights_only=True, map_location="cpu")
    for key, value in sorted(content["model"].items()):
        digest.update(key.encode() + value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def main(names: Sequence[str]) -> int:
    """Runs the actions of these names and returns the exit code."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise SystemExit("full_disk.py mounts small file systems in memory: run it on Linux, as root")
    import torch

    import seg_models  # noqa: F401 - imported once for all children
    import seg_train  # noqa: F401

    torch.set_num_threads(1)
    well = True
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            well &= report(name, Path(folder))[1]
    print("all is well" if well else "something is wrong")
    return 0 if well else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("actions", nargs="*", metavar="ACTION", help=f"of {', '.join(ACTIONS)}; default: all")
    given = parser.parse_args().actions
    if unknown := set(given) - set(ACTIONS):
        parser.error(f"unknown {', '.join(sorted(unknown))}; known: {', '.join(ACTIONS)}")
    sys.exit(main(given or list(ACTIONS)))
