"""Legends drawn with Pillow's built-in font: color chips and class names in a strip below an image."""

import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from seg_core.labels.metadata import DatasetMetadata
from seg_core.text import visible

__all__ = ["add_legend", "draw_name", "hatching", "short_name"]

_PAPER = (255, 255, 255)
_INK = (32, 32, 32)
_EDGE = (128, 128, 128)  # around chips, for white classes on white paper
_MIN_FONT = 12  # pixels; smaller letters cannot be read
_MAX_NAME = 44  # characters; some label sets have names that differ only after the 30th


_HATCH = ((96, 96, 96), (224, 224, 224))
_PERIOD = 8  # pixels across two stripes


def add_legend(
    image: npt.NDArray[np.uint8],
    class_ids: Sequence[int],
    metadata: DatasetMetadata,
    notes: Mapping[int, str] | None = None,
) -> npt.NDArray[np.uint8]:
    """Returns an image with a legend below it: a color chip and the name of each class, in columns.

    The size of the result depends only on the size of the image, the classes and their names. The letters grow with the
    image. An image that is too narrow for the names gets a white margin to its right.

    Pillow's font has the letters of ASCII. Accents and the like are left out (`Gebaude` for `Gebäude`); a name in other
    letters is drawn as `class 3`, with its id.

    Args:
        image: uint8 (H, W, 3), RGB.
        class_ids: the classes, in the order of the legend; without any the image is returned as it is. The ignored
            value may be one of them: its chip is hatched, as `overlay` with `hatch_ignored` draws these pixels.
        metadata: names and colors of the classes.
        notes: id -> a few words behind the name, such as a share of pixels.

    Returns:
        uint8 (H + legend, at least W, 3), RGB.
    """
    if not class_ids:
        return image
    height, width = image.shape[:2]
    size = max(_MIN_FONT, round(math.sqrt(height * width) / 60))
    font = ImageFont.load_default(size)
    names = [
        f"{short_name(_name(metadata, i, font), _MAX_NAME, '...')}  {(notes or {}).get(i, '')}".rstrip()
        for i in class_ids
    ]
    gap, row = size // 2, round(1.5 * size)
    # chip, gap, name, gap; a note that ends next to the chip of another class would look like that one's
    column = math.ceil(max(map(font.getlength, names))) + size + (4 if notes else 2) * gap
    columns = min(max(1, (width - gap) // column), len(names))
    rows = math.ceil(len(names) / columns)
    canvas = Image.new("RGB", (max(width, column + gap), height + rows * row + 2 * gap), _PAPER)
    canvas.paste(Image.fromarray(image), (0, 0))
    draw = ImageDraw.Draw(canvas)
    for place, (class_id, name) in enumerate(zip(class_ids, names, strict=True)):
        # down the columns, as lists are read
        left, top = gap + place // rows * column, height + gap + place % rows * row
        box = (left, top, left + size - 1, top + size - 1)
        if class_id < metadata.num_classes:
            draw.rectangle(box, metadata.colors[class_id], _EDGE, max(1, size // 16))
        else:
            canvas.paste(Image.fromarray(hatching(size, size)), (left, top))
            draw.rectangle(box, None, _EDGE, max(1, size // 16))
        draw.text((left + size + gap, top + size // 2), name, _INK, font, anchor="lm")
    return np.array(canvas)


def short_name(name: str, limit: int, ellipsis: str = "…") -> str:
    """Returns a name of at most `limit` characters, all of them visible; a longer one ends with the ellipsis."""
    name = visible(name)
    return name if len(name) <= limit else name[: limit - len(ellipsis)].rstrip() + ellipsis


def hatching(height: int, width: int) -> npt.NDArray[np.uint8]:
    """Returns diagonal stripes in two shades of gray, which stand for pixels without a class: uint8 (H, W, 3)."""
    rows, columns = np.ogrid[:height, :width]
    return np.array(_HATCH, np.uint8)[((rows + columns) % _PERIOD < _PERIOD // 2).astype(np.uint8)]


def draw_name(text: str, font: Any, missing: str | None = None) -> str | None:
    """Returns a text in the letters that a font has, without accents that it lacks.

    Args:
        text: the text.
        font: a font of Pillow.
        missing: what stands for each letter that the font lacks; None returns None if there is one.
    """
    absent = _glyph(font, "\uffff")  # no character, so every font draws its box for missing ones

    def has(character: str) -> bool:
        return character == " " or (character.isprintable() and _glyph(font, character) != absent)

    letters = [
        part
        for character in " ".join(text.split())
        for part in (character if has(character) else unicodedata.normalize("NFKD", character))
        if not unicodedata.combining(part)
    ]
    if missing is not None:
        return "".join(letter if has(letter) else missing for letter in letters)
    return "".join(letters) if all(map(has, letters)) else None


def _glyph(font: Any, character: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(character)
    return mask.size, bytes(mask)


def _name(metadata: DatasetMetadata, class_id: int, font: Any) -> str:
    if class_id >= metadata.num_classes:
        return "ignored"
    return draw_name(metadata.labels[class_id], font) or f"class {class_id}"
