"""The check of masks before the first step of a run."""

import numpy as np
import pytest
import torch
from PIL import Image

from seg_core import (
    ConfigError,
    DatasetMetadata,
    InvalidArgumentError,
    LabelMap,
    LabelOutOfRangeError,
    read_mask,
)
from seg_core.files import mask_sources
from seg_core.files.mask_sources import MaskFile
from seg_core.progress import PlainProgress
from seg_core.registry import DATASETS
from seg_train import Trainer, load_config

TWO = DatasetMetadata("two", ("ground", "thing"))
READ = []


class Own:
    """Eight samples for training and four for validation; their masks hold the ids of `rows`, one after the other."""

    metadata = TWO

    def __init__(self, root=None, split="train", ids=(0, 1), val_ids=None, label_map=None, fail=False):
        self.ids = ids if split == "train" or val_ids is None else val_ids
        self.label_map, self.split, self.fail = label_map or {}, split, fail

    def __len__(self):
        return 8 if self.split == "train" else 4

    def file_names(self, index):
        return (f"{self.split}{index}.png",)

    def __getitem__(self, index):
        READ.append((self.split, index))
        ids = [self.label_map.get(str(i), i) for i in self.ids]
        mask = np.resize(np.array(ids, np.uint8), (16, 16))
        return torch.zeros(3, 16, 16, dtype=torch.uint8), None if self.fail else torch.from_numpy(mask)


class WithoutLabelMap(Own):
    def __init__(self, root=None, split="train", ids=(0, 1)):
        super().__init__(root, split, ids)


class TwoKinds(Own):
    def __getitem__(self, index):
        self.ids = (0, 255) if index % 2 else (0, 1)
        return super().__getitem__(index)


class Drawn(WithoutLabelMap):
    generated = True


@pytest.fixture(autouse=True)
def _registered():
    READ.clear()
    for dataset in (Own, WithoutLabelMap, TwoKinds, Drawn):
        DATASETS.register(dataset.__name__, dataset)


@pytest.fixture
def own(tables):
    """The tables of a run on `Own`, with these params."""

    def own(name="Own", check="auto", **params):
        tables["data"] |= {"check": check, "dataset": {"name": name, "params": params}}
        tables["data"]["transform"]["train"]["size"] = 16
        return tables

    return own


def shown(tables, capsys):
    Trainer(load_config(tables), progress=PlainProgress())
    return capsys.readouterr().err


def test_masks_of_0_and_255_are_an_error_whose_line_makes_the_run_learn(own, tmp_path):
    with pytest.raises(ConfigError) as caught:
        Trainer(load_config(own(ids=[0, 255])))
    message = str(caught.value)
    assert "train: class 1 (thing) occurs in none of 8 masks, and 0, 255 are the only ids" in message
    line = message.partition("set -s '")[2].partition("'")[0]
    assert line == "data.dataset.params.label_map = { 0 = 0, 255 = 1 }"
    assert not list(tmp_path.glob("runs/*"))
    assert Trainer(load_config(own(ids=[0, 255]), [line])).run().scores["iou_per_class"].keys() == {"ground", "thing"}


@pytest.mark.parametrize("options", [{"criterion": {"class_weights": "inverse"}}, {"sampling": {"rare_classes": True}}])
def test_masks_of_0_and_255_are_an_error_also_where_pixels_are_counted(own, options):
    tables = own(ids=[0, 255])
    if "sampling" in options:
        tables["data"] |= options
    else:
        tables |= options
    with pytest.raises(ConfigError, match="label_map = { 0 = 0, 255 = 1 }"):
        Trainer(load_config(tables))


def test_ids_one_too_high_are_an_error_whose_line_shifts_them(own, tmp_path):
    with pytest.raises(LabelOutOfRangeError) as caught:
        Trainer(load_config(own(ids=[1, 2])))
    assert "mask of sample 0 (train0.png) contains ids that are not allowed: 2 (128 pixels)" in str(caught.value)
    line = str(caught.value).partition("set -s '")[2].partition("'")[0]
    assert line.endswith("label_map = { 1 = 0, 2 = 1 }")
    assert not list(tmp_path.glob("runs/*"))
    Trainer(load_config(own(ids=[1, 2]), [line]))


def test_dataset_without_that_option_is_told_to_convert_its_masks(own):
    with pytest.raises(LabelOutOfRangeError, match=r"convert the masks in the dataset, with LabelMap\({1: 0, 2: 1}"):
        Trainer(load_config(own("WithoutLabelMap", ids=[1, 2])))


def test_masks_all_ignored_are_an_error(own):
    with pytest.raises(ConfigError, match=r"all pixels of 8 masks are ignored \(ids 255\), so nothing can be learned"):
        Trainer(load_config(own(ids=[255])))


def test_class_that_never_occurs_is_a_warning(own):
    with pytest.warns(UserWarning, match=r"train: class 1 \(thing\) occurs in none of 8 masks; it cannot be learned"):
        Trainer(load_config(own(ids=[0], val_ids=[0, 1])))


def test_validation_masks_are_checked_too(own, capsys):
    with pytest.raises(LabelOutOfRangeError, match=r"val: mask of sample 0 \(val0.png\) contains .* 9 \(128 pixels\)"):
        Trainer(load_config(own(val_ids=[0, 9])))
    with pytest.raises(ConfigError, match="val: class 1 .* 0, 255 are the only ids: .* cannot be scored.*255 = 1"):
        Trainer(load_config(own(val_ids=[0, 255])))
    with pytest.raises(ConfigError, match="val: all pixels of 4 masks are ignored .*, so nothing can be scored"):
        Trainer(load_config(own(val_ids=[255])))
    assert "val: class 1 (thing) occurs in none of 4 masks; it cannot be scored" in shown(own(val_ids=[0]), capsys)


def test_masks_that_store_the_object_in_two_ways_are_a_warning_whose_line_mends_it(own):
    with pytest.warns(UserWarning) as caught:
        Trainer(load_config(own("TwoKinds")))
    assert "train: thing is 1 in 4 masks without 255 (the first is mask of" in str(caught[0].message)
    assert "val: thing is 1 in 2 masks without 255" in str(caught[1].message)
    assert "(train0.png)" in str(caught[0].message)
    line = str(caught[0].message).partition("set -s '")[2].partition("'")[0]
    assert line == "data.dataset.params.label_map = { 0 = 0, 1 = 1, 255 = 1 }"
    trainer = Trainer(load_config(own("TwoKinds"), [line]))  # without a warning
    assert trainer.run().scores["iou_per_class"].keys() == {"ground", "thing"}


def test_validation_masks_of_the_other_kind_are_told_with_a_map_that_fits_both(own):
    with pytest.raises(ConfigError, match=r"val: .* in the other split \(8 masks\) thing is 1.*0 = 0, 1 = 1, 255 = 1"):
        Trainer(load_config(own(val_ids=[0, 255])))


def test_masks_are_described(own, capsys):
    assert "train: 8 masks: 16x16 pixels (width x height), ids 0-1, 0.0% of the pixels ignored" in shown(own(), capsys)


def test_sample_without_mask_is_an_error_before_the_run(own):
    with pytest.raises(InvalidArgumentError, match=r"sample 0 \(train0.png\) has no mask"):
        Trainer(load_config(own(fail=True)))


def test_check_off_and_drawn_masks_read_nothing(own):
    Trainer(load_config(own(check="off", ids=[0, 255])))
    Trainer(load_config(own("Drawn", ids=[0, 255])))
    assert READ == []


def test_sample_with_an_error_is_followed_by_a_scan_of_all(own, monkeypatch):
    monkeypatch.setattr(mask_sources, "SAMPLE_SIZE", 2)
    with pytest.raises(ConfigError, match="in none of 8 masks"):
        Trainer(load_config(own(check="sample", ids=[0, 255])))


def test_sample_says_how_many_masks_it_read(own, capsys, monkeypatch):
    monkeypatch.setattr(mask_sources, "SAMPLE_SIZE", 2)
    assert "train: 2 of 8 masks" in shown(own(check="sample"), capsys)
    assert READ == [("train", 0), ("train", 4), ("val", 0), ("val", 2)]


def test_class_weights_and_sampling_use_the_scan_of_the_check(own):
    tables = own()
    tables["criterion"] = {"class_weights": "inverse"}
    tables["data"]["sampling"] = {"rare_classes": True}
    trainer = Trainer(load_config(tables))
    assert trainer.balance.weights == [1.0, 1.0]
    assert trainer.balance.pixel_counts.tolist() == [[128, 128]] * 8
    assert len(READ) == 12
    READ.clear()
    Trainer(load_config(own(check="off")))
    assert len(READ) == 8  # for both


def test_resumed_run_is_not_checked_again_and_may_change_the_check(own):
    Trainer(load_config(own())).run()
    READ.clear()
    Trainer(load_config(own(check="full")), resume=True)
    assert READ == []


def test_resumed_run_whose_mask_files_changed_is_checked(own, tmp_path, monkeypatch):
    for number in range(8):
        Image.fromarray(np.resize(np.array([0, 1], np.uint8), (16, 16))).save(tmp_path / f"{number}.png")
    label_map = LabelMap.identity(2, 255)
    read = lambda self, index: MaskFile(tmp_path / f"{index}.png", read_mask, "ids", label_map)  # noqa: E731
    monkeypatch.setattr(Own, "mask_file", read, raising=False)
    Trainer(load_config(own())).run()
    Image.fromarray(np.full((16, 16), 9, np.uint8)).save(tmp_path / "1.png")
    with pytest.raises(LabelOutOfRangeError, match=r"1\.png contains ids that are not allowed: 9 \(256 pixels\)"):
        Trainer(load_config(own()), resume=True)


def test_images_of_different_sizes_without_a_crop_are_an_error_before_the_run(own, tmp_path, monkeypatch):
    def sample(self, index):
        height = 20 if index == 5 else 16
        mask = torch.zeros(height, 16, dtype=torch.uint8)
        mask[0] = 1
        return torch.zeros(3, height, 16, dtype=torch.uint8), mask

    monkeypatch.setattr(Own, "__getitem__", sample)
    tables = own()
    train = tables["data"]["transform"]["train"] = {}
    words = r"different sizes \(height x width 16x16 and 20x16\) and cannot share a batch of 4; set data.transform"
    with pytest.raises(ConfigError, match=words):
        Trainer(load_config(tables))
    train["resize"] = {"shorter_side": 8}
    with pytest.raises(ConfigError, match="height x width 8x8 and 10x8"):
        Trainer(load_config(tables))
    assert not list(tmp_path.glob("runs/*"))
    train["resize"] = {"size": [16, 16]}
    Trainer(load_config(tables))
    train.clear()
    tables["data"]["loader"]["batch_size"] = 1
    Trainer(load_config(tables))


def test_class_weights_of_absent_classes_alone_are_an_error(own, monkeypatch):
    monkeypatch.setattr(Own, "metadata", DatasetMetadata("three", ("a", "b", "never")))
    tables = own()
    tables["criterion"] = {"class_weights": [0, 0, 1]}
    with (
        pytest.warns(UserWarning, match="class 2"),
        pytest.raises(ConfigError, match=r"classes with a weight above 0 \(never\) occur in no training mask"),
    ):
        Trainer(load_config(tables))


def test_config_has_the_four_checks(own):
    with pytest.raises(ConfigError, match="data.check"):
        load_config(own(check="some"))
