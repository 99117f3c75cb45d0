"""Folders of tiny images and masks, for the tests of FolderDataset."""

from pathlib import Path

import numpy as np
from PIL import Image

LABELS = {"labels": ["ground", "leaf", "stone"]}
HEIGHT, WIDTH = 4, 6


def image(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT), (value, 100, 200)).save(path)


def mask(path, ids=0):
    """Writes a mask: an array, or one id for all pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ids if isinstance(ids, np.ndarray) else np.full((HEIGHT, WIDTH), ids, np.uint8)).save(path)


def write(root, stems, images="images/{}.jpg", masks="masks/{}.png"):
    """Writes an image and a mask for each stem, by two patterns; the id of a mask is its number modulo 3."""
    for number, stem in enumerate(stems):
        if images:
            image(root / images.format(stem), number)
        if masks:
            mask(root / masks.format(stem), number % 3)
    return root


def names(count, start=0):
    return [f"p{number:02}" for number in range(start, start + count)]


def files_of(dataset, part=0):
    """Paths of the images (0) or masks (1) of a dataset, relative to its root."""
    return [Path(dataset.file_names(i)[part]).relative_to(dataset.root).as_posix() for i in range(len(dataset))]
