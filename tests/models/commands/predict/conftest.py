"""Fixtures of the tests of `seg predict`."""

import numpy as np
import pytest
import torch
from PIL import Image

import seg_models
from seg_core.labels.metadata import DatasetMetadata
from seg_core.transforms.preprocessing import Preprocessing

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def model_file(tmp_path):
    path = tmp_path / "model.pt"
    metadata = DatasetMetadata("two", ("sky", "ground"))
    preprocessing = Preprocessing(scale=0.5)
    torch.manual_seed(0)
    model = seg_models.enet(num_classes=2).eval()
    with torch.no_grad():  # so that both classes occur
        logits = model(preprocessing(RNG.integers(0, 256, (40, 60, 3), np.uint8)))["out"]
        list(model.parameters())[-1][0] -= (logits[:, 0] - logits[:, 1]).median()
    seg_models.save_model(model, path, metadata=metadata, preprocessing=preprocessing)
    return path


@pytest.fixture
def images(tmp_path):
    """A folder of five images, 0.png to 4.png."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(5):
        Image.fromarray(RNG.integers(0, 256, (40, 60, 3), np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def two_images(tmp_path):
    """A folder of b.png, a.jpg, and a file that is no image."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("b.png", "a.jpg"):
        Image.fromarray(RNG.integers(0, 256, (20, 30, 3), np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder
