"""Scans of the masks of binary and multilabel tasks, and what they show to be wrong."""

import numpy as np
import pytest
from PIL import Image

from seg_core import DatasetMetadata, InvalidArgumentError, LabelMap
from seg_core.files.images import read_mask
from seg_core.files.scan import MaskFile, scan_dataset
from seg_core.files.scan_findings import describe_scan, find_problems
from tests.core.files.mask_datasets import InFiles, InMemory, masks

VESSELS = DatasetMetadata("vessels", ("vessel",), task="binary")
DISCS = DatasetMetadata("discs", ("one", "two", "three"), task="multilabel")


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SEG_CACHE", str(tmp_path / "cache"))


def binary(*rows, **options):
    scan = scan_dataset(InMemory(*masks(*rows), metadata=VESSELS))
    return find_problems(scan, VESSELS, **options)


def test_binary_masks_count_object_background_and_ignored():
    scan = scan_dataset(InMemory(*masks([0, 1, 1, 255], [0, 0, 0, 0]), metadata=VESSELS))
    assert scan.task == "binary"
    assert scan.pixels.tolist() == [[2], [0]]
    assert scan.background.tolist() == [[1], [4]]
    assert scan.ignored.tolist() == [1, 0]
    assert find_problems(scan, VESSELS) == []
    assert describe_scan(scan) == "2 masks: 4x1 pixels (width x height), ids 0-1, 255, 12.5% of the pixels ignored"


def test_multilabel_masks_count_each_plane(tmp_path):
    planes = np.zeros((3, 2, 2), np.uint8)
    planes[0, 0], planes[1, :, 0], planes[1, 0, 0] = 1, 1, 255  # one and two overlap
    scan = scan_dataset(InMemory(planes, metadata=DISCS))
    assert scan.pixels.tolist() == [[2, 1, 0]]
    assert scan.background.tolist() == [[2, 2, 4]]
    assert scan.ignored.tolist() == [1]
    assert scan.sizes.tolist() == [[2, 2]]
    assert "8.3% of the pixels ignored" in describe_scan(scan)
    (found,) = find_problems(scan, DISCS)
    assert not found.is_error
    assert found.text == "class 2 (three) occurs in none of 1 mask; it cannot be learned"
    # of files the counts are the same, and are remembered
    path = tmp_path / "a.npy"
    np.save(path, planes)
    file = MaskFile(path, np.load, "planes", LabelMap.identity(2, 255), planes=3)
    for _ in range(2):
        again = scan_dataset(InFiles([file], DISCS))
        assert (again.pixels == scan.pixels).all()
        assert (again.background == scan.background).all()


def test_multilabel_masks_need_a_plane_per_class():
    with pytest.raises(InvalidArgumentError, match=r"shape \(2, 4, 4\).*\(3, H, W\)"):
        scan_dataset(InMemory(np.zeros((2, 4, 4)), metadata=DISCS))


def test_binary_masks_of_0_and_255_are_an_error_whose_map_works(tmp_path):
    (found,) = binary([0, 0, 255], [0, 0, 0])
    assert found.is_error
    assert found.kind == "binary-0-255"
    assert "vessel is 1 in masks of a binary task, and 1 occurs in none of 2 masks" in found.text
    assert found.label_map == LabelMap({0: 0, 255: 1})
    Image.fromarray(masks([0, 0, 255])[0]).save(tmp_path / "a.png")
    scan = scan_dataset(InFiles([MaskFile(tmp_path / "a.png", read_mask, None, found.label_map)], VESSELS))
    assert find_problems(scan, VESSELS) == []
    assert (scan.pixels.tolist(), scan.ignored.tolist()) == ([[1]], [0])


def test_ids_of_a_binary_task_are_never_one_too_high():
    (found,) = binary([1, 2], [2, 1])
    assert found.kind == "id-out-of-range"
    assert found.label_map == LabelMap({1: 0, 2: 1})
    assert "a binary task: 0 is the background, 1 vessel, and 255 is ignored" in found.text
    (found,) = binary([0, 1, 2])
    assert found.label_map is None


def test_smoothed_masks_of_a_binary_task_name_the_threshold():
    (found,) = binary([0, 40, 130, 255])
    assert found.label_map is None
    assert "threshold = 128" in found.text


def test_a_binary_class_in_no_mask_and_a_background_in_none_are_warnings():
    (found,) = binary([0, 0])
    assert (found.kind, found.is_error) == ("class-absent", False)
    (found,) = binary([1, 1])
    assert (found.kind, found.is_error) == ("class-absent", False)
    assert found.text.startswith("every pixel of 1 mask that is not ignored is vessel (1)")
    (found,) = binary([255, 255])
    assert (found.kind, found.is_error) == ("all-ignored", True)


def test_binary_masks_of_two_encodings_are_told():
    (found,) = binary([0, 1], [0, 255], [0, 1], [0, 255])
    assert found.label_map == LabelMap({0: 0, 1: 1, 255: 1})


def of_planes(*masks, use="learned"):
    """What is wrong with masks of rows of a pixel or more, a row per class."""
    arrays = [np.array(rows, np.uint8)[:, None] for rows in masks]
    return find_problems(scan_dataset(InMemory(*arrays, metadata=DISCS)), DISCS, use)


def test_a_class_whose_objects_are_255_beside_others_of_1_is_an_error_whose_map_works():
    masks = ([0, 1], [0, 255], [1, 0]), ([0, 1], [0, 0], [1, 0]), ([1, 1], [255, 0], [0, 0])
    found = of_planes(*masks)
    (one,) = [finding for finding in found if finding.kind == "binary-0-255"]
    assert one.is_error
    assert one.text == (
        "class 1 (two) is 1 in none of 3 masks, and 255 in 2 masks (the first is mask of sample 0), where it is "
        "ignored, so it cannot be learned"
    )
    assert one.label_map == LabelMap({0: 0, 1: 1, 255: 1})
    assert of_planes(*([one.label_map(np.array(row, np.uint8)) for row in rows] for rows in masks)) == []
    # what is scored may lack a class
    (one,) = of_planes(*masks, use="scored")
    assert (one.is_error, one.spoils_scores) == (False, False)


def test_no_map_is_named_if_another_class_has_ignored_pixels():
    (one,) = of_planes(([0, 1, 255], [0, 0, 1], [0, 0, 255]), ([0, 1, 0], [0, 1, 1], [0, 0, 0]))
    assert (one.kind, one.label_map, one.is_error) == ("binary-0-255", None, True)
    assert one.text.endswith("255 is meant in the masks of others, so save these with 0 and 1")


def test_a_class_that_is_1_in_some_masks_and_255_in_others_is_told():
    masks = [([0, 1], [0, raw], [0, 1]) for raw in (1, 255, 1, 255)]
    (one,) = of_planes(*masks)
    assert not one.is_error
    assert one.text.startswith("two is 1 in 2 masks without 255 in its plane (the first is mask of sample 0), and")
    assert one.label_map == LabelMap({0: 0, 1: 1, 255: 1})


@pytest.mark.parametrize(
    "masks",
    [
        # outside of the field of view
        [([0, 1, 255], [0, 0, 255], [0, 1, 255]), ([0, 0, 255], [0, 0, 255], [0, 1, 255])],
        # edges beside objects
        [([0, 1, 0], [0, 1, 255], [0, 1, 0]), ([0, 1, 0], [0, 1, 255], [0, 1, 0])],
    ],
)
def test_ignored_pixels_of_planes_that_are_meant_are_no_error(masks):
    assert not any(found.kind == "binary-0-255" for found in of_planes(*masks))


def test_a_class_that_is_ignored_everywhere_is_told():
    (one,) = of_planes(([0, 1], [255, 255], [0, 1]), ([0, 1], [255, 255], [0, 1]))
    assert (one.kind, one.is_error) == ("all-ignored", False)
    assert one.text == "all pixels of class 1 (two) are ignored in 2 masks; it cannot be learned"
