"""Reading parts of images. `tests/test_reading_doors.py` and the tests of `Predictor.predict_to_file` cover more."""

import sys

import numpy as np
import pytest
import torch

from seg_core.errors import CorruptFileError, InvalidArgumentError, MissingDependencyError
from seg_core.files.geo_reference import GeoReference, read_geo_reference
from seg_core.files.rasters import open_raster
from tests.tiff_files import geo_reference, write_tiff


def test_read_array_part_equals_slice():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    with open_raster(image) as raster:
        assert (raster.height, raster.width) == (20, 30)
        np.testing.assert_array_equal(raster.read(3, 5, 7, 9), image[3:10, 5:14])
        assert raster.geo_reference is None
    with (
        pytest.raises(InvalidArgumentError, match=r"got Tensor of shape \(2, 3, 4, 4\)"),
        open_raster(torch.zeros(2, 3, 4, 4)),
    ):
        pass


def test_read_npy_and_tiff_part_equals_slice(tmp_path):
    pytest.importorskip("rasterio")
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    np.save(tmp_path / "image.npy", image)
    write_tiff(tmp_path / "image.tif", image)
    for name in ("image.npy", "image.tif"):
        with open_raster(tmp_path / name) as raster:
            np.testing.assert_array_equal(raster.read(3, 5, 7, 9), image[3:10, 5:14])


def test_geo_reference_is_read_for_the_size_of_the_image_only(tmp_path):
    pytest.importorskip("rasterio")
    write_tiff(tmp_path / "map.tif", np.zeros((4, 6), np.uint8), **geo_reference())
    write_tiff(tmp_path / "plain.tif", np.zeros((4, 6), np.uint8))
    found = read_geo_reference(str(tmp_path / "map.tif"), (4, 6))
    assert isinstance(found, GeoReference)
    assert found.transform == geo_reference()["transform"]
    with open_raster(tmp_path / "map.tif") as raster:
        assert raster.geo_reference == found
    assert read_geo_reference(str(tmp_path / "map.tif"), (6, 4)) is None
    for source in (str(tmp_path / "plain.tif"), "https://example.org/map.tif", None):
        assert read_geo_reference(source, (4, 6)) is None


def test_open_npy_or_zarr_that_is_none_names_the_file(tmp_path):
    (tmp_path / "text.npy").write_text("no array")
    with (
        pytest.raises(CorruptFileError, match="text.npy cannot be read as an array"),
        open_raster(tmp_path / "text.npy"),
    ):
        pass


@pytest.mark.parametrize(
    ("module", "name", "extra"), [("rasterio", "image.tif", "geo"), ("zarr", "image.zarr", "zarr")]
)
def test_open_without_its_library_says_what_to_install(module, name, extra, tmp_path, monkeypatch):
    (tmp_path / name).touch()
    monkeypatch.setitem(sys.modules, module, None)
    with (
        pytest.raises(MissingDependencyError, match=rf"pip install 'seg-core\[{extra}\]'"),
        open_raster(tmp_path / name),
    ):
        pass
