"""A tiny dataset and a tiny network, for runs of a moment; they use neither seg_datasets nor seg_models."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import tv_tensors

from seg_core import BuildSpec, DatasetMetadata
from seg_core.catalog import DatasetEntry
from seg_core.errors import CorruptFileError
from seg_core.registry import DATASETS, MODELS

METADATA = DatasetMetadata("Stripes", ("dark", "bright", "never"))


class Stripes:
    """Dark and bright stripes at random positions; sample `broken` cannot be read, `wrong` has an id out of range."""

    metadata = METADATA

    def __init__(self, root=None, split="train", length=12, broken=None, wrong=None):
        self.root, self.split, self.length, self.broken, self.wrong = root, split, length, broken, wrong

    def __len__(self):
        return self.length

    def file_names(self, index):
        return (f"{self.split}/{index}.png",)

    def __getitem__(self, index):
        if index == self.broken:
            raise CorruptFileError(f"{self.split}/{index}.png is no image; replace it")
        rng = np.random.default_rng([index, len(self.split)])
        mask = np.repeat(rng.integers(0, 2, (8, 1)), 4, axis=0).repeat(24, axis=1).astype(np.uint8)
        image = (mask[None] * 150 + rng.integers(0, 60, (3, 32, 24))).astype(np.uint8)
        mask[0, 0] = 7 if index == self.wrong else 255
        return tv_tensors.Image(torch.from_numpy(image)), tv_tensors.Mask(torch.from_numpy(mask))


class TinyNet(nn.Module):
    def __init__(self, num_classes, aux, width, boundary):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout2d(0.1)
        )
        self.head = nn.Conv2d(width, num_classes, 1)
        self.aux = nn.Conv2d(width, num_classes, 1) if aux else None
        self.boundary = nn.Conv2d(width, 1, 1) if aux and boundary else None

    def forward(self, images):
        features = self.body(images)
        outputs = {"out": self.head(features)}
        if self.aux is not None:
            outputs["aux"] = self.aux(features)
        if self.boundary is not None:
            outputs["boundary"] = self.boundary(features)
        return outputs


def tiny_net(
    *,
    weights=None,
    progress=True,
    num_classes=2,
    aux_loss=None,
    weights_backbone=None,
    variant=None,
    width=4,
    boundary=False,
):
    model = TinyNet(num_classes, bool(aux_loss), width, boundary)
    arguments = {"num_classes": num_classes, "aux_loss": aux_loss, "width": width, "boundary": boundary}
    model.build_spec = BuildSpec("tiny_net", variant or "paper", arguments)
    return model


@pytest.fixture(autouse=True)
def _tiny_names():
    MODELS.register("tiny_net", tiny_net)
    entry = DatasetEntry(f"{__name__}:Stripes", label_set=None, splits=("train", "val"), needs_root=False)
    DATASETS.register("Stripes", entry)
    DATASETS._objects["Stripes"] = Stripes  # a target cannot name conftest, which is not an importable module


@pytest.fixture
def tiny_runs():
    """The names of the script `tiny_runs.py`, registered in this process too."""
    spec = importlib.util.spec_from_file_location("tiny_runs", Path(__file__).with_name("tiny_runs.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.register()
    return module


@pytest.fixture
def stripes():
    return Stripes


def _tables_for(output):
    """The tables of a config of 6 steps in 2 epochs, with run folders in `output`."""
    return {
        "model": {"name": "tiny_net"},
        "data": {
            "check": "off",  # it would warn in every test that the class `never` does not occur
            "dataset": {"name": "Stripes"},
            "transform": {"train": {"size": [32, 24], "scale_range": [0.7, 1.4]}},
            "loader": {"batch_size": 4, "num_workers": 0},
            "augment": {"hflip": 0.5},
        },
        "optimizer": {"name": "AdamW", "params": {"lr": 0.02}},
        "lr_scheduler": {"name": "PolynomialLR"},
        "evaluation": {"batch_size": 4},
        # full precision, so that scores can be compared with those of a plain evaluation
        "trainer": {"epochs": 2, "device": "cpu", "precision": "fp32", "log_every_steps": 2, "snapshots": 2},
        # figures take most of the time of such short runs
        "log": {"local": {"max_drawing_share": 0}},
        "paths": {"output": str(output), "run": "run"},
    }


@pytest.fixture
def tables(tmp_path):
    """The tables of a config; a test changes what it is about."""
    return _tables_for(tmp_path / "runs")


@pytest.fixture(scope="session")
def tables_for():
    """The function of a folder that returns the tables of a config whose runs are in it."""
    return _tables_for
