"""The trainer's loop over many steps: whether its cost per image and its memory stay constant.

python -m benchmarks.loop                        # cost per image for 1k, 10k and 100k small images; memory
python -m benchmarks.loop --camvid PATH/TO/CamVid # also how long ENet on CamVid waits for data
"""

import argparse
import itertools
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from seg_core import BuildSpec
from seg_core.registry import MODELS
from seg_train import Trainer, load_config

__all__ = ["main"]

LENGTHS = (1_000, 10_000, 100_000)
EPOCHS = 20
MOST_WAIT = 0.05


class _OneConv(nn.Module):
    """Almost no work, so that the cost of the loop itself shows."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, num_classes, 3, padding=1)
        self.build_spec = BuildSpec("one_conv", "paper", {"num_classes": num_classes})

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"out": self.head(images)}


def _one_conv(*, num_classes: int, **others: object) -> nn.Module:  # noqa: ARG001 - the signature of builders
    return _OneConv(num_classes)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the measurements of the command line, prints them, and returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loop", description=__doc__)
    parser.add_argument("--camvid", type=Path, metavar="ROOT", help="folder of CamVid")
    parser.add_argument("--quick", action="store_true", help="few samples: checks that everything runs")
    options = parser.parse_args(arguments)
    if "one_conv" not in MODELS:
        MODELS.register("one_conv", _one_conv)
    lengths = [n // 20 for n in LENGTHS[:2]] if options.quick else LENGTHS
    with tempfile.TemporaryDirectory() as folder:
        _report_cost(lengths, Path(folder))
        _report_memory(3 if options.quick else EPOCHS, Path(folder))
        if options.camvid is not None:
            _report_wait(options.camvid, 2, Path(folder))
    return 0


def _config(folder: Path, name: str, length: int, **trainer: Any) -> dict[str, Any]:
    return {
        "model": {"name": "one_conv"},
        "data": {
            "dataset": {"name": "Shapes", "params": {"length": length, "size": [32, 32]}},
            "transform": {"train": {"size": [32, 32]}},
            "loader": {"batch_size": 50, "num_workers": 1},
        },
        "trainer": {"device": "cpu", "log_every_steps": 20, "snapshots": 0, **trainer},
        "evaluation": {"every_epochs": 10**6},
        "log": {"local": {"max_drawing_share": 0}},
        "paths": {"output": str(folder), "run": name},
    }


def _rows(run_dir: Path, kind: str) -> list[dict[str, Any]]:
    lines = (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


def _report_cost(lengths: Sequence[int], folder: Path) -> None:
    """Trains one epoch on datasets of growing length, without the first rows of each, in which workers start."""
    print("images      ms per image, median of rows    ratio to the first")
    first = None
    for length in lengths:
        run_dir = Trainer(load_config(_config(folder, f"cost-{length}", length, epochs=1))).run().run_dir
        rows = _rows(run_dir, "step")
        cost = statistics.median(1000 / row["images_per_second"] for row in rows[len(rows) // 5 :])
        first = first or cost
        print(f"{length:>7}  {cost:>14.3f}  {cost / first:>24.2f}x", flush=True)


def _report_memory(epochs: int, folder: Path) -> None:
    run_dir = Trainer(load_config(_config(folder, "memory", 2_000, epochs=epochs))).run().run_dir
    memory = [row["memory_mib"] for row in _rows(run_dir, "epoch")]
    print(f"\nmemory of the process after each of {epochs} epochs, MiB: {' '.join(f'{m:.0f}' for m in memory)}")
    rises = [b - a for a, b in itertools.pairwise(memory[len(memory) // 2 :])]
    print(f"mean change per epoch in the second half: {statistics.mean(rises):+.2f} MiB")


def _report_wait(root: Path, epochs: int, folder: Path) -> None:
    config = Path(__file__).parents[1] / "examples" / "configs" / "camvid-enet.toml"
    overrides = [
        f"data.dataset.root={root.as_posix()}", "data.loader.num_workers=2", f"trainer.epochs={epochs}",
        f"paths.output={folder.as_posix()}", "paths.run=wait", "log.local.max_drawing_share=0",
        "lr_scheduler.warmup_steps=0",  # the config has more of them than this run has steps
    ]  # fmt: skip
    run_dir = Trainer(load_config(config, overrides)).run().run_dir
    rows = _rows(run_dir, "step")[1:]  # the first one includes the start of the workers
    wait = statistics.mean(row["data_wait"] for row in rows)
    speed = statistics.median(row["images_per_second"] for row in rows)
    verdict = "met" if wait <= MOST_WAIT else "missed"
    print(
        f"\nENet on CamVid, two workers: {speed:.1f} images/s, data wait {wait:.1%} (goal {MOST_WAIT:.0%}: {verdict})"
    )


if __name__ == "__main__":
    sys.exit(main())
