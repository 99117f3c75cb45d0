"""Reads masks with faults a second time, for what only their pixels tell: positions, colors and smoothed edges."""

from collections.abc import Collection, Sequence, Set
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_core.errors import counted
from seg_core.files import images
from seg_core.files.opening import opened
from seg_core.files.rgb import to_rgb
from seg_core.labels.palette import Color, default_palette
from seg_core.labels.tasks import MULTICLASS
from seg_datasets.doctor.classes import Classes
from seg_datasets.doctor.sources import Source
from seg_datasets.reading.color_masks import UNKNOWN, ColorReader
from seg_datasets.reading.mask_kinds import PaletteFile
from seg_datasets.reading.mask_regions import Regions, is_between, middle, smoothed, smoothed_edges
from seg_datasets.reading.samples import read_mask

__all__ = ["MaskPixels"]

_MOST_COLORS = 512  # of one mask that are collected
_MOST_ENDS = 20  # colors between which those of smoothed edges are looked for
_SOFT_SHARE = 0.8  # of the colors that are no class
_MOST_NAMED = 3
_PACK = np.array([1 << 16, 1 << 8, 1])


class MaskPixels:
    """Looks at the pixels of masks.

    Args:
        source: the dataset.
        classes: its classes.
        palettes: the palettes of its masks.
    """

    def __init__(self, source: Source, classes: Classes, palettes: Sequence[PaletteFile]) -> None:
        self.source = source
        self.classes = classes
        self.palettes = palettes

    def ids(self, path: str) -> npt.NDArray[Any]:
        """Returns the raw ids (H, W) of a mask that can be read."""
        dataset = self.source.dataset
        return (dataset.mask_reader or read_mask)(Path(path), dataset.reading)

    def first(self, path: str, wrong: Collection[int]) -> str:
        """Returns the wrong ids of a mask with their pixels and the first position: `the id 7 (2 pixels, ...)`."""
        ids = self.ids(path)
        texts = []
        for raw in sorted(wrong)[:_MOST_NAMED]:
            *_, rows, columns = np.nonzero(ids == raw)
            texts.append(f"id {raw} ({counted(len(rows), 'pixel')}, first at x={columns[0]}, y={rows[0]})")
        more = f" and {len(wrong) - _MOST_NAMED} more ids" if len(wrong) > _MOST_NAMED else ""
        return ", ".join(texts) + more

    def smoothed(self, path: str) -> tuple[list[int], list[int]] | None:
        """Returns the ids that form areas and those of smoothed edges; None if edges are sharp."""
        ids = self.ids(path)
        if ids.ndim == 3:  # of planes, which hold 0 and 1
            return None
        ids = middle(ids)
        regions = Regions()
        regions.add(ids)
        if found := smoothed(regions):
            return found
        if not smoothed_edges(ids):
            return None
        return regions.solid, sorted(regions.counts.keys() - set(regions.solid))

    def are_soft(self, masks: Sequence[Set[int]]) -> bool:
        """Returns whether single masks hold so many values that these are no classes in ascending order."""
        return any(len(ids) > 16 for ids in masks)

    def of_1_bit(self, paths: Sequence[str]) -> Sequence[str]:
        """Returns those of the files of a mask that store 1 bit; the only file is not read."""
        if len(paths) == 1:
            return paths
        return [path for path in paths if images.load_mask(Path(path)).bits == 1]

    # ---- colors ------------------------------------------------------------------------------------------------------

    def colors(self, path: str) -> set[Color]:
        """Returns the colors of a mask, at most a few hundred."""
        with opened(path, "mask", None, images.MAX_PIXELS) as (image, _):
            values = np.asarray(to_rgb(image)).reshape(-1, 3).astype(np.int64) @ _PACK
        return {_color(value) for value in np.unique(values)[:_MOST_COLORS].tolist()}

    @cached_property
    def _own_colors(self) -> dict[Color, int]:
        metadata = self.source.metadata
        if metadata is None or metadata.task != MULTICLASS or metadata.colors == default_palette(len(metadata.colors)):
            return {}
        return {color: index for index, color in enumerate(metadata.colors)}

    def class_colors(self) -> Collection[Color]:
        """Returns the colors of the classes, if somebody chose them."""
        return self._own_colors.keys()

    def are_of_palette(self, colors: set[Color]) -> bool:
        """Returns whether colors are those of the palette of other masks."""
        return any(colors <= set(palette.colors) for palette in self.palettes)

    def are_luminances(self, ids: Set[int]) -> bool:
        """Returns whether ids are the gray values that Pillow gives to the colors of classes or of a palette."""
        sets = [set(self._own_colors) | {(0, 0, 0)}] if self._own_colors else []
        sets += [set(palette.colors) for palette in self.palettes if len(set(palette.colors)) < 64]
        return len(ids) > 1 and any(ids <= {_gray(color) for color in colors} for colors in sets)

    def wrong_colors(self, path: str) -> tuple[str, str, str]:
        """Returns kind, detail and remedy of a mask with colors that are no class."""
        reader = self.source.dataset.mask_reader
        assert isinstance(reader, ColorReader)
        with opened(path, "mask", None, images.MAX_PIXELS) as (image, _):
            pixels = np.asarray(to_rgb(image))
        ids = self.ids(path)
        wrong = ids == UNKNOWN
        is_gray = (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all()
        if is_gray and pixels.max() < UNKNOWN and set(np.unique(pixels).tolist()) <= self.classes.targets.keys():
            text = "the mask is an RGB image whose three channels are equal and hold ids, where colors are expected"
            return "rgb-mask", text, "save one of the channels: Image.open(IN).getchannel(0).save(OUT)"
        packed = pixels.astype(np.int64) @ _PACK
        ends = np.unique(packed[~wrong]).tolist()
        values, starts, counts = np.unique(packed[wrong], return_index=True, return_counts=True)
        between = [is_between(value, ends[:_MOST_ENDS], 3) for value in values[:_MOST_COLORS].tolist()]
        if len(between) > 2 and sum(between) >= _SOFT_SHARE * len(between):
            text = f"{counted(int(wrong.sum()), 'pixel')} at edges have colors between those of two classes: the mask "
            text += "was resized or drawn with smoothed edges, or compressed"
            return "antialiased-mask", text, "save it without smoothing, and resize with Image.Resampling.NEAREST"
        rows, columns = np.nonzero(wrong)
        texts = []
        for place in np.argsort(-counts, kind="stable")[:_MOST_NAMED].tolist():
            color = ",".join(map(str, _color(int(values[place]))))
            position = f"x={columns[starts[place]]}, y={rows[starts[place]]}"
            texts.append(f"rgb {color} ({counted(int(counts[place]), 'pixel')}, first at {position})")
        more = f" and {len(values) - _MOST_NAMED} more" if len(values) > _MOST_NAMED else ""
        text = f"the mask has colors that are no class: {', '.join(texts)}{more}"
        return "id-out-of-range", text, "correct the mask, or the colors of the classes"


def _color(value: int) -> Color:
    return value >> 16, value >> 8 & 255, value & 255


def _gray(color: Color) -> int:
    red, green, blue = color
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16  # as Pillow does
