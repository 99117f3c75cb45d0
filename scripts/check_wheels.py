"""Builds the five wheels, installs them into clean environments, and uses the installed packages.

Two environments: seg-models only (inference), and all five. Our wheels come from a folder, everything else from the
index, as with a user's `pip install`.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("seg-core", "seg-models", "seg-datasets", "seg-train", "seg-hub")

USE_MODELS = """
import importlib.util, torch, seg_models
assert all(importlib.util.find_spec(m) is None for m in ("seg_train", "seg_datasets", "matplotlib", "rich", "pydantic"))
model = seg_models.get_model("enet", num_classes=5).eval()
with torch.inference_mode():
    assert model(torch.rand(1, 3, 65, 97))["out"].shape == (1, 5, 65, 97)
"""

USE_ALL = """
import seg_datasets, seg_hub.entrypoints, seg_train
from seg_core import resolve_metadata
image, mask = seg_datasets.get_dataset("Shapes", None, split="val")[0]
assert image.shape[-2:] == mask.shape
assert resolve_metadata("CamVid").num_classes == 11
"""

CONFIG = """
[model]
name = "enet"
[data.dataset]
name = "Shapes"
[data.dataset.params]
length = 16
[data.loader]
batch_size = 8
num_workers = 0
[trainer]
steps = 2
"""


def run(*command: str | os.PathLike[str], cwd: Path) -> None:
    print("$", *map(str, command), flush=True)
    # these variables may point to the caller's own packages
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    subprocess.run(command, check=True, cwd=cwd, env=environment)


def clean_environment(folder: Path, wheels: Path, *packages: str) -> Path:
    """Makes a virtual environment with `packages` from `wheels`; returns its folder of programs."""
    run("uv", "venv", "--quiet", "--python", sys.executable, folder, cwd=wheels)
    python = folder / "bin" / "python"
    run("uv", "pip", "install", "--quiet", "--python", python, "--find-links", wheels, *packages, cwd=wheels)
    return python.parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheels = folder / "wheels"
        wheels.mkdir()
        for package in PACKAGES:
            run("uv", "build", "--quiet", "--wheel", "--out-dir", wheels, ROOT / "packages" / package, cwd=folder)
        built = sorted(p.name for p in wheels.glob("*.whl"))
        if len(built) != len(PACKAGES):
            print(f"expected {len(PACKAGES)} wheels, built {built}", file=sys.stderr)
            return 1

        programs = clean_environment(folder / "models", wheels, "seg-models")
        run(programs / "python", "-c", USE_MODELS, cwd=folder)
        run(programs / "seg", "models", cwd=folder)

        programs = clean_environment(folder / "all", wheels, *PACKAGES)
        run(programs / "python", "-c", USE_ALL, cwd=folder)
        (folder / "config.toml").write_text(CONFIG, encoding="utf-8")
        run(programs / "seg", "train", "config.toml", cwd=folder)
        run(programs / "seg", cwd=folder)
    print(f"{len(built)} wheels work from clean environments")
    return 0


if __name__ == "__main__":
    sys.exit(main())
