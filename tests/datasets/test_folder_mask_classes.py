"""FolderDataset.inspect: what it says about classes, ignored pixels, names of classes, and images beside masks."""

import json

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
    read,
    squares,
)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("SEG_CACHE", str(tmp_path_factory.mktemp("cache")))


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
    classes(tmp_path, only_odd(report).partition("object: ")[2].partition(";")[0])
    assert FolderDataset.inspect(tmp_path).fits
    assert only_odd(report).endswith('; or write task = "binary" beside the label')
    classes(tmp_path, 'labels = ["polyp"]\ntask = "binary"')
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


def test_images_of_16_bits_are_described_and_told(tmp_path):
    folder(
        tmp_path,
        [squares(number, 0, 1) for number in range(4)],
        images=lambda number: Image.fromarray(np.full((SIZE, SIZE), 3000 + number, np.uint16)),
    )
    report = FolderDataset.inspect(tmp_path)
    assert report.fits
    assert report.options["channels"] == {"names": ["gray"], "range": [0, 4095]}
    assert "nothing describes their channels" in only_odd(report)
    assert 'channels = { names = ["gray"], range = [0, 4095] }' in only_odd(report)
    image, _ = FolderDataset(tmp_path, **report.options)[0]
    assert (image.shape[0], int(image[0, 0, 0])) in ((1, 3000 + number) for number in range(4))


def test_images_larger_than_allowed_are_told(tmp_path):
    folder(tmp_path, [squares(number, 0, 1) for number in range(4)])
    report = FolderDataset.inspect(tmp_path, max_pixels=100)
    assert not report.fits
    assert "more than max_pixels=100" in only_odd(report)
