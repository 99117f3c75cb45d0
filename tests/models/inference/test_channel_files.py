"""Prediction of files of described channels: bands by name, pixels without data, several files, tile by tile."""

import dataclasses
import math

import numpy as np
import pytest

from seg_core import ImageChannels
from seg_core.errors import CorruptFileError, InvalidArgumentError
from tests.models.inference.test_channels import NIR, check, predictor, reflectances, write_tif

rasterio = pytest.importorskip("rasterio")

BANDS = tuple(f"B{i}" for i in range(1, 14))


@pytest.fixture
def thirteen(tmp_path):
    """A GeoTIFF of 13 bands named B1 to B13, and its pixels."""
    image = np.random.default_rng(1).integers(0, 12000, (12, 16, 13), np.uint16)
    path = write_tif(tmp_path / "scene.tif", image)
    with rasterio.open(path, "r+") as file:
        file.descriptions = BANDS
    return path, image


@pytest.mark.parametrize("bands", [["B8", "B4", "B3"], [8, 4, 3], ["B8", 4, "B3"]])
def test_three_bands_of_thirteen_are_chosen_by_name_or_number(thirteen, bands):
    path, image = thirteen
    channels = ImageChannels(("nir", "red", "green"), range=(0, 10000))
    chosen = image[:, :, [7, 3, 2]]
    described = predictor(dataclasses.replace(channels, bands=tuple(bands)))
    described(path)
    check(described.seen[0], chosen, channels)
    given = predictor(channels, bands=bands)
    given(path)
    check(given.seen[0], chosen, channels)
    with pytest.raises(
        InvalidArgumentError, match="the image is in memory, and bands=.* choose from the bands of files"
    ):
        given(chosen)
    with pytest.raises(CorruptFileError, match=r"scene\.tif.*13"):
        predictor(channels)(path)


def test_bands_of_an_8_bit_file_for_a_network_of_colors(tmp_path):
    image = np.random.default_rng(1).integers(0, 255, (12, 16, 5), np.uint8)
    path = write_tif(tmp_path / "scene.tif", image)
    colors = ImageChannels(("red", "green", "blue"))
    found = predictor(colors, bands=[3, 2, 1])
    prediction = found(path)
    check(found.seen[0], image[:, :, [2, 1, 0]], colors)
    np.testing.assert_array_equal(prediction.image, image[:, :, [2, 1, 0]])


@pytest.mark.parametrize("kind", ["value", "nan", "tag", "mask"])
@pytest.mark.parametrize("tile", [None, 8])
def test_pixels_without_data_are_ignored_in_memory_and_by_tiles(tmp_path, kind, tile):
    image = reflectances(24, 32)
    channels = NIR if kind in ("tag", "mask") else dataclasses.replace(NIR, nodata=0 if kind == "value" else math.nan)
    image = np.maximum(image, 1)
    if kind == "nan":
        image = image.astype(np.float32)
    hole = (slice(5, 9), slice(10, 15))
    image[hole] = math.nan if kind == "nan" else 0
    path = write_tif(tmp_path / "a.tif", image, **({"nodata": 0} if kind == "tag" else {}))
    if kind == "mask":
        valid = np.full(image.shape[:2], 255, np.uint8)
        valid[hole] = 0
        with rasterio.open(path, "r+") as file:
            file.write_mask(valid)
    ignored = np.zeros(image.shape[:2], np.bool_)
    ignored[hole] = True
    found = predictor(channels, tile=tile)
    prediction = found(path)
    np.testing.assert_array_equal(prediction.labels == 255, ignored)
    if tile is None:
        check(found.seen[0], np.where(ignored[:, :, None], 0, image), channels)
    else:
        found.predict_to_file(path, tmp_path / "labels.tif")
        with rasterio.open(tmp_path / "labels.tif") as file:
            np.testing.assert_array_equal(file.read(1), prediction.labels)
            assert file.transform == rasterio.Affine(10, 0, 500000, 0, -10, 5000000)


@pytest.mark.parametrize("source", ["tif", "npy", "several", "array"])
def test_a_large_file_has_the_labels_that_it_has_in_memory(tmp_path, source):
    image = reflectances(70, 90)
    if source == "npy":
        np.save(tmp_path / "a.npy", image)
        given = tmp_path / "a.npy"
    elif source == "several":
        given = (
            write_tif(tmp_path / "a.tif", image[:, :, :3], tiled=True, blockxsize=16, blockysize=16),
            write_tif(tmp_path / "b.tif", image[:, :, 3:]),
        )
    elif source == "tif":
        given = write_tif(tmp_path / "a.tif", image, tiled=True, blockxsize=16, blockysize=16)
    else:
        given = image
    found = predictor(tile=32, tta={"hflip": True})
    written = found.predict_to_file(given, tmp_path / "labels.npy")
    assert written.size == (70, 90)
    np.testing.assert_array_equal(np.load(tmp_path / "labels.npy"), found(given).labels)
    np.testing.assert_array_equal(np.load(tmp_path / "labels.npy"), predictor()(image).labels)
    if source == "several":
        for path in given:
            with pytest.raises(InvalidArgumentError, match="is the image that is predicted"):
                found.predict_to_file(given, path)


def test_zarr_arrays(tmp_path):
    zarr = pytest.importorskip("zarr")
    image = reflectances(40, 50)
    path = tmp_path / "a.zarr"
    array = zarr.open_array(str(path), mode="w", shape=image.shape, chunks=(16, 16, 4), dtype="uint16")
    array[...] = image
    found = predictor(tile=32)
    labels = found(path).labels
    found.predict_to_file(path, tmp_path / "labels.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "labels.npy"), labels)
    np.testing.assert_array_equal(predictor()(image).labels, labels)


def test_a_geo_reference_of_several_files_is_that_of_the_first(tmp_path):
    image = reflectances()
    paths = write_tif(tmp_path / "a.tif", image[:, :, :1]), write_tif(tmp_path / "b.tif", image[:, :, 1:])
    predictor()(paths).save(tmp_path / "labels.tif")
    with rasterio.open(tmp_path / "labels.tif") as file:
        assert file.transform == rasterio.Affine(10, 0, 500000, 0, -10, 5000000)


def test_files_of_one_image_of_different_sizes_are_named(tmp_path):
    image = reflectances()
    paths = write_tif(tmp_path / "a.tif", image[:, :, :1]), write_tif(tmp_path / "b.tif", image[:4, :, 1:])
    with pytest.raises(CorruptFileError, match=r"a\.tif.*b\.tif|b\.tif.*a\.tif"):
        predictor()(paths)
