"""Files that stay open between the reads of their parts."""

import contextlib
import os
import threading

import numpy as np
import pytest

from seg_core.files import band_files
from seg_core.files.channel_files import read_channels
from seg_core.files.open_files import OpenFiles, file_state
from seg_core.labels.channels import ImageChannels
from tests.tiff_files import write_tiff


class Opened:
    """Counts what is opened and closed."""

    def __init__(self):
        self.events = []

    def __call__(self, name):
        @contextlib.contextmanager
        def opened():
            self.events.append(f"open {name}")
            yield name
            self.events.append(f"close {name}")

        return opened


def test_the_files_used_last_stay_open():
    files, opened = OpenFiles(limit=2), Opened()
    for name in "aabacab":
        with files.use(name, opened(name)) as found:
            assert found == name
    # b was used before a and c, and is closed for c
    assert opened.events == ["open a", "open b", "open c", "close b", "open b", "close c"]
    files.close()
    assert opened.events[-2:] == ["close a", "close b"]


def test_two_threads_do_not_share_a_file():
    files, opened = OpenFiles(), Opened()
    with files.use("a", opened("a")):
        other = threading.Thread(target=lambda: files.use("a", opened("a")).__enter__())
        other.start()
        other.join()
    assert opened.events.count("open a") == 2


def test_a_file_that_fails_is_not_kept():
    files = OpenFiles()
    events = []

    @contextlib.contextmanager
    def opened():
        events.append("open")
        try:
            yield
        finally:
            events.append("close")

    for _ in range(2):
        with pytest.raises(ValueError, match="damaged"), files.use("a", opened):
            raise ValueError("damaged")
    assert events == ["open", "close"] * 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_no_file_is_kept_over_a_fork():
    files, opened = OpenFiles(), Opened()
    with files.use("a", opened("a")):
        pass
    child = os.fork()
    if not child:
        with files.use("a", opened("a")):
            pass
        os._exit(0 if opened.events == ["open a", "close a", "open a"] else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert opened.events == ["open a", "close a"]


def test_parts_of_a_tiff_open_it_once(tmp_path, monkeypatch):
    pytest.importorskip("rasterio")
    count, keep = [], band_files.keep_gdal_file
    monkeypatch.setattr(band_files, "keep_gdal_file", lambda path, page: count.append(path) or keep(path, page))
    image = np.random.default_rng(0).integers(0, 9000, (64, 64, 2)).astype(np.uint16)
    write_tiff(tmp_path / "a.tif", image, tiled=True, blockxsize=16, blockysize=16)
    described = ImageChannels(("red", "nir"), range=(0, 9000))
    for top in range(10):
        part, _ = read_channels(tmp_path / "a.tif", described, window=(top, 3, 20, 20))
        np.testing.assert_array_equal(part, image[top : top + 20, 3:23])
    assert len(count) == 1
    assert file_state(tmp_path / "missing.tif") == (tmp_path / "missing.tif",)
