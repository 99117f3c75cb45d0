"""The memory that a check takes grows by few bytes with each pair, while files are listed, too."""

import contextlib
import functools
import os
import tracemalloc

import numpy as np
import pytest

import seg_datasets
from seg_datasets import ADE20K, FolderDataset
from seg_datasets.doctor.findings_files import file_findings
from seg_datasets.doctor.sources import open_source
from seg_datasets.doctor.targets import find_target
from tests.datasets.doctor.check_trees import save

FEW, MANY = 400, 1600
LABELS = {"labels": ["ground", "thing", "other"]}
# a header of 54 bytes, and 8 rows of 8 pixels in three channels
BMP = bytes.fromhex("424df600000000000000360000002800000008000000080000000100180000000000c0000000") + bytes(16)
# layout -> folder of images -> folder of their masks, and share of the pairs
LAYOUTS = {
    "flat": {"images": ("masks", 1.0)},
    "splits": {"train/images": ("train/masks", 0.8), "val/images": ("val/masks", 0.2)},
    "ADE20K": {
        "images/training": ("annotations/training", 0.8),
        "images/validation": ("annotations/validation", 0.2),
    },
}


def write(root, count, folders, suffix=".bmp"):
    """Images of noise, which differ, and one mask under many names."""
    save(np.array([[0, 1], [2, 1]], np.uint8).repeat(4, 0).repeat(4, 1), root / "mask.png")
    rng = np.random.default_rng(0)
    for images, (masks, part) in folders.items():
        (root / images).mkdir(parents=True)
        (root / masks).mkdir(parents=True)
        for number in range(int(count * part)):
            (root / images / f"{number:06}{suffix}").write_bytes(BMP + rng.bytes(192))
            os.link(root / "mask.png", root / masks / f"{number:06}.png")
    return root


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """Returns the folders of a layout, with few and with many pairs; each is written once."""

    @functools.cache
    def of(layout):
        suffix = ".jpg" if layout == "ADE20K" else ".bmp"
        return [write(tmp_path_factory.mktemp("tree"), count, LAYOUTS[layout], suffix) for count in (FEW, MANY)]

    return of


def growth(action, roots):
    """Returns the bytes per pair by which the peak of an action grows."""
    action(roots[0])  # what is imported and kept at the first call
    peaks = []
    for root in roots:
        tracemalloc.start()
        try:
            action(root)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    return (peaks[1] - peaks[0]) / (MANY - FEW)


def test_a_check_takes_few_bytes_per_pair(trees, monkeypatch):
    # what processes have read ahead is bounded, and of so few pairs it would be most of the memory
    monkeypatch.setattr("seg_datasets.doctor.check.workers_for", lambda _: contextlib.nullcontext())

    def check(root):
        assert not seg_datasets.check(root, classes=LABELS).findings

    assert growth(check, trees("flat")) < 230


@pytest.mark.parametrize("layout", LAYOUTS)
def test_listing_takes_few_bytes_per_pair(trees, layout):
    name, classes = ("ADE20K", None) if layout == "ADE20K" else ("FolderDataset", LABELS)

    def listed(root):
        assert not file_findings(open_source(find_target(name, root, None, classes, None, None, {}), None, {}))

    assert growth(listed, trees(layout)) < 150


@pytest.mark.parametrize("layout", ["flat", "ADE20K"])
def test_opening_takes_few_bytes_per_pair(trees, layout):
    def opened(root):
        assert len(ADE20K(root) if layout == "ADE20K" else FolderDataset(root, LABELS)) >= 0.8 * FEW

    assert growth(opened, trees(layout)) < 150
