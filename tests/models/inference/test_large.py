"""Images and label maps by windows: TIFF, .npy, zarr; polygons and small regions."""

import dataclasses
import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from seg_core.errors import CorruptFileError, InvalidArgumentError, MissingDependencyError, WriteError
from seg_core.labels.metadata import DatasetMetadata
from seg_core.transforms.preprocessing import Preprocessing
from seg_models import Prediction, Predictor
from seg_models.inference.large import npy_writer, open_raster, polygons, remove_small_regions

rasterio = pytest.importorskip("rasterio")
METADATA = DatasetMetadata("three", ("dark", "middle", "bright"), ((0, 0, 200), (0, 200, 0), (200, 0, 0)))


@pytest.fixture
def image():
    """uint8 (70, 90, 3): shades that change smoothly."""
    y, x = np.mgrid[:70, :90]
    shade = 127 + 120 * np.sin(y / 11) * np.cos(x / 17)
    return np.repeat(shade.astype(np.uint8)[:, :, None], 3, axis=2)


def write_tiff(path, image, **options):
    bands = np.atleast_3d(image).transpose(2, 0, 1)
    shape = {"height": bands.shape[1], "width": bands.shape[2], "count": len(bands), "dtype": bands.dtype}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="GTiff", **shape, **options) as file:
            file.write(bands)


def read_tiff(path):
    with rasterio.open(path) as file:
        return file.read(1), dict(file.profile), file.colormap(1) if file.dtypes[0] == "uint8" else None


PLACE = {"crs": "EPSG:32633", "transform": rasterio.Affine(0.5, 0, 400_000, 0, -0.5, 5_600_000)}


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("ending", [".tif", ".npy"])
@pytest.mark.parametrize("kind", ["tiff", "npy", "zarr", "array", "planes", "gray"])
def test_image_by_windows_has_the_labels_of_the_image_in_memory(kind, ending, shades, image, tmp_path):
    source = tmp_path / f"image.{kind}"
    if kind == "tiff":
        write_tiff(source, image, tiled=True, blockxsize=32, blockysize=32)
    elif kind == "npy":
        np.save(source, image)
    elif kind == "zarr":
        zarr = pytest.importorskip("zarr")
        stored = zarr.open_array(str(source), mode="w", shape=image.shape, chunks=(32, 32, 3), dtype="u1")
        stored[:] = image
    else:
        source = {"array": image, "planes": image.transpose(2, 0, 1), "gray": image[:, :, 0]}[kind]
    predictor = Predictor(shades, tile=(24, 40), batch_size=2)
    shares = []
    result = predictor.predict_to_file(source, tmp_path / f"labels{ending}", on_progress=shares.append)
    expected = predictor(image)
    labels = np.load(result.path) if ending == ".npy" else read_tiff(result.path)[0]
    np.testing.assert_array_equal(labels, expected.labels)
    assert labels.dtype == np.uint8
    assert result.size == (70, 90)
    assert result.areas == expected.areas
    assert len(expected.areas) == 3
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_tiff_of_labels_is_tiled_and_has_palette_and_place(shades, image, tmp_path):
    write_tiff(tmp_path / "image.tif", image, **PLACE)
    Predictor(shades, tile=32).predict_to_file(tmp_path / "image.tif", tmp_path / "labels.tif")
    _, profile, colors = read_tiff(tmp_path / "labels.tif")
    assert profile["tiled"]
    assert profile["compress"] == "deflate"
    assert (profile["crs"], profile["transform"]) == (rasterio.crs.CRS.from_string("EPSG:32633"), PLACE["transform"])
    assert profile["nodata"] == 255
    assert [colors[i][:3] for i in (0, 1, 2, 255)] == [(0, 0, 200), (0, 200, 0), (200, 0, 0), (0, 0, 0)]
    with Image.open(tmp_path / "labels.tif") as shown:
        assert shown.mode == "P"
    prediction = Predictor(shades)(tmp_path / "image.tif")
    prediction.save(tmp_path / "whole.tif")
    labels, whole, _ = read_tiff(tmp_path / "whole.tif")
    np.testing.assert_array_equal(labels, prediction.labels)
    assert (whole["crs"], whole["transform"]) == (profile["crs"], profile["transform"])


def test_scale_of_the_preprocessing_holds_window_by_window(shades, image, tmp_path):
    half = Preprocessing((0.5,) * 3, (0.5,) * 3, scale=0.5)
    seen = []
    shades.register_forward_pre_hook(lambda _module, inputs: seen.append(tuple(inputs[0].shape[-2:])))
    predictor = Predictor(shades, preprocessing=half, tile=16)
    predictor.predict_to_file(image, tmp_path / "labels.npy")
    assert set(seen) == {(16, 16)}
    labels, expected = np.load(tmp_path / "labels.npy"), Predictor(shades, preprocessing=half)(image).labels
    assert (labels == expected).mean() > 0.98


@pytest.mark.parametrize(
    ("options", "target", "words"),
    [
        ({}, "labels.tif", "predicts window by window; give the predictor tile="),
        ({"tile": 16, "scores": True}, "labels.tif", "writes labels alone; leave out scores="),
        ({"tile": 16, "min_region": 5}, "labels.tif", "min_region=5 needs the whole label map"),
        ({"tile": 16, "preprocessing": Preprocessing(shorter_side=9)}, "labels.tif", "by {'shorter_side': 9}, and a"),
        ({"tile": 16, "preprocessing": Preprocessing(longer_side=9)}, "labels.tif", "by {'longer_side': 9}, and a"),
        ({"tile": 16, "preprocessing": Preprocessing(size=(9, 9))}, "labels.tif", "a tile does not know the size"),
        ({"tile": 16}, "labels.png", "target must end in .tif, .tiff or .npy"),
    ],
)
def test_options_that_need_the_whole_image_are_refused(options, target, words, shades, image, tmp_path):
    with pytest.raises(InvalidArgumentError, match=words):
        Predictor(shades, **options).predict_to_file(image, tmp_path / target)
    assert list(tmp_path.iterdir()) == []


def test_raster_that_is_none_is_told_and_nothing_is_written(shades, tmp_path):
    sources = tmp_path / "in"
    sources.mkdir()
    write_tiff(sources / "deep.tif", np.zeros((8, 8), np.uint16))
    write_tiff(sources / "five.tif", np.zeros((8, 8, 5), np.uint8))
    (sources / "text.tif").write_text("no image")
    (sources / "text.npy").write_text("no array")
    np.save(sources / "row.npy", np.zeros(7, np.uint8))
    np.save(sources / "int.npy", np.zeros((7, 7, 3), np.int64))
    (sources / "empty.zarr").mkdir()
    predictor = Predictor(shades, tile=4)
    for name, error, words in (
        ("deep.tif", InvalidArgumentError, "1 channels of uint16; an image has 1 to 4 channels of uint8"),
        ("five.tif", InvalidArgumentError, "5 channels"),
        ("text.tif", CorruptFileError, "cannot be read as an image"),
        ("text.npy", CorruptFileError, "cannot be read as an array"),
        ("row.npy", InvalidArgumentError, r"got .* of shape \(7,\)"),
        ("int.npy", InvalidArgumentError, "image must be uint8 in 0 to 255 or float in 0 to 1, got int64"),
        ("gone.tif", FileNotFoundError, "there is no image"),
        ("empty.zarr", CorruptFileError, "cannot be read as a zarr array"),
    ):
        if name.endswith("zarr"):
            pytest.importorskip("zarr")
        with pytest.raises(error, match=words):
            predictor.predict_to_file(sources / name, tmp_path / "out" / "labels.tif")
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


def test_run_that_breaks_off_leaves_no_file(shades, image, tmp_path):
    calls = []

    def break_off(share):
        calls.append(share)
        if len(calls) == 2:
            raise KeyboardInterrupt

    for name in ("labels.tif", "labels.npy"):
        calls.clear()
        with pytest.raises(KeyboardInterrupt):
            Predictor(shades, tile=16).predict_to_file(image, tmp_path / name, on_progress=break_off)
    assert list(tmp_path.iterdir()) == []


def test_blocks_in_any_order_make_the_same_npy(tmp_path):
    labels = np.random.default_rng(0).integers(0, 300, (9, 14)).astype(np.uint16)
    with npy_writer(tmp_path / "labels.npy", labels.shape, labels.dtype) as write:
        for top, left, bottom, right in ((4, 0, 9, 14), (0, 6, 4, 14), (0, 0, 4, 6)):
            write(top, left, labels[top:bottom, left:right])
    np.testing.assert_array_equal(np.load(tmp_path / "labels.npy", mmap_mode="r"), labels)


def test_window_of_a_raster_is_that_of_the_array(image):
    with open_raster(image) as raster:
        np.testing.assert_array_equal(raster.read(3, 5, 7, 9), image[3:10, 5:14])
        assert raster.place is None
    with (
        pytest.raises(InvalidArgumentError, match=r"got Tensor of shape \(2, 3, 4, 4\)"),
        open_raster(torch.zeros(2, 3, 4, 4)),
    ):
        pass


# ---- small regions and polygons --------------------------------------------------------------------------------------


def test_small_regions_become_part_of_their_largest_neighbor():
    labels = np.zeros((8, 10), np.uint8)
    labels[:, 6:] = 1
    labels[2:4, 2:4] = 2  # 4 pixels
    labels[5, 8] = 0
    expected = np.zeros((8, 10), np.uint8)
    expected[:, 6:] = 1
    np.testing.assert_array_equal(remove_small_regions(labels, 5), expected)
    expected[2:4, 2:4] = 2
    np.testing.assert_array_equal(remove_small_regions(labels, 4), expected)
    np.testing.assert_array_equal(remove_small_regions(labels, 1), labels)
    many = labels.astype(np.uint16) + 300
    np.testing.assert_array_equal(remove_small_regions(many, 4), expected.astype(np.uint16) + 300)
    with pytest.raises(InvalidArgumentError, match="min_pixels must be a number of pixels from 1 on, got 0"):
        remove_small_regions(labels, 0)


def test_predictor_removes_small_regions(shades):
    image = np.zeros((10, 10, 3), np.uint8)
    image[4:6, 4:6] = 255
    assert Predictor(shades)(image).areas == {"dark": 96, "bright": 4}
    assert Predictor(shades, min_region=4)(image).areas == {"dark": 96, "bright": 4}
    assert Predictor(shades, min_region=5)(image).areas == {"dark": 100}


def test_polygons_follow_the_pixels_with_holes_and_without_the_ignored():
    labels = np.zeros((6, 8), np.uint8)
    labels[1:5, 1:5] = 1
    labels[2:4, 2:4] = 0  # a hole, and a region of its own
    labels[:, 7] = 255
    features = list(polygons(labels, METADATA))
    assert sorted((f["properties"]["class"], f["properties"]["pixels"]) for f in features) == [
        ("dark", 4),
        ("dark", 26),
        ("middle", 12),
    ]
    (ring,) = [f for f in features if f["properties"]["class_id"] == 1]
    assert len(ring["geometry"]["coordinates"]) == 2
    drawn = rasterio.features.rasterize(
        [(f["geometry"], f["properties"]["class_id"]) for f in features], (6, 8), fill=255
    )
    np.testing.assert_array_equal(drawn, labels)


def test_geojson_is_in_pixels_or_for_a_geotiff_in_degrees(shades, image, tmp_path):
    write_tiff(tmp_path / "placed.tif", image, **PLACE)
    prediction = Predictor(shades)(tmp_path / "placed.tif")
    prediction.save(tmp_path / "placed.geojson")
    dataclasses.replace(prediction, source=None).save(tmp_path / "pixels.geojson")
    placed, pixels = (json.loads((tmp_path / f"{name}.geojson").read_text()) for name in ("placed", "pixels"))
    assert placed["type"] == pixels["type"] == "FeatureCollection"
    assert sum(f["properties"]["pixels"] for f in pixels["features"]) == 70 * 90
    assert [f["properties"] for f in placed["features"]] == [f["properties"] for f in pixels["features"]]
    shapes = [(f["geometry"], f["properties"]["class_id"]) for f in pixels["features"]]
    np.testing.assert_array_equal(rasterio.features.rasterize(shapes, (70, 90)), prediction.labels)
    longitude, latitude = np.concatenate([f["geometry"]["coordinates"][0] for f in placed["features"]]).T
    # 45 m x 35 m at 400 km east and 5600 km north of zone 33, which is at 13.6 degrees east and 50.5 north
    assert np.ptp(longitude) == pytest.approx(45 / (111_320 * np.cos(np.radians(50.5))), rel=0.02)
    assert np.ptp(latitude) == pytest.approx(35 / 111_320, rel=0.05)
    assert (longitude.mean(), latitude.mean()) == (pytest.approx(13.59, abs=0.05), pytest.approx(50.54, abs=0.05))


def test_prediction_of_many_classes_is_saved_as_tiff_of_16_bits(tmp_path):
    metadata = DatasetMetadata("many", tuple(map(str, range(300))), ignore_index=65535)
    labels = np.arange(300, dtype=np.uint16).reshape(15, 20)
    Prediction(labels, metadata, np.zeros((15, 20, 3), np.uint8)).save(tmp_path / "many.tif")
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        saved, profile, _ = read_tiff(tmp_path / "many.tif")
    np.testing.assert_array_equal(saved, labels)
    assert profile["nodata"] == 65535


def test_without_rasterio_one_sentence_says_what_to_install(shades, monkeypatch, tmp_path):
    prediction = Predictor(shades)(np.zeros((4, 4, 3), np.uint8))
    monkeypatch.setitem(sys.modules, "rasterio", None)
    for name in ("labels.tif", "labels.geojson"):
        with pytest.raises(MissingDependencyError, match=r"pip install 'seg-models\[geo\]'"):
            prediction.save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


# ---- disk and memory -------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A folder with room for 100 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("needs the right to mount a small disk")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_full_disk_is_told_and_leaves_nothing(shades, small_disk):
    noise = np.random.default_rng(0).integers(0, 256, (700, 700), np.uint8)
    predictor = Predictor(shades, tile=256)
    for name in ("labels.npy", "labels.tif"):
        with pytest.raises(WriteError, match=f"cannot write .*{name}: .*"):
            predictor.predict_to_file(noise, small_disk / name)
    prediction = Predictor(shades)(noise)
    for name in ("labels.png", "labels.tif", "labels.geojson"):
        with pytest.raises(WriteError, match=f"cannot write .*{name}: .*"):
            prediction.save(small_disk / name)
    assert list(small_disk.iterdir()) == []


def test_source_that_breaks_off_is_named_and_not_the_target(shades, image, tmp_path):
    write_tiff(tmp_path / "cut.tif", image, tiled=True, blockxsize=32, blockysize=32)
    (tmp_path / "cut.tif").write_bytes((tmp_path / "cut.tif").read_bytes()[:-9000])
    for name in ("labels.tif", "labels.npy"):
        with pytest.raises(CorruptFileError, match=r"cut.tif cannot be read at row \d+"):
            Predictor(shades, tile=16).predict_to_file(tmp_path / "cut.tif", tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["cut.tif"]
