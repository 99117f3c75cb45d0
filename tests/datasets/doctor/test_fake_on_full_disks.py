"""Fake datasets on a disk that is full, or with a limit on the size of files: one sentence, and nothing is left."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg_core.errors import WriteError
from seg_core.files.image_writing import save_image
from seg_datasets.doctor.fake import fake
from seg_datasets.doctor.faults import FAULTS, plant

resource = pytest.importorskip("resource", reason="Windows has no limits on the size of files")


class Limit:
    """Within, no file of this process grows beyond a number of bytes."""

    def __init__(self, size):
        self.size = size

    def __enter__(self):
        self.former = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.former[1]))

    def __exit__(self, *_):
        resource.setrlimit(resource.RLIMIT_FSIZE, self.former)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".bmp", ".webp"])
@pytest.mark.parametrize("limit", [1, 700, 5000])
def test_save_image_that_is_cut_off_raises(tmp_path, suffix, limit):
    """Pillow itself writes half a JPEG under a limit, and says nothing."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8))
    with Limit(limit), pytest.raises(OSError, match="File too large"):
        save_image(tmp_path / f"a{suffix}", image)
    save_image(tmp_path / f"b{suffix}", image)
    with Image.open(tmp_path / f"b{suffix}") as opened:
        assert opened.size == (128, 96)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ADE20K", {}),
        ("CamVid", {"faults": ("jpeg-mask", "name-collision")}),
        ("MapillaryVistas", {}),
        ("FolderDataset", {"task": "multilabel"}),
        ("FolderDataset", {"channels": 4, "bits": 16}),
    ],
)
@pytest.mark.parametrize("limit", [1, 200, 900])
def test_fake_under_a_limit_leaves_nothing(tmp_path, name, options, limit):
    with Limit(limit), pytest.raises(WriteError, match="cannot write .*: File too large; check"):
        fake(name, tmp_path / "new" / "folder", **options)
    assert not (tmp_path / "new").exists()


def test_fake_on_a_disk_that_fills_up_at_any_file_leaves_the_empty_folder(tmp_path, monkeypatch):
    write, count = Path.write_bytes, 0
    root = tmp_path / "there"
    root.mkdir()

    def write_half(path, data):
        nonlocal count
        if count == 0:
            write(path, bytes(data)[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        count -= 1
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", write_half)
    for place in range(0, 8, 2):
        count = place
        with pytest.raises(WriteError, match="No space left on device; check the folder's permissions and free space"):
            fake("CamVid", root)
        assert not list(root.iterdir())
    count = 1000
    assert fake("CamVid", root) == root
    assert len(list(root.rglob("*.png"))) > 4


@pytest.mark.parametrize("kind", ["off-by-one", "alpha", "jpeg-mask", "name-collision", "duplicate-across-splits"])
def test_a_fault_that_cannot_be_planted_leaves_the_files_as_they_were(tmp_path, kind):
    assert kind in FAULTS
    fake("FolderDataset", tmp_path, images_per_split=3)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with Limit(20), pytest.raises(WriteError, match=f"cannot .*{tmp_path.name}.*File too large; check"):
        plant(tmp_path, kind)
    lost = [path for path, content in before.items() if not path.is_file() or path.read_bytes() != content]
    # what a limit on the size of files lets nobody write back stays as the disk left it
    assert len(lost) <= 6
    assert kind != "alpha" or len(lost) <= 1


def test_undoing_a_fault_that_cannot_be_written_is_one_sentence(tmp_path):
    fake("FolderDataset", tmp_path, images_per_split=3)
    planted = plant(tmp_path, "off-by-one")
    with Limit(20), pytest.raises(WriteError, match="cannot restore .*: File too large; check"):
        planted.undo()
    planted.undo()
