"""Label maps written block by block."""

import numpy as np

from seg_models.inference.raster_writing import npy_writer


def test_npy_writer_takes_blocks_in_any_order(tmp_path):
    labels = np.random.default_rng(0).integers(0, 300, (9, 14)).astype(np.uint16)
    with npy_writer(tmp_path / "labels.npy", labels.shape, labels.dtype) as write:
        for top, left, bottom, right in ((4, 0, 9, 14), (0, 6, 4, 14), (0, 0, 4, 6)):
            write(top, left, labels[top:bottom, left:right])
    np.testing.assert_array_equal(np.load(tmp_path / "labels.npy", mmap_mode="r"), labels)
