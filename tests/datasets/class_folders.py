"""A small multilabel set whose masks have a file per class, in other forms too."""

import numpy as np
from PIL import Image

LABELS = ("round", "square", "dark")
OPTIONS = {"images": "{split}/images", "masks": "{split}/masks/{class}"}
HEIGHT, WIDTH = 24, 32


def planes(number):
    """Masks of the classes, (3, H, W) of 0 and 1, which overlap."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    found = np.zeros((3, HEIGHT, WIDTH), np.uint8)
    found[0] = (y - 10) ** 2 + (x - 8 - number) ** 2 < 36
    found[1] = (abs(y - 14) < 5) & (abs(x - 16) < 4 + number)
    found[2] = x < 6 + number
    return found


def write(root, *, how="files", values=(1, 1, 1), counts=(("train", 3), ("val", 2)), classes=True):
    """Writes a set.

    Args:
        root: its folder.
        how: `"files"`, `"pages"`, `"bands"`, `"npy"`, `"bits"`, or `"binary"` with the first class alone.
        values: what the masks of each class hold where it is.
        counts: images of each split.
        classes: whether classes.toml is written.
    """
    rng = np.random.default_rng(0)
    number = 0
    for split, count in counts:
        images, masks = root / split / "images", root / split / "masks"
        images.mkdir(parents=True, exist_ok=True)
        masks.mkdir(exist_ok=True)
        for _ in range(count):
            ids = planes(number)
            pixels = rng.integers(90, 130, (HEIGHT, WIDTH, 3), dtype=np.uint8)
            pixels[ids.transpose(1, 2, 0) == 1] += 90
            Image.fromarray(pixels).save(images / f"s{number}.png")
            own = ids * np.array(values, np.uint8)[:, None, None]
            if how == "files":
                for label, plane in zip(LABELS, own, strict=True):
                    (masks / label).mkdir(exist_ok=True)
                    Image.fromarray(plane).save(masks / label / f"s{number}.png")
            elif how == "pages":
                first, *others = map(Image.fromarray, own)
                first.save(masks / f"s{number}.tif", save_all=True, append_images=others)
            elif how == "bands":
                Image.fromarray(np.ascontiguousarray(own.transpose(1, 2, 0))).save(masks / f"s{number}.png")
            elif how == "npy":
                np.save(masks / f"s{number}.npy", own)
            elif how == "bits":
                Image.fromarray((ids * np.array([1, 2, 4], np.uint8)[:, None, None]).sum(0, np.uint8)).save(
                    masks / f"s{number}.png"
                )
            else:
                Image.fromarray(own[0]).save(masks / f"s{number}.png")
            number += 1
    labels = '["round"]\ntask = "binary"' if how == "binary" else '["round", "square", "dark"]\ntask = "multilabel"'
    if classes:
        (root / "classes.toml").write_text(f"labels = {labels}\n")
    return root
