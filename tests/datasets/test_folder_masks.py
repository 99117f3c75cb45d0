"""FolderDataset.inspect: what it says about masks that hold something else than ids of classes."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from seg_datasets import FolderDataset
from tests.datasets.own_folders import LABELS

SIZE = 24


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("SEG_CACHE", str(tmp_path_factory.mktemp("cache")))


def squares(number, *values, side=10):
    """Ids (24, 24): a square per value in one corner each, the first value around them."""
    ids = np.full((SIZE, SIZE), values[0], np.uint16 if max(values) > 255 else np.uint8)
    for place, value in enumerate(values[1:]):
        top, left = (place + number) % 2 * 13, (place // 2 + place + number) % 2 * 13
        ids[top : top + side, left : left + side] = value
    return ids


def folder(root, masks, split="", images=None):
    """Writes a mask, an array or an image, and its image for each entry."""
    for number, mask in enumerate(masks):
        made = mask if isinstance(mask, Image.Image) else Image.fromarray(mask)
        image = images(number) if images else Image.new("RGB", made.size, (number, 2, 3))
        for picture, name in ((image, "images"), (made, "masks")):
            path = root / split / name / f"{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)
    return root


def palette(ids, *colors):
    image = Image.fromarray(ids)
    image.putpalette([channel for color in colors for channel in color])
    return image


def in_colors(ids, *colors):
    return Image.fromarray(np.array(colors, np.uint8)[ids])


def classes(root, text):
    (root / "classes.toml").write_text(text)
    return root


def read(report):
    """Returns the masks of both splits by name of the file."""
    found = {}
    for split in ("train", "val"):
        dataset = FolderDataset(report.root, split=split, **report.options)
        found |= {dataset.file_names(i)[1].rsplit("/")[-1]: dataset[i][1].numpy() for i in range(len(dataset))}
    return found


def only_odd(report):
    (sentence,) = report.oddities
    return sentence


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

BLACK, RED, GREEN = (0, 0, 0), (200, 30, 30), (30, 200, 30)


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
        exec(line, {"Image": Image, "np": np, "IN": path, "OUT": path})
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


# ---- classes and ignored pixels ------------------------------------------------------------------------------------


def test_color_of_no_class_is_reported_as_ignored_and_asked_about(tmp_path):
    folder(tmp_path, [in_colors(squares(number, 0, 1, 2), BLACK, RED, GREEN) for number in range(6)])
    classes(tmp_path, 'labels = ["a", "b"]\ncolors = [[200, 30, 30], [30, 200, 30]]')
    report = FolderDataset.inspect(tmp_path)
    assert report.fits
    assert report.ids.keys() == {0, 1, 255}
    assert "colors: 0 a [200, 30, 30] (17.4%), 1 b [30, 200, 30] (17.4%), 255 [0, 0, 0] (ignored, 65.3%)" in str(report)
    assert "is that of no class, so its pixels are ignored: is it a class, such as the background?" in only_odd(report)


def test_class_of_one_pixel_has_a_share_above_nothing(tmp_path):
    masks = [np.zeros((90, 90), np.uint8) for _ in range(4)]
    masks[2][3, 3] = 1
    assert "0 (100.0%), 1 (<0.1%)" in str(FolderDataset.inspect(folder(tmp_path, masks)))


def test_masks_that_are_all_ignored_are_told(tmp_path):
    report = FolderDataset.inspect(folder(tmp_path, [squares(0, 255)] * 4))
    assert not report.fits
    assert only_odd(report) == "all pixels of 4 masks are ignored (255): nothing can be learned"


def test_one_class_is_told_to_name_the_background_and_doing_so_fits(tmp_path):
    folder(tmp_path, [squares(number, 0, 1) for number in range(4)])
    report = FolderDataset.inspect(classes(tmp_path, 'labels = ["polyp"]'))
    assert not report.fits
    assert "label_map" not in report.options
    assert "there is one class, and masks contain the ids 0-1; two are needed" in only_odd(report)
    classes(tmp_path, only_odd(report).partition("object: ")[2])
    assert FolderDataset.inspect(tmp_path).fits


@pytest.mark.parametrize(("top", "ignored"), [(9, 255), (200, 255), (290, 65535)])
def test_id_that_no_mask_contains_keeps_its_number(tmp_path, top, ignored):
    ids = [raw for raw in range(top + 1) if raw != 5]
    ids += [ids[-1]] * (300 - len(ids))
    blocks = np.array(ids, np.uint16 if top > 255 else np.uint8).reshape(15, 20)
    masks = [np.kron(np.roll(blocks, number), np.ones((4, 4), blocks.dtype)) for number in range(5)]
    report = FolderDataset.inspect(folder(tmp_path, masks))
    assert report.fits
    assert only_odd(report) == "no mask contains class_5"
    assert report.metadata.num_classes == top + 1
    assert report.metadata.ignore_index == ignored
    assert all((mask == masks[int(name[:2])]).all() for name, mask in read(report).items())


@pytest.mark.parametrize("suffix", ["json", "toml"])
def test_list_of_300_names_is_told_how_to_set_the_ignored_value(tmp_path, suffix):
    names = [f"c{index}" for index in range(300)]
    folder(tmp_path, [squares(number, 0, 299) for number in range(4)])
    path = tmp_path / f"classes.{suffix}"
    path.write_text(json.dumps(names) if suffix == "json" else f"labels = {names}")
    report = FolderDataset.inspect(tmp_path)
    assert not report.fits
    if suffix == "json":
        text = only_odd(report).partition("write ")[2]
        assert text == '{"labels": [...], "ignore_index": 65535}'
        path.write_text(text.replace("[...]", json.dumps(names)))
    else:
        assert only_odd(report).endswith("; write ignore_index = 65535 beside labels = [...]")
        path.write_text(f"labels = {names}\nignore_index = 65535")
    assert FolderDataset.inspect(tmp_path).fits


def test_many_ids_are_cut_in_every_line(tmp_path):
    blocks = np.arange(0, 240, 2, dtype=np.uint8).reshape(10, 12)
    report = FolderDataset.inspect(
        folder(tmp_path, [np.kron(blocks, np.ones((4, 4), np.uint8))] * 4), metadata={"labels": ["a", "b"]}
    )
    assert "ids 2, 4, 6" in only_odd(report)
    assert "38, 40 and 99 more, which are no class (2 classes, 0 to 1)" in only_odd(report)


# ---- names of classes ----------------------------------------------------------------------------------------------

NAMES = {
    "_classes.csv": "Pixel Value, Class\n0, ground\n1, leaf\n2, stone\n",
    "class_names.txt": "ground\nleaf\nstone\n",
    "codes.txt": "\ufeffground\r\nleaf\r\nstone",
    "train/_classes.csv": "Pixel Value, Class\n0, ground\n1, leaf\n2, stone\n",
}


@pytest.mark.parametrize("name", NAMES)
def test_class_names_of_other_tools_are_told_and_the_line_is_right(tmp_path, name):
    folder(tmp_path, [squares(number, 0, 1, 2) for number in range(6)])
    (tmp_path / "train").mkdir()
    (tmp_path / name).write_text(NAMES[name])
    sentence = only_odd(FolderDataset.inspect(tmp_path))
    assert sentence.startswith(f"class names found in {name}, not used: write classes.toml into {tmp_path} with ")
    report = FolderDataset.inspect(classes(tmp_path, sentence.partition(f"{tmp_path} with ")[2]))
    assert report.fits
    assert report.metadata.labels == ("ground", "leaf", "stone")


def test_class_names_and_colors_of_another_tool_are_told(tmp_path):
    folder(tmp_path, [in_colors(squares(number, 0, 1, 2), BLACK, RED, GREEN) for number in range(6)])
    (tmp_path / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbg:0,0,0::\nb:30,200,30::\na:200,30,30::\n"
    )
    sentence = only_odd(FolderDataset.inspect(tmp_path))
    report = FolderDataset.inspect(
        classes(tmp_path, sentence.partition(f"{tmp_path} with ")[2].replace(" and, below it, ", "\n"))
    )
    assert report.fits
    assert report.metadata.labels == ("bg", "b", "a")
    assert "2 a [200, 30, 30]" in str(report)


def test_files_without_class_names_are_left_out(tmp_path):
    folder(tmp_path, [squares(number, 0, 1, 2) for number in range(6)])
    (tmp_path / "_classes.csv").write_text("file,x,y\na,1,2\n")
    (tmp_path / "labelmap.txt").write_text("a line\n")
    (tmp_path / "classes.txt").write_bytes(b"\xff\xfe\x00")
    assert not FolderDataset.inspect(tmp_path).oddities


# ---- images --------------------------------------------------------------------------------------------------------


def tagged(root, tag, size=(SIZE, 10)):
    masks = [np.zeros((10, SIZE), np.uint8) + np.arange(SIZE, dtype=np.uint8) // 12 for _ in range(4)]
    folder(root, masks, images=lambda number: Image.new("RGB", size, (number, 2, 3)))
    for path in (root / "images").iterdir():
        image = Image.open(path)
        exif = image.getexif()
        exif[0x112] = tag
        image.save(path.with_suffix(".jpg"), exif=exif)
        path.unlink()
    return root


def test_masks_drawn_on_the_images_as_stored_are_told_and_read(tmp_path):
    report = FolderDataset.inspect(tagged(tmp_path, 6))
    assert report.fits
    assert "4 images of 4 have an orientation tag, and the masks were drawn on the images as stored" in only_odd(report)
    assert report.options["orientation"] == "stored"
    assert report.sizes[0] == (10, SIZE)
    assert len(read(report)) == 4


def test_masks_of_upright_images_fit_as_they_are(tmp_path):
    report = FolderDataset.inspect(tagged(tmp_path, 6, size=(10, SIZE)))
    assert report.fits
    assert not report.oddities
    assert "orientation" not in report.options


class Loaded:
    """The names of PIL.Image that a line uses; files are closed."""

    Resampling = Image.Resampling

    @staticmethod
    def open(path):
        with Image.open(path) as image:
            return image.copy()


def test_masks_that_are_smaller_than_their_images_are_told_how_to_resize_them(tmp_path):
    masks = [squares(number, 0, 1) for number in range(6)]
    folder(tmp_path, masks, images=lambda _: Image.new("RGB", (2 * SIZE, 2 * SIZE)))
    report = FolderDataset.inspect(tmp_path)
    assert not report.fits
    assert "6 masks have another size than their image" in only_odd(report)
    line = only_odd(report).partition("by ")[2]
    for path in (tmp_path / "masks").iterdir():
        exec(line, {"Image": Loaded, "MASK": path, "IMAGE": tmp_path / "images" / path.name, "OUT": path})
    assert FolderDataset.inspect(tmp_path).fits


def test_one_mask_that_is_rotated_is_named(tmp_path):
    masks = [np.zeros((12, SIZE), np.uint8) + np.arange(SIZE, dtype=np.uint8) % 2 for _ in range(6)]
    folder(tmp_path, masks)
    Image.fromarray(masks[5].T.copy()).save(tmp_path / "masks/05.png")
    text = only_odd(FolderDataset.inspect(tmp_path))
    assert text.startswith("1 mask has another size than its image: the mask of images/05.png has 12x24 pixels")
    assert "Width and height are exchanged" in text


def test_images_of_16_bits_are_told(tmp_path):
    folder(
        tmp_path,
        [squares(number, 0, 1) for number in range(4)],
        images=lambda number: Image.fromarray(np.full((SIZE, SIZE), 3000 + number, np.uint16)),
    )
    report = FolderDataset.inspect(tmp_path)
    assert not report.fits
    assert "images/" in only_odd(report)
    assert "has 16 bits per channel; 8-bit gray or color is needed" in only_odd(report)


def test_images_larger_than_allowed_are_told(tmp_path):
    folder(tmp_path, [squares(number, 0, 1) for number in range(4)])
    report = FolderDataset.inspect(tmp_path, max_pixels=100)
    assert not report.fits
    assert "more than max_pixels=100" in only_odd(report)
