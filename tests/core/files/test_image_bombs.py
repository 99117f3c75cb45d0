"""Small files that declare large images are refused before memory is taken, with advice that works."""

import io
import json
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from seg_core import ImageChannels, read_image, read_mask
from seg_core.errors import CorruptFileError, ImageTooLargeError, UserError
from seg_core.files.channel_files import read_channels
from seg_core.files.images import read_pages
from seg_core.files.opening import counted_pixels

RUN = """
import json, resource, sys, warnings
resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30, 3 * 2**30))
warnings.simplefilter("ignore")
from pathlib import Path
from seg_core import ImageChannels, read_image, read_mask
from seg_core.errors import UserError
from seg_core.files.channel_files import read_channels
from seg_core.files.images import read_pages
from seg_core.files.rasters import open_raster
def parts(path):
    with open_raster(path) as raster:
        raster.read(0, 0, 1, 1)
doors = [read_image, read_mask, parts, lambda path: list(read_pages(path))]
doors += [lambda path: read_channels(path, ImageChannels(("a",), range=(0, 255)))]
start, told = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, {}
for path in sorted(Path(sys.argv[1]).iterdir()):
    told[path.name] = []
    for read in doors:
        try:
            read(path)
            told[path.name].append("read")
        except UserError as error:
            told[path.name].append(f"{type(error).__name__}: {error}")
told[""] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start
print(json.dumps(told))
"""


def png(width, height, rows=b""):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(width, height, *, rows=None, tile=None, bits=8, channels=1, compression=8):
    """A TIFF of one strip or tile, which holds hardly anything."""
    data = zlib.compress(bytes(100))
    tags = {256: width, 257: height, 258: bits, 259: compression, 262: 1, 277: channels}
    tags |= (
        {322: tile[0], 323: tile[1], 324: 8, 325: len(data)} if tile else {273: 8, 278: rows or height, 279: len(data)}
    )
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    place = 8 + len(data)
    return b"II*\0" + struct.pack("<I", place) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


def saved(kind, size=(8, 8), mode="L", **options):
    file = io.BytesIO()
    Image.new(mode, size).save(file, kind, **options)
    return file.getvalue()


def bombs():
    gif, jpeg, bmp = bytearray(saved("GIF")), bytearray(saved("JPEG")), bytearray(saved("BMP"))
    gif[6:10] = b"\xff\xff\xff\xff"
    place = jpeg.index(b"\xff\xc0") + 5
    jpeg[place : place + 4] = b"\xff\xff\xff\xff"
    bmp[18:26] = struct.pack("<ii", 65535, 65535)
    webp = bytearray(saved("WEBP", lossless=True))
    webp[21:25] = b"\xff\xff\xff\x0f"
    return {
        "a.gif": gif,
        "a.jpg": jpeg,
        "a.bmp": bmp,
        "a.webp": webp,
        "a.png": png(65535, 65535),
        "a.pbm": b"P4\n999999 999999\n",
        "a.ppm": b"P6\n99999999 1\n255\n",
        "a.tif": tiff(65535, 65535),
        "tile.tif": tiff(16, 16, tile=(65520, 65520)),
        "strip.tif": tiff(3000, 50000, bits=32, channels=4),
        "narrow.tif": tiff(1, 100_000_000),
        "wide.tif": tiff(100_000_000, 1),
        "empty.npy": _npy("{'descr': '|u1', 'fortran_order': False, 'shape': (999999999, 999999999)}"),
    }


def _npy(header):
    text = header.ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are those of Linux")
def test_bombs_are_refused_at_every_door_without_memory(tmp_path):
    pytest.importorskip("rasterio")
    for name, content in bombs().items():
        (tmp_path / name).write_bytes(content)
    command = [sys.executable, "-c", RUN, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    taken = told.pop("") * (1 if sys.platform == "darwin" else 1024)
    assert taken < 2**29, f"{taken} bytes were taken"
    for name, answers in told.items():
        for answer in answers:
            assert answer.startswith(("ImageTooLargeError", "CorruptFileError")), (name, answers)
    for name in set(told) - {"empty.npy", "a.webp"}:
        assert any(answer.startswith("ImageTooLargeError") for answer in told[name]), (name, told[name])


def test_the_advice_works(tmp_path):
    (tmp_path / "a.png").write_bytes(saved("PNG", (70_000, 3)))
    (tmp_path / "b.png").write_bytes(saved("PNG", (40, 40)))
    assert counted_pixels(70_000, 3) == 70_000 * 64
    with pytest.raises(ImageTooLargeError, match="counts as 4480000, .*max_pixels=4480000 of the dataset"):
        read_image(tmp_path / "a.png", max_pixels=4_000_000)
    assert read_image(tmp_path / "a.png", max_pixels=4_480_000).shape == (3, 70_000, 3)
    with pytest.raises(ImageTooLargeError, match="has 40x40 = 1600 pixels .*--max-pixels 1600 of seg predict"):
        read_mask(tmp_path / "b.png", max_pixels=1599)
    assert read_mask(tmp_path / "b.png", max_pixels=1600).shape == (40, 40)


def test_an_image_that_is_nearly_empty_is_read_by_parts_if_its_size_is_allowed(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    from seg_core.files.gdal import quiet_gdal
    from seg_core.files.rasters import open_raster

    path, side = tmp_path / "sparse.tif", 200_000
    options = {"driver": "GTiff", "tiled": True, "blockxsize": 4096, "blockysize": 4096, "SPARSE_OK": "TRUE"}
    with quiet_gdal(), rasterio.open(path, "w", width=side, height=side, count=1, dtype="uint8", **options):
        pass
    for channels in ({}, {"channels": ImageChannels(("a",), range=(0, 255), nodata=9)}):
        with pytest.raises(ImageTooLargeError, match=r"nearly empty; .* max_pixels=40000000000 of the Predictor"):
            open_raster(path, **channels).__enter__()
        with open_raster(path, 40_000_000_000, **channels) as raster:
            assert not raster.read(side - 8, 0, 8, 8).any()
    (tmp_path / "full.npy").write_bytes(b"")


def test_chunks_and_types_of_zarr(tmp_path):
    zarr = pytest.importorskip("zarr")
    from seg_core.files.rasters import open_raster

    zarr.create_array(str(tmp_path / "a.zarr"), shape=(100_000, 100_000), chunks=(30_000, 30_000), dtype="uint8")
    with pytest.raises(ImageTooLargeError, match=r"a.zarr has chunks of \(30000, 30000\).*smaller chunks"):
        open_raster(tmp_path / "a.zarr").__enter__()
    zarr.create_array(str(tmp_path / "b.zarr"), shape=(100_000, 100_000), chunks=(512, 512), dtype="uint8")
    with pytest.raises(ImageTooLargeError, match="nearly empty"):
        open_raster(tmp_path / "b.zarr").__enter__()
    array = zarr.create_array(str(tmp_path / "c.zarr"), shape=(64, 64), chunks=(32, 32), dtype="uint8")
    array[:] = 7
    (chunk,) = [path for path in (tmp_path / "c.zarr").rglob("*") if path.is_file() and path.parts[-2:] == ("0", "0")]
    chunk.write_bytes(b"damaged")
    with open_raster(tmp_path / "c.zarr") as raster, pytest.raises(CorruptFileError, match="c.zarr cannot be read"):
        raster.read(0, 0, 8, 8)
    for path in (tmp_path / "c.zarr").glob("zarr.json"):
        path.write_text("[" * 5000)
    with pytest.raises(CorruptFileError, match="c.zarr cannot be read as a zarr array"):
        open_raster(tmp_path / "c.zarr").__enter__()


@pytest.mark.parametrize(
    "content",
    [
        _npy("{'descr': '|O', 'fortran_order': False, 'shape': (9, 9)}"),
        _npy("{'descr': '<U9', 'fortran_order': False, 'shape': (0,)}"),
        _npy("{'descr': '<M8[s]', 'fortran_order': True, 'shape': (1, 0)}"),
        _npy("{'descr': '|u1', 'fortran_order': True, 'shape': (9, 9)}"),
        _npy("{'descr': '|u1', 'fortran_order': False, 'shape': (-3, 9)}"),
        _npy("{'descr': '|u1', 'fortran_order': False, 'shape': (" + "9" * 60 + ", 9)}"),
        _npy("(" * 110),
        _npy("{'descr': [('a', '|u1')], 'fortran_order': False, 'shape': (0,)}"),
        b"\x93NUMPY\x09\x00",
        b"PK\x05\x06" + bytes(18),
        b"",
    ],
)
def test_npy_files_with_absurd_headers(content, tmp_path):
    from seg_core.files.rasters import open_raster

    (tmp_path / "a.npy").write_bytes(content)
    for read in (
        lambda: open_raster(tmp_path / "a.npy").__enter__(),
        lambda: read_channels(tmp_path / "a.npy", ImageChannels(("a",), range=(0, 255))),
    ):
        with pytest.raises(UserError, match=r"a\.npy"):
            read()


def test_pages_are_checked_one_by_one(tmp_path):
    file = io.BytesIO()
    Image.new("L", (8, 8)).save(file, "TIFF", save_all=True, append_images=[Image.new("L", (90, 90))])
    (tmp_path / "a.tif").write_bytes(file.getvalue())
    pages = read_pages(tmp_path / "a.tif", max_pixels=99)
    assert next(pages).shape == (8, 8, 3)
    with pytest.raises(ImageTooLargeError, match="90x90"):
        next(pages)


def test_large_images_are_converted_by_strips_as_at_once(monkeypatch):
    from seg_core.files import rgb

    images = [Image.fromarray(np.random.default_rng(3).integers(0, 256, (50, 30, 3)).astype(np.uint8))]
    images += [images[0].convert(mode) for mode in ("1", "L", "P", "CMYK", "YCbCr", "RGBA")]
    expected = [rgb.rgb_array(image) for image in images]
    monkeypatch.setattr(rgb, "_STRIP_PIXELS", 100)
    for image, whole in zip(images, expected, strict=True):
        np.testing.assert_array_equal(rgb.rgb_array(image), whole)
