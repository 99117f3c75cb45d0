"""BDD100K on fake trees: files without a partner, two layouts, and folders that must not be read."""

import warnings

import numpy as np
import pytest
from PIL import Image

from seg_core.errors import DatasetNotFoundError, LabelOutOfRangeError
from seg_core.labels.metadata import resolve_metadata
from seg_datasets.doctor.fake import fake
from seg_datasets.official.bdd100k import BDD100K
from tests.datasets.trees import save

KEYS = ("0004a4c0-d4dff0ad", "00054602-3bf57337")


@pytest.fixture
def root(tmp_path):
    return fake("BDD100K", tmp_path / "bdd") / "bdd100k"


def write_gray(path, value):
    save(path, np.full((24, 32), value, np.uint8))


def test_partner_missing_by_default_is_left_out_with_a_warning(root):
    (root / f"labels/sem_seg/masks/train/{KEYS[0]}.png").unlink()
    write_gray(root / "labels/sem_seg/masks/train/000d4f89-3bcbe37a.png", 0)
    match = rf"images without a mask: 1 \({KEYS[0]}.jpg\), masks without an image: 1 \(000d4f89.*these are left out"
    with pytest.warns(UserWarning, match=match):
        dataset = BDD100K(root)
    assert len(dataset) == 1
    assert all(KEYS[1] in name for name in dataset.file_names(0))


def test_partner_missing_error_names_the_file(root):
    (root / f"labels/sem_seg/masks/train/{KEYS[0]}.png").unlink()
    with pytest.raises(DatasetNotFoundError, match=f"images without a mask: 1 .{KEYS[0]}.jpg"):
        BDD100K(root, missing="error")


def test_partners_complete_no_warning(root):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(BDD100K(root)) == 2


def test_mask_train_ids_stay_and_255_is_ignored(root):
    ids = np.array([[0, 13, 18, 255]], np.uint8)
    Image.fromarray(ids).save(root / f"labels/sem_seg/masks/train/{KEYS[0]}.png")
    Image.new("RGB", (4, 1)).save(root / f"images/10k/train/{KEYS[0]}.jpg")
    dataset = BDD100K(root)
    assert dataset[0][1].tolist() == [[0, 13, 18, 255]]
    assert dataset.metadata.labels[13] == "car"


def test_mask_id_of_the_41_ids_error_names_it(root):
    write_gray(root / f"labels/sem_seg/masks/train/{KEYS[0]}.png", 40)
    with pytest.raises(LabelOutOfRangeError, match=r"40 \(768 pixels\). Allowed: 0-18, 255"):
        BDD100K(root)[0]


def test_colormaps_beside_the_masks_are_not_read(root):
    for key in KEYS:
        write_gray(root / f"labels/sem_seg/colormaps/train/{key}.png", 7)
    dataset = BDD100K(root)
    assert dataset.file_names(0)[1] == str(root / f"labels/sem_seg/masks/train/{KEYS[0]}.png")
    assert dataset[0][1].unique().numel() == 20


def test_colormaps_alone_are_no_masks(root):
    (root / "labels/sem_seg/masks").rename(root / "labels/sem_seg/colormaps")
    with pytest.raises(DatasetNotFoundError, match=r"masks labels/sem_seg/masks/train/\*.png .*\(0 found\)"):
        BDD100K(root)


def test_images_of_the_100k_set_are_not_read(root):
    (root / "images/10k").rename(root / "images/100k")
    with pytest.raises(DatasetNotFoundError, match=r"images images/10k/train/\*.jpg .*\(0 found\)"):
        BDD100K(root)


def test_layout_of_2018_reads_the_train_ids_only(tmp_path):
    root = fake("BDD100K", tmp_path / "bdd", images=1, masks=1) / "bdd100k"
    for key in KEYS:
        write_gray(root / f"seg/labels/train/{key}_train_color.png", 3)
        write_gray(root / f"seg/labels/train/{key}_id.png", 3)
        write_gray(root / f"seg/color_labels/train/{key}_train_color.png", 3)
    dataset = BDD100K(root)
    assert [name.rsplit("/", 1)[-1] for name in dataset.file_names(1)] == [f"{KEYS[1]}.jpg", f"{KEYS[1]}_train_id.png"]
    assert dataset[1][1].unique().numel() == 20


def test_zips_unpacked_in_folders_named_like_them_are_paired(root):
    above = root.parent
    for part, zip_name in (("images", "bdd100k_images_10k"), ("labels", "bdd100k_sem_seg_labels_trainval")):
        (above / zip_name / "bdd100k").mkdir(parents=True)
        (root / part).rename(above / zip_name / "bdd100k" / part)
    assert len(BDD100K(above)) == 2


def test_test_split_has_no_masks(root):
    write_gray(root / "labels/sem_seg/masks/test/ac6d4f42-7b2f9a10.png", 0)
    assert BDD100K(root, "test")[0][1] is None


def test_label_set_of_cityscapes_keeps_the_ids(root):
    dataset = BDD100K(root, label_set="CityscapesClass")
    assert dataset.metadata == resolve_metadata("CityscapesClass")
    assert dataset.label_map == BDD100K(root).label_map


def test_label_set_categories_groups_the_classes(root):
    dataset = BDD100K(root, label_set="CityscapesCategory")
    wanted = {"road": "flat", "pole": "object", "sky": "sky", "rider": "human", "bicycle": "vehicle"}
    for label, category in wanted.items():
        raw = resolve_metadata("BDD100K").labels.index(label)
        assert dataset.metadata.labels[dataset.label_map.mapping[raw]] == category
