"""Fixtures shared by the tests of inference."""

import subprocess

import numpy as np
import pytest


@pytest.fixture
def image():
    """uint8 (70, 90, 3), gray values that change smoothly."""
    y, x = np.mgrid[:70, :90]
    shade = 127 + 120 * np.sin(y / 11) * np.cos(x / 17)
    return np.repeat(shade.astype(np.uint8)[:, :, None], 3, axis=2)


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 100 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("needs the right to mount a small disk")
    yield folder
    subprocess.run(["umount", folder], check=True)
