"""Images larger than memory: how far a process grows beyond its loaded model while it predicts one.

python -m benchmarks.large            # 20000x20000 with ENet; sides, tiles and classes varied with a small network
python -m benchmarks.large --quick    # small images, to check that everything runs
"""

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seg_models.speed.memory import reset_peak, status_mib

__all__ = ["main"]

MOST_MIB = 1.5e9 / 2**20
_ROOT = Path(__file__).resolve().parent.parent


class _Blocks(nn.Module):
    """Almost no work, so that the memory for tiling and blending is what is measured."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.classify = nn.Conv2d(3, num_classes, 1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        logits = self.classify(F.avg_pool2d(images, 8, ceil_mode=True))
        return {"out": F.interpolate(logits, images.shape[-2:], mode="bilinear", align_corners=False)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the measurements of the command line, each image in its own process, prints them, and returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small images: checks that everything runs")
    parser.add_argument("--child", metavar="JSON", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child is not None:
        print(json.dumps(_measure(**json.loads(options.child))))
        return 0
    large, sides = (600, (300, 600)) if options.quick else (20_000, (5_000, 10_000, 20_000))
    print("network  classes  side   tile  from   to     seconds  extra MiB")
    with tempfile.TemporaryDirectory() as folder:
        for side in {*sides, large}:
            _write_image(Path(folder) / f"{side}.tif", side)
        np.save(Path(folder) / f"{large}.npy", np.zeros((large, large, 3), np.uint8))
        most = _report(folder, "enet", 19, large, 512, ".tif", ".tif")
        _report(folder, "blocks", 19, large, 512, ".npy", ".npy")
        for side in sides:
            _report(folder, "blocks", 19, side, 512, ".tif", ".tif")
        for tile in (256, 1024):
            _report(folder, "blocks", 19, sides[1], tile, ".tif", ".tif")
        _report(folder, "blocks", 150, sides[1], 512, ".tif", ".tif")
    print(f"\nENet on {large}x{large}: {most:.0f} MiB (goal 1.5 GB = {MOST_MIB:.0f} MiB: {_verdict(most)})")
    return 0


def _verdict(mib: float) -> str:
    return "met" if mib < MOST_MIB else "missed"


def _report(folder: str, network: str, classes: int, side: int, tile: int, source: str, target: str) -> float:
    case = {"folder": folder, "network": network, "classes": classes, "side": side, "tile": tile}
    command = [
        sys.executable,
        "-m",
        "benchmarks.large",
        "--child",
        json.dumps({**case, "source": source, "target": target}),
    ]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=_ROOT).stdout
    seconds, mib = json.loads(output.splitlines()[-1])
    print(
        f"{network:<8} {classes:>7}  {side:<6} {tile:<5} {source:<6} {target:<6} {seconds:>7.0f}  {mib:>9.0f}",
        flush=True,
    )
    return float(mib)


def _write_image(path: Path, side: int) -> None:
    """Writes a tiled TIFF with smooth shades, band by band."""
    import rasterio

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        options = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "zlevel": 1}
        with rasterio.open(
            path, "w", driver="GTiff", width=side, height=side, count=3, dtype="uint8", **options
        ) as file:
            across = np.sin(np.arange(side) / 150)
            for top in range(0, side, 512):
                rows = np.cos(np.arange(top, min(top + 512, side)) / 170)
                shade = (127 + 120 * rows[:, None] * across).astype(np.uint8)
                window = rasterio.windows.Window(0, top, side, len(rows))
                file.write(np.stack([shade, 255 - shade, shade // 2]), window=window)


def _measure(
    folder: str, network: str, classes: int, side: int, tile: int, source: str, target: str
) -> tuple[float, float]:
    """Returns seconds and MiB for one image, after a small one has warmed up this process."""
    from seg_core import DatasetMetadata, Preprocessing
    from seg_models import Predictor, get_model

    torch.manual_seed(0)
    model = _Blocks(classes) if network == "blocks" else get_model(network, num_classes=classes)
    metadata = DatasetMetadata("numbers", tuple(map(str, range(classes))))
    predictor = Predictor(
        model, metadata=metadata, preprocessing=Preprocessing(), device="cpu", tile=tile, overlap=0.25
    )
    with tempfile.TemporaryDirectory() as results:
        warm_up = np.zeros((64, 64, 3), np.uint8)
        predictor.predict_to_file(warm_up, Path(results) / f"warm{target}")
        gc.collect()
        reset_peak()
        before, begin = status_mib("VmRSS"), time.perf_counter()
        predictor.predict_to_file(Path(folder) / f"{side}{source}", Path(results) / f"labels{target}")
        return time.perf_counter() - begin, status_mib("VmHWM") - before


if __name__ == "__main__":
    sys.exit(main())
