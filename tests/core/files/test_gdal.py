"""Warnings of rasterio are silenced in all threads that read files at the same time."""

import threading
import warnings

import pytest

pytest.importorskip("rasterio")

from rasterio.errors import NotGeoreferencedWarning

from seg_core.files.gdal import quiet_gdal


def test_a_thread_that_ends_does_not_end_the_silence_of_another():
    inside, may_end = threading.Event(), threading.Event()

    def other():
        with quiet_gdal():
            inside.set()
            may_end.wait(10)

    thread = threading.Thread(target=other)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        thread.start()
        assert inside.wait(10)
        with quiet_gdal():
            may_end.set()
            thread.join()
            warnings.warn("no geotransform", NotGeoreferencedWarning, stacklevel=1)
        assert not caught
        warnings.warn("no geotransform", NotGeoreferencedWarning, stacklevel=1)
    assert len(caught) == 1
