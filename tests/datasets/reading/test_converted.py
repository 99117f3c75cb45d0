"""Masks that converters of other toolkits wrote, in every official dataset."""

import shutil
import warnings

import pytest
from PIL import Image

from seg_core.errors import DatasetNotFoundError
from seg_core.registry import DATASETS
from seg_datasets import catalog
from seg_datasets.doctor.fake import fake
from seg_datasets.reading.base import OfficialDataset

NAMES = sorted(name for name in catalog.DATASETS if issubclass(DATASETS.get(name), OfficialDataset))
ENDINGS = ("_labelTrainIds", "_color", "_instanceIds", "_vis")


def opened(name, root, split, **options):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "SBD .* contains images of VOC")
        return DATASETS.get(name)(root, split, **options)


def files(dataset):
    return [dataset.file_names(index) for index in range(len(dataset))]


@pytest.mark.parametrize("name", NAMES)
def test_files_with_converted_masks_and_images_beside_them_are_the_same(tmp_path, name):
    root = fake(name, tmp_path / "data")
    splits = DATASETS.get(name).edition.layout.splits
    before = {split: files(opened(name, root, split)) for split in splits}
    for path in {path for pairs in before.values() for paths in pairs for path in paths}:
        stem, _, suffix = path.rpartition(".")
        for ending in ENDINGS:
            shutil.copy(path, f"{stem}{ending}.{suffix}")
    assert {split: files(opened(name, root, split)) for split in splits} == before


@pytest.mark.parametrize("missing", ["error", "skip"])
def test_open_with_converted_masks_alone_error_says_so_and_what_to_do(tmp_path, missing):
    root = fake("COCOStuff", tmp_path / "coco")
    for path in (root / "annotations" / "train2017").glob("*.png"):
        path.rename(path.with_name(f"{path.stem}_labelTrainIds.png"))
    words = (
        r"COCOStuff train in .*: expected masks annotations/train2017/\*.png or .* \(0 found\), and found only 2 "
        r"masks that a converter of another toolkit wrote "
        r"\(000000000009_labelTrainIds.png, .*\); they have other ids. To fix this, get train2017.zip .* FolderDataset"
    )
    with pytest.raises(DatasetNotFoundError, match=words):
        opened("COCOStuff", root, "train", missing=missing)


def test_open_cityscapes_with_train_ids_alone_error_says_so(tmp_path):
    root = fake("Cityscapes", tmp_path / "city")
    for path in (root / "gtFine" / "train").rglob("*.png"):
        path.rename(path.with_name(path.name.replace("_labelIds", "_labelTrainIds")))
    with pytest.raises(
        DatasetNotFoundError, match=r"\(0 found\), and found only 2 masks .*aachen_.*_gtFine_labelTrainIds.png"
    ):
        opened("Cityscapes", root, "train")


def test_open_with_one_converted_mask_without_its_original_is_a_pair_error(tmp_path):
    root = fake("COCOStuff", tmp_path / "coco")
    mask = root / "annotations" / "train2017" / "000000000009.png"
    mask.rename(mask.with_name("000000000009_labelTrainIds.png"))
    with pytest.raises(
        DatasetNotFoundError, match="do not pair; images without a mask: 1 .*000000000009_labelTrainIds"
    ):
        opened("COCOStuff", root, "train")


def test_name_that_ends_like_a_converted_one_without_an_original_is_read(tmp_path):
    root = fake("CamVid", tmp_path / "camvid")
    for folder in ("train", "trainannot"):
        Image.new("L", (8, 6)).save(root / "CamVid" / folder / "seq_color.png")
    (root / "CamVid" / "train.txt").unlink()
    assert any("seq_color.png" in paths[1] for paths in files(opened("CamVid", root, "train")))
