"""Color masks: exact decoding, unknown colors, index masks."""

import pickle
import re

import numpy as np
import pytest
from PIL import Image, ImageDraw

from seg_core import CorruptFileError, DatasetNotFoundError, InvalidArgumentError, LabelMap, resolve_metadata
from seg_datasets.doctor.fake_colors import write_colors
from seg_datasets.reading.base import Edition
from seg_datasets.reading.color_masks import UNKNOWN, ColorReader
from seg_datasets.reading.layout import Layout

ISAID = dict(enumerate(resolve_metadata("iSAID").colors))
ISPRS = {**dict(enumerate(resolve_metadata("Potsdam").colors)), 6: (0, 0, 0)}
PALETTES = {"iSAID": ISAID, "ISPRS": ISPRS}


def slow_ids(pixels, colors):
    """Looks up one pixel after the other."""
    by_color = {color: index for index, color in colors.items()}
    rows = [[by_color.get(tuple(int(value) for value in pixel), UNKNOWN) for pixel in row] for row in pixels]
    return np.array(rows, np.uint8)


def write(path, pixels):
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("name", PALETTES)
def test_reader_random_colors_match_pixel_by_pixel_lookup(tmp_path, name):
    colors = PALETTES[name]
    rng = np.random.default_rng(0)
    table = np.array(list(colors.values()), np.uint8)
    pixels = table[rng.integers(0, len(table), (40, 50))]
    # some colors with one channel of another class, some random ones
    mixed = rng.random((40, 50, 3)) < 0.1
    pixels[mixed] = table[rng.integers(0, len(table), (40, 50))][mixed]
    noise = rng.random((40, 50)) < 0.2
    pixels[noise] = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)[noise]
    path = write(tmp_path / "mask.png", pixels)
    with pytest.warns(UserWarning, match="colors that are not a class"):
        ids = ColorReader(colors)(path)
    assert ids.dtype == np.uint8
    np.testing.assert_array_equal(ids, slow_ids(pixels, colors))
    assert set(np.unique(ids)) == {*colors, UNKNOWN}


@pytest.mark.parametrize("height", [1, 255, 256, 257, 700])
def test_reader_tall_masks_are_complete(tmp_path, height):
    table = np.array(list(ISAID.values()), np.uint8)
    expected = np.random.default_rng(height).integers(0, 16, (height, 3), dtype=np.uint8)
    path = write(tmp_path / "mask.png", table[expected])
    np.testing.assert_array_equal(ColorReader(ISAID, "error")(path), expected)


@pytest.mark.parametrize("name", PALETTES)
def test_reader_colors_off_by_one_are_unknown(tmp_path, name):
    colors = PALETTES[name]
    table = np.array(list(colors.values()), int)
    near = [table + sign * np.eye(3, dtype=int)[channel] for channel in range(3) for sign in (-1, 1)]
    pixels = np.concatenate(near)
    pixels = pixels[((pixels >= 0) & (pixels <= 255)).all(axis=1)].astype(np.uint8)[None]
    path = write(tmp_path / "mask.png", pixels)
    with pytest.warns(UserWarning, match=f"in {pixels.shape[1]} of {pixels.shape[1]} pixels"):
        ids = ColorReader(colors)(path)
    assert (ids == UNKNOWN).all()


def test_reader_every_combination_of_channel_values_is_distinguished(tmp_path):
    values = [sorted({color[channel] for color in ISAID.values()} | {1, 254}) for channel in range(3)]
    pixels = np.array(np.meshgrid(*values)).reshape(3, -1).T.astype(np.uint8)[None]
    path = write(tmp_path / "mask.png", pixels)
    with pytest.warns(UserWarning):
        ids = ColorReader(ISAID)(path)
    np.testing.assert_array_equal(ids, slow_ids(pixels, ISAID))
    assert (ids != UNKNOWN).sum() == 16


def test_reader_unknown_colors_warning_names_file_colors_and_counts(tmp_path):
    pixels = np.zeros((4, 5, 3), np.uint8)
    pixels[0, :3] = (1, 2, 3)
    pixels[1, 0] = (255, 255, 255)
    path = write(tmp_path / "top_potsdam_4_12_label.tif", pixels)
    message = (
        f"mask {path} has colors that are not a class, in 4 of 20 pixels: rgb 1,2,3 (3 pixels), "
        "rgb 255,255,255 (1 pixel); they are ignored"
    )
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}$"):
        ids = ColorReader(ISAID)(path)
    assert (ids == UNKNOWN).sum() == 4


def test_reader_many_unknown_colors_warning_names_the_most_frequent(tmp_path):
    pixels = np.zeros((9, 9, 3), np.uint8)
    for number in range(8):
        pixels[number, : number + 1] = (200, 0, number)
    path = write(tmp_path / "mask.png", pixels)
    pattern = r"in 36 of 81 pixels: rgb 200,0,7 \(8 pixels\), .*rgb 200,0,3 \(4 pixels\) and 3 more; they are ignored"
    with pytest.warns(UserWarning, match=pattern):
        ColorReader(ISAID)(path)


def test_reader_unknown_colors_error_names_file_colors_counts_and_remedy(tmp_path):
    pixels = np.zeros((4, 5, 3), np.uint8)
    pixels[2, 1:3] = (0, 63, 64)
    path = write(tmp_path / "P0002_instance_color_RGB.png", pixels)
    pattern = rf"{re.escape(str(path))} .* 2 of 20 pixels: rgb 0,63,64 \(2 pixels\); restore .* unknown_colors='warn'"
    with pytest.raises(CorruptFileError, match=pattern):
        ColorReader(ISAID, "error")(path)


def test_reader_unknown_argument_error_lists_both():
    with pytest.raises(InvalidArgumentError, match="unknown_colors must be 'warn' .* or 'error', got 'ignore'"):
        ColorReader(ISAID, "ignore")


def test_reader_transparency_is_ignored(tmp_path):
    table = np.array(list(ISAID.values()), np.uint8)
    expected = np.arange(32, dtype=np.uint8).reshape(4, 8) % 16
    alpha = np.full((4, 8, 1), 128, np.uint8)
    alpha[0] = 0
    path = write(tmp_path / "mask.png", np.concatenate([table[expected], alpha], axis=2))
    np.testing.assert_array_equal(ColorReader(ISAID, "error")(path), expected)


INDEX_PALETTES = {
    "none": None,
    "gray": [value for value in range(256) for _ in range(3)],
    "black": [0] * 768,
    "classes": [channel for color in ISAID.values() for channel in color],
    "others": [*range(1, 49)],
}


@pytest.mark.parametrize("palette", INDEX_PALETTES)
@pytest.mark.parametrize("used", [range(16), [3], [0, 5]])
def test_reader_index_masks_are_read_as_ids(tmp_path, palette, used):
    ids = np.resize(np.array(used, np.uint8), (6, 8))
    image = Image.fromarray(ids)
    if INDEX_PALETTES[palette]:
        image.putpalette(INDEX_PALETTES[palette])
    image.save(tmp_path / "mask.png")
    with Image.open(tmp_path / "mask.png") as saved:
        assert saved.mode == ("P" if INDEX_PALETTES[palette] else "L")
    np.testing.assert_array_equal(ColorReader(ISAID, "error")(tmp_path / "mask.png"), ids)


def test_reader_index_mask_with_16_bits_is_read_as_ids(tmp_path):
    ids = np.arange(48, dtype=np.uint16).reshape(6, 8) % 16
    path = write(tmp_path / "mask.png", ids)
    np.testing.assert_array_equal(ColorReader(ISAID, "error")(path), ids)


@pytest.mark.parametrize("transparent", [False, True])
def test_reader_palette_of_class_colors_is_read_by_color(tmp_path, transparent):
    # a mask with three colors after a program that compresses PNG files
    image = Image.new("P", (4, 2), 0)
    image.putpalette([channel for index in (14, 0, 9) for channel in ISAID[index]])
    ImageDraw.Draw(image).point([(0, 0), (1, 0)], 1)
    ImageDraw.Draw(image).point([(3, 1)], 2)
    image.save(tmp_path / "mask.png", **({"transparency": b"\xff\x00\x7f"} if transparent else {}))
    ids = ColorReader(ISAID, "error")(tmp_path / "mask.png")
    np.testing.assert_array_equal(ids, [[0, 0, 14, 14], [14, 14, 14, 9]])


def test_reader_palette_of_one_class_color_is_read_by_color(tmp_path):
    image = Image.new("P", (4, 2), 0)
    image.putpalette(ISAID[15])
    image.save(tmp_path / "mask.png")
    assert (ColorReader(ISAID, "error")(tmp_path / "mask.png") == 15).all()


def test_reader_damaged_file_error_names_it(tmp_path):
    (tmp_path / "mask.png").write_bytes(b"no image")
    with pytest.raises(CorruptFileError, match="mask .*mask.png cannot be read"):
        ColorReader(ISAID)(tmp_path / "mask.png")


def test_reader_file_missing_error_names_it(tmp_path):
    with pytest.raises(DatasetNotFoundError, match="mask .*mask.png no longer exists"):
        ColorReader(ISAID)(tmp_path / "mask.png")


def test_pickle_reader_used_or_not_reads_the_same(tmp_path):
    table = np.array(list(ISPRS.values()), np.uint8)
    path = write(tmp_path / "mask.tif", table[np.arange(14).reshape(2, 7) % 7])
    reader = ColorReader(ISPRS, "error")
    fresh = pickle.loads(pickle.dumps(reader))
    expected = reader(path)
    used = pickle.loads(pickle.dumps(reader))
    assert fresh.unknown == "error"
    np.testing.assert_array_equal(fresh(path), expected)
    np.testing.assert_array_equal(used(path), expected)


@pytest.mark.parametrize("name", ["mask.png", "mask.tif", "ann_dir/mask.png"])
def test_write_colors_then_reader_returns_the_ids(tmp_path, name):
    layout = Layout(dataset="x", source="", tree="", splits={}, examples={})
    edition = Edition(layout, "iSAID", LabelMap.identity(16, UNKNOWN), ColorReader(ISAID, "error"))
    ids = np.resize(np.array([*range(16), UNKNOWN]), (5, 7))
    (tmp_path / name).parent.mkdir(exist_ok=True)
    write_colors(tmp_path / name, ids, edition)
    expected = np.where(ids == UNKNOWN, 0, ids)
    np.testing.assert_array_equal(edition.mask_reader(tmp_path / name), expected)
    with Image.open(tmp_path / name) as image:
        assert image.mode == ("L" if "ann_dir" in name else "RGB")


def test_many_colors_whose_codes_exceed_a_byte_are_decoded_exactly(tmp_path):
    rng = np.random.default_rng(0)
    codes = rng.choice(256**3, 253, replace=False)
    colors = {index: (int(code >> 16), int(code >> 8 & 255), int(code & 255)) for index, code in enumerate(codes)}
    ids = rng.integers(0, 253, (300, 7), np.uint8)  # more rows than one band
    Image.fromarray(np.array(list(colors.values()), np.uint8)[ids]).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(ColorReader(colors, "error")(tmp_path / "mask.png"), ids)
    Image.new("RGB", (2, 1), (1, 2, 3)).save(tmp_path / "mask.png")
    with pytest.raises(CorruptFileError, match="rgb 1,2,3 .2 pixels."):
        ColorReader(colors, "error")(tmp_path / "mask.png")


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_only_colors_gray_and_palette_masks_contain_colors(tmp_path, mode):
    mask = Image.fromarray(np.array([[0, 255]], np.uint8)).convert(mode)
    mask.save(tmp_path / "mask.png")
    reader = ColorReader({0: (255, 255, 255), 1: (0, 0, 0)}, "error", only_colors=True)
    np.testing.assert_array_equal(reader(tmp_path / "mask.png"), [[1, 0]])


def test_only_colors_gray_ids_are_unknown_colors(tmp_path):
    Image.fromarray(np.array([[0, 1]], np.uint8)).save(tmp_path / "mask.png")
    reader = ColorReader({0: (255, 255, 255), 1: (0, 0, 0)}, "error", only_colors=True, remedy="do this")
    with pytest.raises(CorruptFileError, match=r"rgb 1,1,1 \(1 pixel\); do this"):
        reader(tmp_path / "mask.png")


def test_only_colors_transparent_or_16_bit_mask_error_says_what_it_is(tmp_path):
    reader = ColorReader({0: (255, 255, 255), 1: (0, 0, 0)}, only_colors=True)
    Image.new("RGBA", (2, 1), (0, 0, 0, 3)).save(tmp_path / "mask.png")
    with pytest.raises(CorruptFileError, match="transparent pixels"):
        reader(tmp_path / "mask.png")
    Image.fromarray(np.array([[0, 1]], np.uint16)).save(tmp_path / "mask.png")
    with pytest.raises(CorruptFileError, match="contains numbers and not colors"):
        reader(tmp_path / "mask.png")
