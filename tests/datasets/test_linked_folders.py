"""Datasets whose folders are links to another disk are read as others are."""

import os

import numpy as np
import pytest

import seg_datasets
from seg_datasets import FolderDataset
from seg_datasets.doctor.check import check
from seg_datasets.doctor.fake import fake


def link_folders(root, elsewhere, depth):
    """Moves the folders `depth` levels below the root to another place, and links them."""
    elsewhere.mkdir()
    folders = sorted(path for path in root.glob("/".join(["*"] * depth)) if path.is_dir())
    assert folders
    for number, folder in enumerate(folders):
        folder.rename(elsewhere / str(number))
        os.symlink(elsewhere / str(number), folder, target_is_directory=True)


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("name", ["FolderDataset", "CamVid", "ADE20K", "Cityscapes"])
def test_linked_folders_are_read(tmp_path, name, depth):
    root = tmp_path / "root"
    fake(name, root, images_per_split=2)

    def read():
        if name == "FolderDataset":
            found = FolderDataset(root, root / "classes.toml", split="train")
        else:
            found = getattr(seg_datasets, name)(root, split="train")
        return [tuple(np.asarray(part) for part in found[place][:2]) for place in range(len(found))]

    plain = read()
    try:
        link_folders(root, tmp_path / "disk", depth)
    except OSError:
        pytest.skip("this system lets only administrators link")
    linked = read()
    assert len(linked) == len(plain) == 2
    for one, other in zip(plain, linked, strict=True):
        for part, same in zip(one, other, strict=True):
            np.testing.assert_array_equal(part, same)
    if name == "FolderDataset":
        assert not check(root).findings
