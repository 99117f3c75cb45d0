"""What a scan of masks shows to be wrong or odd."""

import pytest
from PIL import Image

from seg_core import IGNORE, DatasetMetadata, LabelMap
from seg_core.files.images import read_mask
from seg_core.files.scan import MaskFile, scan_dataset
from seg_core.files.scan_findings import describe_scan, find_problems
from tests.core.files.mask_datasets import THREE, TWO, InFiles, InMemory, masks


@pytest.fixture
def write(tmp_path):
    """Writes masks; returns them as files of a dataset."""

    def write(*masks, label_map):
        files = []
        for number, mask in enumerate(masks):
            path = tmp_path / f"{number}.png"
            Image.fromarray(mask).save(path)
            files.append(MaskFile(path, read_mask, None, label_map))
        return files

    return write


def problems(*rows, metadata=THREE, use="learned"):
    return find_problems(scan_dataset(InMemory(*([row] for row in rows), metadata=metadata)), metadata, use)


def only(*rows, metadata=THREE, use="learned"):
    (finding,) = problems(*rows, metadata=metadata, use=use)
    return finding


def test_masks_with_every_class_have_no_problem():
    assert problems([0, 1, 255], [2, 2]) == []


def test_binary_masks_of_0_and_255_are_an_error_with_their_label_map():
    found = only([0, 0, 255], [0, 0, 0], metadata=TWO)
    assert found.is_error
    assert "class 1 (thing) occurs in none of 2 masks, and 0, 255 are the only ids" in found.text
    assert found.label_map == LabelMap({0: 0, 255: 1})


def test_binary_masks_without_the_background_are_an_error_with_their_label_map():
    assert only([1, 255], metadata=TWO).label_map == LabelMap({1: 1, 255: 0})


def test_binary_masks_of_background_alone_are_odd_only():
    found = only([0, 0], metadata=TWO)
    assert not found.is_error
    assert found.text == "class 1 (thing) occurs in none of 1 mask; it cannot be learned"


def test_absent_classes_are_named():
    assert only([0]).text == "classes 1 (leaf), 2 (stone) occur in none of 1 mask; they cannot be learned"
    assert only([0], use="scored").text.endswith("they cannot be scored")


def test_absent_class_beside_an_ignored_id_says_what_that_may_stand_for():
    found = only([0, 1, 255])
    assert not found.is_error
    assert found.text.endswith("If id 255, which is ignored, stands for stone, map it to 2")


def test_masks_that_are_all_ignored_are_an_error():
    found = only([255, 255], [255])
    assert found.is_error
    assert found.text == "all pixels of 2 masks are ignored (ids 255), so nothing can be learned"


def test_ids_one_too_high_are_an_error_with_the_map_that_shifts_them():
    found = only([1, 2], [3, 255])
    assert found.is_error
    assert found.label_map == LabelMap({1: 0, 2: 1, 3: 2, 255: IGNORE})
    assert "mask of sample 1 contains ids that are not allowed: 3 (1 pixel)" in found.text
    assert "The ids in 2 masks are 1-3, 255, and the dataset has 3 classes, 0 to 2" in found.text


def test_one_id_too_many_says_that_a_label_may_be_missing():
    found = only([0, 1, 2, 3])
    assert found.label_map == LabelMap({0: IGNORE, 1: 0, 2: 1, 3: 2})
    assert found.text.endswith("either 0 has no class, or 3 has none, or one label is missing")


def test_ids_without_a_pattern_have_no_label_map():
    assert only([0, 77]).label_map is None


def test_ids_behind_a_label_map_have_no_second_one(write):
    found = scan_dataset(InFiles(write(*masks([10, 255]), label_map=LabelMap({10: 0, 255: IGNORE})), TWO))
    (finding,) = find_problems(found, TWO)
    assert (finding.is_error, finding.label_map) == (True, None)


def test_description_has_sizes_ids_and_share_of_ignored_pixels():
    rows = [[0, 255]], [[1, 1], [2, 2]], [[255]]
    assert describe_scan(scan_dataset(InMemory(*rows))) == (
        "3 masks: 1x1 to 2x2 pixels (width x height), ids 0-2, 255, 28.6% of the pixels ignored, 1 wholly"
    )


# ---- masks of two kinds ----------------------------------------------------------------------------------------------


def test_masks_of_0_1_beside_masks_of_0_255_are_counted_and_named_with_the_map_for_both():
    found = only([0, 1], [0, 0], [0, 255], [0, 1], metadata=TWO)
    assert not found.is_error
    assert found.text == (
        "thing is 1 in 2 masks without 255 (the first is mask of sample 0), and there is no 1 but 255 in 1 (the first "
        "is mask of sample 2): if 255 is thing in these, its pixels are now ignored"
    )
    assert found.label_map == LabelMap({0: 0, 1: 1, 255: 1})


def test_masks_of_two_kinds_are_named_by_their_files(write):
    files = write(*masks([0, 1], [0, 255]), label_map=LabelMap.identity(2, 255))
    (found,) = find_problems(scan_dataset(InFiles(files, TWO)), TWO)
    assert f"the first is mask {files[0].path}" in found.text
    assert f"the first is mask {files[1].path}" in found.text


@pytest.mark.parametrize(
    "rows",
    [
        [[0, 1, 255], [0, 1, 255], [0, 255], [0, 1, 255]],  # ignored borders beside objects
        [[0, 1], [0, 1], [0, 1, 255], [0, 255]],  # images with a padded border
        [[0, 1], [0, 1], [255, 255]],  # a mask that nobody drew
        [[0, 1], [0, 255], *([[0, 0]] * 40)],  # both are rare
    ],
)
def test_healthy_masks_with_ignored_pixels_are_no_problem(rows):
    assert problems(*rows, metadata=TWO) == []


def test_rare_objects_in_many_masks_of_two_kinds_are_told():
    rows = [*([[0, 1]] * 20), *([[0, 255]] * 20), *([[0, 0]] * 60)]
    assert only(*rows, metadata=TWO).label_map == LabelMap({0: 0, 1: 1, 255: 1})


def test_other_split_with_1_keeps_it_in_the_label_map():
    train, val = (scan_dataset(InMemory([[0, high]], metadata=TWO)) for high in (1, 255))
    (found,) = find_problems(val, TWO, "scored", train)
    assert found.label_map == LabelMap({0: 0, 1: 1, 255: 1})
    assert "in the other split (1 mask) thing is 1" in found.text


def test_class_id_that_the_map_for_the_other_split_lacks_is_added_to_it(write):
    label_map = LabelMap({0: 0, 255: 1})
    train, val = write(*masks([0, 255], [0, 1]), label_map=label_map)
    other = scan_dataset(InFiles([train], TWO))
    (found,) = find_problems(scan_dataset(InFiles([val], TWO)), TWO, "scored", other)
    assert found.label_map == LabelMap({0: 0, 1: 1, 255: 1})


def test_many_absent_classes_and_many_ids_are_cut():
    many = DatasetMetadata("many", tuple(f"c{index}" for index in range(200)))
    found = only([0], metadata=many)
    assert found.text.startswith("199 classes, 1 (c1), 2 (c2), 3 (c3), 4 (c4), 5 (c5) and 194 more occur in none of")
    ids = list(range(0, 200, 2))
    assert "36, 38 and 80 more, 0.0%" in describe_scan(scan_dataset(InMemory([ids], metadata=many)))


def test_masks_of_one_class_and_ignored_pixels_are_an_error_for_any_number_of_classes():
    found = only([0, 255], [0])
    assert found.is_error
    assert found.text == (
        "class 0 (ground) is the only one in 2 masks, and all other pixels are ignored (ids 0, 255), so nothing can be "
        "learned"
    )
    assert found.label_map is None
