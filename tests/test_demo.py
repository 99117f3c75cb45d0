"""The README's demo with two steps of training, and the figure that is drawn from its run."""

import re
import subprocess
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "examples" / "demo.py"
FIGURE = ROOT / "scripts" / "write_demo_figure.py"
SHORT = ("trainer.steps=2", "data.dataset.params.length=32", "data.loader.num_workers=0", "trainer.device=cpu")


def test_demo_writes_what_it_lists_and_ends_with_the_miou(tmp_path):
    overrides = [part for override in SHORT for part in ("-s", override)]
    command = [sys.executable, str(DEMO), "--output", str(tmp_path / "runs"), *overrides]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"mIoU 0\.\d{3}", done.stdout.splitlines()[-1])

    (run,) = (tmp_path / "runs").iterdir()
    for name in ("metrics.jsonl", "config.toml", "environment.json", "model.pt", "plots/metrics.png"):
        assert (run / name).is_file(), name
    assert list((run / "confusion").glob("*.png"))
    assert list((run / "snapshots").glob("*.png"))
    predicted = sorted(p.name for p in (run / "predictions").iterdir())
    assert predicted == [f"shapes_{i}{suffix}" for i in range(4) for suffix in (".png", "_overlay.jpg")]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["runs"]  # nothing beside the run folder

    figure = tmp_path / "shapes.png"
    command = [sys.executable, str(FIGURE), str(run), "--out", str(figure)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with Image.open(figure) as image:
        assert image.width > image.height > 400
