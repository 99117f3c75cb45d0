"""VOC: palette masks, lists, and trainaug from files or from SBD."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seg_core.errors import CorruptFileError, DatasetNotFoundError, InvalidArgumentError
from seg_datasets.doctor.fake import fake
from seg_datasets.doctor.fake_mat import write_sbd
from seg_datasets.official.sbd import SBD
from seg_datasets.official.voc import VOC

LISTS = "ImageSets/Segmentation"
TRAIN, EXTRA, VAL = ("2007_000032", "2007_000039"), "2008_000002", "2007_000033"
OTHERS = ("2008_000003", "2008_000033")  # also in trainaug


@pytest.fixture
def root(tmp_path):
    return fake("VOC", tmp_path / "VOC2012", prefix="")


@pytest.fixture
def official(root):
    """The files of VOC's own archive, without those of trainaug."""
    shutil.rmtree(root / "SegmentationClassAug")
    (root / LISTS / "trainaug.txt").unlink()
    return root


@pytest.fixture
def sbd_root(tmp_path, root):
    """SBD with an image of VOC's train, one of VOC's val, and one for which only SBD has a mask."""
    folder = tmp_path / "benchmark_RELEASE" / "dataset"
    for name in ("img", "cls"):
        (folder / name).mkdir(parents=True)
    for index, name in enumerate((TRAIN[0], VAL, EXTRA)):
        shutil.copy(root / "JPEGImages" / f"{name}.jpg", folder / "img")
        write_sbd(folder / "cls" / f"{name}.mat", np.full((24, 32), index + 1), SBD.edition)
    (folder / "train.txt").write_text(f"{TRAIN[0]}\n{VAL}\n")
    (folder / "val.txt").write_text(f"{EXTRA}\n")
    return tmp_path / "benchmark_RELEASE"


def masks_of(dataset):
    return [Path(dataset.file_names(i)[1]) for i in range(len(dataset))]


def test_item_palette_mask_gives_indices_and_border_is_ignored(root):
    with Image.open(root / "SegmentationClass" / f"{TRAIN[0]}.png") as image:
        assert image.mode == "P"
        indices = np.array(image)
    assert set(indices.flat) == {*range(21), 255}
    _, mask = VOC(root)[0]
    np.testing.assert_array_equal(mask, indices)


def test_labels_are_in_alphabetical_order(root):
    labels = VOC(root).metadata.labels
    assert labels[0] == "background"
    assert list(labels[1:]) == sorted(labels[1:])


def test_list_decides_which_of_the_images_belong_to_the_split(root):
    assert len(list((root / "JPEGImages").iterdir())) == 7
    assert len(VOC(root, split="train")) == 2
    assert len(VOC(root, split="trainval")) == 3


def test_test_split_gives_none_for_the_mask(root):
    image, mask = VOC(root, split="test")[0]
    assert image.shape == (3, 24, 32)
    assert mask is None


def test_test_split_without_its_list_error_says_where_to_get_it(root):
    (root / LISTS / "test.txt").unlink()
    with pytest.raises(DatasetNotFoundError, match=r"test.txt \(not found\).*http://host.robots.ox.ac.uk:8080/"):
        VOC(root, split="test")


def test_trainaug_uses_vocs_own_masks_for_images_of_train(root):
    for name in TRAIN:
        assert (root / "SegmentationClassAug" / f"{name}.png").is_file()
    assert masks_of(VOC(root, split="trainaug")) == [
        root / "SegmentationClass" / f"{TRAIN[0]}.png",
        root / "SegmentationClass" / f"{TRAIN[1]}.png",
        *(root / "SegmentationClassAug" / f"{name}.png" for name in (EXTRA, *OTHERS)),
    ]


def test_trainaug_without_its_list_joins_train_and_aug(root):
    (root / LISTS / "trainaug.txt").unlink()
    (root / LISTS / "aug.txt").write_text(f"/JPEGImages/{EXTRA}.jpg /SegmentationClassAug/{EXTRA}.png\n")
    assert [path.stem for path in masks_of(VOC(root, split="trainaug"))] == [*TRAIN, EXTRA]


def test_trainaug_image_of_train_without_own_mask_uses_the_other(root):
    (root / "SegmentationClass" / f"{TRAIN[1]}.png").unlink()
    folders = [path.parent.name for path in masks_of(VOC(root, split="trainaug"))]
    assert folders == ["SegmentationClass", *["SegmentationClassAug"] * 4]


def test_trainaug_from_fake_voc_and_sbd_is_read(tmp_path):
    voc, sbd = fake("VOC", tmp_path / "voc"), fake("SBD", tmp_path / "sbd")
    dataset = VOC(voc, split="trainaug", sbd_root=sbd)
    assert [path.suffix for path in masks_of(dataset)] == [".png", ".png", ".mat", ".mat", ".mat"]
    assert all(dataset[i][1].shape == (24, 32) for i in range(5))


def test_trainaug_without_other_lists_takes_all_masks_from_the_other_folder(root):
    shutil.rmtree(root / "SegmentationClass")
    for split in ("train", "val", "trainval"):
        (root / LISTS / f"{split}.txt").unlink()
    assert {path.parent.name for path in masks_of(VOC(root, split="trainaug"))} == {"SegmentationClassAug"}


def test_trainaug_without_lists_error_says_how_to_get_it(official):
    pattern = (
        r"neither ImageSets/Segmentation/trainaug.txt nor .*not an official split.* SBD as sbd_root, or .*voc_aug.py"
    )
    with pytest.raises(DatasetNotFoundError, match=pattern):
        VOC(official, split="trainaug")


def test_trainaug_without_its_masks_error_names_their_folder(root):
    shutil.rmtree(root / "SegmentationClassAug")
    with pytest.raises(DatasetNotFoundError, match=r"SegmentationClassAug/\*.png \(0 found\).* as sbd_root"):
        VOC(root, split="trainaug")


def test_trainaug_one_mask_missing_is_an_error_or_left_out(root):
    (root / LISTS / "trainaug.txt").write_text("".join(f"{name}\n" for name in (*TRAIN, EXTRA, "2008_000006")))
    with pytest.raises(DatasetNotFoundError, match=r"\(2008_000006.jpg\)"):
        VOC(root, split="trainaug")
    with pytest.warns(UserWarning, match="2008_000006.jpg"):
        dataset = VOC(root, split="trainaug", missing="skip")
    assert [path.stem for path in masks_of(dataset)] == [*TRAIN, EXTRA]


def test_trainaug_list_empty_error_says_so(root):
    (root / LISTS / "trainaug.txt").write_text("\n")
    with pytest.raises(CorruptFileError, match=r"trainaug.txt lists no files"):
        VOC(root, split="trainaug")


def test_sbd_root_trainaug_is_train_and_sbd_without_val(official, sbd_root):
    dataset = VOC(official, split="trainaug", sbd_root=sbd_root)  # no warning: warnings are errors here
    assert masks_of(dataset) == [
        official / "SegmentationClass" / f"{TRAIN[0]}.png",
        official / "SegmentationClass" / f"{TRAIN[1]}.png",
        sbd_root / "dataset" / "cls" / f"{EXTRA}.mat",
    ]
    assert {Path(dataset.file_names(i)[0]).parent for i in range(3)} == {official / "JPEGImages"}
    assert dataset[0][1].unique().numel() == 22  # VOC's own, with border
    assert dataset[2][1].unique().tolist() == [3]


def test_sbd_root_as_string_takes_precedence_over_segmentation_class_aug(root, sbd_root):
    dataset = VOC(str(root), split="trainaug", sbd_root=str(sbd_root))
    assert masks_of(dataset)[2].suffix == ".mat"


def test_sbd_root_is_not_read_for_other_splits(official, tmp_path):
    assert len(VOC(official, split="val", sbd_root=tmp_path / "nowhere")) == 1


def test_sbd_root_without_sbd_error_names_the_argument_and_the_source(official, tmp_path):
    with pytest.raises(DatasetNotFoundError, match=r"sbd_root .*nowhere does not exist"):
        VOC(official, split="trainaug", sbd_root=tmp_path / "nowhere")
    with pytest.raises(DatasetNotFoundError, match=r"sbd_root .*img/\*.jpg \(0 found\).* benchmark.tgz") as caught:
        VOC(official, split="trainaug", sbd_root=official)
    assert "download=True" not in str(caught.value)


def test_sbd_root_of_another_type_error_names_the_argument(official):
    with pytest.raises(InvalidArgumentError, match=r"sbd_root .*got 3"):
        VOC(official, split="trainaug", sbd_root=3)


def test_sbd_root_without_vocs_val_list_error_says_why_it_is_needed(official, sbd_root):
    (official / LISTS / "val.txt").unlink()
    with pytest.raises(DatasetNotFoundError, match=r"no ImageSets/Segmentation/val.txt .*exclude from SBD"):
        VOC(official, split="trainaug", sbd_root=sbd_root)


def test_sbd_root_image_not_in_voc_error_names_it(official, sbd_root):
    (official / "JPEGImages" / f"{EXTRA}.jpg").unlink()
    with pytest.raises(DatasetNotFoundError, match=rf"1 of which are missing: {EXTRA}"):
        VOC(official, split="trainaug", sbd_root=sbd_root)


def test_pickle_dataset_with_sbd_root_gives_the_same_samples(official, sbd_root):
    dataset = VOC(official, split="trainaug", sbd_root=sbd_root)
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[2][1], dataset[2][1])


def test_trainaug_without_voc_error_says_where_to_get_both(tmp_path):
    with pytest.raises(
        DatasetNotFoundError, match=r"get VOCtrainval_11-May-2012.tar .*; then pass the folder of SBD as sbd_root"
    ):
        VOC(tmp_path, split="trainaug")
