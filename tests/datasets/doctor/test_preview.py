"""Contact sheets: which images, what is drawn, limits, the command."""

import json
import os

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont

from seg_core import (
    DatasetNotFoundError,
    InvalidArgumentError,
    LabelOutOfRangeError,
    UnknownNameError,
    resolve_metadata,
)
from seg_core.command import main
from seg_core.labels.metadata import DatasetMetadata
from seg_core.plots.overlay import overlay
from seg_core.registry import DATASETS
from seg_datasets import fake, preview
from seg_datasets.doctor.preview import _fitted, _spread_over

COLORS = [[200, 0, 0], [0, 200, 0], [0, 0, 200]]


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SEG_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def write(tmp_path):
    """Writes a folder of black images with these masks in train, and the first in val."""

    def write(*masks, names="p{}", mode="RGB"):
        root = tmp_path / "mine"
        for number, mask in enumerate(masks):
            for split in ("train", "val") if number == 0 else ("train",):
                ids = np.asarray(mask, np.uint8)
                for kind, image in (
                    ("images", Image.new(mode, ids.shape[::-1])),
                    ("masks", Image.fromarray(ids)),
                ):
                    path = root / split / kind / f"{names.format(number)}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    image.save(path)
                    os.utime(path, ns=(0, 10**18))
        (root / "classes.toml").write_text(f'labels = ["ground", "leaf", "stone"]\ncolors = {json.dumps(COLORS)}')
        return root

    return write


def halves(left, right, height=120, width=160):
    ids = np.full((height, width), left, np.uint8)
    ids[:, width // 2 :] = right
    return ids


def has(sheet, color):
    return bool((sheet == np.array(color, np.uint8)).all(-1).any())


def blended(color):
    return [(value * round(0.45 * 256) + 128) >> 8 for value in color]


def captions_of(monkeypatch):
    """Records what is drawn as text."""
    from PIL import ImageDraw

    texts, real = [], ImageDraw.ImageDraw.text

    def text(self, xy, text, *args, **options):
        texts.append(text)
        return real(self, xy, text, *args, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return texts


# ---- what is drawn ---------------------------------------------------------------------------------------------------


def test_sheet_shows_colors_outlines_names_and_shares(write, monkeypatch):
    texts = captions_of(monkeypatch)
    root = write(halves(0, 1), halves(0, 255))
    sheet = preview(root)
    assert sheet.dtype == np.uint8
    assert has(sheet, blended(COLORS[0]))
    assert has(sheet, blended(COLORS[1]))
    assert has(sheet, COLORS[0]), "outline and legend"
    assert not has(sheet, COLORS[2]), "a class that does not occur"
    assert "mine train: 2 of 2 images" in texts
    assert [text for text in texts if text.endswith(".png")] == ["p0.png", "p1.png"]
    assert texts[-3:] == ["ground  50.00 %", "leaf  25.00 %", "ignored  25.00 %"]


@pytest.mark.parametrize("ignored", [True, False])
def test_ignored_pixels_are_hatched_and_explained(write, monkeypatch, ignored):
    texts = captions_of(monkeypatch)
    sheet = preview(write(halves(0, 255 if ignored else 1)))
    stripes = (sheet == blended((224, 224, 224))).all(-1).sum()  # a few pixels of letters have this gray too
    assert bool(stripes > 5_000) is ignored
    assert any(text.startswith("ignored") for text in texts) is ignored


def test_overlay_hatches_ignored_pixels_with_the_weight_of_the_colors():
    metadata = DatasetMetadata("two", ("a", "b"), ((250, 0, 0), (0, 250, 0)))
    image = np.full((20, 30, 3), 100, np.uint8)
    labels = halves(0, 255, 20, 30)
    plain, hatched = (overlay(image, labels, metadata, hatch_ignored=on) for on in (False, True))
    np.testing.assert_array_equal(plain[:, :15], hatched[:, :15])
    assert (plain[:, 15:] == 100).all()
    assert {tuple(pixel) for pixel in hatched[:, 15:].reshape(-1, 3).tolist()} == {(98,) * 3, (162,) * 3}


def test_tiny_share_is_not_shown_as_none(write, monkeypatch):
    texts = captions_of(monkeypatch)
    ids = np.zeros((200, 200), np.uint8)
    ids[0, 0] = 1
    preview(write(ids))
    assert "leaf  < 0.01 %" in texts


def test_split_without_masks_shows_the_images_and_says_so(write, monkeypatch):
    texts = captions_of(monkeypatch)
    root = write(halves(0, 1))
    path = root / "test" / "images" / "t.png"
    path.parent.mkdir(parents=True)
    Image.new("RGB", (40, 30), (9, 90, 200)).save(path)
    sheet = preview(root, split="test")
    assert has(sheet, (9, 90, 200))
    assert "there are no masks: the images alone" in texts
    assert not has(sheet, COLORS[0])


def test_gray_images_are_shown(write):
    assert has(preview(write(halves(0, 2), mode="L")), blended(COLORS[2]))


@pytest.mark.parametrize(
    ("height", "width"),
    [(30, 4000), (4000, 30), (1, 1), (3, 2), (1200, 1600)],
    ids=["wide", "tall", "1", "tiny", "large"],
)
def test_every_shape_of_image_has_a_place_of_the_same_area(write, height, width):
    sheet = preview(write(*[halves(0, 1, height, width)] * 3))
    assert has(sheet, blended(COLORS[0 if width > 1 else 1]))
    assert 3 * 320 * 240 < sheet.shape[0] * sheet.shape[1] < 1_000_000


def test_grid_is_about_as_wide_as_a_screen(write):
    height, width = preview(write(*[halves(0, 1)] * 12)).shape[:2]
    assert 1 < width / height < 2


def test_long_names_lose_their_middle():
    font = ImageFont.load_default(12)
    name = "a_camera_" + "x" * 200 + "_000123.png"
    shown = _fitted(name, font, 200)
    assert font.getlength(shown) <= 200
    assert shown.startswith("a_cam")
    assert shown.endswith("_000123.png")
    assert _fitted("short.png", font, 200) == "short.png"


def test_names_in_any_letters_are_drawn(write, monkeypatch):
    texts = captions_of(monkeypatch)
    preview(write(halves(0, 1), names="d\u00e9j\u00e0_{}_\u9053"))
    assert "deja_0_?.png" in texts


# ---- which images ----------------------------------------------------------------------------------------------------


def test_images_are_spread_over_the_split_by_the_seed():
    first = _spread_over(range(100), 10, 0)
    assert [index // 10 for index in first] == list(range(10))
    assert first == _spread_over(range(100), 10, 0) != _spread_over(range(100), 10, 1)
    assert _spread_over(range(3), 10, 0) == [0, 1, 2]
    assert len(set(_spread_over(range(11), 10, 0))) == 10


def test_images_with_a_class_are_those_that_contain_it(write, monkeypatch):
    texts = captions_of(monkeypatch)
    root = write(*[halves(0, 2 if number in (1, 4) else 1) for number in range(6)])
    preview(root, class_name="stone")
    assert "mine train: 2 of 2 images with class stone" in texts
    assert [text for text in texts if text.endswith(".png")] == ["p1.png", "p4.png"]


def test_fewer_images_than_asked_for_are_all_shown(write, monkeypatch):
    texts = captions_of(monkeypatch)
    preview(write(*[halves(0, 1)] * 5), count=3)
    assert "mine train: 3 of 5 images" in texts
    assert sum(text.endswith(".png") for text in texts) == 3


def test_dataset_without_files_is_drawn(monkeypatch):
    texts = captions_of(monkeypatch)
    sheet = preview("Shapes", split="val", count=2, length=4)
    assert sheet.shape[2] == 3
    assert "Shapes val: 2 of 4 images" in texts


def test_wrong_ids_of_a_dataset_of_ones_own_are_named():
    class Mine:
        metadata = DatasetMetadata("two", ("a", "b"))

        def __init__(self, root=None, split="train", transforms=None):
            pass

        def __len__(self):
            return 1

        def __getitem__(self, index):
            return torch.zeros(3, 4, 4, dtype=torch.uint8), torch.full((4, 4), 7)

    DATASETS.register("MineOfTheTest", Mine)
    with pytest.raises(
        LabelOutOfRangeError, match=r"mask of sample 0 contains ids that are not allowed: 7 \(16 pixels"
    ):
        preview("MineOfTheTest", split="train")


# ---- errors and command ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"count": 0}, InvalidArgumentError, "count must be an integer from 1 to 100, got 0"),
        ({"count": 101}, InvalidArgumentError, "count must be an integer from 1 to 100, got 101"),
        ({"seed": -1}, InvalidArgumentError, "seed must be an integer >= 0"),
        ({"out": "x.foo"}, InvalidArgumentError, "must end in .png, .jpg or another image format, got 'x.foo'"),
        ({"split": "trian"}, InvalidArgumentError, "Did you mean 'train'"),
        ({"class_name": "leav"}, UnknownNameError, "Did you mean 'leaf'.*Its classes: ground, leaf, stone"),
        ({"class_name": "stone"}, InvalidArgumentError, "'stone' is in no mask of .* train; .*that are: ground, leaf"),
        ({"target": "gone"}, DatasetNotFoundError, "neither a folder"),
    ],
)
def test_wrong_arguments_are_named_before_anything_is_written(write, monkeypatch, tmp_path, arguments, error, words):
    monkeypatch.chdir(tmp_path)
    write(halves(0, 1))
    with pytest.raises(error, match=words):
        preview(**{"target": "mine", "out": "sheet.png", **arguments})
    assert not (tmp_path / "sheet.png").exists()


def test_command_writes_the_sheet(write, tmp_path, capsys):
    root = write(halves(0, 1), halves(0, 2))
    out = tmp_path / "new" / "sheet.png"
    assert main(["datasets", "preview", str(root), "--out", str(out), "--class", "stone", "--seed", "3"]) == 0
    with Image.open(out) as image:
        np.testing.assert_array_equal(np.array(image), preview(root, class_name="stone", seed=3))
        assert capsys.readouterr().out == f"wrote {out}: {image.width}x{image.height} pixels\n"


def test_command_without_out_or_with_another_suffix_exits_with_2(write, capsys):
    root = write(halves(0, 1))
    assert main(["datasets", "preview", str(root)]) == 2
    assert "--out" in capsys.readouterr().err
    assert main(["datasets", "preview", str(root), "--out", "sheet.txt"]) == 2
    assert "must end in .png" in capsys.readouterr().err


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_binary_and_multilabel_sets_are_drawn_in_their_colors(tmp_path, task):
    fake("FolderDataset", tmp_path / "set", images_per_split=4, size=(48, 48), task=task)
    sheet = preview(tmp_path / "set", out=tmp_path / "sheet.png", split="train", count=2)
    metadata = resolve_metadata(tmp_path / "set" / "classes.toml")
    assert (tmp_path / "sheet.png").is_file()
    pixels = sheet.reshape(-1, 3).astype(int)
    for color in metadata.colors:  # as the legend shows it
        assert (np.abs(pixels - np.array(color)).max(1) <= 2).any()
