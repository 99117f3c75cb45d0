"""Images of any channels and types: read from every kind of file as written, or refused with advice that works."""

import os
import re
import sys
import threading
import warnings

import numpy as np
import pytest
from PIL import Image

from seg_core.errors import (
    CorruptFileError,
    ImageNotFoundError,
    ImageTooLargeError,
    InvalidArgumentError,
    MissingDependencyError,
)
from seg_core.files.channel_files import can_read_windows, channels_size, read_channels
from seg_core.files.rasters import open_raster
from seg_core.labels.channels import RGB_CHANNELS, ImageChannels
from tests.image_files import (
    CMYK,
    DEEP_GRAY_ALPHA,
    DEEP_PIXELS,
    FLOATS,
    PALETTE,
    PIXELS,
    RGBA,
    SHORT,
    TURNED,
    chunk,
    exif,
    ids,
    png,
    tiff,
)
from tests.tiff_files import geo_reference, write_tiff

OPENED_BY_TEST = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
RNG = np.random.default_rng(0)
NAMES = ("red", "green", "blue", "nir", "swir", "height")


def channels(count, high=10000, **options):
    return ImageChannels(NAMES[:count], range=(0, high), **options)


def without_rasterio(monkeypatch):
    monkeypatch.setitem(sys.modules, "rasterio", None)


def same(image, expected):
    expected = np.atleast_3d(expected)
    assert image.dtype == expected.dtype
    np.testing.assert_array_equal(image, expected)


def reads(path, described, expected, **options):
    image, valid = read_channels(path, described, **options)
    same(image, expected)
    assert valid is None


# ---- formats ---------------------------------------------------------------------------------------------------------

PLAIN = {
    "gray8.png": (lambda: png(ids(8), 8, 0), ids(8)),
    "gray16.png": (lambda: png(SHORT, 16, 0), SHORT),
    "gray4.png": (lambda: png(ids(4), 4, 0), ids(4)),
    "gray1.png": (lambda: png(ids(1), 1, 0), ids(1)),
    "rgb8.png": (lambda: png(PIXELS, 8, 2), PIXELS),
    "rgb16.png": (lambda: png(DEEP_PIXELS, 16, 2), DEEP_PIXELS),
    "gray8.tif": (lambda: tiff(ids(8), 8, 1), ids(8)),
    "gray8_big_endian.tif": (lambda: tiff(ids(8), 8, 1, order=">", deflate=True), ids(8)),
    "gray4.tif": (lambda: tiff(ids(4), 4, 1), ids(4)),
    "white_is_zero8.tif": (lambda: tiff(ids(8), 8, 0), ids(8)),
    "white_is_zero4.tif": (lambda: tiff(ids(4), 4, 0), ids(4)),
    "gray16.tif": (lambda: tiff(SHORT, 16, 1), SHORT),
    "gray16_big_endian.tif": (lambda: tiff(SHORT, 16, 1, order=">"), SHORT),
    "rgb8.tif": (lambda: tiff(PIXELS, 8, 2), PIXELS),
    "rgb8_planes.tif": (lambda: tiff(PIXELS, 8, 2, planes=True), PIXELS),
    "rgb8_tiles.tif": (lambda: tiff(PIXELS, 8, 2, tile=16, deflate=True), PIXELS),
    "rgbx8.tif": (lambda: tiff(RGBA, 8, 2, extra=0), RGBA),
    "rgbx8_big_endian.tif": (lambda: tiff(RGBA, 8, 2, extra=0, order=">"), RGBA),
    "gray_and_other8.tif": (lambda: tiff(RGBA[..., :2], 8, 1, extra=0), RGBA[..., :2]),
    "float32.tif": (lambda: tiff(FLOATS, 32, 1, sample_format=3), FLOATS),
}


@pytest.mark.parametrize("has_rasterio", [True, False])
@pytest.mark.parametrize("name", PLAIN)
def test_plain_files_are_read_as_written_with_and_without_rasterio(tmp_path, monkeypatch, name, has_rasterio):
    if has_rasterio:
        pytest.importorskip("rasterio")
    else:
        without_rasterio(monkeypatch)
    write, expected = PLAIN[name]
    (tmp_path / name).write_bytes(write())
    described = channels(np.atleast_3d(expected).shape[-1], 255 if expected.dtype == np.uint8 else 10000)
    reads(tmp_path / name, described, expected)
    reads(tmp_path / name, described, np.atleast_3d(expected)[1:4, 2:7], window=(1, 2, 3, 5))
    assert channels_size(tmp_path / name, described) == expected.shape[:2]


DEEP = {
    "uint16x6": (RNG.integers(0, 65536, (20, 30, 6)).astype(np.uint16), {}),
    "uint16x4_tiles": (
        RNG.integers(0, 9000, (70, 90, 4)).astype(np.uint16),
        {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate", "predictor": 2},
    ),
    "uint8x6_planar": (RNG.integers(0, 256, (20, 30, 6)).astype(np.uint8), {"interleave": "band"}),
    "uint16x3_pixel_lzw": (
        RNG.integers(0, 65536, (20, 30, 3)).astype(np.uint16),
        {"interleave": "pixel", "compress": "lzw", "predictor": 2},
    ),
    "uint16_12_bits": (RNG.integers(0, 4096, (20, 30, 2)).astype(np.uint16), {"nbits": 12}),
    "int16": (RNG.integers(-9000, 9000, (20, 30, 2)).astype(np.int16), {}),
    "int8": (RNG.integers(-128, 128, (20, 30, 2)).astype(np.int8), {}),
    "uint32": (RNG.integers(0, 2**24, (20, 30, 2)).astype(np.uint32), {}),
    "int32": (RNG.integers(-(2**24), 2**24, (20, 30, 1)).astype(np.int32), {}),
    "float16": (RNG.random((20, 30, 2)).astype(np.float16).astype(np.float32), {"nbits": 16}),
    "float32": (RNG.random((20, 30, 2), np.float32), {"compress": "deflate", "predictor": 3}),
    "float64": (RNG.random((20, 30, 2)), {}),
}


@pytest.mark.parametrize("name", DEEP)
def test_tiffs_of_any_type_and_layout(tmp_path, name):
    pytest.importorskip("rasterio")
    image, options = DEEP[name]
    write_tiff(tmp_path / "a.tif", image, **options)
    kept = image.dtype in (np.uint8, np.uint16)
    described = channels(image.shape[-1], 255 if image.dtype == np.uint8 else 10000)
    reads(tmp_path / "a.tif", described, image if kept else image.astype(np.float32))
    assert can_read_windows(tmp_path / "a.tif") == ("tiles" in name)


def test_kinds_that_pillow_reads_wrong_need_rasterio(tmp_path, monkeypatch):
    write_tiff = tmp_path / "rgb16.tif"
    write_tiff.write_bytes(tiff(DEEP_PIXELS, 16, 2))
    without_rasterio(monkeypatch)
    with pytest.raises(MissingDependencyError, match=r"rgb16.tif has 3 channels of 16 bits.*seg-core\[geo\]"):
        read_channels(write_tiff, channels(3))


@pytest.mark.parametrize("has_rasterio", [True, False])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["gray16.png", "rgb16.png", "rgb8.png", "gray16.tif", "tiles8.tif"])
def test_orientation_tags_are_applied_or_not(tmp_path, monkeypatch, kind, orientation, has_rasterio):
    if has_rasterio:
        pytest.importorskip("rasterio")
    else:
        without_rasterio(monkeypatch)
    tag = chunk(b"eXIf", exif(orientation))
    content, stored = {
        "gray16.png": lambda: (png(SHORT, 16, 0, before=tag), SHORT),
        "rgb16.png": lambda: (png(DEEP_PIXELS, 16, 2, before=tag), DEEP_PIXELS),
        "rgb8.png": lambda: (png(PIXELS, 8, 2, before=tag), PIXELS),
        "gray16.tif": lambda: (tiff(SHORT, 16, 1, orientation=orientation), SHORT),
        "tiles8.tif": lambda: (tiff(PIXELS, 8, 2, tile=16, orientation=orientation), PIXELS),
    }[kind]()
    path = tmp_path / kind
    path.write_bytes(content)
    stored = np.atleast_3d(stored)
    described = channels(stored.shape[-1], 255 if stored.dtype == np.uint8 else 65535)
    upright = TURNED[orientation](stored)
    reads(path, described, upright)
    reads(path, described, upright[1:5, 2:4], window=(1, 2, 4, 2))
    reads(path, described, stored, orientation="stored")
    reads(path, described, stored[1:5, 2:4], orientation="stored", window=(1, 2, 4, 2))
    assert channels_size(path, described) == upright.shape[:2]
    assert channels_size(path, described, orientation="stored") == stored.shape[:2]


@OPENED_BY_TEST
def test_jpeg_and_formats_of_gdal(tmp_path, monkeypatch):
    rasterio = pytest.importorskip("rasterio")
    Image.fromarray(PIXELS).save(tmp_path / "a.jpg", quality=95)
    reads(tmp_path / "a.jpg", channels(3, 255), np.array(Image.open(tmp_path / "a.jpg")))
    image = RNG.integers(0, 9000, (20, 30, 5)).astype(np.int16)
    with rasterio.open(tmp_path / "a.img", "w", driver="ENVI", height=20, width=30, count=5, dtype="int16") as file:
        file.write(image.transpose(2, 0, 1))
    reads(tmp_path / "a.img", channels(5), image.astype(np.float32))
    Image.fromarray(SHORT).save(tmp_path / "a.jp2", irreversible=False)
    reads(tmp_path / "a.jp2", channels(1), SHORT)
    without_rasterio(monkeypatch)
    with pytest.raises(MissingDependencyError, match=r"a.img is of a format that needs rasterio.*seg-core\[geo\]"):
        read_channels(tmp_path / "a.img", channels(5))


def test_bands_of_different_types_in_one_file(tmp_path):
    pytest.importorskip("rasterio")
    heights = RNG.random((12, 10), np.float32)
    gray = RNG.integers(0, 256, (12, 10)).astype(np.uint8)
    write_tiff(tmp_path / "gray.tif", gray)
    write_tiff(tmp_path / "heights.tif", heights)
    bands = "".join(
        f'<VRTRasterBand dataType="{kind}" band="{band}"><SimpleSource><SourceFilename relativeToVRT="1">{name}.tif'
        "</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
        for band, (name, kind) in enumerate({"gray": "Byte", "heights": "Float32"}.items(), start=1)
    )
    (tmp_path / "both.vrt").write_text(f'<VRTDataset rasterXSize="10" rasterYSize="12">{bands}</VRTDataset>')
    reads(tmp_path / "both.vrt", channels(2, 1), allow_vrt=True, expected=np.dstack([gray, heights]).astype(np.float32))
    reads(tmp_path / "both.vrt", channels(1, 255, bands=[1]), gray, allow_vrt=True)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "int16", "int64", "float32", "float64"])
def test_arrays_of_every_axis_and_type(tmp_path, dtype):
    last = RNG.integers(0, 2, (20, 30, 4)).astype(dtype)
    kept = {"bool": "uint8", "uint8": "uint8", "uint16": "uint16"}.get(dtype, "float32")
    described = channels(4, 255)
    for name, array in (("last", last), ("first", last.transpose(2, 0, 1)), ("fortran", np.asfortranarray(last))):
        np.save(tmp_path / f"{name}.npy", array)
        reads(tmp_path / f"{name}.npy", described, last.astype(kept))
        reads(tmp_path / f"{name}.npy", described, last[3:8, 5:20].astype(kept), window=(3, 5, 5, 15))
        assert can_read_windows(tmp_path / f"{name}.npy")
        assert channels_size(tmp_path / f"{name}.npy", described) == (20, 30)
    np.save(tmp_path / "gray.npy", last[..., 0])
    reads(tmp_path / "gray.npy", channels(1, 255), last[..., 0].astype(kept))


def test_axis_of_an_array_is_the_last_if_both_fit_and_the_shorter_with_bands(tmp_path):
    both = RNG.integers(0, 256, (3, 20, 3)).astype(np.uint8)
    np.save(tmp_path / "both.npy", both)
    reads(tmp_path / "both.npy", channels(3, 255), both)
    many = RNG.integers(0, 256, (13, 20, 30)).astype(np.uint8)
    np.save(tmp_path / "many.npy", many)
    reads(tmp_path / "many.npy", channels(2, 255, bands=[8, 4]), many[[7, 3]].transpose(1, 2, 0))


def test_zarr_arrays(tmp_path):
    zarr = pytest.importorskip("zarr")
    image = RNG.integers(0, 9000, (4, 40, 60)).astype(np.uint16)
    array = zarr.open_array(
        str(tmp_path / "a.zarr"), mode="w", shape=image.shape, chunks=(4, 10, 10), dtype=image.dtype
    )
    array[...] = image
    image = image.transpose(1, 2, 0)
    reads(tmp_path / "a.zarr", channels(4), image)
    reads(tmp_path / "a.zarr", channels(4), image[5:25, 7:37], window=(5, 7, 20, 30))
    assert can_read_windows(tmp_path / "a.zarr", channels(4))


def write_pages(path, *pages):
    images = [Image.fromarray(page) for page in pages]
    images[0].save(path, save_all=True, append_images=images[1:])


@pytest.mark.parametrize("has_rasterio", [True, False])
def test_pages_of_a_tiff_are_the_bands_if_it_is_said(tmp_path, monkeypatch, has_rasterio):
    if has_rasterio:
        pytest.importorskip("rasterio")
    else:
        without_rasterio(monkeypatch)
    pages = [SHORT, SHORT + 1, SHORT + 2]
    write_pages(tmp_path / "a.tif", *pages)
    with pytest.raises(CorruptFileError, match="has 3 pages, of which the first is read.*pages = true"):
        read_channels(tmp_path / "a.tif", channels(3))
    reads(tmp_path / "a.tif", channels(1), SHORT)
    reads(tmp_path / "a.tif", channels(3, pages=True), np.stack(pages, -1))
    reads(tmp_path / "a.tif", channels(2, pages=True, bands=[3, 1]), np.stack([pages[2], pages[0]], -1))
    with pytest.raises(CorruptFileError, match="no band 3.*first page of 3.*pages = true"):
        read_channels(tmp_path / "a.tif", channels(1, bands=[3]))
    write_pages(tmp_path / "sizes.tif", SHORT, SHORT[:5])
    with pytest.raises(CorruptFileError, match="pages of .*sizes.tif have different sizes, 9x6 and 9x5"):
        read_channels(tmp_path / "sizes.tif", channels(2, pages=True))


# ---- which bands are the channels ------------------------------------------------------------------------------------


@pytest.fixture
def described_tiff(tmp_path):
    """A GeoTIFF of four bands with descriptions, and its image."""
    rasterio = pytest.importorskip("rasterio")
    image = RNG.integers(0, 9000, (12, 10, 4)).astype(np.uint16)
    write_tiff(tmp_path / "bands.tif", image)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(tmp_path / "bands.tif", "r+") as file:
            file.descriptions = ("B02", "B03", "nir", "red")
    return tmp_path / "bands.tif", image


def test_bands_by_number_description_and_name(described_tiff):
    path, image = described_tiff
    with pytest.raises(CorruptFileError, match=r"descriptions say another order .* bands = \[1, 2, 3, 4\]"):
        read_channels(path, channels(4))  # red is the fourth, not the first
    reads(path, channels(4, bands=[1, 2, 3, 4]), image)
    reads(path, channels(3, bands=[4, "B03", "B02"]), image[..., [3, 1, 0]])
    reads(path, ImageChannels(("red", "nir"), range=(0, 10000)), image[..., [3, 2]])
    # the same names in another order are taken by name too
    names = ImageChannels(("red", "nir", "B03", "B02"), range=(0, 10000))
    reads(path, names, image[..., [3, 2, 1, 0]])
    names = ImageChannels(("Red", "NIR", "b03", "b02"), range=(0, 10000))
    reads(path, names, image[..., [3, 2, 1, 0]])


def test_errors_of_bands_list_those_of_the_file(described_tiff):
    path, image = described_tiff
    listed = re.escape("4 bands of uint16 (1 'B02', 2 'B03', 3 'nir', 4 'red')")
    with pytest.raises(
        CorruptFileError, match=rf"bands.tif has {listed}, and 3 channels \(red, green, blue\).*bands = \[1, 2, 3\]"
    ):
        read_channels(path, channels(3))
    reads(path, channels(3, bands=[1, 2, 3]), image[..., :3])
    with pytest.raises(CorruptFileError, match=rf"no band with the description 'swir'.*{listed}"):
        read_channels(path, channels(1, bands=["swir"]))
    with pytest.raises(CorruptFileError, match=rf"no band 5, .*{listed}.*numbers from 1 to 4"):
        read_channels(path, channels(1, bands=[5]))
    with pytest.raises(CorruptFileError, match=rf"{listed}, and 5 channels .* are described.* with 4 names"):
        read_channels(path, channels(5))


def test_one_channel_of_a_color_file_needs_bands(tmp_path):
    gray = np.repeat(ids(8)[..., None], 3, -1)
    (tmp_path / "rgb.png").write_bytes(png(gray, 8, 2))
    with pytest.raises(
        CorruptFileError, match=r"3 bands of uint8, and 1 channel \(red\).*bands = \[1\] \} for the first;"
    ):
        read_channels(tmp_path / "rgb.png", channels(1, 255))
    reads(tmp_path / "rgb.png", channels(1, 255, bands=[1]), ids(8))
    reads(tmp_path / "rgb.png", channels(3, 255), gray)


@pytest.mark.parametrize("has_rasterio", [True, False])
@pytest.mark.parametrize(
    ("name", "write", "image"),
    [
        ("rgba.png", lambda: png(RGBA, 8, 6), RGBA),
        ("gray_alpha.png", lambda: png(RGBA[..., 2:], 8, 4), RGBA[..., 2:]),
        ("gray_alpha16.png", lambda: png(DEEP_GRAY_ALPHA, 16, 4), DEEP_GRAY_ALPHA),
        ("rgba.tif", lambda: tiff(RGBA, 8, 2, extra=2), RGBA),
        ("gray_alpha.tif", lambda: tiff(RGBA[..., 2:], 8, 1, extra=2), RGBA[..., 2:]),
    ],
)
def test_alpha_is_no_channel_unless_bands_names_it(tmp_path, monkeypatch, name, write, image, has_rasterio):
    if has_rasterio:
        pytest.importorskip("rasterio")
    else:
        without_rasterio(monkeypatch)
    image = image.copy()
    path = tmp_path / name
    path.write_bytes(write())
    count, high = image.shape[-1], 255 if image.dtype == np.uint8 else 10000
    numbers = list(range(1, count + 1))
    with pytest.raises(
        CorruptFileError,
        match=rf"{name} has .*{count} alpha\).*band {count} is marked as alpha.*{re.escape(f'bands = {numbers}')}",
    ):
        read_channels(path, channels(count, high))
    reads(path, channels(count, high, bands=numbers), image)
    found, valid = read_channels(path, channels(count - 1, high))
    is_map = name.endswith(".tif")
    without = image[..., -1] == 0
    if is_map and without.any():
        np.testing.assert_array_equal(valid, ~without)
    else:
        assert valid is None
    np.testing.assert_array_equal(found, np.where(without[..., None] & is_map, 0, image[..., :-1]))


def test_a_fourth_band_that_gdal_marks_as_alpha_is_data_if_bands_says_so(tmp_path):
    pytest.importorskip("rasterio")
    image = RNG.integers(0, 3, (12, 10, 4)).astype(np.uint8)
    write_tiff(tmp_path / "a.tif", image)  # GDAL writes 4 bands of 8 bits as RGBA
    reads(tmp_path / "a.tif", channels(4, 255, bands=[1, 2, 3, 4]), image)
    found, valid = read_channels(tmp_path / "a.tif", channels(3, 255))
    np.testing.assert_array_equal(valid, image[..., 3] > 0)
    np.testing.assert_array_equal(found, image[..., :3] * valid[..., None])


@pytest.mark.parametrize(
    ("name", "write", "text"),
    [
        ("palette.png", lambda: png(ids(8), 8, 3, palette=PALETTE), "a palette"),
        ("palette.tif", lambda: tiff(ids(8), 8, 3, palette=PALETTE), "a palette"),
        ("cmyk.tif", lambda: tiff(CMYK, 8, 5), "CMYK colors"),
        ("lab.tif", lambda: tiff(PIXELS, 8, 8), "CIELAB colors"),
    ],
)
def test_indices_and_other_colors_are_refused(tmp_path, name, write, text):
    (tmp_path / name).write_bytes(write())
    with pytest.raises(CorruptFileError, match=f"image .*{name} has {text}.*convert it") as raised:
        read_channels(tmp_path / name, channels(3, 255))
    if "Image.open('IN').convert('RGB').save('OUT.png')" in str(raised.value):
        Image.open(tmp_path / name).convert("RGB").save(tmp_path / "OUT.png")
        assert read_channels(tmp_path / "OUT.png", channels(3, 255))[0].shape == (6, 9, 3)
    else:
        assert name == "lab.tif"


# ---- several files ---------------------------------------------------------------------------------------------------


def test_several_files_are_stacked_in_their_order(tmp_path):
    np.save(tmp_path / "height.npy", FLOATS)
    (tmp_path / "rgb.png").write_bytes(png(PIXELS, 8, 2))
    (tmp_path / "nir.png").write_bytes(png(SHORT, 16, 0))
    files = [tmp_path / "rgb.png", tmp_path / "nir.png"]
    reads(files, channels(4), np.dstack([PIXELS, SHORT]).astype(np.uint16))
    reads(files[::-1], channels(4), np.dstack([SHORT, PIXELS]).astype(np.uint16))
    files.append(str(tmp_path / "height.npy"))
    stacked = np.dstack([PIXELS, SHORT, FLOATS]).astype(np.float32)
    reads(files, channels(5), stacked)
    reads(files, channels(5), stacked[2:5, 1:4], window=(2, 1, 3, 3))
    reads(files, channels(2, bands=[5, 2]), stacked[..., [4, 1]])
    # the type is that of the bands that are read
    reads(files, channels(2, 255, bands=[3, 1]), PIXELS[..., [2, 0]])
    with pytest.raises(
        CorruptFileError, match=r"rgb.png and .*nir.png and .*height.npy has 5 bands of uint8 and uint16"
    ):
        read_channels(files, channels(6))
    with pytest.raises(InvalidArgumentError, match="at least one file"):
        read_channels([], channels(1))


def test_files_of_different_sizes_are_named(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((20, 30), np.uint8))
    np.save(tmp_path / "b.npy", np.zeros((10, 15), np.uint8))
    for read in (read_channels, channels_size):
        with pytest.raises(CorruptFileError, match=r"files .*a.npy and .*b.npy have different sizes, 30x20 and 15x10"):
            read([tmp_path / "a.npy", tmp_path / "b.npy"], channels(2, 255))


# ---- pixels without data ---------------------------------------------------------------------------------------------


def test_nodata_is_a_value_that_all_channels_have(tmp_path):
    image = RNG.integers(1, 9000, (6, 8, 3)).astype(np.uint16)
    image[0, 0] = 0
    image[1, 1, :2] = 0
    np.save(tmp_path / "a.npy", image)
    found, valid = read_channels(tmp_path / "a.npy", ImageChannels(NAMES[:3], range=(100, 9000), nodata=0))
    expected = np.ones((6, 8), bool)
    expected[0, 0] = False
    np.testing.assert_array_equal(valid, expected)
    image[0, 0] = 100
    same(found, image)
    # all files of an image count
    for i in range(3):
        np.save(tmp_path / f"{i}.npy", np.load(tmp_path / "a.npy")[..., i])
    files = [tmp_path / f"{i}.npy" for i in range(3)]
    found, valid = read_channels(files, ImageChannels(NAMES[:3], range=(100, 9000), nodata=0))
    np.testing.assert_array_equal(valid, expected)
    same(found, image)


def test_nan_is_refused_with_its_place_or_means_no_data(tmp_path):
    image = RNG.random((6, 8, 2), np.float32)
    image[2, 3, 1] = np.nan
    np.save(tmp_path / "a.npy", image)
    text = r"a.npy holds nan at row 2, column 3 in channel 'green' \(1 such .*nodata = nan"
    for options in ({}, {"window": (1, 2, 4, 4)}):
        with pytest.raises(CorruptFileError, match=text):
            read_channels(tmp_path / "a.npy", channels(2, 1), **options)
    found, valid = read_channels(tmp_path / "a.npy", channels(2, 1, nodata=float("nan")))
    np.testing.assert_array_equal(np.argwhere(~valid), [[2, 3]])
    image[2, 3] = 0
    same(found, image)
    image[4, 5, 0] = np.inf
    np.save(tmp_path / "a.npy", image)
    for nodata in (None, float("nan")):
        with pytest.raises(CorruptFileError, match="holds inf at row 4, column 5 in channel 'red'"):
            read_channels(tmp_path / "a.npy", channels(2, 1, nodata=nodata))


@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [("uint16", 0), ("float32", -3.4028234663852886e38), ("float32", float("nan")), ("float64", -1.79e308)],
)
def test_nodata_value_of_a_geotiff_counts(tmp_path, dtype, nodata):
    pytest.importorskip("rasterio")
    image = RNG.integers(1, 9000, (6, 8, 2)).astype(dtype)
    image[0, :3] = nodata
    write_tiff(tmp_path / "a.tif", image, nodata=nodata)
    found, valid = read_channels(tmp_path / "a.tif", channels(2))
    assert (~valid).sum() == 3
    assert not valid[0, :3].any()
    assert not found[0, :3].any()
    np.testing.assert_array_equal(found[valid], image[valid])
    _, part = read_channels(tmp_path / "a.tif", channels(2), window=(3, 3, 2, 2))
    assert part is None


def test_nodata_value_of_a_gray_tiff_counts_without_rasterio(tmp_path, monkeypatch):
    pytest.importorskip("rasterio")
    write_tiff(tmp_path / "a.tif", SHORT, nodata=0)
    expected = read_channels(tmp_path / "a.tif", channels(1))
    without_rasterio(monkeypatch)
    found, valid = read_channels(tmp_path / "a.tif", channels(1))
    same(found, expected[0])
    np.testing.assert_array_equal(valid, expected[1])


@OPENED_BY_TEST
@pytest.mark.parametrize("name", ["a.tif", "a.png"])
def test_mask_beside_an_image_counts(tmp_path, name):
    rasterio = pytest.importorskip("rasterio")
    path, map_path = tmp_path / name, tmp_path / "a.tif"
    map_path.write_bytes(tiff(PIXELS, 8, 2))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(map_path, "r+") as file:
        file.write_mask(PIXELS[..., 0] > 50)
    if name == "a.png":
        path.write_bytes(png(PIXELS, 8, 2))
        os.replace(f"{map_path}.msk", f"{path}.msk")
    _, valid = read_channels(path, channels(3, 255))
    np.testing.assert_array_equal(valid, PIXELS[..., 0] > 50)


# ---- types, sizes, files ---------------------------------------------------------------------------------------------


def test_integers_that_float32_does_not_hold_are_refused(tmp_path):
    image = np.full((4, 5), 2**24 + 1, np.uint32)
    np.save(tmp_path / "a.npy", image)
    with pytest.raises(CorruptFileError, match="a.npy holds 16777217, of type uint32.*divide the values"):
        read_channels(tmp_path / "a.npy", channels(1))
    np.save(tmp_path / "a.npy", image - 1)
    reads(tmp_path / "a.npy", channels(1), (image - 1).astype(np.float32))
    image[1:] = 7
    np.save(tmp_path / "a.npy", image)
    found, valid = read_channels(tmp_path / "a.npy", channels(1, nodata=2**24 + 1))
    assert (found[valid] == 7).all()
    assert not valid[0].any()


def test_a_range_that_does_not_fit_names_the_file(tmp_path):
    (tmp_path / "a.png").write_bytes(png(SHORT, 16, 0))
    with pytest.raises(CorruptFileError, match=r"a.png has values of type uint16.*range = \[0, 10000\]"):
        read_channels(tmp_path / "a.png", ImageChannels(("gray",)))
    (tmp_path / "b.png").write_bytes(png(ids(8), 8, 0))
    with pytest.raises(
        CorruptFileError, match="b.png has values of 8 bits, and the range of the channels ends at 10000"
    ):
        read_channels(tmp_path / "b.png", channels(1))


def test_complex_values_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((4, 5), complex))
    with pytest.raises(CorruptFileError, match="values of type complex128.*magnitude"):
        read_channels(tmp_path / "a.npy", channels(1))


def test_files_that_are_none_are_named(tmp_path):
    pytest.importorskip("rasterio")
    with pytest.raises(ImageNotFoundError, match="there is no image .*missing.tif"):
        read_channels(tmp_path / "missing.tif", channels(1))
    with pytest.raises(CorruptFileError, match="is a folder"):
        read_channels(tmp_path, channels(1))
    for name, content in (("a.npy", b"text"), ("a.tif", b"II*\0"), ("a.png", b"\x89PNG\r\n\x1a\n"), ("a.txt", b"text")):
        (tmp_path / name).write_bytes(content)
        for options in ({}, {"window": (0, 0, 1, 1)}):
            with pytest.raises(CorruptFileError, match=name):
                read_channels(tmp_path / name, channels(1), **options)
    cut = tiff(SHORT, 16, 1, deflate=True)
    (tmp_path / "cut.tif").write_bytes(cut[:8] + bytes(20) + cut[28:])
    with pytest.raises(CorruptFileError, match="cut.tif cannot be read"):
        read_channels(tmp_path / "cut.tif", channels(1))


def test_max_pixels_and_windows(tmp_path):
    pytest.importorskip("rasterio")
    write_tiff(tmp_path / "a.tif", DEEP["uint16x4_tiles"][0], **DEEP["uint16x4_tiles"][1])
    with pytest.raises(ImageTooLargeError, match="90x70 = 6300 pixels.*max_pixels=6300"):
        read_channels(tmp_path / "a.tif", channels(4), max_pixels=6299)
    read_channels(tmp_path / "a.tif", channels(4), max_pixels=6300)
    read_channels(tmp_path / "a.tif", channels(4), max_pixels=100, window=(0, 0, 10, 10))  # the part alone is decoded
    (tmp_path / "a.png").write_bytes(png(SHORT, 16, 0))
    with pytest.raises(ImageTooLargeError, match="9x6 = 54 pixels"):
        read_channels(tmp_path / "a.png", channels(1), max_pixels=53, window=(0, 0, 1, 1))
    for window in ((-1, 0, 3, 3), (0, 0, 7, 1), (0, 9, 1, 1), (0, 0, 0, 1), (0.0, 0, 1, 1)):
        with pytest.raises(InvalidArgumentError, match="inside of image .*a.png with 6 rows and 9 columns"):
            read_channels(tmp_path / "a.png", channels(1), window=window)
    with pytest.raises(InvalidArgumentError, match="orientation"):
        read_channels(tmp_path / "a.png", channels(1), orientation="upright")


def test_a_replaced_file_is_read_anew(tmp_path):
    pytest.importorskip("rasterio")
    path = tmp_path / "a.tif"
    image, options = DEEP["uint16x4_tiles"]
    write_tiff(path, image, **options)
    reads(path, channels(4), image[:5, :5], window=(0, 0, 5, 5))
    write_tiff(tmp_path / "b.tif", image + 1, **options)
    os.replace(tmp_path / "b.tif", path)
    reads(path, channels(4), image[:5, :5] + 1, window=(0, 0, 5, 5))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_windows_in_threads_and_forked_processes(tmp_path):
    pytest.importorskip("rasterio")
    path = tmp_path / "a.tif"
    image, options = DEEP["uint16x4_tiles"]
    write_tiff(path, image, **options)
    wrong = []

    def read(seed, count=60):
        rng = np.random.default_rng(seed)
        for _ in range(count):
            top, left = int(rng.integers(0, 60)), int(rng.integers(0, 80))
            found, _ = read_channels(path, channels(4), window=(top, left, 10, 10))
            if not np.array_equal(found, image[top : top + 10, left : left + 10]):
                wrong.append((top, left))

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    if hasattr(os, "fork"):
        child = os.fork()
        if not child:
            try:
                read(5)
            finally:
                os._exit(1 if wrong else 0)
        read(6)
        assert os.waitpid(child, 0)[1] == 0
        assert not wrong


# ---- rasters ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tiles.tif", "a.npy", "gray16.png", "several"])
def test_rasters_of_channels_give_what_read_channels_gives(tmp_path, name):
    pytest.importorskip("rasterio")
    image, options = DEEP["uint16x4_tiles"]
    image = image.copy()
    image[10:20, 10:20] = 0
    described = channels(4, nodata=0)
    source = tmp_path / name
    if name == "tiles.tif":
        write_tiff(source, image, **options)
    elif name == "a.npy":
        np.save(source, image)
    elif name == "gray16.png":
        image = image[..., :1]
        source.write_bytes(png(image[..., 0], 16, 0))
        described = channels(1, nodata=0)
    else:
        write_tiff(tmp_path / "a.tif", image[..., :2], **options)
        write_tiff(tmp_path / "b.tif", image[..., 2:], **options)
        source = [tmp_path / "a.tif", tmp_path / "b.tif"]
    with open_raster(source, channels=described) as raster:
        assert (raster.height, raster.width) == (70, 90)
        same(raster.read(5, 6, 30, 40), image[5:35, 6:46])
        np.testing.assert_array_equal(raster.valid(5, 6, 30, 40), (image[5:35, 6:46] != 0).any(-1))
        assert raster.valid(50, 50, 4, 4).all()
        same(raster.read(50, 50, 20, 40), image[50:, 50:])


def test_raster_of_an_array_and_geo_reference(tmp_path):
    pytest.importorskip("rasterio")
    image = RNG.random((20, 30, 5))
    with open_raster(image, channels=channels(5, 1)) as raster:
        same(raster.read(1, 2, 3, 4), image[1:4, 2:6].astype(np.float32))
        assert raster.valid is None
    write_tiff(tmp_path / "map.tif", image, **geo_reference())
    with open_raster(tmp_path / "map.tif", channels=channels(5, 1)) as raster:
        assert raster.geo_reference.transform == geo_reference()["transform"]
        assert raster.valid is None
    with pytest.raises(ImageTooLargeError), open_raster(tmp_path / "map.tif", 10, channels=channels(5, 1)):
        pass


def test_sizes_and_windows_of_color_images_and_of_any_channels(tmp_path):
    pytest.importorskip("rasterio")
    image = DEEP["uint16x4_tiles"][0].astype(np.uint8)
    options = DEEP["uint16x4_tiles"][1]
    write_tiff(tmp_path / "a.tif", image, **options)
    (tmp_path / "gray.tif").write_bytes(tiff(image[..., 0], 8, 1, tile=16, orientation=6))
    (tmp_path / "palette.tif").write_bytes(tiff(image[..., 0], 8, 3, palette=PALETTE, tile=16))
    (tmp_path / "a.png").write_bytes(png(PIXELS, 8, 2))
    expected = {"a.tif": (True, (70, 90)), "gray.tif": (True, (90, 70)), "a.png": (False, (6, 9))}
    for name, (has_windows, size) in expected.items():
        for described in (RGB_CHANNELS, None):
            assert can_read_windows(tmp_path / name, described) == has_windows
            assert channels_size(tmp_path / name, described) == size
    # of a palette the parts of the RGB image are not those of the file
    assert not can_read_windows(tmp_path / "palette.tif", RGB_CHANNELS)
    assert channels_size(tmp_path / "palette.tif", RGB_CHANNELS) == (70, 90)
    with pytest.raises(CorruptFileError, match="4 bands of uint8"):
        channels_size(tmp_path / "a.tif", channels(2, 255))
