"""COCO-Stuff: values without a class, label sets, layouts, download."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from seg_core.errors import LabelOutOfRangeError, UnknownNameError
from seg_core.labels.conversion import label_map_between
from seg_core.labels.metadata import resolve_metadata
from seg_datasets.doctor.fake import fake
from seg_datasets.official.coco_stuff import COCOStuff
from tests.datasets.trees import with_archives_at

HOLES = [11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90]
# value in a mask -> class of VOC
VOC = {
    4: "aeroplane", 1: "bicycle", 15: "bird", 8: "boat", 43: "bottle", 5: "bus", 2: "car", 16: "cat", 61: "chair",
    20: "cow", 66: "diningtable", 17: "dog", 18: "horse", 3: "motorbike", 0: "person", 63: "pottedplant", 19: "sheep",
    62: "sofa", 6: "train", 71: "tvmonitor",
}  # fmt: skip


@pytest.fixture
def root(tmp_path):
    return fake("COCOStuff", tmp_path / "coco")


def write_mask(root, values, filler=0):
    """Writes the first mask of train: the values, then only the filler."""
    ids = np.full((24, 32), filler, np.uint8)
    ids.flat[: len(values)] = values
    Image.fromarray(ids).save(root / "annotations" / "train2017" / "000000000009.png")


def first_ids(dataset, count):
    return dataset[0][1].flatten()[:count].tolist()


def test_item_values_without_the_holes_become_0_to_170(root):
    values = [value for value in range(182) if value not in HOLES]
    write_mask(root, [*values, 255])
    assert first_ids(COCOStuff(root), 172) == [*range(171), 255]


def test_item_values_around_holes_have_their_names(root):
    expected = {0: "person", 10: "fire hydrant", 12: "stop sign", 89: "toothbrush", 91: "banner", 181: "wood"}
    write_mask(root, list(expected))
    dataset = COCOStuff(root)
    assert [dataset.metadata.labels[i] for i in first_ids(dataset, len(expected))] == list(expected.values())


@pytest.mark.parametrize("hole", HOLES)
@pytest.mark.parametrize("label_set", [None, "COCOStuff27", "VOC"])
def test_mask_with_the_value_of_a_dropped_class_is_an_error(root, hole, label_set):
    write_mask(root, [hole, hole])
    with pytest.raises(
        LabelOutOfRangeError, match=rf"000000000009.png contains .*: {hole} \(2 pixels\). Allowed: 0-10, 12"
    ):
        COCOStuff(root, label_set=label_set)[0]


def test_label_set_27_gives_the_supercategories(root):
    expected = {
        0: "person-things", 7: "vehicle-things", 17: "animal-things", 52: "food-things", 61: "furniture-things",
        71: "electronic-things", 91: "textile-stuff", 107: "furniture-stuff", 120: "food-stuff", 156: "sky-stuff",
        154: "water-stuff", 172: "wall-stuff", 181: "solid-stuff",
    }  # fmt: skip
    write_mask(root, [*expected, 255])
    dataset = COCOStuff(root, label_set="COCOStuff27")
    *ids, ignored = first_ids(dataset, len(expected) + 1)
    assert [dataset.metadata.labels[index] for index in ids] == list(expected.values())
    assert ignored == 255


def test_label_set_27_has_12_things_and_15_stuff_each_in_use():
    labels = resolve_metadata("COCOStuff27").labels
    assert [label.rsplit("-")[1] for label in labels] == ["things"] * 12 + ["stuff"] * 15
    used = {index for index in label_map_between("COCOStuff", "COCOStuff27").mapping.values() if isinstance(index, int)}
    assert used == set(range(27))


def test_label_set_27_things_and_stuff_do_not_mix():
    labels = resolve_metadata("COCOStuff27").labels
    mapping = label_map_between("COCOStuff", "COCOStuff27").mapping
    assert all(labels[mapping[index]].endswith("-things" if index < 80 else "-stuff") for index in range(171))


def test_label_set_voc_gives_its_20_objects_and_background(root):
    values = [value for value in range(182) if value not in HOLES]
    write_mask(root, [*values, 255])
    dataset = COCOStuff(root, label_set="VOC")
    *ids, ignored = first_ids(dataset, 172)
    assert dataset.metadata == resolve_metadata("VOC")
    labels = [dataset.metadata.labels[index] for index in ids]
    assert dict(zip(values, labels, strict=True)) == {value: VOC.get(value, "background") for value in values}
    assert ignored == 255


def test_label_set_without_conversion_error_names_both(root):
    with pytest.raises(UnknownNameError, match="no conversion from label set 'COCOStuff' to 'LIP'"):
        COCOStuff(root, label_set="LIP")


def test_layout_all_zips_unpacked_in_one_folder(tmp_path, root):
    flat = tmp_path / "flat"
    for source in ("images", "annotations"):
        shutil.copytree(root / source, flat, dirs_exist_ok=True)
    dataset = COCOStuff(flat)
    assert len(dataset) == 2
    assert dataset.file_names(0) == tuple(str(flat / "train2017" / f"000000000009.{end}") for end in ("jpg", "png"))
    assert torch.equal(dataset[0][1], COCOStuff(root)[0][1])


@pytest.mark.parametrize(("split", "needed"), [("train", "train2017"), ("val", "val2017")])
def test_download_unpacks_images_and_masks_into_the_expected_folders(tmp_path, root, serve, split, needed):
    web = tmp_path / "web"
    for folder in ("train2017", "val2017"):
        shutil.make_archive(web / folder, "zip", root / "images", folder)
    shutil.make_archive(web / "stuffthingmaps_trainval2017", "zip", root / "annotations")

    class Local(COCOStuff):
        edition = with_archives_at(COCOStuff.edition, serve(web))

    data = tmp_path / "data"
    dataset = Local(data, split=split, download=True)
    assert torch.equal(dataset[0][1], COCOStuff(root, split=split)[0][1])
    assert [path.name for path in (data / "images").iterdir()] == [needed]
