"""PASCAL-Context: 59 and 60 classes, masks from a converter and label maps of the site, lists."""

import pickle
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from seg_core.errors import CorruptFileError, InvalidArgumentError, LabelOutOfRangeError
from seg_datasets.doctor.fake import fake
from seg_datasets.doctor.fake_mat import write_pascal_context
from seg_datasets.official.pascal_context import PascalContext

HEIGHT, WIDTH = 24, 32
NAME = "2008_000002"


@pytest.fixture
def root(tmp_path):
    return fake("PascalContext", tmp_path / "VOC2010", prefix="")


@pytest.fixture
def label_maps(root):
    """The same masks as label maps of the site."""
    (root / "trainval").mkdir(exist_ok=True)
    for path in (root / "SegmentationClassContext").iterdir():
        write_pascal_context(root / "trainval" / f"{path.stem}.mat", stored_ids(root, path.stem), PascalContext.edition)
    shutil.rmtree(root / "SegmentationClassContext")
    return root


def stored_ids(root, name=NAME):
    with Image.open(root / "SegmentationClassContext" / f"{name}.png") as image:
        ids = np.array(image)
    assert set(ids.flat) == set(range(60))
    return ids


def test_background_ignore_has_59_classes_and_ignores_the_rest(root):
    dataset = PascalContext(root)
    assert (dataset.metadata.name, dataset.metadata.num_classes) == ("PascalContext", 59)
    ids = stored_ids(root)
    np.testing.assert_array_equal(dataset[0][1], np.where(ids == 0, 255, ids - 1))


def test_background_class_has_60_classes_and_ignores_nothing(root):
    dataset = PascalContext(root, background="class")
    assert dataset.metadata.labels[:2] == ("background", "aeroplane")
    np.testing.assert_array_equal(dataset[0][1], stored_ids(root))


def test_background_unknown_error_explains_both(root):
    with pytest.raises(InvalidArgumentError, match=r"'ignore' or 'class', got 'clas'. Did .* first gives 59 classes"):
        PascalContext(root, background="clas")
    with pytest.raises(InvalidArgumentError, match=r"got None"):
        PascalContext(root, background=None)


def test_label_set_59_of_the_60_is_the_59_class_task(root):
    dataset = PascalContext(root, background="class", label_set="PascalContext")
    plain = PascalContext(root)
    assert dataset.metadata == plain.metadata
    assert torch.equal(dataset[0][1], plain[0][1])


def test_label_set_60_of_the_59_error_names_the_option(root):
    with pytest.raises(InvalidArgumentError, match="set background='class'"):
        PascalContext(root, label_set="PascalContext60")


@pytest.mark.parametrize("background", ["ignore", "class"])
def test_label_maps_equal_the_masks_of_a_converter(root, background, request):
    converted = PascalContext(root, background=background)[0][1]
    request.getfixturevalue("label_maps")
    dataset = PascalContext(root, background=background)
    assert dataset.file_names(0)[1].endswith(f"trainval/{NAME}.mat")
    assert torch.equal(dataset[0][1], converted)


def test_label_map_numbers_have_the_names_of_the_labels(label_maps):
    raw = np.full((HEIGHT, WIDTH), 2, np.uint16)
    expected = {2: "aeroplane", 9: "bag", 23: "bicycle", 284: "person", 397: "table", 440: "wall", 458: "wood"}
    raw[0, : len(expected)] = list(expected)
    savemat(label_maps / "trainval" / f"{NAME}.mat", {"LabelMap": raw})
    dataset = PascalContext(label_maps)
    ids = dataset[0][1][0, : len(expected)].tolist()
    assert [dataset.metadata.labels[index] for index in ids] == list(expected.values())


def test_label_map_other_labels_are_background(label_maps):
    raw = np.full((HEIGHT, WIDTH), 2, np.uint16)
    raw[0, :4] = [0, 1, 3, 459]
    savemat(label_maps / "trainval" / f"{NAME}.mat", {"LabelMap": raw})
    assert PascalContext(label_maps, background="class")[0][1][0, :5].tolist() == [0, 0, 0, 0, 1]
    assert PascalContext(label_maps)[0][1][0, :5].tolist() == [255, 255, 255, 255, 0]


def test_label_map_with_other_numbers_error_names_file_and_numbers(label_maps):
    raw = np.full((HEIGHT, WIDTH), 2, np.uint16)
    raw[0, :3] = 460
    savemat(label_maps / "trainval" / f"{NAME}.mat", {"LabelMap": raw})
    with pytest.raises(CorruptFileError, match=rf"{NAME}.mat is not a label map .*460 \(3 pixels\).*0-459"):
        PascalContext(label_maps)[0]


def test_converted_mask_with_60_error_says_what_is_allowed(root):
    ids = stored_ids(root)
    ids[0, 0] = 60
    Image.fromarray(ids).save(root / "SegmentationClassContext" / f"{NAME}.png")
    with pytest.raises(LabelOutOfRangeError, match=r"60 \(1 pixel\). Allowed: 0-59"):
        PascalContext(root)[0]


def test_lists_without_those_of_a_converter_are_vocs_own(label_maps):
    shutil.move(label_maps / "ImageSets" / "SegmentationContext", label_maps / "ImageSets" / "Main")
    assert len(PascalContext(label_maps, split="train")) == 2
    assert len(PascalContext(label_maps, split="val")) == 1


def test_lists_of_a_converter_take_precedence_over_vocs_own(root):
    (root / "ImageSets" / "Main").mkdir()
    (root / "ImageSets" / "Main" / "train.txt").write_text("2008_000008\n")
    assert [PascalContext(root).file_names(i)[0][-15:] for i in range(2)] == ["2008_000002.jpg", "2008_000003.jpg"]


def test_download_error_says_where_to_get_images_and_masks(tmp_path):
    with pytest.raises(InvalidArgumentError, match=r"VOCtrainval_03-May-2010.tar.*cs.stanford.edu/~roozbeh"):
        PascalContext(tmp_path, download=True)


@pytest.mark.parametrize("background", ["ignore", "class"])
def test_pickle_dataset_gives_the_same_samples(root, background):
    dataset = PascalContext(root, background=background)
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[1][1], dataset[1][1])
