"""Files that are no masks or images as a network needs them: each is named as what it is, with what to do."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from seg_core import CorruptFileError, read_image, read_mask
from seg_core.files.gdal import quiet_gdal
from tests.image_files import CMYK, FLOATS, GRAY_ALPHA, HEIGHT, PIXELS, SHORT, ids, saved, tiff

ONE_ID = "a mask holds one class id per pixel"
DOUBLES = FLOATS.astype(np.float64)


def pages(*frames, kind="TIFF"):
    """Returns a file of several frames or pages."""
    file = io.BytesIO()
    first, *others = map(Image.fromarray, frames)
    first.save(file, kind, save_all=True, append_images=others)
    return file.getvalue()


def floats(bits):
    return lambda: tiff(FLOATS.astype(f"f{bits // 8}"), bits, 1, sample_format=3)


MASKS = {
    "float16": (floats(16), "floating-point samples of 16 bits; .*If the values are whole ids, convert the file: gdal"),
    "float32": (floats(32), r"floating-point samples of 32 bits; .*fromarray\(ids.astype\('uint8'\)\)"),
    "float64": (floats(64), "floating-point samples of 64 bits"),
    "float_pillow": (lambda: saved(Image.fromarray(FLOATS), "TIFF"), "floating-point samples of 32 bits"),
    "float_rgb": (lambda: tiff(np.stack([FLOATS] * 3, -1), 32, 2, sample_format=3), "floating-point samples of 32"),
    "pfm": (lambda: b"Pf\n9 6\n-1.0\n" + FLOATS.tobytes(), "floating-point samples of 32 bits"),
    "complex64": (lambda: tiff(DOUBLES, 64, 1, sample_format=6), "complex samples"),
    "complex_int": (lambda: tiff(SHORT.astype(np.int32), 32, 1, sample_format=5), "complex samples"),
    "undefined": (lambda: tiff(ids(8), 8, 1, sample_format=4), "samples of undefined type"),
    "int8": (lambda: tiff(ids(4).astype(np.int8), 8, 1, sample_format=2), "signed samples; .*gdal_translate -ot Byte"),
    "int16": (lambda: tiff(SHORT.astype(np.int16) - 1, 16, 1, sample_format=2), "16-bit values from -1 to 298; .* -1"),
    "int64": (lambda: tiff(SHORT.astype(np.int64), 64, 1, sample_format=2), "integers of 64 bits; .*gdal_translate"),
    "uint64": (lambda: tiff(SHORT.astype(np.uint64), 64, 1), "integers of 64 bits"),
    "uint32": (lambda: tiff(SHORT.astype(np.uint32) + 70000, 32, 1), "32-bit values from 70000 to 70299"),
    "two_channels": (
        lambda: tiff(GRAY_ALPHA, 8, 1, extra=0),
        f"2 channels; {ONE_ID}: .*gdal_translate -b 1 IN OUT.png",
    ),
    "three_bands": (lambda: tiff(PIXELS, 8, 1, extra=0), f"3 channels; {ONE_ID}"),
    "five_bands": (lambda: tiff(np.repeat(PIXELS[..., :1], 5, -1), 8, 1, extra=0), "5 channels"),
    "cmyk": (lambda: tiff(CMYK, 8, 5), "a color image .mode 'CMYK'"),
    "lab": (lambda: tiff(PIXELS, 8, 8), "CIELAB colors"),
    "pages": (
        lambda: pages(ids(4), ids(2), ids(1)),
        f'3 pages; {ONE_ID}: save the one that belongs to the image.* task = "multilabel"',
    ),
    "frames_png": (lambda: pages(ids(4), ids(2), kind="PNG"), "2 frames"),
    "frames_gif": (lambda: pages(ids(4), ids(2), kind="GIF"), "2 frames"),
}


@pytest.mark.parametrize("name", MASKS)
def test_read_mask_of_a_kind_that_holds_no_ids_error_names_the_kind_and_what_to_do(name):
    write, words = MASKS[name]
    with pytest.raises(CorruptFileError, match=rf"(?s)mask a\.tif (has|holds|is) {words}"):
        read_mask(write(), name="a.tif")


def test_read_mask_after_the_advice_about_floats_gives_the_ids(tmp_path):
    array = np.asarray(Image.open(io.BytesIO(saved(Image.fromarray(ids(4).astype(np.float32)), "TIFF"))))
    Image.fromarray(array.astype("uint8")).save(tmp_path / "OUT.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "OUT.png"), ids(4))


def test_read_mask_with_overviews_reads_the_first_page():
    half = ids(4)[: HEIGHT // 2]
    np.testing.assert_array_equal(read_mask(pages(ids(4), half)), ids(4))


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda: tiff(DOUBLES, 64, 1, sample_format=6), "has complex samples"),
        (lambda: tiff(SHORT.astype(np.int16), 16, 1, sample_format=2), "has 16 bits per channel, signed; 8-bit"),
        (lambda: tiff(ids(8), 8, 1, sample_format=4), "has samples of undefined type"),
    ],
)
def test_read_image_of_odd_samples_error_names_them(write, words):
    with pytest.raises(CorruptFileError, match=words):
        read_image(write())


def test_read_image_of_several_pages_reads_the_first():
    np.testing.assert_array_equal(read_image(pages(PIXELS, PIXELS[::-1].copy())), PIXELS)


@pytest.mark.parametrize("read", [read_image, read_mask])
@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"\x93NUMPY\x01\x00", r"an array of NumPy \(.npy\): save it as PNG, by Image.fromarray"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid",
            "a pointer of Git LFS: get the file itself by `git lfs pull`",
        ),
        (b"\n<!DOCTYPE HTML><html>", "a web page, as a failed download leaves it"),
        (b'{"version": "5.0.1", "shapes": []}', "JSON, such as annotations of polygons: draw the polygons into a mask"),
        (b"\x00\x00\x00\x18ftypheic" + b"\x00" * 20, "HEIF, as phones write it"),
        (b"PK\x03\x04" + b"\x00" * 20, "a zip archive"),
    ],
)
def test_read_file_of_another_kind_error_names_the_kind(tmp_path, read, head, words):
    path = tmp_path / "a.png"
    path.write_bytes(head)
    with pytest.raises(CorruptFileError, match=rf"a\.png cannot be read: it is none of PNG, JPEG, .* but {words}"):
        read(path)


@pytest.mark.parametrize("options", [{}, {"tiled": True, "blockxsize": 16, "blockysize": 16, "interleave": "band"}])
def test_tiff_with_parts_that_were_never_written_is_refused_with_advice_that_works(options, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    path, values = tmp_path / "sparse.tif", np.full((3, 16, 16), 9, np.uint8)
    shape = {"height": 400, "width": 16, "count": 3, "dtype": "uint8"}
    with quiet_gdal(), rasterio.open(path, "w", driver="GTiff", SPARSE_OK="TRUE", **shape, **options) as file:
        file.write(values, window=rasterio.windows.Window(0, 368, 16, 16))
    for read in (read_image, read_mask):
        with pytest.raises(CorruptFileError, match="parts that were never written .* by gdal_translate IN OUT.tif"):
            read(path)
    with quiet_gdal():
        pytest.importorskip("rasterio.shutil").copy(path, tmp_path / "full.tif", driver="GTiff")
    found = read_image(tmp_path / "full.tif")
    assert np.unique(found[:368]).tolist() == [0]
    assert np.unique(found[368:384]).tolist() == [9]


def test_single_strip_whose_bytes_an_old_program_did_not_count_is_read():
    data = tiff(PIXELS, 8, 2)
    at = data.index(struct.pack("<HH", 279, 4))
    np.testing.assert_array_equal(read_image(data), PIXELS)
    np.testing.assert_array_equal(read_image(data[: at + 8] + bytes(4) + data[at + 12 :]), PIXELS)
