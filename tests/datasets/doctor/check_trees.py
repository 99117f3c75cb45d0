"""Small clean folders for the tests of the doctor."""

import numpy as np
from PIL import Image

SIZE = (24, 32)
CLASSES = 'labels = ["ground", "thing", "other"]\n'


def noise(seed, size=SIZE):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def areas(size=SIZE):
    """A mask of three classes in areas."""
    mask = np.zeros(size, np.uint8)
    mask[4:12, 4:12] = 1
    mask[12:20, 16:28] = 2
    return mask


def save(values, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **options)


def own_tree(root, classes=CLASSES, train=4, val=3):
    """train/images/t0.png ... and val; noise and areas."""
    for split, count in (("train", train), ("val", val)):
        for number in range(count):
            name = f"{split[0]}{number}"
            save(noise(100 * (split == "val") + number), root / split / "images" / f"{name}.png")
            save(areas(), root / split / "masks" / f"{name}.png")
    if classes:
        (root / "classes.toml").write_text(classes, encoding="utf-8")
    return root
