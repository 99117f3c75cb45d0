"""FolderDataset on tiny folders."""

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from seg_core import (
    IGNORE,
    CorruptFileError,
    DatasetMetadata,
    DatasetNotFoundError,
    InvalidArgumentError,
    LabelMap,
    LabelOutOfRangeError,
    UnknownNameError,
)
from seg_datasets import FolderDataset
from seg_datasets.folder import _train_or_val
from seg_datasets.reading.file_table import FileTable
from seg_datasets.reading.folder_layouts import FolderLayout
from seg_datasets.reading.pairs import Pair, PairList
from seg_datasets.reading.splits import SplitRule
from tests.datasets.trees import samples_from_workers

LABELS = {"labels": ["ground", "leaf", "stone"]}
HEIGHT, WIDTH = 4, 6
KNOWN_VAL = ["p01", "p05", "p08"]


def write(folder, stems, suffix=".png", ids=None):
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for number, stem in enumerate(stems):
        Image.new("RGB", (WIDTH, HEIGHT), (number, 100, 200)).save(folder / "images" / f"{stem}{suffix}")
        mask = np.full((HEIGHT, WIDTH), number % 3, np.uint8) if ids is None else ids
        Image.fromarray(mask).save(folder / "masks" / f"{stem}.png")
    return folder


@pytest.fixture
def flat(tmp_path):
    return write(tmp_path / "mine", [f"p{number:02}" for number in range(10)])


def stems_of(dataset):
    return [re.sub(r".*[\\/]|\.png$", "", dataset.file_names(i)[0]) for i in range(len(dataset))]


def test_flat_folders_train_and_val_are_disjoint_complete_and_sorted(flat):
    train, val = (stems_of(FolderDataset(flat, LABELS, split=split)) for split in ("train", "val"))
    assert len(val) == 2
    assert sorted(train + val) == [f"p{number:02}" for number in range(10)]
    assert train == sorted(train)


def test_flat_folders_split_depends_on_the_seed(flat):
    def val(seed):
        return tuple(stems_of(FolderDataset(flat, LABELS, split="val", seed=seed)))

    assert val(3) == val(3)
    assert len({val(seed) for seed in range(10)}) > 5


def test_flat_folders_known_names_give_the_known_split(flat):
    # the split of existing data must survive new versions of Python, numpy and this package
    assert stems_of(FolderDataset(flat, LABELS, split="val", val_fraction=0.3)) == KNOWN_VAL


def test_flat_folders_added_file_moves_few_others(flat):
    before = set(stems_of(FolderDataset(flat, LABELS, split="val")))
    write(flat, [*(f"p{number:02}" for number in range(10)), "new"])
    after = set(stems_of(FolderDataset(flat, LABELS, split="val")))
    assert len(before - after) <= 1


@settings(deadline=None)
@given(
    st.sets(st.text("abcdef0123456789", min_size=1, max_size=6), min_size=2, max_size=40),
    st.floats(0.001, 0.999),
    st.integers(0, 10**6),
)
def test_flat_folders_any_names_train_and_val_are_not_empty_and_complete(stems, fraction, seed):
    pairs = [Pair(Path(f"{stem}.png"), None) for stem in sorted(stems)]
    images, rule = FileTable.of({pair.image.stem: pair.image for pair in pairs}), SplitRule(fraction, seed)
    train, val = (
        _train_or_val(PairList(pairs), images, Path("root"), split, rule, FolderLayout()) for split in ("train", "val")
    )
    assert train
    assert val
    assert sorted([*train, *val], key=lambda pair: pair.image) == sorted(pairs, key=lambda pair: pair.image)
    assert abs(len(val) - fraction * len(pairs)) <= 1


@pytest.mark.smoke
def test_split_folders_each_split_reads_its_own(tmp_path):
    write(tmp_path / "train", ["a", "b"])
    write(tmp_path / "val", ["c"], suffix=".webp")
    assert len(FolderDataset(tmp_path, LABELS)) == 2
    val = FolderDataset(tmp_path, LABELS, split="val")
    assert val.file_names(0) == (str(tmp_path / "val/images/c.webp"), str(tmp_path / "val/masks/c.png"))


def test_split_folders_missing_split_is_not_taken_from_the_flat_ones(flat):
    write(flat / "train", ["a", "b"])
    with pytest.raises(DatasetNotFoundError, match=r"val/images: no such folder"):
        FolderDataset(flat, LABELS, split="val")


def test_split_folders_test_without_masks_gives_none(tmp_path):
    write(tmp_path / "test", ["a"])
    (tmp_path / "test/masks/a.png").unlink()
    (tmp_path / "test/masks").rmdir()
    image, mask = FolderDataset(tmp_path, LABELS, split="test")[0]
    assert image.shape == (3, HEIGHT, WIDTH)
    assert mask is None


def test_flat_folders_test_split_error_says_how_to_make_one(flat):
    with pytest.raises(DatasetNotFoundError, match=r"has no test split.*put test images into .*test/images"):
        FolderDataset(flat, LABELS, split="test")


def test_flat_folders_one_image_error_says_so(tmp_path):
    with pytest.raises(DatasetNotFoundError, match="has one image, which cannot be split"):
        FolderDataset(write(tmp_path, ["only"]), LABELS)


def test_folders_missing_error_says_what_is_expected(tmp_path):
    with pytest.raises(DatasetNotFoundError) as caught:
        FolderDataset(tmp_path, LABELS)
    message = str(caught.value)
    assert f"{tmp_path / 'images'}: no such folder" in message
    assert f"Expected {tmp_path}/train/images and {tmp_path}/train/masks, or {tmp_path}/images" in message


def test_root_missing_error_names_it(tmp_path):
    with pytest.raises(DatasetNotFoundError, match=r"FolderDataset: root .*nowhere does not exist"):
        FolderDataset(tmp_path / "nowhere", LABELS)


def test_masks_as_jpeg_error_says_that_lossy_formats_destroy_ids(flat):
    for file in (flat / "masks").iterdir():
        file.rename(file.with_suffix(".jpg"))
    with pytest.raises(DatasetNotFoundError, match=r"0 masks, 10 other entries \(\.jpg\).*lossy formats destroy ids"):
        FolderDataset(flat, LABELS)


def test_many_files_without_partner_error_names_the_first_five(flat):
    for number in range(7):
        (flat / "masks" / f"p{number:02}.png").unlink()
    with pytest.raises(DatasetNotFoundError, match=r"without a mask: 7 \(p00.png, p01.png, .*p04.png and 2 more\)"):
        FolderDataset(flat, LABELS)


def test_hidden_files_are_left_out(flat):
    (flat / "images" / "._p00.png").write_bytes(b"made by macOS")
    (flat / "images" / "Thumbs.db").write_bytes(b"made by Windows")
    assert len(FolderDataset(flat, LABELS)) == 8


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan"), "half"])
def test_val_fraction_out_of_range_error_names_it(flat, fraction):
    with pytest.raises(InvalidArgumentError, match=r"val_fraction must be between 0 and 1, got"):
        FolderDataset(flat, LABELS, val_fraction=fraction)


def test_orientation_or_max_pixels_not_allowed_error_says_what_is(flat):
    with pytest.raises(InvalidArgumentError, match="orientation must be 'apply' .* or 'stored' .*, got None"):
        FolderDataset(flat, LABELS, orientation=None)
    with pytest.raises(InvalidArgumentError, match="max_pixels must be an integer >= 1 .*, got '9'"):
        FolderDataset(flat, LABELS, max_pixels="9")


def test_rotated_images_warn_once_per_file_and_stored_ones_do_not(flat):
    exif = Image.Exif()
    exif[0x0112] = 3
    for path in (flat / "images").iterdir():
        Image.new("RGB", (WIDTH, HEIGHT)).save(path, exif=exif)
    dataset = FolderDataset(flat, LABELS)
    assert FolderDataset(flat, LABELS, orientation="stored")[0][0].shape == (3, HEIGHT, WIDTH)
    with pytest.warns(UserWarning, match="because of its orientation tag 3; .* set orientation='stored'") as caught:
        for _ in range(2):
            for index in range(len(dataset)):
                dataset[index]
    assert len(caught) == len(dataset)


def test_seed_not_an_integer_error_names_it(flat):
    with pytest.raises(InvalidArgumentError, match="seed must be an integer, got 'x'"):
        FolderDataset(flat, LABELS, seed="x")


def test_split_unknown_error_suggests_a_similar_one(flat):
    with pytest.raises(InvalidArgumentError, match=r"FolderDataset has no split 'trian'. Did you mean 'train'"):
        FolderDataset(flat, LABELS, split="trian")


def test_metadata_unknown_name_error_suggests_a_similar_one(flat):
    with pytest.raises(UnknownNameError, match="CamVid"):
        FolderDataset(flat, "CamVit")


def test_item_ignore_value_of_the_metadata_is_kept(tmp_path):
    ids = np.array([[0, 1, 2, 7]], np.uint8).repeat(HEIGHT, 0).repeat(2, 1)[:, :WIDTH]
    ids[0, 0] = 7
    write(tmp_path, ["a", "b"], ids=ids)
    dataset = FolderDataset(tmp_path, DatasetMetadata("mine", ("x", "y", "z"), ignore_index=7))
    np.testing.assert_array_equal(dataset[0][1].numpy(), ids)
    assert dataset[0][1].dtype == torch.uint8


def test_item_palette_png_keeps_its_indices(tmp_path):
    write(tmp_path, ["a", "b"])
    ids = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 3).astype(np.uint8)
    for stem in "ab":
        mask = Image.frombytes("P", (WIDTH, HEIGHT), ids.tobytes())
        mask.putpalette([255, 255, 255, 0, 0, 0, 9, 9, 9])
        mask.save(tmp_path / "masks" / f"{stem}.png")
    np.testing.assert_array_equal(FolderDataset(tmp_path, LABELS)[0][1].numpy(), ids)


def test_item_16_bit_png_gives_int32_where_ids_need_it(tmp_path):
    write(tmp_path, ["a", "b"])
    ids = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) + 280).astype(np.uint16)
    for stem in "ab":
        Image.fromarray(ids).save(tmp_path / "masks" / f"{stem}.png")
    metadata = DatasetMetadata("many", tuple(f"class {i}" for i in range(320)), ignore_index=65535)
    mask = FolderDataset(tmp_path, metadata)[0][1]
    assert mask.dtype == torch.int32
    np.testing.assert_array_equal(mask.numpy(), ids)


def test_item_id_out_of_range_error_names_file_ids_counts_and_remedy(tmp_path):
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    ids[0, :2] = 3
    ids[1, :5] = 200
    dataset = FolderDataset(write(tmp_path, ["a", "b"], ids=ids), LABELS)
    with pytest.raises(LabelOutOfRangeError) as caught:
        dataset[0]
    assert f"mask {dataset.file_names(0)[1]} contains ids that are not allowed" in str(caught.value)
    assert "3 (2 pixels), 200 (5 pixels). Allowed: 0-2, 255; correct the mask" in str(caught.value)
    assert "label_map" in str(caught.value)


def test_loader_two_workers_id_out_of_range_reaches_the_user(tmp_path):
    dataset = FolderDataset(write(tmp_path, ["a", "b", "c"], ids=np.full((HEIGHT, WIDTH), 9, np.uint8)), LABELS)
    with samples_from_workers(dataset) as samples, pytest.raises(LabelOutOfRangeError, match=r"9 \(24 pixels\)"):
        list(samples)


@pytest.mark.parametrize("label_map", [LabelMap({10: 0, 20: 2, 30: IGNORE}), {"10": 0, "20": 2, "30": "ignore"}])
def test_label_map_converts_raw_ids(tmp_path, label_map):
    ids = np.array([[10, 20, 30]], np.uint8).repeat(HEIGHT, 0).repeat(2, 1)
    dataset = FolderDataset(write(tmp_path, ["a", "b"], ids=ids), LABELS, label_map=label_map)
    assert torch.unique(dataset[0][1]).tolist() == [0, 2, 255]


def test_label_map_other_ignore_value_error_names_both(flat):
    with pytest.raises(InvalidArgumentError, match=r"ignore_index 254, but .* 'custom' have 255"):
        FolderDataset(flat, LABELS, label_map=LabelMap({0: 0}, ignore_index=254))


def test_label_map_train_id_beyond_the_classes_error_names_it(flat):
    with pytest.raises(InvalidArgumentError, match=r"train ids 3, 4, but .* 3 classes, 0 to 2"):
        FolderDataset(flat, LABELS, label_map={0: 3, 1: 4, 2: 0})


def test_label_map_of_another_type_error_says_so(flat):
    with pytest.raises(InvalidArgumentError, match="label_map must be a LabelMap or a table of ids"):
        FolderDataset(flat, LABELS, label_map=[0, 1])


def test_transforms_given_their_result_is_the_sample(flat):
    assert FolderDataset(flat, LABELS, transforms=lambda image, mask: "sample")[0] == "sample"


def test_pickle_dataset_gives_the_same_samples(flat):
    dataset = FolderDataset(flat, LABELS)
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[3][1], dataset[3][1])


# ---- folders in a wrong place ----------------------------------------------------------------------------------------


def swap(folder):
    (folder / "images").rename(folder / "other")
    (folder / "masks").rename(folder / "images")
    (folder / "other").rename(folder / "masks")


def test_swapped_folders_say_so_and_the_options_read_them(tmp_path):
    for split in ("train", "val"):
        swap(write(tmp_path / split, ["a", "b"], ".jpg"))
    with pytest.raises(DatasetNotFoundError) as caught:
        FolderDataset(tmp_path, LABELS)
    told = re.search(r"seem to be swapped\. With images='(.*)', masks='(.*)' all 2 pair$", str(caught.value))
    assert stems_of(FolderDataset(tmp_path, LABELS, images=told[1], masks=told[2])) == ["a.jpg", "b.jpg"]


def test_split_that_is_not_there_says_which_are(tmp_path):
    for split in ("train", "val"):
        write(tmp_path / split, ["a"])
    with pytest.raises(DatasetNotFoundError, match=r"\. There is no test split; there is train and val$"):
        FolderDataset(tmp_path, LABELS, split="test")


def test_color_mask_says_that_it_may_be_an_image(tmp_path):
    for split in ("train", "val"):
        swap(write(tmp_path / split, ["a"]))
    with pytest.raises(CorruptFileError, match="is a color image .*the folders of images and masks are swapped"):
        FolderDataset(tmp_path, LABELS)[0]
