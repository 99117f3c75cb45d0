"""Parts of RGB images and masks equal those of the whole, and are decoded alone where that is cheaper."""

import os
import sys

import numpy as np
import pytest
from PIL import Image

from seg_core import read_image, read_mask
from seg_core.errors import CorruptFileError, ImageNotFoundError, ImageTooLargeError, InvalidArgumentError, UserError
from seg_core.files.windows import can_read_image_windows, can_read_mask_windows, read_mask_window, read_window
from tests.image_files import CASES, HEIGHT, PALETTE, WIDTH, tiff
from tests.tiff_files import write_tiff

PART = (1, 2, 3, 4)
CROP = (slice(1, 4), slice(2, 6))
RNG = np.random.default_rng(0)
LARGE = RNG.integers(0, 256, (80, 96, 4), np.uint8)
TILES = {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}

pytestmark = pytest.mark.filterwarnings("ignore:mask .* is an RGB image")


def outcome(read):
    try:
        return read()
    except UserError as error:
        return type(error), str(error)


@pytest.mark.parametrize("has_rasterio", [True, False])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_parts_of_every_kind_of_file_equal_those_of_the_whole(tmp_path, monkeypatch, case, has_rasterio):
    monkeypatch.setattr("seg_core.files.windows.gains", lambda *_: True)  # as if the small files were large
    if has_rasterio:
        pytest.importorskip("rasterio")
    else:
        monkeypatch.setitem(sys.modules, "rasterio", None)
    path = case.save(tmp_path) or tmp_path / case.name
    pairs = [(read_image, read_window), (read_mask, read_mask_window)]
    for read_whole, read_part in pairs:
        whole, part = outcome(lambda: read_whole(path)), outcome(lambda: read_part(path, *PART))  # noqa: B023
        if isinstance(whole, tuple):
            assert part == whole
        else:
            assert part.dtype == whole.dtype
            np.testing.assert_array_equal(part, whole[CROP])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_parts_of_large_tiffs_are_decoded_alone(tmp_path, monkeypatch, orientation):
    rasterio = pytest.importorskip("rasterio")
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(LARGE[..., :3], 8, 2, tile=16, deflate=True, orientation=orientation))
    upright, stored = read_image(path), read_image(path, orientation="stored")
    assert can_read_image_windows(path)
    monkeypatch.setattr("seg_core.files.windows.read_image", None)
    for top, left, height, width in ((0, 0, 80, 80), (5, 7, 60, 30), (79, 79, 1, 1)):
        crop = (slice(top, top + height), slice(left, left + width))
        np.testing.assert_array_equal(read_window(path, top, left, height, width), upright[crop])
        part = read_window(path, top, left, height, width, orientation="stored")
        np.testing.assert_array_equal(part, stored[crop])
        assert part.flags.writeable
    assert rasterio


@pytest.mark.parametrize("count", [1, 3, 4])
def test_alpha_is_dropped_and_gray_is_repeated(tmp_path, count):
    pytest.importorskip("rasterio")
    write_tiff(tmp_path / "a.tif", LARGE[..., :count], photometric="minisblack" if count == 1 else "rgb", **TILES)
    assert can_read_image_windows(tmp_path / "a.tif")
    np.testing.assert_array_equal(
        read_window(tmp_path / "a.tif", 10, 20, 30, 40), read_image(tmp_path / "a.tif")[10:40, 20:60]
    )


def test_parts_of_large_masks_are_decoded_alone(tmp_path, monkeypatch):
    pytest.importorskip("rasterio")
    masks = {
        "gray.tif": LARGE[..., 0],
        "deep.tif": LARGE[..., 0].astype(np.uint16) * 257,
    }
    for name, mask in masks.items():
        write_tiff(tmp_path / name, mask, **TILES)
    (tmp_path / "palette.tif").write_bytes(tiff(LARGE[..., 0], 8, 3, palette=PALETTE, tile=16))
    (tmp_path / "white.tif").write_bytes(tiff(LARGE[..., 0] % 16, 4, 0, tile=16))
    whole = {name: read_mask(tmp_path / name) for name in (*masks, "palette.tif", "white.tif")}
    monkeypatch.setattr("seg_core.files.windows.read_mask", None)
    for name, mask in whole.items():
        assert can_read_mask_windows(tmp_path / name)
        part = read_mask_window(tmp_path / name, 3, 5, 40, 50)
        assert part.dtype == mask.dtype
        np.testing.assert_array_equal(part, mask[3:43, 5:55])


def test_masks_that_are_none_are_refused_as_by_read_mask(tmp_path):
    pytest.importorskip("rasterio")
    write_tiff(tmp_path / "colors.tif", LARGE[..., :3], photometric="rgb", **TILES)
    (tmp_path / "turned.tif").write_bytes(tiff(LARGE[..., 0], 8, 1, tile=16, orientation=6))
    for name, text in (("colors.tif", "is a color image"), ("turned.tif", "has orientation tag 6")):
        assert not can_read_mask_windows(tmp_path / name)
        with pytest.raises(CorruptFileError, match=text):
            read_mask_window(tmp_path / name, 0, 0, 4, 4)


def test_errors_name_file_and_part(tmp_path):
    pytest.importorskip("rasterio")
    Image.fromarray(LARGE[..., :3]).save(tmp_path / "a.png")
    write_tiff(tmp_path / "a.tif", LARGE[..., :3], photometric="rgb", **TILES)
    for name in ("a.png", "a.tif"):
        for part in ((-1, 0, 4, 4), (0, 0, 81, 4), (0, 93, 4, 4), (0, 0, 0, 4), (0, 0.0, 4, 4)):
            with pytest.raises(InvalidArgumentError, match=rf"inside of image .*{name} with 80 rows and 96 columns"):
                read_window(tmp_path / name, *part)
    with pytest.raises(ImageTooLargeError, match="80x96|96x80"):
        read_window(tmp_path / "a.png", 0, 0, 4, 4, max_pixels=100)
    assert read_window(tmp_path / "a.tif", 0, 0, 4, 4, max_pixels=100).shape == (4, 4, 3)
    with pytest.raises(ImageTooLargeError, match="max_pixels=1600"):
        read_window(tmp_path / "a.tif", 0, 0, 40, 40, max_pixels=100)
    with pytest.raises(ImageNotFoundError, match="missing.tif"):
        read_window(tmp_path / "missing.tif", 0, 0, 4, 4)


def test_a_file_that_was_replaced_is_read_anew(tmp_path):
    pytest.importorskip("rasterio")
    path = tmp_path / "a.tif"
    write_tiff(path, LARGE[..., :3], photometric="rgb", **TILES)
    read_window(path, 0, 0, 8, 8)
    write_tiff(tmp_path / "b.tif", 255 - LARGE[..., :3], photometric="rgb", **TILES)
    os.replace(tmp_path / "b.tif", path)
    np.testing.assert_array_equal(read_window(path, 0, 0, 8, 8), 255 - LARGE[:8, :8, :3])


def test_sizes_of_cases():
    assert (HEIGHT, WIDTH) == (6, 9)  # PART lies inside
