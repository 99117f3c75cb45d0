"""Folders of masks with areas, for the tests of what FolderDataset.inspect says about masks."""

import numpy as np
from PIL import Image

from seg_datasets import FolderDataset

SIZE = 24
BLACK, RED, GREEN = (0, 0, 0), (200, 30, 30), (30, 200, 30)


def squares(number, *values, side=10):
    """Ids (24, 24): a square per value in one corner each, the first value around them."""
    ids = np.full((SIZE, SIZE), values[0], np.uint16 if max(values) > 255 else np.uint8)
    for place, value in enumerate(values[1:]):
        top, left = (place + number) % 2 * 13, (place // 2 + place + number) % 2 * 13
        ids[top : top + side, left : left + side] = value
    return ids


def folder(root, masks, split="", images=None):
    """Writes a mask, an array or an image, and its image for each entry."""
    for number, mask in enumerate(masks):
        made = mask if isinstance(mask, Image.Image) else Image.fromarray(mask)
        image = images(number) if images else Image.new("RGB", made.size, (number, 2, 3))
        for picture, name in ((image, "images"), (made, "masks")):
            path = root / split / name / f"{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)
    return root


def palette(ids, *colors):
    image = Image.fromarray(ids)
    image.putpalette([channel for color in colors for channel in color])
    return image


def in_colors(ids, *colors):
    return Image.fromarray(np.array(colors, np.uint8)[ids])


def classes(root, text):
    (root / "classes.toml").write_text(text)
    return root


def read(report):
    """Returns the masks of both splits by name of the file."""
    found = {}
    for split in ("train", "val"):
        dataset = FolderDataset(report.root, split=split, **report.options)
        found |= {dataset.file_names(i)[1].rsplit("/")[-1]: dataset[i][1].numpy() for i in range(len(dataset))}
    return found


def only_odd(report):
    (sentence,) = report.oddities
    return sentence


class Loaded:
    """The names of PIL.Image that a line of advice uses; its files are closed."""

    Resampling = Image.Resampling
    fromarray = staticmethod(Image.fromarray)

    @staticmethod
    def open(path):
        with Image.open(path) as image:
            return image.copy()
