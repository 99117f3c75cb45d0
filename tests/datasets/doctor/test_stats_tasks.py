"""seg_datasets.stats of binary and multilabel tasks."""

import json

import numpy as np
import pytest
from PIL import Image

import seg_datasets
from seg_core import InvalidArgumentError
from seg_core.command import main
from seg_datasets import FolderDataset, fake


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("SEG_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_pixels_of_each_class_are_counted(tmp_path, task, capsys):
    root = fake("FolderDataset", tmp_path / "a", task=task, size=(32, 48), images_per_split=3)
    found = seg_datasets.stats(root).splits["train"]
    masks = np.stack([mask.numpy() for _, mask in FolderDataset(root)])
    masks = masks[:, None] if masks.ndim == 3 else masks
    assert found.pixels.tolist() == (masks == 1).sum((0, 2, 3)).tolist()
    assert found.background.tolist() == (masks == 0).sum((0, 2, 3)).tolist()
    assert found.ignored == (masks == 255).sum()
    assert np.allclose(found.shares, (masks == 1).mean((0, 2, 3)))
    assert found.ignored_share == pytest.approx((masks == 255).mean())
    assert found.images.tolist() == [3] * masks.shape[1]
    assert main(["datasets", "stats", str(root)]) == 0
    text = capsys.readouterr().out
    assert f"of a {task} task, 255 is ignored" in text
    assert "class weights" not in text
    assert main(["datasets", "stats", str(root), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["task"] == task
    assert values["splits"]["train"]["classes"][0]["pixels"] == int(found.pixels[0])


def test_class_weights_of_a_binary_task_are_an_error_that_names_the_pos_weight(tmp_path):
    root = fake("FolderDataset", tmp_path / "a", task="binary", images_per_split=2)
    with pytest.raises(InvalidArgumentError, match="pos_weight"):
        seg_datasets.stats(root).class_weights()


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_inspect_reads_tasks(tmp_path, task):
    root = fake("FolderDataset", tmp_path / "a", task=task, size=(32, 48), images_per_split=2)
    report = FolderDataset.inspect(root)
    assert report.fits
    assert report.oddities == ()
    assert set(report.ids) == {0, 1, 255}
    assert FolderDataset(root, **report.options).metadata.task == task


def test_inspect_finds_the_label_map_of_a_binary_task(tmp_path):
    root = fake("FolderDataset", tmp_path / "a", task="binary", size=(32, 48), images_per_split=2)
    for path in root.glob("*/masks/*.png"):
        Image.fromarray(np.asarray(Image.open(path)) % 255 * np.uint8(255)).save(path)
    report = FolderDataset.inspect(root)
    assert report.fits
    assert report.options["label_map"] == {0: 0, 255: 1}
    assert set(FolderDataset(root, **report.options)[0][1].unique().tolist()) == {0, 1}
