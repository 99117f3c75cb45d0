"""What masks of unknown origin hold: ids or colors, and which classes these may be."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, PngImagePlugin

from seg_core.errors import counted
from seg_core.files.images import MAX_PIXELS
from seg_core.files.opening import opened
from seg_core.labels.metadata import DatasetMetadata
from seg_core.labels.palette import Color
from seg_datasets.reading.pairs import first_few
from seg_datasets.reading.samples import load_mask

__all__ = [
    "MOST_COLORS",
    "MOST_COLOR_MASKS",
    "MaskKinds",
    "PaletteFile",
    "colors_of",
    "find_kinds",
    "palette_of",
    "spread",
    "suggested_classes",
]

MOST_COLOR_MASKS = 200
"""Masks whose colors are collected."""

MOST_COLORS = 50
"""More colors are smoothed edges, or no masks."""

_TRIED = 20  # masks of one kind that are decoded to see what they hold
_LARGE_ID = 65535  # the ignored value beside 256 classes and more


@dataclass(frozen=True)
class PaletteFile:
    """The palette of a mask.

    Attributes:
        colors: color of each index.
        hidden: indices that are fully transparent.
    """

    colors: tuple[Color, ...]
    hidden: frozenset[int]


@dataclass(frozen=True)
class MaskKinds:
    """What the files of masks hold.

    Attributes:
        kind: `"ids"`, `"ids in three equal channels"`, `"palette"`, `"1 bit"` or `"colors"`.
        palettes: of the palette images.
        problem: sentence about masks that do not fit the others; empty if there are none.
    """

    kind: str
    palettes: Mapping[Path, PaletteFile]
    problem: str = ""


def find_kinds(paths: Sequence[Path], root: Path) -> MaskKinds:
    """Returns what masks hold: by the headers of all, and the pixels of a few.

    Args:
        paths: the masks.
        root: folder that messages name them from.

    Raises:
        UserError: if a file cannot be opened.
    """
    groups: dict[str, list[Path]] = {"gray": [], "1 bit": [], "palette": [], "rgb": []}
    palettes: dict[Path, PaletteFile] = {}
    for path in paths:
        with opened(path, "mask", None, MAX_PIXELS) as (image, _):
            group = {"1": "1 bit", "P": "palette", "PA": "palette", "RGB": "rgb", "RGBA": "rgb"}.get(image.mode, "gray")
            if image.mode == "P":
                palettes[path] = palette_of(image)
        groups[group].append(path)
    of_one_channel = groups["gray"] + groups["1 bit"] + groups["palette"]
    tried = spread(groups["rgb"], MOST_COLOR_MASKS if of_one_channel else _TRIED)
    colored = [path for path in tried if not _is_gray(path)]
    if colored:
        problem = _mixed(colored, groups, root) if of_one_channel else ""
        return MaskKinds("colors", palettes, problem)
    named = {"gray": "ids", "rgb": "ids in three equal channels"}
    largest = max(groups, key=lambda name: len(groups[name]))
    return MaskKinds(named.get(largest, largest), palettes)


def colors_of(paths: Sequence[Path]) -> list[Color]:
    """Returns the colors of masks, the most frequent first; more than `MOST_COLORS` are not all of them."""
    counts: Counter[Color] = Counter()
    for path in spread(paths, MOST_COLOR_MASKS):
        image: Image.Image = load_mask(path).image.convert("RGBA").convert("RGB")
        found = image.getcolors(image.width * image.height) or []
        for count, color in found:
            if isinstance(color, tuple):
                red, green, blue = color
                counts[red, green, blue] += count
        if len(counts) > 10 * MOST_COLORS:
            break
    return [color for color, _ in counts.most_common()]


def spread(paths: Sequence[Path], count: int) -> Sequence[Path]:
    """Returns at most `count` files, evenly spread over all."""
    return paths[:: max(-(-len(paths) // count), 1)]


def suggested_classes(ids: Collection[int]) -> DatasetMetadata | None:
    """Returns numbered classes for the ids of masks, or None if there are none.

    - Ids from 0 or 1 of which more than half occur are class ids. One that no mask contains keeps its number: a class
      that is rare must not change the ids of those after it. This holds for any number of classes.
    - Other ids are as many classes, in ascending order.

    255 is the ignored value beside ids that are class ids; if 256 and larger ids are classes, it is 65535.
    """
    large = sorted(set(ids) - {_LARGE_ID})
    if large and large[-1] > 255 and 2 * len(large) > large[-1] + 1:
        return _numbered(large[-1] + 1, _LARGE_ID)
    found = sorted(set(ids) - {255})
    if not found:
        return None
    if found == [0]:
        count = 1 + (255 in ids)
    elif found[-1] == len(found) and found[0] == 1:
        count = len(found)  # 1 to K
    elif found[-1] < 255 and 2 * len(found) > found[-1]:
        count = found[-1] + 1  # 0 to K - 1
    else:
        count = len(found) + (255 in ids)  # values spread over 0 to 255
    return _numbered(count, 255 if count <= 255 else _LARGE_ID)


def _numbered(count: int, ignore_index: int) -> DatasetMetadata:
    return DatasetMetadata("custom", tuple(f"class_{i}" for i in range(count)), ignore_index=ignore_index)


def palette_of(image: Image.Image) -> PaletteFile:
    """Returns the palette of an image; that of a PNG is known before it is decoded."""
    stored = image.palette
    if isinstance(image, PngImagePlugin.PngImageFile) and stored is not None and stored.rawmode == "RGB":
        values = bytes(stored.palette)
    else:
        values = bytes(image.getpalette("RGB") or ())
    alpha = image.info.get("transparency")
    if isinstance(alpha, bytes):
        hidden = frozenset(index for index, value in enumerate(alpha) if value == 0)
    else:
        hidden = frozenset({alpha} if isinstance(alpha, int) else ())
    return PaletteFile(tuple(zip(values[::3], values[1::3], values[2::3], strict=True)), hidden)


def _is_gray(path: Path) -> bool:
    pixels: npt.NDArray[np.uint8] = np.asarray(load_mask(path).image)
    return bool((pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all())


def _mixed(colored: Sequence[Path], groups: Mapping[str, Sequence[Path]], root: Path) -> str:
    """Returns the sentence about masks in colors beside masks of ids, or "" if these hold the same colors."""
    own = set(colors_of(colored))
    # a program that compresses PNGs gives some masks a palette, and saves those without an object as gray
    gray = [path for path in (*groups["gray"], *groups["1 bit"]) if not _has_colors(path, own)]
    palette = [path for path in groups["palette"] if not _has_colors(path, own)]
    others = gray + palette
    if not others:
        return ""
    total = sum(map(len, groups.values()))
    in_colors = [path for path in groups["rgb"] if path in set(colored)]
    fewer, held, rest = (others, "ids", "colors") if len(others) <= total / 2 else (in_colors, "colors", "ids")
    names = first_few(_shown(path, root) for path in fewer)
    return (
        f"{counted(len(fewer), 'mask')} of {total} hold{'s' if len(fewer) == 1 else ''} {held}, and the others hold "
        f"{rest}: {names}. Save all masks in one way, or move these and their images away"
    )


def _has_colors(path: Path, colors: set[Color]) -> bool:
    image = load_mask(path).image
    if image.mode not in ("1", "L", "LA", "P", "PA"):
        return False  # 16 bits
    return set(_colors(image)) <= colors


def _colors(image: Image.Image) -> Iterable[Color]:
    converted = image.convert("RGBA").convert("RGB")
    for _, color in converted.getcolors(converted.width * converted.height) or []:
        if isinstance(color, tuple):
            red, green, blue = color
            yield red, green, blue


def _shown(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
