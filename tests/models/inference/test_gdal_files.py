"""Files that GDAL reads and Pillow does not, or not as GDAL does; pages of GeoTIFFs; what lies beside results."""

import warnings

import numpy as np
import pytest
from PIL import Image

from seg_core.errors import CorruptFileError, ImageTooLargeError, InvalidArgumentError, InvalidTypeError, WriteError
from seg_core.files.gdal import quiet_gdal
from seg_models import Predictor
from seg_models.inference.output_paths import file_and_page
from tests.tiff_files import geo_reference, read_tiff, write_tiff

rasterio = pytest.importorskip("rasterio")


def write_raster(path, image, **options):
    shape = {"height": image.shape[0], "width": image.shape[1], "count": image.shape[2], "dtype": image.dtype}
    with quiet_gdal(), rasterio.open(path, "w", **shape, **options) as file:
        file.write(image.transpose(2, 0, 1))
    return path


def write_pages(path, image):
    """Writes three pages, each 10 meters east of the one before; in the third the first ten rows have no data."""
    third = np.maximum(image, 8)
    third[:10] = 7
    for number, page in enumerate((image, image[::-1], third)):
        place = {"crs": "EPSG:32633", "transform": rasterio.Affine(0.5, 0, 400_000 + 10 * number, 0, -0.5, 5_600_000)}
        options = {"APPEND_SUBDATASET": "YES"} if number else {}
        nodata = 7 if number == 2 else None
        write_raster(path, page, driver="GTiff", nodata=nodata, **place, **options)
    return path


def by_tiles(shades, source, target):
    return read_tiff(Predictor(shades, tile=32, allow_vrt=True).predict_to_file(source, target).path)[0]


@pytest.mark.parametrize("options", [{}, {"interleave": "band"}, {"compress": "lzw"}, {"nodata": 0}])
@pytest.mark.parametrize("bands", [1, 3])
def test_sparse_tiff_is_read_as_gdal_reads_it(bands, options, shades, image, tmp_path):
    path = tmp_path / "sparse.tif"
    shape = {"height": 70, "width": 90, "count": bands, "dtype": "uint8"}
    blocks = {"tiled": True, "blockxsize": 32, "blockysize": 32, "SPARSE_OK": "TRUE"}
    bright = np.maximum(image[:32, :32, :bands], 200)
    with quiet_gdal(), rasterio.open(path, "w", driver="GTiff", **shape, **blocks, **options) as file:
        file.write(bright.transpose(2, 0, 1), window=rasterio.windows.Window(32, 32, 32, 32))
    expected = np.full((70, 90), 255 if "nodata" in options else 0, np.uint8)
    expected[32:64, 32:64] = 2
    np.testing.assert_array_equal(Predictor(shades)(path).labels, expected)
    np.testing.assert_array_equal(Predictor(shades)(path.read_bytes()).labels, expected)
    np.testing.assert_array_equal(by_tiles(shades, path, tmp_path / "labels.tif"), expected)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.jp2", {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES"}),
        ("a.img", {"driver": "HFA"}),
        ("a.vrt", {}),
    ],
)
def test_formats_that_only_gdal_reads_are_read_in_memory_too(name, options, shades, image, tmp_path):
    path, image = tmp_path / name, np.maximum(image, 8)
    image[:10] = 7
    if name == "a.vrt":
        write_tiff(tmp_path / "a.tif", image, nodata=7, **geo_reference())
        with quiet_gdal():
            pytest.importorskip("rasterio.shutil").copy(tmp_path / "a.tif", path, driver="VRT")
    else:
        nodata = {"nodata": 7} if name == "a.img" else {}
        write_raster(path, image, **options, **nodata, **geo_reference())
    expected = Predictor(shades)(image).labels
    if name != "a.jp2":
        expected[:10] = 255
    prediction = Predictor(shades, allow_vrt=True)(path)
    np.testing.assert_array_equal(prediction.labels, expected)
    np.testing.assert_array_equal(by_tiles(shades, path, tmp_path / "labels.tif"), expected)
    prediction.save(tmp_path / "saved.tif")
    assert read_tiff(tmp_path / "saved.tif")[1]["transform"] == geo_reference()["transform"]


def test_files_that_only_gdal_reads_are_refused_with_the_reason(shades, image, tmp_path):
    write_raster(tmp_path / "deep.img", image.astype(np.uint16), driver="HFA")
    write_raster(tmp_path / "plain.img", image, driver="HFA")
    whole = write_raster(tmp_path / "cut.jp2", image, driver="JP2OpenJPEG", QUALITY="100", REVERSIBLE="YES")
    whole.write_bytes(whole.read_bytes()[:-500])
    with pytest.raises(CorruptFileError, match=r"deep.img has 3 channels of uint16; .*gdal_translate -ot Byte"):
        Predictor(shades)(tmp_path / "deep.img")
    with pytest.raises(ImageTooLargeError, match=r"plain.img has 90x70 = 6300 .*; or predict it tile by tile"):
        Predictor(shades, max_pixels=99)(tmp_path / "plain.img")
    with pytest.raises(CorruptFileError, match="cut.jp2 cannot be read: broken data stream"):
        Predictor(shades)(whole)


def test_pages_of_a_geotiff_keep_their_places_and_pixels_without_data(shades, image, tmp_path):
    path = write_pages(tmp_path / "pages.tif", image)
    predictions = list(Predictor(shades, all_frames=True)(path))
    for number, prediction in enumerate(predictions):
        prediction.save(tmp_path / "labels.tif")
        profile = read_tiff(tmp_path / "labels.tif")[1]
        assert profile["transform"].c == 400_000 + 10 * number
        assert profile["crs"] == rasterio.crs.CRS.from_epsg(32633)
    assert [(p.labels == 255).sum() for p in predictions] == [0, 0, 900]
    from_bytes = list(Predictor(shades, all_frames=True)(path.read_bytes()))
    assert all(np.array_equal(a.labels, b.labels) for a, b in zip(predictions, from_bytes, strict=True))


def test_frame_of_an_animation_has_no_place_of_its_own(shades, image, tmp_path):
    frames = [Image.fromarray(image), Image.fromarray(image[::-1])]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    _, second = Predictor(shades, all_frames=True)(tmp_path / "a.gif")
    second.save(tmp_path / "labels.tif")
    assert read_tiff(tmp_path / "labels.tif")[1]["crs"] is None


def test_result_of_a_page_does_not_replace_the_file(shades, image, tmp_path):
    path = write_pages(tmp_path / "pages.tif", image)
    before = path.read_bytes()
    for prediction in Predictor(shades, all_frames=True)(path):
        for save in (prediction.save, prediction.save_overlay):
            with pytest.raises(InvalidArgumentError, match=r"is the image that is predicted \(.*pages.tif\)"):
                save(path)
    assert path.read_bytes() == before


def test_result_of_views_of_a_memory_map_does_not_replace_its_file(shades, image, tmp_path):
    np.save(tmp_path / "a.npy", image)
    for view in (lambda a: np.asarray(a), lambda a: np.asarray(a)[::2, 4:].view()):
        with pytest.raises(InvalidArgumentError, match="a.npy is the image that is predicted"):
            Predictor(shades, tile=32).predict_to_file(
                view(np.load(tmp_path / "a.npy", mmap_mode="r")), tmp_path / "a.npy"
            )


def test_file_and_page_takes_a_file_of_such_a_name_as_it_is(tmp_path):
    name = str(tmp_path / "a, page 2")
    assert file_and_page(name) == (str(tmp_path / "a"), 2)
    assert file_and_page("b.gif, frame 10") == ("b.gif", 10)
    (tmp_path / "a, page 2").write_text("")
    assert file_and_page(name) == (name, 0)


LOCAL = 'LOCAL_CS["plan",UNIT["metre",1],AXIS["Easting",EAST],AXIS["Northing",NORTH]]'


def test_polygons_of_a_local_crs_have_the_coordinates_of_the_transform(shades, tmp_path):
    write_tiff(
        tmp_path / "a.tif", np.zeros((4, 6), np.uint8), crs=LOCAL, transform=rasterio.Affine(2, 0, 100, 0, -2, 50)
    )
    prediction = Predictor(shades)(tmp_path / "a.tif")
    with pytest.warns(UserWarning, match=r'the CRS of the image, LOCAL_CS\["plan".* has no place on the earth'):
        (feature,) = prediction.polygons()
    assert feature["geometry"]["coordinates"] == [[(100, 50), (100, 42), (112, 42), (112, 50), (100, 50)]]
    with pytest.warns(UserWarning, match="has no place on the earth"):
        prediction.save(tmp_path / "a.geojson")


def test_polygons_outside_of_the_crs_are_an_error(shades, tmp_path):
    write_tiff(
        tmp_path / "a.tif",
        np.zeros((4, 6), np.uint8),
        crs="EPSG:32633",
        transform=rasterio.Affine(1, 0, 1e9, 0, -1, 1e9),
    )
    prediction = Predictor(shades)(tmp_path / "a.tif")
    with pytest.raises(InvalidArgumentError, match=r"\(1e\+09, 1e\+09\) has no longitude and latitude .*EPSG:32633"):
        prediction.save(tmp_path / "a.geojson")
    assert not (tmp_path / "a.geojson").exists()


@pytest.mark.parametrize("step", [-0.5, 0.5, None])
def test_outer_rings_are_counterclockwise_and_holes_clockwise(step, shades, tmp_path):
    image = np.zeros((9, 9), np.uint8)
    image[3:6, 3:6] = 255
    place = {} if step is None else {"crs": "EPSG:32633", "transform": rasterio.Affine(0.5, 0, 4e5, 0, step, 5.6e6)}
    write_tiff(tmp_path / "a.tif", image, **place)

    def area(ring):
        x, y = np.subtract(ring, ring[0]).T
        return np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])

    (dark,) = Predictor(shades)(tmp_path / "a.tif").polygons("dark")
    outer, hole = dark["geometry"]["coordinates"]
    assert area(outer) > 0 > area(hole)
    assert dark["properties"]["pixels"] == 72


@pytest.mark.parametrize("name", ["labels.tif", "labels.png"])
def test_files_beside_a_replaced_result_do_not_change_the_new_one(name, shades, image, tmp_path):
    old, target = Predictor(shades)(np.full((70, 90, 3), 255, np.uint8)), tmp_path / name
    old.save(target)
    for suffix in (".aux.xml", ".msk", ".ovr"):
        write_tiff(tmp_path / f"{name}{suffix}", np.zeros((70, 90), np.uint8))
    prediction = Predictor(shades)(image)
    prediction.save(target)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    if name == "labels.tif":
        (tmp_path / "labels.tif.ovr").write_bytes(b"old")
        Predictor(shades, tile=32).predict_to_file(image, target)
        assert [path.name for path in tmp_path.iterdir()] == [name]
        (tmp_path / "labels.tif.ovr").mkdir()
        with pytest.raises(WriteError, match=r"cannot remove .*labels.tif.ovr"):
            prediction.save(target)


def test_world_file_beside_a_result_is_kept_and_told(shades, image, tmp_path):
    (tmp_path / "labels.tfw").write_text("1\n0\n0\n-1\n5\n5\n")
    with pytest.warns(
        UserWarning, match=r"labels.tif has no geo reference, but GIS programs take that of .*labels.tfw"
    ):
        Predictor(shades)(image).save(tmp_path / "labels.tif")
    assert (tmp_path / "labels.tfw").exists()
    write_tiff(tmp_path / "a.tif", image, **geo_reference())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Predictor(shades, tile=32).predict_to_file(tmp_path / "a.tif", tmp_path / "labels.tif")


def test_predict_to_file_takes_an_opened_dataset_by_its_path(shades, image, tmp_path):
    write_tiff(tmp_path / "a.tif", image, **geo_reference())
    with rasterio.open(tmp_path / "a.tif") as file:
        labels = by_tiles(shades, file, tmp_path / "labels.tif")
        with pytest.raises(InvalidArgumentError, match="is the image that is predicted"):
            Predictor(shades, tile=32).predict_to_file(file, tmp_path / "a.tif")
    np.testing.assert_array_equal(labels, Predictor(shades)(image).labels)
    assert read_tiff(tmp_path / "labels.tif")[1]["transform"] == geo_reference()["transform"]
    with (
        rasterio.MemoryFile((tmp_path / "a.tif").read_bytes()) as memory,
        memory.open() as file,
        pytest.raises(InvalidTypeError, match="has no file of its own that could be read; write it to a file"),
    ):
        Predictor(shades, tile=32).predict_to_file(file, tmp_path / "labels.tif")


def test_predict_to_file_of_what_has_no_parts_says_what_to_pass(shades, image, tmp_path):
    write_tiff(tmp_path / "a.tif", image)
    predictor, target = Predictor(shades, tile=32), tmp_path / "labels.tif"
    for url in ("https://example.org/town.tif", "s3://bucket/town.tif"):
        with pytest.raises(InvalidArgumentError, match="is a URL, of which parts cannot be read; download it first"):
            predictor.predict_to_file(url, target)
    with (tmp_path / "a.tif").open("rb") as file:
        for source in (Image.fromarray(image), file.read(), file):
            with pytest.raises(InvalidTypeError, match="pass its path, or call the predictor itself"):
                predictor.predict_to_file(source, target)
    assert not target.exists()
