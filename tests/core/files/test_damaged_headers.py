"""Headers that declare more than there is, or other samples than colors: every way of reading gives the same."""

import io
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from seg_core import ImageChannels, read_image, read_mask
from seg_core.errors import CorruptFileError
from seg_core.files.bounded import bounded
from seg_core.files.channel_files import channels_size, read_channels
from seg_core.files.images import count_pages, read_header
from tests.image_files import chunk, exif

RGB = ImageChannels(("red", "green", "blue"))
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def saved(kind, image=None, **options):
    buffer = io.BytesIO()
    (Image.fromarray(PIXELS) if image is None else image).save(buffer, kind, **options)
    return buffer.getvalue()


def jp2_with(box, **options):
    """Returns a JPEG 2000 with another box in its header."""
    data = saved("JPEG2000", irreversible=False, **options)
    start = data.index(b"jp2h") - 4
    length = int.from_bytes(data[start : start + 4], "big")
    content = data[start + 8 : start + length]
    parts = content + box
    return data[:start] + (len(parts) + 8).to_bytes(4, "big") + b"jp2h" + parts + data[start + length :]


def huge_png():
    """A chunk behind the pixels that declares 4 GB."""
    return saved("PNG")[:-12] + b"\xf0\xff\xff\xf0teXt" + b"short"


def huge_pixels():
    """Pixels that are whole, in a chunk that declares 2 GB."""
    data = saved("PNG")
    at = data.index(b"IDAT") - 4
    return data[:at] + b"\x7f\xff\xff\xff" + data[at + 4 : -12]


def huge_jp2():
    return saved("JPEG2000").replace(b"\0\0\0\x14ftyp", b"\x80\0\0\x14ftyp")


def by_channels(path):
    return read_channels(path, RGB)


@pytest.mark.parametrize("content", [huge_png, huge_pixels, huge_jp2])
@pytest.mark.parametrize(
    "read",
    [
        read_header,
        read_image,
        read_mask,
        count_pages,
        by_channels,
        lambda path: read_image(path.read_bytes()),
        lambda path: read_image(path.open("rb")),
    ],
    ids=["read_header", "read_image", "read_mask", "count_pages", "read_channels", "bytes", "file"],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_gigabytes_that_a_header_declares_are_not_allocated(content, read, tmp_path):
    if content is huge_jp2 and read is by_channels:
        pytest.importorskip("rasterio")
    path = tmp_path / "x.png"
    path.write_bytes(content())
    tracemalloc.start()
    try:
        try:
            read(path)
        except CorruptFileError as error:
            assert "replace" in str(error) or "color image" in str(error)
        assert tracemalloc.get_traced_memory()[1] < 1 << 25
    finally:
        tracemalloc.stop()


def test_a_bounded_file_reads_what_a_file_does(tmp_path):
    path = tmp_path / "x"
    data = np.random.default_rng(0).bytes(3_000_001)
    path.write_bytes(data)
    with path.open("rb") as plain:
        file = bounded(plain)
        assert bounded(file) is file
        assert file.fileno() == plain.fileno()
        for size in (0, 5, 2**20, 2**20 + 1, 2**40):
            file.seek(1)
            assert file.read(size) == data[1 : 1 + size]
        for size in (None, -1):
            file.seek(7)
            assert file.read(size) == data[7:]
        assert file.read(2**40) == b""


def damaged_tails():
    turned = saved("PNG")[:-12] + chunk(b"eXIf", exif(6))
    return {
        "nothing": saved("PNG")[:-12],
        "tag, then nothing": turned,
        "tag, then no chunk": turned + b"\0\0\0\1\0\0\0\0xxxx",
        "no chunk, then tag": saved("PNG")[:-12] + b"\0\0\0\1\0\0\0\0xxxx" + chunk(b"eXIf", exif(6)),
        "tag of a wrong checksum": turned[:-4] + b"abcd",
        "tag, then a chunk that is cut off": turned + b"\0\0\1\0teXtab",
        "tag that is cut off": turned[:-9],
        "tag behind the end": saved("PNG") + chunk(b"eXIf", exif(6)),
        "tag behind a text of a wrong checksum": turned.replace(
            chunk(b"eXIf", exif(6)), chunk(b"tEXt", b"a\0b")[:-4] + b"abcd" + chunk(b"eXIf", exif(6))
        ),
    }


@pytest.mark.parametrize("name", damaged_tails())
def test_one_verdict_on_a_png_that_is_damaged_behind_its_pixels(name, tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(damaged_tails()[name])
    try:
        image = read_image(path)
    except CorruptFileError:
        for read in (read_header, lambda path: read_channels(path, RGB)):
            with pytest.raises(CorruptFileError):
                read(path)
        return
    header = read_header(path)
    shape = (header.height, header.width) if header.orientation < 5 else (header.width, header.height)
    assert image.shape[:2] == shape
    pixels, valid = read_channels(path, RGB)
    assert valid is None
    np.testing.assert_array_equal(pixels, image)


def test_damage_behind_the_pixels_hides_no_tag_before_it(tmp_path):
    shapes = {}
    for name, data in damaged_tails().items():
        try:
            shapes[name] = read_image(data).shape[:2]
        except CorruptFileError:
            shapes[name] = None
    assert shapes["tag, then nothing"] == shapes["tag, then no chunk"] == (9, 6)
    assert shapes["no chunk, then tag"] == shapes["nothing"] == (6, 9)
    assert shapes["tag, then a chunk that is cut off"] is None


def test_a_damaged_png_is_not_read_by_another_library(tmp_path):
    """GDAL would read it, without its orientation."""
    path = tmp_path / "x.png"
    data = saved("PNG", exif=exif(6))
    at = data.index(b"eXIf")
    path.write_bytes(data[: at - 4] + chunk(b"tRNS", b"") + data[at - 4 :])
    with pytest.raises(CorruptFileError, match="cannot be read"):
        read_image(path)
    with pytest.raises(CorruptFileError, match="cannot be read"):
        read_channels(path, RGB)


def test_ycbcr_of_jpeg_2000_is_rgb_by_every_reader(tmp_path):
    path = tmp_path / "x.jp2"
    path.write_bytes(saved("JPEG2000", Image.fromarray(PIXELS).convert("YCbCr")))
    image = read_image(path)
    assert np.abs(image.astype(int) - PIXELS).max() <= 3
    pixels, valid = read_channels(path, RGB)
    assert valid is None
    np.testing.assert_array_equal(pixels, image)
    np.testing.assert_array_equal(read_channels(path, RGB, window=(1, 2, 3, 4))[0], image[1:4, 2:6])
    assert read_header(path).unlike == "YCbCr colors"


@pytest.mark.parametrize("order", [(3, 2, 1), (2, 3, 1)])
def test_order_of_channels_that_a_jpeg_2000_defines_is_no_other(order, tmp_path):
    """No library puts them in order: they would be read as other colors."""
    path = tmp_path / "x.jp2"

    def write(order):
        fields = b"".join(np.array((band, 0, place), ">u2").tobytes() for band, place in enumerate(order))
        path.write_bytes(jp2_with((10 + len(fields)).to_bytes(4, "big") + b"cdef" + b"\0\3" + fields))

    write((1, 2, 3))
    np.testing.assert_array_equal(read_image(path), PIXELS)
    np.testing.assert_array_equal(read_channels(path, RGB)[0], PIXELS)
    write(order)
    with pytest.raises(CorruptFileError, match=r"channels in another order than red.*gdal_translate"):
        read_image(path)
    with pytest.raises(CorruptFileError, match="channels in another order than red"):
        read_channels(path, RGB)


def test_ycbcr_of_16_bits_is_refused(tmp_path):
    path = tmp_path / "x.jp2"
    data = saved("JPEG2000", Image.fromarray(PIXELS).convert("YCbCr"))
    at = data.index(b"ihdr") + 14
    path.write_bytes(data[:at] + b"\x0f" + data[at + 1 :])
    with pytest.raises(CorruptFileError, match="has YCbCr colors, of 16 bits; convert it to red, green and blue"):
        read_channels(path, ImageChannels(("red", "green", "blue"), range=(0, 65535)))


def tiff(changes):
    """Returns a TIFF of one tag per entry of 12 bytes, changed by tag: (type, count, value)."""
    data = bytearray(saved("TIFF", Image.fromarray(PIXELS[..., 0])))
    at = int.from_bytes(data[4:8], "little")
    for entry in range(at + 2, at + 2 + 12 * int.from_bytes(data[at : at + 2], "little"), 12):
        tag = int.from_bytes(data[entry : entry + 2], "little")
        if tag in changes:
            kind, count, value = changes[tag]
            data[entry + 2 : entry + 12] = kind.to_bytes(2, "little") + count.to_bytes(4, "little") + value
    return bytes(data)


@pytest.mark.parametrize(
    "changes",
    [
        {256: (7, 2, b"\x09\0\0\0")},  # bytes
        {257: (2, 2, b"6\0\0\0")},  # text
        {256: (3, 2, b"\x09\0\x09\0")},  # two
        {256: (4, 1, bytes(4))},  # nothing
        {256: (11, 1, np.float32(9).tobytes())},
    ],
    ids=["bytes", "text", "two", "zero", "float"],
)
def test_a_size_of_a_tiff_that_is_no_number_is_told(changes, tmp_path):
    path = tmp_path / "x.tif"
    path.write_bytes(tiff(changes))
    for read in (read_header, read_image, read_mask, count_pages, lambda path: read_channels(path, RGB)):
        with pytest.raises(CorruptFileError, match="x.tif"):
            read(path)


def test_a_tiff_of_fewer_strips_than_rows_is_refused_by_path_and_by_content(tmp_path):
    """By path Pillow would map all rows, and by content read the first."""
    path = tmp_path / "x.tif"
    path.write_bytes(tiff({278: (4, 1, b"\1\0\0\0")}))
    for read in (read_image, read_mask):
        for source in (path, path.read_bytes(), io.BytesIO(path.read_bytes())):
            with pytest.raises(CorruptFileError, match="never written"):
                read(source)


def test_a_damaged_tag_of_a_tiff_hides_no_other(tmp_path):
    """GDAL would read the file without its orientation."""
    path = tmp_path / "x.tif"
    data = bytearray(tiff({262: (3, 5, b"\1\0\0\0")}))
    at = int.from_bytes(data[4:8], "little")
    path.write_bytes(data)
    plain = read_image(path).shape
    entry = data.index((284).to_bytes(2, "little"), at)  # the planar configuration, 1, becomes an orientation
    data[entry : entry + 12] = b"\x12\1\3\0\1\0\0\0\6\0\0\0"
    path.write_bytes(data)
    image = read_image(path)
    assert plain == (6, 9, 3)
    assert image.shape == (9, 6, 3)
    header = read_header(path)
    assert header.orientation == 6
    assert channels_size(path) == channels_size(path, ImageChannels(("gray",))) == (9, 6)


def test_an_animation_that_declares_more_frames_than_it_holds_is_told(tmp_path):
    path = tmp_path / "x.png"
    frames = [Image.fromarray(PIXELS), Image.fromarray(PIXELS[::-1])]
    data = saved("PNG", frames[0], save_all=True, append_images=frames[1:])
    at = data.index(b"acTL")
    path.write_bytes(data[: at - 4] + chunk(b"acTL", b"\x7f\0\0\0\0\0\0\0") + data[at + 16 :])
    assert read_image(path).shape == (6, 9, 3)
    for read in (count_pages, read_mask):
        with pytest.raises(
            CorruptFileError, match="its header tells of 2130706432 frames, more than there is room for"
        ):
            read(path)
