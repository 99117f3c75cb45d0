"""The reader of images and masks: kinds, depths, orientations, limits, damage."""

import io
import pickle
import re
import threading
import tracemalloc
import warnings

import numpy as np
import pytest
from PIL import Image

from seg_core import CorruptFileError, InvalidArgumentError, read_image, read_mask
from seg_core.errors import ImageNotFoundError, ImageTooLargeError
from seg_core.files import opening
from seg_core.files.images import Once, check_image, count_pages, load_image, read_header, read_pages
from tests.image_files import CASES, PIXELS, TURNED, chunk, exif, gray, ids, png, saved, tiff

BY_NAME = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def mask_of(source, **options):
    """Reads a mask, and lets no warning be a surprise."""
    return read_mask(source, once=Once(), **options)


@BY_NAME
def test_read_image_every_kind_is_right_or_refused(case, tmp_path):
    path = case.save(tmp_path)
    if isinstance(case.image, str):
        with pytest.raises(CorruptFileError, match=f"^image {re.escape(str(path))} .*{case.image}"):
            read_image(path)
        return
    pixels = read_image(path)
    np.testing.assert_array_equal(pixels, TURNED[case.orientation](case.image))
    assert (pixels.dtype, pixels.flags.c_contiguous, pixels.flags.writeable) == (np.uint8, True, True)
    np.testing.assert_array_equal(read_image(path, orientation="stored"), case.image)
    assert load_image(path)[1] == case.orientation


@BY_NAME
def test_read_image_other_sources_are_read_as_the_path_is(case, tmp_path):
    path = case.save(tmp_path)
    contents = path.read_bytes()
    for source in (contents, io.BytesIO(contents), str(path), Image.open(path) if readable(path) else contents):
        if isinstance(case.image, str):
            with pytest.raises(ValueError, match=case.image):
                read_image(source)
        else:
            np.testing.assert_array_equal(read_image(source), TURNED[case.orientation](case.image))
        if isinstance(source, Image.Image):
            source.close()


def readable(path):
    try:
        Image.open(path).close()
    except OSError:
        return False
    return True


@BY_NAME
@pytest.mark.filterwarnings("ignore:mask .* is an RGB image")
def test_read_mask_every_kind_is_right_or_refused(case, tmp_path):
    path = case.save(tmp_path)
    if isinstance(case.mask, str):
        with pytest.raises(CorruptFileError, match=f"^mask {re.escape(str(path))} .*{case.mask}"):
            mask_of(path)
        return
    mask = mask_of(path)
    np.testing.assert_array_equal(mask, case.mask)
    assert mask.dtype == case.mask.dtype
    assert mask.flags.writeable


@BY_NAME
def test_read_header_has_size_and_orientation_of_every_kind(case, tmp_path):
    header = read_header(case.save(tmp_path))
    assert (header.height, header.width, header.orientation) == (*PIXELS.shape[:2], case.orientation)
    others = ("16", "32", "int8", ".ppm")  # not read by tiles for other reasons
    assert header.is_plain == case.by_tiles or any(part in case.name for part in others)


# ---- orientation -----------------------------------------------------------------------------------------------------


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>'
WRITERS = {
    "png": lambda tag: png(PIXELS, 8, 2, before=chunk(b"eXIf", exif(tag))),
    "png behind": lambda tag: png(PIXELS, 8, 2, after=chunk(b"eXIf", exif(tag))),
    "png xmp": lambda tag: png(
        PIXELS, 8, 2, before=chunk(b"iTXt", b"XML:com.adobe.xmp\x00\x00\x00\x00\x00" + XMP % tag)
    ),
    "png palette": lambda tag: png(ids(4), 4, 3, palette=PIXELS.reshape(-1, 3), before=chunk(b"eXIf", exif(tag))),
    "jpeg": lambda tag: saved(Image.fromarray(PIXELS), "JPEG", quality=95, exif=b"Exif\x00\x00" + exif(tag)),
    "webp": lambda tag: saved(Image.fromarray(PIXELS), "WEBP", lossless=True, exif=exif(tag)),
    "webp xmp": lambda tag: saved(Image.fromarray(PIXELS), "WEBP", lossless=True, xmp=XMP % tag),
    "tiff": lambda tag: tiff(PIXELS, 8, 2, orientation=tag),
    "tiff deflate tiles": lambda tag: tiff(PIXELS, 8, 2, orientation=tag, deflate=True, tile=16),
    "tiff gray": lambda tag: tiff(ids(8), 8, 1, orientation=tag),
    "tiff xmp": lambda tag: saved(Image.fromarray(PIXELS), "TIFF", tiffinfo={700: XMP % tag}),
}


@pytest.mark.parametrize("tag", range(1, 9))
@pytest.mark.parametrize("kind", WRITERS)
def test_read_image_each_orientation_is_applied_or_left(kind, tag, tmp_path):
    (tmp_path / "upright").write_bytes(WRITERS[kind](1))
    (tmp_path / "tagged").write_bytes(WRITERS[kind](tag))
    upright = read_image(tmp_path / "upright")
    np.testing.assert_array_equal(read_image(tmp_path / "tagged"), TURNED[tag](upright))
    np.testing.assert_array_equal(read_image(tmp_path / "tagged", orientation="stored"), upright)
    assert read_header(tmp_path / "tagged").orientation == tag
    with Image.open(tmp_path / "tagged") as image:
        np.testing.assert_array_equal(read_image(image), TURNED[tag](upright))


@pytest.mark.parametrize("tag", range(2, 9))
@pytest.mark.parametrize("kind", ["png palette", "tiff gray"])
def test_read_mask_each_orientation_is_an_error(kind, tag, tmp_path):
    (tmp_path / "mask").write_bytes(WRITERS[kind](tag))
    with pytest.raises(CorruptFileError, match=rf"mask .*mask has orientation tag {tag}; .* save the mask upright"):
        mask_of(tmp_path / "mask")


@pytest.mark.parametrize("tag", [0, 9, 1000])
def test_read_image_orientation_of_no_meaning_counts_as_none(tag):
    data = png(PIXELS, 8, 2, before=chunk(b"eXIf", exif(tag)))
    np.testing.assert_array_equal(read_image(data), PIXELS)
    np.testing.assert_array_equal(mask_of(png(ids(2), 2, 0, before=chunk(b"eXIf", exif(tag)))), ids(2))


@pytest.mark.parametrize("data", [b"", b"II", b"text that is no EXIF at all"])
def test_read_image_exif_that_cannot_be_parsed_counts_as_none(data):
    np.testing.assert_array_equal(read_image(png(PIXELS, 8, 2, before=chunk(b"eXIf", data))), PIXELS)


def test_read_image_xmp_counts_where_exif_cannot_be_parsed():
    xmp = chunk(b"iTXt", b"XML:com.adobe.xmp\x00\x00\x00\x00\x00" + XMP % 6)
    data = png(PIXELS, 8, 2, before=chunk(b"eXIf", b"text that is no EXIF at all") + xmp)
    np.testing.assert_array_equal(read_image(data), TURNED[6](PIXELS))


def test_read_image_unknown_orientation_error_lists_both():
    with pytest.raises(InvalidArgumentError, match="orientation must be 'apply' .* or 'stored' .*, got 'turn'"):
        read_image(png(PIXELS, 8, 2), orientation="turn")


# ---- size ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", [read_image, mask_of])
def test_read_more_than_max_pixels_error_says_how_to_raise_it_before_decoding(read, tmp_path):
    data = png(np.zeros((30, 40), np.uint8), 8, 0)
    path = tmp_path / "large.png"
    path.write_bytes(data.replace(data[41:60], bytes(19)))  # what would be decoded is damaged
    pattern = r"large.png has 40x30 = 1200 pixels .* more than max_pixels=1199; .* max_pixels=1200 .* --max-pixels 1200"
    with pytest.raises(ImageTooLargeError, match=pattern):
        read(path, max_pixels=1199)
    path.write_bytes(data)
    assert read(path, max_pixels=1200).shape[:2] == (30, 40)


def test_read_a_bomb_by_the_default_limit_is_an_error():
    header = chunk(b"IHDR", (20_000).to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0]))
    with pytest.raises(ImageTooLargeError, match="400000000 pixels .* more than max_pixels=178000000"):
        read_image(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b""))


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "all"])
def test_read_max_pixels_of_no_meaning_is_an_error(wrong):
    with pytest.raises(InvalidArgumentError, match="max_pixels must be an integer >= 1 .*, got"):
        read_image(png(PIXELS, 8, 2), max_pixels=wrong)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "TIFF deflate", "TIFF turned", "BMP", "GIF", "JPEG2000"])
def test_read_pillows_own_limit_is_neither_looked_at_nor_changed(kind, monkeypatch):
    name, _, variant = kind.partition(" ")
    options = {"deflate": {"compression": "tiff_deflate"}, "turned": {"tiffinfo": {274: 6}}}.get(variant, {})
    data = saved(Image.new("L", (40, 30)), name, **options)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow warns above that, and raises above twice that
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(data, max_pixels=1200, orientation="stored").shape == (30, 40, 3)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_read_webp_beyond_pillows_own_limit_error_says_which_limit_it_is(monkeypatch):
    data = saved(Image.new("L", (40, 30)), "WEBP")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # its plugin asks by itself
    with pytest.raises(ImageTooLargeError, match="PIL.Image.MAX_IMAGE_PIXELS = 100, .* raise it, or set it to None"):
        read_image(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert read_image(data).shape == (30, 40, 3)


def test_read_in_threads_with_other_users_of_pillow_is_safe(tmp_path, monkeypatch):
    """The limit that another thread relies on still holds while this one reads a larger image."""
    large, small = saved(Image.new("L", (400, 300)), "TIFF"), saved(Image.new("L", (20, 20)), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    problems, stop = [], threading.Event()

    def other():
        while not stop.is_set():
            Image.open(io.BytesIO(small)).load()
            try:
                Image.open(io.BytesIO(saved(Image.new("L", (100, 100)), "PNG")))
                problems.append("a bomb was let in")
            except Image.DecompressionBombError:
                pass

    thread = threading.Thread(target=other)
    thread.start()
    for _ in range(200):
        assert read_image(large).shape == (300, 400, 3)
    stop.set()
    thread.join()
    assert not problems


# ---- masks -----------------------------------------------------------------------------------------------------------


def test_read_mask_rgb_with_equal_channels_warns_once(tmp_path):
    once = Once()
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(png(gray(ids(4)), 8, 2))
    with pytest.warns(UserWarning, match=r"mask .*a.png is an RGB image whose three channels are equal") as caught:
        for name in ("a.png", "b.png"):
            np.testing.assert_array_equal(read_mask(tmp_path / name, once=once), ids(4))
    assert len(caught) == 1
    pickle.loads(pickle.dumps(once)).warn("RGB mask", "workers know earlier warnings")


def test_read_mask_rgb_with_one_other_pixel_is_a_color_image():
    pixels = gray(ids(4))
    pixels[-1, -1, 2] += 1
    with pytest.raises(CorruptFileError, match="is a color image .* Convert the colors to ids first"):
        mask_of(png(pixels, 8, 2))


def test_read_mask_opaque_gray_alpha_is_the_gray():
    samples = np.stack([ids(8), np.full_like(ids(8), 255)], -1)
    np.testing.assert_array_equal(mask_of(png(samples, 8, 4)), ids(8))


@pytest.mark.parametrize("transparency", [chunk(b"tRNS", b"\x00\x03"), b""])
def test_read_mask_transparent_gray_value_is_an_id_like_others(transparency):
    np.testing.assert_array_equal(mask_of(png(ids(4), 4, 0, before=transparency)), ids(4))


@pytest.mark.parametrize(("low", "high"), [(-1, 5), (0, 65536)])
def test_read_mask_32_bit_values_that_are_no_ids_error_names_the_range(low, high):
    samples = np.array([[low, high]], np.int32)
    with pytest.raises(CorruptFileError, match=f"holds 32-bit values from {low} to {high}; ids must be 0 to 65535"):
        mask_of(tiff(samples, 32, 1, sample_format=2))


@pytest.mark.parametrize("maxval", [20, 1000])
def test_read_mask_pgm_that_would_be_stretched_is_an_error(maxval):
    data = b"P5 3 1 %d\n" % maxval + (b"\x00\x01\x02" if maxval < 256 else b"\x00\x00\x00\x01\x00\x02")
    with pytest.raises(CorruptFileError, match="ids would be rescaled"):
        mask_of(data)


def test_read_mask_pbm_has_the_stored_bits():
    np.testing.assert_array_equal(mask_of(b"P1 4 1\n0 1 1 0\n"), [[0, 1, 1, 0]])
    np.testing.assert_array_equal(mask_of(b"P4 4 1\n\x60"), [[0, 1, 1, 0]])


def test_read_bmp_whose_gray_palette_hides_its_bits_is_an_error():
    palette = b"".join(bytes([value, value, value, 0]) for value in range(16))
    head = (40).to_bytes(4, "little") + b"\x08\0\0\0\x01\0\0\0\x01\0\x04\0" + bytes(16) + b"\x10\0\0\0" + bytes(4)
    data = b"BM" + bytes(8) + (118).to_bytes(4, "little") + head + palette + b"\x01\x23\x45\x67"
    for read in (read_image, mask_of):
        with pytest.raises(CorruptFileError, match="4 bits per pixel with a gray palette"):
            read(data)


# ---- what is no image ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", [read_image, mask_of, read_header])
@pytest.mark.parametrize("damage", ["text", "empty", "head"])
def test_read_damaged_file_error_names_it(read, damage, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes({"text": b"<html>404</html>", "empty": b"", "head": png(PIXELS, 8, 2)[:20]}[damage])
    reason = {"text": "it is none of PNG, JPEG, TIFF", "empty": "it is empty", "head": ""}[damage]
    with pytest.raises(CorruptFileError, match=rf"(image|mask) .*a.png cannot be read: .*{reason}.*; replace the file"):
        read(path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_read_truncated_file_error_names_it(kind, tmp_path):
    data = saved(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)), kind)
    (tmp_path / "a").write_bytes(data[: len(data) // 2])
    with pytest.raises(CorruptFileError, match=r"image .*a cannot be read: .*; replace the file or remove it"):
        read_image(tmp_path / "a")


@pytest.mark.parametrize("read", [read_image, mask_of, read_header])
def test_read_missing_file_error_names_it(read, tmp_path):
    with pytest.raises(ImageNotFoundError, match=r"there is no (image|mask) .*a.png; check the path") as caught:
        read(tmp_path / "a.png")
    assert isinstance(caught.value, FileNotFoundError)


def test_read_image_name_is_what_messages_say(tmp_path):
    (tmp_path / "tmp123").write_bytes(b"text")
    with pytest.raises(CorruptFileError, match="^image https://example.org/a.png cannot be read"):
        read_image(tmp_path / "tmp123", name="https://example.org/a.png")


def test_read_image_pil_image_in_memory_of_16_bits_is_an_error():
    with pytest.raises(InvalidArgumentError, match=r"image \(in memory\) has 16 bits per channel"):
        read_image(Image.fromarray(ids(16)))


def test_read_tiff_that_pillow_does_not_know_error_says_what_is_special():
    with pytest.raises(CorruptFileError, match="Pillow knows no TIFF of 3 channels of 8 bits with photometric interp"):
        read_image(tiff(PIXELS, 8, 1))
    four = np.concatenate([PIXELS, PIXELS[..., :1]], -1)
    with pytest.raises(CorruptFileError, match="has 4 channels in planes without compression, which is not"):
        read_image(tiff(four, 8, 2, planes=True, extra=2))
    np.testing.assert_array_equal(read_image(tiff(four, 8, 2, planes=True, extra=2, deflate=True)), PIXELS)
    five = np.concatenate([PIXELS, PIXELS[..., :2]], -1)
    with pytest.raises(CorruptFileError, match="has 5 channels; .* gdal_translate -b 1 -b 2 -b 3 -co PHOTOMETRIC"):
        read_image(tiff(five, 8, 2, extra=0))


def test_formats_are_those_of_the_plugins():
    assert all(name in Image.OPEN for name in opening._FORMATS)


# ---- the header alone ------------------------------------------------------------------------------------------------


def test_check_of_the_header_raises_as_reading_does_and_decodes_nothing(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.full((4, 4), 3000, np.uint16)).save(path)
    for check in (check_image, read_image):
        with pytest.raises(CorruptFileError, match=r"a\.png has 16 bits per channel"):
            check(path)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)).save(path)
    check_image(path)
    with pytest.raises(ImageTooLargeError, match="more than max_pixels=15"):
        check_image(path, max_pixels=15)
    path.write_bytes(path.read_bytes()[:2000])  # most pixels are cut off
    check_image(path)
    with pytest.raises(CorruptFileError):
        read_image(path)


def pages_of(kind, *sizes, **options):
    """Returns a file of several frames or pages; each has one gray value, its number times 100."""
    first, *others = [Image.new("RGB", size, (100 * n,) * 3) for n, size in enumerate(sizes)]
    file = io.BytesIO()
    first.save(file, kind, save_all=True, append_images=others, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "noun"), [("TIFF", "page"), ("GIF", "frame"), ("PNG", "frame"), ("WEBP", "frame"), ("MPO", "frame")]
)
def test_read_pages_gives_each_as_a_new_array(kind, noun):
    data = pages_of(kind, *[(9, 6)] * 3)
    assert count_pages(data) == (3, noun)
    pages = list(read_pages(data))
    assert [page.shape for page in pages] == [(6, 9, 3)] * 3
    np.testing.assert_allclose([page.mean() for page in pages], [0, 100, 200], atol=3)
    np.testing.assert_array_equal(read_image(data), pages[0])


def test_read_pages_of_a_file_of_one_image_is_read_image(tmp_path):
    for case in CASES:
        if not isinstance(case.image, str):
            path = case.save(tmp_path)
            assert count_pages(path)[0] == 1
            (page,) = read_pages(path)
            np.testing.assert_array_equal(page, read_image(path), err_msg=case.name)


@pytest.mark.parametrize("kind", ["TIFF", "MPO"])
def test_smaller_versions_of_an_image_are_no_pages(kind):
    data = pages_of(kind, (101, 60), (51, 30), (26, 15))
    assert count_pages(data)[0] == 1
    assert len(list(read_pages(data))) == 1


def test_scanned_pages_of_other_sizes_are_pages():
    data = pages_of("TIFF", (90, 60), (89, 59), (60, 90), (120, 80))
    assert [page.shape[:2] for page in read_pages(data)] == [(60, 90), (59, 89), (90, 60), (80, 120)]
    with pytest.raises(ImageTooLargeError, match="has 120x80 = 9600 pixels"):
        list(read_pages(data, max_pixels=9599))


def test_read_pages_of_an_opened_image_leaves_it_where_it_was():
    with Image.open(io.BytesIO(pages_of("GIF", *[(9, 6)] * 3))) as image:
        image.seek(1)
        assert len(list(read_pages(image))) == 3
        assert image.tell() == 1


def test_page_that_cannot_be_read_is_an_error_after_those_before_it():
    data = pages_of("TIFF", *[(90, 60)] * 2)
    deep = Image.fromarray(np.zeros((6, 9), np.uint16))
    file = io.BytesIO()
    Image.new("L", (9, 6)).save(file, "TIFF", save_all=True, append_images=[deep])
    pages = read_pages(file.getvalue(), name="scan.tif")
    next(pages)
    with pytest.raises(CorruptFileError, match="image scan.tif has 16 bits per channel"):
        next(pages)
    with pytest.raises(CorruptFileError):
        list(read_pages(data[: len(data) // 2]))


def test_a_chunk_that_claims_gigabytes_takes_none(tmp_path):
    path = tmp_path / "x.png"
    data = io.BytesIO()
    Image.new("RGB", (9, 6)).save(data, "PNG")
    path.write_bytes(data.getvalue()[:-12] + b"\xff\xff\xff\xf0teXt" + b"short")
    tracemalloc.start()
    try:
        with pytest.raises(CorruptFileError, match="cannot be read"):
            read_header(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()
