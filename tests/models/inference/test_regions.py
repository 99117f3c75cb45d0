"""Removal of small regions, and polygons."""

import numpy as np
import pytest

from seg_core.errors import InvalidArgumentError
from seg_core.labels.metadata import DatasetMetadata
from seg_models import Predictor
from seg_models.inference.regions import polygons, remove_small_regions

rasterio = pytest.importorskip("rasterio")
METADATA = DatasetMetadata("three", ("dark", "middle", "bright"), ((0, 0, 200), (0, 200, 0), (200, 0, 0)))


def test_small_regions_get_the_id_of_their_largest_neighbor():
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
    with pytest.raises(InvalidArgumentError, match="min_pixels must be an integer >= 1, got 0"):
        remove_small_regions(labels, 0)


def test_predictor_removes_small_regions(shades):
    image = np.zeros((10, 10, 3), np.uint8)
    image[4:6, 4:6] = 255
    assert Predictor(shades)(image).areas == {"dark": 96, "bright": 4}
    assert Predictor(shades, min_region=4)(image).areas == {"dark": 96, "bright": 4}
    assert Predictor(shades, min_region=5)(image).areas == {"dark": 100}


def test_polygons_have_holes_and_leave_out_ignored_pixels():
    labels = np.zeros((6, 8), np.uint8)
    labels[1:5, 1:5] = 1
    labels[2:4, 2:4] = 0  # a hole, which is a region itself
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
