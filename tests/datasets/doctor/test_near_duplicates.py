"""Copies of an image in another split are found whatever was done to them; images of the same framing are none."""

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from seg_datasets import check
from seg_datasets.doctor import findings_splits
from seg_datasets.doctor.kinds import WARNING
from tests.datasets.doctor.check_trees import save

SIZE = (96, 96)
NEAR = "near-duplicate-across-splits"


def scan(seed):
    """A head as a scanner shows it: the same outline for all, and other spots inside."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    distance = np.hypot((y - 48) / 1.2, x - 48)
    values = np.select([distance < 30 + rng.normal(), distance < 36], [60.0, 90.0])
    for _ in range(6):
        top, left = rng.integers(30, 66, 2)
        values[np.hypot(y - top, x - left) < rng.integers(4, 10)] += rng.integers(10, 60)
    return np.clip(values + rng.normal(0, 3, SIZE), 0, 255).astype(np.uint8)


def belt(seed):
    """Two things of some color on a conveyor belt that is lit from the side."""
    rng = np.random.default_rng(seed)
    values = np.tile(np.linspace(60, 180, SIZE[1]), (SIZE[0], 1))
    for _ in range(2):
        top, left = rng.integers(0, 74, 2)
        values[top : top + 18, left : left + 18] = rng.integers(0, 255)
    return np.clip(values + rng.normal(0, 2, SIZE), 0, 255).astype(np.uint8)


def chest(seed):
    """Two dark lungs with ribs of other slopes."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    values = 120.0 - 60 * sum(np.exp(-((x - c) ** 2 + 0.5 * (y - 45) ** 2) / 340) for c in (30, 66))
    shift = 3 * rng.normal()
    for rib in range(8):
        values += 15 * np.exp(-((y - 15 - 9 * rib - shift - abs(x - 48) * rng.uniform(0.1, 0.4)) ** 2) / 4)
    return np.clip(values + rng.normal(0, 3, SIZE), 0, 255).astype(np.uint8)


def mask():
    values = np.zeros(SIZE, np.uint8)
    values[20:50, 30:70] = 1
    return values


def tree_of(root, draw, train, val):
    for split, seeds in (("train", train), ("val", val)):
        for place, seed in enumerate(seeds):
            save(draw(seed), root / split / "images" / f"{split[0]}{place}.png")
            save(mask(), root / split / "masks" / f"{split[0]}{place}.png")
    return root


def saved_as_jpeg(image):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=60)
    return Image.open(buffer)


def noisy(image):
    values = np.asarray(image) + np.random.default_rng(9).normal(0, 3, SIZE)
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


COPIES = {
    "saved again": lambda image: image,
    "re-encoded": saved_as_jpeg,
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
    "of more contrast": lambda image: ImageEnhance.Contrast(image).enhance(1.2),
    "resized": lambda image: image.resize((64, 64)).resize(SIZE),
    "noisy": noisy,
}


@pytest.mark.parametrize("draw", [scan, belt, chest])
def test_images_of_one_framing_are_no_near_duplicates(tmp_path, draw, monkeypatch):
    tree = tree_of(tmp_path, draw, range(40), range(40, 60))
    assert check(tree, num_classes=2).findings == []
    # without the second look, which is what is tested here
    monkeypatch.setattr(findings_splits, "are_alike", lambda one, other: True)
    assert check(tree, num_classes=2).counts()[NEAR] > 0


@pytest.mark.parametrize("draw", [scan, chest])
@pytest.mark.parametrize("how", COPIES)
def test_a_copy_among_images_of_one_framing_is_found(tmp_path, draw, how):
    tree = tree_of(tmp_path, draw, range(40), range(40, 50))
    COPIES[how](Image.fromarray(draw(7))).save(tree / "val/images/v3.png", compress_level=1)
    (found,) = check(tree, num_classes=2).findings
    assert (found.kind, found.severity, found.files) == (NEAR, WARNING, ("val/images/v3.png", "train/images/t7.png"))


def test_how_many_images_are_compared_is_limited_and_told(tmp_path, monkeypatch):
    tree = tree_of(tmp_path, belt, range(40), range(40, 60))
    monkeypatch.setattr(findings_splits, "MOST_LOOKED_AT", 4)
    report = check(tree, num_classes=2)
    assert report.findings == []
    assert "by the difference hash alone: only 4 such images" in report.summary["notes"][0]


def test_equal_images_of_one_color_in_two_splits_are_a_warning(tmp_path):
    tree = tree_of(
        tmp_path,
        lambda seed: np.full((*SIZE, 3), 0 if seed in (2, 7) else scan(seed)[..., None], np.uint8),
        range(5),
        [7],
    )
    (found,) = check(tree, num_classes=2).findings
    assert (found.kind, found.severity, found.file) == ("duplicate-across-splits", WARNING, "val/images/v0.png")
    assert "of one color" in found.detail
