"""Finds palette masks whose indices are no longer the ids: tools that compress PNG files reorder the palette.

A mask read by index is then read as other classes, without an error: its file shows class 15 in the right color, at
index 1. The palette says so, if the colors of the ids are known. `PaletteOrder` holds the rule. A palette is reordered
if an index that the mask uses has the color of another id; these are accidents, and not counted:

- One index in use, or one color of the ids: a single match may be chance, and other masks of the dataset show more.
- Several used colors that belong to no id: the palette is another one, such as a program's own.
- A color that the palette also has at an index of its own id: several ids may share a color, and the entries that are
  not used are often all black.
- Gray values that rise with the index: programs write this palette if they know none.
- Transparent entries, whose color nobody sees.
- Black, which programs give to pixels without a class and to unused indices, and `neutral` colors, at any index.
- The default colors of metadata without any: nobody chose them, and another program's ids may have the same.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

from PIL import Image

from seg_core.files.images import Once, StoredMask
from seg_core.labels.label_map import LabelMap
from seg_core.labels.metadata import DatasetMetadata
from seg_core.labels.palette import Color, default_palette
from seg_core.labels.tasks import MULTICLASS

__all__ = ["PaletteCheck", "PaletteOrder"]

_MOST_CACHED = 256  # palettes; official masks have one, masks that were compressed one by one have many


class PaletteOrder:
    """Compares the palettes of masks with the colors of the ids.

    Args:
        colors: id -> color, for the ids that have one.
        neutral: other colors that a palette of the dataset may have, such as that of pixels without a class.
    """

    def __init__(self, colors: Mapping[int, Color], neutral: Collection[Color] = ()) -> None:
        self.colors = dict(colors)
        self._known = set(self.colors.values())
        self._neutral = {(0, 0, 0), *neutral}
        self._misplaced: dict[bytes, frozenset[int]] = {}

    def first_misplaced(self, image: Image.Image) -> tuple[int, Color] | None:
        """Returns the first used index of a palette image whose color is that of another id, and the color.

        The pixels are looked at only if the palette has such an index at all, which it is asked once.
        """
        if image.mode != "P" or not self._known:
            return None
        values = bytes(image.getpalette("RGB") or ())
        if values not in self._misplaced:
            if len(self._misplaced) >= _MOST_CACHED:
                self._misplaced.clear()
            self._misplaced[values] = frozenset(self._candidates(_entries(values)))
        candidates = self._misplaced[values]
        if not candidates:
            return None
        entries, hidden = _entries(values), _transparent(image)
        used = [i for i, count in enumerate(image.histogram()) if count and i < len(entries) and i not in hidden]
        wrong = [index for index in used if index in candidates]
        if not wrong or not self._is_of_the_ids([entries[index] for index in used]):
            return None
        return wrong[0], entries[wrong[0]]

    def _candidates(self, entries: list[Color]) -> list[int]:
        """Returns the indices whose color is that of other ids, and at none of these."""
        at_home = {color for index, color in enumerate(entries) if self.colors.get(index) == color}
        return [index for index, color in enumerate(entries) if color in self._known - self._neutral - at_home]

    def _is_of_the_ids(self, used: list[Color]) -> bool:
        """Returns whether the used colors, in the order of their indices, are those of the dataset."""
        colors = set(used)
        unknown = colors - self._known - self._neutral
        levels = [color[0] for color in used if len(set(color)) == 1]
        is_gray_ramp = len(levels) == len(used) and levels == sorted(set(levels))
        # one color more is that of pixels without a class, which the metadata may not have; VOC's is (224, 224, 192)
        return len(colors & self._known) > 1 and len(unknown) <= max(1, len(colors) // 4) and not is_gray_ramp


@dataclass(frozen=True)
class PaletteCheck:
    """Warns about a mask that is read by index although its palette is in another order.

    Attributes:
        metadata: the classes, before any conversion: the colors of the masks are theirs.
        label_map: raw ids of the masks -> class ids of `metadata`.
        remedy: what to do about such a mask, for the message.
    """

    metadata: DatasetMetadata
    label_map: LabelMap
    remedy: str

    @cached_property
    def _order(self) -> PaletteOrder:
        colors = self.metadata.colors
        if self.metadata.task != MULTICLASS:  # whose ids are not those of the classes
            return PaletteOrder({})
        if colors == default_palette(len(colors)):
            return PaletteOrder({})
        classes = {raw: train for raw, train in self.label_map.mapping.items() if isinstance(train, int)}
        return PaletteOrder({raw: colors[train] for raw, train in classes.items()}, (self.metadata.ignore_color,))

    def check(self, mask: StoredMask, once: Once) -> None:
        """Warns about the mask if its palette is in another order, once for all masks."""
        key = "palette in another order"
        if once.has(key) or not (text := self.describe(mask)):
            return
        once.warn(key, f"mask {mask.name}: {text}: {self.remedy}. Other such masks are not reported")

    def describe(self, mask: StoredMask) -> str:
        """Returns how the palette of a mask is in another order, without what to do; "" if it is not."""
        if (found := self._order.first_misplaced(mask.image)) is None:
            return ""
        index, color = found
        labels = self.metadata.labels
        owners = [f"class {id_} {labels[id_]!r}" for id_, own in enumerate(self.metadata.colors) if own == color]
        read_as = self.label_map.mapping.get(index)
        if isinstance(read_as, int):
            meaning = f"as class {read_as} {labels[read_as]!r}"
        else:
            meaning = "as no id at all" if read_as is None else "as ignored"
        return (
            f"palette index {index} has the color rgb {','.join(map(str, color))} of {' and '.join(owners)}, but is "
            f"read {meaning}. Masks are read by index, and a program that saved the file again may have reordered its "
            "palette"
        )


def _entries(values: bytes) -> list[Color]:
    return list(zip(values[::3], values[1::3], values[2::3], strict=True))


def _transparent(image: Image.Image) -> set[int]:
    """Returns the indices that are fully transparent."""
    alpha = image.info.get("transparency")
    if isinstance(alpha, int):
        return {alpha}
    return {index for index, value in enumerate(alpha) if value == 0} if isinstance(alpha, bytes) else set()
