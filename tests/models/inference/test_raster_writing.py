"""Label maps written block by block."""

import numpy as np
import pytest

from seg_core.labels.metadata import DatasetMetadata
from seg_models.inference.raster_writing import npy_writer, tiff_writer
from tests.tiff_files import read_tiff


def test_npy_writer_takes_blocks_in_any_order(tmp_path):
    labels = np.random.default_rng(0).integers(0, 300, (9, 14)).astype(np.uint16)
    with npy_writer(tmp_path / "labels.npy", labels.shape, labels.dtype) as write:
        for top, left, bottom, right in ((4, 0, 9, 14), (0, 6, 4, 14), (0, 0, 4, 6)):
            write(top, left, labels[top:bottom, left:right])
    np.testing.assert_array_equal(np.load(tmp_path / "labels.npy", mmap_mode="r"), labels)


@pytest.mark.parametrize(("shape", "rows"), [((600, 4000), 13), ((96, 60_000), 13)])
def test_tiff_written_in_few_rows_is_as_small_as_written_at_once(shape, rows, tmp_path, monkeypatch):
    pytest.importorskip("rasterio")
    # in proportion to the small width
    monkeypatch.setattr("seg_core.files.gdal.CACHE_BYTES", 2**22)
    monkeypatch.setattr("seg_models.inference.raster_writing.CACHE_BYTES", 2**22)
    metadata = DatasetMetadata("five", tuple("abcde"))
    coarse = np.random.default_rng(0).integers(0, 5, (shape[0], shape[1] // 50), np.uint8)
    labels = np.repeat(coarse, 50, axis=1)
    for name, step in (("once.tif", shape[0]), ("rows.tif", rows)):
        with tiff_writer(tmp_path / name, shape, "uint8", metadata) as write:
            for top in range(0, shape[0], step):
                write(top, 0, labels[top : top + step])
    saved, profile, _ = read_tiff(tmp_path / "rows.tif")
    np.testing.assert_array_equal(saved, labels)
    assert profile["tiled"]
    assert (tmp_path / "rows.tif").stat().st_size < 1.2 * (tmp_path / "once.tif").stat().st_size


def test_cache_of_gdal_is_64_mib_while_a_file_is_open():
    rasterio = pytest.importorskip("rasterio")
    from seg_core.files.gdal import quiet_gdal

    with rasterio.Env():
        before = rasterio.env.get_gdal_config("GDAL_CACHEMAX")
    with quiet_gdal():
        assert rasterio.env.get_gdal_config("GDAL_CACHEMAX") == 64 * 2**20
    with rasterio.Env():
        assert rasterio.env.get_gdal_config("GDAL_CACHEMAX") == before
