"""Images of any channels and types: read from every kind of file as written, or refused with advice that works."""

import sys

import numpy as np
import pytest

from seg_core.errors import (
    MissingDependencyError,
)
from seg_core.files.channel_files import can_read_windows, channels_size, read_channels
from seg_core.labels.channels import ImageChannels
from tests.image_files import DEEP_PIXELS, FLOATS, PIXELS, RGBA, SHORT, ids, png, tiff
from tests.tiff_files import write_tiff

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
