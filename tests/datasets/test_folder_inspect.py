"""FolderDataset.inspect: what it finds, and what is odd."""

import dataclasses
import re
import tomllib

import numpy as np
import pytest
from PIL import Image

from seg_core import DatasetNotFoundError, InvalidArgumentError
from seg_datasets import FolderDataset
from tests.datasets.own_folders import HEIGHT, LABELS, WIDTH, image, mask, names, write


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("SEG_CACHE", str(tmp_path_factory.mktemp("cache")))


def ids_folder(root, *ids, count=5, kind=np.uint8):
    """Masks that each hold all of `ids`, in columns."""
    write(root, names(count), masks="")
    for name in names(count):
        columns = [ids[column % len(ids)] for column in range(max(WIDTH, len(ids)))]
        mask(root / f"masks/{name}.png", np.array([columns] * HEIGHT, kind))
        if len(columns) > WIDTH:
            Image.new("RGB", (len(columns), HEIGHT)).save(root / f"images/{name}.jpg")
    return root


def opened(report):
    """All masks of the dataset that a report describes, as the set of their ids."""
    found = set()
    for split in ("train", "val"):
        dataset = FolderDataset(report.root, split=split, **report.options)
        for index in range(len(dataset)):
            found |= set(dataset[index][1].unique().tolist())
    return found


def test_plain_folder_report_has_counts_suffixes_sizes_and_ids(tmp_path):
    ids_folder(tmp_path, 0, 1, 2)
    report = FolderDataset.inspect(tmp_path, metadata=LABELS)
    assert report.fits
    assert report.counts == {"train": 4, "val": 1}
    assert (report.image_suffixes, report.mask_suffixes) == ({".jpg": 5}, {".png": 5})
    assert report.sizes == ((HEIGHT, WIDTH),) * 3
    assert report.ids == pytest.approx({0: 1 / 3, 1: 1 / 3, 2: 1 / 3})
    assert report.kind == "ids"
    assert report.metadata.labels == ("ground", "leaf", "stone")
    assert not report.suggested
    assert report.options == {"metadata": LABELS}
    assert not report.oddities
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.fits = False
    assert str(report).splitlines() == [
        str(tmp_path),
        "  images   4 train, 1 val",
        "  files    images .jpg, masks .png",
        f"  sizes    all {WIDTH}x{HEIGHT}",
        "  masks    ids: 0 (33.3%), 1 (33.3%), 2 (33.3%)",
    ]


def test_sizes_are_smallest_median_and_largest_of_each_side(tmp_path):
    for number, (height, width) in enumerate([(4, 9), (6, 7), (8, 5)]):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.new("RGB", (width, height)).save(tmp_path / f"images/{number}.png")
        mask(tmp_path / f"masks/{number}.png", np.full((height, width), number % 2, np.uint8))
    report = FolderDataset.inspect(tmp_path)
    assert report.sizes == ((4, 5), (6, 7), (8, 9))
    assert "smallest 5x4, median 7x6, largest 9x8" in str(report)


@pytest.mark.parametrize(
    ("ids", "kind", "label_map", "num_classes"),
    [
        ((0, 1, 2), "ids", None, 3),
        ((0, 1, 255), "ids", None, 2),
        ((0, 255), "0 and 255", {0: 0, 255: 1}, 2),
        ((1, 2, 3), "ids", {1: 0, 2: 1, 3: 2}, 3),
        ((1, 2, 255), "ids", {1: 0, 2: 1, 255: "ignore"}, 2),
        ((0, 128, 255), "ids", {0: 0, 128: 1, 255: 2}, 3),
        ((10, 20, 200), "ids", {10: 0, 20: 1, 200: 2}, 3),
        ((0, 1, 2, 5), "ids", None, 6),
    ],
)
def test_classes_are_suggested_for_the_ids(tmp_path, ids, kind, label_map, num_classes):
    report = FolderDataset.inspect(ids_folder(tmp_path, *ids))
    assert report.fits
    assert report.suggested
    assert (report.kind, report.options.get("label_map")) == (kind, label_map)
    assert report.options["metadata"] == {"labels": [f"class_{index}" for index in range(num_classes)]}
    expected = {0, 1, 2} if ids == (0, 128, 255) else None
    assert opened(report) <= {*range(num_classes), 255}
    assert expected is None or opened(report) == expected


@pytest.mark.parametrize(
    ("ids", "labels", "label_map"),
    [
        ((0, 255), ["a", "b"], {0: 0, 255: 1}),
        ((1, 2, 3), ["a", "b", "c"], {1: 0, 2: 1, 3: 2}),
        ((0, 1, 2), ["a", "b", "c"], None),
    ],
)
def test_label_map_is_suggested_for_known_classes(tmp_path, ids, labels, label_map):
    report = FolderDataset.inspect(ids_folder(tmp_path, *ids), metadata={"labels": labels})
    assert report.fits
    assert report.options.get("label_map") == label_map
    assert any("the label map is a guess" in sentence for sentence in report.oddities) == (label_map is not None)
    opened(report)


def test_ids_that_fit_no_class_are_told(tmp_path):
    report = FolderDataset.inspect(ids_folder(tmp_path, 0, 9, 17), metadata={"labels": ["a", "b"]})
    assert not report.fits
    assert "masks contain the ids 9, 17, which are no class (2 classes, 0 to 1)" in report.oddities[0]


@pytest.mark.parametrize("only", [0, 1])
def test_one_class_beside_ignored_pixels_is_told(tmp_path, only):
    report = FolderDataset.inspect(ids_folder(tmp_path, only, 255), metadata={"labels": ["a", "b", "c"]})
    assert report.fits  # they can be read and shown
    assert any(f"every pixel is {'ab'[only]} or ignored" in sentence for sentence in report.oddities)


def test_ids_from_0_to_k_are_not_guessed_but_told_with_both_maps(tmp_path):
    root = ids_folder(tmp_path, 0, 1, 2, 3)
    report = FolderDataset.inspect(root, metadata={"labels": ["a", "b", "c"]})
    assert not report.fits and "label_map" not in report.options
    (text,) = (sentence for sentence in report.oddities if "two ways" in sentence)
    lines = re.findall(r"label_map = (\{.*?\})", text)
    for line, ignored in zip(lines, (0, 3), strict=True):
        label_map = tomllib.loads(f"x = {line}")["x"]
        assert [raw for raw, to in label_map.items() if to == "ignore"] == [str(ignored)]
        assert FolderDataset.inspect(root, metadata={"labels": ["a", "b", "c"]}, label_map=label_map).fits


@pytest.mark.parametrize(("name", "ids", "ignored"), [("CamVid", range(12), {11}), ("LoveDA", range(8), {0})])
def test_label_map_of_a_known_label_set_is_that_of_its_dataset(tmp_path, name, ids, ignored):
    report = FolderDataset.inspect(ids_folder(tmp_path, *ids), metadata=name)
    assert report.fits
    assert {raw for raw, to in report.options["label_map"].items() if to == "ignore"} == ignored
    assert any(f"the label map is that of {name}" in sentence for sentence in report.oddities)


def test_ids_from_1_of_a_label_set_with_void_at_the_end_are_told_with_both_maps(tmp_path):
    report = FolderDataset.inspect(ids_folder(tmp_path, *range(1, 12)), metadata="CamVid")
    assert not report.fits
    assert any("if 11 has no class, as in CamVid, set" in sentence for sentence in report.oddities)


def test_label_map_given_is_kept_and_checked(tmp_path):
    ids_folder(tmp_path, 3, 7)
    label_map = {"3": 0, "7": 1}
    report = FolderDataset.inspect(tmp_path, metadata={"labels": ["a", "b"]}, label_map=label_map)
    assert report.fits
    assert report.options["label_map"] == label_map
    assert not FolderDataset.inspect(tmp_path, metadata={"labels": ["a", "b"]}, label_map={"3": 0}).fits


def test_class_that_no_mask_contains_is_told(tmp_path):
    report = FolderDataset.inspect(ids_folder(tmp_path, 0, 2), metadata=LABELS)
    assert report.fits
    assert report.oddities == ("no mask contains leaf",)


def test_one_class_does_not_fit(tmp_path):
    report = FolderDataset.inspect(ids_folder(tmp_path, 0))
    assert not report.fits
    assert any("two are needed" in sentence for sentence in report.oddities)


def test_classes_file_is_used_and_not_written_again(tmp_path):
    (ids_folder(tmp_path, 0, 1) / "classes.toml").write_text('labels = ["ground", "leaf"]')
    report = FolderDataset.inspect(tmp_path)
    assert report.fits
    assert report.options == {}
    assert report.metadata.labels == ("ground", "leaf")
    (tmp_path / "classes.toml").write_text("labels = 3")
    report = FolderDataset.inspect(tmp_path)
    assert not report.fits
    assert "classes.toml: labels must be a list" in report.oddities[0]


@pytest.mark.parametrize("kind", ["palette", "1 bit", "ids in three equal channels"])
def test_other_kinds_of_id_masks_are_named(tmp_path, kind):
    write(tmp_path, names(5), masks="")
    (tmp_path / "masks").mkdir()
    ids = np.array([[0, 1] * 3] * HEIGHT, np.uint8)
    for name in names(5):
        made = Image.fromarray(ids.astype(bool) if kind == "1 bit" else ids)
        if kind == "palette":
            made.putpalette([255, 0, 0, 0, 255, 0])
        elif kind != "1 bit":
            made = Image.merge("RGB", [made] * 3)
        made.save(tmp_path / f"masks/{name}.png")
    report = FolderDataset.inspect(tmp_path)
    assert (report.fits, report.kind, set(report.ids)) == (True, kind, {0, 1})
    assert not report.oddities


def write_colors(root, *colors):
    write(root, names(5), masks="")
    (root / "masks").mkdir()
    for name in names(5):
        pixels = np.array([[colors[column % len(colors)] for column in range(WIDTH)]] * HEIGHT, np.uint8)
        Image.fromarray(pixels).save(root / f"masks/{name}.png")
    return root


def test_color_masks_classes_of_their_colors_are_suggested(tmp_path):
    write_colors(tmp_path, (255, 0, 0), (255, 0, 0), (0, 0, 0))
    report = FolderDataset.inspect(tmp_path)
    assert (report.fits, report.kind, report.suggested) == (True, "colors", True)
    assert report.options == {
        "colors": True,
        "metadata": {"labels": ["class_0", "class_1"], "colors": [[255, 0, 0], [0, 0, 0]]},
    }
    assert report.ids == pytest.approx({0: 2 / 3, 1: 1 / 3})
    assert opened(report) == {0, 1}


def test_color_masks_with_known_colors(tmp_path):
    (write_colors(tmp_path, (255, 0, 0), (0, 9, 0), (0, 0, 0)) / "classes.json").write_text(
        '[{"name": "a", "color": [255, 0, 0]}, {"name": "b", "color": [0, 9, 0]}]'
    )
    report = FolderDataset.inspect(tmp_path)
    assert report.fits
    assert report.options == {"colors": True}
    assert opened(report) == {0, 1, 255}


def test_color_masks_classes_without_colors_are_told_the_colors(tmp_path):
    write_colors(tmp_path, (255, 0, 0), (0, 9, 0))
    report = FolderDataset.inspect(tmp_path, metadata={"labels": ["a", "b"]})
    assert not report.fits
    assert "[255, 0, 0], [0, 9, 0]" in report.oddities[0]


def test_color_masks_unknown_color_is_told(tmp_path):
    write_colors(tmp_path, (255, 0, 0), (0, 9, 0))
    metadata = {"labels": ["a", "b"], "colors": [[255, 0, 0], [1, 1, 1]]}
    report = FolderDataset.inspect(tmp_path, metadata=metadata)
    assert not report.fits
    assert any("rgb 0,9,0" in sentence for sentence in report.oddities)


def test_photos_as_masks_are_told(tmp_path):
    write(tmp_path, names(5), masks="")
    (tmp_path / "masks").mkdir()
    for name in names(5):
        pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"masks/{name}.png")
    report = FolderDataset.inspect(tmp_path)
    assert not report.fits
    assert "different colors: their edges are smoothed or compressed, or they are images" in report.oddities[0]


def test_masks_of_another_size_are_told(tmp_path):
    ids_folder(tmp_path, 0, 1)
    mask(tmp_path / "masks/p02.png", np.zeros((HEIGHT, WIDTH + 1), np.uint8))
    report = FolderDataset.inspect(tmp_path)
    assert not report.fits
    assert any(
        "1 mask has another size than its image: the mask of images/p02.jpg has 7x4" in sentence
        for sentence in report.oddities
    )


def test_damaged_files_are_told(tmp_path):
    ids_folder(tmp_path, 0, 1)
    (tmp_path / "masks/p02.png").write_bytes(b"no image")
    report = FolderDataset.inspect(tmp_path)
    assert not report.fits
    assert "p02.png" in report.oddities[-1]


@pytest.mark.parametrize(
    ("images", "masks", "options"),
    [
        ("images/{}.jpg", "masks/{}_mask.png", {"mask_suffix": "_mask"}),
        ("images/x/{}.jpg", "masks/{}_L.png", {"mask_suffix": "_L", "pair_by": "name"}),
        ("rgb/{}.png", "seg/{}.png", {"images": "rgb", "masks": "seg"}),
        ("{}.jpg", "{}.png", {"images": "*.jpg", "masks": "*.png"}),
    ],
)
def test_options_that_pair_are_found_and_told(tmp_path, images, masks, options):
    report = FolderDataset.inspect(write(tmp_path, names(9), images, masks))
    assert report.fits
    assert {key: report.options[key] for key in options} == options
    assert "the usual names do not fit" in report.oddities[0]
    assert opened(report) == {0, 1, 2}


def test_gray_images_and_masks_beside_them_are_told_apart_by_the_names(tmp_path):
    for name in names(4):
        mask(tmp_path / f"scans/{name}.png", 7)
        mask(tmp_path / f"a_labels/{name}.png", np.array([[0, 1] * 3] * HEIGHT, np.uint8))
    assert FolderDataset.inspect(tmp_path).options["masks"] == "a_labels"


def test_lists_beside_the_images_are_found(tmp_path):
    write(tmp_path, names(6))
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits/train.txt").write_text("p00\np01\np02\n")
    (tmp_path / "splits/val.txt").write_text("p03\n")
    report = FolderDataset.inspect(tmp_path)
    assert report.options["split_file"] == "splits/{split}.txt"
    assert report.counts == {"train": 3, "val": 1}


def test_no_val_folder_train_is_split(tmp_path):
    write(tmp_path / "train", names(6))
    report = FolderDataset.inspect(tmp_path)
    assert report.fits
    assert report.counts == {"train": 5, "val": 1}
    assert report.oddities == ("there is no val split, so the files of train are split into train and val",)


def test_test_split_is_counted(tmp_path):
    for split in ("train", "val"):
        write(tmp_path / split, names(3))
    write(tmp_path / "test", names(2), masks="")
    assert FolderDataset.inspect(tmp_path).counts == {"train": 3, "val": 3, "test": 2}


def test_frames_of_sequences_are_kept_together(tmp_path):
    write(tmp_path, [f"seq{sequence}_{frame:05}" for sequence in range(4) for frame in range(6)])
    report = FolderDataset.inspect(tmp_path)
    assert report.fits
    assert report.options["groups"] == "^(.*?)[0-9]+$"
    assert report.counts == {"train": 18, "val": 6}


def test_missing_partner_is_told_and_does_not_fit(tmp_path):
    write(tmp_path, names(6))
    image(tmp_path / "images/odd.jpg")
    report = FolderDataset.inspect(tmp_path)
    assert not report.fits
    assert "odd.jpg" in report.oddities[0]
    with pytest.warns(UserWarning, match="left out"):
        report = FolderDataset.inspect(tmp_path, missing="skip")
        assert report.fits
        opened(report)


def test_empty_folder_is_told(tmp_path):
    report = FolderDataset.inspect(tmp_path)
    assert not report.fits
    assert "images: no such folder" in str(report)


def test_root_missing_or_option_unknown_is_an_error(tmp_path):
    with pytest.raises(DatasetNotFoundError, match="does not exist"):
        FolderDataset.inspect(tmp_path / "nowhere")
    with pytest.raises(
        InvalidArgumentError, match="FolderDataset has no option 'mask_sufix'. Did you mean 'mask_suffix'"
    ):
        FolderDataset.inspect(tmp_path, mask_sufix="_mask")
