"""FolderDataset.inspect of masks of binary and multilabel tasks: the options that read them."""

import shutil

import pytest
from PIL import Image, ImageFilter

from seg_datasets import FolderDataset
from tests.datasets.class_folders import OPTIONS, planes, write


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("SEG_CACHE", str(tmp_path_factory.mktemp("cache")))


def opened(root, report, split="val"):
    """The dataset as the report says."""
    assert report.fits, report.oddities
    return FolderDataset(root, split=split, **report.options)


@pytest.mark.parametrize(
    ("how", "values", "options"),
    [
        ("files", (1, 1, 1), OPTIONS),
        ("files", (255, 255, 255), {**OPTIONS, "label_map": {0: 0, 255: 1}}),
        ("files", (1, 255, 1), {**OPTIONS, "label_map": {0: 0, 1: 1, 255: 1}}),
        ("pages", (255, 255, 255), {"label_map": {0: 0, 255: 1}}),
        ("npy", (1, 1, 1), {}),
        ("npy", (255, 1, 1), {"label_map": {0: 0, 1: 1, 255: 1}}),
        ("bands", (1, 1, 1), {}),
        ("bits", (1, 1, 1), {"masks_as": "bits"}),
        ("binary", (255, 255, 255), {"label_map": {0: 0, 255: 1}}),
    ],
)
def test_the_options_read_what_the_masks_show(tmp_path, how, values, options):
    root = write(tmp_path, how=how, values=values)
    report = FolderDataset.inspect(root)
    assert report.options == options
    mask = opened(root, report)[0][1].numpy()
    assert mask.tolist() == (planes(3)[0] if how == "binary" else planes(3)).tolist()
    assert not any("cannot be learned" in sentence for sentence in report.oddities)


def test_folders_per_class_name_the_classes_if_nothing_else_does(tmp_path):
    root = write(tmp_path, classes=False)
    report = FolderDataset.inspect(root)
    metadata = {"labels": ["dark", "round", "square"], "task": "multilabel"}
    assert report.options == {**OPTIONS, "metadata": metadata}
    assert any("named by the folders: check them" in sentence for sentence in report.oddities)
    assert not any("left out" in sentence for sentence in report.oddities)
    assert opened(root, report)[0][1].numpy().tolist() == planes(3)[[2, 0, 1]].tolist()


@pytest.mark.parametrize("place", ["masks/{split}/{class}", "masks/{class}/{split}", "masks/{class}"])
def test_folders_per_class_are_found_in_other_places(tmp_path, place):
    root = write(tmp_path)
    for path in root.glob("*/masks/*/*.png"):
        filled = place.replace("{class}", path.parent.name).replace("{split}", path.parents[2].name)
        (root / filled).mkdir(parents=True, exist_ok=True)
        path.rename(root / filled / path.name)
    for path in root.glob("*/images/*.png"):
        folder = root / "images" / (path.parents[1].name if "{split}" in place else "")
        folder.mkdir(parents=True, exist_ok=True)
        path.rename(folder / path.name)
    shutil.rmtree(root / "train")
    shutil.rmtree(root / "val")
    report = FolderDataset.inspect(root)
    assert report.options["masks"] == place
    assert opened(root, report)[0][1].shape[0] == 3


def test_a_missing_file_of_a_class_is_told_with_the_option(tmp_path):
    root = write(tmp_path)
    (root / "train/masks/dark/s1.png").unlink()
    report = FolderDataset.inspect(root)
    assert not report.fits
    assert "s1.png has none of dark" in report.oddities[-1]
    assert "missing_class = 'absent'" in report.oddities[-1]
    assert FolderDataset.inspect(root, **OPTIONS, missing_class="absent").fits


def test_folders_of_multiclass_masks_are_not_taken_for_classes(tmp_path):
    root = write(tmp_path)
    (root / "classes.toml").write_text('labels = ["a", "b"]')
    assert not FolderDataset.inspect(root).fits


def test_splits_that_are_stored_differently_get_a_map_for_both(tmp_path):
    root = write(tmp_path, how="binary")
    for path in root.glob("train/masks/*.png"):
        Image.open(path).point(lambda value: 255 * value).save(path)
    report = FolderDataset.inspect(root)
    assert report.options == {"label_map": {0: 0, 1: 1, 255: 1}}
    assert opened(root, report, "train")[0][1].sum() == planes(0)[0].sum()
    assert opened(root, report)[0][1].sum() == planes(3)[0].sum()


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_soft_masks_of_a_binary_task_are_read_with_a_threshold(tmp_path, suffix):
    root = write(tmp_path, how="binary", values=(255, 255, 255))
    for path in root.glob("*/masks/*.png"):
        soft = Image.open(path).filter(ImageFilter.GaussianBlur(1))
        path.unlink()
        soft.save(path.with_suffix(suffix))
    report = FolderDataset.inspect(root)
    assert report.options == {"threshold": 128}
    assert set(opened(root, report)[0][1].unique().tolist()) == {0, 1}
