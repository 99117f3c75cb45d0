"""What masks of unknown origin hold: ids or colors, and which classes these may be."""

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from seg_core.labels.metadata import DatasetMetadata
from seg_datasets.reading.samples import load_mask

__all__ = ["MOST_COLORS", "MOST_COLOR_MASKS", "colors_of", "kind_of", "suggested_classes"]

MOST_COLOR_MASKS = 200
"""Masks whose colors are collected."""

MOST_COLORS = 50
"""More colors are smoothed edges, or no masks."""


def kind_of(paths: Sequence[Path]) -> str:
    """Returns what masks hold, by a few of them spread over all."""
    kinds: Counter[str] = Counter()
    step = -(-len(paths) // 20)
    for path in paths[::step]:
        image = load_mask(path).image
        if image.mode == "1":
            kinds["1 bit"] += 1
        elif image.mode in ("P", "PA"):
            kinds["palette"] += 1
        elif image.mode in ("RGB", "RGBA"):
            pixels = np.asarray(image)
            gray = (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all()
            kinds["ids in three equal channels" if gray else "colors"] += 1
        else:
            kinds["ids"] += 1
    return "colors" if kinds["colors"] else kinds.most_common(1)[0][0]


def colors_of(paths: Sequence[Path]) -> list[tuple[int, int, int]]:
    """Returns the colors of masks, the most frequent first."""
    counts: Counter[tuple[int, int, int]] = Counter()
    step = -(-len(paths) // MOST_COLOR_MASKS)
    for path in paths[::step]:
        image: Image.Image = load_mask(path).image.convert("RGBA").convert("RGB")
        found = image.getcolors(image.width * image.height) or []
        for count, color in found:
            if isinstance(color, tuple):
                red, green, blue = color
                counts[red, green, blue] += count
        if len(counts) > 10 * MOST_COLORS:
            break
    return [color for color, _ in counts.most_common()]


def suggested_classes(ids: Collection[int]) -> DatasetMetadata | None:
    """Returns numbered classes for the ids of masks; 255 is the ignored value beside ids that are class ids."""
    found = sorted(set(ids) - {255})
    if not found:
        return None
    if found == [0]:
        count = 1 + (255 in ids)
    elif found[-1] == len(found) - 1:
        count = len(found)  # 0 to K - 1
    elif found[-1] == len(found) and found[0] == 1:
        count = len(found)  # 1 to K
    elif found[-1] < 64 and len(found) > 0.5 * found[-1]:
        count = found[-1] + 1  # ids that occur in no mask
    else:
        count = len(found) + (255 in ids)  # values spread over 0 to 255
    return DatasetMetadata("custom", tuple(f"class_{index}" for index in range(count)))
