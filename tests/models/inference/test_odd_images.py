"""Images of odd kinds: predicted in memory and by tiles they have the same labels, or are refused alike."""

import json
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from seg_core.errors import CorruptFileError, ImageTooLargeError, InvalidArgumentError, UserError
from seg_core.files.gdal import quiet_gdal
from seg_core.files.geo_reference import geo_reference_of
from seg_core.files.images import read_image
from seg_core.labels.metadata import DatasetMetadata
from seg_core.transforms.preprocessing import Preprocessing
from seg_models import Predictor
from tests.image_files import exif, png, saved, tiff
from tests.tiff_files import geo_reference, read_tiff, write_tiff

rasterio = pytest.importorskip("rasterio")

SIZE = (40, 56)
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (*SIZE, 3), np.uint8)
IMAGE = Image.fromarray(RGB)
GRAY = RGB[..., 0]
ALPHA = np.full(SIZE, 255, np.uint8)
ALPHA[:10] = 0
ALPHA[10:20] = 100
INDICES = np.where(ALPHA == 0, 7, np.maximum(GRAY, 8)).astype(np.uint8)
RGBA = np.dstack([RGB, ALPHA])
TAG6 = {"exif": b"Exif\x00\x00" + exif(6)}
CLASSES = DatasetMetadata("five", tuple("abcde"))
"""Ignored pixels have 255."""


class PerPixel(torch.nn.Module):
    """Classifies each pixel alone, so that tiles and whole images have exactly the same labels."""

    def __init__(self):
        super().__init__()
        self.classify = torch.nn.Conv2d(3, 5, 1)
        with torch.no_grad():
            self.classify.weight.copy_(torch.linspace(-1, 1, 15).reshape(5, 3, 1, 1).sin() * 3)
            self.classify.bias.copy_(torch.linspace(-0.2, 0.2, 5))

    def forward(self, images):
        return {"out": self.classify(images)}


def predictor(metadata=CLASSES, **options):
    if metadata.num_classes != 5:
        raise ValueError(metadata.num_classes)
    plain = Preprocessing((0.5,) * 3, (0.5,) * 3)
    return Predictor(PerPixel(), metadata=metadata, preprocessing=plain, tile=16, overlap=0, **options)


def by_pillow(image=IMAGE, kind=None, **options):
    return lambda path: image.save(path, kind, **options)


def by_bytes(function, *arguments, **options):
    return lambda path: path.write_bytes(function(*arguments, **options))


def by_gdal(image=RGB, **options):
    return lambda path: write_tiff(path, image, **options)


def with_mask(inside):
    def write(path):
        write_tiff(path, RGB)
        with quiet_gdal(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside), rasterio.open(path, "r+") as file:
            file.write_mask(ALPHA > 0)

    return write


def with_mask_beside(write):
    def write_both(path):
        write(path)
        with_mask(False)(path.with_suffix(".mask.tif"))
        path.with_suffix(".mask.tif.msk").rename(f"{path}.msk")

    return write_both


READ = {
    # PNG and other formats of display, whose transparency does not count
    "rgb.png": by_pillow(),
    "gray.png": by_pillow(IMAGE.convert("L")),
    "palette.png": by_pillow(IMAGE.convert("P")),
    "palette_transparent.png": by_pillow(IMAGE.convert("P"), transparency=3),
    "gray_transparent.png": by_pillow(IMAGE.convert("L"), transparency=int(GRAY[0, 0])),
    "rgb_transparent.png": by_pillow(transparency=tuple(map(int, RGB[0, 0]))),
    "rgba.png": by_pillow(Image.fromarray(RGBA)),
    "gray_alpha.png": by_pillow(Image.fromarray(RGBA).convert("LA")),
    "bits1.png": by_pillow(IMAGE.convert("1")),
    "bits2.png": by_bytes(png, GRAY >> 6, 2, 0),
    "turned.png": by_pillow(exif=exif(6)),
    "animated.png": by_pillow(save_all=True, append_images=[IMAGE.rotate(90)]),
    "rgb.webp": by_pillow(lossless=True),
    "lossy.webp": by_pillow(),
    "rgba.webp": by_pillow(Image.fromarray(RGBA), lossless=True),
    "animated.webp": by_pillow(save_all=True, append_images=[IMAGE.rotate(90)], lossless=True),
    "palette.gif": by_pillow(IMAGE.convert("P")),
    "animated.gif": by_pillow(IMAGE.convert("P"), save_all=True, append_images=[IMAGE.convert("L")]),
    "rgb.bmp": by_pillow(),
    "rgba.bmp": by_pillow(Image.fromarray(RGBA)),
    "bits1.bmp": by_pillow(IMAGE.convert("1")),
    "gray.bmp": by_pillow(IMAGE.convert("L")),
    "rgb.ppm": by_pillow(),
    "bits1.pbm": by_pillow(IMAGE.convert("1")),
    # JPEG
    "rgb.jpg": by_pillow(),
    "progressive.jpg": by_pillow(progressive=True),
    "gray.jpg": by_pillow(IMAGE.convert("L")),
    "cmyk.jpg": by_pillow(IMAGE.convert("CMYK")),
    "turned.jpg": by_pillow(**TAG6),
    "turned_gray.jpg": by_pillow(IMAGE.convert("L"), **TAG6),
    "several.jpg": by_pillow(kind="MPO", save_all=True, append_images=[IMAGE]),
    "rgb.jp2": by_pillow(),
    "gray.jp2": by_pillow(IMAGE.convert("L")),
    # TIFF
    "gray.tif": by_gdal(GRAY),
    "bits1.tif": by_pillow(IMAGE.convert("1"), compression="group4"),
    "bits4.tif": by_bytes(tiff, GRAY >> 4, 4, 1),
    "white_is_zero.tif": by_bytes(tiff, GRAY, 8, 0),
    "white_is_zero1.tif": by_bytes(tiff, GRAY >> 7, 1, 0),
    "palette.tif": by_pillow(IMAGE.convert("P")),
    "cmyk.tif": by_pillow(IMAGE.convert("CMYK")),
    "lzw.tif": by_pillow(compression="tiff_lzw"),
    "jpeg.tif": by_pillow(compression="jpeg"),
    "ycbcr.tif": by_gdal(photometric="YCBCR", compress="JPEG"),
    "tiled.tif": by_gdal(tiled=True, blockxsize=16, blockysize=16),
    "planar.tif": by_gdal(interleave="band"),
    "big.tif": by_gdal(bigtiff="YES"),
    "big_endian.tif": by_bytes(tiff, RGB, 8, 2, order=">"),
    "two_pages.tif": by_pillow(save_all=True, append_images=[IMAGE]),
    "two_bands.tif": by_gdal(RGB[..., :2]),
    "four_bands.tif": by_gdal(RGB[..., [0, 1, 2, 0]], photometric="RGB", alpha="UNSPECIFIED"),
    # which Pillow does not read
    "planar_two_bands.tif": by_gdal(RGB[..., :2], interleave="band"),
    "planar_four_bands.tif": by_gdal(RGB[..., [0, 1, 2, 0]], interleave="band", photometric="MINISBLACK"),
    "three_gray_bands.tif": by_gdal(photometric="MINISBLACK"),
    "four_gray_bands.tif": by_gdal(RGB[..., [0, 1, 2, 0]], photometric="MINISBLACK"),
    "array.npy": lambda path: np.save(path, RGB),
    "planes.npy": lambda path: np.save(path, RGB.transpose(2, 0, 1)),
    "fractions.npy": lambda path: np.save(path, RGB.astype(np.float32) / 255),
    "nodata_in_one_band.tif": by_gdal(np.maximum(RGB, np.uint8([33, 0, 0])), nodata=32),
    "nodata_out_of_range.tif": by_pillow(tiffinfo={42113: "-9999"}),
    "nodata_nan.tif": by_pillow(tiffinfo={42113: "nan"}),
    "opaque.tif": by_pillow(IMAGE.convert("RGBA")),
    "turned.tif": by_bytes(tiff, RGB, 8, 2, orientation=8),
    "premultiplied.tif": by_bytes(tiff, np.dstack([RGB, np.full(SIZE, 255)]).astype(np.uint8), 8, 2, extra=1),
}

NO_DATA = {
    "nodata.tif": by_gdal(np.where(ALPHA[..., None] == 0, np.uint8(32), RGB), nodata=32),
    "nodata_gray.tif": by_gdal(np.where(ALPHA == 0, np.uint8(7), np.maximum(GRAY, 8)), nodata=7),
    "nodata_palette.tif": by_pillow(Image.fromarray(INDICES).convert("P"), tiffinfo={42113: "7"}),
    "alpha.tif": by_pillow(Image.fromarray(RGBA)),
    "gray_alpha.tif": by_pillow(Image.fromarray(np.dstack([GRAY, ALPHA]))),
    "alpha_and_nodata.tif": by_gdal(np.dstack([np.maximum(RGB, 1), ALPHA]), nodata=0, photometric="RGB", alpha="YES"),
    "premultiplied_alpha.tif": by_bytes(tiff, np.dstack([RGB * (ALPHA[..., None] > 0), ALPHA]), 8, 2, extra=1),
    "mask_inside.tif": with_mask(True),
    "mask_beside.tif": with_mask(False),
    "mask_beside.png": with_mask_beside(by_pillow(Image.fromarray(RGBA[::-1]))),
    "mask_beside.jpg": with_mask_beside(by_pillow()),
    "alpha.jp2": by_pillow(Image.fromarray(RGBA)),
    "turned.tif": by_bytes(tiff, np.dstack([RGB, ALPHA[::-1]]), 8, 2, orientation=3, extra=2),
}
"""Images whose first ten rows have no data."""

REFUSED = {
    "bits16.png": by_pillow(Image.fromarray(GRAY.astype(np.uint16))),
    "bits16.tif": by_gdal(RGB.astype(np.uint16)),
    "float.tif": by_gdal(RGB.astype(np.float32)),
    "signed.tif": by_gdal((RGB >> 1).astype(np.int8)),
    "five_bands.tif": by_gdal(RGB[..., [0, 1, 2, 0, 1]]),
    "lab.tif": by_bytes(tiff, RGB, 8, 8),
    "empty.tif": by_bytes(bytes),
    "empty.png": by_bytes(bytes),
    "text.tif": by_bytes(lambda: b"no image"),
    "cut.png": by_bytes(lambda: saved(IMAGE, "PNG")[:-3000]),
    "cut.jpg": by_bytes(lambda: saved(IMAGE, "JPEG")[:300]),
    "cut.tif": by_bytes(lambda: tiff(RGB, 8, 2, deflate=True)[:3000]),
}


def both(path, write, **options):
    """Writes an image; returns its labels in memory and by tiles, or the errors."""
    write(path)
    network = predictor(**options)
    results = []
    for predict in (in_memory, by_tiles):
        try:
            results.append(predict(network, path))
        except UserError as error:
            results.append(error)
    return results


def in_memory(network, path):
    return network(path).labels


def by_tiles(network, path):
    network.predict_to_file(path, path.with_name("labels.npy"))
    return np.load(path.with_name("labels.npy"))


@pytest.mark.parametrize("name", READ)
def test_labels_in_memory_and_by_tiles_are_equal(name, tmp_path):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        whole, tiles = both(tmp_path / name, READ[name])
    several = name.startswith(("animated", "several", "two_pages"))
    assert sum("only the first is predicted" in str(w.message) for w in told) == (2 if several else 0)
    np.testing.assert_array_equal(tiles, whole)
    assert whole.shape == (SIZE[::-1] if name.startswith("turned") else SIZE)
    assert whole.max() < 5
    assert len(np.unique(whole)) > 1


@pytest.mark.parametrize("name", NO_DATA)
def test_pixels_without_data_are_ignored(name, tmp_path):
    whole, tiles = both(tmp_path / name, NO_DATA[name])
    np.testing.assert_array_equal(tiles, whole)
    np.testing.assert_array_equal(whole == 255, np.repeat(np.arange(SIZE[0])[:, None] < 10, SIZE[1], axis=1))


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_memory_and_by_tiles(name, tmp_path):
    for error in both(tmp_path / name, REFUSED[name]):
        assert isinstance(error, CorruptFileError | InvalidArgumentError)
        assert name in str(error)
        assert any(advice in str(error) for advice in ("reduce it", "convert", "replace it", "replace the file"))


@pytest.mark.parametrize("name", ["nodata.tif", "alpha.tif", "alpha.jp2", "mask_inside.tif"])
def test_contents_of_a_file_and_downloads_keep_what_has_no_data(name, tmp_path, serve):
    NO_DATA[name](tmp_path / name)
    expected = predictor()(tmp_path / name).labels
    for source in ((tmp_path / name).read_bytes(), f"{serve(tmp_path)}/{name}"):
        np.testing.assert_array_equal(predictor()(source).labels, expected)


def test_place_of_a_download_is_said_to_be_lost(tmp_path, serve):
    write_tiff(tmp_path / "town.tif", RGB, **geo_reference())
    with pytest.warns(UserWarning, match="town.tif has a geo reference, which results of a URL do not get; download"):
        predictor()(f"{serve(tmp_path)}/town.tif")


def test_folder_with_the_name_of_an_image(tmp_path):
    (tmp_path / "folder.tif").mkdir()
    with pytest.raises(CorruptFileError, match="folder.tif is a folder, not an image; give the path of a file in it"):
        predictor().predict_to_file(tmp_path / "folder.tif", tmp_path / "labels.tif")


def test_pixels_without_data_are_in_no_area_and_have_score_0(tmp_path):
    NO_DATA["nodata.tif"](tmp_path / "image.tif")
    prediction = predictor(scores=True)(tmp_path / "image.tif")
    result = predictor().predict_to_file(tmp_path / "image.tif", tmp_path / "labels.tif")
    assert sum(prediction.areas.values()) == sum(result.areas.values()) == 30 * 56
    assert result.areas == prediction.areas
    assert (prediction.scores[:10] == 0).all()
    assert (prediction.scores[10:] > 0).all()
    labels, profile, _ = read_tiff(tmp_path / "labels.tif")
    np.testing.assert_array_equal(labels, prediction.labels)
    assert profile["nodata"] == 255


def test_ignored_value_above_255_makes_labels_uint16_only_where_it_occurs(tmp_path):
    far = DatasetMetadata("far", tuple("abcde"), ignore_index=65535)
    for name, write, dtype in (
        ("nodata.tif", NO_DATA["nodata.tif"], np.uint16),
        ("plain.tif", READ["gray.tif"], np.uint8),
    ):
        whole, tiles = both(tmp_path / name, write, metadata=far)
        np.testing.assert_array_equal(tiles, whole)
        assert whole.dtype == tiles.dtype == dtype
        assert (whole == 65535).sum() == (560 if dtype == np.uint16 else 0)


def test_small_regions_do_not_grow_into_pixels_without_data(tmp_path):
    image = np.full(SIZE, 200, np.uint8)
    image[:4] = 0  # no data
    image[10, 10] = 50
    image[4, 20] = 50  # beside pixels without data
    write_tiff(tmp_path / "image.tif", image, nodata=0)
    plain = predictor(min_region=1)(tmp_path / "image.tif").labels
    assert len(np.unique(plain)) == 3
    sieved = predictor(min_region=300)(tmp_path / "image.tif").labels
    assert (sieved[:4] == 255).all()
    assert (sieved[4:] == plain[30, 30]).all()


def test_without_rasterio_a_warning_tells_of_pixels_without_data(tmp_path, monkeypatch):
    import sys

    from seg_core.files import validity
    from seg_core.files.images import Once

    write_tiff(tmp_path / "image.tif", RGB, nodata=32)
    by_pillow()(tmp_path / "plain.tif")
    monkeypatch.setitem(sys.modules, "rasterio", None)
    monkeypatch.setattr(validity, "_ONCE", Once())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predictor()(tmp_path / "plain.tif")
    with pytest.warns(
        UserWarning, match=r"image.tif has a nodata value, and rasterio, .* pip install 'seg-core\[geo\]'"
    ):
        predictor()(tmp_path / "image.tif")


def test_image_that_can_only_be_read_at_once_keeps_to_the_limit(tmp_path):
    READ["turned.jpg"](tmp_path / "turned.jpg")
    with pytest.raises(ImageTooLargeError, match=r"turned.jpg has orientation tag 6, so .* max_pixels=2239 .*; raise"):
        predictor(max_pixels=40 * 56 - 1).predict_to_file(tmp_path / "turned.jpg", tmp_path / "labels.tif")
    predictor(max_pixels=40 * 56).predict_to_file(tmp_path / "turned.jpg", tmp_path / "labels.tif")


# ---- geo references --------------------------------------------------------------------------------------------------


UTM = rasterio.crs.CRS.from_epsg(32633)
NORTH_UP = rasterio.Affine(0.5, 0, 400_000, 0, -0.5, 5_600_000)
ROTATED = rasterio.Affine(0.4, 0.3, 400_000, 0.3, -0.4, 5_600_000)
SOUTH_UP = rasterio.Affine(0.5, 0, 400_000, 0, 0.5, 5_600_000)
CORNERS = ((0, 0, 13.0, 50.0), (0, 56, 13.56, 50.0), (40, 0, 13.0, 49.6), (40, 56, 13.56, 49.6))


def ground_points():
    return [rasterio.control.GroundControlPoint(*corner) for corner in CORNERS]


def coefficients():
    """Longitude and latitude that grow by 0.01 a pixel, from 13 and 50 at the center of the upper left one."""
    one, x, y = [1.0] + [0.0] * 19, [0.0, 1.0] + [0.0] * 18, [0.0, 0.0, -1.0] + [0.0] * 17
    return rasterio.rpc.RPC(
        height_off=100.0, height_scale=500.0, lat_off=50.0, lat_scale=1.0, line_den_coeff=one, line_num_coeff=y,
        line_off=0.0, line_scale=100.0, long_off=13.0, long_scale=1.0, samp_den_coeff=one, samp_num_coeff=x,
        samp_off=0.0, samp_scale=100.0, err_bias=None, err_rand=None,
    )  # fmt: skip


PLACED = {
    "utm": {"crs": UTM, "transform": NORTH_UP},
    "rotated": {"crs": UTM, "transform": ROTATED},
    "south_up": {"crs": UTM, "transform": SOUTH_UP},
    "no_crs": {"transform": NORTH_UP},
    "crs_alone": {"crs": UTM},
    "points": {"gcps": ground_points(), "crs": "EPSG:4326"},
    "points_without_crs": {"gcps": ground_points(), "crs": rasterio.crs.CRS()},
    "rpcs": {"rpcs": coefficients()},
}


def place(path):
    with quiet_gdal(), rasterio.open(path) as file:
        points = [(point.row, point.col, point.x, point.y) for point in file.gcps[0]]
        return (file.crs or None), tuple(file.transform), points, (file.gcps[1] or None), file.rpcs


@pytest.mark.parametrize("kind", PLACED)
def test_label_map_keeps_the_place_of_its_image(kind, tmp_path):
    write_tiff(tmp_path / "image.tif", RGB, **PLACED[kind])
    predictor()(tmp_path / "image.tif").save(tmp_path / "whole.tif")
    predictor().predict_to_file(tmp_path / "image.tif", tmp_path / "tiles.tif")
    expected = place(tmp_path / "image.tif")
    assert expected != place_of_none(tmp_path)
    assert place(tmp_path / "whole.tif") == place(tmp_path / "tiles.tif") == expected


def place_of_none(folder):
    write_tiff(folder / "none.tif", RGB)
    return place(folder / "none.tif")


@pytest.mark.parametrize(
    ("kind", "corner", "opposite"),
    [
        ("no_crs", (400_000, 5_600_000), (400_028, 5_599_980)),
        ("crs_alone", (0, 0), (56, 40)),
        ("points", (13, 50), (13.56, 49.6)),
        ("points_without_crs", (13, 50), (13.56, 49.6)),
        ("rpcs", (12.995, 50.005), (13.555, 49.605)),
    ],
)
def test_geojson_of_each_kind_of_place(kind, corner, opposite, tmp_path):
    write_tiff(tmp_path / "image.tif", np.zeros((*SIZE, 3), np.uint8), **PLACED[kind])
    predictor()(tmp_path / "image.tif").save(tmp_path / "labels.geojson")
    (feature,) = json.loads((tmp_path / "labels.geojson").read_text())["features"]
    ring = np.array(feature["geometry"]["coordinates"][0])
    assert feature["properties"]["pixels"] == 40 * 56
    for point in (corner, opposite):
        assert np.abs(ring - point).max(axis=1).min() < 1e-4


@pytest.mark.parametrize(
    ("name", "world"),
    [
        ("x.tif", "x.tfw"),
        ("x.png", "x.pgw"),
        ("x.png", "x.wld"),
        ("x.jpg", "x.jgw"),
        ("x.bmp", "x.bpw"),
        ("x.jp2", "x.j2w"),
    ],
)
def test_world_file_beside_an_image_is_its_place(name, world, tmp_path):
    IMAGE.save(tmp_path / name)
    (tmp_path / world).write_text("0.5\n0\n0\n-0.5\n400000.25\n5599999.75\n")
    predictor()(tmp_path / name).save(tmp_path / "whole.tif")
    predictor().predict_to_file(tmp_path / name, tmp_path / "tiles.tif")
    for labels in ("whole.tif", "tiles.tif"):
        assert place(tmp_path / labels)[1][:6] == tuple(NORTH_UP)[:6]


def test_place_of_a_jpeg2000_and_of_a_png_with_metadata_beside(tmp_path):
    import rasterio.shutil

    write_tiff(tmp_path / "image.tif", RGB, **geo_reference())
    for name, driver in (("image.jp2", "JP2OpenJPEG"), ("image.png", "PNG")):
        rasterio.shutil.copy(tmp_path / "image.tif", tmp_path / name, driver=driver)
        predictor()(tmp_path / name).save(tmp_path / "labels.tif")
        assert place(tmp_path / "labels.tif")[:2] == (UTM, tuple(NORTH_UP))


@pytest.mark.parametrize("tag", range(2, 9))
@pytest.mark.parametrize("kind", ["utm", "points"])
def test_place_of_a_turned_image_follows_its_pixels(kind, tag, tmp_path):
    stored = np.zeros(SIZE, np.uint8)
    stored[3, 7] = 255
    write_tiff(tmp_path / "place.tif", stored, **PLACED[kind])
    path = tmp_path / "image.png"
    Image.fromarray(stored).save(path, exif=exif(tag))
    row, column = np.argwhere(read_image(path)[..., 0])[0]
    with rasterio.open(tmp_path / "place.tif") as file:
        found = geo_reference_of(file, tag)
        original = geo_reference_of(file)
    with found.located() as (locate, _), original.located() as (locate_stored, _):
        center = [np.ravel(value) for value in locate(np.array([column + 0.5]), np.array([row + 0.5]))]
        expected = [np.ravel(value) for value in locate_stored(np.array([7.5]), np.array([3.5]))]
    np.testing.assert_allclose(center, expected, rtol=1e-9)
