"""Fake images and masks of binary and multilabel tasks: thin vessels, and discs that overlap."""

import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from seg_core.errors import InvalidArgumentError
from seg_core.files.image_writing import save_image
from seg_core.labels.label_map import LabelMap
from seg_core.labels.metadata import DatasetMetadata
from seg_core.labels.tasks import BINARY, MULTICLASS, MULTILABEL, check_task
from seg_datasets.doctor.fake_folder import FOLDER
from seg_datasets.reading.base import Edition
from seg_datasets.reading.layout import SplitFiles

__all__ = ["FakeTask"]

_IGNORED = 255
_SHARE = 0.05  # of the pixels are vessels
_MOST_LINES = 200
_NOISE = 6  # standard deviation of the gray values
_TISSUE, _VESSEL = (196, 92, 52), (118, 34, 28)
_DISCS = ("red disc", "green disc", "blue disc")
_COLORS = ((220, 60, 60), (60, 180, 75), (60, 90, 230))
_DARK, _BRIGHT = 40, 215  # of a channel without and with its disc

Array = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class FakeTask:
    """The images and masks of a fake folder of one's own.

    Attributes:
        task: `"binary"`: thin vessels on tissue, about 5 % of the pixels that are not ignored; outside of a round field
            of view all is black and ignored. `"multilabel"`: a red, a green and a blue disc that overlap in every
            image, where their colors add up; the edge of the blue one is ignored for this class.

    Raises:
        InvalidArgumentError: if it is another.
    """

    task: str

    def __post_init__(self) -> None:
        if check_task(self.task) == MULTICLASS:
            raise InvalidArgumentError(f"task must be {BINARY!r} or {MULTILABEL!r} here, got {self.task!r}")

    @property
    def edition(self) -> Edition:
        """The folder and its classes."""
        suffix, labels, colors = (
            (".png", ("vessel",), ((220, 20, 60),)) if self.task == BINARY else (".tif", _DISCS, _COLORS)
        )
        splits = {
            split: SplitFiles((f"{split}/images/*.png",), (f"{split}/masks/*{suffix}",))
            for split in FOLDER.layout.splits
        }
        classes = DatasetMetadata("custom", labels, colors, task=self.task)
        return Edition(replace(FOLDER.layout, splits=splits), classes, LabelMap.identity(2, _IGNORED))

    def sample(self, size: tuple[int, int], key: str) -> tuple[Array, Array]:
        """Returns an image (H, W, 3) and its mask, (H, W) or (K, H, W) of 0, 1 and 255.

        Args:
            size: (height, width).
            key: name of the image, by which it is drawn.
        """
        rng = np.random.default_rng(zlib.crc32(key.encode()))
        image, mask = _vessels(size, rng) if self.task == BINARY else _discs(size, rng)
        noisy = np.rint(image + rng.normal(0, _NOISE, image.shape)).clip(0, 255)
        return noisy.astype(np.uint8), mask

    def write(self, image: Path, mask: Path, size: tuple[int, int], key: str) -> None:
        """Writes an image and its mask: a gray PNG, or a TIFF with a page per class."""
        pixels, ids = self.sample(size, key)
        for path in (image, mask):
            path.parent.mkdir(parents=True, exist_ok=True)
        save_image(image, Image.fromarray(pixels))
        if self.task == BINARY:
            save_image(mask, Image.fromarray(ids))
            return
        first, *others = map(Image.fromarray, ids)
        save_image(mask, first, save_all=True, append_images=others, compression="tiff_deflate")


def _grid(size: tuple[int, int]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Returns the rows (H, 1) and columns (1, W) of the centers of pixels."""
    return np.arange(size[0])[:, None] + 0.5, np.arange(size[1])[None] + 0.5


def _vessels(size: tuple[int, int], rng: np.random.Generator) -> tuple[npt.NDArray[Any], Array]:
    height, width = size
    y, x = _grid(size)
    inside = ((y / height - 0.5) ** 2 + (x / width - 0.5) ** 2) <= 0.25
    lines = Image.new("L", (width, height))
    draw = ImageDraw.Draw(lines)
    thickness = max(1, round(min(size) / 96))
    for _ in range(_MOST_LINES):
        step, angle = min(size) / 8, rng.uniform(0, 2 * np.pi)
        points = [tuple(rng.uniform(0.1, 0.9, 2) * (width, height))]
        for _ in range(int(rng.integers(3, 7))):
            angle += rng.normal(0, 0.5)
            points.append((points[-1][0] + step * np.cos(angle), points[-1][1] + step * np.sin(angle)))
        draw.line([(float(px), float(py)) for px, py in points], fill=1, width=thickness)
        if (np.asarray(lines)[inside] > 0).mean() >= _SHARE:
            break
    mask = np.where(inside, np.asarray(lines), _IGNORED).astype(np.uint8)
    image = np.zeros((height, width, 3))
    image[mask == 0], image[mask == 1] = _TISSUE, _VESSEL
    return image, mask


def _discs(size: tuple[int, int], rng: np.random.Generator) -> tuple[npt.NDArray[Any], Array]:
    y, x = _grid(size)
    shorter = min(size)
    mask = np.zeros((len(_DISCS), *size), np.uint8)
    # all near one point, so that any two of them overlap
    middle = np.array(size) * rng.uniform(0.35, 0.65, 2)
    for plane in mask:
        radius = shorter * rng.uniform(0.2, 0.3)
        center = middle + rng.uniform(-0.16, 0.16, 2) * shorter
        distance = np.hypot(y - center[0], x - center[1])
        plane[distance <= radius] = 1
    image = np.where(mask.transpose(1, 2, 0) == 1, _BRIGHT, _DARK).astype(np.float64)
    mask[-1][np.abs(distance - radius) < 0.6] = _IGNORED  # of the last disc
    return image, mask
