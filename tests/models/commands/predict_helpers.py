"""What the tests of `seg predict` share: running the command, and reading its results."""

import numpy as np
from PIL import Image

from seg_core.command import main


def seg(*arguments):
    return main([str(a) for a in arguments])


def names(folder):
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


def ids(path):
    with Image.open(path) as saved:
        return np.asarray(saved)
