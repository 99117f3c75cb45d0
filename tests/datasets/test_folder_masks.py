"""FolderDataset.inspect: what it says about masks that hold something else than ids of classes."""

import io

import numpy as np
import pytest
from PIL import Image

from seg_datasets import FolderDataset
from tests.datasets.mask_folders import (
    BLACK,
    GREEN,
    RED,
    SIZE,
    Loaded,
    classes,
    folder,
    in_colors,
    only_odd,
    palette,
    read,
    squares,
)
from tests.datasets.own_folders import LABELS


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("SEG_CACHE", str(tmp_path_factory.mktemp("cache")))


# ---- two encodings of an object ------------------------------------------------------------------------------------


@pytest.mark.parametrize("odd", [[5], [1, 2, 3]])
def test_masks_of_0_1_and_of_0_255_are_told_and_both_are_read(tmp_path, odd):
    truth = [squares(number, 0, 1) for number in range(8)]
    folder(tmp_path, [mask * (255 if number in odd else 1) for number, mask in enumerate(truth)])
    report = FolderDataset.inspect(tmp_path)
    assert report.fits
    assert only_odd(report).startswith(
        f"masks store the object in two ways: as 1 in {8 - len(odd)} masks (the first is masks/"
    )
    assert f"as 255 in {len(odd)} (the first is masks/{odd[0]:02}.png)" in only_odd(report)
    assert report.options["label_map"] == {0: 0, 1: 1, 255: 1}
    for name, mask in read(report).items():
        assert (mask == truth[int(name[:2])]).all()


@pytest.mark.parametrize("high", ["train", "val"])
def test_splits_of_two_encodings_are_told(tmp_path, high):
    for split in ("train", "val"):
        folder(tmp_path, [squares(number, 0, 255 if split == high else 1) for number in range(4)], split)
    report = FolderDataset.inspect(tmp_path, metadata={"labels": ["a", "b"]})
    assert report.options["label_map"] == {0: 0, 1: 1, 255: 1}
    assert f"as 255 in 4 (the first is {high}/masks/00.png)" in only_odd(report)


def test_ignored_borders_beside_objects_are_no_other_encoding(tmp_path):
    masks = [squares(number, 0, 1, 255, side=8) for number in range(6)] + [squares(0, 0, 255)]
    report = FolderDataset.inspect(folder(tmp_path, masks))
    assert report.fits
    assert "label_map" not in report.options
    assert not report.oddities
    assert "255 (ignored, " in str(report)


# ---- palettes ------------------------------------------------------------------------------------------------------


def permuted(count=8, odd=(5, 6)):
    """Masks of which two have another palette, in which index 0 is red."""
    masks = []
    for number in range(count):
        ids = squares(number, 0, 1, 2)
        masks.append(
            palette(np.array([1, 0, 2], np.uint8)[ids], RED, BLACK, GREEN)
            if number in odd
            else palette(ids, BLACK, RED, GREEN)
        )
    return masks


def test_palettes_in_different_orders_are_told_and_masks_read_by_their_colors(tmp_path):
    report = FolderDataset.inspect(folder(tmp_path, permuted()))
    assert report.fits
    assert only_odd(report) == (
        "the palettes of masks are in different orders (2 masks of 8 differ from the others): in masks/05.png index 0 "
        "has the color rgb 200,30,30, which is that of index 1 in others. So they are read by their colors"
    )
    assert report.options["metadata"]["colors"] == [[*BLACK], [*RED], [*GREEN]]
    for name, mask in read(report).items():
        assert (mask == squares(int(name[:2]), 0, 1, 2)).all()


def test_black_and_white_palettes_of_both_orders_are_read_by_their_colors(tmp_path):
    masks = []
    for number in range(6):
        ids = squares(number, 0, 1)
        white = (255, 255, 255)
        masks.append(palette(ids, BLACK, white) if number % 2 else palette(1 - ids, white, BLACK))
    report = FolderDataset.inspect(folder(tmp_path, masks))
    assert report.options["metadata"]["colors"] == [[0, 0, 0], [255, 255, 255]]
    assert all((mask == squares(int(name[:2]), 0, 1)).all() for name, mask in read(report).items())


def test_palettes_in_different_orders_classes_without_colors_are_told_the_colors(tmp_path):
    report = FolderDataset.inspect(folder(tmp_path, permuted()), metadata=LABELS)
    assert not report.fits
    assert report.oddities[1].endswith("contain [0, 0, 0], [200, 30, 30], [30, 200, 30], in this order in most masks")
    colors = {**LABELS, "colors": [[*BLACK], [*RED], [*GREEN]]}
    report = FolderDataset.inspect(tmp_path, metadata=colors)
    assert report.fits
    assert all((mask == squares(int(name[:2]), 0, 1, 2)).all() for name, mask in read(report).items())


def test_palettes_in_different_orders_beside_gray_masks_do_not_fit(tmp_path):
    report = FolderDataset.inspect(folder(tmp_path, [*permuted(), squares(0, 0, 1, 2)]))
    assert not report.fits
    assert "other masks have no palette" in only_odd(report)


def test_palettes_of_other_colors_in_the_same_order_are_read_by_index(tmp_path):
    ids = squares(0, 0, 1, 2)
    ramp = [(value, value, value) for value in range(256)]
    masks = [palette(ids, BLACK, RED, GREEN), palette(ids, *ramp), palette(ids, BLACK, BLACK, BLACK), ids, ids]
    report = FolderDataset.inspect(folder(tmp_path, masks))
    assert report.fits
    assert not report.oddities
    assert "colors" not in report.options


# ---- no classes ----------------------------------------------------------------------------------------------------


def smooth(image):
    """The image at half its size, with soft edges."""
    return image.resize((SIZE, SIZE), Image.Resampling.BILINEAR, reducing_gap=None)


@pytest.mark.parametrize("text", [None, 'labels = ["ground", "road"]'])
def test_gray_masks_with_smoothed_edges_are_refused_and_the_threshold_mends_them(tmp_path, text):
    large = [np.kron(squares(number, 0, 255, side=9), np.ones((3, 3), np.uint8)) for number in range(6)]
    folder(tmp_path, [smooth(Image.fromarray(mask)) for mask in large])
    if text:
        classes(tmp_path, text)
    report = FolderDataset.inspect(tmp_path)
    assert not report.fits
    assert "are found only at edges, between others: the edges are smoothed" in only_odd(report)
    assert "Image.Resampling.NEAREST" in only_odd(report)
    line = only_odd(report).partition("mends them: ")[2].partition(", with a PNG")[0]
    for path in (tmp_path / "masks").iterdir():
        exec(line, {"Image": Loaded, "np": np, "IN": path, "OUT": path})
    report = FolderDataset.inspect(tmp_path)
    assert (report.fits, set(report.ids)) == (True, {0, 1})


def test_jpeg_masks_saved_as_png_are_refused(tmp_path):
    masks = []
    for number in range(6):
        file = io.BytesIO()
        Image.fromarray(squares(number, 0, 255).repeat(2, 0).repeat(2, 1)).save(file, "JPEG", quality=80)
        masks.append(np.asarray(Image.open(file)))
    report = FolderDataset.inspect(folder(tmp_path, masks), metadata={"labels": ["a", "b"]})
    assert not report.fits
    assert "saved as JPEG" in only_odd(report)
    assert ">= 128)" in only_odd(report)


def test_colors_with_smoothed_edges_are_refused(tmp_path):
    masks = [
        smooth(in_colors(np.kron(squares(number, 0, 1, 2, side=9), np.ones((3, 3), np.uint8)), BLACK, RED, GREEN))
        for number in range(6)
    ]
    report = FolderDataset.inspect(folder(tmp_path, masks))
    assert not report.fits
    assert "only [0, 0, 0], [30, 200, 30], [200, 30, 30] form areas: the edges are smoothed" in only_odd(report)


def test_rare_classes_and_classes_between_others_are_no_smoothed_edges(tmp_path):
    masks = [squares(number, 0, 128, 255) for number in range(6)]
    for mask in masks:
        mask[12, 12] = 64  # one pixel
    report = FolderDataset.inspect(folder(tmp_path, masks))
    assert report.fits
    assert report.options["label_map"] == {0: 0, 64: 1, 128: 2, 255: 3}


def test_gray_photos_are_no_masks(tmp_path):
    generator = np.random.default_rng(0)
    report = FolderDataset.inspect(folder(tmp_path, generator.integers(0, 120, (5, SIZE, SIZE), np.uint8)))
    assert not report.fits
    assert report.metadata is None
    assert only_odd(report).startswith("masks contain 120 values that form no areas: these are images, not masks")


def test_many_classes_in_areas_are_masks(tmp_path):
    blocks = np.arange(150, dtype=np.uint8).reshape(10, 15)
    masks = [np.kron(np.roll(blocks, number), np.ones((4, 4), np.uint8)) for number in range(5)]
    report = FolderDataset.inspect(folder(tmp_path, masks))
    assert report.fits
    assert report.metadata.num_classes == 150


def test_one_mask_in_colors_among_masks_of_ids_is_named(tmp_path):
    masks = [squares(number, 0, 1, 2) for number in range(8)]
    masks[4] = in_colors(masks[4], BLACK, RED, GREEN)
    report = FolderDataset.inspect(folder(tmp_path, masks))
    assert not report.fits
    assert only_odd(report).startswith("1 mask of 8 holds colors, and the others hold ids: masks/04.png. Save all")


def test_mask_of_ids_among_masks_in_colors_is_named_unless_it_holds_one_of_their_colors(tmp_path):
    masks = [in_colors(squares(number, 0, 1, 2), BLACK, RED, GREEN) for number in range(6)]
    empty = np.zeros((SIZE, SIZE), np.uint8)
    compressed = palette(squares(0, 0, 1), GREEN, RED)
    report = FolderDataset.inspect(folder(tmp_path / "a", [*masks, empty, compressed]))
    assert report.fits
    assert not report.oddities
    report = FolderDataset.inspect(folder(tmp_path / "b", [*masks, squares(0, 0, 1)]))
    assert only_odd(report).startswith("1 mask of 7 holds ids, and the others hold colors: masks/06.png")


# ---- numbers of objects --------------------------------------------------------------------------------------------


def test_ids_of_class_and_object_are_told_and_the_line_mends_them(tmp_path):
    masks = [squares(number, 7, 24000 + number, 26000 + number) for number in range(6)]
    report = FolderDataset.inspect(folder(tmp_path, masks))
    assert not report.fits
    assert "look like class * 1000 + number of the object, as 24000 = class 24, object 0" in only_odd(report)
    line = only_odd(report).partition("ids = ")[2].partition(", and correct")[0]
    mended = [eval(line, {"np": np, "ids": mask}) for mask in masks]
    assert {int(raw) for mask in mended for raw in np.unique(mask)} == {7, 24, 26}


def test_ids_1_to_n_with_another_n_in_each_mask_are_told(tmp_path):
    masks = []
    for number in range(8):
        mask = np.zeros((SIZE, SIZE), np.uint8)
        for thing in range(number + 1):
            mask[thing * 3 : thing * 3 + 2, 2:20] = thing + 1
        masks.append(mask)
    report = FolderDataset.inspect(folder(tmp_path, masks))
    assert "the ids 1 to n, with another n in each mask (up to 8), look like numbers of objects" in only_odd(report)
    labels = {"labels": [f"c{index}" for index in range(9)]}
    assert not FolderDataset.inspect(tmp_path, metadata=labels).oddities  # a person says that they are classes


def test_spread_ids_of_classes_are_no_numbers_of_objects(tmp_path):
    report = FolderDataset.inspect(folder(tmp_path, [squares(number, 0, 1000, 2000) for number in range(6)]))
    assert report.fits
    assert report.options["label_map"] == {0: 0, 1000: 1, 2000: 2}


def test_channel_of_classes_beside_a_channel_of_objects_is_told(tmp_path):
    masks = []
    for number in range(8):
        ids = squares(number, 0, 1, 2)
        masks.append(np.dstack([ids, ids * (number + 1), ids * 0]))
    report = FolderDataset.inspect(folder(tmp_path, masks))
    assert not report.fits
    assert "channel R alone has the values 0-2" in only_odd(report)
    line = only_odd(report).partition("alone: ")[2]
    for path in (tmp_path / "masks").iterdir():
        exec(line, {"Image": Loaded, "IN": path, "OUT": path})
    assert FolderDataset.inspect(tmp_path).fits
