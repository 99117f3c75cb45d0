"""The commands of docs/training.md on images of any channels: check, train, evaluate, predict."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seg_core import MetricStore
from seg_core.command import main

DOCS = Path(__file__).resolve().parents[3] / "docs" / "training.md"
pytest.importorskip("rasterio")


def documented_config():
    """The config `bands.toml` of the page."""
    return re.search(r'^```toml title="bands.toml"\n(.*?)^```$', DOCS.read_text(encoding="utf-8"), re.M | re.S)[1]


def predicted_miou(labels, masks):
    """The mIoU of label maps, in files of the same names as their masks."""
    store = MetricStore(3)
    files = sorted(labels.glob("*.png"))
    assert [file.name for file in files] == sorted(file.name for file in masks.glob("*.png"))
    for file in files:
        predicted, mask = (torch.from_numpy(np.array(Image.open(f))).long()[None] for f in (file, masks / file.name))
        store.store_results(mask, predicted)
    return store.summarize()["miou"]


def run_commands(name, channels, *overrides):
    """Runs the commands of the page in the current folder; returns the mIoU of what `seg predict` writes."""
    Path(f"{name}.toml").write_text(documented_config())
    given = [part for override in overrides for part in ("-s", override)]
    images = [] if overrides else ["--images", "16"]
    assert main(["datasets", "fake", "FolderDataset", name, "--channels", str(channels), "--bits", "16", *images]) == 0
    assert main(["datasets", "check", name]) == 0
    root = ["-s", f"data.dataset.root={name}", "-s", f"paths.run={name}"]
    assert main(["train", f"{name}.toml", *root, *given]) == 0
    assert main(["predict", f"{name}/test/images", "--model", f"runs/{name}", "--out", "labels"]) == 0
    return predicted_miou(Path("labels"), Path(name) / "test" / "masks")


@pytest.mark.full
@pytest.mark.parametrize(("name", "channels"), [("bands", 4), ("gray", 1)])
def test_documented_commands_learn_classes_that_differ_in_one_channel(tmp_path, monkeypatch, name, channels):
    monkeypatch.chdir(tmp_path)
    miou = run_commands(name, channels)
    print(f"{name}: mIoU {miou:.3f}")
    assert miou > 0.9


@pytest.mark.parametrize(("name", "channels"), [("bands", 4), ("gray", 1)])
def test_documented_commands_work(tmp_path, monkeypatch, capsys, name, channels):
    monkeypatch.chdir(tmp_path)
    few = ("trainer.epochs=1", "data.transform.train.crops_per_image=2", "data.loader.batch_size=2")
    assert 0 <= run_commands(name, channels, *few) <= 1
    said = capsys.readouterr().err
    assert re.search(rf"images  {channels} channels? \(.*\) from 0 to 10000, mean and std measured on 3 training", said)


def write_tiled(folder, size=300):
    """A folder of tiled GeoTIFFs of four bands, with masks that are tiled too."""
    import rasterio

    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (folder / split / kind).mkdir(parents=True)
        for index in range(2):
            mask = rng.integers(0, 2, (size // 20, size // 20)).astype(np.uint8).repeat(20, 0).repeat(20, 1)
            image = rng.integers(0, 10000, (4, size, size)).astype(np.uint16)
            for kind, pixels in (("images", image), ("masks", mask[None])):
                options = {"driver": "GTiff", "height": size, "width": size, "dtype": pixels.dtype, "tiled": True}
                path = folder / split / kind / f"{index}.tif"
                with rasterio.open(path, "w", count=len(pixels), blockxsize=64, blockysize=64, **options) as file:
                    file.write(pixels)
    channels = 'channels = { names = ["red", "green", "blue", "nir"], range = [0, 10000] }'
    (folder / "classes.toml").write_text(f'labels = ["low", "high"]\n{channels}\n')


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_crops_of_tiled_files_are_those_of_whole_images(tmp_path, monkeypatch):
    from seg_core import SegmentationTransform
    from seg_datasets import FolderDataset
    from seg_train.data.batches import Loader, PlannedSample

    write_tiled(tmp_path)
    dataset = FolderDataset(tmp_path, split="train")
    channels = dataset.metadata.channels
    transform = SegmentationTransform(48, scale_range=(0.5, 1.5), cat_max_ratio=0.7, channels=channels)
    plan = [[PlannedSample(index, place) for index, place in ((0, 0), (1, 1), (0, 2), (1, 3), (0, 4))]]
    windows = []
    read_window = dataset.read_window
    monkeypatch.setattr(dataset, "read_window", lambda *window: windows.append(window) or read_window(*window))
    (parts,) = Loader(dataset, transform, seed=5).read(plan)
    assert windows
    monkeypatch.setattr(dataset, "can_read_windows", lambda index: False)
    (whole,) = Loader(dataset, transform, seed=5).read(plan)
    assert parts.images.dtype == torch.uint16
    assert torch.equal(parts.images, whole.images)
    assert torch.equal(parts.masks, whole.masks)
