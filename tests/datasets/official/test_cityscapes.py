"""Cityscapes on fake trees: the three choices of classes, fine and coarse, and the files that must not be read."""

import pickle
import shutil

import numpy as np
import pytest
import torch

from seg_core.errors import DatasetNotFoundError, InvalidArgumentError, LabelOutOfRangeError, UnknownNameError
from seg_core.labels.metadata import resolve_metadata
from seg_datasets.doctor.fake import fake
from seg_datasets.official.cityscapes import Cityscapes, CityscapesCategory, CityscapesClass
from tests.datasets.trees import save

SIZE = (2, 3)
ALL = (Cityscapes, CityscapesClass, CityscapesCategory)
NAMES = {
    "image": "leftImg8bit/{}/{}_leftImg8bit.png",
    "fine": "gtFine/{}/{}_gtFine_labelIds.png",
    "coarse": "gtCoarse/{}/{}_gtCoarse_labelIds.png",
}
KEY = "aachen/aachen_000000_000019"


def write_image(root, split="train", key=KEY):
    save(root / NAMES["image"].format(split, key), np.zeros((*SIZE, 3), np.uint8))


def write_mask(root, ids, split="train", key=KEY, kind="fine"):
    save(root / NAMES[kind].format(split, key), np.resize(np.array(ids, np.uint8), SIZE))


def mask_of(ids, root, dataset_class, **options):
    """The train ids that `dataset_class` gives for at most six raw ids, as a list."""
    write_image(root)
    write_mask(root, ids)
    _, mask = dataset_class(root, **options)[0]
    return mask.flatten().tolist()


def test_mask_all_ids_are_34_classes(tmp_path):
    assert mask_of([0, 1, 7, 9, 26, 33], tmp_path, Cityscapes) == [0, 1, 7, 9, 26, 33]
    assert Cityscapes.edition.label_map.mapping.keys() == {*range(34), 255}


def test_mask_classes_are_the_19_and_the_rest_is_ignored(tmp_path):
    assert mask_of([0, 7, 9, 18, 29, 33], tmp_path, CityscapesClass) == [255, 0, 255, 255, 255, 18]
    kept = {raw: train for raw, train in CityscapesClass.edition.label_map.mapping.items() if isinstance(train, int)}
    assert kept == dict(
        zip([7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33], range(19), strict=True)
    )


def test_mask_categories_without_rest_ignores_parking_like_void(tmp_path):
    assert mask_of([0, 6, 7, 9, 26, 29], tmp_path, CityscapesCategory) == [255, 255, 0, 255, 6, 255]


def test_mask_categories_rest_is_a_class_gives_void_last(tmp_path):
    assert mask_of([0, 6, 7, 9, 26, 29], tmp_path, CityscapesCategory, rest="class") == [7, 7, 0, 7, 6, 7]
    metadata = CityscapesCategory(tmp_path, rest="class").metadata
    assert (metadata.name, metadata.labels[6:]) == ("CityscapesCategory8", ("vehicle", "void"))


@pytest.mark.parametrize("options", [{}, {"rest": "class"}])
def test_categories_group_the_19_classes(options, tmp_path):
    write_image(tmp_path)
    write_mask(tmp_path, [0])
    dataset = CityscapesCategory(tmp_path, **options)
    groups = {}
    for raw, train in CityscapesClass.edition.label_map.mapping.items():
        if isinstance(train, int):
            label = resolve_metadata("CityscapesClass").labels[train]
            groups.setdefault(dataset.metadata.labels[dataset.label_map.mapping[raw]], []).append(label)
    assert groups == {
        "flat": ["road", "sidewalk"],
        "construction": ["building", "wall", "fence"],
        "object": ["pole", "traffic light", "traffic sign"],
        "nature": ["vegetation", "terrain"],
        "sky": ["sky"],
        "human": ["person", "rider"],
        "vehicle": ["car", "truck", "bus", "train", "motorcycle", "bicycle"],
    }


@pytest.mark.parametrize("dataset_class", ALL)
def test_mask_license_plate_in_8_bits_is_ignored(dataset_class, tmp_path):
    assert mask_of(np.array([-1], np.int8).view(np.uint8), tmp_path, dataset_class) == [255] * 6


def test_mask_license_plate_is_ignored_also_if_the_rest_is_a_class(tmp_path):
    assert mask_of([255], tmp_path, CityscapesCategory, rest="class") == [255] * 6


@pytest.mark.parametrize("dataset_class", ALL)
def test_mask_id_beyond_33_error_names_it(dataset_class, tmp_path):
    message = r"labelIds.png contains ids .*: 34 \(6 pixels\). Allowed: 0-33, 255"
    with pytest.raises(LabelOutOfRangeError, match=message):
        mask_of([34], tmp_path, dataset_class)


def test_label_map_inverse_gives_the_ids_of_the_evaluation_server():
    raw = CityscapesClass.edition.label_map.inverse()(np.array([[0, 13, 18, 255]], np.uint8))
    assert raw.tolist() == [[7, 26, 33, 0]]


def test_files_train_ids_and_others_in_the_folder_of_the_masks_are_not_read(tmp_path):
    write_image(tmp_path)
    write_mask(tmp_path, [7])
    folder = tmp_path / "gtFine/train/aachen"
    for ending in ("labelTrainIds", "instanceIds", "color"):
        save(folder / f"aachen_000000_000019_gtFine_{ending}.png", np.full(SIZE, 5, np.uint8))
    (folder / "aachen_000000_000019_gtFine_polygons.json").write_text("{}")
    dataset = CityscapesClass(tmp_path)
    assert len(dataset) == 1
    assert dataset.file_names(0)[1].endswith("_gtFine_labelIds.png")
    assert dataset[0][1].unique().tolist() == [0]


def test_files_train_ids_alone_error_asks_for_label_ids(tmp_path):
    write_image(tmp_path)
    save(tmp_path / "gtFine/train/aachen/aachen_000000_000019_gtFine_labelTrainIds.png", np.zeros(SIZE, np.uint8))
    with pytest.raises(DatasetNotFoundError, match=r"masks gtFine/train/\*/\*_gtFine_labelIds.png \(0 found\)"):
        CityscapesClass(tmp_path)


@pytest.mark.parametrize("dataset_class", ALL)
def test_test_split_dummy_masks_on_disk_are_not_read(dataset_class, tmp_path):
    write_image(tmp_path, "test", "berlin/berlin_000000_000019")
    write_mask(tmp_path, [1, 2, 3], "test", "berlin/berlin_000000_000019")
    dataset = dataset_class(tmp_path, "test")
    assert dataset[0][1] is None
    assert len(dataset.file_names(0)) == 1


def test_annotations_choose_between_the_masks_of_one_image(tmp_path):
    write_image(tmp_path)
    write_mask(tmp_path, [7], kind="fine")
    write_mask(tmp_path, [0, 7], kind="coarse")
    assert CityscapesClass(tmp_path)[0][1].unique().tolist() == [0]
    assert CityscapesClass(tmp_path, annotations="coarse")[0][1].unique().tolist() == [0, 255]


@pytest.mark.parametrize("dataset_class", ALL)
def test_train_extra_coarse_is_found_in_folders_named_like_the_zips(dataset_class, tmp_path):
    key = "augsburg/augsburg_000000_000000"
    write_image(tmp_path / "leftImg8bit_trainvaltest")
    write_mask(tmp_path / "gtFine_trainvaltest", [7])
    write_image(tmp_path / "leftImg8bit_trainextra", "train_extra", key)
    write_mask(tmp_path / "gtCoarse", [7], "train_extra", key, "coarse")
    dataset = dataset_class(tmp_path, "train_extra", annotations="coarse")
    assert [path.rsplit("/", 1)[-1][:22] for path in dataset.file_names(0)] == ["augsburg_000000_000000"] * 2
    assert len(dataset_class(tmp_path)) == 1


@pytest.mark.parametrize("dataset_class", ALL)
@pytest.mark.parametrize(
    ("split", "having", "lacking"), [("test", "fine", "coarse"), ("train_extra", "coarse", "fine")]
)
def test_split_of_the_other_annotations_error_says_which_have_it(dataset_class, split, having, lacking, tmp_path):
    match = (
        rf"no split '{split}' with annotations='{lacking}', only with annotations='{having}'. Allowed with .*: train,"
    )
    with pytest.raises(InvalidArgumentError, match=match):
        dataset_class(tmp_path, split, annotations=lacking)


def test_split_of_neither_annotations_error_suggests_the_nearest(tmp_path):
    with pytest.raises(
        InvalidArgumentError, match=r"no split 'trian'. Did you mean 'train'\? Allowed: train, val, test"
    ):
        CityscapesCategory(tmp_path, "trian", rest="class")


@pytest.mark.parametrize("value", ["corse", None, ["fine"]])
def test_annotations_unknown_error_says_what_is_allowed(value, tmp_path):
    with pytest.raises(InvalidArgumentError, match="annotations must be 'fine' or 'coarse', got") as caught:
        Cityscapes(tmp_path, annotations=value)
    assert str(caught.value).endswith("Did you mean 'coarse'?") == (value == "corse")


def test_rest_unknown_error_says_what_is_allowed(tmp_path):
    with pytest.raises(InvalidArgumentError, match="rest must be 'ignore' or 'class', got True"):
        CityscapesCategory(tmp_path, rest=True)


def test_mask_in_the_folder_of_another_city_is_no_partner(tmp_path):
    write_image(tmp_path)
    write_mask(tmp_path, [7], key="bochum/aachen_000000_000019")
    with pytest.raises(DatasetNotFoundError, match="images without a mask: 1 .* masks without an image: 1"):
        Cityscapes(tmp_path)


def test_order_is_by_city_then_name(tmp_path):
    keys = ["aachen/aachen_000000_000019", "aachen/aachen_000001_000019", "zurich/zurich_000000_000019"]
    for key in reversed(keys):
        write_image(tmp_path, key=key)
        write_mask(tmp_path, [7], key=key)
    dataset = Cityscapes(tmp_path)
    assert [dataset.file_names(i)[0] for i in range(3)] == [
        str(tmp_path / NAMES["image"].format("train", key)) for key in keys
    ]


@pytest.mark.parametrize(
    ("source", "target", "same"),
    [
        (Cityscapes, "CityscapesClass", CityscapesClass),
        (Cityscapes, "CityscapesCategory", CityscapesCategory),
        (CityscapesClass, "CityscapesCategory", CityscapesCategory),
    ],
)
def test_label_set_of_another_choice_gives_the_same_samples(source, target, same, tmp_path):
    root = fake("Cityscapes", tmp_path / "cs")
    converted, direct = source(root, label_set=target), same(root)
    assert converted.metadata == direct.metadata
    assert converted.label_map == direct.label_map
    assert torch.equal(converted[0][1], direct[0][1])


def test_label_set_that_needs_more_classes_error_names_both(tmp_path):
    root = fake("CityscapesClass", tmp_path / "cs")
    with pytest.raises(
        UnknownNameError, match=r"no conversion from label set 'CityscapesClass' to 'CityscapesCategory8'"
    ):
        CityscapesClass(root, label_set="CityscapesCategory8")


def test_pickle_with_options_gives_the_same_samples(tmp_path):
    root = fake("CityscapesCategory", tmp_path / "cs", edition="coarse-void")
    dataset = CityscapesCategory(root, "train_extra", annotations="coarse", rest="class")
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy.label_map == dataset.label_map
    assert torch.equal(copy[0][1], dataset[0][1])


def test_instances_with_options_leave_the_class_as_it_is(tmp_path):
    root = fake("CityscapesCategory", tmp_path / "cs", edition="coarse")
    CityscapesCategory(root, annotations="coarse", rest="class")
    assert CityscapesCategory.edition is CityscapesCategory.editions["fine"]
    shutil.rmtree(root / "leftImg8bit" / "train_extra")
    assert CityscapesCategory(root, annotations="coarse").metadata.num_classes == 7
