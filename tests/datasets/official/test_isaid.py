"""iSAID: color masks, three folder layouts, 16 and 15 classes."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from seg_core import CorruptFileError, DatasetNotFoundError, InvalidArgumentError, LabelOutOfRangeError
from seg_core.labels.metadata import resolve_metadata
from seg_datasets.official.isaid import iSAID
from tests.datasets.trees import save

COLORS = np.array(resolve_metadata("iSAID").colors, np.uint8)
IDS = np.arange(24, dtype=np.uint8).reshape(4, 6) % 16


def make_image(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)


@pytest.fixture
def root(tmp_path):
    """The layout of the development kit, instance masks included."""
    for split, names in (("train", ("P0002", "P0010")), ("val", ("P0003",)), ("test", ("P0006",))):
        for name in names:
            save(tmp_path / split / "images" / f"{name}.png", make_image())
            if split != "test":
                save(tmp_path / split / "images" / f"{name}_instance_color_RGB.png", COLORS[IDS])
                save(tmp_path / split / "images" / f"{name}_instance_id_RGB.png", make_image(1))
    return tmp_path


def file_names(dataset):
    return [tuple(name.rsplit("/", 1)[-1] for name in dataset.file_names(i)) for i in range(len(dataset))]


def test_files_of_the_development_kit_masks_are_not_read_as_images(root):
    assert file_names(iSAID(root)) == [
        ("P0002.png", "P0002_instance_color_RGB.png"),
        ("P0010.png", "P0010_instance_color_RGB.png"),
    ]
    assert file_names(iSAID(root, "test")) == [("P0006.png",)]


def test_item_colors_become_16_classes_with_the_background(root):
    dataset = iSAID(root)
    image, mask = dataset[0]
    np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), make_image())
    np.testing.assert_array_equal(mask.numpy(), IDS)
    assert dataset.metadata.labels[:2] == ("background", "ship")


def test_label_set_of_the_development_kit_ignores_the_background(root):
    dataset = iSAID(root, label_set="iSAID15")
    expected = IDS.astype(int) - 1
    expected[expected == -1] = 255
    np.testing.assert_array_equal(dataset[0][1].numpy(), expected)
    assert (dataset.metadata.num_classes, dataset.metadata.labels[0]) == (15, "ship")
    assert dataset.metadata.labels == resolve_metadata("iSAID").labels[1:]
    assert dataset.metadata.colors == resolve_metadata("iSAID").colors[1:]


def test_patches_of_the_development_kit_are_found_by_their_folder(tmp_path):
    for name in ("P0002_0_0_800_800", "P0002_0_600_800_1400"):
        save(tmp_path / "iSAID_patches/train/images" / f"{name}.png", make_image())
        save(tmp_path / "iSAID_patches/train/images" / f"{name}_instance_color_RGB.png", COLORS[IDS])
        save(tmp_path / "iSAID_patches/train/images" / f"{name}_instance_id_RGB.png", make_image())
    for root in (tmp_path, tmp_path / "iSAID_patches"):
        assert file_names(iSAID(root)) == [
            ("P0002_0_0_800_800.png", "P0002_0_0_800_800_instance_color_RGB.png"),
            ("P0002_0_600_800_1400.png", "P0002_0_600_800_1400_instance_color_RGB.png"),
        ]


@pytest.mark.parametrize("with_palette", [False, True])
def test_patches_of_mmsegmentation_hold_ids(tmp_path, with_palette):
    save(tmp_path / "img_dir/train/P0000_0_896_0_896.png", make_image())
    path = tmp_path / "ann_dir/train/P0000_0_896_0_896_instance_color_RGB.png"
    path.parent.mkdir(parents=True)
    ids = Image.fromarray(IDS)
    if with_palette:
        ids.putpalette([value for value in range(256) for _ in range(3)])
    ids.save(path)
    dataset = iSAID(tmp_path)
    assert file_names(dataset) == [("P0000_0_896_0_896.png", path.name)]
    np.testing.assert_array_equal(dataset[0][1].numpy(), IDS)


def test_patches_of_mmsegmentation_other_id_error_names_it(tmp_path):
    save(tmp_path / "img_dir/train/P0000_0_896_0_896.png", make_image())
    save(tmp_path / "ann_dir/train/P0000_0_896_0_896_instance_color_RGB.png", np.full((4, 6), 16, np.uint8))
    with pytest.raises(LabelOutOfRangeError, match=r"contains ids that are not allowed: 16 \(24 pixels\)"):
        iSAID(tmp_path)[0]


@pytest.mark.parametrize("images", ["train/images", "train/images/images"])
def test_files_as_downloaded_are_found(tmp_path, images):
    save(tmp_path / images / "P0000.png", make_image())
    save(tmp_path / "train/Semantic_masks/images/P0000_instance_color_RGB.png", COLORS[IDS])
    save(tmp_path / "train/Instance_masks/images/P0000_instance_id_RGB.png", make_image())
    dataset = iSAID(tmp_path)
    assert file_names(dataset) == [("P0000.png", "P0000_instance_color_RGB.png")]
    np.testing.assert_array_equal(dataset[0][1].numpy(), IDS)


def test_archives_not_unpacked_error_says_what_is_expected(tmp_path):
    for name in ("train/images/part1.zip", "train/Semantic_masks/images.zip"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(DatasetNotFoundError, match=r"train/images/\*.png or .* \(0 found\)"):
        iSAID(tmp_path)


def test_unknown_color_by_default_is_an_error_that_names_the_file(root):
    pixels = COLORS[IDS].copy()
    pixels[0, 0] = (0, 0, 64)
    save(root / "train/images/P0002_instance_color_RGB.png", pixels)
    with pytest.raises(CorruptFileError, match=r"P0002_instance_color_RGB.png .*rgb 0,0,64 \(1 pixel\)"):
        iSAID(root)[0]


@pytest.mark.parametrize("label_set", [None, "iSAID15"])
def test_unknown_color_warned_about_is_ignored(root, label_set):
    pixels = COLORS[IDS].copy()
    pixels[1, 1] = (0, 0, 64)
    save(root / "train/images/P0002_instance_color_RGB.png", pixels)
    dataset = iSAID(root, unknown_colors="warn", label_set=label_set)
    with pytest.warns(UserWarning, match=r"P0002_instance_color_RGB.png .*rgb 0,0,64 \(1 pixel\); they are ignored"):
        _, mask = dataset[0]
    assert mask[1, 1] == 255
    assert torch.equal(mask[2:], dataset[1][1][2:])


def test_unknown_colors_argument_wrong_error_lists_the_allowed(root):
    with pytest.raises(InvalidArgumentError, match="unknown_colors must be 'warn' .* or 'error', got 'skip'"):
        iSAID(root, unknown_colors="skip")


def test_pickle_dataset_keeps_its_options(root):
    copy = pickle.loads(pickle.dumps(iSAID(root, unknown_colors="warn", label_set="iSAID15")))
    assert copy.mask_reader.unknown == "warn"
    assert copy.metadata.name == "iSAID15"
    np.testing.assert_array_equal(copy[1][1].numpy(), np.where(IDS == 0, 255, IDS.astype(int) - 1))
