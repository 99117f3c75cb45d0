"""Measures what grows over many predictions, epochs and evaluations: memory, open files, threads, shared memory.

    python scripts/leaks.py [predictions | epochs | evaluations ...] [--share 0.1]

Each kind runs in a process of its own and is measured ten times, the first tenth left out. A line tells the first
measure, the last, and what was left in the folder for temporary files. Exits with 1 if files, threads, shared memory or
temporary files grew at all, or memory by more than 5 % and 20 MiB. Memory is what is in use: figures are drawn in
buffers of many sizes, of which the C library keeps up to 50 MiB for reuse, and gives that back before each measure.
"""

import argparse
import contextlib
import ctypes
import gc
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

COUNTS = {"predictions": 2000, "epochs": 30, "evaluations": 200}
MEASURES = 10
GROWTH_MIB, GROWTH_SHARE = 20, 1.05


@dataclass
class Measure:
    """What a process holds at one time."""

    memory_mib: float
    files: int
    threads: int
    shared_files: int
    temporary_files: int

    @classmethod
    def now(cls) -> "Measure":
        """Returns the measure of this process; Linux alone tells it."""
        gc.collect()
        with contextlib.suppress(AttributeError):  # a C library without it, as musl
            ctypes.CDLL(None).malloc_trim(0)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        maps = Path("/proc/self/maps").read_text().splitlines()
        return cls(
            memory_mib=pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
            files=sum(1 for _ in Path("/proc/self/fd").iterdir()),
            threads=sum(1 for _ in Path("/proc/self/task").iterdir()),
            shared_files=sum("/dev/shm/" in line for line in maps),
            temporary_files=sum(1 for _ in Path(tempfile.gettempdir()).rglob("*")),
        )

    def grew(self, first: "Measure") -> bool:
        """Returns whether more is held than in an earlier measure."""
        limit = max(first.memory_mib + GROWTH_MIB, first.memory_mib * GROWTH_SHARE)
        counts = zip(astuple(self)[1:], astuple(first)[1:], strict=True)
        return self.memory_mib > limit or any(now > before for now, before in counts)


def predictions(count: int, work: Path, done: Callable[[], None]) -> None:
    """Predicts images of three sizes, of which one is predicted in tiles."""
    import numpy as np

    from seg_core.labels.metadata import DatasetMetadata
    from seg_core.transforms.preprocessing import Preprocessing
    from seg_models import Predictor, get_model, save_model

    path = work / "model.pt"
    metadata = DatasetMetadata("Three", ("a", "b", "c"))
    save_model(get_model("enet", num_classes=3), path, metadata=metadata, preprocessing=Preprocessing())
    predictor, tiled = Predictor(path, device="cpu"), Predictor(path, device="cpu", tile=64)
    noise = np.random.default_rng(0)
    images = [noise.integers(0, 255, (*size, 3), dtype=np.uint8) for size in ((64, 64), (48, 80), (96, 96))]
    for number in range(count):
        (tiled if number % 3 == 2 else predictor)(images[number % 3])
        done()


CONFIG = {
    "model": {"name": "enet"},
    "data": {
        "check": "off",
        "dataset": {"name": "Shapes", "params": {"length": 4, "size": [32, 32]}},
        "transform": {"train": {"size": [32, 32]}},
        "loader": {"batch_size": 2, "num_workers": 1},
    },
}


def epochs(count: int, work: Path, done: Callable[[], None]) -> None:
    """Trains with a worker process; each epoch has an evaluation, figures and a checkpoint."""
    from seg_train import Logger, Trainer, load_config

    class Told(Logger):
        def on_checkpoint(self, path: Path) -> None:
            assert path.is_file()
            done()

    settings = {"epochs": count, "device": "cpu", "log_every_steps": 1, "keep_checkpoints": 1}
    figures = {"local": {"max_drawing_share": 1.0}}
    paths = {"output": str(work), "run": "run"}
    trainer = Trainer(load_config({**CONFIG, "trainer": settings, "log": figures, "paths": paths}))
    trainer.loggers.loggers["told"] = Told(trainer.folder.path)
    trainer.run()


def evaluations(count: int, work: Path, done: Callable[[], None]) -> None:
    """Evaluates a network of a run on its dataset by the command, with worker processes."""
    from seg_core.command import main
    from seg_train import Trainer, load_config

    settings = {"steps": 1, "device": "cpu", "snapshots": 0}
    paths = {"output": str(work), "run": "run"}
    Trainer(load_config({**CONFIG, "trainer": settings, "paths": paths})).run()
    for number in range(count):
        quiet = ["--json", str(work / "scores.json"), "-s", "device=cpu", "-s", f"num_workers={number % 2}"]
        with (work / "out.txt").open("w") as out, contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            code = main(["eval", str(work / "run"), *quiet])
        if code:
            raise SystemExit(f"seg eval exits with {code}: {(work / 'out.txt').read_text()}")
        done()


KINDS: dict[str, Callable[[int, Path, Callable[[], None]], None]] = {
    "predictions": predictions,
    "epochs": epochs,
    "evaluations": evaluations,
}


def measure(kind: str, count: int) -> bool:
    """Runs a kind in this process and prints what it held; returns whether nothing grew."""
    measures: list[Measure] = []
    number = 0

    def done() -> None:
        nonlocal number
        number += 1
        if number > count // 10 and number % max(1, count // MEASURES) == 0:
            measures.append(Measure.now())

    with tempfile.TemporaryDirectory() as work, tempfile.TemporaryDirectory() as temporary:
        former, tempfile.tempdir = tempfile.tempdir, temporary
        os.environ["TMPDIR"], os.environ["TORCHINDUCTOR_CACHE_DIR"] = temporary, work  # a cache, which stays
        try:
            KINDS[kind](count, Path(work), done)
        finally:
            tempfile.tempdir = former
        left = sorted(path.name for path in Path(temporary).iterdir())
    first, last = measures[0], measures[-1]
    well = not last.grew(first) and not left
    print(f"{kind}: {number} done; first {first}; last {last}; left {left}; {'flat' if well else 'GREW'}", flush=True)
    return well


def main(kinds: Sequence[str], share: float) -> int:
    """Runs each kind in a process of its own and returns the exit code."""
    if sys.platform != "linux":
        raise SystemExit("leaks.py reads /proc: run it on Linux")
    import torch

    torch.set_num_threads(1)
    well = True
    for kind in kinds:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = 0 if measure(kind, max(MEASURES, round(COUNTS[kind] * share))) else 1
            finally:
                sys.stdout.flush()
                os._exit(code)
        well &= os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return 0 if well else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)}; default: all")
    parser.add_argument("--share", type=float, default=1.0, help="share of the counts, for a quick look (default: 1)")
    arguments = parser.parse_args()
    if unknown := set(arguments.kinds) - set(KINDS):
        parser.error(f"unknown {', '.join(sorted(unknown))}; known: {', '.join(KINDS)}")
    sys.exit(main(arguments.kinds or list(KINDS), arguments.share))
