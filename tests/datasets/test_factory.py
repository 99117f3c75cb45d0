"""Datasets by name, and imports without torch."""

import subprocess
import sys

import pytest
from PIL import Image

import seg_datasets
from seg_core import InvalidArgumentError, UnknownNameError, resolve_metadata
from seg_core.registry import DATASETS
from seg_datasets import catalog, get_dataset, list_datasets


def test_list_datasets_has_the_catalog_sorted():
    names = list_datasets()
    assert set(catalog.DATASETS) <= set(names)
    assert names == sorted(names)


@pytest.mark.parametrize("name", sorted(catalog.DATASETS))
def test_catalog_entry_points_to_the_class_of_that_name(name):
    entry = catalog.DATASETS[name]
    assert DATASETS.get(name).__name__ == name
    assert getattr(seg_datasets, name) is DATASETS.get(name)
    assert entry.summary
    if entry.label_set is not None:
        assert resolve_metadata(entry.label_set).num_classes > 1


def test_resolve_metadata_is_beside_the_datasets():
    assert seg_datasets.resolve_metadata is resolve_metadata
    assert "resolve_metadata" in dir(seg_datasets)


def test_get_dataset_shapes_needs_no_root():
    dataset = get_dataset("Shapes", split="val", length=3)
    assert (len(dataset), dataset.split) == (3, "val")


def test_get_dataset_folder_passes_options_on(tmp_path):
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
        for stem in "abcd":
            Image.new("L", (4, 4)).save(tmp_path / part / f"{stem}.png")
    dataset = get_dataset("FolderDataset", tmp_path, split="val", metadata={"labels": ["a"]}, val_fraction=0.5)
    assert len(dataset) == 2


def test_get_dataset_unknown_name_error_suggests_a_similar_one():
    with pytest.raises(UnknownNameError, match=r"unknown dataset 'Camvid'. Did you mean 'CamVid'"):
        get_dataset("Camvid", "somewhere")


def test_get_dataset_without_root_error_asks_for_it():
    with pytest.raises(
        InvalidArgumentError, match=r"'CamVid' needs a root folder: root must be its path, got None; `seg datasets"
    ):
        get_dataset("CamVid")


def test_get_dataset_unknown_option_error_lists_the_options(tmp_path):
    with pytest.raises(
        InvalidArgumentError, match=r"'CamVid' has no parameter 'valfraction'. Allowed: label_set, missing"
    ):
        get_dataset("CamVid", tmp_path, valfraction=0.1)


def test_get_dataset_missing_option_error_names_it(tmp_path):
    with pytest.raises(InvalidArgumentError, match=r"metadata is missing: dataset 'FolderDataset'"):
        get_dataset("FolderDataset", tmp_path)


def test_import_and_list_names_without_torch():
    code = (
        "import sys, seg_datasets, seg_datasets.catalog, seg_datasets.commands.datasets\n"
        "from seg_core.command import main\n"
        "assert main(['datasets']) == 0\n"
        "heavy = {'torch', 'torchvision', 'PIL', 'numpy', 'matplotlib', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
