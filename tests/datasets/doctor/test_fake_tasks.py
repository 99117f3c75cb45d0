"""Fake folders of binary and multilabel tasks."""

import numpy as np
import pytest

import seg_datasets
from seg_core import InvalidArgumentError
from seg_core.command import main
from seg_datasets import FolderDataset


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("SEG_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.mark.parametrize("size", [(24, 32), (64, 64), (128, 96)])
def test_vessels_are_thin_and_are_seen(tmp_path, size):
    root = seg_datasets.fake("FolderDataset", tmp_path / "v", task="binary", size=size, images_per_split=6)
    train, val = FolderDataset(root), FolderDataset(root, split="val")
    assert train.metadata.task == "binary"
    assert train.metadata.labels == ("vessel",)
    shares = []
    for dataset in (train, val):
        assert len(dataset) == 6
        for image, mask in dataset:
            assert image.shape == (3, *size)
            assert mask.shape == size
            assert set(mask.unique().tolist()) == {0, 1, 255}
            shares.append((mask == 1).sum().item() / (mask != 255).sum().item())
            assert image[0][mask == 1].float().mean() + 40 < image[0][mask == 0].float().mean()
    assert 0.04 < np.mean(shares) < 0.09


def test_discs_overlap_in_every_image(tmp_path):
    root = seg_datasets.fake("FolderDataset", tmp_path / "d", task="multilabel", size=(48, 64), images_per_split=8)
    dataset = FolderDataset(root)
    assert (dataset.metadata.task, dataset.metadata.num_classes) == ("multilabel", 3)
    images = []
    for image, mask in dataset:
        assert mask.shape == (3, 48, 64)
        assert ((mask == 1).sum(0) > 1).any()
        assert ((mask == 1).flatten(1).any(1)).all()
        assert (mask[2] == 255).any()
        for channel, plane in zip(image.float(), mask, strict=True):
            assert channel[plane == 1].min() > channel[plane == 0].max()
        images.append(image.numpy())
    assert len({image.tobytes() for image in images}) == 8


def test_command_writes_a_task(tmp_path, capsys):
    command = ["datasets", "fake", "FolderDataset", str(tmp_path / "a"), "--task", "binary", "--images", "2"]
    assert main([*command, "--size", "24", "32"]) == 0
    assert 'task = "binary"' in (tmp_path / "a/classes.toml").read_text()
    assert len(FolderDataset(tmp_path / "a")) == 2
    capsys.readouterr()


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("CamVid", {}, "leave it out for CamVid"),
        ("FolderDataset", {"faults": ["jpeg-mask"]}, "leave it out for faults"),
        ("FolderDataset", {"channels": 4}, "leave it out for channels = 4"),
    ],
)
def test_tasks_are_of_a_plain_folder(tmp_path, name, options, text):
    with pytest.raises(InvalidArgumentError, match=text):
        seg_datasets.fake(name, tmp_path / "a", task="binary", **options)
