"""What a `Prediction` holds and how it is saved."""

import dataclasses
import json
import sys

import numpy as np
import pytest
from PIL import Image

from seg_core.errors import InvalidArgumentError, MissingDependencyError, WriteError
from seg_core.labels.metadata import DatasetMetadata
from seg_models import Prediction, Predictor
from tests.tiff_files import geo_reference, read_tiff, write_tiff

ROW = np.array([0, 100, 250, 10], np.uint8)


def stripes(height=6):
    """uint8 (height, 8, 3): four gray stripes of two columns."""
    return np.repeat(np.broadcast_to(np.repeat(ROW, 2)[None, :, None], (height, 8, 3)), 1, axis=0).copy()


def test_areas_are_pixels_by_name_largest_first(shades):
    prediction = Predictor(shades)(stripes())
    assert list(prediction.areas.items()) == [("dark", 24), ("middle", 12), ("bright", 12)]


def test_save_png_has_ids_and_palette(shades, tmp_path):
    prediction = Predictor(shades)(stripes())
    prediction.save(tmp_path / "new" / "labels.png")
    with Image.open(tmp_path / "new" / "labels.png") as saved:
        assert saved.mode == "P"
        np.testing.assert_array_equal(np.asarray(saved), prediction.labels)
        np.testing.assert_array_equal(np.asarray(saved.convert("RGB")), prediction.colorize())
        assert saved.getpalette()[255 * 3 :] == [0, 0, 0]
    prediction.save_overlay(tmp_path / "over.png", alpha=1.0)
    with Image.open(tmp_path / "over.png") as saved:
        np.testing.assert_array_equal(np.asarray(saved), prediction.colorize())
    prediction.save_overlay(tmp_path / "over.jpg")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "over.jpg", "over.png"]
    for name in ("labels.jpg", "labels"):
        with pytest.raises(
            InvalidArgumentError, match=r"path must end in .png, .tif, .tiff, .geojson, which keep the class ids, got"
        ):
            prediction.save(tmp_path / name)
    with pytest.raises(InvalidArgumentError, match=r"path must end in .png, .jpg or another image format"):
        prediction.save_overlay(tmp_path / "over.xyz")


def test_save_png_with_many_classes_has_16_bits(tmp_path):
    metadata = DatasetMetadata("many", tuple(map(str, range(300))), ignore_index=65535)
    labels = np.arange(300, dtype=np.uint16).reshape(15, 20)
    Prediction(labels, metadata, np.zeros((15, 20, 3), np.uint8)).save(tmp_path / "many.png")
    with Image.open(tmp_path / "many.png") as saved:
        np.testing.assert_array_equal(np.asarray(saved), labels)


def test_save_tiff_with_many_classes_has_16_bits(tmp_path):
    pytest.importorskip("rasterio")
    metadata = DatasetMetadata("many", tuple(map(str, range(300))), ignore_index=65535)
    labels = np.arange(300, dtype=np.uint16).reshape(15, 20)
    Prediction(labels, metadata, np.zeros((15, 20, 3), np.uint8)).save(tmp_path / "many.tif")
    saved, profile, _ = read_tiff(tmp_path / "many.tif")
    np.testing.assert_array_equal(saved, labels)
    assert profile["nodata"] == 65535


def test_save_geojson_has_pixels_or_for_a_geotiff_degrees(shades, image, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    write_tiff(tmp_path / "georeferenced.tif", image, **geo_reference())
    prediction = Predictor(shades)(tmp_path / "georeferenced.tif")
    prediction.save(tmp_path / "georeferenced.geojson")
    dataclasses.replace(prediction, source=None).save(tmp_path / "pixels.geojson")
    georeferenced, pixels = (
        json.loads((tmp_path / f"{name}.geojson").read_text()) for name in ("georeferenced", "pixels")
    )
    assert georeferenced["type"] == pixels["type"] == "FeatureCollection"
    assert sum(f["properties"]["pixels"] for f in pixels["features"]) == 70 * 90
    assert [f["properties"] for f in georeferenced["features"]] == [f["properties"] for f in pixels["features"]]
    shapes = [(f["geometry"], f["properties"]["class_id"]) for f in pixels["features"]]
    np.testing.assert_array_equal(rasterio.features.rasterize(shapes, (70, 90)), prediction.labels)
    longitude, latitude = np.concatenate([f["geometry"]["coordinates"][0] for f in georeferenced["features"]]).T
    # 45 m x 35 m at 400 km east and 5600 km north of zone 33, which is at 13.6 degrees east and 50.5 north
    assert np.ptp(longitude) == pytest.approx(45 / (111_320 * np.cos(np.radians(50.5))), rel=0.02)
    assert np.ptp(latitude) == pytest.approx(35 / 111_320, rel=0.05)
    assert (longitude.mean(), latitude.mean()) == (pytest.approx(13.59, abs=0.05), pytest.approx(50.54, abs=0.05))


def test_save_without_rasterio_says_what_to_install(shades, monkeypatch, tmp_path):
    prediction = Predictor(shades)(np.zeros((4, 4, 3), np.uint8))
    monkeypatch.setitem(sys.modules, "rasterio", None)
    for name in ("labels.tif", "labels.geojson"):
        with pytest.raises(MissingDependencyError, match=r"pip install 'seg-core\[geo\]'"):
            prediction.save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_save_on_a_full_disk_raises_and_leaves_no_file(shades, small_disk):
    pytest.importorskip("rasterio")
    noise = np.random.default_rng(0).integers(0, 256, (700, 700), np.uint8)
    prediction = Predictor(shades)(noise)
    for name in ("labels.png", "labels.tif", "labels.geojson"):
        with pytest.raises(WriteError, match=f"cannot write .*{name}: .*"):
            prediction.save(small_disk / name)
    assert list(small_disk.iterdir()) == []
