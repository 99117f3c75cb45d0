"""Reading of images, masks and pairs."""

import numpy as np
import pytest
import torch
from PIL import Image

from seg_core import CorruptFileError, DatasetNotFoundError, InvalidArgumentError, LabelMap
from seg_datasets.reading.pairs import Pair
from seg_datasets.reading.samples import Reading, read_image, read_mask, read_pair

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff"])
def test_read_image_lossless_format_keeps_every_pixel(tmp_path, suffix):
    Image.fromarray(PIXELS).save(tmp_path / f"a{suffix}")
    image = read_image(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), PIXELS)
    assert image.dtype == torch.uint8


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp"])
def test_read_image_lossy_format_has_the_shape(tmp_path, suffix):
    Image.fromarray(PIXELS).save(tmp_path / f"a{suffix}")
    assert read_image(tmp_path / f"a{suffix}").shape == (3, 5, 7)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_read_image_other_8_bit_modes_become_rgb(tmp_path, mode):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.fromarray(PIXELS).convert(mode).save(path)
    image = read_image(path)
    assert image.shape == (3, 5, 7)
    assert image.dtype == torch.uint8


def test_read_image_palette_with_transparency_is_read_without_warning(tmp_path):
    image = Image.fromarray(PIXELS).convert("P")
    image.save(tmp_path / "a.png", transparency=b"\x00\x80\xff")
    with Image.open(tmp_path / "a.png") as opened:
        expected = np.array(opened.convert("RGBA"))[..., :3]
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").permute(1, 2, 0).numpy(), expected)


def test_read_image_is_writable_and_owns_its_memory(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    image.zero_()
    assert read_image(tmp_path / "a.png").sum() > 0


def test_read_image_16_bit_error_says_8_bit_is_needed(tmp_path):
    Image.fromarray(np.full((5, 7), 999, np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(CorruptFileError, match=r"a.png has 16 bits per channel; 8-bit gray or color is needed"):
        read_image(tmp_path / "a.png")


def tagged(path, orientation, size=(5, 7)):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.resize(PIXELS, (*size, 3))).save(path, exif=exif)
    return path


@pytest.mark.parametrize(("reading", "shape"), [(None, (3, 5, 7)), (Reading("apply"), (3, 7, 5))])
def test_read_image_orientation_is_applied_if_asked_for(tmp_path, reading, shape):
    assert read_image(tagged(tmp_path / "a.jpg", 6), reading).shape == shape


def test_reading_argument_not_allowed_error_says_what_is():
    with pytest.raises(InvalidArgumentError, match="orientation must be 'apply' .* or 'stored' .*, got 'exif'"):
        Reading("exif")
    with pytest.raises(InvalidArgumentError, match="max_pixels must be an integer >= 1 .*, got 0"):
        Reading("apply", 0)


def test_read_pair_rotated_image_with_a_mask_warns_once_per_file(tmp_path):
    pairs = []
    for name in ("a", "b"):
        Image.new("L", (5, 7)).save(tmp_path / f"{name}.png")
        pairs.append(Pair(tagged(tmp_path / f"{name}.jpg", 6), tmp_path / f"{name}.png"))
    reading = Reading("apply")
    with pytest.warns(UserWarning, match=r"because of its orientation tag 6; its mask .*png has no tag") as caught:
        for pair in (*pairs, *pairs):
            assert read_pair(pair, LabelMap({0: 0}), "", reading=reading)[0].shape == (3, 7, 5)
    assert [str(warning.message).split()[1] for warning in caught] == [str(pair.image) for pair in pairs]
    assert "set orientation='stored'" in str(caught[0].message)
    # no warning for images as stored, or without a mask
    Image.new("L", (7, 5)).save(tmp_path / "a.png")
    assert read_pair(pairs[0], LabelMap({0: 0}), "")[0].shape == (3, 5, 7)
    assert read_pair(Pair(pairs[0].image, None), LabelMap({0: 0}), "", reading=Reading("apply"))[1] is None


def test_read_pair_sizes_differ_error_names_both_sizes(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    Image.new("L", (5, 5)).save(tmp_path / "mask.png")
    with pytest.raises(CorruptFileError, match=r"mask.png has 5x5 pixels .* its image a.png 7x5; both must have"):
        read_pair(Pair(tmp_path / "a.png", tmp_path / "mask.png"), LabelMap({0: 0}), "")


@pytest.mark.parametrize(("orientation", "other", "done"), [("apply", "stored", ""), ("stored", "apply", "not ")])
def test_read_pair_sizes_differ_by_orientation_error_gives_advice_that_works(tmp_path, orientation, other, done):
    pair = Pair(tagged(tmp_path / "a.jpg", 6), tmp_path / "a.png")
    Image.new("L", (7, 5) if orientation == "apply" else (5, 7)).save(tmp_path / "a.png")
    pattern = rf"a.png has \dx\d pixels .* a.jpg \dx\d; the image has orientation tag 6, which was {done}applied"
    with pytest.raises(CorruptFileError, match=f"{pattern} .*: set orientation='{other}', or save"):
        read_pair(pair, LabelMap({0: 0}), "", reading=Reading(orientation))
    reading = Reading(other)
    reading.once.warn = lambda key, text: None
    read_pair(pair, LabelMap({0: 0}), "", reading=reading)


def test_read_pair_sizes_differ_with_and_without_orientation_error_names_the_tag(tmp_path):
    pair = Pair(tagged(tmp_path / "a.jpg", 3), tmp_path / "a.png")
    Image.new("L", (5, 7)).save(tmp_path / "a.png")
    with pytest.raises(CorruptFileError, match="orientation tag 3, which was applied .* sizes differ with and w"):
        read_pair(pair, LabelMap({0: 0}), "", reading=Reading("apply"))


@pytest.mark.parametrize(("read", "noun"), [(read_image, "image"), (read_mask, "mask")])
@pytest.mark.parametrize("damage", ["truncated", "html", "empty"])
def test_read_damaged_file_error_names_it_and_the_remedy(tmp_path, read, noun, damage):
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)).save(path)
    contents = {"truncated": path.read_bytes()[:900], "html": b"<html>404</html>", "empty": b""}[damage]
    path.write_bytes(contents)
    with pytest.raises(CorruptFileError, match=rf"{noun} .*a.png cannot be read: .*; replace the file"):
        read(path)


def test_read_truncated_jpeg_error_names_it(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(CorruptFileError, match=r"a.jpg cannot be read: .*truncated"):
        read_image(path)


def test_read_image_missing_error_names_it(tmp_path):
    with pytest.raises(DatasetNotFoundError, match=r"image .*a.png no longer exists; was it moved"):
        read_image(tmp_path / "a.png")


def test_read_mask_color_image_error_says_what_a_mask_is(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    with pytest.raises(CorruptFileError, match=r"a.png is a color image \(mode 'RGB'\); a mask holds one class id"):
        read_mask(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("ids", "suffix"),
    [
        (np.array([[0, 255], [3, 11]], np.uint8), ".png"),
        (np.array([[0, 65535], [256, 3]], np.uint16), ".png"),
        (np.array([[0, 65535], [256, 3]], np.uint16), ".tif"),
        (np.array([[0, 65535], [256, 3]], ">u2"), ".tif"),
        (np.array([[0, 65535], [256, 3]], np.int32), ".tif"),
    ],
)
def test_read_mask_8_16_and_32_bit_give_the_stored_ids(tmp_path, ids, suffix):
    Image.fromarray(ids).save(tmp_path / f"m{suffix}")
    mask = read_mask(tmp_path / f"m{suffix}")
    assert mask.dtype in (np.uint8, np.uint16)
    assert mask.dtype.isnative
    np.testing.assert_array_equal(mask, ids)


def test_read_mask_32_bit_beyond_16_error_names_the_range(tmp_path):
    Image.fromarray(np.array([[-1, 70000]], np.int32)).save(tmp_path / "m.tif")
    with pytest.raises(CorruptFileError, match="32-bit values from -1 to 70000; ids must be 0 to 65535"):
        read_mask(tmp_path / "m.tif")


def test_read_mask_one_bit_gives_0_and_1(tmp_path):
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), [[1, 0]])


def test_read_pair_more_than_max_pixels_is_an_error_of_image_and_mask(tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    Image.new("L", (40, 30)).save(tmp_path / "mask.png")
    pair = Pair(tmp_path / "a.png", tmp_path / "mask.png")
    for read in (read_image, read_mask):
        with pytest.raises(CorruptFileError, match="png has 40x30 = 1200 pixels .* more than max_pixels=1199"):
            read(tmp_path / "a.png", Reading(max_pixels=1199))
    with pytest.raises(CorruptFileError, match="max_pixels=1200 of the dataset"):
        read_pair(pair, LabelMap({0: 0}), "", reading=Reading(max_pixels=1199))
    assert read_pair(pair, LabelMap({0: 0}), "", reading=Reading(max_pixels=1200))[0].shape == (3, 30, 40)
