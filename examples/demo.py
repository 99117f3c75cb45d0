"""Trains ENet on the built-in dataset Shapes, prints its scores, and predicts with the resulting model file.

`hatch run demo` runs it, in one to three minutes on two CPU cores.
"""

import argparse
import sys
import time
from pathlib import Path

from PIL import Image

import seg_datasets
from seg_core import read_model_info
from seg_core.command import main as seg

CONFIG = Path(__file__).parent / "configs" / "shapes-enet.toml"


def save_images(folder: Path, count: int) -> None:
    """Writes images of the test split as files."""
    folder.mkdir(parents=True)
    dataset = seg_datasets.get_dataset("Shapes", None, split="test")
    for index in range(count):
        image, _ = dataset[index]
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"shapes_{index}.png")


def step(*command: str) -> None:
    """Runs one `seg` command; exits if it fails."""
    print("\n$ seg", *command, flush=True)
    if code := seg(command):
        sys.exit(code)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs"), help="folder for the run folder (default: runs)")
    parser.add_argument("-s", "--set", action="append", default=[], metavar="KEY=VALUE", help="passed on to seg train")
    args = parser.parse_args()
    run = args.output / time.strftime("demo-%Y%m%d-%H%M%S")

    overrides = [f"paths.output={args.output.as_posix()}", f"paths.run={run.name}", *args.set]
    step("train", str(CONFIG), *(part for override in overrides for part in ("-s", override)))

    save_images(run / "images", count=4)
    step(
        "predict",
        str(run / "images"),
        "--model",
        str(run / "model.pt"),
        "--out",
        str(run / "predictions"),
        "--overlay",
    )

    parts = "metrics.jsonl, plots, confusion, snapshots, checkpoints, model.pt, predictions"
    print(f"\nThe run folder {run} holds {parts}.")
    print(f"mIoU {read_model_info(run / 'model.pt').metrics['miou']:.3f}")


if __name__ == "__main__":
    main()
