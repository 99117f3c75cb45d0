"""Legends drawn with Pillow's built-in font: color chips and class names in a strip below an image."""

import math
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from seg_core.labels.metadata import DatasetMetadata

__all__ = ["add_legend", "short_name"]

_PAPER = (255, 255, 255)
_INK = (32, 32, 32)
_EDGE = (128, 128, 128)  # around chips, for white classes on white paper
_MIN_FONT = 12  # pixels; smaller letters cannot be read
_MAX_NAME = 44  # characters; some label sets have names that differ only after the 30th


def add_legend(
    image: npt.NDArray[np.uint8], class_ids: Sequence[int], metadata: DatasetMetadata
) -> npt.NDArray[np.uint8]:
    """Returns an image with a legend below it: a color chip and the name of each class, in columns.

    The size of the result depends only on the size of the image, the classes and their names. The letters grow with the
    image. An image that is too narrow for the names gets a white margin to its right.

    Pillow's font has the letters of ASCII. Accents and the like are left out (`Gebaude` for `Gebäude`); a name in other
    letters is drawn as `class 3`, with its id.

    Args:
        image: uint8 (H, W, 3), RGB.
        class_ids: the classes, in the order of the legend; without any the image is returned as it is.
        metadata: names and colors of the classes.

    Returns:
        uint8 (H + legend, at least W, 3), RGB.
    """
    if not class_ids:
        return image
    height, width = image.shape[:2]
    size = max(_MIN_FONT, round(math.sqrt(height * width) / 60))
    font = ImageFont.load_default(size)
    drawable = _Drawable(font)
    names = [short_name(drawable.name(metadata, i), _MAX_NAME, "...") for i in class_ids]
    gap, row = size // 2, round(1.5 * size)
    column = math.ceil(max(map(font.getlength, names))) + size + 2 * gap  # chip, gap, name, gap
    columns = min(max(1, (width - gap) // column), len(names))
    rows = math.ceil(len(names) / columns)
    canvas = Image.new("RGB", (max(width, column + gap), height + rows * row + 2 * gap), _PAPER)
    canvas.paste(Image.fromarray(image), (0, 0))
    draw = ImageDraw.Draw(canvas)
    for place, (class_id, name) in enumerate(zip(class_ids, names, strict=True)):
        # down the columns, as lists are read
        left, top = gap + place // rows * column, height + gap + place % rows * row
        draw.rectangle(
            (left, top, left + size - 1, top + size - 1),
            metadata.colors[class_id],
            _EDGE,
            max(1, size // 16),
        )
        draw.text((left + size + gap, top + size // 2), name, _INK, font, anchor="lm")
    return np.array(canvas)


def short_name(name: str, limit: int, ellipsis: str = "…") -> str:
    """Returns a name of at most `limit` characters; a longer one ends with the ellipsis."""
    return name if len(name) <= limit else name[: limit - len(ellipsis)].rstrip() + ellipsis


class _Drawable:
    """Names in the letters that a font has."""

    def __init__(self, font: Any) -> None:
        self._font = font
        self._missing = self._glyph("\uffff")  # no character, so every font draws its box for missing ones

    def _glyph(self, character: str) -> tuple[tuple[int, int], bytes]:
        mask = self._font.getmask(character)
        return mask.size, bytes(mask)

    def _has(self, character: str) -> bool:
        return character == " " or (character.isprintable() and self._glyph(character) != self._missing)

    def name(self, metadata: DatasetMetadata, class_id: int) -> str:
        letters = [
            part
            for character in " ".join(metadata.labels[class_id].split())
            for part in (character if self._has(character) else unicodedata.normalize("NFKD", character))
            if not unicodedata.combining(part)
        ]
        return "".join(letters) if all(map(self._has, letters)) else f"class {class_id}"
