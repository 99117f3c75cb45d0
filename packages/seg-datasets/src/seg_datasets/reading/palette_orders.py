"""Finds palette masks whose palettes differ in their order, without knowing the colors of the classes.

Tools that compress or convert images give each file a palette in an order of its own. Index 1 is then one class in some
files and another class in others. See `seg_datasets.reading.palettes` for masks whose classes have known colors.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from seg_core.errors import counted
from seg_core.labels.palette import Color
from seg_datasets.reading.mask_kinds import PaletteFile

__all__ = ["PaletteConflict", "find_conflict"]


@dataclass(frozen=True)
class PaletteConflict:
    """Palettes that give an index the color that another index has in most files.

    Attributes:
        text: sentence that names the first such file.
        colors: all colors in use, in the order of the indices of most files.
        paths: the masks that differ from most.
    """

    text: str
    colors: tuple[Color, ...]
    paths: tuple[Path, ...] = ()


def find_conflict(
    palettes: Mapping[Path, PaletteFile], used: Mapping[Path, Collection[int]], root: Path
) -> PaletteConflict | None:
    """Returns how the palettes of masks contradict each other, or None if they do not.

    Only indices in use count. A palette of another program has other colors, which no index of most files has; it
    contradicts nothing. Nor does one that gives two indices the same color, as programs write it that know none.

    Args:
        palettes: of the masks.
        used: the indices that each of them uses.
        root: folder that the sentence names files from.
    """
    in_use: dict[Path, dict[int, Color]] = {}
    for path, palette in palettes.items():
        found = {i: palette.colors[i] for i in used[path] if i < len(palette.colors) and i not in palette.hidden}
        if len(set(found.values())) == len(found):
            in_use[path] = found
    counts = Counter((index, color) for found in in_use.values() for index, color in found.items())
    usual: dict[int, Color] = {}
    owners: dict[Color, int] = {}
    # each index has one color and each color one index; of two orders that are as frequent, black comes first
    for index, color in sorted(counts, key=lambda entry: (-counts[entry], entry)):
        if index not in usual and color not in owners:
            usual[index], owners[color] = color, index
    odd = [
        (path, index, color)
        for path, found in sorted(in_use.items())
        for index, color in sorted(found.items())
        if owners.get(color, index) != index
    ]
    if not odd:
        return None
    path, index, color = odd[0]
    name = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
    number = len({path for path, *_ in odd})
    text = (
        f"the palettes of masks are in different orders ({counted(number, 'mask')} of {len(palettes)} "
        f"differ{'s' if number == 1 else ''} from the others): in {name} index {index} has the color {_rgb(color)}, "
        f"which is that of index {owners[color]} in others"
    )
    colors = dict.fromkeys(usual[index] for index in sorted(usual))
    colors |= dict.fromkeys(color for found in in_use.values() for color in found.values())
    return PaletteConflict(text, tuple(colors), tuple(dict.fromkeys(path for path, *_ in odd)))


def _rgb(color: Color) -> str:
    return "rgb " + ",".join(map(str, color))
