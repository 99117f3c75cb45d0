"""LIP on fake trees: nested zips, lists, gray images, and classes that a horizontal flip swaps."""

import numpy as np
import pytest
import torch
from PIL import Image

from seg_core.errors import DatasetNotFoundError, LabelOutOfRangeError
from seg_core.transforms.augment import SegmentationAugment
from seg_datasets.doctor.fake import fake
from seg_datasets.official.lip import LIP

KEYS = ("1000_1234574", "77_471474")
IMAGES, MASKS, TEST = "TrainVal_images", "TrainVal_parsing_annotations", "Testing_images"


@pytest.fixture
def root(tmp_path):
    return fake("LIP", tmp_path / "LIP")


def nest(root, names, below):
    """Moves entries of `root` into a folder below it."""
    target = root / below
    target.mkdir(parents=True)
    for name in names:
        (root / name).rename(target / name)


@pytest.mark.parametrize("masks_below", [MASKS, f"{MASKS}/{MASKS}", f"{MASKS}/{MASKS}/{MASKS}"])
@pytest.mark.parametrize("images_below", [IMAGES, f"{IMAGES}/{IMAGES}"])
@pytest.mark.parametrize("above", [False, True])
def test_zips_unpacked_to_different_depths_are_paired(root, images_below, masks_below, above):
    nest(root, ["train_images", "val_images", "train_id.txt", "val_id.txt"], images_below)
    nest(root, ["train_segmentations", "val_segmentations"], masks_below)
    dataset = LIP(root.parent if above else root)
    assert [dataset.file_names(i) for i in range(2)] == [
        (
            str(root / images_below / f"train_images/{key}.jpg"),
            str(root / masks_below / f"train_segmentations/{key}.png"),
        )
        for key in KEYS
    ]
    assert len(LIP(root, "val")) == 1


@pytest.mark.parametrize("below", [TEST, f"{TEST}/{TEST}"])
def test_test_split_nested_has_no_masks(root, below):
    nest(root, ["testing_images"], below)
    dataset = LIP(root, "test")
    assert len(dataset) == 1
    assert dataset[0][1] is None


@pytest.mark.parametrize("below", ["", IMAGES])
def test_list_names_fewer_files_decides_the_split(root, below):
    (root / "train_id.txt").unlink()
    (root / below).mkdir(exist_ok=True)
    (root / below / "train_id.txt").write_text(f"{KEYS[1]}\n")
    dataset = LIP(root)
    assert len(dataset) == 1
    assert KEYS[1] in dataset.file_names(0)[0]


def test_list_missing_uses_all_files(root):
    (root / "train_id.txt").unlink()
    assert len(LIP(root)) == 2


def test_list_names_missing_file_error_names_it(root):
    (root / "train_id.txt").write_text("\n".join([*KEYS, "36_454991"]))
    with pytest.raises(DatasetNotFoundError, match=r"train_id.txt lists 3 images, 1 of which .*: 36_454991"):
        LIP(root)


def test_image_gray_becomes_rgb(root):
    gray = Image.fromarray(np.arange(24 * 32, dtype=np.uint8).reshape(24, 32))
    gray.save(root / f"train_images/{KEYS[0]}.jpg")
    image, mask = LIP(root)[0]
    assert image.shape == (3, *mask.shape)
    assert torch.equal(image[0], image[1])
    assert torch.equal(image[0], image[2])


def test_mask_255_is_an_error_since_no_value_is_ignored_on_disk(root):
    ids = np.zeros((24, 32), np.uint8)
    ids[0, :2] = 255
    Image.fromarray(ids).save(root / f"train_segmentations/{KEYS[0]}.png")
    with pytest.raises(LabelOutOfRangeError, match=r"255 \(2 pixels\). Allowed: 0-19"):
        LIP(root)[0]


def test_mask_background_is_a_class(root):
    dataset = LIP(root)
    assert dataset.metadata.labels[0] == "Background"
    assert dataset[0][1].unique().tolist() == list(range(20))


def test_horizontal_flip_with_the_pairs_of_the_metadata_swaps_left_and_right(root):
    dataset = LIP(root)
    image, mask = dataset[0]
    pairs = dataset.metadata.left_right_pairs
    _, flipped = SegmentationAugment(hflip=1.0, left_right_pairs=pairs)(image, mask)
    swapped = torch.arange(20)
    swapped[torch.tensor([14, 15, 16, 17, 18, 19])] = torch.tensor([15, 14, 17, 16, 19, 18])
    assert torch.equal(flipped, swapped[mask.long()].flip(-1))
    assert [[dataset.metadata.labels[i].split("-") for i in pair] for pair in pairs] == [
        [["Left", part], ["Right", part]] for part in ("arm", "leg", "shoe")
    ]
