"""Writes docs/images/shapes.png, the README's figure: images that the demo's network never saw, masks, predictions.

hatch run demo --output runs
hatch run demo-figure runs/demo-<time>
"""

import argparse
import io
import sys
from pathlib import Path

from PIL import Image

from seg_core import draw_snapshots
from seg_datasets import get_dataset
from seg_models import Predictor

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "images" / "shapes.png"
DPI = 70


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder of the demo")
    parser.add_argument("--out", type=Path, default=PAGE, help="file (default: docs/images/shapes.png)")
    arguments = parser.parse_args()

    predictor = Predictor(arguments.run / "model.pt")
    dataset = get_dataset("Shapes", None, split="test", length=3)
    images, masks = zip(*dataset, strict=True)
    predictions = [predictor(image).labels for image in images]
    figure = draw_snapshots(images, masks, predictions, dataset.metadata)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=DPI)
    # a palette: the repository keeps every version of this file, and 256 colors are enough to see it
    Image.open(buffer).convert("RGB").quantize(256).save(arguments.out, optimize=True)
    print(f"wrote {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
